"""Python objects as sources: dicts, texts and documents, tables, data frames, arrays, tensors.

Recognising an object imports nothing: only if pandas is loaded can an object be a pandas frame.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any

from ..text.passages import KINDS
from ..values.errors import InputError
from ..values.images import refuse_address
from ..values.report import Skipped
from ..values.types import Document
from .base import Source
from .columns import Columns, Dims, as_id, as_vector, document, names_of, resolve
from .options import SourceOptions
from .pictures import as_image, at_path, first_values, one_an_image
from .records import LOOK_AHEAD
from .values import as_text, encodable, plain

TAKEN = (
    "a path, an iterable of dicts, texts or Documents, an Arrow table, a pandas or polars "
    "frame, a 2-dimensional numpy array or torch tensor"
)


def source_of_object(given: object, options: SourceOptions) -> Source:
    """Return the source of a Python object.

    Raises:
        InputError: it cannot be a source; the message says what can.
    """
    if _is_a(given, "pandas", "DataFrame"):
        from .tables import table_of_pandas

        return table_of_pandas(given, options)
    if _is_a(given, "polars", "DataFrame") or _is_a(given, "polars", "LazyFrame"):
        from .tables import table_of_polars

        return table_of_polars(given, options)
    if _is_a(given, "torch", "Tensor"):
        from .vectors import vectors_of_tensor

        return vectors_of_tensor(given, options)
    if _is_a(given, "numpy", "ndarray"):
        return _source_of_array(given, options)
    if _is_a(given, "pyarrow", "Table") or _is_a(given, "pyarrow", "RecordBatch"):
        from .tables import table_of

        return table_of(given, "the Arrow table", options)
    table = _arrow_stream(given, options)
    if table is not None:
        return table
    if hasattr(given, "to_pylist"):  # Arrow arrays, whose items are not Python strings
        return Items(given.to_pylist(), options)
    if isinstance(given, Mapping):
        raise InputError(
            f"a {type(given).__name__} is not a source; put a single record in a list, or make "
            "columns a table (pyarrow.table)"
        )
    if isinstance(given, set | frozenset):
        raise InputError(f"a {type(given).__name__} has no order; give a list")
    if isinstance(given, bytes | bytearray | memoryview) or not isinstance(given, Iterable):
        raise InputError(f"an object of type {type(given).__name__} is not a source; give {TAKEN}")
    return Items(given, options)


def _is_a(given: object, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(given, kind)


def _source_of_array(array: Any, options: SourceOptions) -> Source:
    if array.ndim == 1 and array.dtype.kind in "UOT":
        return Items(array.tolist(), options)
    from .vectors import vectors_of_array

    return vectors_of_array(array, options)


def _arrow_stream(given: Any, options: SourceOptions) -> Source | None:
    """Return the source of any other stream of Arrow rows, such as a DuckDB result."""
    if not hasattr(given, "__arrow_c_stream__"):
        return None
    import pyarrow as pa

    from .tables import table_of_reader

    try:
        reader = pa.RecordBatchReader.from_stream(given)
    except (pa.ArrowException, TypeError, ValueError):
        # A single column, such as a pandas Series, whose items are read like those of a list.
        return None
    return table_of_reader(reader, f"the {type(given).__name__}", options)


class Items(Source):
    """An iterable of dicts, texts and `Document`s; an iterator is read lazily, and only once.

    The id of a text, and of a dict if none has an id, is its number from 0: "0", "1", …
    """

    def __init__(self, items: Iterable[object], options: SourceOptions) -> None:
        what = type(items).__name__
        options.refuse(f"a {what}", "ids", "include", "exclude", "format")
        self.name = options.name
        self.total = len(items) if isinstance(items, Sized) else None
        self._items: Iterable[object] | None = items
        self._what = what
        self._options = options

    def __iter__(self) -> Iterator[Document | Skipped]:
        """Yield one document per item.

        Raises:
            InputError: an item has an unsupported type, or an iterator has been read before.
        """
        if self._items is None:
            raise InputError(f"the {self._what} can be read only once; make a list of it")
        items = iter(self._items)
        if items is self._items:
            self._items = None
        self.done = 0
        ahead = list(itertools.islice(items, LOOK_AHEAD))
        records = [item for item in ahead if isinstance(item, Mapping)]
        first = first_values(records) if self.images else None
        columns = resolve(names_of(records), self._options, "item 0", first) if records else None
        found = self._documents(itertools.chain(ahead, items), columns, first)
        del ahead
        alone = columns is None or columns.image is None or columns.id is not None
        yield from found if alone else one_an_image(found)

    def _documents(
        self, items: Iterator[object], columns: Columns | None, first: Mapping[str, Any] | None
    ) -> Iterator[Document | Skipped]:
        dims = Dims()
        root = None if self._options.images is None else Path(self._options.images)
        for number, item in enumerate(items):
            where = f"item {number}"
            found: Document | Skipped
            if isinstance(item, str):
                found = Document(str(number), encodable(item))
            elif isinstance(item, Document):
                found = _checked(item, where, dims)
            elif isinstance(item, Mapping):
                if columns is None:
                    columns = resolve(list(item), self._options, where, first)
                default = str(number)
                found = document(item, columns, where, dims, default_id=default, root=root)
            else:
                raise InputError(
                    f"{where} is of type {type(item).__name__}; give dicts, texts or Documents"
                )
            self.done = number + 1
            yield found


def _checked(given: Document, where: str, dims: Dims) -> Document:
    """Return the document with its values converted to the types that `Document` states.

    Raises:
        InputError: one cannot be converted.
    """
    if given.kind is not None and given.kind not in KINDS:
        raise InputError(f"{where}: there is no kind {given.kind!r}; use one of {', '.join(KINDS)}")
    identity = as_id(given.id, f"{where}: the id")
    vector, image_vector = given.vector, given.image_vector
    who = f"{where} (id {identity!r})"
    return dataclasses.replace(
        given,
        id=identity,
        text=None if given.text is None else as_text(given.text, f"{where}: the text"),
        uri=None if given.uri is None else encodable(os.fspath(given.uri)),
        metadata={str(name): plain(value, where) for name, value in given.metadata.items()},
        vector=None if vector is None else as_vector(vector, who, dims),
        image_vector=None if image_vector is None else as_vector(image_vector, who, dims),
        image=_image(given, who),
    )


def _image(given: Document, where: str) -> Any:
    """Return a document's image; a path becomes an `ImageAt`.

    Raises:
        InputError: it is an address, or has a type that cannot hold an image.
    """
    image = given.image
    if isinstance(image, str | os.PathLike):
        refuse_address(image, f"{where}: the image")
        return at_path(str(Path(image).expanduser().absolute()))
    return as_image(image, f"{where}: the image", None)
