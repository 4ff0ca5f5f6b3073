"""Postings in files: what is written is read, merged as if written at once, refused if damaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from retr.retrieval.segments.lexical import LexicalSegment, Scoring
from retr.retrieval.store import postings as stored
from retr.retrieval.store.manifest import Role, SegmentEntry
from retr.retrieval.store.postings import MOST_COUNTED, PostingShard, count_terms
from retr.retrieval.values.errors import DamagedError
from retr.retrieval.values.settings import Bm25

from .segments import Segments

# Two bytes and four, a prefix of another, and what sorts otherwise by UTF-16 than by UTF-8.
WORDS = ["a", "ab", "b", "é", "ﬀx", "🐝", "zz"]
TEXTS = st.lists(
    st.one_of(st.none(), st.builds(" ".join, st.lists(st.sampled_from(WORDS), max_size=9))),
    min_size=1,
    max_size=15,
)

Lists = dict[str, list[tuple[int, float]]]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Segments:
    return Segments(tmp_path_factory.mktemp("segments"))


def lists_of(segment: LexicalSegment) -> Lists:
    """Return every list, with rows in place of positions."""
    shard = segment.shard
    found: Lists = {}
    for number, term in enumerate(shard.terms.to_pylist()):
        posting = shard.posting(number)
        assert shard.size(number) == len(posting.positions) > 0
        assert posting.most == posting.values.max()
        assert posting.shortest == shard.lengths[posting.positions].min()
        assert (np.diff(posting.positions.astype(np.int64)) > 0).all()
        rows = segment.rows_at(posting.positions.astype(np.int64)).tolist()
        found[term] = list(zip(rows, posting.values.tolist(), strict=True))
    encoded = [term.encode() for term in found]
    assert encoded == sorted(encoded)
    return found


def expected_lists(texts: dict[int, str]) -> Lists:
    found: Lists = {}
    for row in sorted(texts):
        for term, count in Counter(texts[row].split()).items():
            found.setdefault(term.replace("ﬀ", "ff").replace("é", "e"), []).append((row, count))
    return found


@settings(max_examples=80, deadline=None)
@given(TEXTS, st.integers(0, 2**40))
def test_what_is_written_is_read(make: Segments, texts: list[str | None], first: int) -> None:
    segment = make.of_texts(texts, first=first)
    there = {first + i: text for i, text in enumerate(texts) if text is not None}
    if segment is None:
        assert not there
        return
    assert segment.rows.tolist() == list(there)
    assert segment.shard.lengths.tolist() == [len(text.split()) for text in there.values()]
    assert segment.shard.tokens == sum(segment.shard.lengths.tolist())
    assert lists_of(segment) == expected_lists(there)
    for number, term in enumerate(segment.shard.terms.to_pylist()):
        assert segment.shard.find(term) == number
    for term in ("", "0", "aa", "a\0", "zzz", "🐝🐝", "\U0010ffff"):
        assert segment.shard.find(term) is None


@settings(max_examples=80, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=5), st.data())
def test_merged_is_as_if_written_at_once(
    make: Segments, parts: list[list[str | None]], data: st.DataObject
) -> None:
    """Also where the rows of one segment stand between those of another."""
    total = sum(map(len, parts))
    numbers = data.draw(st.permutations(range(total)))
    deleted = data.draw(st.lists(st.integers(0, total), max_size=10))
    group: list[LexicalSegment] = []
    there: dict[int, str | None] = {}
    start = 0
    for part in parts:
        rows = np.sort(np.array(numbers[start : start + len(part)], np.int64))
        start += len(part)
        first = int(rows[0])
        segment = make.of_texts(part, first=first, rows=rows - first)
        there |= dict(zip(rows.tolist(), part, strict=True))
        if segment is not None:
            group.append(segment)
    alive = {
        row: there[row] or ""
        for row in sorted(there)
        if there[row] is not None and row not in deleted
    }
    if not group:
        return
    merged = make.merged(group, deleted)
    if merged is None:
        assert not alive
        return
    assert merged.rows.tolist() == list(alive)
    assert (merged.entry.first_row, merged.entry.last_row) == (min(alive), max(alive))
    assert lists_of(merged) == expected_lists(alive)
    assert merged.shard.lengths.tolist() == [len(text.split()) for text in alive.values()]
    at_once = make.of_texts(list(alive.values()), first=0)
    assert at_once is not None
    arrays: list[tuple[NDArray[Any], NDArray[Any]]] = [
        (merged.shard.offsets, at_once.shard.offsets),
        (merged.shard.positions, at_once.shard.positions),
        (merged.shard.values, at_once.shard.values),
    ]
    for own, other in arrays:
        assert own.dtype == other.dtype
        assert own.tolist() == other.tolist()
    assert merged.shard.terms.equals(at_once.shard.terms)


def test_lists_that_do_not_fit_in_a_block(make: Segments) -> None:
    """Merged in parts, one list of which is longer than a part may be."""
    rows = stored._BLOCK_POSTINGS // 2 + 1000
    every = np.arange(rows, dtype=np.uint32)
    few = every[::1000]
    lengths = np.full(rows, 2, np.uint32)

    def of(lists: dict[str, NDArray[np.uint32]]) -> LexicalSegment:
        return make.of_lists(
            {term: (list_, np.full(len(list_), 7)) for term, list_ in lists.items()}, lengths
        )

    first = of({"b": every, "c": few, "d": every})
    second = of({"a": few, "b": every, "e": few})
    second.entry = replace(second.entry, first_row=rows, last_row=2 * rows - 1)
    merged = make.merged([first, second], deleted=[0, 2 * rows - 1])
    assert merged is not None
    terms, sizes = merged.shard.terms.to_pylist(), np.diff(merged.shard.offsets).tolist()
    assert dict(zip(terms, sizes, strict=True)) == {
        "a": len(few),
        "b": 2 * rows - 2,
        "c": len(few) - 1,
        "d": rows - 1,
        "e": len(few),
    }
    number = merged.shard.find("b")
    assert number is not None
    assert (merged.shard.posting(number).positions == np.arange(2 * rows - 2)).all()


def test_learned_weights_are_merged_as_they_are(make: Segments) -> None:
    weights = np.array([0.25, 3.5, 1e-9], np.float32)
    lengths = np.ones(3, np.uint32)
    positions = np.arange(3, dtype=np.uint32)
    segment = make.of_lists({"bee": (positions, weights)}, lengths, "float32")
    merged = make.merged([segment], deleted=[1])
    assert merged is not None
    posting = merged.shard.posting(0)
    assert posting.values.dtype == np.float32
    assert posting.values.tolist() == weights[[0, 2]].tolist()
    assert posting.most == 0.25


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), max_size=20), max_size=12), st.integers(0, 1000))
def test_terms_are_counted(rows: list[list[int]], first: int) -> None:
    ids = np.array([id for row in rows for id in row], np.int32)
    lengths = np.array([len(row) for row in rows], np.int32)
    terms, positions, counts = count_terms(ids, lengths, first)
    expected = sorted(
        (id, first + i, count) for i, row in enumerate(rows) for id, count in Counter(row).items()
    )
    found = zip(terms.tolist(), positions.tolist(), counts.tolist(), strict=True)
    assert list(found) == expected


def test_counts_have_an_end(make: Segments) -> None:
    many = np.zeros(MOST_COUNTED + 5, np.int32)
    _, _, counts = count_terms(many, np.array([len(many)]), 0)
    assert counts.tolist() == [MOST_COUNTED]


# --- damage

ROWS = {"row": pa.array([0, 1, 2], pa.int64()), "length": pa.array([2, 1, 3], pa.uint32())}


def lists(positions: list[list[int]], values: Any = None, shift: int = 0) -> dict[str, pa.Array]:
    flat = [p for each in positions for p in each]
    struct = pa.StructArray.from_arrays(
        [pa.array(flat, pa.uint32()), pa.array([1] * len(flat), values or pa.uint16())],
        ["position", "value"],
    )
    offsets = np.cumsum([0, *map(len, positions)]).astype(np.int64)
    offsets[1] += shift
    buffers = [None, pa.py_buffer(offsets)]
    kind = pa.large_list(struct.type)
    return {
        "term": pa.array(["bee", "cat"], pa.large_string()),
        "postings": pa.Array.from_buffers(kind, len(positions), buffers, children=[struct]),
        "most": pa.array([1, 1], pa.float32()),
        "shortest": pa.array([1, 1], pa.uint32()),
    }


GOOD = lists([[0, 2], [1]])


def write(path: Path, columns: dict[str, pa.Array], metadata: dict[str, str]) -> None:
    batch = pa.record_batch(columns).replace_schema_metadata(metadata)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)


def use(folder: Path) -> list[int]:
    entry = SegmentEntry("x", Role.LEXICAL, 3, 0, 2, "rows.arrow", postings="lists.arrow")
    segment = LexicalSegment(folder, entry)
    scoring = Scoring([segment], {"bee": 1, "cat": 1}, Bm25(1.2, 0.75))
    rows, _ = segment.search(scoring, 10)
    segment.scores(scoring, np.arange(3))
    for position in range(3):
        scoring.held(segment, position)
    return [int(row) for row in rows]


def test_whole_files_of_this_sort_are_read(tmp_path: Path) -> None:
    write(tmp_path / "rows.arrow", ROWS, {"retr:tokens": "6"})
    write(tmp_path / "lists.arrow", GOOD, {})
    assert sorted(use(tmp_path)) == [0, 1, 2]


def without(columns: dict[str, pa.Array], name: str) -> dict[str, pa.Array]:
    return {key: column for key, column in columns.items() if key != name}


BAD: dict[str, Callable[[], tuple[dict[str, pa.Array], dict[str, pa.Array], dict[str, str]]]] = {
    "no tokens": lambda: (ROWS, GOOD, {}),
    "tokens no number": lambda: (ROWS, GOOD, {"retr:tokens": "six"}),
    "no lengths": lambda: (without(ROWS, "length"), GOOD, {"retr:tokens": "6"}),
    "no terms": lambda: (ROWS, without(GOOD, "term"), {"retr:tokens": "6"}),
    "values of another type": lambda: (
        ROWS,
        lists([[0, 2], [1]], pa.int64()),
        {"retr:tokens": "6"},
    ),
    "small texts": lambda: (
        ROWS,
        {**GOOD, "term": pa.array(["bee", "cat"], pa.string())},
        {"retr:tokens": "6"},
    ),
    "terms are numbers": lambda: (
        ROWS,
        {**GOOD, "term": pa.array([1, 2], pa.int64())},
        {"retr:tokens": "6"},
    ),
    "positions beyond the rows": lambda: (ROWS, lists([[0, 3], [1]]), {"retr:tokens": "6"}),
    "positions far beyond the rows": lambda: (
        ROWS,
        lists([[0, 2**32 - 1], [1]]),
        {"retr:tokens": "6"},
    ),
    "a position beyond the rows before others": lambda: (
        ROWS,
        lists([[2**31, 2], [1]]),
        {"retr:tokens": "6"},
    ),
    "more positions than rows": lambda: (ROWS, lists([[0, 1, 2, 2], [1]]), {"retr:tokens": "6"}),
    "a list that begins after its end": lambda: (
        ROWS,
        lists([[0, 2], [1]], shift=9),
        {"retr:tokens": "6"},
    ),
    "a list that begins before the file": lambda: (
        ROWS,
        lists([[0, 2], [1]], shift=-9),
        {"retr:tokens": "6"},
    ),
    "shortest missing": lambda: (ROWS, without(GOOD, "shortest"), {"retr:tokens": "6"}),
    "a list and no rows": lambda: (
        {name: column.slice(0, 0) for name, column in ROWS.items()},
        GOOD,
        {"retr:tokens": "0"},
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_files_that_are_not_what_was_written(tmp_path: Path, what: str) -> None:
    rows, terms, metadata = BAD[what]()
    write(tmp_path / "rows.arrow", rows, metadata)
    write(tmp_path / "lists.arrow", terms, {})
    with pytest.raises(DamagedError, match=r"\.arrow: is damaged"):
        use(tmp_path)


@pytest.mark.parametrize("name", ["rows.arrow", "lists.arrow"])
def test_files_that_are_no_arrow(tmp_path: Path, name: str) -> None:
    write(tmp_path / "rows.arrow", ROWS, {"retr:tokens": "6"})
    write(tmp_path / "lists.arrow", GOOD, {})
    data = (tmp_path / name).read_bytes()
    for bad in (b"", data[:-1], data[: len(data) // 2], b"\0" * len(data)):
        (tmp_path / name).write_bytes(bad)
        with pytest.raises(DamagedError, match=name):
            use(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError):
        PostingShard(tmp_path / "rows.arrow", tmp_path / "lists.arrow")
