"""Filters: which rows of a snapshot meet a condition.

DuckDB evaluates the condition on the mapped document shards, one after the other and batch by
batch, and sees only the columns that it names. What it found is kept: for a segment as long as
the segment lives, and for a snapshot, so that a repeated filter costs nothing and a new
generation costs only its new segments.

DuckDB runs in this process, over data that it is handed, and is locked: no files, no network, no
extensions, no other tables, no change of settings.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .condition_columns import Column, no_such_name, pointer
from .conditions import (
    POSITION,
    TABLE,
    Condition,
    json_name,
    parse_condition,
    value_name,
)
from .errors import InputError, missing_extra
from .snapshot import DocumentSegment, Snapshot
from .store.metadata import NO_FIELD, cast_metadata, is_json, unify_fields
from .store.shards import Rows, as_arrow, as_numpy, check_offsets, damage

log = logging.getLogger("retr.filters")

MEMORY_LIMIT = "1GB"
KEPT_BYTES = 64 << 20
_BATCH = 1 << 20


def rows_where(snapshot: Snapshot, condition: str) -> Rows:
    """Return the rows for which a condition holds and that are not deleted.

    condition: SQL over the metadata columns and `id`, `text`, `uri`, `source`, `place`.

    Returns i64[n], ascending, read-only.

    Raises:
        InputError: it is no condition, names a column that there is not, or compares what
            cannot be compared.
        DamagedError: a document shard is damaged.
        MissingExtraError: DuckDB is not installed.
    """
    known = _ROWS.get(snapshot, condition) if isinstance(condition, str) else None
    if known is not None:
        return known
    engine = _engine()
    fields = [f for f in _fields(snapshot) if f.name != NO_FIELD]
    checked = parse_condition(condition, fields, engine.ask)
    for name in checked.shadowed:
        log.warning(
            "the condition %r means the document's own %s; write metadata.%s for the metadata",
            condition,
            name,
            name,
        )
    _check_paths(snapshot, checked, engine)
    parts = [_rows_of(segment, snapshot, checked, engine) for segment in snapshot.documents]
    rows: Rows = np.concatenate([np.empty(0, np.int64), *parts])
    rows.flags.writeable = False
    if not checked.uses_clock:
        _ROWS.put(snapshot, condition, rows)
    return rows


def _rows_of(
    segment: DocumentSegment, snapshot: Snapshot, condition: Condition, engine: _Engine
) -> Rows:
    key = f"{condition.sql}\n{[(c.name, c.type, c.field is None) for c in condition.columns]}"
    count = len(segment.shard)
    bits = _BITS.get(segment, key)
    if bits is None:
        mask = np.zeros(count, bool)
        for positions in engine.find(segment, condition):
            mask[positions] = True
        if not condition.uses_clock:
            _BITS.put(segment, key, np.packbits(mask))
    else:
        mask = np.unpackbits(bits, count=count).view(bool)
    mask[segment.positions(snapshot.deleted)] = False
    return segment.rows_at(np.flatnonzero(mask))


def _check_paths(snapshot: Snapshot, condition: Condition, engine: _Engine) -> None:
    """Refuse a way into nested values that no document has, as a column that is not there is.

    Raises:
        InputError: there is such; the message names what there is.
    """
    for number, path in condition.paths:
        column = condition.columns[number]
        one = replace(condition, columns=(column,), paths=())
        lengths = range(len(path), -1, -1)
        kept = next(n for n in lengths if not n or _leads(snapshot, one, path[:n], engine))
        if kept < len(path):
            names = _names_in(snapshot, one, path[:kept], engine)
            raise no_such_name(condition.text, [column.name, *path[:kept]], path[kept], names)


def _leads(snapshot: Snapshot, one: Condition, path: tuple[str, ...], engine: _Engine) -> bool:
    """Return whether a document has a value there, be it null."""
    holds = f"TRY(json_exists({json_name(0)}, {pointer(path)}))"
    asked = replace(one, sql=f"SELECT {POSITION} FROM {TABLE} WHERE {holds} LIMIT 1")
    for segment in snapshot.documents:
        key = f"{one.columns[0].name}\n{asked.sql}"
        known = _BITS.get(segment, key)
        if known is None:
            known = np.array([any(len(batch) for batch in engine.run(segment, asked))])
            _BITS.put(segment, key, known)
        if known[0]:
            return True
    return False


def _names_in(
    snapshot: Snapshot, one: Condition, path: tuple[str, ...], engine: _Engine
) -> set[str]:
    """Return the names in the objects there, a thousand of each segment at most."""
    names = f"SELECT unnest(TRY(json_keys({json_name(0)}, {pointer(path)}))) AS name FROM {TABLE}"
    asked = replace(one, sql=f"SELECT DISTINCT name FROM ({names}) LIMIT 1000")
    return {
        name
        for segment in snapshot.documents
        for batch in engine.run(segment, asked)
        for name in batch.column(0).to_pylist()
    }


class _Kept:
    """Remembers arrays by a text, for as long as what they are about lives; safe for threads.

    The least recently used go first, where those of one owner hold more than `KEPT_BYTES`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: weakref.WeakKeyDictionary[object, OrderedDict[str, NDArray[Any]]] = (
            weakref.WeakKeyDictionary()
        )

    def get(self, owner: object, key: str) -> NDArray[Any] | None:
        with self._lock:
            kept = self._of.get(owner)
            if kept is None or key not in kept:
                return None
            kept.move_to_end(key)
            return kept[key]

    def put(self, owner: object, key: str, array: NDArray[Any]) -> None:
        with self._lock:
            kept = self._of.setdefault(owner, OrderedDict())
            kept[key] = array
            while len(kept) > 1 and sum(a.nbytes + 1000 for a in kept.values()) > KEPT_BYTES:
                kept.popitem(last=False)


_ROWS = _Kept()
_BITS = _Kept()
_FIELDS: weakref.WeakKeyDictionary[Snapshot, list[pa.Field]] = weakref.WeakKeyDictionary()


def _fields(snapshot: Snapshot) -> list[pa.Field]:
    """Return the metadata fields, typed as they would be if all segments were one."""
    fields = _FIELDS.get(snapshot)
    if fields is None:
        fields = unify_fields(s.shard.metadata_type for s in snapshot.documents)
        _FIELDS[snapshot] = fields
    return fields


# --- what DuckDB is given


def _batches(
    segment: DocumentSegment, columns: Sequence[Column], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Yield the positions and the columns of a condition, checked: DuckDB trusts what it gets."""
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
    """Return the Arrow type in which DuckDB is given a column of a segment."""
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
    """Return whether values become those of all shards in Python, as in a merge.

    Numbers, texts and truths become JSON in DuckDB, which is faster.
    """
    if pa.types.is_null(own.type):
        return True
    if column.is_json:
        return not is_json(own) and own.type not in _EASY
    return bool(own.type != column.field.type and own.type != pa.int64())  # type: ignore[union-attr]


_EASY = (pa.int64(), pa.float64(), pa.bool_(), pa.large_string())


def _select(segment: DocumentSegment, columns: Sequence[Column]) -> str:
    """Return the expressions that make a segment's columns those of all segments."""
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


# In this order: what comes last forbids what comes before.
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


class _Engine:
    """DuckDB, locked, in the memory of this process; safe for threads, each on its own cursor."""

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
        """Return what a function of DuckDB gives for a text."""
        with self._connection.cursor() as cursor:
            ((answer,),) = cursor.execute(f"SELECT {function}(?)", [text]).fetchall()
        return str(answer)

    def find(self, segment: DocumentSegment, condition: Condition) -> Iterator[Rows]:
        """Yield the positions in a segment where a condition holds, in parts."""
        for batch in self.run(segment, condition):
            yield as_numpy(batch.column(0), "int64")

    def run(self, segment: DocumentSegment, condition: Condition) -> Iterator[pa.RecordBatch]:
        """Yield what the query of a condition gives over a segment.

        Raises:
            InputError: it cannot be evaluated there.
        """
        columns = condition.columns
        names = [POSITION, *(value_name(i) for i in range(len(columns)))]
        types = [pa.int64(), *(_type_in(segment, column) for column in columns)]
        schema = pa.schema(list(zip(names, types, strict=True)))
        failed: list[BaseException] = []

        def batches() -> Iterator[pa.RecordBatch]:
            # DuckDB would make a text of what goes wrong here.
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
                yield from _reader(cursor.sql(whole))
        except (self._duckdb.Error, pa.ArrowException, OSError) as error:
            if failed:
                raise failed[0] from None
            raise self._named(error, condition) from error

    def _named(self, error: Exception, condition: Condition) -> InputError:
        if isinstance(error, (self._duckdb.FatalException, self._duckdb.InternalException)):
            _forget(self)
            raise error
        if isinstance(error, self._duckdb.OutOfMemoryException):
            return condition.error(f"needs more than {MEMORY_LIMIT} of memory")
        what = str(error).split("\n\nLINE ")[0].split("\nLINE ")[0]
        what = what.split(" Error: ", 1)[-1].split("\n\tCandidate")[0]
        if isinstance(error, self._duckdb.BinderException) and "VARCHAR" in what:
            what += (
                " (a text stands in single quotes; TRY_CAST(column AS DOUBLE), or AS DATE, reads a "
                "column as another type)"
            )
        return condition.error(what)


def _reader(relation: Any) -> Any:
    """Return the record batches of a result; DuckDB 1 has another name for it."""
    read = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
    return read(_BATCH)


_lock = threading.Lock()
_shared: _Engine | None = None


def _engine() -> _Engine:
    """Return the engine of this process, started when it is first asked for."""
    global _shared
    with _lock:
        if _shared is None or _shared.process != os.getpid():
            _shared = _Engine()
        return _shared


def _forget(engine: _Engine) -> None:
    """Start a new engine next time: after an internal error DuckDB answers no more."""
    global _shared
    with _lock:
        if _shared is engine:
            _shared = None
