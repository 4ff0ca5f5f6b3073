"""Metadata columns: whatever JSON can say comes back as it went in, through every merge."""

from __future__ import annotations

import datetime as dt
import math
import random
import uuid
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retr.retrieval.store.metadata import (
    NO_FIELD,
    cast_metadata,
    decode_metadata,
    encode_metadata,
    unify_fields,
)
from retr.retrieval.store.shards import check_offsets, damage
from retr.retrieval.values.errors import DamagedError, InputError

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


@settings(deadline=None)
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


def test_values_of_other_types_can_be_read_again_and_merged_with_texts() -> None:
    identity = uuid.UUID(int=7)
    odd: dict[str, tuple[Any, Any, Any]] = {  # what goes in, what comes out, what a merge makes
        "uuid": (identity, str(identity), str(identity)),
        "decimal": (Decimal("1.50"), Decimal("1.50"), "1.50"),
        "large decimal": (Decimal("1E+400"), "1E+400", "1E+400"),
        "bytes": (b"\xff", b"\xff", "/w=="),
        "duration": (dt.timedelta(minutes=1), dt.timedelta(minutes=1), 60.0),
        "date": (dt.date(2020, 1, 2), dt.date(2020, 1, 2), "2020-01-02"),
        "numpy date": (np.datetime64("2020-01-02"), "2020-01-02", "2020-01-02"),
        "deep": ([[[[[[[[[[1]]]]]]]]]], [[[[[[[[[[1]]]]]]]]]], [[[[[[[[[[1]]]]]]]]]]),
    }
    array = stored(encode_metadata([{key: value for key, (value, _, _) in odd.items()}]))
    check_offsets(array)
    assert decode_metadata(array) == [{key: out for key, (_, out, _) in odd.items()}]
    texts = stored(encode_metadata([dict.fromkeys(odd, "x")]))
    assert decode_metadata(merged([array, texts])) == [
        {key: made for key, (_, _, made) in odd.items()},
        dict.fromkeys(odd, "x"),
    ]


def test_what_is_too_deep_or_too_long_is_named() -> None:
    circle: list[Any] = []
    circle += [circle, circle]
    deep: Any = 1
    for _ in range(5000):
        deep = {"a": [deep]}
    for value in (circle, deep):
        with pytest.raises(InputError, match=r"'k': a value is nested more than 100 deep"):
            encode_metadata([{"k": value}])
    with pytest.raises(InputError, match=r"'k': cannot store a int"):
        encode_metadata([{"k": 10**5000}])


def test_empty_lists_do_not_make_a_column_json() -> None:
    lists: list[Any] = [[], [[]], [["a"], ["b", "c"]]]
    empty, nested, full = (encode_metadata([{"l": value}]) for value in lists)
    for arrays in ([empty, nested, full], [full, nested, empty]):
        (field,) = unify_fields(array.type for array in arrays)
        assert field.type == pa.list_(pa.list_(pa.string()))
        assert not field.metadata
        assert_same(decode_metadata(merged(arrays)), [decode_metadata(a)[0] for a in arrays])
    (field,) = unify_fields([encode_metadata([{"l": v}]).type for v in ([1], ["a"])])
    assert field.type == pa.large_string()


def test_damage_is_nothing_but_damage() -> None:
    """Whatever bytes are wrong: past `check_offsets` nothing crashes or raises something else."""
    random_ = random.Random(1)
    records: list[Record] = [
        {
            "t": f"héllo {i}",
            "l": ["a", "bb"][: i % 3],
            "j": {"a": [i]},
            "when": dt.datetime(2020, 1, 1, i, tzinfo=dt.UTC),
            "decimal": Decimal("1.50"),
            "b": b"ab",
            "n": None if i % 2 else i,
        }
        for i in range(12)
    ]
    sink = pa.BufferOutputStream()
    array = encode_metadata(records)
    other = encode_metadata([dict.fromkeys(records[0], "x")])
    batch = pa.record_batch([array], schema=pa.schema([pa.field("metadata", array.type)]))
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    good = sink.getvalue().to_pybytes()
    outcomes = {"fine": 0, "damaged": 0}
    for _ in range(1500):
        bad = bytearray(good)
        at = random_.randrange(len(good))
        end = min(len(good), at + random_.choice([1, 8, 40]))
        bad[at:end] = random_.choice([random_.randbytes(end - at), bytes(end - at)])
        try:
            with damage(Path("collection/documents/x.arrow")):
                read = pa.ipc.open_file(pa.BufferReader(bytes(bad))).get_batch(0)
                read.validate()
                column = read.column("metadata")
                check_offsets(column)
                decode_metadata(column)
                cast_metadata(column, unify_fields([column.type, other.type]))
            outcomes["fine"] += 1
        except DamagedError:
            outcomes["damaged"] += 1
    assert min(outcomes.values()) > 100
