"""The last step of an approximate search: shortlists, scored on the vectors of the source.

Candidates are scored in float32 by FAISS, straight from where the vectors lie; the best k of them
once more as `exact.scan` does it. Every thread keeps the arrays for one query and their
addresses, for asking for them would take longer than filling them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from . import matryoshka
from ._faiss import load_faiss
from .arrays import ArraySource
from .base import Floats, Hits, Metric, Positions, VectorSource
from .exact import best_of, rerank

_KEPT_ROOMS: Final = 16


class Room:
    """The arrays of one thread for one query, and their addresses."""

    def __init__(self, projected: int, shortlist: int, k: int) -> None:
        faiss = load_faiss()
        self.projected = np.empty((1, projected), np.float32)
        self.zeros = np.zeros(projected, np.float32)
        self.distances = np.empty((1, shortlist), np.float32)
        self.positions = np.empty((1, shortlist), np.int64)
        self.scores = np.empty((1, k), np.float32)
        self.at_projected = faiss.swig_ptr(self.projected)
        self.at_zeros = faiss.swig_ptr(self.zeros)
        self.at_distances = faiss.swig_ptr(self.distances)
        self.at_positions = faiss.swig_ptr(self.positions)
        self.at_scores = faiss.swig_ptr(self.scores)


class Reranker:
    """Re-ranks shortlists over one source.

    prefixes: the longer prefixes of the vectors that a shortlist is re-ranked on before.
    """

    def __init__(self, source: VectorSource, prefixes: Sequence[int]) -> None:
        faiss = load_faiss()
        self._faiss = faiss
        self._source = source
        self._prefixes = tuple(prefixes)
        self._local = threading.local()
        self._vectors_at: Any = None
        self._knn_by_idx = (
            faiss.knn_L2sqr_by_idx
            if source.metric is Metric.L2
            else faiss.knn_inner_products_by_idx
        )
        if isinstance(source, ArraySource) and source.vectors.dtype == np.float32:
            vectors = source.vectors.view(np.float32)
            if vectors.flags.c_contiguous and vectors.flags.aligned:
                self._vectors = vectors  # held, for FAISS has only its address
                self._vectors_at = faiss.swig_ptr(vectors)

    def room(self, projected: int, shortlist: int, k: int) -> Room:
        """Return this thread's arrays for such a query."""
        rooms: dict[tuple[int, int], Room] | None = getattr(self._local, "rooms", None)
        if rooms is None or len(rooms) > _KEPT_ROOMS:
            rooms = self._local.rooms = {}
        room = rooms.get((shortlist, k))
        if room is None:
            room = rooms[shortlist, k] = Room(projected, shortlist, k)
        return room

    def one(self, queries: Floats, at_query: Any, room: Room, k: int, kept: Sequence[int]) -> Hits:
        """Return the best k of the shortlist in `room`; `queries` f32[1, dim] and its address."""
        if kept or self._vectors_at is None:
            return self._slowly(queries, room.positions, k, kept)
        best = np.empty((1, k), np.int64)
        shortlist = room.positions.shape[1]
        at_best = self._faiss.swig_ptr(best)
        self._knn(at_query, room.at_positions, 1, shortlist, k, room.at_scores, at_best)
        return best_of(self._source, queries, best)

    def many(self, queries: Floats, shortlists: Positions, k: int, kept: Sequence[int]) -> Hits:
        """Return the best k of each shortlist, i64[q, c]; -1 ends one that is shorter."""
        if kept or self._vectors_at is None:
            return self._slowly(queries, shortlists, k, kept)
        ptr = self._faiss.swig_ptr
        n, length = shortlists.shape
        scores, best = np.empty((n, k), np.float32), np.empty((n, k), np.int64)
        self._knn(ptr(queries), ptr(shortlists), n, length, k, ptr(scores), ptr(best))
        return best_of(self._source, queries, best)

    def _knn(
        self, queries: Any, shortlists: Any, n: int, length: int, k: int, scores: Any, best: Any
    ) -> None:
        """Write the best k of each shortlist by float32 scores; addresses come in."""
        source = self._source
        self._knn_by_idx(
            queries,
            self._vectors_at,
            shortlists,
            source.dim,
            n,
            len(source),
            length,
            k,
            scores,
            best,
            length,  # the stride, which FAISS 1.15 gets wrong where it is left out
        )

    def _slowly(self, queries: Floats, shortlists: Positions, k: int, kept: Sequence[int]) -> Hits:
        """Re-rank through longer prefixes, or from a source that is no float32 matrix."""
        outside = (shortlists < 0) | (shortlists >= len(self._source))
        shortlists = np.where(outside, -1, shortlists)  # what a damaged file may hold
        if not kept:
            return rerank(self._source, queries, shortlists, k)
        left = np.full((len(queries), kept[-1]), -1, np.int64)
        for row, query in enumerate(queries):
            some = shortlists[row][shortlists[row] >= 0]
            for dim, count in zip(self._prefixes, kept, strict=True):
                vectors = self._source.take(some)[:, :dim]
                some = matryoshka.rerank_prefix(
                    vectors, query[:dim], self._source.metric, some, count
                )
            left[row, : len(some)] = some[: kept[-1]]
        return rerank(self._source, queries, left, k)
