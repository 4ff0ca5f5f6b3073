"""The file operations that make up a commit, in one place.

Every byte of a collection is written through a `Disk`, so that a test can record a commit's
operations and replay each prefix of them, as a power cut would leave it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, cast

from ..values.errors import StorageError


class Disk:
    """Durable file operations of the operating system."""

    def create(self, path: Path) -> BinaryIO:
        """Create a file and open it for writing; it must not exist yet."""
        return path.open("xb")

    def sync(self, file: IO[bytes]) -> None:
        """Flush the file's bytes to the disk before returning."""
        file.flush()
        os.fsync(file.fileno())

    def sync_folder(self, path: Path) -> None:
        """Flush the folder's entries to the disk before returning."""
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def make_folder(self, path: Path) -> None:
        """Create a folder whose parent exists, unless it already exists."""
        path.mkdir(exist_ok=True)

    def rename(self, source: Path, target: Path) -> None:
        """Move a file inside the collection."""
        source.rename(target)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name; raises FileExistsError if the name is taken."""
        os.link(source, target)

    def remove(self, path: Path) -> None:
        """Remove a file, if it exists."""
        path.unlink(missing_ok=True)


class HashingFile:
    """A binary file for writing that computes its size and SHA-256."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Write all of `data`, any object with the buffer protocol."""
        view = memoryview(data).cast("B")
        self._hash.update(view)
        self._file.write(view)
        self.size += len(view)
        return len(view)

    def flush(self) -> None:
        """Pass buffered bytes to the operating system."""
        self._file.flush()

    @property
    def closed(self) -> bool:
        """True once the file is closed."""
        return self._file.closed

    def close(self) -> None:
        """Leave the file open; its creator closes it."""

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes written so far, in hex."""
        return self._hash.hexdigest()

    def as_binary(self) -> BinaryIO:
        """Return this object typed as the binary file that libraries expect."""
        return cast("BinaryIO", self)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the errors of a full disk and of an unwritable folder into one clear sentence."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(
                f"{path}: the disk is full ({error.strerror}); no committed data is lost: "
                "free some space and run the same command again"
            ) from error
        if error.errno in _DENIED:
            raise StorageError(
                f"{path}: cannot write here ({error.strerror}); "
                "change the permissions or choose another place with --index"
            ) from error
        raise
