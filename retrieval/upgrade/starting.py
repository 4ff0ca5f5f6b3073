"""The beginning of an upgrade: measured, shown, agreed to, committed."""

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
"""How many bridged queries the old indexes are measured with."""


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """What a user asks of a beginning, see `Collection.upgrade`."""

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
            InputError: it cannot be, or the sample has no size that makes sense.
        """
        from ..encoders import resolve

        if isinstance(self.sample, bool) or not isinstance(self.sample, (int, np.integer)):
            raise InputError(f"{path}: the sample is {self.sample!r}; give a number of rows")
        if self.sample < FEWEST:
            raise InputError(
                f"{path}: a sample of {self.sample} rows is too small to fit and to measure a "
                f"bridge; give at least {FEWEST}, better some thousands"
            )
        return resolve(self.to, self.options)


def start(
    store: Store,
    snapshot: Snapshot,
    encoder: Encoder,
    wanted: UpgradeRequest,
    asked: tuple[Sequence[Query], Mapping[str, Mapping[str, int]] | None],
    old: Callable[[], Encoder],
    progress: bool | None,
) -> tuple[Snapshot, dict[str, Any]]:
    """Do what `Collection.upgrade` says; return the new snapshot and the report.

    asked: queries and their judgments.
    old:   loads the old encoder.
    progress: show it on stderr; None does on a terminal.
    """
    check_start(snapshot, encoder, store.path)
    queries, qrels = asked
    if qrels is not None and not queries:
        raise InputError(f"{store.path}: judgments come with their queries; give both")
    loading = {"name": encoder.name, "options": encoder.options.to_json()}
    with choose_progress(progress) as shown:  # over before anything is asked
        fitted = prepare(
            snapshot,
            encoder,
            loading,
            old,
            Asked(queries, qrels),
            sample=wanted.sample,
            both=wanted.both,
            seed=wanted.seed,
            progress=shown,
        )
    report = {
        "started": False,
        "from": snapshot.space.encoder,
        "to": encoder.space.encoder,
        "rows": len(snapshot),
        "gate": fitted.gate,
    }
    if wanted.dry_run:
        return snapshot, report
    if fitted.gate["hopeless"] and not wanted.force:
        raise InputError(
            f"{store.path}: {_hopeless(report)}; nothing was changed. Build another collection "
            f"with it (retr index build SOURCE --encoder {encoder.name} --index ANOTHER.retr), or "
            "go over all the same with --force and backfill"
        )
    if wanted.confirm is not None and not wanted.confirm(report):
        return snapshot, report
    begun = begin(store, snapshot, fitted)
    begun = _measured_again(store, begun, fitted)
    if qrels is not None:
        begun = _weighed(store, begun, queries, qrels, encoder)
    return begun, {**report, "started": True}


def _hopeless(report: Mapping[str, Any]) -> str:
    return (
        f"the vectors of {report['from']} say nothing of those of {report['to']}: on "
        f"{report['gate']['pairs']:,} sampled rows a bridge does no better than one fitted on "
        "shuffled pairs"
    )


def _weighed(
    store: Store,
    snapshot: Snapshot,
    queries: Sequence[Query],
    qrels: Mapping[str, Mapping[str, int]],
    encoder: Encoder,
) -> Snapshot:
    """Weigh vectors against words anew, where enough judged queries say how."""
    from ..search.fitting import LEAST_QUERIES, fit_fusion

    judged = sum(bool(query.text) and query.id in qrels for query in queries)
    if judged < LEAST_QUERIES or snapshot.settings.terms is None:
        return snapshot
    fitted = fit_fusion(snapshot, queries, qrels, lambda: encoder)
    if not fitted.is_better:
        return snapshot
    return change_settings(store, {"fusion": fitted.fusion}, snapshot.manifest.encoder, snapshot)


def _measured_again(store: Store, snapshot: Snapshot, fitted: Fitted) -> Snapshot:
    """Set the old indexes by what bridged queries find with them; none is built anew."""
    upgrade = snapshot.manifest.upgrade
    assert upgrade is not None
    (some,) = fitted.vectors.parts()
    step = -(-len(some) // MEASURED_QUERIES)
    home = Home(snapshot.manifest.space, snapshot.space.metric, snapshot.crossings)
    views = BridgedViews(home, some[::step].astype(np.float32))
    for segment in snapshot.dense:
        if segment.entry.space == upgrade.source:
            queries = views.of(segment).queries
            # Another writer may replace a segment meanwhile, and it stays as it was set then.
            with contextlib.suppress(InputError):
                return indexing.measure_all(store, snapshot, None, queries, space=upgrade.source)
    return snapshot
