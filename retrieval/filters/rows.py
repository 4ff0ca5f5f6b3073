"""Filters: which rows of a snapshot meet a condition.

DuckDB evaluates the condition on the mapped document shards, one after the other and batch by
batch, and sees only the columns that the condition names. The results are cached per segment and
per snapshot while those are alive, so that a repeated filter costs nothing and a new generation
costs only its new segments.

`engine.py` says what data DuckDB receives and how it is locked down.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..segments.documents import DocumentSegment
from ..segments.snapshot import Snapshot
from ..store.metadata import NO_FIELD, unify_fields
from ..store.shards import Rows
from .columns import condition_error, no_such_name, pointer, unread_error
from .condition import NO_TRUTH, POSITION, TABLE, Condition, json_name, parse_condition, value_name
from .engine import Engine, shared_engine

log = logging.getLogger("retr.filters")

KEPT_BYTES = 64 << 20


def rows_where(snapshot: Snapshot, condition: str) -> Rows:
    """Return the rows that meet a condition and are not deleted.

    condition: SQL over the metadata columns and `id`, `text`, `uri`, `source`, `place`.

    Returns i64[n], ascending, read-only.

    Raises:
        InputError: it is not a condition, names a column that does not exist, or compares values
            that cannot be compared.
        DamagedError: a document shard is damaged.
        MissingExtraError: DuckDB is not installed.
    """
    known = _ROWS.get(snapshot, condition) if isinstance(condition, str) else None
    if known is not None:
        return known
    engine = shared_engine()
    fields = [f for f in _fields(snapshot) if f.name != NO_FIELD]
    checked = parse_condition(condition, fields, engine.ask)
    for name in checked.shadowed:
        log.warning(
            "the condition %r uses the document's own %s; write metadata.%s for the metadata",
            condition,
            name,
            name,
        )
    _check_paths(snapshot, checked, engine)
    _check_readings(snapshot, checked, engine)
    _check_truths(snapshot, checked, engine)
    parts = [_rows_of(segment, snapshot, checked, engine) for segment in snapshot.documents]
    rows: Rows = np.concatenate([np.empty(0, np.int64), *parts])
    rows.flags.writeable = False
    if not checked.uses_clock:
        _ROWS.put(snapshot, condition, rows)
    return rows


def _rows_of(
    segment: DocumentSegment, snapshot: Snapshot, condition: Condition, engine: Engine
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


def _check_paths(snapshot: Snapshot, condition: Condition, engine: Engine) -> None:
    """Refuse a path into nested values that no document has, like a column that does not exist.

    Raises:
        InputError: there is such a path; the message lists the existing names.
    """
    for number, path in condition.paths:
        column = condition.columns[number]
        one = replace(condition, columns=(column,), paths=())
        lengths = range(len(path), -1, -1)
        kept = next(n for n in lengths if not n or _leads(snapshot, one, path[:n], engine))
        if kept < len(path):
            names = _names_in(snapshot, one, path[:kept], engine)
            raise no_such_name(condition.text, [column.name, *path[:kept]], path[kept], names)


def _check_readings(snapshot: Snapshot, condition: Condition, engine: Engine) -> None:
    """Refuse to read JSON values as numbers, or as booleans, if none of them is one.

    Raises:
        InputError: there are such values; the message says what they are.
    """
    for number, path, kind in condition.readings:
        one = replace(condition, columns=(condition.columns[number],), paths=(), readings=())
        value = _json_text(path)
        if _any(snapshot, one, f"TRY_CAST({value} AS {kind}) IS NOT NULL", engine):
            continue
        types = f"SELECT DISTINCT json_type({_json_value(path)}) AS name FROM {TABLE}"
        found = _texts(snapshot, replace(one, sql=types), engine)
        if found - {"NULL"}:
            inside = min(_names_in(snapshot, one, path, engine), default="name")
            name = [one.columns[0].name, *path]
            raise unread_error(condition.text, name, kind, found, inside)


def _check_truths(snapshot: Snapshot, condition: Condition, engine: Engine) -> None:
    """Refuse expressions of another type that are used as booleans.

    Raises:
        InputError: there is one; the message says where.
    """
    if not condition.places or not snapshot.documents:
        return
    types = engine.types(snapshot.documents[0], replace(condition, sql=condition.truths))
    for kind, place in zip(types, condition.places, strict=True):
        if kind not in ("BOOLEAN", '"NULL"', "NULL"):
            raise condition_error(
                condition.text, f"the expression{place.lstrip(',')} is {kind}{NO_TRUTH}"
            )


def _json_value(path: tuple[str, ...]) -> str:
    return f"TRY(json_extract({json_name(0)}, {pointer(path)}))"


def _json_text(path: tuple[str, ...]) -> str:
    return f"TRY(json_extract_string({json_name(0)}, {pointer(path)}))" if path else value_name(0)


def _leads(snapshot: Snapshot, one: Condition, path: tuple[str, ...], engine: Engine) -> bool:
    """Return whether any document has a value at the path, even null."""
    return _any(snapshot, one, f"TRY(json_exists({json_name(0)}, {pointer(path)}))", engine)


def _any(snapshot: Snapshot, one: Condition, holds: str, engine: Engine) -> bool:
    """Return whether `holds` is true for any document; caches the answer by the one column."""
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
    snapshot: Snapshot, one: Condition, path: tuple[str, ...], engine: Engine
) -> set[str]:
    """Return the names in the objects at the path, at most a thousand per segment."""
    names = f"SELECT unnest(TRY(json_keys({json_name(0)}, {pointer(path)}))) AS name FROM {TABLE}"
    asked = replace(one, sql=f"SELECT DISTINCT name FROM ({names}) LIMIT 1000")
    return _texts(snapshot, asked, engine)


def _texts(snapshot: Snapshot, asked: Condition, engine: Engine) -> set[str]:
    return {
        name
        for segment in snapshot.documents
        for batch in engine.run(segment, asked)
        for name in batch.column(0).to_pylist()
        if name is not None
    }


class _Kept:
    """A thread-safe cache of arrays by a text, for as long as their owner lives.

    If the arrays of one owner take more than `KEPT_BYTES`, the least recently used are dropped.
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
    """Return the metadata fields, typed as if all segments were one."""
    fields = _FIELDS.get(snapshot)
    if fields is None:
        fields = unify_fields(s.shard.metadata_type for s in snapshot.documents)
        _FIELDS[snapshot] = fields
    return fields
