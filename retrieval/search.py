"""The one search path: for each segment search, merge across segments, fetch the documents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..indexes.base import Floats, Hits
from ..indexes.topk import merge_hits
from .errors import InputError
from .segment import allow
from .snapshot import Snapshot
from .store.documents import StoredRow
from .store.shards import Rows, merged_rows
from .types import Hit, Query, Results

MAX_K = 100_000
QUERY_BLOCK = 1024


def search(
    snapshot: Snapshot,
    queries: Sequence[Query],
    vectors: Floats,
    k: int,
    *,
    rows: Rows | None = None,
    passages: bool = False,
) -> list[Results]:
    """Return the best hits of each query.

    vectors:  f32[len(queries), dim] in the collection's space.
    k:        how many hits each; fewer where there are not so many.
    rows:     the only rows allowed, ascending; None allows all that are not deleted.
    passages: let a document stand in the results several times, once a passage.
    """
    results = []
    for start in range(0, len(queries), QUERY_BLOCK):
        block = vectors[start : start + QUERY_BLOCK]
        if passages or not snapshot.has_passages:
            ranked = _unpad(dense_hits(snapshot, block, k, rows))
        else:
            ranked = _one_per_document(snapshot, block, k, rows)
        asked = queries[start : start + QUERY_BLOCK]
        results += [
            Results(query, hits, snapshot.manifest.generation)
            for query, hits in zip(asked, _fetch(snapshot, ranked), strict=True)
        ]
    return results


def dense_hits(snapshot: Snapshot, vectors: Floats, k: int, rows: Rows | None) -> Hits:
    """Search every dense segment and merge; `Hits.positions` are rows of the collection."""
    found = []
    for segment, dead in zip(snapshot.dense, snapshot.dead_positions, strict=True):
        only = None if rows is None else segment.positions(rows)
        if only is not None and len(only) == 0:
            continue
        allowed = None
        if only is not None or len(dead):
            allowed = allow(len(segment), only=only, never=dead)
        found.append(segment.search(vectors, k, allowed=allowed))
    if not found:
        empty = (len(vectors), 0)
        return Hits(np.empty(empty, np.float32), np.empty(empty, np.int64))
    return merge_hits(found, k)


Ranked = list[tuple[int, float]]


def _unpad(hits: Hits) -> list[Ranked]:
    return [
        [(int(r), float(s)) for r, s in zip(rows, scores, strict=True) if r >= 0]
        for rows, scores in zip(hits.positions, hits.scores, strict=True)
    ]


def _one_per_document(
    snapshot: Snapshot, vectors: Floats, k: int, rows: Rows | None
) -> list[Ranked]:
    """Return the best passage of each of the best k documents, looking deeper where needed."""
    ranked: list[Ranked] = [[] for _ in vectors]
    open_ = np.arange(len(vectors))
    depth = 4 * k
    total = len(snapshot)
    while len(open_):
        hits = _unpad(dense_hits(snapshot, vectors[open_], min(depth, total), rows))
        unfinished = []
        flat = np.array([row for found in hits for row, _ in found], np.int64)
        ids = iter(snapshot.ids(flat))
        for i, found in zip(open_, hits, strict=True):
            best: dict[str, tuple[int, float]] = {}
            for hit in found:
                best.setdefault(next(ids), hit)
            ranked[i] = list(best.values())[:k]
            if len(best) < k and len(found) >= min(depth, total):
                unfinished.append(i)
        if depth >= total:
            break
        open_ = np.array(unfinished, np.int64)
        depth *= 4
    return ranked


def _fetch(snapshot: Snapshot, ranked: list[Ranked]) -> list[list[Hit]]:
    rows = merged_rows([np.array([row for row, _ in hits], np.int64) for hits in ranked])
    stored = dict(zip(rows.tolist(), snapshot.read(rows), strict=True))
    return [[_hit(stored[row], row, score) for row, score in hits] for hits in ranked]


def _hit(stored: StoredRow, row: int, score: float) -> Hit:
    return Hit(
        id=stored.id,
        score=score,
        text=stored.text,
        uri=stored.uri,
        place=stored.place,
        metadata=stored.metadata,
        row=row,
    )


def check_k(k: object) -> int:
    """Return k as an int.

    Raises:
        InputError: it is no whole number from 1 to `MAX_K`.
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= MAX_K:
        raise InputError(f"k is {k!r}: give a whole number from 1 to {MAX_K:,}")
    return int(k)
