"""The writer lock: one commit at a time, and a held lock says who holds it.

An advisory lock of the operating system (flock), so it dies with its process, and descriptors
that Python opens are not inherited by programs it starts.
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
    """Hold the lock file at `path`, waiting up to `timeout` seconds for it.

    Raises:
        LockedError: somebody else held it all the while; the message says who.
    """
    with storage_errors(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        deadline = time.monotonic() + timeout
        while not try_flock(fd) or not _is_at(fd, path):
            if not _is_at(fd, path):  # a first build that failed has taken it away
                os.close(fd)
                with storage_errors(path):
                    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
                continue
            if time.monotonic() >= deadline:
                raise LockedError(
                    f"{path.parent}: another writer has held the collection for {timeout:g} s "
                    f"({_holder(fd)}); wait for it to end, or stop it"
                )
            time.sleep(POLL_SECONDS)
        # A full disk may keep the note from being written; the lock holds all the same.
        with contextlib.suppress(OSError):
            note = {"pid": os.getpid(), "command": " ".join(sys.argv)[:200], "since": time.time()}
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(note).encode(), 0)
        yield
    finally:
        os.close(fd)


def try_flock(fd: int) -> bool:
    """Take an exclusive lock on an open file without waiting; False where another has it."""
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
        return f"process {note['pid']}, {note['command']!r}, since {held:.0f} s"
    except (ValueError, KeyError, TypeError):
        return "it has not said who it is"
