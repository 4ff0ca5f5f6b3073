"""The curve over backfill, through the collection that users run: begin, map, backfill, search."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...retrieval.collection import Collection
from ...retrieval.encoders.base import TEXT, Encoder
from ...retrieval.evaluation.intervals import mean_interval
from ...retrieval.segments.snapshot import Snapshot
from ...retrieval.store.store import Store
from ...retrieval.upgrade.changes import Fitted, Vectors, begin
from ...retrieval.upgrade.gate import SHARES
from ...retrieval.upgrade.pairs import Pairs
from ...retrieval.upgrade.rows import embed, found_in, gather
from ...retrieval.values.types import Query
from ..beir.cache import share
from ..beir.folders import Prepared
from .steps import Arrays, Chosen

MODES = ("dense", "hybrid")
DEPTH = 10
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A data set in a collection of the old encoder, and by the new one.

    path: of the collection; nothing is changed in it.
    rows: i64[n], its rows; `arrays` has them in this order.
    ids:  of their documents.
    """

    dataset: Prepared
    path: Path
    old: Encoder
    new: Encoder
    rows: NDArray[np.int64]
    ids: tuple[str, ...]
    arrays: Arrays


def open_subject(dataset: Prepared, path: Path, old: Encoder, new: Encoder) -> Subject:
    """Read a collection of the old encoder and embed all of it by the new one."""
    snapshot = _snapshot(path)
    rows, there = gather(snapshot.dense, found_in(snapshot, snapshot.manifest.space, TEXT))
    ids = tuple(snapshot.ids(rows))
    texts = list(dataset.queries.values())
    place = {id: at for at, id in enumerate(ids)}
    gains = [
        {place[id]: float(grade) for id, grade in grades.items() if grade > 0 and id in place}
        for grades in (dataset.qrels[query] for query in dataset.queries)
    ]
    whole = Pairs(
        there,
        embed(snapshot, new, TEXT, rows).vectors,
        old.encode_queries(texts),
        new.encode_queries(texts),
        old_metric=old.space.metric,
        new_metric=new.space.metric,
    )
    return Subject(dataset, path, old, new, rows, ids, Arrays(whole, gains))


def curves(subject: Subject, chosen: Chosen, orders: Sequence[str], folder: Path) -> dict[str, Any]:
    """Upgrade copies of the collection, one for each order of backfill; return plain values.

    chosen: of the sample; its rows are places in `subject.rows`.

    The shares are of the rows outside the sample, whose new vectors are there from the start.
    """
    before = Collection(subject.path, encoder=subject.old)
    old = {mode: _judge(before, subject, mode)[0] for mode in MODES}
    out: dict[str, Any] = {"old_old": {mode: float(old[mode].mean()) for mode in MODES}}
    for order in orders:
        path = folder / f"{order}.retr"
        shutil.rmtree(path, ignore_errors=True)
        share(subject.path, path)
        # The first order is what a user gets; the others are there to be compared with it.
        modes = MODES if order == orders[0] else MODES[:1]
        out[order] = _curve(subject, path, chosen, order, modes, old)
        shutil.rmtree(path)
    return out


def fresh(collection: Collection, subject: Subject) -> dict[str, float]:
    """Return M of a collection that was built with the new encoder, by mode."""
    return {mode: float(_judge(collection, subject, mode)[0].mean()) for mode in MODES}


def _curve(
    subject: Subject,
    path: Path,
    chosen: Chosen,
    order: str,
    modes: Sequence[str],
    old: Mapping[str, Doubles],
) -> dict[str, Any]:
    _begin(subject, path, chosen)
    collection = Collection(path, encoder=subject.new)
    bridged = {mode: _judge(collection, subject, mode)[0] for mode in modes}
    collection.map_upgrade(progress=False)
    rest, done = len(subject.rows) - len(chosen.rows), 0
    values: dict[str, list[Doubles]] = {mode: [] for mode in modes}
    recalls = []
    for each in SHARES:
        wanted = round(each * rest)
        if wanted > done:
            collection.backfill(rows=wanted - done, order=order, progress=False)
            done = wanted
        for mode in modes:
            found, split = _judge(collection, subject, mode)
            values[mode].append(found)
            if mode == "dense":
                recalls.append(split)
    return {
        "shares": list(SHARES),
        "modes": {mode: _described(values[mode], bridged[mode], old[mode]) for mode in modes},
        "recall_of": {
            "backfilled": [first for first, _ in recalls],
            "others": [second for _, second in recalls],
        },
    }


def _begin(subject: Subject, path: Path, chosen: Chosen) -> None:
    """Begin an upgrade with given rows, as `Collection.upgrade` does with rows drawn."""
    bridge, forward, back = chosen.bridge, chosen.forward, chosen.back
    fitted = Fitted(
        space=subject.new.space,
        encoder={"name": subject.new.name, "options": subject.new.options.to_json()},
        vectors=Vectors.of(subject.rows[chosen.rows], TEXT, subject.arrays.whole.new[chosen.rows]),
        bridge=bridge.value,
        back=back.value,
        forward=forward.value,
        measured=(
            {"kind": bridge.best.kind},
            {"kind": back.best.kind},
            {"kind": forward.best.kind},
        ),
        gate={},
    )
    store = Store(path)
    begin(store, _snapshot(path), fitted)


def _described(values: Sequence[Doubles], bridged: Doubles, old: Doubles) -> dict[str, Any]:
    """Return the points of a curve, and what is asked of it.

    area:   under the curve over the shares, as an update gain: 0 is the old model all along, 1 the
            new one.
    least:  the smallest M, less M(old,old).
    falls:  pairs of shares between which the curve falls, by a paired 95 % interval.
    flips:  at each share, the queries that are worse off than with the old model.
    """
    means = [float(each.mean()) for each in values]
    room = means[-1] - float(old.mean())
    area = float(np.trapezoid(means, SHARES)) if hasattr(np, "trapezoid") else _area(means)
    falls = []
    for later in range(1, len(values)):
        for earlier in range(later):
            interval = mean_interval(values[later] - values[earlier])
            if interval is not None and interval.high < 0:
                falls.append([SHARES[earlier], SHARES[later]])
    against = [mean_interval(each - old) for each in values]
    return {
        "bridge": float(bridged.mean()),
        "values": means,
        "gains": [(mean - float(old.mean())) / room for mean in means] if room > 0 else None,
        "low": [None if each is None else each.low for each in against],
        "high": [None if each is None else each.high for each in against],
        "area": (area - float(old.mean())) / room if room > 0 else None,
        "least": min(means) - float(old.mean()),
        "falls": falls,
        "flips": [int((each < old - 1e-9).sum()) for each in values],
    }


def _area(means: Sequence[float]) -> float:
    widths = np.diff(SHARES)
    heights = (np.array(means[1:]) + np.array(means[:-1])) / 2
    return float((widths * heights).sum())


def _judge(
    collection: Collection, subject: Subject, mode: str
) -> tuple[Doubles, tuple[float | None, float | None]]:
    """Return nDCG@10 of each query, and recall@10 of relevant rows with new vectors and without."""
    queries = [Query(text=text) for text in subject.dataset.queries.values()]
    discount = 1 / np.log2(np.arange(2, DEPTH + 2))
    values = np.zeros(len(queries))
    turned = _turned(collection)
    counts = np.zeros((2, 2))
    qrels = subject.dataset.qrels
    results = collection.search(queries, DEPTH, mode=mode)
    for number, (query, found) in enumerate(zip(subject.dataset.queries, results, strict=True)):
        grades = {id: grade for id, grade in qrels[query].items() if grade > 0}
        ideal = sorted(grades.values(), reverse=True)[:DEPTH]
        hits = [hit.id for hit in found]
        got = np.array([float(grades.get(id, 0)) for id in hits])
        if ideal:
            values[number] = got @ discount[: len(got)] / (ideal @ discount[: len(ideal)])
        for id in grades:
            kind = int(id not in turned)
            counts[kind] += (id in hits, 1)
    split = [float(a / b) if b else None for a, b in counts]
    return values, (split[0], split[1])


def _turned(collection: Collection) -> set[str]:
    """Return the ids of documents with a vector of the encoder of the queries."""
    snapshot = _snapshot(collection.path)
    return set(snapshot.ids(found_in(snapshot, snapshot.manifest.space, TEXT)))


def _snapshot(path: Path) -> Snapshot:
    store = Store(path)
    return Snapshot(store, store.read()[0])
