"""Checkpoints of a build: its progress in a file, so that a killed build can continue.

A checkpoint is an index file like any other, over the first of the vectors. How often it is
written depends on how long writing takes, which grows with the index: checkpoints take at most a
twentieth of a build's time.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any, Final

from .base import IndexFileError, VectorSource
from .faiss import read_index, write_index

log = logging.getLogger("retr.indexes")

_SECONDS: Final = 30.0
_SHARE: Final = 0.05


class FileCheckpoint:
    """A `Checkpoint` in the file `path`, which may already exist.

    seconds: the minimum time between two checkpoints; 0 writes one after every block.
    """

    def __init__(self, path: Path, seconds: float | None = None) -> None:
        self.path = path
        self._least = self._wait = _SECONDS if seconds is None else seconds
        self._last = time.monotonic()
        self._rows = 0

    def read(self, source: VectorSource, class_name: str) -> Any | None:
        """Return the FAISS index to continue from, in memory; None if there is none of `source`.

        class_name: the FAISS class that it must have.
        """
        try:
            index = read_index(self.path, source, class_name, whole=False)
        except (IndexFileError, OSError) as error:
            if self.path.exists():
                log.info("starting the build from the beginning: %s", error)
            return None
        self._rows = int(index.ntotal)
        return index

    def write(self, index: Any) -> None:
        """Write the index if it is time to."""
        if time.monotonic() - self._last >= self._wait:
            self.write_now(index)

    def write_now(self, index: Any) -> None:
        """Write the index, unless it has no more rows than the existing file.

        If the disk is full, the build continues without a checkpoint.
        """
        if index.ntotal <= self._rows and self.path.exists():
            return
        begin = time.monotonic()
        part = self.path.with_name(f"{self.path.name}.new")
        try:
            write_index(index, part)
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(self.path)
            self._rows = int(index.ntotal)
        except OSError as error:
            log.warning("the build continues without a checkpoint: %s", error)
            part.unlink(missing_ok=True)
        self._last = time.monotonic()
        if self._least:
            self._wait = max(self._least, (self._last - begin) / _SHARE)
