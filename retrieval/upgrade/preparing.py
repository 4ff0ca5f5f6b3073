"""Before an upgrade: a sample is embedded anew, bridges are fitted, the gate is measured.

Nothing is written and no lock is held.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ...indexes.base import Floats
from ..encoders.base import IMAGE, TEXT, Encoder
from ..segments.opening import check_settings
from ..segments.snapshot import Snapshot
from ..store.shards import Rows, find_rows, merged_rows
from ..values.errors import InputError, RetrError
from ..values.progress import Progress
from ..values.settings import Settings
from ..values.types import Query
from .calibrating import matched
from .changes import Fitted, Vectors
from .choose import Choice, choose_bridge, choose_forward
from .gate import Judged, measure_gate
from .pairs import FEWEST, Pairs
from .rows import checked, embed, found_in, gather, stratified

SAMPLE = 5_000
QUERY_PAIRS = 2_000
BACK_PAIRS = 1_000
WINDOW = 8


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What a user gives to measure with.

    queries: of the kind that will be asked.
    qrels:   grade by document id by query id; the queries need ids then.
    """

    queries: Sequence[Query] = ()
    qrels: Mapping[str, Mapping[str, int]] | None = None


def check_start(snapshot: Snapshot, encoder: Encoder, path: object) -> None:
    """Refuse an upgrade that cannot be.

    Raises:
        InputError: one is under way, the encoder is of the same space, or there is no way from
            the vectors that are there to its own.
    """
    manifest = snapshot.manifest
    if manifest.upgrade is not None:
        what = "is being rolled back" if manifest.upgrade.back else "is under way"
        raise InputError(
            f"{path}: an upgrade {what} ({_name(snapshot, manifest.upgrade.source)} to "
            f"{snapshot.space.encoder}); finish it first, or roll it back: "
            f"retr upgrade status --index {path}"
        )
    if manifest.bridges:
        raise InputError(
            f"{path}: vectors mapped from another encoder's are kept; embed those rows first: "
            f"retr upgrade backfill --index {path}"
        )
    if encoder.space == snapshot.space:
        raise InputError(
            f"{path}: its vectors are of {encoder.name} already; there is nothing to upgrade"
        )
    for space, whose in ((snapshot.space, "the collection's"), (encoder.space, "the new")):
        if space.sparse:
            raise InputError(
                f"{path}: {whose} encoder {space.encoder} gives weights of words, and there is no "
                "map between those and vectors; build another collection with the new encoder: "
                "retr index build SOURCE --encoder NAME --index ANOTHER.retr"
            )
    modality = sampled_modality(snapshot)
    if modality not in encoder.modalities:
        raise InputError(
            f"{path}: the encoder {encoder.name} encodes no {modality}, so nothing could be "
            "embedded anew; give one that does"
        )
    check_settings(encoder.space, Settings.of(manifest.settings))
    if not snapshot.dense:
        raise InputError(
            f"{path}: there are no vectors to upgrade; build another collection with the new "
            "encoder: retr index build SOURCE --encoder NAME --index ANOTHER.retr"
        )


def sampled_modality(snapshot: Snapshot) -> str:
    """Return what a bridge is fitted on: texts where there are any, for queries are texts."""
    return IMAGE if snapshot.modalities == {IMAGE} else TEXT


def prepare(
    snapshot: Snapshot,
    encoder: Encoder,
    loading: Mapping[str, Any],
    old: Callable[[], Encoder],
    asked: Asked,
    *,
    sample: int = SAMPLE,
    both: bool | None = None,
    seed: int = 0,
    progress: Progress,
) -> Fitted:
    """Embed a sample, fit the bridges and measure the gate.

    loading: how to load the new encoder again.
    old:     loads the old one; where it cannot be, queries give no pairs and today's quality is
             not known.

    both:    whether the old encoder is to encode what is searched for as well; None where judged
             queries say that the bridge is worse than that.

    Raises:
        InputError: there are too few rows with texts, or the old encoder is asked for and not
            there.
    """
    start = time.monotonic()
    space = snapshot.space
    modality = sampled_modality(snapshot)
    rows = found_in(snapshot, snapshot.manifest.space, modality)
    chosen = stratified(rows, sample, seed)
    judged_rows = _judged_rows(snapshot, asked, rows, sample)
    wanted = merged_rows([chosen, judged_rows])
    sampled, new = _embed_all(snapshot, encoder, modality, wanted, progress)
    if len(sampled) < FEWEST:
        raise InputError(
            f"upgrade: {len(sampled)} of {len(chosen)} sampled rows could be embedded by "
            f"{encoder.name}, and a bridge needs at least {FEWEST}: vectors of your own that came "
            f"without a {modality} cannot be embedded anew"
        )
    embedded = time.monotonic()
    segments = [s for s in snapshot.dense if s.entry.modality == modality]
    _, there = gather([s for s in segments if s.entry.space == snapshot.manifest.space], sampled)
    pairs = Pairs(there, new, old_metric=space.metric, new_metric=encoder.space.metric)
    progress.update("fitting the bridges", len(sampled), len(sampled), len(sampled))
    former, note = _old_encoder(old, asked, needed=bool(both))
    judged = None
    if former is not None and asked.queries:
        pairs, judged = _with_queries(snapshot, pairs, former, encoder, asked, sampled)
    # Of use after a rollback alone, for what came since.
    some = np.linspace(0, len(pairs) - 1, min(len(pairs), BACK_PAIRS)).astype(np.int64)
    # Many small products: on a busy machine the threads of BLAS would wait for one another by
    # spinning, for ten times as long as one takes.
    with threadpool_limits(limits=1, user_api="blas"):
        bridge = choose_bridge(pairs, seed=seed)
        forward = choose_forward(pairs, bridge, seed=seed)
        back = choose_bridge(_swapped(pairs.take(some)), seed=seed)
        measured = measure_gate(pairs, bridge, forward, judged, seed=seed)
    if both is None and measured.bridge_quality is not None:
        both = measured.bridge_quality.compatible is False
    gate = {**measured.to_json(), "both": bool(both)}
    gate["notes"] = [note] if note else []
    if modality == IMAGE and not pairs.queries:
        gate["notes"].append(
            "the bridge is fitted on images, and texts lie elsewhere: give queries like those "
            "that are asked"
        )
    gate["seconds"] = {
        "embedding": round(embedded - start, 2),
        "fitting": round(time.monotonic() - embedded, 2),
    }
    gate["rate"] = round(len(sampled) / max(embedded - start, 1e-6), 2)
    return Fitted(
        space=encoder.space,
        encoder=loading,
        vectors=Vectors.of(sampled, modality, new),
        bridge=replace(bridge.value, both=matched(pairs, seed)) if both else bridge.value,
        back=back.value,
        forward=forward.value,
        measured=tuple(
            {**_measured(choice), "modality": modality} for choice in (bridge, back, forward)
        ),
        gate=gate,
    )


def _embed_all(
    snapshot: Snapshot, encoder: Encoder, modality: str, rows: Rows, progress: Progress
) -> tuple[Rows, Floats]:
    kept, vectors = [], [np.empty((0, encoder.space.dim), np.float32)]
    size = max(1, encoder.batch_size) * WINDOW
    for start in range(0, len(rows), size):
        made = embed(snapshot, encoder, modality, rows[start : start + size])
        kept.append(made.rows)
        vectors.append(made.vectors)
        done = min(start + size, len(rows))
        progress.update("embedding the sample", done, done, len(rows))
    return merged_rows(kept), np.concatenate(vectors)


def _judged_rows(snapshot: Snapshot, asked: Asked, rows: Rows, most: int) -> Rows:
    """Return the rows of relevant documents, at most so many: in the sample they say most."""
    if asked.qrels is None:
        return np.empty(0, np.int64)
    ids = {id for grades in asked.qrels.values() for id, grade in grades.items() if grade > 0}
    found = merged_rows(snapshot.rows_of(sorted(ids)))
    return stratified(rows[find_rows(rows, found)], most, 0)


def _old_encoder(
    old: Callable[[], Encoder], asked: Asked, *, needed: bool
) -> tuple[Encoder | None, str | None]:
    if not (asked.queries or needed):
        return None, None
    try:
        former = old()
        if TEXT in former.modalities:
            return former, None
        reason = f"{former.name} encodes no text"
    except (RetrError, OSError) as error:
        reason = str(error)
    if needed:
        raise InputError(
            f"upgrade: both encoders are asked for, and the old one cannot be used ({reason})"
        )
    return None, (
        f"the old encoder cannot be used ({reason}), so the queries give no pairs and the quality "
        "of today is not known"
    )


def _with_queries(
    snapshot: Snapshot,
    pairs: Pairs,
    former: Encoder,
    encoder: Encoder,
    asked: Asked,
    sampled: Rows,
) -> tuple[Pairs, Judged | None]:
    """Add pairs of queries, and the judged ones with what is relevant to them in the sample."""
    texts = [query for query in asked.queries if query.text][:QUERY_PAIRS]
    if not texts:
        return pairs, None
    asked_texts = [query.text or "" for query in texts]
    old = checked(former, former.encode_queries(asked_texts), len(texts))
    new = checked(encoder, encoder.encode_queries(asked_texts), len(texts))
    pairs = replace(pairs, old_queries=old, new_queries=new)
    if asked.qrels is None:
        return pairs, None
    place = _places(snapshot, sampled)
    gains, kept = [], []
    for number, query in enumerate(texts):
        grades = asked.qrels.get(str(query.id), {})
        found = {
            at: float(grade)
            for id, grade in grades.items()
            if grade > 0
            for at in place.get(id, ())
        }
        if found:
            gains.append(found)
            kept.append(number)
    return pairs, Judged(old[kept], new[kept], gains) if kept else None


def _places(snapshot: Snapshot, sampled: Rows) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for at, id in enumerate(snapshot.ids(sampled)):
        places.setdefault(id, []).append(at)
    return places


def _swapped(pairs: Pairs) -> Pairs:
    return Pairs(
        pairs.new,
        pairs.old,
        pairs.new_queries,
        pairs.old_queries,
        old_metric=pairs.new_metric,
        new_metric=pairs.old_metric,
    )


def _measured(choice: Choice[Any]) -> dict[str, Any]:
    best = choice.best
    return {
        "kind": best.kind,
        **best.settings,
        "calibration": best.calibration,
        "found": round(best.found, 4),
        "agreement": round(float(choice.agreement.mean()), 4),
    }


def _name(snapshot: Snapshot, key: str) -> str:
    return snapshot.spaces[key].encoder
