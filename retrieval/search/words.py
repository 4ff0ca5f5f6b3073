"""The ranker of words, and the fusion of two rankers; a search by vectors alone imports neither."""

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
    """Ranks rows by their words, or by learned weights of words.

    segments: those of the role, of every one of which the statistics count.
    queries:  the terms that each of q queries asks for, with their weights.
    bm25:     the constants; None for the inner product of learned weights.
    allowed:  the only rows allowed, ascending; None allows all that are not deleted.
    dead:     the positions of deleted rows, by the segment's id.
    """

    def __init__(
        self,
        segments: Sequence[LexicalSegment],
        queries: Sequence[Terms],
        bm25: Bm25 | None,
        allowed: Rows | None,
        dead: Mapping[str, Rows],
    ) -> None:
        # The largest first: what its kth row scores, a row of another has to reach.
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
        """Search one segment; a row that holds none of the words is no hit."""
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
        """Merge what the segments found."""
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
        """Score rows by the words they hold; 0 for a row that holds none."""
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
        """Return which of some rows (ascending) have no text here, bool[n]."""
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
        """Return the scores of the best `POOL` hits, and 0: a row with no word in common."""
        return np.append(ranking.scores[:POOL], 0.0)

    def held(self, query: int, row: int) -> list[str]:
        """Return the terms of a query that a row holds."""
        for segment in self.segments:
            positions = segment.positions(np.array([row], np.int64))
            if len(positions):
                return self._scoring[query].held(segment, int(positions[0]))
        return []

    def found_by(self, query: int, rows: Rows) -> list[str | None]:
        """Return that no row is found by a vector."""
        return [None] * len(rows)


def _kth(scores: Sequence[Scores], k: int) -> float:
    """Return the kth best of some scores, 0 if there are fewer."""
    if sum(map(len, scores)) < k:
        return 0.0
    every = np.concatenate(scores)
    return float(np.partition(every, len(every) - k)[len(every) - k])


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The rows that two rankers found, each scored by both.

    rows:         i64[n], ascending.
    dense, words: f64[n], their scores by each ranker.
    *_pool:       the scores that those of a ranker are normalised by, descending.
    tier:         i64[n], how deep in either ranking: 0 for a row among the best `POOL` hits, 1
                  for one that twice as many hits bring, 2 for four times as many, and so on.
    wordless:     bool[n], which rows have no text that could hold a word.
    near:         how the ranker of vectors scores all the rows for the vector of one; it returns
                  None if there are no vectors.
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

        With feedback, the ranker of vectors looks again with the vector of the best row added to
        that of the query (Rocchio, "Relevance feedback in information retrieval", 1971, with one
        document taken for relevant), among the rows found already. A query that no word answers
        is ranked by the one look. A row without a text, such as an image without a caption, is
        not one that lacks the words: its vector speaks for both.
        """
        first = self._fused(fusion, self.dense, self.dense_pool)
        if not fusion.feedback or not len(self.words_pool):
            return first
        core = self.tier == 0
        near = self.near(int(self.rows[np.argmax(np.where(core, first, -np.inf))]))
        if near is None:
            return first
        # Their mean, so that its spread is that of one look.
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

        So the first hits are the same however many are asked for: what lies deep in both rankings
        may well score more than the last of the rows before. Such a tier is moved down as a
        whole, to score less than they do.
        """
        scores = self.fused(fusion)
        order = np.lexsort((self.rows, -scores, self.tier))
        scores, tier = scores[order], self.tier[order]
        for start in np.flatnonzero(np.diff(tier)) + 1:
            above = scores[start] - scores[start - 1]
            scores[tier == tier[start]] -= max(0.0, above + _APART)
        return Ranking(self.rows[order[:k]], scores[:k])


class Fused:
    """The answer of two rankers: their pools scored by both, and the scores combined."""

    def __init__(self, dense: Ranker, words: Ranker, fusion: Fusion) -> None:
        self.rankers = (dense, words)
        self._fusion = fusion

    def depth(self, k: int) -> int:
        """Return at least `POOL`: tiers are whole, or more hits would bring others of a tier."""
        depth = POOL
        while depth < k:
            depth *= 2
        return depth

    def fuse(
        self, queries: Sequence[int], merged: Sequence[Sequence[Ranking]], k: int
    ) -> list[Ranking]:
        """Return the best k of the rows that either ranker found."""
        return [pool.ranked(self._fusion, k) for pool in self.pools(queries, merged)]

    def pools(self, queries: Sequence[int], merged: Sequence[Sequence[Ranking]]) -> list[Pool]:
        """Return the rows that either ranker found for each query, scored by both."""
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
    """Return i64[n], the tier of each place of a ranking: 0 a hundred times, then 1 as often."""
    return np.frexp(np.arange(n) // POOL)[1].astype(np.int64)


def _completed(ranker: Ranker, query: int, known: Ranking, rows: Rows) -> Scores:
    """Return the scores of rows (ascending), of which a ranker has found some already."""
    out = np.empty(len(rows))
    there = np.zeros(len(rows), bool)
    at = np.searchsorted(rows, known.rows)
    out[at] = known.scores
    there[at] = True
    if not there.all():
        out[~there] = ranker.scores(query, rows[~there])
    return out
