"""What a user may say about a source: its columns, its ids, which of its files."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ..values.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ids = Sequence[str | int] | NDArray[Any] | str | os.PathLike[str]


class Format(StrEnum):
    """How a path is read."""

    FILES = "files"  # prose and code, a document each
    BEIR = "beir"  # a folder with corpus.jsonl
    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"
    LINES = "lines"  # a text a line
    PARQUET = "parquet"
    NPY = "npy"
    WEBDATASET = "webdataset"  # tars of images, captions and JSON, as img2dataset writes
    KARPATHY = "karpathy"  # a JSON file of images and sentences
    CLIP_RETRIEVAL = "clip-retrieval"  # a folder with img_emb, text_emb and metadata


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How a source is to be read; every default leaves it to the source.

    id:      the column with the ids; else the first of `columns.IDS` that is there.
    text:    the column with the text, or several, joined by a space; else the first of
             `columns.TEXTS` that is there, after the title.
    title:   the column with the title, put before the text and kept as metadata; else "title",
             where `text` is not given.
    vector:  the column with one's own vectors.
    image:   the column with images or their paths; else the first of `pictures.COLUMNS` that is
             there, or a column of paths that end like those of images; "" for none.
    images:  the folder in which relative paths of images begin; else that of the file.
    ids:     for .npy files, arrays and tensors, one id a row: a sequence, or the path of a .txt
             (one a line), .jsonl (strings, numbers or records) or .npy file.
    include: .gitignore-style patterns; of a folder only the files that match one are read.
    exclude: .gitignore-style patterns; files and folders that match one are not.
    format:  one of `Format`, where the name of the file does not say it.
    name:    a name for a Python object, so that building from it again updates the collection.
    """

    id: str | None = None
    text: tuple[str, ...] = ()
    title: str | None = None
    vector: str | None = None
    image: str | None = None
    images: str | os.PathLike[str] | None = None
    ids: Ids | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    format: Format | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        for field in ("text", "include", "exclude"):
            given = getattr(self, field)
            values = (given,) if isinstance(given, str) else tuple(given or ())
            object.__setattr__(self, field, values)
        if self.format is not None:
            try:
                object.__setattr__(self, "format", Format(self.format))
            except ValueError:
                raise InputError(
                    f"no such format: {self.format!r}; the formats are {', '.join(Format)}"
                ) from None

    def refuse(self, what: str, *fields: str) -> None:
        """Refuse the options named in `fields` for `what`, in which they have no meaning.

        Raises:
            InputError: one of them was given.
        """
        for field in fields:
            value: object = getattr(self, field)
            if value is not None and not (isinstance(value, tuple) and not value):
                shown = reprlib.repr(value)
                raise InputError(f"{what} cannot be read with {field}={shown}: leave it out")
