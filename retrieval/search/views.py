"""Views: how the queries of a block look from each kind of dense segment.

The dense segments of a collection need not be of one kind: their vectors may lie in several
embedding spaces, and their scores on several scales. A view carries the queries over into the
space of a segment and says how the segment's scores become those of the collection. The search
asks for the view of each segment and needs no cases; a plain collection has one view, the
queries themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...indexes.base import Floats, Hits
from ..bridges.crossing import Crossing
from ..segments.dense import DenseSegment
from ..segments.means import ScoreStatistics, evened
from ..values.fusion import Scores


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The queries of a block as the segments of one kind see them.

    queries: f32[q, dim], in the space of the segments.
    scale:   f64[q], not below 0: what a segment's score is multiplied by; None is 1.
    shift:   f64[q]: what is added to it then; None is 0.
    """

    queries: Floats
    scale: Scores | None = None
    shift: Scores | None = None

    def of(self, queries: NDArray[np.intp] | list[int]) -> View:
        """Return the view of some queries, by their place in the block."""
        return View(
            self.queries[queries],
            None if self.scale is None else self.scale[queries],
            None if self.shift is None else self.shift[queries],
        )

    def calibrated(self, hits: Hits) -> Hits:
        """Return a segment's hits for all queries, their scores on the collection's scale."""
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
        """Return the view of a segment; it is made once for all segments of its kind."""
        ...

    def near(self, query: int, segment: DenseSegment, vector: Floats) -> Views | None:
        """Return the views of a block of one: the vector of a row, put beside a query.

        vector: f32[dim], of a row of the segment. None is returned where nothing says where it
                lies among the queries.

        Where scores grow with the length of what is asked, it is given the length of the query.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class NativeQueries:
    """Queries as the encoder of another space than the collection's has them.

    vectors: f32[q, dim], in that space.
    there:   bool[q], which of the queries it has encoded.
    """

    vectors: Floats
    there: NDArray[np.bool_]


class PlainViews:
    """The queries as they are: the views of a collection whose segments are all of one kind.

    queries: f32[q, dim], in the space of every segment.
    metric:  of that space.
    """

    def __init__(self, queries: Floats, metric: str) -> None:
        self._view = View(queries)
        self._metric = metric

    def of(self, segment: DenseSegment) -> View:
        """Return the one view there is."""
        return self._view

    def near(self, query: int, segment: DenseSegment, vector: Floats) -> PlainViews:
        """Return the view of a row's vector."""
        if self._metric == "ip":
            vector = as_long_as(vector, self._view.queries[query])
        return PlainViews(vector[None], self._metric)


class CentredViews:
    """Views in which a score says how much better a row fits than its modality usually does.

    views: those of the queries.
    statistics: how scores lie for the vectors of each space and modality, see `segments.means`.
    """

    def __init__(
        self, views: Views, statistics: Mapping[tuple[str | None, str | None], ScoreStatistics]
    ) -> None:
        self._views = views
        self._statistics = statistics
        self._made: dict[tuple[str | None, str | None], tuple[View, View]] = {}

    def of(self, segment: DenseSegment) -> View:
        """Return the view of a segment, in which a mean vector of its kind scores nothing."""
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
        """Return the view of a row's vector, centred as well."""
        views = self._views.near(query, segment, vector)
        return None if views is None else CentredViews(views, self._statistics)


@dataclass(frozen=True, slots=True, eq=False)
class Home:
    """The space that queries are encoded into, and the ways from it.

    key:       of the space.
    metric:    how it compares vectors.
    crossings: the ways to the vectors of other spaces, by the key of the space.
    """

    key: str
    metric: str
    crossings: Mapping[str, Crossing]


class BridgedViews:
    """The queries as the segments of several spaces see them.

    home:      the space that the queries are encoded into.
    queries:   f32[q, dim], in that space.
    seed:      the key of another space and f32[dim] there, of what the one query stands for.
    native:    the queries as encoders of other spaces have them, by the key of the space.
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
            carried = crossing.bridge.with_own(carried, self._queries, own, there)
        vectors = carried.vectors
        if self._seed is not None and self._seed[0] == key:
            # As it is, not there and back again.
            vectors = as_long_as(self._seed[1], vectors[0])[None]
        return View(vectors, carried.scale, carried.shift)

    def near(self, query: int, segment: DenseSegment, vector: Floats) -> BridgedViews | None:
        """Return the views of a row's vector, carried over from the space it is of."""
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
    """Return a vector with the length of another; one of zeros stays as it is."""
    length = float(np.linalg.norm(vector))
    if not length:
        return vector
    longer: Floats = vector * np.float32(np.linalg.norm(other) / length)
    return longer
