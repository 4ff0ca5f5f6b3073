"""Writing a file whole: it appears complete or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import RetrError, StorageError


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a path to write a file to, which becomes `path` if the block ends without an error.

    The path yielded is beside `path` and this process's own, so that two processes never write to
    the same one. After an error `path` is as it was before, and so it is if the process dies.

    Raises:
        StorageError: the file cannot be written: the disk is full, the folder is missing or may not
            be written to.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except RetrError:
        raise
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
