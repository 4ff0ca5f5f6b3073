"""Tuning a collection: measure its indexes again, and fit the weight of its two rankers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .encoders.base import Encoder
from .search.queries import encode
from .segments.measured import summary
from .segments.snapshot import Snapshot
from .store.store import Store
from .values.errors import InputError
from .values.settings import AUTO
from .values.types import Query
from .writing import commits, indexing


def tune(
    store: Store,
    snapshot: Snapshot,
    queries: Sequence[Query] | None,
    qrels: Mapping[str, Mapping[str, int]] | None,
    recall: float | None,
    encoder: Callable[[], Encoder],
) -> tuple[Snapshot, dict[str, Any]]:
    """Tune as `Collection.tune` says; return the new snapshot and the report.

    Raises:
        InputError: there is nothing to tune, judgments come without queries, or too few queries
            are judged.
    """
    has_index = any(s.index is not None and not s.index.exact for s in snapshot.dense)
    if qrels is None and not has_index:
        raise InputError(
            f"{store.path}: there is nothing to tune: it scans its vectors without an index, and "
            "no judged queries are given; give judged queries, or build an index for a recall "
            "below 1, such as 0.95 (a collection of few vectors gets none)"
        )
    fusion = None
    if qrels is not None:
        from .search.fitting import fit_fusion

        if queries is None:
            raise InputError("tune: judgments need their queries; give both")
        fitted = fit_fusion(snapshot, queries, qrels, encoder)
        snapshot = commits.change_settings(
            store, {"fusion": fitted.fusion}, snapshot.manifest.encoder, snapshot
        )
        fusion = {
            "weight": fitted.fusion.weight,
            "changed": fitted.is_better,
            "queries": fitted.queries,
            "nDCG@10_before": round(fitted.before, 4),
            "nDCG@10_held_out": round(fitted.after, 4),
        }
    if has_index:
        if recall is not None:  # or the next build would rebuild the index for the old recall
            fields = {"recall": recall} | ({"spec": AUTO} if recall >= 1 else {})
            snapshot = commits.change_settings(store, fields, snapshot.manifest.encoder, snapshot)
        if recall is not None and recall >= 1:
            snapshot = indexing.index_all(store, snapshot)
        else:
            vectors = None if queries is None else encode(queries, snapshot.space, encoder)
            snapshot = indexing.measure_all(store, snapshot, recall, vectors)
    measured = [
        {"index": s.entry.index.spec, "rows": len(s), **found}
        for s in snapshot.dense
        if s.entry.index is not None and (found := summary(s.entry.index))
    ]
    return snapshot, {"indexes": measured, "fusion": fusion}
