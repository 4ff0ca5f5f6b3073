"""What a source is: anything that yields documents, one at a time, in a steady order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from ..values.report import Skipped
from ..values.types import Document


class Source(ABC):
    """Yields documents, and says how far it is.

    name:  identifies the source in the collection, so that building it again updates: an
           absolute path. None where there is no telling (stdin, an iterable): then nothing is
           ever taken for vanished.
    total: the amount of work in units of the source's own (files, bytes, rows), None if unknown.
    done:  how much of it lies behind, while iterating.
    images: whether documents are wanted for their images; set before iterating. Where they are
           not, the images of a folder are skipped and those of a table are left alone.
    """

    name: str | None = None
    total: int | None = None
    done: int = 0
    images: bool = False

    @abstractmethod
    def __iter__(self) -> Iterator[Document | Skipped]:
        """Yield documents from the start; nothing is held that was yielded.

        Raises:
            InputError: a record is malformed; the message names file and line.
        """


class Unreadable(Exception):  # noqa: N818
    """Why a file gives no text.

    holds_no_text: it was read and there is none, which is not the same as not being able to.
    """

    def __init__(self, reason: str, *, holds_no_text: bool = False) -> None:
        super().__init__(reason)
        self.holds_no_text = holds_no_text
