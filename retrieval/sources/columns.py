"""Finds which columns of a record are its id, text and vector, and makes it a `Document`.

The same rules apply to JSON lines, CSV, Parquet, Arrow tables, data frames and dicts.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..values.errors import InputError
from ..values.report import Skipped
from ..values.types import Document, ImageAt
from .options import SourceOptions
from .pictures import UnusableImageError, as_image, captions_of, image_column
from .values import as_text, encodable, is_encodable, plain, shown_value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IDS = ("_id", "id", "doc_id", "docid", "docno")
TEXTS = ("text", "contents", "body", "content", "passage", "caption", "captions")
SENTENCES = (*TEXTS, "sentence", "sentences", "sentences_raw", "alt_text", "description", "title")
"""Columns that describe an image."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The roles of a source's columns.

    id:     None if the records have no ids.
    text:   joined by a space in this order; empty if there are only vectors.
    title:  the one of `text` that is also kept as metadata.
    vector: None if the encoder makes the vectors.
    image:  None if there are no images, or the source does not read them.
    """

    id: str | None
    text: tuple[str, ...]
    title: str | None
    vector: str | None
    image: str | None = None

    def is_metadata(self, name: str) -> bool:
        """Return whether the column `name` is kept as metadata."""
        if name == self.title:
            return True
        return (
            name != self.image and name != self.id and name != self.vector and name not in self.text
        )


def resolve(
    names: Sequence[str],
    options: SourceOptions,
    where: str,
    first: Mapping[str, Any] | None = None,
) -> Columns:
    """Return the roles of the columns `names` of the source `where`.

    first: the first non-null value of each column, if the source reads images.

    Raises:
        InputError: a column named in `options` is absent, or there is neither text nor vector.
    """
    there = dict.fromkeys(names)
    for option, name in (
        ("id", options.id),
        *(("text", name) for name in options.text),
        ("title", options.title),
        ("vector", options.vector),
        ("image", options.image or None),
    ):
        if name is not None and name not in there:
            raise InputError(f"{where}: no column {name!r} for {option}; {_listed(there)}")
    title = options.title
    text = options.text
    image = None
    if first is not None and options.image != "":
        image = options.image or image_column(first, where)
    if not text and image is not None:
        text = tuple(name for name in SENTENCES if name in there and name != image)[:1]
        title = title or ("title" if "title" in there else None)
    elif not text:
        text = tuple(name for name in TEXTS if name in there)[:1]
        if title is None and text and "title" in there:
            title = "title"
        if not text and title is None and options.vector is None:
            raise InputError(
                f"{where}: none of the columns {', '.join(TEXTS)} exists; {_listed(there)}: "
                "name the column of texts (text=, --text)"
            )
    if title is not None and title not in text:
        text = (title, *text)
    elif title is None and "title" in text:
        title = "title"
    identity = options.id or next((name for name in IDS if name in there), None)
    return Columns(identity, text, title, options.vector, image)


def _listed(names: Iterable[str]) -> str:
    return "the columns are " + (", ".join(repr(name) for name in names) or "none")


def names_of(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the keys of the records, each once, in order of first occurrence."""
    return list(dict.fromkeys(name for record in records for name in record))


def document(
    record: Mapping[str, Any],
    columns: Columns,
    where: str,
    dims: Dims,
    *,
    default_id: str,
    place: str | None = None,
    uri: str | None = None,
    root: Path | None = None,
    row: int | None = None,
) -> Document | Skipped:
    """Return `record` as a document, or why its image is not read.

    where: names the record in messages: "corpus.jsonl, line 17".
    dims:  the source's, which checks that all its vectors have the same dimensions.
    default_id, place, uri: for records without an id, which are identified by their position.
    root:  the folder to which image paths are relative.
    row:   the record's row in the table at `uri`, from which its image can be read again.

    Raises:
        InputError: the id is missing, or the id, a text or the vector has the wrong type.
    """
    if columns.id is None:
        identity = default_id
        for name in IDS:
            # The first records decided that there are no ids. If only some records had one, the
            # ids of the others would change whenever a line is inserted above them.
            if name in record:
                raise InputError(f"{where}: has {name!r}, which the records before it lack")
    elif columns.id not in record:
        raise InputError(f"{where}: has no {columns.id!r}, the column of ids")
    else:
        identity = as_id(record[columns.id], f"{where}: {columns.id!r}")
    text = kind = image = None
    if columns.image is not None:
        values = [record.get(name) for name in columns.text]
        text, kind = captions_of(values, f"{where}: {' and '.join(map(repr, columns.text))}")
        at = None if uri is None or row is None else ImageAt(uri, columns.image, row)
        value = record.get(columns.image)
        try:
            image = as_image(value, f"{where}: {columns.image!r}", root, at)
        except UnusableImageError as error:
            return Skipped(where, str(error), None if columns.id is None else identity)
        if columns.id is None and isinstance(value, str) and image is not None:
            identity = encodable(value)
        if isinstance(image, ImageAt) and image.member is None:
            uri = encodable(image.path)
        if image is None and text is None:
            return Skipped(where, "has neither an image nor a text")
    elif columns.text:
        text = " ".join(as_text(record.get(n), f"{where}: {n!r}") for n in columns.text).strip()
    vector = None
    if columns.vector is not None:
        vector = as_vector(record.get(columns.vector), f"{where} (id {identity!r})", dims)
    try:
        metadata = {
            str(name): plain(value, where)
            for name, value in record.items()
            if columns.is_metadata(name) and not isinstance(value, bytes | bytearray | memoryview)
        }
    except RecursionError:
        raise InputError(f"{where}: values are nested too deeply") from None
    found = Document(identity, text, None, metadata, vector, kind, image=image)
    if isinstance(image, ImageAt) and image.member is None:
        return replace(found, uri=uri)
    return found if columns.id is not None else replace(found, uri=uri, place=place)


def as_id(value: object, where: str) -> str:
    """Return `value` as an id.

    Raises:
        InputError: it is neither a string nor an integer, or is empty.
    """
    if isinstance(value, str):
        if not value:
            raise InputError(f"{where} is empty; an id needs at least one character")
        if not is_encodable(value):
            raise InputError(f"{where} is {value!r}, which is not valid Unicode")
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, bool) and hasattr(value, "__index__") and hasattr(value, "dtype"):
        return str(operator.index(value))
    raise InputError(f"{where} is {shown_value(value)}; an id is a string or an integer")


class Dims:
    """The dimensions of a source's vectors: those of the first one."""

    def __init__(self) -> None:
        self._dim: int | None = None

    def check(self, dim: int, where: str) -> None:
        """Check a vector's dimensions against those of the first.

        Raises:
            InputError: they differ.
        """
        if self._dim is None:
            self._dim = dim
        if dim != self._dim:
            raise InputError(
                f"{where}: the vector has {dim} dimensions, but those before it have {self._dim}"
            )


def as_vector(value: object, where: str, dims: Dims) -> NDArray[np.float32]:
    """Return `value`, a sequence of numbers, as f32[dim].

    Raises:
        InputError: it is not a vector of finite numbers, or its dimensions differ from `dims`.
    """
    import numpy as np

    if value is None:
        raise InputError(f"{where}: has no vector")
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except (ValueError, TypeError, RuntimeError):
        raise InputError(f"{where}: the vector is not a list of numbers") from None
    if array.ndim != 1 or not len(array) or array.dtype.kind not in "iuf":
        raise InputError(f"{where}: the vector is not a list of numbers")
    dims.check(len(array), where)
    vector = as_float32(array)
    if not np.isfinite(vector).all():
        raise InputError(f"{where}: the vector holds {_not_finite(vector)}")
    return vector


def as_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return numbers as C-contiguous f32 of the same shape; numbers too large become inf."""
    import numpy as np

    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def refuse_not_finite(block: NDArray[np.float32], where: str, ids: Sequence[str], row: int) -> None:
    """Check the vectors f32[n, dim] of the rows from `row` on.

    Raises:
        InputError: one is not finite; the message names its row and id.
    """
    import numpy as np

    finite = np.isfinite(block).all(axis=1)
    if not finite.all():
        bad = int(np.argmin(finite))
        raise InputError(
            f"{where}, row {row + bad} (id {ids[bad]!r}): the vector holds "
            + _not_finite(block[bad])
        )


def _not_finite(vector: NDArray[np.float32]) -> str:
    import numpy as np

    at = int(np.argmin(np.isfinite(vector)))
    return f"{vector[at]} at dimension {at}; vectors need finite numbers (as float32)"
