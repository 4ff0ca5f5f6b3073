"""Metadata columns: typed if a column has one type, otherwise JSON; exact either way.

Each shard has a struct column `metadata` with a field for each key. A field whose values fit one
Arrow type is stored as that type; a field that mixes types, or holds dicts, is stored as JSON text
and marked. Integers and floats count as one type if float64 can hold all of them; a field with
integers that it cannot hold is marked too. A value None is the same as a missing one.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ..values.errors import InputError
from .shards import check_offsets

# A struct without fields does not survive every version of Arrow, so this field is added.
NO_FIELD = "retr:none"
_JSON = {b"retr:json": b"1"}
_WIDE = {b"retr:wide": b"1"}
_EXACT_INT = 2**53
# Arrow files nest types at most 64 deep, and every JSON parser has a limit.
_DEEPEST_LIST = 8
_DEEPEST = 100


def encode_metadata(records: Sequence[Mapping[str, Any]]) -> pa.StructArray:
    """Return a struct array with one entry per record and one field per key.

    Raises:
        InputError: a value is neither an Arrow nor a JSON value, or a key is not a text.
    """
    keys: dict[str, None] = {}
    for record in records:
        keys.update(dict.fromkeys(record))
    fields, columns = [], []
    for key in keys:
        _check_key(key)
        field, column = _column(key, [record.get(key) for record in records])
        fields.append(field)
        columns.append(column)
    return _struct(fields, columns, len(records))


def decode_metadata(array: pa.StructArray) -> list[dict[str, Any]]:
    """Return the records of a struct array, each without the values that are None.

    Raises:
        ValueError: the array is damaged in a way that `check_offsets` does not detect.
    """
    records: list[dict[str, Any]] = [{} for _ in range(len(array))]
    for i in range(array.type.num_fields):
        field = array.type.field(i)
        as_json = is_json(field)
        for record, value in zip(records, _values(array.field(i)), strict=True):
            if value is not None:
                record[field.name] = json.loads(value) if as_json else value
    return records


def unify_fields(types: Iterable[pa.StructType]) -> list[pa.Field]:
    """Return the fields to which shards of all these types can be converted."""
    unified: dict[str, pa.Field] = {}
    for struct in types:
        for i in range(struct.num_fields):
            field = struct.field(i)
            known = unified.get(field.name)
            unified[field.name] = field if known is None else _wider(known, field)
    return list(unified.values())


def cast_metadata(array: pa.StructArray, fields: Sequence[pa.Field]) -> pa.StructArray:
    """Convert a struct array to the fields of `unify_fields`.

    Raises:
        ValueError: the array is damaged in a way that `check_offsets` does not detect.
    """
    columns = []
    for field in fields:
        at = array.type.get_field_index(field.name)
        if at < 0:
            columns.append(pa.nulls(len(array), field.type))
            continue
        column, own = array.field(at), array.type.field(at)
        if is_json(field) and not is_json(own):
            values = [_dump(own.name, v) for v in _values(column)]
            column = pa.array(values, pa.large_string())
        elif column.type != field.type:
            column = column.cast(field.type)
        columns.append(column)
    return _struct(fields, columns, len(array))


def is_json(field: pa.Field) -> bool:
    """Return whether a field holds JSON texts, for values of several types or dicts."""
    return _is_marked(field, _JSON)


def _column(key: str, values: list[Any]) -> tuple[pa.Field, pa.Array]:
    if any(_nests(value, _DEEPEST) for value in values):
        raise InputError(f"metadata column {key!r}: a value is nested more than {_DEEPEST} deep")
    plain = not any(_needs_json(value) for value in values)
    if plain and not _mixes_types(values):
        try:
            # 32-bit offsets end at 2 GB, which the texts of one column may exceed.
            texts = {type(value) for value in values} - {type(None)} == {str}
            column = pa.array(values, pa.large_string() if texts else None)
        except (pa.ArrowException, OverflowError, TypeError, UnicodeEncodeError):
            pass
        else:
            # Arrow returns a chunked array if it is too large.
            if isinstance(column, pa.Array) and _is_readable(column.type):
                wide = column.type == pa.int64() and any(map(_is_wide, values))
                return pa.field(key, column.type, metadata=_WIDE if wide else None), column
    column = pa.array([_dump(key, value) for value in values], pa.large_string())
    return pa.field(key, column.type, metadata=_JSON), column


def _is_readable(kind: Any) -> bool:
    """Return whether `check_offsets` knows a type, so that it can be read again."""
    try:
        check_offsets(pa.nulls(0, kind))
    except (pa.ArrowException, ValueError):
        return False
    return True


def _check_key(key: object) -> None:
    if isinstance(key, str) and key != NO_FIELD:
        try:
            key.encode()
        except UnicodeEncodeError:
            pass
        else:
            return
    raise InputError(f"metadata key {key!r} cannot be the name of a column; give another text")


def _needs_json(value: Any) -> bool:
    """Return whether Arrow would return a value other than the one stored."""
    if isinstance(value, Mapping) or _nests(value, _DEEPEST_LIST):
        return True
    if isinstance(value, (list, tuple)):
        return any(v is None or _needs_json(v) for v in value) or _mixes_types(value)
    return False


def _nests(value: Any, levels: int) -> bool:
    """Return whether lists and dicts are nested deeper than `levels`."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, (list, tuple)):
        return False
    return not levels or any(_nests(part, levels - 1) for part in value)


def _mixes_types(values: Iterable[Any]) -> bool:
    """Return whether Arrow would have to convert a value to another type.

    The items of lists count as values of one column, as they do in Arrow.
    """
    kinds: set[type] = set()
    items: list[Any] = []
    wide = False
    for value in values:
        if isinstance(value, (list, tuple)):
            items += value
        if value is not None:
            kinds.add(type(value))
            wide = wide or _is_wide(value)
    if kinds == {int, float}:
        return wide
    return len(kinds) > 1 or (bool(items) and _mixes_types(items))


def _is_wide(value: Any) -> bool:
    """Return whether a value is an integer that float64 may not hold exactly."""
    return isinstance(value, int) and abs(value) > _EXACT_INT


def _values(column: pa.Array) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except ArithmeticError as error:  # decimals past their precision, dates past the last year
        raise ValueError(f"a {column.type} value is invalid ({error})") from error
    return values


def _dump(key: str, value: Any) -> str | None:
    if value is None:
        return None
    try:
        return json.dumps(value, ensure_ascii=True, default=_simple)
    except (TypeError, ValueError) as error:
        try:
            shown = f"{value!r:.80}"
        except ValueError:  # an integer with too many digits to print
            shown = f"a {type(value).__name__}"
        raise InputError(
            f"metadata column {key!r}: cannot store {shown} ({error}); "
            "give numbers, texts, booleans, dates, or lists and dicts of these"
        ) from error


def _simple(value: Any) -> Any:
    """Return the JSON form of values of other types.

    Dates are ISO texts, numpy scalars numbers, durations seconds, bytes base64; decimals and
    UUIDs are texts, digit for digit.
    """
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    raise TypeError(f"a {type(value).__name__} is not a JSON value")


def _wider(one: pa.Field, other: pa.Field) -> pa.Field:
    if pa.types.is_null(one.type):
        return other
    if pa.types.is_null(other.type):
        return one
    if one.type == other.type and is_json(one) == is_json(other):
        return other if _is_marked(other, _WIDE) else one
    if not (is_json(one) or is_json(other)):
        lists = _without_nulls(one.type, other.type)
        if lists is not None:
            return pa.field(one.name, lists)
    kinds = {one.type, other.type}
    if kinds == {pa.int64(), pa.float64()} and not (
        _is_marked(one, _WIDE) or _is_marked(other, _WIDE)
    ):
        return pa.field(one.name, pa.float64())
    return pa.field(one.name, pa.large_string(), metadata=_JSON)


def _without_nulls(one: Any, other: Any) -> Any | None:
    """Return the common type of two lists if one is empty wherever they differ, else None."""
    if pa.types.is_null(one) or one == other:
        return other
    if pa.types.is_null(other):
        return one
    if pa.types.is_list(one) and pa.types.is_list(other):
        inner = _without_nulls(one.value_type, other.value_type)
        return None if inner is None else pa.list_(inner)
    return None


def _is_marked(field: pa.Field, mark: Mapping[bytes, bytes]) -> bool:
    return bool(field.metadata) and mark.keys() <= field.metadata.keys()


def _struct(fields: Sequence[pa.Field], columns: Sequence[pa.Array], n: int) -> pa.StructArray:
    if not fields:
        return pa.StructArray.from_arrays([pa.nulls(n)], fields=[pa.field(NO_FIELD, pa.null())])
    return pa.StructArray.from_arrays(list(columns), fields=list(fields))
