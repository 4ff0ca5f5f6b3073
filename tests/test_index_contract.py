"""One suite that every kind of index passes, those to come included: no kind is named in it.

The vectors are float16 numbers of at most unit length, so every product and sum of the oracle is
exact in float64: a kind that says it is exact has to match to the last bit, ties included. Any
other kind may miss some, down to the recall it promises (`Index.recall_floor`), but may invent
nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from retr.indexes import IndexSpec, SpecError, kind, kinds
from retr.indexes.arrays import ArraySource
from retr.indexes.base import Floats, Hits, Index, IndexFileError, Metric

METRICS = list(Metric)
SIZES = (1, 7, 1000)
DIMS = (1, 3, 64, 384)
SHARES = (0.0, 0.001, 0.01, 0.1, 0.5, 1.0)

pytestmark = pytest.mark.parametrize("name", kinds())


class Chopped(ArraySource):
    """A source with short blocks: `blocks(size)` promises at most `size` rows, no more."""

    def blocks(self, size: int) -> Iterator[Floats]:
        return super().blocks(min(size, 37))


def clustered(n: int, dim: int, metric: Metric, seed: int = 0) -> NDArray[np.float16]:
    """Vectors around centres of uneven weight; one in ten is an exact duplicate."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, dim))
    made = centres[rng.zipf(1.6, n) % 20] + 0.4 * rng.standard_normal((n, dim))
    lengths = np.linalg.norm(made, axis=1, keepdims=True)
    made /= lengths if metric is Metric.COSINE else lengths.max()
    vectors = made.astype(np.float16)
    copies = rng.permutation(n)[: n // 10]
    vectors[copies] = vectors[rng.integers(0, n, len(copies))]
    return vectors


def queries_of(vectors: NDArray[np.float16], n: int, seed: int = 1) -> Floats:
    """Vectors near those of the base, one of them in it and one far from all."""
    rng = np.random.default_rng(seed)
    base = vectors[rng.integers(0, len(vectors), n)].astype(np.float64)
    near = base + 0.05 * rng.standard_normal(base.shape)
    near /= np.maximum(np.linalg.norm(near, axis=1, keepdims=True), 1.0)
    near[0] = base[0]
    near[-1] = -near[-1]
    return near.astype(np.float16).astype(np.float32)


def truth(vectors: NDArray[np.float16], queries: Floats, metric: Metric) -> Floats:
    """Return every score, f32[q, n], exact."""
    x, q = vectors.astype(np.float64), queries.astype(np.float64)
    if metric is Metric.L2:
        return np.stack([0.0 - ((x - row) ** 2).sum(axis=1) for row in q]).astype(np.float32)
    return (q @ x.T + 0.0).astype(np.float32)


def best_of(scores: Floats, k: int, allowed: NDArray[np.bool_] | None = None) -> Hits:
    """Return the answer to the last bit; `scores` f32[q, n]."""
    hits = Hits.none(len(scores), k)
    rows = np.arange(scores.shape[1]) if allowed is None else np.flatnonzero(allowed)
    for i, row in enumerate(scores[:, rows]):
        order = np.lexsort((rows, -row))[:k]
        hits.scores[i, : len(order)] = row[order]
        hits.positions[i, : len(order)] = rows[order]
    return hits


def check(
    cls: type[Index],
    hits: Hits,
    scores: Floats,
    k: int,
    allowed: NDArray[np.bool_] | None = None,
) -> None:
    """Hold an answer to the contract; `scores` is the truth, f32[q, n]."""
    n = scores.shape[1]
    assert hits.scores.shape == hits.positions.shape == (len(scores), k)
    assert (hits.scores.dtype, hits.positions.dtype) == (np.float32, np.int64)
    found = hits.positions >= 0
    assert (hits.positions >= -1).all()
    assert (hits.positions < n).all()
    np.testing.assert_array_equal(np.isneginf(hits.scores), ~found)
    assert not np.isnan(hits.scores).any()
    assert (found[:, :-1] >= found[:, 1:]).all(), "padding stands at the end"
    for row in hits.positions:
        held = row[row >= 0]
        assert len(set(held.tolist())) == len(held), "a position is found once"
    if allowed is not None:
        assert allowed[hits.positions[found]].all(), "a position that is not allowed was found"

    both = found[:, 1:]
    upper, lower = hits.scores[:, :-1][both], hits.scores[:, 1:][both]
    assert (upper >= lower).all()
    ties = upper == lower
    ascending = hits.positions[:, :-1][both] < hits.positions[:, 1:][both]
    assert ascending[ties].all(), "equal scores stand in ascending position"

    wanted = best_of(scores, k, allowed)
    if cls.exact:
        np.testing.assert_array_equal(hits.positions, wanted.positions)
        np.testing.assert_array_equal(hits.scores, wanted.scores)
        return
    owner, column = np.nonzero(found)
    true = scores[owner, hits.positions[owner, column]]
    np.testing.assert_allclose(hits.scores[owner, column], true, rtol=1e-5, atol=1e-6)
    assert recall(hits, wanted) >= cls.recall_floor


def search_and_check(
    index: Index, queries: Floats, scores: Floats, k: int, allowed: NDArray[np.bool_] | None = None
) -> None:
    """Hold the answers to the contract, asked for at once and one by one."""
    bitmap = None if allowed is None else packed(allowed)
    check(type(index), index.search(queries, k, allowed=bitmap), scores, k, allowed)
    alone = [index.search(query[None], k, allowed=bitmap) for query in queries]
    joined = Hits(
        np.concatenate([hits.scores for hits in alone]),
        np.concatenate([hits.positions for hits in alone]),
    )
    check(type(index), joined, scores, k, allowed)


def recall(hits: Hits, wanted: Hits) -> float:
    """Return the share of the wanted that was found; a score as good as the last one will do."""
    counts = (wanted.positions >= 0).sum(axis=1)
    bars = np.array([s[c - 1] if c else np.inf for s, c in zip(wanted.scores, counts, strict=True)])
    good = (hits.scores >= bars[:, None] - 1e-6).sum(axis=1)
    total = int(counts.sum())
    return float(np.minimum(good, counts).sum()) / total if total else 1.0


def built(name: str, source: ArraySource) -> Index:
    return kind(name).build(source, IndexSpec(name))


def packed(allowed: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.packbits(allowed, bitorder="little")


def assert_same(got: Hits, wanted: Hits) -> None:
    np.testing.assert_array_equal(got.positions, wanted.positions)
    np.testing.assert_array_equal(got.scores, wanted.scores)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("n", SIZES)
def test_it_finds_the_best(name: str, n: int, dim: int, metric: Metric) -> None:
    vectors = clustered(n, dim, metric)
    index = built(name, ArraySource(vectors.astype(np.float32), metric))
    queries = queries_of(vectors, 20)
    scores = truth(vectors, queries, metric)
    for k in (1, 10, n + 5):
        search_and_check(index, queries, scores, k)


@pytest.mark.parametrize("metric", METRICS)
def test_it_builds_from_float16_and_from_short_blocks(name: str, metric: Metric) -> None:
    vectors = clustered(1000, 64, metric)
    queries = queries_of(vectors, 20)
    scores = truth(vectors, queries, metric)
    for source in (ArraySource(vectors, metric), Chopped(vectors, metric)):
        search_and_check(built(name, source), queries, scores, 10)


def test_the_same_vector_everywhere(name: str) -> None:
    vectors = np.full((1000, 16), 0.25, np.float16)
    queries = np.full((3, 16), 0.25, np.float32)
    queries[1] = 0
    for metric in METRICS:
        index = built(name, ArraySource(vectors, metric))
        search_and_check(index, queries, truth(vectors, queries, metric), 10)


def test_scores_that_tie_though_sums_in_float32_differ(name: str) -> None:
    rng = np.random.default_rng(4)
    values = (rng.standard_normal(256) / 16).astype(np.float16)
    vectors = np.stack([rng.permutation(values) for _ in range(1000)])
    queries = np.full((5, 256), 1 / 16, np.float32)
    for metric in (Metric.IP, Metric.L2):
        index = built(name, ArraySource(vectors, metric))
        scores = truth(vectors, queries, metric)
        assert np.ptp(scores) == 0
        search_and_check(index, queries, scores, 10)


def test_zero_vectors_and_a_zero_query(name: str) -> None:
    vectors = clustered(1000, 64, Metric.COSINE)
    vectors[::5] = 0
    queries = queries_of(vectors, 20)
    queries[1] = 0
    index = built(name, ArraySource(vectors, Metric.COSINE))
    scores = truth(vectors, queries, Metric.COSINE)
    search_and_check(index, queries, scores, 10)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("share", SHARES)
def test_only_what_is_allowed_is_found(name: str, share: float, metric: Metric) -> None:
    vectors = clustered(1000, 64, metric)
    queries = queries_of(vectors, 20)
    scores = truth(vectors, queries, metric)
    index = built(name, ArraySource(vectors, metric))
    rng = np.random.default_rng(2)
    for allowed in (
        np.isin(np.arange(1000), rng.permutation(1000)[: round(share * 1000)]),
        np.arange(1000) < share * 1000,  # all in one place
        np.argsort(np.argsort(scores[0])) < share * 1000,  # the worst for the first query
    ):
        for k in (1, 10, 1200):
            search_and_check(index, queries, scores, k, allowed)


def test_bits_beyond_the_last_position_mean_nothing(name: str) -> None:
    vectors = clustered(7, 8, Metric.L2)
    queries = queries_of(vectors, 4)
    index = built(name, ArraySource(vectors, Metric.L2))
    bitmap = np.array([0b1111_1001], np.uint8)
    allowed = np.array([1, 0, 0, 1, 1, 1, 1], bool)
    for part in (queries, queries[:1]):
        hits = index.search(part, 9, allowed=bitmap)
        check(kind(name), hits, truth(vectors, part, Metric.L2), 9, allowed)


def test_a_bitmap_of_any_layout(name: str) -> None:
    vectors = clustered(1000, 16, Metric.IP)
    queries = queries_of(vectors, 12)
    index = built(name, ArraySource(vectors, Metric.IP))
    bitmap = packed(np.arange(1000) % 3 > 0)
    wide = np.zeros(2 * len(bitmap), np.uint8)
    wide[::2] = bitmap
    wanted = index.search(queries, 10, allowed=bitmap)
    for same in (wide[::2], bitmap[::-1].copy()[::-1]):
        assert_same(index.search(queries, 10, allowed=same), wanted)


def test_a_batch_answers_as_its_queries_do_one_by_one(name: str) -> None:
    vectors = clustered(1000, 64, Metric.COSINE)
    queries = queries_of(vectors, 60)
    index = built(name, ArraySource(vectors, Metric.COSINE))
    allowed = packed(np.random.default_rng(3).random(1000) < 0.5)
    for bitmap in (None, allowed):
        batch = index.search(queries, 10, allowed=bitmap)
        for i in range(len(queries)):
            alone = index.search(queries[i : i + 1], 10, allowed=bitmap)
            np.testing.assert_array_equal(alone.positions[0], batch.positions[i])
            np.testing.assert_allclose(alone.scores[0], batch.scores[i], rtol=1e-6)
    assert index.search(queries[:0], 10).scores.shape == (0, 10)


def test_it_answers_the_same_again_and_built_again(name: str) -> None:
    vectors = clustered(1000, 64, Metric.COSINE)
    queries = queries_of(vectors, 30)
    source = ArraySource(vectors, Metric.COSINE)
    index = built(name, source)
    first = index.search(queries, 10)
    assert_same(index.search(queries, 10), first)
    assert_same(built(name, source).search(queries, 10), first)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", SIZES)
def test_saved_and_loaded_it_answers_the_same(
    name: str, n: int, metric: Metric, tmp_path: Path
) -> None:
    vectors = clustered(n, 24, metric)
    queries = queries_of(vectors, 20)
    source = ArraySource(vectors, metric)
    index = built(name, source)
    path = tmp_path / "größe index.faiss"
    index.save(path)
    loaded = kind(name).load(path, source, index.spec)
    assert loaded.spec == index.spec == IndexSpec(name)
    allowed = packed(np.arange(n) % 2 == 0)
    for bitmap in (None, allowed):
        assert_same(
            loaded.search(queries, 10, allowed=bitmap), index.search(queries, 10, allowed=bitmap)
        )
    again = tmp_path / "again" / path.name  # a file may hold its name
    again.parent.mkdir()
    loaded.save(again)
    assert again.read_bytes() == path.read_bytes()


def test_plain_faiss_reads_the_file(name: str, tmp_path: Path) -> None:
    import faiss

    vectors = clustered(1000, 24, Metric.IP)
    path = tmp_path / "index.faiss"
    built(name, ArraySource(vectors, Metric.IP)).save(path)
    # Without these flags it looks for lists that stay in the file in the working directory.
    index = faiss.read_index(str(path), faiss.IO_FLAG_ONDISK_SAME_DIR | faiss.IO_FLAG_READ_ONLY)
    assert index.ntotal == 1000
    _, found = index.search(np.ones((2, index.d), np.float32), 3)
    assert ((found >= 0) & (found < 1000)).all()


def test_queries_of_any_layout_and_float_type(name: str) -> None:
    vectors = clustered(1000, 16, Metric.L2)
    queries = queries_of(vectors, 12)
    index = built(name, ArraySource(vectors, Metric.L2))
    wanted = index.search(queries, 10)
    wide = np.zeros((24, 32), np.float32)
    wide[::2, ::2] = queries
    readonly = queries.copy()
    readonly.flags.writeable = False
    for same in (
        queries.astype(np.float64),
        queries.astype(np.float16),
        queries.astype(">f4"),
        np.asfortranarray(queries),
        wide[::2, ::2],
        queries[::-1].copy()[::-1],
        readonly,
    ):
        assert_same(index.search(same, 10), wanted)


@pytest.mark.parametrize(
    "queries",
    [
        np.ones((2, 15), np.float32),
        np.ones((2, 17), np.float32),
        np.ones((2, 0), np.float32),
        np.ones(16, np.float32),
        np.ones((1, 2, 16), np.float32),
        np.ones((2, 16), np.int64),
        np.ones((2, 16), np.complex64),
        np.full((2, 16), "1"),
        np.full((2, 16), np.nan, np.float32),
        np.full((2, 16), np.inf, np.float32),
        np.full((2, 16), 1e300),
    ],
)
def test_wrong_queries_are_refused_in_one_line(name: str, queries: NDArray[Any]) -> None:
    index = built(name, ArraySource(clustered(100, 16, Metric.IP), Metric.IP))
    with pytest.raises(ValueError, match=r"quer(y|ies) ") as caught:
        index.search(queries, 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("k", [0, -1, 1.5, "3", None])
def test_a_wrong_k_is_refused(name: str, k: Any) -> None:
    index = built(name, ArraySource(clustered(100, 16, Metric.IP), Metric.IP))
    with pytest.raises(ValueError, match="k must be an integer above 0"):
        index.search(np.ones((2, 16), np.float32), k)


@pytest.mark.parametrize(
    "bitmap",
    [np.ones(100, bool), np.ones(12, np.uint8), np.ones(14, np.uint8), np.ones((1, 13), np.uint8)],
)
def test_a_wrong_bitmap_is_refused(name: str, bitmap: NDArray[Any]) -> None:
    index = built(name, ArraySource(clustered(100, 16, Metric.IP), Metric.IP))
    with pytest.raises(ValueError, match=r"bitmap over 100 positions must be uint8\[13\]"):
        index.search(np.ones((2, 16), np.float32), 3, allowed=bitmap)


def test_no_vectors_cannot_be_built(name: str) -> None:
    with pytest.raises(ValueError, match="at least one vector"):
        built(name, ArraySource(np.empty((0, 16), np.float32), Metric.IP))


def test_a_parameter_it_does_not_know_is_refused(name: str) -> None:
    source = ArraySource(clustered(100, 16, Metric.IP), Metric.IP)
    with pytest.raises(SpecError, match=name):
        kind(name).build(source, IndexSpec.parse(f"{name}(no_such_parameter=1)"))


def test_the_callers_arrays_stay_as_they_are(name: str) -> None:
    vectors = clustered(1000, 16, Metric.L2).astype(np.float32)
    queries = queries_of(vectors.astype(np.float16), 30)
    allowed = packed(np.arange(1000) % 3 == 0)
    arrays = (vectors, queries, allowed)
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    index = built(name, ArraySource(vectors, Metric.L2))
    first = index.search(queries, 10)
    kept = Hits(first.scores.copy(), first.positions.copy())
    index.search(queries[::-1], 10, allowed=allowed)
    for array, was in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, was)
    assert_same(first, kept)  # nor is an answer changed by the next one


def test_four_threads_get_the_answers_of_one(name: str, tmp_path: Path) -> None:
    vectors = clustered(1000, 64, Metric.COSINE)
    source = ArraySource(vectors, Metric.COSINE)
    built(name, source).save(tmp_path / "index.faiss")
    index = kind(name).load(tmp_path / "index.faiss", source, IndexSpec(name))
    rng = np.random.default_rng(5)
    jobs = [
        (queries_of(vectors, q, seed), k, packed(rng.random(1000) < share) if share else None)
        for seed, (q, k, share) in enumerate(
            [(1, 10, 0), (30, 10, 0), (1, 10, 0.5), (30, 5, 0.5), (2, 10, 0.05), (30, 100, 0)] * 6
        )
    ]
    wanted = [index.search(q, k, allowed=allowed) for q, k, allowed in jobs]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda job: index.search(job[0], job[1], allowed=job[2]), jobs))
    for one, other in zip(got, wanted, strict=True):
        assert_same(one, other)


def test_the_file_of_other_vectors_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "index.faiss"
    vectors = clustered(100, 16, Metric.IP)
    built(name, ArraySource(vectors, Metric.IP)).save(path)
    for other in (
        ArraySource(vectors[:99], Metric.IP),
        ArraySource(np.ascontiguousarray(vectors[:, :8]), Metric.IP),
        ArraySource(vectors, Metric.L2),
    ):
        with pytest.raises(IndexFileError, match="not the index of these vectors") as caught:
            kind(name).load(path, other, IndexSpec(name))
        assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(name: str, tmp_path: Path) -> None:
    source = ArraySource(clustered(100, 16, Metric.IP), Metric.IP)
    for path in (tmp_path / "none.faiss", tmp_path):
        with pytest.raises(IndexFileError, match="no index file"):
            kind(name).load(path, source, IndexSpec(name))
    with pytest.raises(OSError, match="cannot write the index"):
        built(name, source).save(tmp_path / "none" / "index.faiss")


# Runs in a process of its own: what must not happen is that it dies.
DAMAGE = """
import json, sys
from pathlib import Path
import numpy as np
from retr.indexes import IndexSpec, kind
from retr.indexes.arrays import ArraySource
from retr.indexes.base import IndexFileError, Metric

name, folder = sys.argv[1], Path(sys.argv[2])
vectors = np.load(folder / "vectors.npy")
source = ArraySource(vectors, Metric.L2)
whole = (folder / "whole.faiss").read_bytes()
damaged = {f"cut at {at}": whole[:at] for at in
           sorted({*range(0, 80, 3), *range(80, len(whole), len(whole) // 40), len(whole) - 1})}
for at in range(96):
    damaged[f"byte {at}"] = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1:]
damaged["text"] = b"This is no index.\\n" * 200
damaged["zeros"] = bytes(len(whole))
for case, content in damaged.items():
    print(json.dumps([case, "started"]), flush=True)
    path = folder / "damaged.faiss"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    try:
        index = kind(name).load(path, source, IndexSpec(name))
    except IndexFileError as error:
        print(json.dumps([case, str(error)]), flush=True)
    else:
        hits = index.search(vectors[:5].astype(np.float32), 4)
        valid = ((hits.positions >= -1) & (hits.positions < len(vectors))).all()
        print(json.dumps([case, "answers" if valid else "nonsense"]), flush=True)
"""


def test_a_damaged_file_is_one_clear_error_and_no_crash(name: str, tmp_path: Path) -> None:
    vectors = clustered(300, 16, Metric.L2)
    np.save(tmp_path / "vectors.npy", vectors)
    built(name, ArraySource(vectors, Metric.L2)).save(tmp_path / "whole.faiss")
    ran = subprocess.run(
        [sys.executable, "-c", DAMAGE, name, str(tmp_path)], capture_output=True, text=True
    )
    outcomes = dict(map(json.loads, ran.stdout.splitlines()))
    assert ran.returncode == 0, (list(outcomes.items())[-1:], ran.stderr[-2000:])
    assert len(outcomes) > 150
    for case, outcome in outcomes.items():
        assert "\n" not in outcome
        if case.startswith("byte"):  # some bytes of a header carry no meaning
            assert outcome == "answers" or "damaged.faiss" in outcome, (case, outcome)
        else:
            assert "damaged.faiss" in outcome, (case, outcome)


def test_without_faiss_the_message_has_the_command(name: str) -> None:
    code = """
import sys
sys.modules["faiss"] = None
import numpy as np
from retr.indexes import IndexSpec, kind
from retr.indexes.arrays import ArraySource
from retr.indexes.base import Metric, MissingFaissError
source = ArraySource(np.eye(8, dtype=np.float32), Metric.IP)
try:
    kind(sys.argv[1]).build(source, IndexSpec(sys.argv[1]))
except MissingFaissError as error:
    print(error)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, name], capture_output=True, text=True, check=True
    )
    assert "pip install 'retr[cpu]'" in ran.stdout
    assert "'retr[gpu]'" in ran.stdout
