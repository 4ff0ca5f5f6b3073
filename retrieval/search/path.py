"""The one search path: rank by each side, fuse, keep one hit a document, fetch the documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..results.results import Results
from ..segments.snapshot import Snapshot
from ..store.documents import StoredRow
from ..store.shards import merged_rows
from ..values.errors import InputError
from ..values.types import Hit
from .plan import Sides
from .rankers import Ranking, Side
from .rerank import Reranking

MAX_K = 100_000


def search(
    sides: Sides,
    k: int,
    *,
    passages: bool = False,
    explain: bool = False,
    rerank: Reranking | None = None,
) -> list[Results]:
    """Return the best hits of each query.

    sides:    what ranks the rows for a block of queries.
    k:        how many hits each; fewer where there are not so many.
    passages: let a document stand in the results several times, once a passage.
    explain:  say of each hit why it was found.
    rerank:   order the first hits anew.
    """
    snapshot, side = sides.snapshot, sides.side
    depth = k if rerank is None else max(k, rerank.depth)
    numbers = range(len(sides.queries))
    if passages or not snapshot.has_passages:
        ranked = side.hits(numbers, depth)
    else:
        ranked = _one_per_document(snapshot, side, numbers, depth)
    first = _fetch(snapshot, ranked)
    found = first if rerank is None else rerank.order(sides.queries, first, k)
    if explain:
        found = [_explained(sides, number, hits) for number, hits in enumerate(found)]
        if rerank is not None:
            found = [_with_first(*both) for both in zip(found, first, strict=True)]
    return [
        Results(query, hits, snapshot.manifest.generation)
        for query, hits in zip(sides.queries, found, strict=True)
    ]


def _explained(sides: Sides, query: int, hits: Sequence[Hit]) -> list[Hit]:
    reasons = sides.explain(query, [hit.row for hit in hits])
    return [replace(hit, why=why) for hit, why in zip(hits, reasons, strict=True)]


def _with_first(hits: Sequence[Hit], first: Sequence[Hit]) -> list[Hit]:
    """Tell each hit what it scored before it was reranked."""
    scores = {hit.row: hit.score for hit in first}
    return [
        replace(hit, why=replace(hit.why, first=scores[hit.row])) if hit.why is not None else hit
        for hit in hits
    ]


def _one_per_document(
    snapshot: Snapshot, side: Side, queries: Sequence[int], k: int
) -> list[Ranking]:
    """Return the best passage of each of the best k documents, looking deeper where needed."""
    ranked: dict[int, Ranking] = {}
    open_ = list(queries)
    depth = 4 * k
    total = len(snapshot)
    while open_:
        depth = min(depth, total)
        unfinished = []
        found = side.hits(open_, depth)
        ids = iter(snapshot.ids(np.concatenate([ranking.rows for ranking in found])))
        for query, ranking in zip(open_, found, strict=True):
            seen: set[str] = set()
            kept = []
            for place in range(len(ranking.rows)):
                id = next(ids)
                if id not in seen:
                    seen.add(id)
                    kept.append(place)
            ranked[query] = Ranking(ranking.rows[kept[:k]], ranking.scores[kept[:k]])
            if len(kept) < k and len(ranking.rows) >= depth < total:
                unfinished.append(query)
        open_ = unfinished
        depth *= 4
    return [ranked[query] for query in queries]


def _fetch(snapshot: Snapshot, ranked: Sequence[Ranking]) -> list[list[Hit]]:
    rows = merged_rows([ranking.rows for ranking in ranked])
    stored = dict(zip(rows.tolist(), snapshot.read(rows), strict=True))
    return [
        [
            _hit(stored[row], row, score)
            for row, score in zip(ranking.rows.tolist(), ranking.scores.tolist(), strict=True)
        ]
        for ranking in ranked
    ]


def _hit(stored: StoredRow, row: int, score: float) -> Hit:
    return Hit(
        id=stored.id,
        score=score,
        text=stored.text,
        uri=stored.uri,
        place=stored.place,
        metadata=stored.metadata,
        row=row,
        image=stored.image,
    )


def check_k(k: object, name: str = "k") -> int:
    """Return k as an int.

    Raises:
        InputError: it is no whole number from 1 to `MAX_K`.
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= MAX_K:
        raise InputError(f"{name} is {k!r}: give a whole number from 1 to {MAX_K:,}")
    return int(k)
