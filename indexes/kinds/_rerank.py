"""The last step of an approximate search: scores shortlists on the vectors of the source.

FAISS scores the candidates in float32, straight from the memory of the vectors; the best k are
scored again as `exact.scan` does it. Every thread keeps the arrays for one query and their
addresses, because looking those up would take longer than filling the arrays.

Each candidate is in a different memory page, which the processor must look up before it can read
it. The first values of all candidates are read ahead, one after the other without any work
between, so that several pages are looked up at a time: this takes a quarter off the time of a
shortlist.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from ..arrays import ArraySource
from ..base import Floats, Hits, Metric, Positions, VectorSource
from ..exact import best_of, best_of_one, rerank
from ..faiss import load_faiss
from . import matryoshka

_AHEAD: Final = 512  # candidates of a batch whose pages are looked up at a time


class Buffers:
    """The arrays for searching one query in one thread, and their addresses."""

    def __init__(self, projected: int, shortlist: int, k: int) -> None:
        faiss = load_faiss()
        self.shortlist = shortlist
        self.k = k
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


class ShortlistScorer:
    """Scores shortlists on the vectors of one source, and returns the best.

    prefixes: the longer prefixes of the vectors on which a shortlist is re-ranked first.
    """

    def __init__(self, source: VectorSource, prefixes: Sequence[int]) -> None:
        faiss = load_faiss()
        self._faiss = faiss
        self._source = source
        self._prefixes = tuple(prefixes)
        self._vectors_at: Any = None
        self._knn_by_idx = (
            faiss.knn_L2sqr_by_idx
            if source.metric is Metric.L2
            else faiss.knn_inner_products_by_idx
        )
        if isinstance(source, ArraySource) and source.vectors.dtype == np.float32:
            vectors = source.vectors.view(np.float32)
            if vectors.flags.c_contiguous and vectors.flags.aligned:
                self._vectors = vectors  # held, because FAISS has only its address
                self._values = vectors.reshape(-1)
                self._vectors_at = faiss.swig_ptr(vectors)

    def one(self, buffers: Buffers, kept: Sequence[int]) -> Callable[[Floats, Any], Hits]:
        """Return a function that re-ranks the shortlist in `buffers`.

        The function takes a query f32[1, dim] and its address. It keeps everything it needs in
        local variables, because attribute look-ups would cost much of its time.
        """
        source, positions, k, length = self._source, buffers.positions, buffers.k, buffers.shortlist
        if kept or self._vectors_at is None:
            return lambda query, _: self._slowly(query, positions, k, kept)
        knn, swig_ptr, empty, int64 = self._knn_by_idx, self._faiss.swig_ptr, np.empty, np.int64
        at_vectors, vectors, values = self._vectors_at, self._vectors, self._values
        at_positions = buffers.at_positions
        n, dim, metric = len(source), source.dim, source.metric
        starts, firsts = np.empty((1, length), np.int64), np.empty((1, length), np.float32)
        multiply = np.multiply

        def rerank_one(query: Floats, at_query: Any) -> Hits:
            multiply(positions, dim, out=starts)
            values.take(starts, out=firsts, mode="clip")  # ahead
            best = empty((1, k), int64)
            knn(
                at_query, at_vectors, at_positions, dim, 1, n, length, k, buffers.at_scores,
                swig_ptr(best), length,
            )  # fmt: skip
            if best.item(k - 1) < 0:
                return best_of(source, query, best)
            return best_of_one(metric, query, vectors.take(best[0], 0), best)

        return rerank_one

    def many(self, queries: Floats, shortlists: Positions, k: int, kept: Sequence[int]) -> Hits:
        """Return the best k of each shortlist, i64[q, c]; a shorter one is padded with -1."""
        if kept or self._vectors_at is None:
            return self._slowly(queries, shortlists, k, kept)
        ptr = self._faiss.swig_ptr
        n, length = shortlists.shape
        scores, best = np.empty((n, k), np.float32), np.empty((n, k), np.int64)
        step = max(1, _AHEAD // length)
        starts, firsts = np.empty((step, length), np.int64), np.empty((step, length), np.float32)
        for start in range(0, n, step):
            part = slice(start, min(start + step, n))
            count = part.stop - start
            self._read_ahead(shortlists[part], starts[:count], firsts[:count])
            at_part = (ptr(queries[part]), ptr(shortlists[part]), ptr(scores[part]))
            self._knn(*at_part[:2], count, length, k, at_part[2], ptr(best[part]))
        return best_of(self._source, queries, best)

    def _read_ahead(self, shortlists: Positions, starts: Positions, firsts: Floats) -> None:
        """Read the first value of each candidate; overwrites `starts` and `firsts`."""
        np.multiply(shortlists, self._source.dim, out=starts)
        self._values.take(starts, out=firsts, mode="clip")

    def _knn(
        self, queries: Any, shortlists: Any, n: int, length: int, k: int, scores: Any, best: Any
    ) -> None:
        """Write the best k of each shortlist by float32 scores; the arguments are addresses."""
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
            length,  # the stride, which FAISS 1.15 gets wrong if it is left out
        )

    def _slowly(self, queries: Floats, shortlists: Positions, k: int, kept: Sequence[int]) -> Hits:
        """Re-rank through longer prefixes, or on a source that is not a float32 matrix."""
        outside = (shortlists < 0) | (shortlists >= len(self._source))
        shortlists = np.where(outside, -1, shortlists)  # a damaged file may hold such
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
