"""The side of the words, and its fusion with another; a search by vectors alone imports neither."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..segments.lexical import LexicalSegment, Scoring, Terms, search_all
from ..segments.snapshot import Snapshot
from ..store.shards import Rows, merged_rows
from ..values.fusion import POOL, Fusion, Scores, normalised
from ..values.settings import Bm25
from .rankers import NOTHING, DenseSide, Ranking, Side

_APART: Final = 1e-6  # of fused scores, whose best are about 1


class LexicalSide:
    """The words of the rows, or the learned weights of words.

    queries: what each of q queries asks for.
    bm25:    the constants, None for the inner product of learned weights.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        segments: Sequence[LexicalSegment],
        queries: Sequence[Terms],
        bm25: Bm25 | None,
        allowed: Rows | None,
    ) -> None:
        self._segments = segments
        self._dead = snapshot.dead_words
        self._scoring = [Scoring(segments, terms, bm25) for terms in queries]
        self._only = (
            None
            if allowed is None
            else {segment.entry.id: segment.positions(allowed) for segment in segments}
        )

    def hits(self, queries: Sequence[int], k: int) -> list[Ranking]:
        """Search every segment and merge; a row that holds none of the words is no hit."""
        return [
            Ranking(*search_all(self._segments, self._scoring[query], k, self._only, self._dead))
            for query in queries
        ]

    def scores(self, query: int, rows: Rows) -> Scores:
        """Score rows by the words they hold; 0 for a row that holds none."""
        out = np.zeros(len(rows))
        order = np.argsort(rows)
        ascending = rows[order]
        for segment in self._segments:
            positions = segment.positions(ascending)
            if len(positions):
                at = np.searchsorted(ascending, segment.rows_at(positions))
                out[order[at]] = segment.scores(self._scoring[query], positions)
        return out

    def wordless(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which of some rows (ascending) have no text here, bool[n]."""
        out = np.ones(len(rows), bool)
        for segment in self._segments:
            positions = segment.positions(rows)
            if len(positions):
                out[np.searchsorted(rows, segment.rows_at(positions))] = False
        return out

    def held(self, query: int, row: int) -> list[str]:
        """Return the terms of a query that a row holds."""
        for segment in self._segments:
            positions = segment.positions(np.array([row], np.int64))
            if len(positions):
                return self._scoring[query].held(segment, int(positions[0]))
        return []


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """What two sides say of the same rows.

    rows:         i64[n], ascending.
    dense, words: f64[n], their scores on each side.
    *_pool:       the scores of the side's own best hits, descending, at most `POOL`.
    tier:         i64[n], how deep on either side: 0 for a row among those best hits, 1 for one that
                  twice as many hits bring, 2 for four times as many, and so on.
    wordless:     bool[n], which rows have no text that could hold a word.
    near:         how the encoder's side scores all the rows for the vector of one; None where it
                  has no vectors.
    """

    rows: Rows
    dense: Scores
    dense_pool: Scores
    words: Scores
    words_pool: Scores
    tier: NDArray[np.int64]
    wordless: NDArray[np.bool_]
    near: Callable[[int], Scores] | None = None

    def fused(self, fusion: Fusion) -> Scores:
        """Return f64[n], the scores combined.

        With feedback, the encoder's side looks again with the vector of the best row added to
        that of the query (Rocchio, "Relevance feedback in information retrieval", 1971, with one
        document taken for relevant), among the rows found already. A query that no word answers
        is ranked by the one look. A row without a text, such as an image without a caption, is
        not one that lacks the words: the vectors' side speaks for both.
        """
        first = self._fused(fusion, self.dense, self.dense_pool)
        if self.near is None or not fusion.feedback or not len(self.words_pool):
            return first
        core = self.tier == 0
        seed = int(self.rows[np.argmax(np.where(core, first, -np.inf))])
        # Their mean, so that its spread is that of one look.
        dense = (self.dense + fusion.feedback * self.near(seed)) / (1 + fusion.feedback)
        pool = np.sort(dense[core & np.isfinite(dense)])[::-1][:POOL]
        return self._fused(fusion, dense, pool)

    def _fused(self, fusion: Fusion, dense: Scores, pool: Scores) -> Scores:
        fused = fusion.fuse(dense, pool, self.words, self.words_pool)
        if not len(self.words_pool) or not self.wordless.any():
            return fused
        return np.where(self.wordless, normalised(dense, pool, fusion.spread), fused)

    def ranked(self, fusion: Fusion, k: int) -> Ranking:
        """Return the best k rows, those of a deeper tier after all others.

        So the first hits are the same however many are asked for: what lies deep on both sides
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


class FusedSide:
    """Two sides, their candidates merged and their scores combined."""

    def __init__(self, dense: Side, words: Side, fusion: Fusion) -> None:
        self._dense = dense
        self._words = words
        self._fusion = fusion

    def hits(self, queries: Sequence[int], k: int) -> list[Ranking]:
        """Fuse at least the best `POOL` rows of each side."""
        depth = POOL
        while depth < k:
            depth *= 2  # tiers are whole, or more hits would bring others of the same tier
        return [each.ranked(self._fusion, k) for each in self.candidates(queries, depth)]

    def candidates(self, queries: Sequence[int], depth: int) -> list[Candidates]:
        """Return the best `depth` rows of each side, scored on both."""
        both = zip(
            queries,
            self._dense.hits(queries, depth),
            self._words.hits(queries, depth),
            strict=True,
        )
        return [self._candidates(query, dense, words) for query, dense, words in both]

    def _candidates(
        self, query: int, dense: Ranking, words: Ranking, others: Rows = NOTHING.rows
    ) -> Candidates:
        rows = merged_rows([dense.rows, words.rows, others])
        tier = np.full(len(rows), np.iinfo(np.int64).max)
        for found in (dense, words):
            at = np.searchsorted(rows, found.rows)
            tier[at] = np.minimum(tier[at], _tiers(len(at)))
        side = self._dense
        return Candidates(
            rows,
            _completed(self._dense, query, dense, rows),
            self._dense_pool(dense),
            _completed(self._words, query, words, rows),
            words.scores[:POOL],
            tier,
            self._wordless(rows),
            (lambda row: side.near(query, row, rows)) if isinstance(side, DenseSide) else None,
        )

    def scores(self, query: int, rows: Rows) -> Scores:
        """Score rows as `hits` does."""
        (dense,) = self._dense.hits([query], POOL)
        (words,) = self._words.hits([query], POOL)
        found = self._candidates(query, dense, words, rows)
        return found.fused(self._fusion)[np.searchsorted(found.rows, rows)]

    def _wordless(self, rows: Rows) -> NDArray[np.bool_]:
        if isinstance(self._words, LexicalSide):
            return self._words.wordless(rows)
        return np.zeros(len(rows), bool)

    def _dense_pool(self, found: Ranking) -> Scores:
        """Return the scores that those of the encoder's side are normalised by."""
        pool = found.scores[:POOL]
        # Weights of words have a zero that means something: no word in common.
        return np.append(pool, 0.0) if isinstance(self._dense, LexicalSide) else pool


def _tiers(n: int) -> NDArray[np.int64]:
    """Return i64[n], the tier of each place of a ranking: 0 a hundred times, then 1 as often."""
    return np.frexp(np.arange(n) // POOL)[1].astype(np.int64)


def _completed(side: Side, query: int, known: Ranking, rows: Rows) -> Scores:
    """Return the scores of rows (ascending), of which a side has found some already."""
    out = np.empty(len(rows))
    there = np.zeros(len(rows), bool)
    at = np.searchsorted(rows, known.rows)
    out[at] = known.scores
    there[at] = True
    if not there.all():
        out[~there] = side.scores(query, rows[~there])
    return out
