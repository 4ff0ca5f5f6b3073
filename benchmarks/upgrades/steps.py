"""What each map and calibration is worth, on arrays: the steps of an upgrade one by one.

M is nDCG@10. "old/old" searches old vectors with old queries, "new/old" what the rows are left with
by new queries, "new/new" new vectors (BT²'s protocol: the second says what the rows hold).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...retrieval.bridges.bridge import Bridge
from ...retrieval.bridges.forward import Forward
from ...retrieval.bridges.maps import similarities
from ...retrieval.upgrade.calibrating import matched
from ...retrieval.upgrade.candidates import (
    BridgeFits,
    Fits,
    ForwardFits,
    bridged_scores,
    calibrated_forward,
    mapped_scores,
)
from ...retrieval.upgrade.choose import Choice, Trial, choose_bridge, choose_forward
from ...retrieval.upgrade.gate import SHARES, ndcg, quality
from ...retrieval.upgrade.pairs import Pairs

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """A data set by two encoders.

    whole:   all documents, and the judged queries as `old_queries` and `new_queries`.
    gains:   of each query, row → relevance above 0.
    """

    whole: Pairs
    gains: Sequence[Mapping[int, float]]

    def unjudged(self) -> Rows:
        """Return the rows that are relevant to no query."""
        judged = np.zeros(len(self.whole), bool)
        judged[[row for gains in self.gains for row in gains]] = True
        return np.flatnonzero(~judged)

    def drawn(self, pairs: int, clean: bool, seed: int) -> Rows:
        """Return the rows of so many pairs, ascending; `clean` leaves out the judged ones."""
        pool = self.unjudged() if clean else np.arange(len(self.whole))
        return np.sort(np.random.default_rng(seed).permutation(pool)[:pairs])

    def pairs(self, rows: Rows) -> Pairs:
        """Return pairs of documents alone: the queries here are those that judge."""
        return replace(self.whole.take(rows), old_queries=None, new_queries=None)


@dataclass(frozen=True, slots=True)
class Step:
    """One way to search old rows with new queries, nothing re-embedded but the pairs.

    step:   "bridge" or "forward".
    kind, settings, calibration, found: of the candidate, see `choose.Trial`.
    chosen: whether it is what an upgrade takes.
    unseen: M(new,old) with every row bridged or mapped by a fit that has not seen it.
    value:  of the chosen one M(new,old) as a collection has it, where the pairs hold their
            new vectors; of the others, which are not calibrated to mix with those, `unseen`.
    gain, unseen_gain: update gains.
    low, high: of value - M(old,old), 95 %, paired by query.
    flips:  queries that get worse.
    """

    step: str
    kind: str
    settings: Mapping[str, float]
    calibration: str
    found: float
    chosen: bool
    unseen: float
    value: float
    gain: float | None
    unseen_gain: float | None
    low: float | None
    high: float | None
    flips: int


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """What an upgrade takes, of the pairs of some rows.

    back: takes old queries to new vectors, for a rollback.
    """

    rows: Rows
    bridge: Choice[Bridge]
    forward: Choice[Forward]
    back: Choice[Bridge]

    @classmethod
    def of(cls, data: Arrays, rows: Rows, seed: int) -> Chosen:
        """Choose from the pairs of some rows, ascending."""
        pairs = data.pairs(rows)
        swapped = Pairs(
            pairs.new, pairs.old, old_metric=pairs.new_metric, new_metric=pairs.old_metric
        )
        bridge = choose_bridge(pairs, seed=seed)
        forward = choose_forward(pairs, bridge, seed=seed)
        return cls(rows, bridge, forward, choose_bridge(swapped, seed=seed))


def steps(data: Arrays, chosen: Chosen) -> dict[str, Any]:
    """Measure both steps; return plain values.

    The best settings of each kind are shown, and the chosen candidate with each calibration as the
    mixed curve in the usual order of backfill.
    """
    rows, bridge, forward = chosen.rows, chosen.bridge, chosen.forward
    base = _base(data)
    kept = bridge.best.kind, bridge.best.settings, bridge.best.calibration

    def forwards(some: Pairs) -> ForwardFits:
        return ForwardFits(some, kept)

    found = [
        *_steps("bridge", bridge, BridgeFits, data, rows, base),
        *_steps("forward", forward, forwards, data, rows, base),
    ]
    return {
        "pairs": len(rows),
        "old_old": float(base[0].mean()),
        "new_new": float(base[1].mean()),
        "agreement": {
            "old": float(forward.old.mean()),
            "bridge": float(bridge.agreement.mean()),
            "forward": float(forward.agreement.mean()),
        },
        "steps": [asdict(step) for step in found],
        "calibrations": _calibrations(data, rows, forward),
        "both": _both(data, rows),
    }


def _base(data: Arrays) -> tuple[Doubles, Doubles]:
    whole = data.whole
    assert whole.old_queries is not None and whole.new_queries is not None
    old = similarities(whole.old_queries, whole.old, whole.old_metric)
    new = similarities(whole.new_queries, whole.new, whole.new_metric)
    return ndcg(old, data.gains), ndcg(new, data.gains)


def _steps(
    step: str,
    choice: Choice[Any],
    family: Callable[[Pairs], Fits[Any]],
    data: Arrays,
    rows: Rows,
    base: tuple[Doubles, Doubles],
) -> Iterator[Step]:
    fits = family(data.pairs(rows))
    seen: set[str] = set()
    for trial in (choice.best, *choice.trials):
        if trial.kind in seen:
            continue
        seen.add(trial.kind)
        chosen = trial == choice.best
        value = choice.value if chosen else fits.make(trial.kind, trial.settings)
        yield _step(step, trial, chosen, value, choice, family, data, rows, base)


def _step(
    step: str,
    trial: Trial,
    chosen: bool,
    value: Any,
    choice: Choice[Any],
    family: Callable[[Pairs], Fits[Any]],
    data: Arrays,
    rows: Rows,
    base: tuple[Doubles, Doubles],
) -> Step:
    score: Any = bridged_scores if step == "bridge" else mapped_scores
    queries = data.whole.new_queries
    scores = score(value, queries, data.whole)
    unseen = scores.copy()
    for part, held in choice.held:
        others = np.setdiff1d(rows, rows[part])
        if not chosen:
            held = family(data.pairs(others)).make(trial.kind, trial.settings)
        unseen[:, rows[part]] = score(held, queries, data.whole.take(rows[part]))
    # Scores without a calibration may lie anywhere: among themselves they rank all the same.
    live = unseen.copy()
    if chosen:
        live[:, rows] = similarities(queries, data.whole.new[rows], data.whole.new_metric)  # type: ignore[arg-type]
    found, without = ndcg(live, data.gains), ndcg(unseen, data.gains)
    judged, other = quality(base[0], found, base[1]), quality(base[0], without, base[1])
    interval = judged.difference.interval
    return Step(
        step=step,
        kind=trial.kind,
        settings=trial.settings,
        calibration=trial.calibration if chosen else "none",
        found=trial.found,
        chosen=chosen,
        unseen=other.new_old.mean,
        value=judged.new_old.mean,
        gain=judged.gain,
        unseen_gain=other.gain,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        flips=judged.flips,
    )


def _calibrations(data: Arrays, rows: Rows, choice: Choice[Forward]) -> dict[str, list[float]]:
    """Return M over backfill for each calibration, at `SHARES` of the rows without a new vector."""
    forward = choice.value
    order = _rest(data, rows)
    order = order[np.argsort(-forward.usefulness(data.whole.old[order]), kind="stable")]
    return {
        name: _mixed(data, rows, mapped_scores(each, _queries(data), data.whole), order)
        for name, each in calibrated_forward(forward, data.pairs(rows)).items()
    }


def _both(data: Arrays, rows: Rows) -> list[float]:
    """Return M over backfill in a random order, queries encoded by both encoders and no map."""
    whole = data.whole
    assert whole.old_queries is not None
    scale, shift = matched(data.pairs(rows)).affine(_queries(data), whole.old_queries)
    scores = similarities(whole.old_queries, whole.old, whole.old_metric)
    brought = (scores * scale[:, None] + shift[:, None]).astype(np.float32)
    return _mixed(data, rows, brought, np.random.default_rng(0).permutation(_rest(data, rows)))


def _rest(data: Arrays, rows: Rows) -> Rows:
    return np.setdiff1d(np.arange(len(data.whole)), rows)


def _queries(data: Arrays) -> Floats:
    assert data.whole.new_queries is not None
    return data.whole.new_queries


def _mixed(data: Arrays, rows: Rows, scores: Floats, order: Rows) -> list[float]:
    """Return M at `SHARES` of the order, the pairs of `rows` holding their new vectors."""
    whole = data.whole
    new = similarities(_queries(data), whole.new, whole.new_metric)
    scores[:, rows] = new[:, rows]
    values = []
    for share in SHARES:
        done = order[: round(share * len(order))]
        scores[:, done] = new[:, done]
        values.append(float(ndcg(scores, data.gains).mean()))
    return values
