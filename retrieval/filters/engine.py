"""DuckDB over document shards: it receives only the columns of a condition, and is locked down.

It runs in this process, over data that it is given batch by batch: no files, no network, no
extensions, no other tables, no change of settings.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from ..segments.documents import DocumentSegment
from ..store.metadata import cast_metadata, is_json
from ..store.shards import Rows, as_arrow, as_numpy, check_offsets, damage
from ..values.errors import InputError, missing_extra
from .columns import Column
from .condition import POSITION, TABLE, Condition, json_name, value_name

T = TypeVar("T")
MEMORY_LIMIT = "1GB"
_BATCH = 1 << 20

# --- the data that DuckDB receives


def _batches(
    segment: DocumentSegment, columns: Sequence[Column], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Yield the positions and columns of a condition, checked, because DuckDB trusts its input."""
    shard = segment.shard
    for start, batch in zip(shard.starts.tolist(), shard.batches, strict=True):
        arrays = [as_arrow(np.arange(start, start + batch.num_rows))]
        with damage(shard.path):
            for column, kind in zip(columns, schema.types[1:], strict=True):
                arrays.append(_values(batch, column, kind, shard.sources))
        yield pa.record_batch(arrays, schema=schema)


def _values(batch: pa.RecordBatch, column: Column, kind: Any, sources: Sequence[str]) -> pa.Array:
    if column.field is None:
        array = batch.column(column.name)
        if column.name == "source":
            return pa.DictionaryArray.from_arrays(array, pa.array(sources, pa.large_string()))
    else:
        metadata = batch.column("metadata")
        at = metadata.type.get_field_index(column.name)
        if at < 0:
            return pa.nulls(len(metadata), kind)
        array = metadata.field(at)
    check_offsets(array)
    array.validate(full=True)
    if column.field is not None and _is_rewritten(metadata.type.field(at), column):
        rewritten: pa.Array = cast_metadata(
            pa.StructArray.from_arrays([array], fields=[metadata.type.field(at)]), [column.field]
        ).field(0)
        return rewritten
    return array


def _type_in(segment: DocumentSegment, column: Column) -> Any:
    """Return the Arrow type in which DuckDB receives a segment's column."""
    if column.field is None:
        if column.name == "source":
            return pa.dictionary(pa.int32(), pa.large_string())
        return pa.large_string()
    own = _own_field(segment, column)
    return column.field.type if own is None or _is_rewritten(own, column) else own.type


def _own_field(segment: DocumentSegment, column: Column) -> pa.Field | None:
    kind = segment.shard.metadata_type
    at = kind.get_field_index(column.name)
    return None if at < 0 or pa.types.is_null(kind.field(at).type) else kind.field(at)


def _is_rewritten(own: pa.Field, column: Column) -> bool:
    """Return whether values are converted to the type of all shards in Python, as in a merge.

    Numbers, texts and booleans are converted to JSON in DuckDB, which is faster.
    """
    if pa.types.is_null(own.type):
        return True
    if column.is_json:
        return not is_json(own) and own.type not in _EASY
    return bool(own.type != column.field.type and own.type != pa.int64())  # type: ignore[union-attr]


_EASY = (pa.int64(), pa.float64(), pa.bool_(), pa.large_string())


def _select(segment: DocumentSegment, columns: Sequence[Column]) -> str:
    """Return the expressions that convert a segment's columns to those of all segments."""
    parts = [POSITION]
    for i, column in enumerate(columns):
        name = value_name(i)
        own = None if column.field is None else _own_field(segment, column)
        if not column.is_json:
            as_float = own is not None and own.type == pa.int64() != column.field.type  # type: ignore[union-attr]
            parts.append(f"CAST({name} AS DOUBLE) AS {name}" if as_float else name)
            continue
        raw, text = name, f"coalesce(TRY(json_extract_string({name}, '')), {name})"
        if own is not None and not is_json(own) and own.type in _EASY:
            raw = f"CAST(to_json({name}) AS VARCHAR)"
            is_text = own.type == pa.large_string()
            text = name if is_text else f"json_extract_string(to_json({name}), '')"
        parts += [f"{text} AS {name}", f"{raw} AS {json_name(i)}"]
    return ", ".join(parts)


# --- DuckDB


# The order matters: the last setting forbids changing the others.
_SETTINGS = (
    f"memory_limit = '{MEMORY_LIMIT}'",
    "temp_directory = ''",
    "TimeZone = 'UTC'",
    "python_enable_replacements = false",
    "allow_community_extensions = false",
    "autoinstall_known_extensions = false",
    "autoload_known_extensions = false",
    "enable_external_access = false",
    "lock_configuration = true",
)


class Engine:
    """DuckDB, locked down, in this process's memory; thread-safe, with a cursor per thread."""

    def __init__(self) -> None:
        try:
            import duckdb
        except ImportError as error:
            raise missing_extra("a condition", "filter") from error
        self._duckdb = duckdb
        self._connection = duckdb.connect(":memory:", config={"threads": 1})
        for setting in _SETTINGS:
            self._connection.execute(f"SET {setting}")
        self.process = os.getpid()

    def ask(self, function: str, text: str) -> str:
        """Return the result of a DuckDB function of one text."""
        with self._connection.cursor() as cursor:
            ((answer,),) = cursor.execute(f"SELECT {function}(?)", [text]).fetchall()
        return str(answer)

    def find(self, segment: DocumentSegment, condition: Condition) -> Iterator[Rows]:
        """Yield the positions in a segment where a condition holds, in parts."""
        for batch in self.run(segment, condition):
            yield as_numpy(batch.column(0), "int64")

    def types(self, segment: DocumentSegment, condition: Condition) -> list[str]:
        """Return the types of the results of a condition's query, without reading a row.

        Raises:
            InputError: it cannot be evaluated.
        """
        return next(self._over(segment, condition, lambda found: [list(map(str, found.types))]))

    def run(self, segment: DocumentSegment, condition: Condition) -> Iterator[pa.RecordBatch]:
        """Yield the results of a condition's query over a segment.

        Raises:
            InputError: it cannot be evaluated there.
        """
        yield from self._over(segment, condition, _reader)

    def _over(
        self,
        segment: DocumentSegment,
        condition: Condition,
        take: Callable[[Any], Iterable[T]],
    ) -> Iterator[T]:
        columns = condition.columns
        names = [POSITION, *(value_name(i) for i in range(len(columns)))]
        types = [pa.int64(), *(_type_in(segment, column) for column in columns)]
        schema = pa.schema(list(zip(names, types, strict=True)))
        failed: list[BaseException] = []

        def batches() -> Iterator[pa.RecordBatch]:
            # DuckDB would turn an exception here into a text.
            try:
                yield from _batches(segment, columns, schema)
            except (Exception, KeyboardInterrupt) as error:
                failed.append(error)
                raise

        select = f"SELECT {_select(segment, columns)} FROM retr_shard"
        whole = f"WITH {TABLE} AS NOT MATERIALIZED ({select}) {condition.sql}"
        try:
            with self._connection.cursor() as cursor:
                cursor.register("retr_shard", pa.RecordBatchReader.from_batches(schema, batches()))
                yield from take(cursor.sql(whole))
        except (self._duckdb.Error, pa.ArrowException, OSError) as error:
            if failed:
                raise failed[0] from None
            raise self._named(error, condition) from error

    def _named(self, error: Exception, condition: Condition) -> InputError:
        if isinstance(error, (self._duckdb.FatalException, self._duckdb.InternalException)):
            _forget(self)
            raise error
        if isinstance(error, self._duckdb.OutOfMemoryException):
            return condition.error(f"it needs more than {MEMORY_LIMIT} of memory")
        what = str(error).split("\n\nLINE ")[0].split("\nLINE ")[0]
        what = what.split(" Error: ", 1)[-1].split("\n\tCandidate")[0]
        if isinstance(error, self._duckdb.BinderException) and "VARCHAR" in what:
            what += (
                " (put a text in single quotes; TRY_CAST(column AS DOUBLE), or AS DATE, reads a "
                "column as another type)"
            )
        return condition.error(what)


def _reader(relation: Any) -> Any:
    """Return the record batches of a result; DuckDB 1 names the method differently."""
    read = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
    return read(_BATCH)


_lock = threading.Lock()
_shared: Engine | None = None


def shared_engine() -> Engine:
    """Return the engine of this process, started on first use."""
    global _shared
    with _lock:
        if _shared is None or _shared.process != os.getpid():
            _shared = Engine()
        return _shared


def _forget(engine: Engine) -> None:
    """Start a new engine next time, because DuckDB stops answering after an internal error."""
    global _shared
    with _lock:
        if _shared is engine:
            _shared = None
