"""Shards by themselves: what is written is what is read, over many record batches and merges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import retr
from retr.retrieval.store.documents import (
    BATCH_BYTES,
    BATCH_ROWS,
    DocumentShard,
    StoredRow,
    _write_ids,
    hash_id,
    merge_documents,
    write_documents,
)
from retr.retrieval.store.shards import (
    as_arrow,
    as_numpy,
    check_offsets,
    find_rows,
    open_batches,
    open_rows,
    open_vectors,
    write_rows,
    write_vectors,
    write_vectors_in_parts,
)
from retr.retrieval.store.staging import Staging
from retr.retrieval.store.store import Store
from retr.retrieval.values.types import Document

COUNT = 2 * BATCH_ROWS + 1000


@pytest.fixture
def staging(tmp_path: Path) -> Iterator[Staging]:
    with Store(tmp_path / "c.retr").staging() as staging:
        yield staging


def stored(n: int, start: int = 0, text: str = "") -> list[StoredRow]:
    """Return rows of documents of two parts each, from two sources and from none."""
    return [
        StoredRow(
            id=f"d{i // 2}",
            part=i % 2,
            text=f"text {i}{text}" if i % 5 else None,
            uri=f"u/{i}" if i % 3 else None,
            place=f"line {i}" if i % 4 else None,
            source=(None, "one", "two")[i % 3],
            digest=i.to_bytes(16, "big"),
            metadata={"n": i, "mixed": i if i % 2 else str(i)} if i % 7 else {},
        )
        for i in range(start, start + n)
    ]


def opened(staging: Staging, names: tuple[str, str]) -> DocumentShard:
    return DocumentShard(staging.find(names[0]), staging.find(names[1]))


def check(shard: DocumentShard, rows: list[StoredRow], numbers: list[int]) -> None:
    """Compare a shard with the rows that should be in it, and their numbers."""
    assert len(shard) == len(rows)
    assert shard.rows.tolist() == numbers
    random = np.random.default_rng(1)
    some = random.integers(0, len(rows), 500)
    assert shard.read(some) == [rows[i] for i in some]
    assert shard.column("text", some) == [rows[i].text for i in some]
    assert shard.first_parts().tolist() == [row.part == 0 for row in rows]
    for source in ("one", "two", "three"):
        expected = [i for i, row in enumerate(rows) if row.source == source]
        assert shard.positions_from(source).tolist() == expected
    ids = [rows[i].id for i in some] + ["nobody"]
    hashes = np.array([hash_id(id) for id in ids], np.uint64)
    where: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        where.setdefault(row.id, []).append(i)
    found = shard.positions_of(hashes, ids)
    assert [positions.tolist() for positions in found] == [where.get(id, []) for id in ids]


def test_documents_over_several_batches(staging: Staging) -> None:
    rows = stored(COUNT)
    shard = opened(staging, write_documents(staging, rows))
    assert len(shard.batches) == 3
    check(shard, rows, list(range(COUNT)))


@pytest.mark.parametrize("drop", [0.0, 0.3, 0.999])
def test_merging_documents(staging: Staging, drop: float) -> None:
    random = np.random.default_rng(2)
    sizes = [1, COUNT, 10, 3000]
    gaps = [0, 5, 0, 100]  # numbers of rows that are nowhere any more
    parts, rows, numbers = [], [], []
    first = start = 0
    for size, gap in zip(sizes, gaps, strict=True):
        first += gap
        own = stored(size, start)
        shard = opened(staging, write_documents(staging, own))
        dropped = np.flatnonzero(random.random(size) < drop)
        parts.append((shard, first + 7, dropped))
        kept = np.setdiff1d(np.arange(size), dropped)
        rows += [own[i] for i in kept]
        numbers += (kept + first).tolist()
        first += size
        start += size
    data, ids, relative = merge_documents(staging, parts, 7)
    assert relative.tolist() == numbers
    merged = opened(staging, (data, ids))
    check(merged, rows, numbers)
    # And once more, by itself and with others behind it.
    more = stored(5, start)
    last = opened(staging, write_documents(staging, more))
    none = np.empty(0, np.int64)
    data, ids, relative = merge_documents(staging, [(merged, 7, none), (last, 7 + first, none)], 7)
    check(opened(staging, (data, ids)), rows + more, numbers + [first + i for i in range(5)])


def test_batches_of_merged_shards_are_of_a_middling_size(staging: Staging) -> None:
    small = [opened(staging, write_documents(staging, stored(100, i * 100))) for i in range(20)]
    none = np.empty(0, np.int64)
    data, ids, _ = merge_documents(staging, [(s, i * 100, none) for i, s in enumerate(small)], 0)
    assert len(opened(staging, (data, ids)).batches) == 1
    large = [
        opened(staging, write_documents(staging, stored(9, i * 9, "x" * (BATCH_BYTES // 16))))
        for i in range(4)
    ]
    data, ids, _ = merge_documents(staging, [(s, i * 9, none) for i, s in enumerate(large)], 0)
    batches = opened(staging, (data, ids)).batches
    assert [batch.num_rows for batch in batches] == [18, 18]


def test_ids_with_one_hash_are_told_apart(staging: Staging) -> None:
    rows = [row for row in stored(8) if row.part == 0]
    data, _ = write_documents(staging, rows)
    same = np.full(len(rows), hash_id("d1"), np.uint64)
    ids = _write_ids(staging, same, np.arange(len(rows)))
    shard = opened(staging, (data, ids))
    found = shard.positions_of(same[:3], ["d1", "d3", "d9"])
    assert [positions.tolist() for positions in found] == [[1], [3], []]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("n", "dim"), [(1, 1), (7, 3), (5000, 16)])
def test_vectors(staging: Staging, n: int, dim: int, dtype: str) -> None:
    random = np.random.default_rng(3)
    matrix = random.standard_normal((n, dim)).astype(np.float32)
    rows = np.cumsum(random.integers(1, 4, n)) - 1
    space = {"name": "ünï", "dim": dim}
    at_once = write_vectors(staging, rows, matrix, space, dtype)
    cuts = sorted(random.integers(0, n, 3).tolist())
    parts = [part for part in np.split(matrix, cuts) if len(part)]
    in_parts = write_vectors_in_parts(staging, rows, iter(parts), dim, space, dtype)
    assert staging.files[at_once] == staging.files[in_parts]
    shard = open_vectors(staging.find(in_parts))
    assert shard.rows.tolist() == rows.tolist()
    assert shard.matrix.dtype == dtype
    assert np.array_equal(shard.matrix, matrix.astype(dtype))
    assert shard.matrix.flags.c_contiguous
    assert not shard.matrix.flags.writeable
    assert not shard.matrix.flags.owndata  # mapped, not read
    assert {p.name for p in staging.folder.iterdir()} == {
        "lock",
        *(Path(name).name for name in staging.files),
    }
    (batch,) = open_batches(staging.find(at_once))
    assert set(batch.schema.metadata) == {b"retr:space"}


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 60), unique=True, max_size=40).map(sorted),
    st.lists(st.integers(-5, 70), unique=True, max_size=40).map(sorted),
)
def test_finding_rows(there: list[int], wanted: list[int]) -> None:
    held, asked = np.array(there, np.int64), np.array(wanted, np.int64)
    found = find_rows(held, asked)
    assert held[found].tolist() == [row for row in wanted if row in there]


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), st.data())
def test_arrow_and_numpy_share_memory(values: list[int], data: st.DataObject) -> None:
    array = np.array(values, np.int64)
    arrow = as_arrow(array)
    assert arrow.to_pylist() == values
    start = data.draw(st.integers(0, len(values)))
    part = arrow.slice(start, data.draw(st.integers(0, len(values))))
    back = as_numpy(part, "int64")
    assert back.tolist() == part.to_pylist()
    assert not len(back) or np.shares_memory(back, array)


@st.composite
def offsets(draw: st.DrawFn) -> list[int]:
    """Draw the offsets of at least one value, most of them with some that are wrong."""
    drawn = sorted(draw(st.lists(st.integers(0, 10), min_size=2, max_size=6)))
    wild = st.sampled_from([-(2**31), 2**31 - 1, -1_900_000_000, 1_900_000_000])
    wrong = st.lists(st.one_of(st.integers(-2, 12), wild), max_size=2)
    for at, value in enumerate(draw(wrong), draw(st.integers(0, len(drawn) - 1))):
        if at < len(drawn):
            drawn[at] = value
    return drawn


@settings(max_examples=300, deadline=None)
@example([0, 0, 1_900_000_000, -1_900_000_000, 1, 2], [0, 1], "list")  # the differences wrap
@example([0, 3], [0, 1_900_000_000, -1_900_000_000, 9], "list of texts")
@given(offsets(), offsets(), st.sampled_from(["text", "list", "list of texts", "struct"]))
def test_offsets_that_point_outside_are_refused(
    given_offsets: list[int], inner_offsets: list[int], kind: str
) -> None:
    """Arrow follows them to the end of the process, so they are looked at before it does."""

    def array(kind_: pa.DataType, offsets: list[int], *children: pa.Array) -> pa.Array:
        wide = kind_ == pa.large_string()
        buffer = pa.py_buffer(np.array(offsets, np.int64 if wide else np.int32))
        buffers = [None, buffer, pa.py_buffer(b"0123456789")][: 2 if children else 3]
        return pa.Array.from_buffers(kind_, len(offsets) - 1, buffers, children=list(children))

    def fit(offsets: list[int], size: int) -> bool:
        return offsets == sorted(offsets) and offsets[0] >= 0 and offsets[-1] <= size

    def build() -> pa.Array:
        if kind == "text":
            return array(pa.large_string(), given_offsets)
        if kind == "list":
            return array(pa.list_(pa.int64()), given_offsets, pa.array(range(10), pa.int64()))
        if kind == "list of texts":
            texts = array(pa.string(), inner_offsets)
            return array(pa.list_(pa.string()), given_offsets, texts)
        texts = array(pa.string(), given_offsets)
        return pa.StructArray.from_arrays([pa.nulls(len(texts)), texts], ["a", "b"])

    if kind == "list of texts":
        whole = fit(given_offsets, len(inner_offsets) - 1) and fit(inner_offsets, 10)
    else:
        whole = fit(given_offsets, 10)
    if whole:
        check_offsets(build())
    else:
        # What Arrow sees by itself is refused on opening.
        with pytest.raises(ValueError, match=r"outside the file|[Ii]nvalid|offset"):
            check_offsets(build())


@pytest.mark.parametrize(
    "kind",
    [
        pa.dictionary(pa.int32(), pa.string()),
        pa.string_view(),
        pa.list_view(pa.int64()),
        pa.map_(pa.string(), pa.int64()),
        pa.list_(pa.list_(pa.string_view())),
        pa.struct([pa.field("a", pa.string_view())]),
        # Arrow computes ten to the power of the scale.
        pa.decimal128(3, 2**30),
    ],
    ids=str,
)
def test_types_that_are_never_written_are_refused(kind: pa.DataType) -> None:
    for array in (pa.nulls(0, kind), pa.nulls(3, kind)):
        with pytest.raises(ValueError, match="never written"):
            check_offsets(array)


def test_rows(staging: Staging) -> None:
    rows = np.array([0, 5, 2**40], np.int64)
    assert open_rows(staging.find(write_rows(staging, rows))).tolist() == rows.tolist()


def test_files_are_plain_arrow(staging: Staging) -> None:
    """Any reader of Arrow can read them, without us."""
    data, ids = write_documents(staging, stored(10))
    table = pa.ipc.open_file(str(staging.find(data))).read_all()
    assert table.column("id").to_pylist() == [f"d{i // 2}" for i in range(10)]
    assert table.column("metadata").to_pylist()[1]["n"] == 1
    assert pa.ipc.open_file(str(staging.find(ids))).read_all().num_rows == 10


def test_a_collection_with_segments_of_several_batches(tmp_path: Path) -> None:
    vectors = np.random.default_rng(4).standard_normal((COUNT, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def documents(ids: range, version: int) -> list[Document]:
        return [
            Document(f"d{i}", f"{i}, {version}", metadata={"v": version}, vector=vectors[i])
            for i in ids
        ]

    path = tmp_path / "c.retr"
    collection = retr.build(documents(range(COUNT), 1), path)
    collection.add(documents(range(0, COUNT, 9), 2))
    collection.delete([f"d{i}" for i in range(5, COUNT, 9)])
    for _ in range(3):
        alive = [i for i in range(COUNT) if i % 9 != 5]
        assert len(collection) == len(alive)
        hits = collection.search(vector=vectors[0], k=1000)
        scores = vectors.astype(np.float64) @ vectors[0].astype(np.float64)
        best = sorted(alive, key=lambda i: -scores[i])[:1000]
        assert [h.id for h in hits] == [f"d{i}" for i in best]
        for hit in hits:
            i = int(hit.id[1:])
            version = 2 if i % 9 == 0 else 1
            assert (hit.text, dict(hit.metadata)) == (f"{i}, {version}", {"v": version})
            assert hit.score == pytest.approx(scores[i], abs=1e-5)
        assert "d4" in collection
        assert "d5" not in collection
        collection.compact()
    assert collection.verify() == []
    roles = [s["role"] for s in collection.info()["segments"]]
    assert {"dense", "documents"} <= set(roles)
    assert len(roles) == len(set(roles))
