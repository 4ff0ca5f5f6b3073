"""The ranker of vectors: each dense segment is searched through a view of the queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...indexes.base import Hits
from ...indexes.topk import merge_hits
from ..encoders.base import TEXT
from ..segments.dense import DenseSegment, allow
from ..segments.snapshot import Snapshot
from ..store.shards import Rows
from ..values.fusion import POOL, Scores
from .ranking import NOTHING, Ranker, Ranking
from .views import Views


class DenseRanker:
    """Ranks rows by their vectors.

    views:   each segment's view of the q queries.
    given:   bool[q], which queries have a vector; the others find nothing.
    allowed: the rows to search, ascending; None searches all that are not deleted.
    recall:  target recall of the indexes (0 to 1); None uses each index's own setting.
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

    @property
    def segments(self) -> list[DenseSegment]:
        """The dense segments of every space and modality."""
        return self._snapshot.dense

    def rank(
        self, segment: DenseSegment, queries: Sequence[int], k: int, before: Sequence[Hits | None]
    ) -> Hits | None:
        """Search one segment for the queries that have a vector.

        Returns None if no query has one, or if the segment has no row to search.
        """
        given = [query for query in queries if self._given[query]]
        allowed = self._snapshot.findable[len(before)]
        if self._allowed is not None:
            only = allow(len(segment), only=segment.positions(self._allowed))
            allowed = only if allowed is None else only & allowed
        if not given or (allowed is not None and not allowed.any()):
            return None
        view = self._views.of(segment).of(given)
        return view.calibrated(
            segment.search(view.queries, k, allowed=allowed, recall=self._recall)
        )

    def merge(self, found: Sequence[Hits | None], queries: Sequence[int], k: int) -> list[Ranking]:
        """Merge the hits of the segments; a query without a vector has no hits."""
        out = [NOTHING] * len(queries)
        there = [hits for hits in found if hits is not None]
        if not there:
            return out
        # Either vector of a row with an image and a text can find it; the better score counts.
        often = len(self._snapshot.modalities)
        merged = merge_hits(there, k * often)
        given = [i for i, query in enumerate(queries) if self._given[query]]
        for number, i in enumerate(given):
            is_row = merged.positions[number] >= 0
            scores = merged.scores[number][is_row].astype(np.float64)
            ranking = Ranking(merged.positions[number][is_row], scores)
            out[i] = ranking if often == 1 else _once(ranking, k)
        return out

    def scores(self, query: int, rows: Rows) -> Scores:
        """Score rows by their stored vectors, f64[n]; -inf for a row without a vector."""
        if not self._given[query]:
            return np.full(len(rows), -np.inf)
        return self._score(self._views, query, rows)

    def near(self, query: int, row: int, rows: Rows) -> Scores:
        """Score rows by the vector of one row, scaled to the query's length, f64[n].

        Returns zeros if that row has no vector. A row with an image and a text is represented by
        the vector of its text.
        """
        found = None
        for segment in self._snapshot.dense:
            position = self._found_in(segment, np.array([row], np.int64))
            if len(position) and (found is None or segment.entry.modality == TEXT):
                found = segment, segment.matrix[position[0]].astype(np.float32)
        views = None if found is None else self._views.near(query, *found)
        return np.zeros(len(rows)) if views is None else self._score(views, 0, rows)

    def pool_of(self, ranking: Ranking) -> Scores:
        """Return the scores of the best `POOL` hits."""
        return ranking.scores[:POOL]

    def wordless(self, rows: Rows) -> NDArray[np.bool_]:
        """Return False for every row: vectors do not know about words."""
        return np.zeros(len(rows), bool)

    def held(self, query: int, row: int) -> list[str]:
        """Return an empty list: vectors have no terms."""
        return []

    def found_by(self, query: int, rows: Rows) -> list[str | None]:
        """Return which modality of each row scores best, "image" or "text".

        None for a row without a vector, and for all rows of a collection of one modality.
        """
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
        """Return the positions of those of the rows (ascending) that this segment serves."""
        positions = segment.positions(rows)
        if segment.entry.superseded is None or not len(positions):
            return positions
        here: Rows = positions[~self._snapshot.marked_at(segment, positions)]
        return here


def _once(ranking: Ranking, k: int) -> Ranking:
    """Return the best k rows of a ranking that may hold a row twice."""
    order = np.argsort(ranking.rows, kind="stable")  # a row's better score comes first
    rows = ranking.rows[order]
    first = np.append(True, rows[1:] != rows[:-1])[: len(rows)]
    kept = np.sort(order[first])[:k]
    return Ranking(ranking.rows[kept], ranking.scores[kept])


def rank_each_segment(ranker: Ranker, queries: Sequence[int], k: int) -> list[Any]:
    """Return what each segment of a ranker finds, in the ranker's own form."""
    found: list[Any] = []
    for segment in ranker.segments:
        found.append(ranker.rank(segment, queries, k, found))
    return found


def merged(ranker: Ranker, queries: Sequence[int], k: int) -> list[Ranking]:
    """Return the best k rows of each query by one ranker, over all its segments."""
    return ranker.merge(rank_each_segment(ranker, queries, k), queries, k)
