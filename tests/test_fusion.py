"""Fusion: two rankings become one, whatever is odd about either."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from retr.retrieval.search.rankers import merged
from retr.retrieval.search.ranking import Ranking, best
from retr.retrieval.search.words import Fused
from retr.retrieval.values.fusion import POOL, Fusion, default_fusion, normalised, normalised_words
from retr.retrieval.values.settings import Settings

Scores = NDArray[np.float64]
HALF = Fusion(0.5)
NONE = np.empty(0)


def scores_of(*values: float) -> Scores:
    return np.array(values, np.float64)


def test_the_best_of_a_pool_is_one() -> None:
    pool = scores_of(9, 5, 1)
    assert normalised(scores_of(9, 5, 1, -3), pool).tolist() == [1, 0.5, 0, -0.5]
    assert normalised_words(scores_of(9, 4.5, 0), pool).tolist() == [1, 0.5, 0]


@pytest.mark.parametrize("pool", [NONE, scores_of(3), scores_of(3, 3, 3), scores_of(-1, -1)])
def test_a_side_that_does_not_tell_rows_apart_counts_for_nothing(pool: Scores) -> None:
    """Empty, of one hit, or constant: the ranking is the other side's."""
    words = scores_of(2, 8, 4)
    dense = np.full(3, pool[0] if len(pool) else -np.inf)
    fused = HALF.fuse(dense, pool, words, scores_of(8, 4, 2))
    assert fused.tolist() == [0.125, 0.5, 0.25]


def test_what_scores_usually_span_takes_the_place_of_what_they_do() -> None:
    """A query whose hits the encoder hardly tells apart is left to the words; others are not."""
    words, own = scores_of(8, 7, 6), Fusion(0.5)
    usual = Fusion(0.5, spread=0.4)
    for dense, first in ((scores_of(0.50, 0.51, 0.52), 0), (scores_of(0.2, 0.4, 0.6), 2)):
        pools = -np.sort(-dense), words
        assert own.fuse(dense, pools[0], words, pools[1]).argmax() == 2
        assert usual.fuse(dense, pools[0], words, pools[1]).argmax() == first
    assert normalised(scores_of(0.9, 0.5, 0.3), scores_of(0.9, 0.5), 0.2).tolist() == (
        pytest.approx([2, 0, -1])
    )
    assert normalised(scores_of(0.5, 0.4), scores_of(0.5), 0.2).tolist() == [0, 0]


def stored(fusion: Fusion) -> Any:
    return json.loads(json.dumps(Settings(fusion=fusion).to_json()))


def test_a_spread_is_stored_and_that_of_the_newer_encoder_holds() -> None:
    usual = Fusion(0.25, feedback=1.0, spread=0.22)
    assert Settings.of(stored(usual)).fusion == usual
    before = {"weight": 0.25, "fitted": "default", "feedback": 0.75}  # as collections have it
    assert Settings.of({"fusion": before}).fusion == Fusion(0.25, feedback=0.75)
    assert usual.blended(Fusion(0.5, feedback=0.5), 0.5).spread == 0.22
    assert Fusion(0.5).blended(usual, 0.5).spread is None


def test_no_words_in_common_leaves_the_encoder_to_rank() -> None:
    dense = scores_of(0.3, 0.9, 0.6)
    fused = HALF.fuse(dense, scores_of(0.9, 0.6, 0.3), np.zeros(3), NONE)
    assert fused == pytest.approx([0, 0.5, 0.25])


def test_weights() -> None:
    assert (default_fusion("static").weight, default_fusion("st").weight) == (0.25, 0.5)
    fitted = Fusion(0.31, "judged queries")
    assert Settings.of(stored(fitted)).fusion == fitted
    assert Settings.of({}).fusion is None
    dense, words = scores_of(1, 0), scores_of(0, 1)
    pools = scores_of(1, 0), scores_of(1)
    assert Fusion(0.3).fuse(dense, pools[0], words, pools[1]) == pytest.approx([0.3, 0.7])


def arrays(low: float, high: float) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(low, high), min_size=1, max_size=30)


@settings(max_examples=200, deadline=None)
@given(arrays(-1e6, 1e6), arrays(0, 1e6), st.floats(0, 1))
def test_fused_scores_are_numbers(dense: list[float], words: list[float], weight: float) -> None:
    n = min(len(dense), len(words))
    by_dense, by_words = scores_of(*dense[:n]), scores_of(*words[:n])
    pool = -np.sort(-by_words[by_words > 0])
    fused = Fusion(weight).fuse(by_dense, -np.sort(-by_dense), by_words, pool)
    assert np.isfinite(fused).all()
    assert ((fused >= -1e-9) & (fused <= 1 + 1e-9)).all()


# --- two rankers fused


class Known:
    """A ranker of one segment whose score of each row is known; a row with none is never a hit."""

    segments = (None,)

    def __init__(self, scores: Scores, missing: float) -> None:
        self._scores = scores
        self._missing = missing

    def rank(
        self, segment: None, queries: Sequence[int], k: int, before: Sequence[list[Ranking]]
    ) -> list[Ranking]:
        there = np.flatnonzero(self._scores != self._missing)
        return [best(there, self._scores[there], k) for _ in queries]

    def merge(
        self, found: Sequence[list[Ranking]], queries: Sequence[int], k: int
    ) -> list[Ranking]:
        (only,) = found
        return only

    def scores(self, query: int, rows: NDArray[np.int64]) -> Scores:
        return self._scores[rows]

    def near(self, query: int, row: int, rows: NDArray[np.int64]) -> None:
        return None

    def pool_of(self, ranking: Ranking) -> Scores:
        return ranking.scores[:POOL]

    def wordless(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.zeros(len(rows), bool)

    def held(self, query: int, row: int) -> list[str]:
        return []

    def found_by(self, query: int, rows: NDArray[np.int64]) -> list[str | None]:
        return [None] * len(rows)


def hits(answer: Fused, k: int) -> Ranking:
    """Rank, merge and fuse for one query, as the search path does."""
    found = [merged(ranker, [0], answer.depth(k)) for ranker in answer.rankers]
    (ranking,) = answer.fuse([0], found, k)
    return ranking


def known(seed: int, rows: int, in_words: float) -> tuple[Known, Known]:
    random = np.random.default_rng(seed)
    dense = random.normal(0.3, 0.2, rows).round(2)
    words = random.exponential(3, rows).round(1) * (random.random(rows) < in_words)
    return Known(dense, -np.inf), Known(words, 0.0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    rows=st.sampled_from([1, 2, 50, 150, 2000]),
    in_words=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    weight=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    k=st.integers(1, 5 * POOL),
    further=st.integers(0, 8 * POOL),
)
def test_fewer_hits_are_the_first_of_more(
    seed: int, rows: int, in_words: float, weight: float, k: int, further: int
) -> None:
    fused = Fused(*known(seed, rows, in_words), Fusion(weight))
    few, more = hits(fused, k), hits(fused, k + further)
    assert few.rows.tolist() == more.rows[:k].tolist()
    assert few.scores.tolist() == more.scores[:k].tolist()
    assert len(few.rows) == min(k, rows)
    assert (np.diff(few.scores) <= 0).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), rows=st.integers(1, POOL), weight=st.floats(0, 1))
def test_few_rows_are_ranked_by_the_formula(seed: int, rows: int, weight: float) -> None:
    """Where the pools hold all rows there is nothing to miss."""
    random = np.random.default_rng(seed)
    dense, words = random.normal(size=rows), random.exponential(size=rows)
    fused = Fused(Known(dense, -np.inf), Known(words, 0.0), Fusion(weight))
    spread = dense.max() - dense.min()
    expected = (1 - weight) * words / words.max()
    if spread:
        expected += weight * (dense - dense.min()) / spread
    found = hits(fused, POOL)
    assert found.scores == pytest.approx(expected[found.rows], abs=1e-12)
    assert found.scores == pytest.approx(-np.sort(-expected), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), scale=st.floats(0.01, 100), shift=st.floats(-5, 5))
def test_the_units_of_a_side_do_not_matter(seed: int, scale: float, shift: float) -> None:
    random = np.random.default_rng(seed)
    dense, words = random.normal(size=500), random.exponential(size=500)
    plain = Fused(Known(dense, -np.inf), Known(words, 0.0), HALF)
    other = Fused(Known(scale * dense + shift, -np.inf), Known(scale * words, 0.0), HALF)
    one, two = hits(plain, 50), hits(other, 50)
    assert one.scores == pytest.approx(two.scores, abs=1e-9)


def test_rows_without_a_vector_are_found_by_their_words() -> None:
    """And come after all that have as many words and a vector."""
    dense = np.array([0.9, 0.1, -np.inf, 0.5])
    words = np.array([0.0, 1.0, 5.0, 1.0])
    for weight in (0.0, 0.5, 1.0):
        fused = Fused(Known(dense, -np.inf), Known(words, 0.0), Fusion(weight))
        found = hits(fused, 10)
        assert not np.isnan(found.scores).any()
        assert sorted(found.rows.tolist()) == [0, 1, 2, 3]
