"""Parquet files, Arrow tables and data frames: rows of columns, read in batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..values.errors import InputError
from ..values.report import Skipped
from ..values.types import Document
from .base import Source
from .columns import Columns, Dims, document, resolve
from .options import SourceOptions
from .pictures import COLUMNS, PATHS, first_values, one_an_image
from .records import LOOK_AHEAD
from .values import encodable

if TYPE_CHECKING:
    import pyarrow as pa

# Rows converted to Python values at a time: enough to make the cost of a batch negligible, few
# enough for long texts and vectors of thousands of dimensions.
_BATCH = 1024
_IMAGE_BATCH = 32  # for rows that contain images, which are held while they are encoded


class ParquetFile(Source):
    """A Parquet file, one document per row; `total` and `done` count rows."""

    def __init__(self, path: Path, options: SourceOptions) -> None:
        options.refuse(path.name, "ids", "include", "exclude")
        self.name = encodable(str(path))
        self._path = path
        self._options = options
        self.total = _open(path).metadata.num_rows

    def __iter__(self) -> Iterator[Document | Skipped]:
        """Yield one document per row; a row without an id gets the id `FILE:ROW`, counted from 0.

        Raises:
            InputError: the file is damaged, a column is absent or of the wrong type, a row has
                no id or vector.
        """
        name = self._path.name
        file = _open(self._path)
        schema = file.schema_arrow
        first = _first_of_file(file, name) if self.images else None
        columns = _columns(schema, name, self._options, first)
        # A row group may be larger than memory; a batch is not.
        size = _BATCH if columns.image is None else _IMAGE_BATCH
        batches = file.iter_batches(size, columns=_names(schema, columns))
        ids = f"{encodable(name)}:"
        root = Path(self._options.images or self._path.parent)
        self.done = 0
        found = _documents(batches, columns, name, ids, self.name, root)
        yield from _one_an_image(self._counted(found), columns)

    def _counted(self, found: Iterator[Document | Skipped]) -> Iterator[Document | Skipped]:
        for each in found:
            self.done += 1
            yield each


class Table(Source):
    """Arrow record batches, one document per row; `total` and `done` count rows."""

    def __init__(
        self,
        schema: pa.Schema,
        batches: Callable[[], Iterator[pa.RecordBatch]],
        total: int | None,
        what: str,
        options: SourceOptions,
    ) -> None:
        options.refuse(what, "ids", "include", "exclude", "format")
        self.name = options.name
        self.total = total
        self._batches = batches
        self._what = what
        self._schema = schema
        self._options = options
        _columns(schema, what, options, {} if options.image else None)

    def __iter__(self) -> Iterator[Document | Skipped]:
        """Yield one document per row; the id of a row without one is its number from 0.

        Raises:
            InputError: a row has no id or vector, or a stream has already been read.
        """
        self.done = 0
        batches = self._batches()
        first = None
        if self.images:
            ahead = next(batches, None)
            first = {} if ahead is None else _first_of(ahead.slice(0, LOOK_AHEAD))
            batches = itertools.chain(() if ahead is None else [ahead], batches)
        columns = _columns(self._schema, self._what, self._options, first)
        names = _names(self._schema, columns)
        root = None if self._options.images is None else Path(self._options.images)
        chosen = (batch.select(names) for batch in batches)
        for found in _one_an_image(
            _documents(chosen, columns, self._what, "", None, root), columns
        ):
            self.done += 1
            yield found


def table_of(table: pa.Table | pa.RecordBatch, what: str, options: SourceOptions) -> Table:
    """Return the source of an Arrow table or record batch, called `what` in messages."""
    batches = table.to_batches() if hasattr(table, "to_batches") else [table]
    return Table(
        table.schema,
        lambda: (part for batch in batches for part in _slices(batch)),
        table.num_rows,
        what,
        options,
    )


def table_of_reader(reader: pa.RecordBatchReader, what: str, options: SourceOptions) -> Table:
    """Return the source of a stream of batches, called `what` in messages."""
    coming: list[Iterable[pa.RecordBatch]] = [reader]

    def batches() -> Iterator[pa.RecordBatch]:
        if not coming:
            raise InputError(f"{what} can be read only once; make a table of it")
        return (part for batch in coming.pop() for part in _slices(batch))

    return Table(reader.schema, batches, None, what, options)


def table_of_pandas(frame: Any, options: SourceOptions) -> Table:
    """Return the source of a pandas frame; a named index becomes a column.

    Raises:
        InputError: a column holds values of several types.
    """
    import pyarrow as pa

    named = all(name is not None for name in frame.index.names)
    try:
        table = pa.Table.from_pandas(frame, preserve_index=named)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise InputError(f"the pandas frame cannot be read: {_line(error)}") from error
    return table_of(table, "the pandas frame", options)


def table_of_polars(frame: Any, options: SourceOptions) -> Table:
    """Return the source of a polars frame; a lazy one is collected.

    Raises:
        InputError: a lazy frame cannot be collected, or a column holds Python objects.
    """
    import polars

    if isinstance(frame, polars.LazyFrame):
        try:
            frame = frame.collect()
        except polars.exceptions.PolarsError as error:
            raise InputError(f"the polars frame cannot be read: {_line(error)}") from error
    column = next((name for name, kind in frame.schema.items() if kind == polars.Object), None)
    if column is not None:
        raise InputError(f"the polars frame cannot be read: column {column!r} holds objects")
    return table_of(frame.to_arrow(), "the polars frame", options)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _open(path: Path) -> Any:
    import pyarrow.parquet as pq

    with _reading(path.name):
        return pq.ParquetFile(path, memory_map=True, pre_buffer=False)


@contextmanager
def _reading(what: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        raise InputError(f"{what}: cannot be read ({_line(error)})") from error


def _slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    return (batch.slice(at, _BATCH) for at in range(0, batch.num_rows, _BATCH))


def _one_an_image(
    found: Iterator[Document | Skipped], columns: Columns
) -> Iterator[Document | Skipped]:
    return found if columns.image is None or columns.id is not None else one_an_image(found)


def _first_of_file(file: Any, what: str) -> dict[str, Any]:
    """Return the first value of each Parquet column that could hold images."""
    wanted = [*COLUMNS, *PATHS]
    names = [
        field.name
        for field in file.schema_arrow
        if field.name in wanted or (_is_text(_values(field.type)) and "url" in field.name.lower())
    ]
    with _reading(what):
        batch = next(file.iter_batches(LOOK_AHEAD, columns=names), None) if names else None
    return {} if batch is None else _first_of(batch)


def _first_of(batch: pa.RecordBatch) -> dict[str, Any]:
    return first_values(
        {name: batch.column(name)[row].as_py() for name in batch.schema.names}
        for row in range(min(batch.num_rows, LOOK_AHEAD))
    )


def _columns(
    schema: pa.Schema, what: str, options: SourceOptions, first: dict[str, Any] | None
) -> Columns:
    """Return the roles of a table's columns, having checked their types.

    Raises:
        InputError: a column is absent, or its type does not fit its role.
    """
    import pyarrow.types as types

    names = schema.names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{what}: two columns are called {twice!r}; rename one")
    columns = resolve(names, options, what, first)
    if columns.id is not None:
        kind = _values(schema.field(columns.id).type)
        if not (_is_text(kind) or types.is_integer(kind)):
            raise InputError(
                f"{what}: column {columns.id!r} is {kind}; ids are strings or integers"
            )
    for name in columns.text:
        kind = _values(schema.field(name).type)
        if columns.image is not None and _is_list(kind) and _is_text(kind.value_type):
            continue
        if not (_is_text(kind) or types.is_null(kind)):
            raise InputError(f"{what}: column {name!r} is {kind}, not text")
    if columns.vector is not None:
        kind = _storage(schema.field(columns.vector).type)
        if not _is_list(kind) or not (
            types.is_floating(kind.value_type) or types.is_integer(kind.value_type)
        ):
            raise InputError(f"{what}: column {columns.vector!r} is {kind}, not lists of numbers")
    return columns


def _names(schema: pa.Schema, columns: Columns) -> list[str]:
    """Return the columns to read.

    Metadata columns of bytes or of lists of floats are left out, because nobody wants an image or
    a vector printed with each hit.
    """
    return [
        field.name
        for field in schema
        if not columns.is_metadata(field.name)
        or not (_is_binary(_values(field.type)) or _is_vector(_storage(field.type)))
    ]


def _is_vector(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    return _is_list(kind) and bool(types.is_floating(kind.value_type))


def _storage(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _values(kind: pa.DataType) -> pa.DataType:
    import pyarrow.types as types

    kind = _storage(kind)
    return kind.value_type if types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _documents(
    batches: Iterator[pa.RecordBatch],
    columns: Columns,
    what: str,
    ids: str,
    uri: str | None,
    root: Path | None,
) -> Iterator[Document | Skipped]:
    """Yield a document for each row; without an id, its id is `ids` and the row's number."""
    dims = Dims()
    row = 0
    while True:
        with _reading(f"{what}, from row {row}"):
            batch = next(batches, None)
            if batch is None:
                return
            names = batch.schema.names
            values = [
                _vectors(column) if name == columns.vector else _python(column)
                for name, column in zip(names, batch.columns, strict=True)
            ]
        for record in zip(*values, strict=True):
            yield document(
                dict(zip(names, record, strict=True)),
                columns,
                f"{what}, row {row}",
                dims,
                default_id=f"{ids}{row}",
                place=None if uri is None else f"row {row}",
                uri=uri,
                root=root,
                row=row,
            )
            row += 1


def _python(column: pa.Array) -> list[Any]:
    import pyarrow as pa
    import pyarrow.types as types

    # Python's times resolve microseconds; for finer ones pyarrow would need pandas.
    kind = column.type
    if types.is_timestamp(kind) and kind.unit == "ns":
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    elif types.is_time64(kind) and kind.unit == "ns":
        column = column.cast(pa.time64("us"), safe=False)
    elif types.is_duration(kind) and kind.unit == "ns":
        column = column.cast(pa.duration("us"), safe=False)
    values: list[Any] = column.to_pylist()
    return values


def _vectors(column: pa.Array) -> list[Any]:
    """Return the rows of a list column as arrays; None for a null."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.types as types

    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if types.is_fixed_size_list(column.type):
        begins = (np.arange(len(column) + 1) + column.offset) * column.type.list_size
    else:
        begins = column.offsets.to_numpy()
    low, high = int(begins[0]), int(begins[-1])
    # A null among the numbers becomes NaN, which is refused later with the row's number.
    numbers = column.values.slice(low, high - low).to_numpy(zero_copy_only=False)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    return [
        numbers[begins[at] - low : begins[at + 1] - low] if present[at] else None
        for at in range(len(column))
    ]
