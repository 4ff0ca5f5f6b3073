"""Prepares an upgrade: re-embeds a sample, fits the bridges and measures the gate.

It writes nothing and holds no lock.
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
    """The user's queries and judgments to measure with.

    queries: queries like those that users will ask.
    qrels:   {query id: {document id: grade}}; the queries then need ids.
    """

    queries: Sequence[Query] = ()
    qrels: Mapping[str, Mapping[str, int]] | None = None


def check_start(snapshot: Snapshot, encoder: Encoder, path: object) -> None:
    """Refuse an upgrade that is impossible.

    Raises:
        InputError: an upgrade is already under way, the encoder is of the same space, or no map
            is possible between the collection's vectors and the new encoder's.
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
            f"{path}: it still has vectors mapped from an earlier encoder; embed those rows first: "
            f"retr upgrade backfill --index {path}"
        )
    if encoder.space == snapshot.space:
        raise InputError(
            f"{path}: its vectors are of {encoder.name} already; there is nothing to upgrade"
        )
    for space, whose in ((snapshot.space, "the collection's"), (encoder.space, "the new")):
        if space.sparse:
            raise InputError(
                f"{path}: {whose} encoder {space.encoder} gives word weights, and there is no "
                "map between those and vectors; build another collection with the new encoder: "
                "retr index build SOURCE --encoder NAME --index ANOTHER.retr"
            )
    modality = sampled_modality(snapshot)
    if modality not in encoder.modalities:
        raise InputError(
            f"{path}: the encoder {encoder.name} encodes no {modality}, so it cannot re-embed "
            "the collection; give one that does"
        )
    check_settings(encoder.space, Settings.of(manifest.settings))
    if not snapshot.dense:
        raise InputError(
            f"{path}: there are no vectors to upgrade; build another collection with the new "
            "encoder: retr index build SOURCE --encoder NAME --index ANOTHER.retr"
        )


def sampled_modality(snapshot: Snapshot) -> str:
    """Return the modality to fit a bridge on: texts if there are any, because queries are texts."""
    return IMAGE if snapshot.modalities == {IMAGE} else TEXT


def prepare(
    snapshot: Snapshot,
    encoder: Encoder,
    loading: Mapping[str, Any],
    load_old: Callable[[], Encoder],
    asked: Asked,
    *,
    sample: int = SAMPLE,
    both: bool | None = None,
    seed: int = 0,
    progress: Progress,
) -> Fitted:
    """Embed a sample, fit the bridges and measure the gate.

    loading:  how to load the new encoder again.
    load_old: loads the old encoder. If that fails, queries give no pairs and today's quality is
              unknown.
    both:     also have the old encoder encode queries; None does so if the judged queries show
              that this beats the bridge alone.

    Raises:
        InputError: too few rows can be embedded, or `both` is set and the old encoder cannot be
            used.
    """
    start = time.monotonic()
    space = snapshot.space
    modality = sampled_modality(snapshot)
    rows = found_in(snapshot, snapshot.manifest.space, modality)
    chosen = stratified(rows, sample, seed)
    judged_rows = _judged_rows(snapshot, asked, rows, sample)
    to_embed = merged_rows([chosen, judged_rows])
    sampled, new = _embed_all(snapshot, encoder, modality, to_embed, progress)
    if len(sampled) < FEWEST:
        raise InputError(
            f"upgrade: {len(sampled)} of {len(chosen)} sampled rows could be embedded by "
            f"{encoder.name}, and a bridge needs at least {FEWEST}; your own vectors without "
            f"their {modality} cannot be re-embedded"
        )
    embedded = time.monotonic()
    segments = [s for s in snapshot.dense if s.entry.modality == modality]
    _, there = gather([s for s in segments if s.entry.space == snapshot.manifest.space], sampled)
    pairs = Pairs(there, new, old_metric=space.metric, new_metric=encoder.space.metric)
    progress.update("fitting the bridges", len(sampled), len(sampled), len(sampled))
    old, note = _old_encoder(load_old, asked, needed=bool(both))
    judged = None
    if old is not None and asked.queries:
        pairs, judged = _with_queries(snapshot, pairs, old, encoder, asked, sampled)
    # The bridge back is used only after a rollback, for documents added since.
    some = np.linspace(0, len(pairs) - 1, min(len(pairs), BACK_PAIRS)).astype(np.int64)
    # Many small products: on a busy machine, BLAS threads would spin waiting for one another ten
    # times as long as a product takes.
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
            "the bridge is fitted on images, but the vectors of texts lie elsewhere: give queries "
            "like those that users will ask"
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
    """Return at most `most` rows of relevant documents, which tell most in the sample."""
    if asked.qrels is None:
        return np.empty(0, np.int64)
    ids = {id for grades in asked.qrels.values() for id, grade in grades.items() if grade > 0}
    found = merged_rows(snapshot.rows_of(sorted(ids)))
    return stratified(rows[find_rows(rows, found)], most, 0)


def _old_encoder(
    load_old: Callable[[], Encoder], asked: Asked, *, needed: bool
) -> tuple[Encoder | None, str | None]:
    """Return the old encoder if queries need it, or a note that says why it cannot be used."""
    if not (asked.queries or needed):
        return None, None
    try:
        old = load_old()
        if TEXT in old.modalities:
            return old, None
        reason = f"{old.name} encodes no text"
    except (RetrError, OSError) as error:
        reason = str(error)
    if needed:
        raise InputError(
            f"upgrade: both encoders are asked for, and the old one cannot be used ({reason})"
        )
    return None, (
        f"the old encoder cannot be used ({reason}), so the queries give no pairs and today's "
        "quality is unknown"
    )


def _with_queries(
    snapshot: Snapshot,
    pairs: Pairs,
    old: Encoder,
    new: Encoder,
    asked: Asked,
    sampled: Rows,
) -> tuple[Pairs, Judged | None]:
    """Return the pairs with pairs of queries, and the queries judged on rows of the sample."""
    texts = [query for query in asked.queries if query.text][:QUERY_PAIRS]
    if not texts:
        return pairs, None
    asked_texts = [query.text or "" for query in texts]
    old_queries = checked(old, old.encode_queries(asked_texts), len(texts))
    new_queries = checked(new, new.encode_queries(asked_texts), len(texts))
    pairs = replace(pairs, old_queries=old_queries, new_queries=new_queries)
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
    return pairs, Judged(old_queries[kept], new_queries[kept], gains) if kept else None


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
