"""What a source is: anything that yields documents, one at a time, in a steady order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from ..values.types import Document


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something of the source that could not be read; counted and listed, never fatal.

    where:  the file, and the place in it.
    reason: one clause, with what to do where something can be done.
    id:     the id its document would have; one that ends with "/" stands for every id that
            starts with it. What is unreadable has not vanished: such documents are kept.
    """

    where: str
    reason: str
    id: str | None = None


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
