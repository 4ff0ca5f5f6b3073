"""Exact search without an index: compares every vector, in bounded memory, on all cores.

BLAS computes the scores of a block of vectors in float32, which finds the candidates; the error
is bounded, so every vector that could be among the best becomes a candidate. The candidates are
then scored in float64 from the vectors themselves, in an order of summation that depends only on
the dimension, and rounded to float32. So a score is a function of the query and the vector alone:
equal vectors score the same, and neither blocks, the batch, segments nor the number of threads
change an answer.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .base import (
    Bitmap,
    Floats,
    Hits,
    Metric,
    Positions,
    VectorSource,
    allowed_between,
    allowed_positions,
    as_k,
    check_allowed,
    check_queries,
    count_allowed,
)
from .topk import keep_best, kth_best

Wide = NDArray[np.float64]

# Below this share of allowed positions, gathering them costs less than comparing all. Measured for
# one query; for a hundred it would be up to 0.8 on one core, and less if BLAS has many.
GATHER_BELOW: Final = 0.25

_SCORES: Final = 1 << 22  # scores of one block: 16 MB
_VALUES: Final = 1 << 24  # values of one block: 64 MB
EXACT_VALUES: Final = 1 << 15  # scored in float64 at a time: 256 KB, which fits a core's cache
_FIRST_ROWS: Final = 4096  # the first block only sets the threshold
_QUERIES: Final = 512
_LARGE: Final = 1e37  # above this, a partial sum in float32 could overflow
_LARGEST: Final = float(np.finfo(np.float32).max)
# OpenBLAS, which numpy uses everywhere but on macOS, sums in an order that depends only on the
# length, not on the alignment; above `_ONE_THREAD` values it may split the work among threads.
_BLAS_SUMS_IN_ORDER: Final = sys.platform != "darwin"
_ONE_THREAD: Final = 8192


def scan(source: VectorSource, queries: Floats, k: int, *, allowed: Bitmap | None = None) -> Hits:
    """Return the best `k` positions for each query, by comparing every allowed vector.

    queries: f32[q, dim].
    allowed: bits over positions as in `Index.search`; None allows every position.

    Scores are exact to float32: the sum is computed in float64 and rounded once. Besides the
    result, this takes about 50 MB of memory, whatever n and q are, and 350 MB if all vectors tie;
    an L2 or inner-product source also keeps the squared length of each vector, 4 bytes each.

    Raises:
        ValueError: the queries have the wrong dimension, shape or type or are not finite, k is
            below 1, or the bitmap has the wrong length.
    """
    queries = check_queries(queries, source.dim)
    k = as_k(k)
    allowed = check_allowed(allowed, len(source))
    hits = Hits.none(len(queries), k)
    kept = min(k, len(source))
    step = max(1, min(_QUERIES, _SCORES // max(kept, 1)))
    for start in range(0, len(queries) if kept else 0, step):
        best = _scan_batch(source, queries[start : start + step], kept, allowed)
        hits.scores[start : start + step, :kept] = best.scores
        hits.positions[start : start + step, :kept] = best.positions
    return hits


def rerank(source: VectorSource, queries: Floats, candidates: Positions, k: int) -> Hits:
    """Return the best `k` of each query's candidates, scored as `scan` scores them.

    queries:    f32[q, dim].
    candidates: i64[q, c], distinct positions for each query, in any order; -1 is padding.

    Raises:
        ValueError: the queries are not as above, or k is below 1.
    """
    queries = check_queries(queries, source.dim)
    hits = Hits.none(len(queries), as_k(k))
    ordered = np.sort(candidates, axis=1)
    owner, column = np.nonzero(ordered >= 0)
    positions = ordered[owner, column]
    wide = queries.astype(np.float64)
    scores = np.empty(len(positions), np.float32)
    step = max(1, EXACT_VALUES // source.dim)
    for start in range(0, len(positions), step):
        part = slice(start, start + step)
        scores[part] = _exact(source.metric, wide[owner[part]], source.take(positions[part]))
    keep_best(hits, owner, positions, scores)
    return hits


def best_of(source: VectorSource, queries: Floats, candidates: Positions) -> Hits:
    """Return the candidates of each query, scored as `scan` scores them, best first.

    queries:    f32[q, dim].
    candidates: i64[q, c], distinct positions for each query, in any order; -1 is padding.
    """
    if len(queries) == 1 and candidates.size and candidates[0, -1] >= 0:
        return best_of_one(source.metric, queries, source.take(candidates[0]), candidates)
    scores = np.empty(candidates.shape, np.float32)
    step = max(1, EXACT_VALUES // max(1, candidates.shape[1] * source.dim))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        some = candidates[part]
        vectors = source.take(some.ravel()).reshape(*some.shape, source.dim)
        scores[part] = _exact(source.metric, queries[part, None].astype(np.float64), vectors)
    return _sorted(scores, candidates)


def best_of_one(metric: Metric, query: Floats, vectors: Floats, candidates: Positions) -> Hits:
    """Do the same for one query without padding, as fast as possible; `vectors` is f32[c, dim]."""
    sums = _sums(metric, query.astype(np.float64), vectors)
    values = sums.tolist()
    inside = max(values) < _LARGEST and min(values) > -_LARGEST
    scores = sums.astype(np.float32) if inside else _rounded(sums)
    values = scores.tolist()
    if all(map(operator.gt, values, values[1:])):  # they usually are in order
        return Hits(scores[None], candidates)
    numbers = candidates[0].tolist()
    order = sorted(range(len(values)), key=lambda i: (-values[i], numbers[i]))
    return Hits(scores[None, order], candidates[:, order])


def _sorted(scores: Floats, candidates: Positions) -> Hits:
    scores[candidates < 0] = -np.inf
    rises = (scores[:, :-1] <= scores[:, 1:]).any(axis=1)
    unordered = np.flatnonzero(rises)
    if len(unordered):  # usually few are
        some, numbers = scores[unordered], candidates[unordered]
        order = np.lexsort((numbers, -some), axis=-1)
        scores[unordered] = np.take_along_axis(some, order, axis=1)
        candidates = candidates.copy()
        candidates[unordered] = np.take_along_axis(numbers, order, axis=1)
    return Hits(scores, candidates)


def score_slack(
    metric: Metric, query_norms: Wide, largest_norm: float, dim: int, dtype: type = np.float32
) -> Wide:
    """Return how far a score computed in `dtype` can be from the one in float32, f64[q].

    query_norms:  f64[q], the lengths of the queries.
    largest_norm: an upper bound on the length of the vectors.

    An inner product of d values in any order of summation is within d*u / (1 - d*u) * |q| |x| of
    the true one (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), where u is
    the unit roundoff; rounding the true one adds u, and underflow at most the smallest normal
    number for each product. For L2 the bound holds for both forms, (q - x)^2 and
    |q|^2 - 2qx + |x|^2, whose terms sum to at most (|q| + |x|)^2.
    """
    single = np.finfo(np.float32)
    product = query_norms * largest_norm
    size = (query_norms + largest_norm) ** 2 if metric is Metric.L2 else product
    terms = dim + 8
    relative = terms * float(np.finfo(dtype).eps) + float(single.eps)
    slack: Wide = relative * size + terms * float(single.tiny)
    # Zero times anything is exactly zero; without this a zero query would tie with everything.
    slack[(query_norms == 0) & (metric is not Metric.L2)] = 0.0
    return slack


def largest_norm(source: VectorSource) -> float:
    """Return a length that no vector of `source` exceeds; inf if float32 cannot hold it."""
    if source.metric is Metric.COSINE:
        return 1.01  # unit length, to the precision of float16
    info = np.finfo(np.float32)
    largest = float(source.squared_norms().max(initial=0.0))
    error = source.dim * float(info.eps)
    return float(np.sqrt(largest * (1 + error) + source.dim * float(info.tiny)))


def overflows(metric: Metric, longest: float, largest: float) -> bool:
    """Return whether scores of queries and vectors of these lengths could overflow float32."""
    size = 2 * (longest + largest) ** 2 if metric is Metric.L2 else longest * largest
    return not size < _LARGE


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Queries, with the values computed once for all blocks.

    dtype:  the type in which blocks are scored: float64 if float32 could overflow.
    factor: the matrix that multiplies a block's vectors, of `dtype`; for L2 twice the queries.
    wide:   the queries in float64.
    shift:  how far a block's scores are above the true ones, f64[q]; for L2 the squared length.
    slack:  the error bound of a block's scores.
    """

    metric: Metric
    dtype: type
    factor: NDArray[np.floating]
    wide: Wide
    shift: Wide
    slack: Wide


def _scan_batch(source: VectorSource, queries: Floats, k: int, allowed: Bitmap | None) -> Hits:
    batch = _batch(source, queries)
    best = Hits.none(len(queries), k)
    rows = max(1, min(_SCORES // len(queries), _VALUES // source.dim))
    for positions, block, mask in _blocks(source, allowed, rows):
        scores = _approximate(batch, source, positions, block)
        if mask is not None:
            scores[:, ~mask] = -np.inf
        owner, column = _candidates(batch, scores, best)
        exact = _exact_pairs(batch, owner, block, column)
        keep_best(best, owner, positions[column], exact)
    return best


def _batch(source: VectorSource, queries: Floats) -> _Batch:
    wide = queries.astype(np.float64)
    squared_norms: Wide = np.einsum("ij,ij->i", wide, wide)
    norms = np.sqrt(squared_norms)
    longest = largest_norm(source)
    dtype: type = np.float32
    if overflows(source.metric, float(norms.max(initial=0.0)), longest):
        dtype = np.float64
        longest = min(longest, _LARGEST * source.dim)
    slack = score_slack(source.metric, norms, longest, source.dim, dtype)
    factor = queries if dtype is np.float32 else wide
    if source.metric is Metric.L2:
        return _Batch(source.metric, dtype, 2 * factor, wide, squared_norms, slack)
    return _Batch(source.metric, dtype, factor, wide, np.zeros(len(queries)), slack)


def _blocks(
    source: VectorSource, allowed: Bitmap | None, rows: int
) -> Iterator[tuple[Positions, Floats, NDArray[np.bool_] | None]]:
    """Yield ascending positions, their vectors, and which of them are allowed (None for all)."""
    n = len(source)
    if allowed is not None and count_allowed(allowed, n) < GATHER_BELOW * n:
        gathered = allowed_positions(allowed, n)
        rows = min(rows, max(_FIRST_ROWS, _SCORES // source.dim))
        for start in range(0, len(gathered), rows):
            some = gathered[start : start + rows]
            yield some, source.take(some), None
        return
    start = 0
    for block in source.blocks(rows):
        cuts = (block[:_FIRST_ROWS], block[_FIRST_ROWS:]) if start == 0 else (block,)
        for part in cuts:
            stop = start + len(part)
            mask = None if allowed is None else allowed_between(allowed, start, stop)
            if len(part) and (mask is None or mask.any()):
                yield np.arange(start, stop), part, mask
            start = stop


def _approximate(
    batch: _Batch, source: VectorSource, positions: Positions, block: Floats
) -> NDArray[np.floating]:
    """Return scores of `batch.dtype`, [q, m], shifted by `batch.shift`."""
    if batch.dtype is np.float32:
        scores = batch.factor @ block.T
        if batch.metric is Metric.L2:
            scores -= source.squared_norms()[positions]
        return scores
    vectors = block.astype(np.float64)
    scores = batch.factor @ vectors.T
    if batch.metric is Metric.L2:
        scores -= np.einsum("ij,ij->i", vectors, vectors)
    # Scores outside float32's range are clipped in the answer and tie there, so they must tie here.
    low = batch.shift[:, None] - _LARGEST
    clipped: NDArray[np.floating] = np.clip(scores, low, low + 2 * _LARGEST)
    return clipped


def _candidates(
    batch: _Batch, scores: NDArray[np.floating], best: Hits
) -> tuple[Positions, Positions]:
    """Return the query and the column of every score that could be among the best k.

    Positions ascend, so a new candidate must score strictly better than those found before.
    """
    queries, columns = scores.shape
    k = best.scores.shape[1]
    floor = best.scores[:, -1] + batch.shift - batch.slack
    if k < columns and np.isneginf(floor).any():
        kth = np.partition(scores, columns - k, axis=1)[:, columns - k]
        floor = np.maximum(floor, _below(kth - 2 * batch.slack))
    flat = np.flatnonzero(scores > _below(floor, batch.dtype)[:, None])
    owner, column = np.divmod(flat, columns)
    if len(flat) > 2 * queries * k:
        some = scores.ravel()[flat]
        floor = kth_best(owner, some, queries, k) - 2 * batch.slack
        near = some >= _below(floor, batch.dtype)[owner]
        owner, column = owner[near], column[near]
    return owner, column


def _below(values: NDArray[np.floating], dtype: type = np.float64) -> NDArray[np.floating]:
    """Return the values of `dtype` just below `values`."""
    below: NDArray[np.floating] = np.nextafter(values.astype(dtype), dtype(-np.inf))
    return below


def _exact_pairs(batch: _Batch, owner: Positions, block: Floats, column: Positions) -> Floats:
    """Return the exact score of each query `owner[i]` with the vector `block[column[i]]`."""
    scores = np.empty(len(owner), np.float32)
    step = max(1, EXACT_VALUES // block.shape[1])
    for start in range(0, len(owner), step):
        part = slice(start, start + step)
        queries = batch.wide if len(batch.wide) == 1 else batch.wide[owner[part]]
        scores[part] = _exact(batch.metric, queries, block[column[part]])
    return scores


def _exact(metric: Metric, queries: Wide, vectors: Floats) -> Floats:
    """Return the score of each vector, f32[...]: exact products, summed in float64, rounded once.

    queries: f64[..., dim], of a shape that fits that of the vectors.
    """
    return _rounded(_sums(metric, queries, vectors))


def _sums(metric: Metric, queries: Wide, vectors: Floats) -> Wide:
    """Return unrounded scores, f64[...], summed in an order that depends only on `dim`."""
    wide = vectors.astype(np.float64)
    other = queries
    if metric is Metric.L2:
        wide -= queries
        other = wide
    sums: Wide
    if _BLAS_SUMS_IN_ORDER and wide.shape[-1] <= _ONE_THREAD:
        sums = np.vecdot(wide, other)
    else:
        sums = (wide * other).sum(axis=-1) + 0.0  # -0.0 becomes 0.0, as in a dot product
    return 0.0 - sums if metric is Metric.L2 else sums


def _rounded(sums: Wide) -> Floats:
    """Return sums in float32, clipped to its range. Overwrites `sums`."""
    # `np.clip` takes ten times as long for a few values.
    np.minimum(sums, _LARGEST, out=sums)
    np.maximum(sums, -_LARGEST, out=sums)
    return sums.astype(np.float32)
