"""The sides of a search: what one role's segments say, merged across segments.

A side answers with rows of the collection and a score for each, best first; it can also score any
rows it is given. So the fusion of two sides is a side as well, and the search path needs no cases.
Here is that of the vectors; those of the words, and the fusion, are in word_sides.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ...indexes.topk import merge_hits
from ..encoders.base import TEXT
from ..segments.dense import DenseSegment, allow
from ..segments.snapshot import Snapshot
from ..store.shards import Rows
from .views import Views

if TYPE_CHECKING:
    from ..values.fusion import Scores


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The hits of one query, best first.

    rows:   i64[n].
    scores: f64[n], descending; equal scores stand in ascending order of their rows.
    """

    rows: Rows
    scores: Scores


NOTHING = Ranking(np.empty(0, np.int64), np.empty(0, np.float64))


class Side(Protocol):
    """Ranks the rows of a snapshot for the queries of a block."""

    def hits(self, queries: Sequence[int], k: int) -> list[Ranking]:
        """Return the best k rows of each of some queries, named by their place in the block."""
        ...

    def scores(self, query: int, rows: Rows) -> Scores:
        """Return the score of each row for one query, f64[len(rows)]."""
        ...


class DenseSide:
    """The vectors of the rows.

    views:   how the q queries look from each segment.
    given:   bool[q]: which of the queries have a vector; the others find nothing.
    allowed: the only rows allowed, ascending; None allows all that are not deleted.
    recall:  what of the true best the indexes are to find; None is what they are set to.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        views: Views,
        given: NDArray[np.bool_],
        allowed: Rows | None,
        recall: float | None = None,
    ) -> None:
        self._recall = recall
        self._snapshot = snapshot
        self._views = views
        self._given = given
        self._allowed = allowed

    def hits(self, queries: Sequence[int], k: int) -> list[Ranking]:
        """Search every dense segment and merge."""
        out = [NOTHING] * len(queries)
        asked = [i for i, query in enumerate(queries) if self._given[query]]
        if not asked:
            return out
        wanted = [queries[i] for i in asked]
        found = []
        snapshot = self._snapshot
        for segment, findable in zip(snapshot.dense, snapshot.findable, strict=True):
            allowed = findable
            if self._allowed is not None:
                allowed = allow(len(segment), only=segment.positions(self._allowed))
                if findable is not None:
                    allowed &= findable
            if allowed is not None and not allowed.any():
                continue
            view = self._views.of(segment).of(wanted)
            hits = segment.search(view.queries, k, allowed=allowed, recall=self._recall)
            found.append(view.calibrated(hits))
        if found:
            # A row with an image and a text is found by either: it counts by the better one.
            often = len(snapshot.modalities)
            merged = merge_hits(found, k * often)
            for number, i in enumerate(asked):
                there = merged.positions[number] >= 0
                scores = merged.scores[number][there].astype(np.float64)
                ranking = Ranking(merged.positions[number][there], scores)
                out[i] = ranking if often == 1 else _once(ranking, k)
        return out

    def scores(self, query: int, rows: Rows) -> Scores:
        """Score rows by their stored vectors; -inf for a row that has none."""
        if not self._given[query]:
            return np.full(len(rows), -np.inf)
        return self._score(self._views, query, rows)

    def near(self, query: int, row: int, rows: Rows) -> Scores:
        """Score rows by the vector of one row, at the length of the query; 0 where it has none.

        Of a row with an image and a text it is the vector of the text.
        """
        found = None
        for segment in self._snapshot.dense:
            position = self._found_in(segment, np.array([row], np.int64))
            if len(position) and (found is None or segment.entry.modality == TEXT):
                found = segment, segment.matrix[position[0]].astype(np.float32)
        views = None if found is None else self._views.near(query, *found)
        return np.zeros(len(rows)) if views is None else self._score(views, 0, rows)

    def found_by(self, query: int, rows: Rows) -> list[str | None]:
        """Return of each row whether its image or its text scores; None where all are of one."""
        known = sorted(self._snapshot.modalities)
        if len(known) < 2 or not self._given[query]:
            return [None] * len(rows)
        scores = np.stack([self._score(self._views, query, rows, each) for each in known])
        best_of = zip(scores.argmax(axis=0).tolist(), scores.max(axis=0).tolist(), strict=True)
        return [known[at] if np.isfinite(score) else None for at, score in best_of]

    def _score(self, views: Views, query: int, rows: Rows, modality: str | None = None) -> Scores:
        out = np.full(len(rows), -np.inf)
        order = np.argsort(rows)
        ascending = rows[order]
        for segment in self._snapshot.dense:
            if modality is not None and segment.entry.modality != modality:
                continue
            positions = self._found_in(segment, ascending)
            if len(positions):
                at = np.searchsorted(ascending, segment.rows_at(positions))
                view = views.of(segment)
                scores = segment.score(view.queries[query], positions)
                into = order[at]
                out[into] = np.maximum(out[into], view.calibrate(query, scores))
        return out

    def _found_in(self, segment: DenseSegment, rows: Rows) -> Rows:
        """Return the positions of those of some rows (ascending) that are to be found here."""
        positions = segment.positions(rows)
        if segment.entry.superseded is None or not len(positions):
            return positions
        here: Rows = positions[~self._snapshot.superseded_at(segment, positions)]
        return here


class EachItsOwn:
    """A side for each query, so that a query finds the same alone and among others.

    sides: q of them, of few kinds.
    """

    def __init__(self, sides: Sequence[Side]) -> None:
        self._sides = sides

    def hits(self, queries: Sequence[int], k: int) -> list[Ranking]:
        """Ask each side once."""
        found: dict[int, Ranking] = {}
        for side in {id(self._sides[query]): self._sides[query] for query in queries}.values():
            own = [query for query in queries if self._sides[query] is side]
            found.update(zip(own, side.hits(own, k), strict=True))
        return [found[query] for query in queries]

    def scores(self, query: int, rows: Rows) -> Scores:
        """Score rows as `hits` does."""
        return self._sides[query].scores(query, rows)


def _once(ranking: Ranking, k: int) -> Ranking:
    """Return the best k rows of a ranking in which a row may stand twice."""
    order = np.argsort(ranking.rows, kind="stable")  # the better one of a row first
    rows = ranking.rows[order]
    first = np.append(True, rows[1:] != rows[:-1])[: len(rows)]
    kept = np.sort(order[first])[:k]
    return Ranking(ranking.rows[kept], ranking.scores[kept])


def best(rows: Rows, scores: Scores, k: int) -> Ranking:
    """Return the k best of some rows; equal scores in ascending order of rows."""
    order = np.lexsort((rows, -scores))[:k]
    return Ranking(rows[order], scores[order])
