"""Backfill: the encoder of the queries re-embeds rows, the most useful first.

It commits every few seconds, so a run that is killed loses at most the last few; run again, it
continues with the remaining rows. It holds no lock while it encodes.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from ...indexes.base import Floats
from ..bridges.codec import read_forward
from ..bridges.forward import Forward
from ..encoders.base import TEXT, Encoder
from ..segments.snapshot import Snapshot
from ..store.manifest import Maps
from ..store.shards import Rows, find_rows
from ..store.store import Store
from ..values.errors import InputError, LockedError, RetrError, StorageError
from ..values.progress import Progress
from ..writing import merging
from ..writing.indexing import settle
from .changes import Vectors, add_vectors, finish
from .rows import awaiting, blocks, embed

log = logging.getLogger("retr.upgrade")

FLUSH_SECONDS = 5.0
FLUSH_ROWS = 65_536
WINDOW_BATCHES = 8
LISTED = 1000


class Order(StrEnum):
    """Which rows to re-embed first."""

    CLICKS = "clicks"  # those of the documents that are found or opened most often
    RESIDUAL = "residual"  # those from whose own new vector a search gains most
    RANDOM = "random"


def check_order(order: str | None) -> Order | None:
    """Return the order with this name; None leaves the choice to the backfill.

    Raises:
        InputError: there is no such order.
    """
    try:
        return None if order is None else Order(order)
    except ValueError:
        raise InputError(
            f"backfill: there is no order {order!r}; the orders are {', '.join(Order)}"
        ) from None


@dataclass(slots=True)
class BackfillReport:
    """What a backfill did.

    rows:    how many rows it embedded.
    left:    how many rows still await it.
    cannot:  how many rows cannot be embedded.
    without: the first thousand of those, by document id, with the reason.
    order:   which rows came first.
    back:    whether it used the old encoder, after a rollback.
    seconds: how long it took.
    """

    rows: int = 0
    left: int = 0
    cannot: int = 0
    without: dict[str, str] = field(default_factory=dict)
    order: str = ""
    back: bool = False
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


class Backfill:
    """One run over the rows that await a vector.

    order:  None chooses the first order whose data is there.
    clicks: how often each document was found or opened, by id.
    flush_seconds: how often to commit.
    """

    def __init__(
        self,
        store: Store,
        snapshot: Snapshot,
        encoder: Encoder,
        progress: Progress,
        *,
        order: Order | None = None,
        clicks: Mapping[str, float] | None = None,
        seed: int = 0,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        self.store = store
        self.snapshot = snapshot
        self.encoder = encoder
        self.progress = progress
        self.report = BackfillReport()
        self._clicks = clicks
        self._order = order
        self._seed = seed
        self._flush_seconds = flush_seconds
        self._made: list[tuple[Rows, Floats]] = []
        self._began = self._flushed = time.monotonic()

    def run(self, rows: int | None, seconds: float | None) -> BackfillReport:
        """Embed rows until none is left, at most `rows` are done, or `seconds` have passed.

        Raises:
            InputError: the data that the order needs is missing.
        """
        self._began = self._flushed = time.monotonic()
        plan = self._plan()
        total = sum(len(ordered) for _, ordered in plan)
        most = total if rows is None else min(rows, total)
        until = np.inf if seconds is None else self._began + seconds
        tried = 0
        try:
            for modality, ordered in plan:
                size = max(1, self.encoder.batch_size) * WINDOW_BATCHES
                while len(ordered) and tried < most and time.monotonic() < until:
                    window, ordered = np.split(ordered, [min(size, most - tried)])
                    self._embed(modality, window)
                    tried += len(window)
                    self.progress.update("backfill", self.report.rows, tried, most)
                    self._flush_if(modality)
                self._flush_if(modality, force=True)
        except (KeyboardInterrupt, RetrError) as error:
            if not isinstance(error, StorageError) and plan:
                self._flush_if(modality, force=True)  # so that it need not be encoded again
            raise
        self.snapshot = settle(self.store, self.snapshot, self.progress)
        left = awaiting(self.snapshot)
        self.report.left = sum(len(each) for each in left.values())
        upgrade = self.snapshot.manifest.upgrade
        self.report.back = upgrade is not None and upgrade.back
        if self.report.back and not left:  # the rollback is complete and needs no decision
            self.snapshot = finish_all(self.store, self.snapshot)
        self.report.seconds = time.monotonic() - self._began
        return self.report

    # --- which rows, in which order

    def _plan(self) -> list[tuple[str, Rows]]:
        waiting = awaiting(self.snapshot)
        if self._order is None:
            self._order = self._default_order()
        if self._order is Order.CLICKS and self._clicks is None:
            raise InputError("backfill: the order 'clicks' needs a file of clicks: --clicks FILE")
        self.report.order = str(self._order)
        return [(modality, self._ordered(modality, rows)) for modality, rows in waiting.items()]

    def _default_order(self) -> Order:
        if self._clicks is not None:
            return Order.CLICKS
        return Order.RESIDUAL if self._forward() is not None else Order.RANDOM

    def _ordered(self, modality: str, rows: Rows) -> Rows:
        shuffled: Rows = np.random.default_rng(self._seed).permutation(rows)
        if self._order is Order.RANDOM:
            return shuffled
        forward = self._forward()
        if forward is not None and modality == self._mapped_modality():
            rows = rows[np.argsort(-self._usefulness(forward, modality, rows), kind="stable")]
        elif self._order is Order.RESIDUAL and forward is None:
            raise InputError(
                "backfill: there is no map of the old vectors to predict how far each is from its "
                "new one; use the order 'random' or 'clicks'"
            )
        else:
            rows = shuffled
        if self._clicks is None or self._order is not Order.CLICKS:
            return rows
        counts = np.array([self._clicks.get(id, 0.0) for id in self.snapshot.ids(rows)])
        clicked: Rows = rows[np.argsort(-counts, kind="stable")]
        return clicked

    def _forward(self) -> Forward | None:
        """Return the map of the old vectors, None if they or its residuals are not there."""
        manifest = self.snapshot.manifest
        for entry in manifest.bridges:
            if entry.maps is Maps.DOCUMENTS and entry.source in manifest.spaces:
                forward = read_forward(self.store.path / entry.file)
                return forward if forward.residuals is not None else None
        return None

    def _mapped_modality(self) -> str:
        """Return the modality that the map of the old vectors was fitted on."""
        made = (b for b in self.snapshot.manifest.bridges if b.maps is Maps.DOCUMENTS)
        return str(next(made).measured.get("modality", TEXT))

    def _usefulness(self, forward: Forward, modality: str, rows: Rows) -> Floats:
        """Return how much a search is expected to gain from each row's new vector, f32[n]."""
        out = np.full(len(rows), -np.inf, np.float32)
        upgrade = self.snapshot.manifest.upgrade
        for segment in self.snapshot.dense:
            entry = segment.entry
            if upgrade is None or entry.space != upgrade.source or entry.modality != modality:
                continue
            for block in blocks(segment.positions(rows)):
                at = find_rows(rows, segment.rows_at(block))
                out[at] = forward.usefulness(segment.matrix[block])
        return out

    # --- embedding and committing

    def _embed(self, modality: str, rows: Rows) -> None:
        made = embed(self.snapshot, self.encoder, modality, rows)
        self.report.cannot += len(made.without)
        if made.without and len(self.report.without) < LISTED:
            some = np.array(list(made.without)[: LISTED - len(self.report.without)], np.int64)
            names = self.snapshot.ids(some)
            for id, row in zip(names, some.tolist(), strict=True):
                self.report.without[id] = made.without[row]
        if len(made.rows):
            self._made.append((made.rows, made.vectors))

    def _flush_if(self, modality: str, *, force: bool = False) -> None:
        """Commit what is embedded if it is time to, or if forced."""
        count = sum(len(rows) for rows, _ in self._made)
        late = time.monotonic() - self._flushed > self._flush_seconds
        if not count or not (force or late or count >= FLUSH_ROWS):
            return
        made, self._made = self._made, []
        rows = np.concatenate([rows for rows, _ in made])
        vectors = np.concatenate([vectors for _, vectors in made])
        order = np.argsort(rows)
        self.report.rows += count
        rate = self.report.rows / max(time.monotonic() - self._began, 1e-6)
        self.snapshot = add_vectors(
            self.store, self.snapshot, Vectors.of(rows[order], modality, vectors[order]), rate=rate
        )
        self._flushed = time.monotonic()
        with contextlib.suppress(LockedError):
            merged = merging.merge_small(self.store, self.snapshot)
            if merged is not self.snapshot:
                self.snapshot = merged
                self.store.vacuum(lock_seconds=0)


def backfill(
    store: Store,
    snapshot: Snapshot,
    encoder: Encoder,
    progress: Progress,
    order: str | None,
    clicks: Mapping[str, float] | None,
) -> Backfill:
    """Return a backfill that is ready to run.

    Raises:
        InputError: no row awaits a vector, or there is no such order.
    """
    chosen = check_order(order)
    if snapshot.manifest.upgrade is None and not awaiting(snapshot):
        raise InputError(
            f"{store.path}: every row has its vector of {snapshot.space.encoder}; there is nothing "
            f"to embed. To switch to a new encoder: retr upgrade start --to ENCODER "
            f"--index {store.path}"
        )
    return Backfill(store, snapshot, encoder, progress, order=chosen, clicks=clicks)


def finish_all(store: Store, snapshot: Snapshot) -> Snapshot:
    """Commit the end of an upgrade if no row awaits a vector; otherwise change nothing."""
    late = InputError(f"{store.path}: rows were added meanwhile; run it again")

    def check(newest: Snapshot) -> None:
        if newest.manifest.upgrade is None or awaiting(newest):
            raise late

    try:
        return finish(store, snapshot, check)
    except InputError as error:
        if error is late:
            return snapshot
        raise
