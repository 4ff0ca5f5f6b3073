"""Starts an upgrade: measures it, reports, asks for confirmation, and commits it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..encoders.base import Encoder, EncoderOptions
from ..search.views import BridgedViews, Home
from ..segments.snapshot import Snapshot
from ..store.store import Store
from ..values.errors import InputError
from ..values.progress import choose_progress
from ..values.types import Query
from ..writing import indexing
from ..writing.commits import change_settings
from .changes import Fitted, begin
from .pairs import FEWEST
from .preparing import Asked, check_start, prepare

MEASURED_QUERIES = 1_000
"""How many bridged queries to measure the old indexes with."""


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """The arguments of `Collection.upgrade`, which documents them."""

    to: str | Encoder
    options: EncoderOptions
    sample: int
    dry_run: bool
    force: bool
    both: bool | None
    confirm: Callable[[Mapping[str, Any]], bool] | None
    seed: int

    def opened(self, path: object) -> Encoder:
        """Return the new encoder, loaded.

        Raises:
            InputError: the encoder cannot be loaded, or the sample is not a usable number of rows.
        """
        from ..encoders import resolve

        if isinstance(self.sample, bool) or not isinstance(self.sample, (int, np.integer)):
            raise InputError(f"{path}: the sample is {self.sample!r}; give a number of rows")
        if self.sample < FEWEST:
            raise InputError(
                f"{path}: a sample of {self.sample} rows is too small to fit and measure a "
                f"bridge; give at least {FEWEST}, better a few thousand"
            )
        return resolve(self.to, self.options)


def start(
    store: Store,
    snapshot: Snapshot,
    encoder: Encoder,
    request: UpgradeRequest,
    asked: tuple[Sequence[Query], Mapping[str, Mapping[str, int]] | None],
    load_old: Callable[[], Encoder],
    progress: bool | None,
) -> tuple[Snapshot, dict[str, Any]]:
    """Start an upgrade as `Collection.upgrade` says; return the new snapshot and the report.

    encoder:  the new encoder.
    asked:    queries and their judgments.
    load_old: loads the old encoder.
    progress: show progress on stderr; None shows it on a terminal only.
    """
    check_start(snapshot, encoder, store.path)
    queries, qrels = asked
    if qrels is not None and not queries:
        raise InputError(f"{store.path}: judgments need their queries; give both")
    loading = {"name": encoder.name, "options": encoder.options.to_json()}
    with choose_progress(progress) as shown:  # it has to end before the user is asked anything
        fitted = prepare(
            snapshot,
            encoder,
            loading,
            load_old,
            Asked(queries, qrels),
            sample=request.sample,
            both=request.both,
            seed=request.seed,
            progress=shown,
        )
    report = {
        "started": False,
        "from": snapshot.space.encoder,
        "to": encoder.space.encoder,
        "rows": len(snapshot),
        "gate": fitted.gate,
    }
    if request.dry_run:
        return snapshot, report
    if fitted.gate["hopeless"] and not request.force:
        raise InputError(
            f"{store.path}: {_hopeless(report)}; nothing was changed. Build another collection "
            "with the new encoder "
            f"(retr index build SOURCE --encoder {encoder.name} --index ANOTHER.retr), or "
            "upgrade anyway with --force and backfill"
        )
    if request.confirm is not None and not request.confirm(report):
        return snapshot, report
    begun = begin(store, snapshot, fitted)
    begun = _measured_again(store, begun, fitted)
    if qrels is not None:
        begun = _with_fitted_fusion(store, begun, queries, qrels, encoder)
    return begun, {**report, "started": True}


def _hopeless(report: Mapping[str, Any]) -> str:
    return (
        f"the vectors of {report['from']} say nothing about those of {report['to']}: on "
        f"{report['gate']['pairs']:,} sampled rows a bridge does no better than one fitted on "
        "shuffled pairs"
    )


def _with_fitted_fusion(
    store: Store,
    snapshot: Snapshot,
    queries: Sequence[Query],
    qrels: Mapping[str, Mapping[str, int]],
    encoder: Encoder,
) -> Snapshot:
    """Fit the weight of vectors against words again, if enough queries are judged."""
    from ..search.fitting import LEAST_QUERIES, fit_fusion

    judged = sum(bool(query.text) and query.id in qrels for query in queries)
    if judged < LEAST_QUERIES or snapshot.settings.terms is None:
        return snapshot
    fitted = fit_fusion(snapshot, queries, qrels, lambda: encoder)
    if not fitted.is_better:
        return snapshot
    return change_settings(store, {"fusion": fitted.fusion}, snapshot.manifest.encoder, snapshot)


def _measured_again(store: Store, snapshot: Snapshot, fitted: Fitted) -> Snapshot:
    """Set the old indexes by measuring them with bridged queries; none is rebuilt."""
    upgrade = snapshot.manifest.upgrade
    assert upgrade is not None
    (some,) = fitted.vectors.parts()
    step = -(-len(some) // MEASURED_QUERIES)
    home = Home(snapshot.manifest.space, snapshot.space.metric, snapshot.crossings)
    views = BridgedViews(home, some[::step].astype(np.float32))
    for segment in snapshot.dense:
        if segment.entry.space == upgrade.source:
            queries = views.of(segment).queries
            # If another writer replaces a segment meanwhile, its index keeps its setting.
            with contextlib.suppress(InputError):
                return indexing.measure_all(store, snapshot, None, queries, space=upgrade.source)
    return snapshot
