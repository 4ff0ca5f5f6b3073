"""The page of results, written to a file or to standard output."""

from __future__ import annotations

from collections.abc import Sequence

from ..retrieval.results.page import page
from ..retrieval.results.results import Results
from ..retrieval.values.errors import StorageError
from ..retrieval.values.files import whole
from .console import file_to_write, put


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
    target = file_to_write(out, "page")
    try:
        if target.exists() and not target.is_file():  # a pipe or device, which cannot be replaced
            target.write_text(text, encoding="utf-8")
            return
    except OSError as error:
        raise StorageError(f"cannot write {out}: {error.strerror or error}") from error
    with whole(target) as part:
        part.write_text(text, encoding="utf-8")
