"""A folder in BEIR's layout: reads `corpus.jsonl`, not the queries and judgments beside it.

Thakur et al., BEIR, 2021: a document is its title and its text, joined by a space.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..values.errors import InputError
from ..values.report import Skipped
from ..values.types import Document
from .base import Source
from .options import SourceOptions
from .records import Record, as_documents, json_records
from .streams import Lines
from .values import encodable

_CORPUS = ("corpus.jsonl", "corpus.jsonl.gz", "corpus.jsonl.zst")


class BeirFolder(Source):
    """The corpus of a BEIR folder; `total` and `done` count its bytes.

    The title and the keys of a record's "metadata" object become the document's metadata.
    """

    def __init__(self, folder: Path, options: SourceOptions) -> None:
        corpus = corpus_of(folder)
        if corpus is None:
            raise InputError(f"{folder} is not a BEIR folder: it has no corpus.jsonl")
        options.refuse(f"{folder.name}, a BEIR folder,", "ids", "include", "exclude")
        self.name = encodable(str(folder))
        self._options = options
        self._lines = Lines(corpus)
        self._uri = encodable(str(corpus))
        self.total = corpus.stat().st_size

    def __iter__(self) -> Iterator[Document | Skipped]:
        """Yield one document per record.

        Raises:
            InputError: a record is wrong; the message names the file and the line.
        """
        name = self._lines.name
        records = map(_lifted, json_records(self._lines, name))
        for found in as_documents(records, name, self._options, self._uri):
            self.done = self._lines.done
            yield found
        self.done = self._lines.done


def corpus_of(folder: Path) -> Path | None:
    """Return the corpus file of a BEIR folder; None if the folder is not one."""
    try:
        return next((folder / name for name in _CORPUS if (folder / name).is_file()), None)
    except OSError:  # a folder that cannot be entered is no other kind of source either
        return None


def _lifted(found: Record) -> Record:
    line, record = found
    inner = record.get("metadata")
    if not isinstance(inner, dict):
        return found
    return line, {**inner, **{name: v for name, v in record.items() if name != "metadata"}}
