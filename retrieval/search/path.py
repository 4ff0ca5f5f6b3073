"""The one search path: encode → rank each segment → merge → fuse → fetch.

A `SearchPlan` says which rankers answer a query. This module takes a query to its hits in that
order, for every kind of collection.
"""

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
from .plan import SearchPlan
from .rankers import rank_each_segment
from .ranking import Ranking
from .rerank import Reranking

MAX_K = 100_000


def search(
    plan: SearchPlan,
    k: int,
    *,
    passages: bool = False,
    explain: bool = False,
    rerank: Reranking | None = None,
) -> list[Results]:
    """Return the best hits of each query of a plan.

    k:        at most this many hits per query.
    passages: return every matching passage of a document, not only its best.
    explain:  fill in `Hit.why` with the reasons for each hit.
    rerank:   how to reorder the first hits with a slower model.
    """
    snapshot = plan.snapshot
    depth = k if rerank is None else max(k, rerank.depth)
    plan.encode()
    if passages or not snapshot.has_passages:
        ranked = _rank(plan, range(len(plan.queries)), depth)
    else:
        ranked = _rank_documents(plan, depth)
    found = first = _fetch(snapshot, ranked)
    if rerank is not None:
        found = rerank.order(plan.queries, first, k)
    if explain:
        found = _explained(plan, found, None if rerank is None else first)
    return [
        Results(query, hits, snapshot.manifest.generation)
        for query, hits in zip(plan.queries, found, strict=True)
    ]


def _rank(plan: SearchPlan, queries: Sequence[int], k: int) -> list[Ranking]:
    """Return the best k rows of each of these queries, given by number."""
    ranked: dict[int, Ranking] = {}
    for answer, own in plan.answers(queries):
        depth = answer.depth(k)
        found = [rank_each_segment(ranker, own, depth) for ranker in answer.rankers]
        merged = [
            ranker.merge(each, own, depth)
            for ranker, each in zip(answer.rankers, found, strict=True)
        ]
        ranked.update(zip(own, answer.fuse(own, merged, k), strict=True))
    return [ranked[query] for query in queries]


def _rank_documents(plan: SearchPlan, k: int) -> list[Ranking]:
    """Return the best passage of each of the best k documents.

    Searches deeper for a query whose passages come from fewer than k documents.
    """
    snapshot, total = plan.snapshot, len(plan.snapshot)
    ranked: dict[int, Ranking] = {}
    open_ = list(range(len(plan.queries)))
    depth = 4 * k
    while open_:
        depth = min(depth, total)
        unfinished = []
        found = _rank(plan, open_, depth)
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
    return [ranked[query] for query in range(len(plan.queries))]


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


def _explained(
    plan: SearchPlan, found: Sequence[Sequence[Hit]], first: Sequence[Sequence[Hit]] | None
) -> list[list[Hit]]:
    """Return the hits with the reasons for each; `first` are those before a reranking."""
    from .explain import explain

    out = []
    for number, hits in enumerate(found):
        reasons = explain(plan, number, [hit.row for hit in hits])
        if first is not None:
            scores = {hit.row: hit.score for hit in first[number]}
            reasons = [
                replace(why, first=scores[hit.row]) for hit, why in zip(hits, reasons, strict=True)
            ]
        out.append([replace(hit, why=why) for hit, why in zip(hits, reasons, strict=True)])
    return out


def check_k(k: object, name: str = "k") -> int:
    """Return k as an int.

    Raises:
        InputError: it is no whole number from 1 to `MAX_K`.
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= MAX_K:
        raise InputError(f"{name} is {k!r}: give a whole number from 1 to {MAX_K:,}")
    return int(k)
