"""Keeps the best hits of many segments, or of candidates that arrive block by block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .base import Floats, Hits, Positions


def merge_hits(hits: Sequence[Hits], k: int) -> Hits:
    """Return the best `k` of several answers to the same q queries.

    Each of `hits` is f32[q, k_i] (or f64, as is then the result) and i64[q, k_i], padded with
    -inf and -1, and no number occurs in two of them; if every `k_i` is at least `k`, the result is
    the best `k` of all. The numbers are positions of one segment or row numbers across segments,
    as the caller likes. Equal scores are in ascending order of the numbers.

    Raises:
        ValueError: there are no hits, or they are for different numbers of queries.
    """
    if not hits:
        raise ValueError("there are no hits to merge")
    scores = np.concatenate([part.scores for part in hits], axis=1)
    numbers = np.concatenate([part.positions for part in hits], axis=1)
    kept = min(k, scores.shape[1])
    merged = Hits.none(len(scores), k, scores.dtype)
    order = np.lexsort((numbers, -scores), axis=-1)[:, :kept]
    merged.scores[:, :kept] = np.take_along_axis(scores, order, axis=1)
    merged.positions[:, :kept] = np.take_along_axis(numbers, order, axis=1)
    return merged


def keep_best(best: Hits, queries: Positions, positions: Positions, scores: Floats) -> None:
    """Merge candidates into the best so far, in place.

    best:      the best so far, f32[q, k] and i64[q, k].
    queries:   i64[m], the query that each candidate belongs to.
    positions: i64[m], greater than every position in `best`, and ascending for each query.
    scores:    f32[m].
    """
    k = best.scores.shape[1]
    held = np.flatnonzero(best.positions.ravel() >= 0)
    owner = np.concatenate((held // k, queries))
    all_scores = np.concatenate((best.scores.ravel()[held], scores))
    all_positions = np.concatenate((best.positions.ravel()[held], positions))
    # The sort is stable, and equal scores already come in ascending position.
    order = np.lexsort((-all_scores, owner))
    order, owner, rank = _ranked(order, owner, len(best.scores))
    chosen = rank < k
    slots = owner[chosen] * k + rank[chosen]
    np.put(best.scores, slots, all_scores[order[chosen]])
    np.put(best.positions, slots, all_positions[order[chosen]])


def kth_best(owner: Positions, scores: NDArray[np.floating], queries: int, k: int) -> Floats:
    """Return the k-th highest score of each query, f[queries]; -inf if it has fewer.

    owner: i64[m], the query that each of `scores` belongs to.
    """
    order = np.lexsort((-scores, owner))
    order, owner, rank = _ranked(order, owner, queries)
    out = np.full(queries, -np.inf, scores.dtype)
    last = rank == k - 1
    out[owner[last]] = scores[order[last]]
    return out


def _ranked(
    order: Positions, owner: Positions, queries: int
) -> tuple[Positions, Positions, Positions]:
    """Return `order`, the owners in that order, and each entry's rank for its owner, from 0."""
    counts = np.bincount(owner, minlength=queries)
    starts = np.cumsum(counts) - counts
    owner = owner[order]
    return order, owner, np.arange(len(order)) - starts[owner]
