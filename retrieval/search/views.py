"""Views: how each kind of dense segment sees the queries of a block.

The dense segments of a collection need not be of one kind: their vectors may lie in several
embedding spaces, and their scores on several scales. A view carries the queries over into the
space of a segment and puts the segment's scores on the collection's scale. The search asks for
the view of each segment and needs no special cases; a plain collection has one view, the queries
themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ...indexes.base import Floats, Hits
from ..segments.dense import DenseSegment
from ..segments.means import ScoreStatistics, evened
from ..values.fusion import Scores

if TYPE_CHECKING:
    from ..bridges.crossing import Crossing


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The queries of a block as the segments of one kind see them.

    queries: f32[q, dim], in the space of the segments.
    scale:   f64[q], at least 0: multiplies a segment's score; None is 1.
    shift:   f64[q]: added after that; None is 0.
    """

    queries: Floats
    scale: Scores | None = None
    shift: Scores | None = None

    def of(self, queries: NDArray[np.intp] | list[int]) -> View:
        """Return the view of some queries, given by number."""
        return View(
            self.queries[queries],
            None if self.scale is None else self.scale[queries],
            None if self.shift is None else self.shift[queries],
        )

    def calibrated(self, hits: Hits) -> Hits:
        """Return a segment's hits for all queries with scores on the collection's scale."""
        if self.scale is None and self.shift is None:
            return hits
        found = hits.positions >= 0
        scores = np.where(found, hits.scores, 0.0).astype(
            np.float64
        )  # zero times -inf is no number
        if self.scale is not None:
            scores *= self.scale[:, None]
        if self.shift is not None:
            scores += self.shift[:, None]
        scores[~found] = -np.inf
        return Hits(scores, hits.positions)

    def calibrate(self, query: int, scores: Scores) -> Scores:
        """Return the scores f64[n] of one query on the collection's scale."""
        if self.scale is not None:
            scores = scores * self.scale[query]
        if self.shift is not None:
            scores = scores + self.shift[query]
        return scores


class Views(Protocol):
    """The views of a block of queries."""

    def of(self, segment: DenseSegment) -> View:
        """Return the view of a segment, made once for all segments of its kind."""
        ...

    def near(self, query: int, segment: DenseSegment, vector: Floats) -> Views | None:
        """Return the views of a block with one query: the vector of a row.

        query:  the number of the query that found the row. If scores grow with the length of a
                query, the vector is scaled to this query's length.
        vector: f32[dim], of a row of the segment.

        Returns None if there is no map from the segment's space to the space of the queries.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class NativeQueries:
    """Queries as encoded by the encoder of another space than the collection's.

    vectors: f32[q, dim], in that space.
    there:   bool[q], which queries it has encoded.
    """

    vectors: Floats
    there: NDArray[np.bool_]


class PlainViews:
    """The views of a collection whose segments are all of one kind: the queries themselves.

    queries: f32[q, dim], in the space of every segment.
    metric:  of that space.
    """

    def __init__(self, queries: Floats, metric: str) -> None:
        self._view = View(queries)
        self._metric = metric

    def of(self, segment: DenseSegment) -> View:
        """Return the only view."""
        return self._view

    def near(self, query: int, segment: DenseSegment, vector: Floats) -> PlainViews:
        """Return the view of a row's vector."""
        if self._metric == "ip":
            vector = as_long_as(vector, self._view.queries[query])
        return PlainViews(vector[None], self._metric)


class CentredViews:
    """Views whose scores say how much better a row fits than is usual for its modality.

    views:      the views of the queries before centring.
    statistics: the score statistics by space and modality, see `segments.means`.
    """

    def __init__(
        self, views: Views, statistics: Mapping[tuple[str | None, str | None], ScoreStatistics]
    ) -> None:
        self._views = views
        self._statistics = statistics
        self._made: dict[tuple[str | None, str | None], tuple[View, View]] = {}

    def of(self, segment: DenseSegment) -> View:
        """Return the view of a segment, in which the mean vector of its kind scores 0."""
        view = self._views.of(segment)
        key = (segment.entry.space, segment.entry.modality)
        known = self._made.get(key)
        if known is None or known[0] is not view:
            own = self._statistics[key]
            every = [each for (space, _), each in self._statistics.items() if space == key[0]]
            scale = evened(own, every, view.queries)
            if view.scale is not None:
                scale *= view.scale
            shift = -scale * (view.queries.astype(np.float64) @ own.mean)
            if view.shift is not None:
                shift += view.shift
            known = self._made[key] = (view, View(view.queries, scale, shift))
        return known[1]

    def near(self, query: int, segment: DenseSegment, vector: Floats) -> CentredViews | None:
        """Return the views of a row's vector, centred too; None if there is no map."""
        views = self._views.near(query, segment, vector)
        return None if views is None else CentredViews(views, self._statistics)


@dataclass(frozen=True, slots=True, eq=False)
class Home:
    """The space that queries are encoded into, and the crossings from it.

    key:       the key of the space.
    metric:    how it compares vectors.
    crossings: the crossings to other spaces, by the key of the space.
    """

    key: str
    metric: str
    crossings: Mapping[str, Crossing]


class BridgedViews:
    """The views that segments of several spaces have of the queries.

    home:    the space that the queries are encoded into.
    queries: f32[q, dim], in that space.
    seed:    if the one query was mapped from another space: that space's key, and the vector
             f32[dim] it was mapped from.
    native:  the queries as encoded by the encoders of other spaces, by the key of the space.
    """

    def __init__(
        self,
        home: Home,
        queries: Floats,
        seed: tuple[str, Floats] | None = None,
        native: Mapping[str, NativeQueries] | None = None,
    ) -> None:
        self._home = home
        self._queries = np.ascontiguousarray(queries, np.float32)
        self._seed = seed
        self._native = native or {}
        self._known = {home.key: View(self._queries)}

    def of(self, segment: DenseSegment) -> View:
        """Return the view of a segment of any space."""
        key = str(segment.entry.space)
        if key not in self._known:
            self._known[key] = self._crossed(key)
        return self._known[key]

    def _crossed(self, key: str) -> View:
        crossing = self._home.crossings[key]
        carried = crossing.carry(self._queries)
        native = self._native.get(key)
        if native is not None:
            own, there = native.vectors, native.there
            carried = crossing.bridge.with_native(carried, self._queries, own, there)
        vectors = carried.vectors
        if self._seed is not None and self._seed[0] == key:
            # The vector itself, rather than mapped there and back again.
            vectors = as_long_as(self._seed[1], vectors[0])[None]
        return View(vectors, carried.scale, carried.shift)

    def near(self, query: int, segment: DenseSegment, vector: Floats) -> BridgedViews | None:
        """Return the views of a row's vector, mapped to the space of the queries.

        None if there is no map back from the segment's space.
        """
        key, seed = str(segment.entry.space), None
        if key != self._home.key:
            back = self._home.crossings[key].back
            if back is None:
                return None
            seed, vector = (key, vector), back.apply(vector[None])[0]
        metric = self._home.metric
        if metric == "ip":
            vector = as_long_as(vector, self._queries[query])
        elif metric == "cosine":
            vector = as_long_as(vector, np.ones(1, np.float32))
        return BridgedViews(self._home, vector[None], seed)


def as_long_as(vector: Floats, other: Floats) -> Floats:
    """Return a vector scaled to the length of another; a zero vector stays zero."""
    length = float(np.linalg.norm(vector))
    if not length:
        return vector
    longer: Floats = vector * np.float32(np.linalg.norm(other) / length)
    return longer
