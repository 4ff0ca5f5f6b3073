"""The vectors on a GPU: its answers are those of a scan, and what lies there makes room.

Flat FAISS indexes on the CPU lie where those on a GPU would: they compare in float32 too, and in
another order than numpy. What only a GPU can show is in `test_index_gpu.py`.
"""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from retr.indexes import exact
from retr.indexes.arrays import ArraySource
from retr.indexes.base import Floats, Metric
from retr.indexes.gpu.vectors import MOST_FETCHED, GpuVectors

from .test_exact_scan import assert_same, cases, packed

faiss = pytest.importorskip("faiss")


def flat(dim: int, metric: int) -> Any:
    return faiss.IndexFlat(dim, metric)


def held_vectors(room: int = 1 << 30) -> GpuVectors:
    return GpuVectors(flat, room)


def source(
    rows: int = 3000, dim: int = 24, metric: Metric = Metric.COSINE, seed: int = 0
) -> ArraySource:
    made = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    if metric is Metric.COSINE:
        made /= np.linalg.norm(made, axis=1, keepdims=True)
    made[100:140] = made[7]
    return ArraySource(made, metric)


def size(of: ArraySource) -> int:
    return 4 * len(of) * (of.dim + 1)


class Inexact:
    """A flat index whose scores are off by up to so much."""

    def __init__(self, dim: int, metric: int, off: float) -> None:
        self._index = faiss.IndexFlat(dim, metric)
        self._off = off
        self.add = self._index.add

    @property
    def ntotal(self) -> int:
        return int(self._index.ntotal)

    def search(self, queries: Floats, k: int) -> tuple[Floats, NDArray[np.int64]]:
        scores, positions = self._index.search(queries, self.ntotal)
        noise = np.random.default_rng(1).uniform(-self._off, self._off, scores.shape)
        scores += noise.astype(np.float32)
        order = np.argsort(-scores, axis=1)[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(positions, order, 1)


@settings(deadline=None, max_examples=300)
@given(cases(), st.sampled_from([Metric.IP, Metric.L2]))
def test_what_a_gpu_finds_is_what_a_scan_finds(
    case: tuple[NDArray[Any], NDArray[Any], int, NDArray[np.bool_] | None], metric: Metric
) -> None:
    vectors, queries, k, allowed = case
    rows = ArraySource(vectors, metric)
    bits = None if allowed is None else packed(allowed)
    there = len(vectors) if allowed is None else int(allowed.sum())
    if there and len(queries) and GpuVectors.can_search(rows, queries, k):
        got = held_vectors().scan(rows, queries, k, bits)
        assert got is not None
        assert_same(got, exact.scan(rows, queries, k, allowed=bits))


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("share", [None, 0.999, 0.8, 0.5, 0.3, 0.001])
def test_filters_and_deletes_hold(
    metric: Metric, dtype: type[np.floating], share: float | None
) -> None:
    rows = ArraySource(source(metric=metric).vectors.astype(dtype), metric)
    rng = np.random.default_rng(3)
    bits = None if share is None else packed(rng.random(len(rows)) < share)
    queries = rows.take(rng.integers(0, len(rows), 50)) + np.float32(0.01)
    for k in (1, 10, 200):
        got = held_vectors().scan(rows, queries, k, bits)
        assert got is not None
        assert_same(got, exact.scan(rows, queries, k, allowed=bits))


def test_a_filter_against_the_query_is_scanned_for() -> None:
    rows = source(metric=Metric.IP)
    scores = rows.vectors @ rows.vectors[0]
    allowed = scores < np.median(scores)  # all that is near is forbidden
    _, unsure = held_vectors().search(rows, rows.vectors[:1], 10, packed(allowed))
    assert unsure.all()
    got = held_vectors().scan(rows, rows.vectors[:1], 10, packed(allowed))
    assert got is not None
    assert_same(got, exact.scan(rows, rows.vectors[:1], 10, allowed=packed(allowed)))


def test_many_ties_are_scanned_for() -> None:
    rows = source()
    queries = rows.vectors[[7, 8]]
    _, unsure = held_vectors().search(rows, queries, 10, None)  # 41 ties for the first
    assert unsure.tolist() == [True, False]
    got = held_vectors().scan(rows, queries, 10, None)
    assert got is not None
    assert_same(got, exact.scan(rows, queries, 10))


def test_rounding_as_bad_as_float32_allows_changes_nothing() -> None:
    rows = source(rows=20_000, dim=4)  # so many in so few dimensions lie close together
    queries = source(rows=200, dim=4, seed=1).vectors
    slack = float(exact.score_slack(Metric.COSINE, np.ones(1), 1.01, 4)[0])
    rough = GpuVectors(lambda dim, metric: Inexact(dim, metric, 0.9 * slack), 1 << 30)
    best, unsure = rough.search(rows, queries, 10, None)
    wanted = exact.scan(rows, queries, 10)
    assert (~unsure).sum() > 0
    np.testing.assert_array_equal(best.positions[~unsure], wanted.positions[~unsure])
    np.testing.assert_array_equal(best.scores[~unsure], wanted.scores[~unsure])
    got = rough.scan(rows, queries, 10, None)
    assert got is not None
    assert_same(got, wanted)


def test_a_gpu_that_computes_in_less_than_float32_is_found_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = source()
    coarse = GpuVectors(lambda dim, metric: Inexact(dim, metric, 1e-3), 1 << 30)
    assert coarse.scan(rows, rows.vectors[200:300], 10, None) is None
    (record,) = caplog.records
    assert "searching on the CPU: the GPU cannot be used" in record.getMessage()
    assert "more than float32 explains" in record.getMessage()
    assert coarse.scan(rows, rows.vectors[:50], 10, None) is None  # it is left alone for a while
    assert len(caplog.records) == 1


def test_what_is_there_stays_and_is_not_brought_again() -> None:
    made = []

    def make(dim: int, metric: int) -> Any:
        made.append(dim)
        return faiss.IndexFlat(dim, metric)

    there = GpuVectors(make, 1 << 30)
    rows = source()
    bits = packed(np.arange(len(rows)) % 10 == 0)
    for _ in range(3):
        there.scan(rows, rows.vectors[:20], 5, None)
        there.scan(rows, rows.vectors[:20], 5, bits)
        there.scan(rows, rows.vectors[:20], 5, packed(np.arange(len(rows)) != 8))
    assert len(made) == 2  # all vectors, and the tenth of them
    assert there.holds(rows, None) and there.holds(rows, bits)
    assert there.held == size(rows) + 4 * 300 * 25


def test_the_longest_unused_makes_room() -> None:
    one, two, three = (source(seed=seed) for seed in range(3))
    there = held_vectors(room=2 * size(one))
    for each in (one, two, one, three):
        there.scan(each, each.vectors[:20], 5, None)
    assert [there.holds(each, None) for each in (one, two, three)] == [True, False, True]
    assert there.held == 2 * size(one)


def test_more_than_there_is_room_for_is_brought_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retr.indexes.gpu.vectors._TILE", 24 * 700)
    monkeypatch.setattr("retr.indexes.gpu.vectors._BLOCK", 24 * 256)
    rows = source()
    for there in (held_vectors(), held_vectors(room=size(rows) - 1)):
        for k in (10, 900):
            got = there.scan(rows, rows.vectors[:30], k, None)
            assert got is not None
            assert_same(got, exact.scan(rows, rows.vectors[:30], k))
    assert there.held == 0


def test_what_nobody_can_search_any_more_goes() -> None:
    there, rows = held_vectors(), source()
    there.scan(rows, rows.vectors[:20], 5, None)
    assert there.held
    del rows
    gc.collect()
    assert there.held == 0


def test_memory_that_others_take_makes_all_else_go(caplog: pytest.LogCaptureFixture) -> None:
    left = [1]

    def make(dim: int, metric: int) -> Any:
        if not left:
            left.append(1)
            raise RuntimeError("Error: 'err == cudaSuccess' failed: out of memory")
        left.pop()
        return faiss.IndexFlat(dim, metric)

    there = GpuVectors(make, 1 << 30)
    one, two = source(seed=1), source(seed=2)
    for each in (one, two):
        assert there.scan(each, each.vectors[:20], 5, None) is not None
    assert [there.holds(each, None) for each in (one, two)] == [False, True]
    assert not caplog.records


def test_no_memory_at_all_is_said(caplog: pytest.LogCaptureFixture) -> None:
    def make(dim: int, metric: int) -> Any:
        raise RuntimeError("Error: 'err == cudaSuccess' failed: out of memory")

    rows = source()
    assert GpuVectors(make, 1 << 30).scan(rows, rows.vectors[:20], 5, None) is None
    (record,) = caplog.records
    assert "out of memory" in record.getMessage()


def test_what_faiss_cannot_find_on_a_gpu_is_not_asked_of_it() -> None:
    rows = source()
    assert GpuVectors.can_search(rows, rows.vectors[:2], 1300)
    assert not GpuVectors.can_search(rows, rows.vectors[:2], MOST_FETCHED)
    huge = ArraySource(np.full((5, 3), 1e30, np.float32), Metric.IP)
    assert not GpuVectors.can_search(huge, huge.take(np.arange(2)), 1)
