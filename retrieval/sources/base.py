"""What a source is: anything that yields documents one at a time, in a fixed order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from ..values.report import Skipped
from ..values.types import Document


class Source(ABC):
    """Yields documents, and reports its progress.

    name:  identifies the source in the collection, so that building from it again updates: an
           absolute path. None if unknown (stdin, an iterable): then no document counts as
           removed.
    total: the amount of work in the source's own units (files, bytes, rows); None if unknown.
    done:  how much of it is finished, while iterating.
    images: whether to read images; set before iterating. If False, the images of a folder are
           skipped and those of a table are ignored.
    """

    name: str | None = None
    total: int | None = None
    done: int = 0
    images: bool = False

    @abstractmethod
    def __iter__(self) -> Iterator[Document | Skipped]:
        """Yield documents from the start; keeps none that it has yielded.

        Raises:
            InputError: a record is malformed; the message names the file and the line.
        """


class Unreadable(Exception):  # noqa: N818
    """A file gives no text; the message says why.

    holds_no_text: the file was read and holds no text, rather than being impossible to read.
    """

    def __init__(self, reason: str, *, holds_no_text: bool = False) -> None:
        super().__init__(reason)
        self.holds_no_text = holds_no_text
