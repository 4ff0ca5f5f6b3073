"""Exact scan against brute force: exact scores, a fixed order, and nothing else matters."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from retr.indexes.arrays import ArraySource
from retr.indexes.base import (
    Floats,
    Hits,
    Metric,
    allowed_between,
    allowed_positions,
    count_allowed,
)
from retr.indexes.exact import rerank, scan
from retr.indexes.topk import merge_hits

METRICS = list(Metric)


class Chopped(ArraySource):
    """A source whose blocks are short, of uneven length, and never views."""

    def __init__(self, vectors: NDArray[Any], metric: Metric, rows: int) -> None:
        super().__init__(vectors, metric)
        self.rows = rows

    def blocks(self, size: int) -> Iterator[Floats]:
        for block in super().blocks(min(size, self.rows)):
            half = (len(block) + 1) // 2
            yield block[:half].copy()
            if len(block) > half:
                yield block[half:].copy()


def brute(
    vectors: NDArray[Any],
    queries: NDArray[Any],
    k: int,
    metric: Metric,
    allowed: NDArray[np.bool_] | None = None,
) -> Hits:
    """Every score in float64, rounded once; ties in ascending position."""
    hits = Hits.none(len(queries), k)
    rows = np.arange(len(vectors)) if allowed is None else np.flatnonzero(allowed)
    x = vectors.astype(np.float64)[rows]
    for i, q in enumerate(queries.astype(np.float32).astype(np.float64)):
        scores = -((x - q) ** 2).sum(axis=1) if metric is Metric.L2 else (x * q).sum(axis=1)
        largest = float(np.finfo(np.float32).max)
        rounded = np.clip(scores, -largest, largest).astype(np.float32)
        order = np.lexsort((rows, -rounded))[:k]
        hits.scores[i, : len(order)] = rounded[order]
        hits.positions[i, : len(order)] = rows[order]
    return hits


def assert_same(got: Hits, wanted: Hits) -> None:
    assert (got.scores.dtype, got.positions.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(got.positions, wanted.positions)
    np.testing.assert_array_equal(got.scores, wanted.scores)


def packed(allowed: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.packbits(allowed, bitorder="little")


# Few distinct values make duplicates and ties; the wide ones make float32 cancel or overflow.
plain = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 3.0, 2.0**-10])
wild = st.one_of(
    plain,
    st.floats(-100, 100, width=32),
    st.sampled_from([2.0**-100, -(2.0**-140), 1e6, 1e6 + 1, -(2.0**63), 2.0**127, -(2.0**127)]),
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[Any], int, NDArray[np.bool_] | None]:
    values = draw(st.sampled_from([plain, wild]))
    dim = draw(st.integers(1, 9))
    few = hnp.arrays(np.float32, (draw(st.integers(1, 6)), dim), elements=values)
    distinct = draw(few)
    order = draw(st.lists(st.integers(0, len(distinct) - 1), max_size=40))
    queries = draw(hnp.arrays(np.float32, (draw(st.integers(0, 5)), dim), elements=values))
    allowed = draw(st.none() | hnp.arrays(np.bool_, len(order)))
    return distinct[order], queries, draw(st.integers(1, 50)), allowed


def float64_tells(vectors: NDArray[Any], queries: NDArray[Any]) -> bool:
    """Whether float64 gives every inner product to float32's precision, in whatever order.

    It does where all partial sums are exact, and where little cancels.
    """
    terms = queries.astype(np.float64)[:, None] * vectors.astype(np.float64)
    size = np.abs(terms).sum(axis=2)
    _, exponents = np.frexp(terms)
    least = np.where(terms == 0, 10_000, exponents).min(axis=2) - 48  # 24 bits by 24
    exact = size <= np.ldexp(1.0, np.minimum(least + 53, 1000))
    sums = np.abs(terms.sum(axis=2))
    return bool((exact | (size * terms.shape[2] * 2.0**-52 <= sums * 2.0**-26)).all())


@settings(deadline=None, max_examples=300)
@given(cases(), st.sampled_from([Metric.IP, Metric.L2]), st.integers(1, 50))
def test_scan_is_brute_force_whatever_the_values_and_the_blocks(
    case: tuple[NDArray[Any], NDArray[Any], int, NDArray[np.bool_] | None],
    metric: Metric,
    rows: int,
) -> None:
    vectors, queries, k, allowed = case
    assume(metric is Metric.L2 or float64_tells(vectors, queries))
    bitmap = None if allowed is None else packed(allowed)
    wanted = brute(vectors, queries, k, metric, allowed)
    assert_same(scan(ArraySource(vectors, metric), queries, k, allowed=bitmap), wanted)
    assert_same(scan(Chopped(vectors, metric, rows), queries, k, allowed=bitmap), wanted)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("dim", [1, 5, 384])
def test_scan_is_brute_force_over_many_blocks(
    metric: Metric, dtype: type[np.floating], dim: int
) -> None:
    rng = np.random.default_rng(dim)
    made = rng.standard_normal((9000, dim))
    if metric is Metric.COSINE:
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        made[17] = 0
    vectors = made.astype(dtype)
    vectors[5000:5050] = vectors[3]
    vectors[8990] = vectors[8999]
    queries = vectors[rng.integers(0, 9000, 6)].astype(np.float32)
    queries[0] = 0
    queries[1] = vectors[3]
    wanted = brute(vectors, queries, 70, metric)
    assert_same(scan(ArraySource(vectors, metric), queries, 70), wanted)
    assert_same(scan(Chopped(vectors, metric, 999), queries, 70), wanted)


@pytest.mark.parametrize("metric", METRICS)
def test_a_query_has_the_same_answer_alone_as_in_any_batch(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    made = rng.standard_normal((5000, 48)).astype(np.float32)
    vectors = made / np.linalg.norm(made, axis=1, keepdims=True)
    vectors[100:200] = vectors[:100]
    source = ArraySource(vectors, metric)
    batch = scan(source, vectors[:1500], 10)
    for i in (0, 1, 99, 1023, 1024, 1499):
        alone = scan(source, vectors[i : i + 1], 10)
        assert_same(alone, Hits(batch.scores[i : i + 1], batch.positions[i : i + 1]))


@pytest.mark.parametrize("metric", METRICS)
def test_segments_merged_are_the_whole(metric: Metric) -> None:
    rng = np.random.default_rng(1)
    made = rng.standard_normal((3000, 32)).astype(np.float32)
    vectors = made / np.linalg.norm(made, axis=1, keepdims=True)
    vectors[2000:2100] = vectors[500:600]
    queries = vectors[[0, 501, 2999]]
    cuts = [0, 7, 1024, 2050, 3000]
    parts = []
    for start, stop in itertools.pairwise(cuts):
        hits = scan(ArraySource(vectors[start:stop], metric), queries, 20)
        rows = np.where(hits.positions < 0, -1, hits.positions + start)
        parts.append(Hits(hits.scores, rows))
    whole = scan(ArraySource(vectors, metric), queries, 20)
    assert_same(merge_hits(parts, 20), whole)
    assert_same(merge_hits(parts[::-1], 20), whole)


def test_scores_are_exact_where_float32_cancels() -> None:
    rng = np.random.default_rng(2)
    vectors = (rng.standard_normal((500, 64)) + 1000).astype(np.float32)
    queries = (vectors[:3] + rng.standard_normal((3, 64)) * 0.01).astype(np.float32)
    hits = scan(ArraySource(vectors, Metric.L2), queries, 5)
    for i, query in enumerate(queries.astype(float)):
        for score, position in zip(hits.scores[i], hits.positions[i], strict=True):
            terms = [(a - b) ** 2 for a, b in zip(query, vectors[position].tolist(), strict=True)]
            assert math.isclose(float(score), -math.fsum(terms), rel_tol=2**-23)
        assert hits.positions[i, 0] == i


def test_scores_beyond_float32_are_its_largest_and_tie() -> None:
    vectors = np.array([[1e30], [3e30], [2e30], [-1e30]], np.float32)
    largest = np.finfo(np.float32).max
    for source in (ArraySource(vectors, Metric.IP), Chopped(vectors, Metric.IP, 1)):
        hits = scan(source, np.array([[1e30]], np.float32), 2)
        assert_same(hits, Hits(np.full((1, 2), largest), np.array([[0, 1]])))
        hits = scan(source, np.array([[1e30]], np.float32), 4)
        assert hits.positions.tolist() == [[0, 1, 2, 3]]
        assert hits.scores.tolist() == [[largest, largest, largest, -largest]]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.19, 0.21, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 7, 8, 9, 6001])
def test_only_allowed_positions_are_found_and_none_of_them_is_lost(n: int, share: float) -> None:
    rng = np.random.default_rng(n)
    vectors = rng.standard_normal((n, 16)).astype(np.float32)
    queries = vectors[:3]
    allowed = rng.random(n) < share
    bitmap = packed(allowed)
    bitmap[-1] |= (0xFF << (n % 8)) & 0xFF if n % 8 else 0  # what stands beyond n means nothing
    for k in (1, 10, n + 3):
        wanted = brute(vectors, queries, k, Metric.IP, allowed)
        assert_same(scan(ArraySource(vectors, Metric.IP), queries, k, allowed=bitmap), wanted)
    assert count_allowed(bitmap, n) == allowed.sum()
    np.testing.assert_array_equal(allowed_positions(bitmap, n), np.flatnonzero(allowed))
    np.testing.assert_array_equal(allowed_between(bitmap, n // 3, n), allowed[n // 3 :])


def test_nothing_to_search_is_padding() -> None:
    empty = ArraySource(np.empty((0, 4), np.float32), Metric.L2)
    assert_same(scan(empty, np.ones((2, 4), np.float32), 3), Hits.none(2, 3))
    one = ArraySource(np.ones((1, 4), np.float32), Metric.IP)
    assert_same(scan(one, np.empty((0, 4), np.float32), 3), Hits.none(0, 3))
    nothing = np.zeros(1, np.uint8)
    assert_same(scan(one, np.ones((2, 4), np.float32), 3, allowed=nothing), Hits.none(2, 3))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_many_queries_take_bounded_memory(dtype: type[np.floating]) -> None:
    rng = np.random.default_rng(7)
    source = ArraySource(rng.standard_normal((20_000, 8)).astype(dtype), Metric.IP)
    queries = rng.standard_normal((6000, 8)).astype(np.float32)
    tracemalloc.start()
    scan(source, queries, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6  # all scores at once would be 480 MB


def test_ties_everywhere_are_cut_off_in_ascending_position() -> None:
    vectors = np.ones((20_000, 16), np.float32)
    vectors[::2] *= -1
    queries = np.ones((40, 16), np.float32)
    queries[::2] = 0
    hits = scan(ArraySource(vectors, Metric.IP), queries, 3)
    assert hits.positions[::2].tolist() == [[0, 1, 2]] * 20
    assert hits.positions[1::2].tolist() == [[1, 3, 5]] * 20


def test_rerank_orders_the_candidates_as_scan_would() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((400, 24)).astype(np.float16)
    vectors[200:300] = vectors[:100]
    queries = rng.standard_normal((5, 24)).astype(np.float32)
    for metric in (Metric.IP, Metric.L2):
        source = ArraySource(vectors, metric)
        candidates = np.full((5, 60), -1, np.int64)
        wanted = []
        for i in range(5):
            chosen = rng.permutation(400)[: 12 * i]
            candidates[i, rng.permutation(60)[: len(chosen)]] = chosen
            allowed = np.isin(np.arange(400), chosen)
            wanted.append(brute(vectors, queries[i : i + 1], 30, metric, allowed))
        got = rerank(source, queries, candidates, 30)
        assert_same(
            got,
            Hits(
                np.concatenate([w.scores for w in wanted]),
                np.concatenate([w.positions for w in wanted]),
            ),
        )


@settings(deadline=None)
@given(st.data())
def test_merging_is_sorting_by_score_then_number(data: st.DataObject) -> None:
    queries = data.draw(st.integers(0, 3))
    widths = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    k = data.draw(st.integers(1, 20))
    numbers = data.draw(st.permutations(range(queries * sum(widths))))
    found: list[list[tuple[float, int]]] = [[] for _ in range(queries)]
    parts = []
    for width in widths:
        part = Hits.none(queries, width)
        for i in range(queries):
            held = data.draw(st.integers(0, width))
            pairs = [
                (data.draw(st.sampled_from([0.0, 1.0, -2.5])), numbers.pop()) for _ in range(held)
            ]
            pairs.sort(key=lambda pair: (-pair[0], pair[1]))
            for j, (score, number) in enumerate(pairs):
                part.scores[i, j], part.positions[i, j] = score, number
            found[i] += pairs
        parts.append(part)
    wanted = Hits.none(queries, k)
    for i, pairs in enumerate(found):
        for j, (score, number) in enumerate(sorted(pairs, key=lambda p: (-p[0], p[1]))[:k]):
            wanted.scores[i, j], wanted.positions[i, j] = score, number
    assert_same(merge_hits(parts, k), wanted)


def test_no_hits_cannot_be_merged() -> None:
    with pytest.raises(ValueError, match="no hits"):
        merge_hits([], 3)


def test_every_finite_half_widens_to_its_value() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)].reshape(-1, 4)
    source = ArraySource(np.tile(halves, (40, 1)), Metric.IP)
    wanted = np.tile(halves.astype(np.float32), (40, 1))
    got = np.concatenate(list(source.blocks(100_000)))
    np.testing.assert_array_equal(got.view(np.uint32), wanted.view(np.uint32))
    np.testing.assert_array_equal(source.take(np.array([5, 0, 5])), wanted[[5, 0, 5]])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_source_yields_all_its_vectors_in_order(dtype: type[np.floating]) -> None:
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((1000, 12)).astype(dtype)
    vectors.flags.writeable = False
    source = ArraySource(vectors, Metric.L2)
    assert (len(source), source.dim, source.metric) == (1000, 12, Metric.L2)
    for size in (1, 64, 999, 5000):
        blocks = list(source.blocks(size))
        assert max(map(len, blocks)) <= size
        np.testing.assert_array_equal(np.concatenate(blocks), vectors.astype(np.float32))
    if dtype is np.float32:
        assert all(np.shares_memory(block, vectors) for block in source.blocks(64))
    drawn = source.sample(50, seed=1)
    assert len({row.tobytes() for row in drawn}) == 50
    np.testing.assert_array_equal(drawn, source.sample(50, seed=1))
    assert not np.array_equal(drawn, source.sample(50, seed=2))
    assert {r.tobytes() for r in drawn} <= {r.tobytes() for r in vectors.astype(np.float32)}
    assert len(source.sample(2000, seed=1)) == 1000
    norms = (vectors.astype(np.float64) ** 2).sum(axis=1)
    np.testing.assert_allclose(source.squared_norms(), norms, rtol=1e-5)


def test_a_prefix_of_the_dimensions_is_a_source_without_a_copy() -> None:
    rng = np.random.default_rng(5)
    whole = rng.standard_normal((500, 64)).astype(np.float32)
    source = ArraySource(whole[:, :16], Metric.IP)
    assert np.shares_memory(next(source.blocks(100)), whole)
    wanted = brute(whole[:, :16], whole[:4, :16], 10, Metric.IP)
    assert_same(scan(source, whole[:4, :16], 10), wanted)


@pytest.mark.parametrize(
    "vectors",
    [
        np.ones((3, 4)),
        np.ones((3, 4), np.int8),
        np.ones(4, np.float32),
        np.ones((3, 0), np.float32),
        np.ones((3, 4), ">f4"),
        np.asfortranarray(np.ones((3, 4), np.float32)),
    ],
)
def test_what_is_no_matrix_of_floats_is_no_source(vectors: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match=r"vectors must be|contiguous"):
        ArraySource(vectors, Metric.IP)


@pytest.mark.parametrize(
    ("queries", "k", "allowed", "message"),
    [
        (np.ones((2, 5), np.float32), 3, None, r"float32\[q, 4\], got the shape \(2, 5\)"),
        (np.ones(4, np.float32), 3, None, r"got the shape \(4,\)"),
        (np.ones((2, 4), np.int64), 3, None, "got the type int64"),
        (np.array([[1, 2, 3, 4], [1, np.nan, 3, 4]]), 3, None, "query 1 has a value"),
        (np.full((2, 4), 1e39), 3, None, "query 0 has a value"),
        (np.ones((2, 4), np.float32), 0, None, "k must be an integer above 0, got 0"),
        (np.ones((2, 4), np.float32), 2.5, None, "got 2.5"),
        (np.ones((2, 4), np.float32), 3, np.ones(10, bool), r"uint8\[2\], got bool\[10\]"),
        (np.ones((2, 4), np.float32), 3, np.ones(1, np.uint8), r"uint8\[2\], got uint8\[1\]"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(
    queries: NDArray[Any], k: Any, allowed: Any, message: str
) -> None:
    source = ArraySource(np.ones((10, 4), np.float32), Metric.IP)
    with pytest.raises(ValueError, match=message) as caught:
        scan(source, queries, k, allowed=allowed)
    assert "\n" not in str(caught.value)


def test_many_threads_get_the_answers_of_one() -> None:
    rng = np.random.default_rng(6)
    source = ArraySource(rng.standard_normal((20_000, 32)).astype(np.float16), Metric.L2)
    batches = [rng.standard_normal((n, 32)).astype(np.float32) for n in (1, 2, 30, 200) * 5]
    wanted = [scan(source, batch, 10) for batch in batches]
    fresh = ArraySource(source.vectors, Metric.L2)
    with ThreadPoolExecutor(4) as pool:
        for got, want in zip(pool.map(lambda b: scan(fresh, b, 10), batches), wanted, strict=True):
            assert_same(got, want)
