"""The ranker of words, and the fusion of two rankers; a search by vectors only imports neither."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..segments.lexical import LexicalSegment, Scoring, Terms
from ..store.shards import Rows, merged_rows
from ..values.fusion import POOL, Fusion, Scores, normalised
from ..values.settings import Bm25
from .ranking import NOTHING, Ranker, Ranking, best

_APART: Final = 1e-6  # of fused scores, whose best are about 1


class LexicalRanker:
    """Ranks rows by their words, or by learned word weights.

    segments: all segments of the role; the statistics count every one.
    queries:  the terms of each of q queries, with their weights.
    bm25:     BM25's constants; None for the inner product of learned weights.
    allowed:  the rows to search, ascending; None searches all that are not deleted.
    dead:     the positions of deleted rows, by segment id.
    """

    def __init__(
        self,
        segments: Sequence[LexicalSegment],
        queries: Sequence[Terms],
        bm25: Bm25 | None,
        allowed: Rows | None,
        dead: Mapping[str, Rows],
    ) -> None:
        # The largest first: rows of the others then have to beat the score of its kth row.
        self.segments = sorted(segments, key=len, reverse=True)
        self._dead = dead
        self._scoring = [Scoring(segments, terms, bm25) for terms in queries]
        self._only = (
            None
            if allowed is None
            else {segment.entry.id: segment.positions(allowed) for segment in segments}
        )

    def rank(
        self,
        segment: LexicalSegment,
        queries: Sequence[int],
        k: int,
        before: Sequence[Sequence[Ranking]],
    ) -> list[Ranking]:
        """Search one segment; a row with none of the words is not a hit."""
        only = None if self._only is None else self._only[segment.entry.id]
        if only is not None and not len(only):
            return [NOTHING] * len(queries)
        never = self._dead.get(segment.entry.id)
        out = []
        for number, query in enumerate(queries):
            floor = _kth([each[number].scores for each in before], k)
            found = segment.search(self._scoring[query], k, only=only, never=never, floor=floor)
            out.append(Ranking(*found))
        return out

    def merge(
        self, found: Sequence[Sequence[Ranking]], queries: Sequence[int], k: int
    ) -> list[Ranking]:
        """Merge the hits of the segments."""
        if not found:
            return [NOTHING] * len(queries)
        return [
            best(
                np.concatenate([ranking.rows for ranking in own]),
                np.concatenate([ranking.scores for ranking in own]),
                k,
            )
            for own in zip(*found, strict=True)
        ]

    def scores(self, query: int, rows: Rows) -> Scores:
        """Score rows by the words they contain, f64[n]; 0 for a row with none of them."""
        out = np.zeros(len(rows))
        order = np.argsort(rows)
        ascending = rows[order]
        for segment in self.segments:
            positions = segment.positions(ascending)
            if len(positions):
                at = np.searchsorted(ascending, segment.rows_at(positions))
                out[order[at]] = segment.scores(self._scoring[query], positions)
        return out

    def wordless(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which of these rows (ascending) have no text, bool[n]."""
        out = np.ones(len(rows), bool)
        for segment in self.segments:
            positions = segment.positions(rows)
            if len(positions):
                out[np.searchsorted(rows, segment.rows_at(positions))] = False
        return out

    def near(self, query: int, row: int, rows: Rows) -> None:
        """Return None: there are no vectors."""
        return None

    def pool_of(self, ranking: Ranking) -> Scores:
        """Return the scores of the best `POOL` hits, and 0 for a row that shares no word."""
        return np.append(ranking.scores[:POOL], 0.0)

    def held(self, query: int, row: int) -> list[str]:
        """Return the terms of a query that a row contains."""
        for segment in self.segments:
            positions = segment.positions(np.array([row], np.int64))
            if len(positions):
                return self._scoring[query].held(segment, int(positions[0]))
        return []

    def found_by(self, query: int, rows: Rows) -> list[str | None]:
        """Return None for every row: none is found by a vector."""
        return [None] * len(rows)


def _kth(scores: Sequence[Scores], k: int) -> float:
    """Return the kth best score, 0 if there are fewer than k."""
    if sum(map(len, scores)) < k:
        return 0.0
    every = np.concatenate(scores)
    return float(np.partition(every, len(every) - k)[len(every) - k])


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The rows that two rankers found, each scored by both.

    rows:         i64[n], ascending.
    dense, words: f64[n], the scores by each ranker.
    *_pool:       the scores that normalise a ranker's scores, descending.
    tier:         i64[n], how deep a row is in the ranking that has it higher: 0 among the best
                  `POOL` hits, 1 among twice as many, 2 among four times as many, and so on.
    wordless:     bool[n], which rows have no text that could contain a word.
    near:         scores all the rows for the vector of one row, as the ranker of vectors does;
                  returns None if there are no vectors.
    """

    rows: Rows
    dense: Scores
    dense_pool: Scores
    words: Scores
    words_pool: Scores
    tier: NDArray[np.int64]
    wordless: NDArray[np.bool_]
    near: Callable[[int], Scores | None]

    def fused(self, fusion: Fusion) -> Scores:
        """Return f64[n], the scores combined.

        With feedback, the vector of the best row is added to that of the query, and the rows found
        so far are scored again (Rocchio, "Relevance feedback in information retrieval", 1971, with
        one document taken as relevant). If no row shares a word with the query, the first scores
        stay. A row without a text, such as an image without a caption, is not penalised for
        lacking the words: its vector's score counts for both rankers.
        """
        first = self._fused(fusion, self.dense, self.dense_pool)
        if not fusion.feedback or not len(self.words_pool):
            return first
        core = self.tier == 0
        near = self.near(int(self.rows[np.argmax(np.where(core, first, -np.inf))]))
        if near is None:
            return first
        # The weighted mean, so that its spread stays that of a single score.
        dense = (self.dense + fusion.feedback * near) / (1 + fusion.feedback)
        pool = np.sort(dense[core & np.isfinite(dense)])[::-1][:POOL]
        return self._fused(fusion, dense, pool)

    def _fused(self, fusion: Fusion, dense: Scores, pool: Scores) -> Scores:
        fused = fusion.fuse(dense, pool, self.words, self.words_pool)
        if not len(self.words_pool) or not self.wordless.any():
            return fused
        return np.where(self.wordless, normalised(dense, pool, fusion.spread), fused)

    def ranked(self, fusion: Fusion, k: int) -> Ranking:
        """Return the best k rows, those of a deeper tier after all others.

        This keeps the first hits the same for every k. A row deep in both rankings may score more
        than the last row of the tier above; its whole tier is then moved down to score less.
        """
        scores = self.fused(fusion)
        order = np.lexsort((self.rows, -scores, self.tier))
        scores, tier = scores[order], self.tier[order]
        for start in np.flatnonzero(np.diff(tier)) + 1:
            above = scores[start] - scores[start - 1]
            scores[tier == tier[start]] -= max(0.0, above + _APART)
        return Ranking(self.rows[order[:k]], scores[:k])


class Fused:
    """The answer of two rankers: both score the rows that either found, and the scores combine."""

    def __init__(self, dense: Ranker, words: Ranker, fusion: Fusion) -> None:
        self.rankers = (dense, words)
        self._fusion = fusion

    def depth(self, k: int) -> int:
        """Return `POOL` or the next of its doubles that is at least k, so that tiers are whole."""
        depth = POOL
        while depth < k:
            depth *= 2
        return depth

    def fuse(
        self, queries: Sequence[int], merged: Sequence[Sequence[Ranking]], k: int
    ) -> list[Ranking]:
        """Return the best k of the rows that either ranker found, for each query."""
        return [pool.ranked(self._fusion, k) for pool in self.pools(queries, merged)]

    def pools(self, queries: Sequence[int], merged: Sequence[Sequence[Ranking]]) -> list[Pool]:
        """Return, for each query, the rows that either ranker found, scored by both."""
        return [self._pool(*each) for each in zip(queries, *merged, strict=True)]

    def _pool(self, query: int, dense: Ranking, words: Ranking) -> Pool:
        rows = merged_rows([dense.rows, words.rows])
        tier = np.full(len(rows), np.iinfo(np.int64).max)
        for found in (dense, words):
            at = np.searchsorted(rows, found.rows)
            tier[at] = np.minimum(tier[at], _tiers(len(at)))
        by_dense, by_words = self.rankers
        return Pool(
            rows,
            _completed(by_dense, query, dense, rows),
            by_dense.pool_of(dense),
            _completed(by_words, query, words, rows),
            words.scores[:POOL],
            tier,
            by_words.wordless(rows),
            lambda row: by_dense.near(query, row, rows),
        )


def _tiers(n: int) -> NDArray[np.int64]:
    """Return the tier of each place of a ranking, i64[n]: `POOL` zeros, `POOL` ones, then twos."""
    return np.frexp(np.arange(n) // POOL)[1].astype(np.int64)


def _completed(ranker: Ranker, query: int, known: Ranking, rows: Rows) -> Scores:
    """Return the scores of rows (ascending), some of which the ranker has found already."""
    out = np.empty(len(rows))
    there = np.zeros(len(rows), bool)
    at = np.searchsorted(rows, known.rows)
    out[at] = known.scores
    there[at] = True
    if not there.all():
        out[~there] = ranker.scores(query, rows[~there])
    return out
