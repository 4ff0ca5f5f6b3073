"""The writer lock: allows one commit at a time, and records who holds it.

It is an advisory lock of the operating system (flock), so it ends with its process, and programs
that Python starts do not inherit its descriptor.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ..values.errors import LockedError, StorageError
from .disk import storage_errors

POLL_SECONDS = 0.02


@contextlib.contextmanager
def writer_lock(path: Path, timeout: float) -> Iterator[None]:
    """Hold the lock on the file `path`, waiting up to `timeout` seconds for it.

    Raises:
        LockedError: another process held it for that long; the message says which.
    """
    with storage_errors(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        deadline = time.monotonic() + timeout
        while not try_flock(fd) or not _is_at(fd, path):
            if not _is_at(fd, path):  # a failed first build has removed it
                os.close(fd)
                with storage_errors(path):
                    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
                continue
            if time.monotonic() >= deadline:
                raise LockedError(
                    f"{path.parent}: another writer has locked the collection for {timeout:g} s "
                    f"({_holder(fd)}); wait for it to finish, or stop it"
                )
            time.sleep(POLL_SECONDS)
        # A full disk may prevent writing the note; the lock holds anyway.
        with contextlib.suppress(OSError):
            note = {"pid": os.getpid(), "command": " ".join(sys.argv)[:200], "since": time.time()}
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(note).encode(), 0)
        yield
    finally:
        os.close(fd)


def try_flock(fd: int) -> bool:
    """Try to lock an open file exclusively without waiting; False if another holds the lock."""
    try:
        import fcntl
    except ImportError:  # Windows has no flock
        raise StorageError("retr writes collections on Linux and macOS only") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _holder(fd: int) -> str:
    try:
        note = json.loads(os.pread(fd, 4096, 0))
        held = time.time() - note["since"]
        return f"process {note['pid']}, {note['command']!r}, for {held:.0f} s"
    except (ValueError, KeyError, TypeError):
        return "which process is unknown"
