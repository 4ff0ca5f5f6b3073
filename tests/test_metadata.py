"""Metadata columns: whatever JSON can say comes back as it went in, through every merge."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retr.retrieval.errors import InputError
from retr.retrieval.store.metadata import (
    NO_FIELD,
    cast_metadata,
    decode_metadata,
    encode_metadata,
    unify_fields,
)

Record = dict[str, Any]

TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 2**63, 2**64, 10**30]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1.0, 2.0**53, 1e308, 5e-324]),
)
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
# Few keys, so that they meet across records, and texts that are hard on field names.
KEYS = st.one_of(st.sampled_from(["a", "b", "", "metadata", "a.b", "é", "\x00"]), TEXTS)
# A column mostly holds one kind of value: that is where types can be lost.
ONE_KIND = st.sampled_from(
    [
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.integers(-3, 3),
        st.floats(allow_nan=False, allow_infinity=False),
        NUMBERS,
        TEXTS,
        st.lists(st.integers(-2, 2), max_size=2),
        st.lists(NUMBERS, max_size=2),
        st.lists(st.booleans(), max_size=2),
        st.lists(TEXTS, max_size=2),
        st.lists(PLAIN, max_size=2),
        st.lists(st.lists(NUMBERS, max_size=2), max_size=2),
        st.dictionaries(TEXTS, PLAIN, max_size=2),
        VALUES,
    ]
)


@st.composite
def shards(draw: st.DrawFn) -> list[list[Record]]:
    """Draw records in shards, whose columns are of one kind or of any."""
    columns = draw(st.dictionaries(KEYS, st.lists(ONE_KIND, min_size=1, max_size=2), max_size=3))

    def record() -> Record:
        return {
            key: draw(draw(st.sampled_from([st.none(), *kinds]))) for key, kinds in columns.items()
        }

    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    return [[record() for _ in range(size)] for size in sizes]


def there(record: Mapping[str, Any]) -> Record:
    """Return a record as it should come back: null and absent are the same."""
    return {key: value for key, value in record.items() if value is not None}


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal, and True is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float) and one == 0:
        return other == 0 and math.copysign(1, one) == math.copysign(1, other)
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def assert_same(found: list[Record], wanted: list[Record]) -> None:
    wanted = [there(record) for record in wanted]
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert same(one, other), (one, other)


def stored(array: pa.StructArray) -> pa.StructArray:
    """Return a struct array after a trip through an Arrow file."""
    sink = pa.BufferOutputStream()
    batch = pa.record_batch([array], schema=pa.schema([pa.field("metadata", array.type)]))
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return pa.ipc.open_file(sink.getvalue()).get_batch(0).column(0)


def merged(arrays: list[pa.StructArray]) -> pa.StructArray:
    """Return one struct array of several, as a merge of document shards makes it."""
    fields = unify_fields(array.type for array in arrays)
    fields = [f for f in fields if f.name != NO_FIELD] or [pa.field(NO_FIELD, pa.null())]
    return stored(pa.concat_arrays([cast_metadata(array, fields) for array in arrays]))


@settings(max_examples=400, deadline=None)
@given(shards())
@example([[{"n": 2**60}], [{"n": 0.5}]])
@example([[{"n": 1}], [{"n": 2**60}], [{"n": 0.5}]])
@example([[{"n": 2**53 + 1}, {"n": 0.5}]])
@example([[{"n": [1]}, {"n": [True]}]])
@example([[{"n": [1.0]}, {"n": [True]}]])
@example([[{"n": [2**60]}, {"n": [0.5]}]])
@example([[{"n": [2**60]}], [{"n": [0.5]}]])
@example([[{}], [{"": ""}], [{"a": None}]])
@example([[{"a": '{"b": 1}'}], [{"a": {"b": 1}}], [{"a": "null"}]])
def test_what_goes_in_comes_out_of_every_merge(given_shards: list[list[Record]]) -> None:
    arrays = [stored(encode_metadata(records)) for records in given_shards]
    for array, records in zip(arrays, given_shards, strict=True):
        assert_same(decode_metadata(array), records)
        half = len(records) // 2
        assert_same(decode_metadata(array.slice(half)), records[half:])
    everything = [record for records in given_shards for record in records]
    assert_same(decode_metadata(merged(arrays)), everything)
    # Merges of merges, as tiers make them, in the order of the rows.
    left = merged(arrays[:2])
    assert_same(decode_metadata(merged([left, *arrays[2:]])), everything)


@given(st.lists(st.one_of(st.none(), st.integers(-(2**62), 2**62)), min_size=1, max_size=4))
def test_columns_of_one_type_keep_it(values: list[int | None]) -> None:
    field = encode_metadata([{"n": value} for value in values]).type.field("n")
    assert field.type == (pa.null() if set(values) == {None} else pa.int64())
    assert encode_metadata([{"t": "x"}, {"t": None}]).type.field("t").type == pa.large_string()
    assert encode_metadata([{"t": 0.5}, {"t": 1}]).type.field("t").type == pa.float64()


def test_what_cannot_be_stored_is_named() -> None:
    with pytest.raises(InputError, match=r"'colour'.*complex"):
        encode_metadata([{"colour": 1j}])
    for key in (NO_FIELD, "\ud800", 7):
        with pytest.raises(InputError, match="metadata key"):
            encode_metadata([{key: 1}])  # type: ignore[dict-item]


def test_texts_that_utf8_has_not_come_back_too() -> None:
    records: list[Record] = [{"a": "\ud800"}, {"a": "x"}]
    assert decode_metadata(stored(encode_metadata(records))) == records


def test_no_records_and_no_keys() -> None:
    assert decode_metadata(encode_metadata([])) == []
    assert decode_metadata(stored(encode_metadata([{}, {}]))) == [{}, {}]
    assert_same(
        decode_metadata(merged([encode_metadata([{}]), encode_metadata([{"a": 1}])])),
        [{}, {"a": 1}],
    )
