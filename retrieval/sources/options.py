"""Options for reading a source: its columns, its ids, which of its files."""

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

    FILES = "files"  # prose and code, one document per file
    BEIR = "beir"  # a folder with corpus.jsonl
    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"
    LINES = "lines"  # one text per line
    PARQUET = "parquet"
    NPY = "npy"
    WEBDATASET = "webdataset"  # tars of images, captions and JSON, as img2dataset writes
    KARPATHY = "karpathy"  # a JSON file of images and sentences
    CLIP_RETRIEVAL = "clip-retrieval"  # a folder with img_emb, text_emb and metadata


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How to read a source; every default leaves the choice to the source.

    id:      the column of ids; by default the first of `columns.IDS` that exists.
    text:    the column of texts, or several, joined by a space; by default the first of
             `columns.TEXTS` that exists, after the title.
    title:   the column of titles, put before the text and also kept as metadata; by default
             "title" if `text` is not given.
    vector:  the column of your own vectors.
    image:   the column of images or their paths; by default the first of `pictures.COLUMNS` that
             exists, or a column of paths with image suffixes; "" for none.
    images:  the folder to which image paths are relative; by default the file's own.
    ids:     for .npy files, arrays and tensors, one id per row: a sequence, or the path of a .txt
             (one per line), .jsonl (strings, numbers or records) or .npy file.
    include: .gitignore-style patterns; only files in the folder that match one are read.
    exclude: .gitignore-style patterns; files and folders that match one are not read.
    format:  one of `Format`, if the file's name does not tell.
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
        """Refuse the options named in `fields`, which do not apply to `what`.

        Raises:
            InputError: one of them was given.
        """
        for field in fields:
            value: object = getattr(self, field)
            if value is not None and not (isinstance(value, tuple) and not value):
                shown = reprlib.repr(value)
                raise InputError(f"{what} cannot be read with {field}={shown}: leave it out")
