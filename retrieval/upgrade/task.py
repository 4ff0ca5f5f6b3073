"""The task that candidates are measured on: queries made from pairs, and the rows they search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..bridges.maps import Doubles, Floats, similarities, unit_rows
from .pairs import Pairs

T = TypeVar("T")
Rows = NDArray[np.int64]
Score = Callable[[T, Floats, Pairs], Floats]
"""Scores n pairs with a candidate for queries f32[q, d] of the new space; returns f32[q, n]."""

BLURS = (0.35, 0.49)
"""The share of another document blended into a query; a half would leave open which is meant."""

DEPTH = 10
MOST_ROWS = 2_000
MOST_QUERIES = 1_000  # of each kind


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Queries and the rows they search, each row scored by a candidate that has not seen it.

    rows:    i64[b], the pairs that are searched.
    parts:   for each fold, positions in `rows`.
    queries: f32[q, d], in the new space: documents blended with others, and sample queries.
    first:   i64[q], the position of the row that the new model puts first.
    asked:   i64[a], the positions of the rows that serve as queries when agreement is measured;
             sample queries come after them.
    """

    pairs: Pairs
    rows: Rows
    parts: Sequence[Rows]
    queries: Floats
    first: Rows
    asked: Rows

    @classmethod
    def of(cls, pairs: Pairs, parts: Sequence[Rows], seed: int) -> Task:
        """Draw rows and queries, as many as are needed to tell candidates apart."""
        random = np.random.default_rng(seed)
        rows = np.sort(random.permutation(len(pairs))[:MOST_ROWS])
        own = [np.flatnonzero(np.isin(rows, part)) for part in parts]
        asked = np.sort(random.permutation(len(rows))[:MOST_QUERIES])
        vectors = pairs.new[rows]
        made = [_blurred(vectors, asked, share, pairs.unit, random) for share in BLURS]
        if pairs.new_queries is not None:
            made.append(pairs.new_queries[:MOST_QUERIES])
        queries = np.concatenate(made)
        first = np.argmax(similarities(queries, vectors, pairs.new_metric), axis=1)
        return cls(pairs, rows, own, queries, first, asked)

    def scores(
        self,
        made: Sequence[T],
        score: Score[T],
        *,
        queries: Floats | None = None,
        done: Rows | None = None,
    ) -> Floats:
        """Return the scores f32[q, b] of every row by the candidate that has not seen it.

        made:    the candidate of each fold.
        queries: f32[q, d]; None uses those of the task.
        done:    positions of rows that score by their new vectors, as after a backfill.
        """
        queries = self.queries if queries is None else queries
        out = np.empty((len(queries), len(self.rows)), np.float32)
        for value, part in zip(made, self.parts, strict=True):
            out[:, part] = score(value, queries, self.pairs.take(self.rows[part]))
        if done is not None:
            new = self.pairs.new[self.rows[done]]
            out[:, done] = similarities(queries, new, self.pairs.new_metric)
        return out

    def found(self, scores: Floats) -> Doubles:
        """Return one over the rank of the row that the new model puts first, f64[q].

        Rows with equal scores share their mean rank, so that constant scores gain nothing.
        """
        mine = np.take_along_axis(scores, self.first[:, None], axis=1)
        above = (scores > mine).sum(axis=1)
        ties = (scores == mine).sum(axis=1) - 1
        ranks: Doubles = 1 / (1 + above + ties / 2)
        return ranks

    def found_within(self, scores: Floats) -> Doubles:
        """Return the same as `found`, among the rows of the first row's own fold only, f64[q]."""
        fold = np.empty(len(self.rows), np.int64)
        for number, part in enumerate(self.parts):
            fold[part] = number
        same = fold == fold[self.first][:, None]
        return self.found(np.where(same, scores, -np.inf))

    def shuffled(self, scores: Floats, seed: int) -> Floats:
        """Return the scores f32[q, b] with each fold's rows shuffled: what chance would find."""
        random = np.random.default_rng(seed)
        order = np.arange(len(self.rows))
        for part in self.parts:
            order[part] = random.permutation(part)
        return scores[:, order]

    def agreement(self, made: Sequence[T], score: Score[T], *, done: Rows | None = None) -> Doubles:
        """Return the share of the new model's best rows among a candidate's best, f64[a + s]."""
        queries, own = self._plain()
        truth = similarities(queries, self.pairs.new[self.rows], self.pairs.new_metric)
        return agreement(self.scores(made, score, queries=queries, done=done), truth, own)

    def old_agreement(self) -> Doubles:
        """Return the same as `agreement` for the old model's own ranking, f64[a + s]."""
        queries, own = self._plain()
        truth = similarities(queries, self.pairs.new[self.rows], self.pairs.new_metric)
        old = self.pairs.old[self.rows]
        mine = old[self.asked]
        if self.pairs.old_queries is not None:
            mine = np.concatenate([mine, self.pairs.old_queries[:MOST_QUERIES]])
        return agreement(similarities(mine, old, self.pairs.old_metric), truth, own)

    def _plain(self) -> tuple[Floats, Rows]:
        """Return documents and sample queries, and which row each one is itself (-1 for none)."""
        queries, own = self.pairs.new[self.rows[self.asked]], self.asked
        if self.pairs.new_queries is not None:
            sample = self.pairs.new_queries[:MOST_QUERIES]
            queries = np.concatenate([queries, sample])
            own = np.concatenate([own, np.full(len(sample), -1)])
        return queries, own


def agreement(
    scores: Floats, truth: Floats, own: Rows | None = None, depth: int = DEPTH
) -> Doubles:
    """Return the share of the best `depth` rows by `truth` that are also best by `scores`, f64[q].

    scores, truth: f32[q, n]; at most a quarter of the rows are compared.
    own:           i64[q], the row that is the query itself and does not count; -1 for none.
    """
    depth = max(1, min(depth, (scores.shape[1] - 1) // 4))
    both = _best(scores, own, depth) & _best(truth, own, depth)
    shared: Doubles = both.sum(axis=1) / depth
    return shared


def _best(scores: Floats, own: Rows | None, depth: int) -> NDArray[np.bool_]:
    scores = scores.copy()
    if own is not None:
        there = np.flatnonzero(own >= 0)
        scores[there, own[there]] = -np.inf
    top = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
    out = np.zeros(scores.shape, bool)
    np.put_along_axis(out, top, True, axis=1)
    return out


def _blurred(
    vectors: Floats, rows: Rows, share: float, unit: bool, random: np.random.Generator
) -> Floats:
    """Return the vectors of some rows, each blended with a share of another row's vector."""
    others = random.integers(0, len(vectors) - 1, len(rows))
    others += others >= rows  # never itself
    out: Floats = ((1 - share) * vectors[rows] + share * vectors[others]).astype(np.float32)
    return unit_rows(out) if unit else out
