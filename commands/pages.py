"""The page of results, written to a file or to standard output."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..retrieval.results.page import page
from ..retrieval.results.results import Results
from ..retrieval.values.errors import InputError, StorageError
from .console import put


def write_page(results: Sequence[Results], out: str) -> None:
    """Write the page to a file, which appears only when complete; "-" is standard output.

    Raises:
        StorageError: the file cannot be written.
        InputError: it is a folder.
    """
    text = page(results)
    if out == "-":
        put(text)
        return
    target = Path(os.path.realpath(out))
    if target.is_dir():
        raise InputError(f"{out}: is a folder; name a file for the page")
    if not target.parent.is_dir():
        raise StorageError(f"{out}: there is no folder {target.parent}; make it first")
    try:
        if target.exists() and not target.is_file():  # a pipe or device, which cannot be replaced
            target.write_text(text, encoding="utf-8")
            return
        with tempfile.NamedTemporaryFile(
            "w", dir=target.parent, delete=False, encoding="utf-8"
        ) as f:
            try:
                f.write(text)
                f.close()
                Path(f.name).chmod(0o644)
                Path(f.name).replace(target)
            except BaseException:
                Path(f.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise StorageError(f"{out}: cannot be written ({error.strerror or error})") from error
