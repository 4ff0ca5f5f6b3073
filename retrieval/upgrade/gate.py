"""The gate: what an upgrade would do to a collection, measured before anything changes.

Everything is measured on the rows of the sample, each bridged or mapped by a fit that has not seen
it. With judged queries the gate reports quality, M = nDCG@10: M(old,old), M(new,old) and
M(new,new), where the second model is the one the rows are embedded with (BT²'s protocol). Without
them it reports agreement with the new model's own ranking. Agreement is not quality: a new model
that is worse than the old one can reach the same agreement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bridges.bridge import Bridge
from ..bridges.forward import Forward
from ..bridges.maps import Doubles, Floats, similarities
from ..evaluation.intervals import mean_interval
from ..evaluation.significance import Interval
from .candidates import bridged_scores, mapped_scores
from .choose import Choice
from .pairs import Pairs, stacked
from .task import agreement

SHARES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""The shares of rows backfilled at which the curve is estimated."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Queries with judgments of rows of the sample.

    old, new: f32[j, o] and f32[j, d], the queries as encoded by both encoders.
    gains:    for each query, pair → relevance above 0.
    """

    old: Floats
    new: Floats
    gains: Sequence[Mapping[int, float]]


@dataclass(frozen=True, slots=True)
class Measured:
    """A mean over queries and its 95 % interval; the interval is None for a single query."""

    mean: float
    interval: Interval | None

    @classmethod
    def of(cls, values: Doubles, seed: int) -> Measured:
        """Return the mean of f64[q] and its interval."""
        return cls(float(values.mean()), mean_interval(values, seed=seed))


@dataclass(frozen=True, slots=True)
class Quality:
    """The quality of one step, the bridge or the forward map, on judged queries; M is nDCG@10.

    old_old, new_old, new_new: M, where the second model is the one the rows are embedded with.
    difference:  M(new,old) - M(old,old), paired by query.
    gain:        the update gain, (M(new,old) - M(old,old)) / (M(new,new) - M(old,old)); None
                 if the new model is no better than the old one.
    compatible:  the criterion M(new,old) > M(old,old): True or False if the interval of the
                 difference decides it, None if it does not.
    flips:       how many queries get worse.
    better:      how many queries get better.
    queries:     how many queries are judged.
    """

    old_old: Measured
    new_old: Measured
    new_new: Measured
    difference: Measured
    gain: float | None
    compatible: bool | None
    flips: int
    better: int
    queries: int


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the curve over a backfill.

    share:     the share of rows backfilled, 0 to 1.
    agreement: the mean agreement with the new model's own ranking.
    quality:   the mean of M; None without judged queries.
    """

    share: float
    agreement: float
    quality: float | None


@dataclass(frozen=True, slots=True)
class Gate:
    """The report before an upgrade.

    pairs, queries: how many documents and sample queries were used.
    old_agreement:  agreement of the old model's own ranking with the new model's, as of today.
    bridge, forward: agreement of each step, on held-out pairs.
    bridge_kind, forward_kind: the kinds chosen.
    bridge_quality, forward_quality: None without judged queries.
    curve:          expected over a backfill in the order of predicted residuals.
    hopeless:       whether neither step does better than one fitted on shuffled pairs.
    """

    pairs: int
    queries: int
    old_agreement: Measured
    bridge: Measured
    bridge_kind: str
    forward: Measured
    forward_kind: str
    bridge_quality: Quality | None
    forward_quality: Quality | None
    curve: tuple[Point, ...]
    hopeless: bool

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def measure_gate(
    pairs: Pairs,
    bridge: Choice[Bridge],
    forward: Choice[Forward],
    judged: Judged | None = None,
    *,
    seed: int = 0,
) -> Gate:
    """Measure what an upgrade would do.

    pairs:           the pairs that both were chosen on.
    bridge, forward: the results of `choose_bridge` and `choose_forward`.
    judged:          the judged queries, if there are any.
    """
    queries = _some_rows(len(pairs), _MOST_QUERIES, seed)
    asked = stacked(pairs.new[queries], pairs.new_queries)
    own = np.concatenate([queries, np.full(pairs.queries, -1)])
    new = similarities(asked, pairs.new, pairs.new_metric)
    mapped = _held_mapped(forward, asked, pairs)
    order = _residual_order(forward, pairs)
    shares = {share: mixed(mapped, new, order, share) for share in SHARES}
    agreements = {share: agreement(scores, new, own) for share, scores in shares.items()}
    bridge_quality = forward_quality = None
    qualities: dict[float, Doubles] = {}
    if judged is not None and len(judged.gains):
        old_old = ndcg(similarities(judged.old, pairs.old, pairs.old_metric), judged.gains)
        judged_new = similarities(judged.new, pairs.new, pairs.new_metric)
        new_new = ndcg(judged_new, judged.gains)
        by_map = _held_mapped(forward, judged.new, pairs)
        by_bridge = _held_bridged(bridge, judged.new, pairs)
        bridge_quality = quality(old_old, ndcg(by_bridge, judged.gains), new_new, seed)
        forward_quality = quality(old_old, ndcg(by_map, judged.gains), new_new, seed)
        for share in SHARES:
            qualities[share] = ndcg(mixed(by_map, judged_new, order, share), judged.gains)
    return Gate(
        pairs=len(pairs),
        queries=pairs.queries,
        old_agreement=Measured.of(bridge.old, seed),
        bridge=Measured.of(bridge.agreement, seed),
        bridge_kind=bridge.best.kind,
        forward=Measured.of(forward.agreement, seed),
        forward_kind=forward.best.kind,
        bridge_quality=bridge_quality,
        forward_quality=forward_quality,
        curve=tuple(
            Point(
                share,
                float(agreements[share].mean()),
                float(qualities[share].mean()) if qualities else None,
            )
            for share in SHARES
        ),
        hopeless=bridge.hopeless and forward.hopeless,
    )


def quality(old_old: Doubles, new_old: Doubles, new_new: Doubles, seed: int = 0) -> Quality:
    """Return the quality of a step from the values of M for each judged query, f64[q] each."""
    difference = Measured.of(new_old - old_old, seed)
    room = float(new_new.mean() - old_old.mean())
    interval = difference.interval
    compatible = None
    if interval is not None and interval.low > 0:
        compatible = True
    elif interval is not None and interval.high <= 0:
        compatible = False
    return Quality(
        old_old=Measured.of(old_old, seed),
        new_old=Measured.of(new_old, seed),
        new_new=Measured.of(new_new, seed),
        difference=difference,
        gain=float((new_old.mean() - old_old.mean()) / room) if room > 0 else None,
        compatible=compatible,
        flips=int((new_old < old_old - _SAME).sum()),
        better=int((new_old > old_old + _SAME).sum()),
        queries=len(old_old),
    )


def ndcg(scores: Floats, gains: Sequence[Mapping[int, float]], depth: int = 10) -> Doubles:
    """Return nDCG@depth of each query, f64[q], as in trec_eval: linear gains, log2 discount.

    scores: f32[q, n].
    gains:  for each query, row → relevance; a query without any counts 0.
    """
    depth = min(depth, scores.shape[1])
    top = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
    order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
    top = np.take_along_axis(top, order, axis=1)
    discount = 1 / np.log2(np.arange(2, depth + 2))
    out = np.zeros(len(scores))
    for query, (rows, judged) in enumerate(zip(top, gains, strict=True)):
        best = sorted((gain for gain in judged.values() if gain > 0), reverse=True)[:depth]
        if best:
            found = [max(0.0, judged.get(int(row), 0.0)) for row in rows]
            out[query] = np.dot(found, discount) / np.dot(best, discount[: len(best)])
    return out


def mixed(mapped: Floats, new: Floats, order: NDArray[np.int64], share: float) -> Floats:
    """Return the scores when a share of the rows, the first of `order`, have new vectors."""
    out = mapped.copy()
    done = order[: round(share * len(order))]
    out[:, done] = new[:, done]
    return out


_SAME = 1e-9
_MOST_QUERIES = 1_000


def _some_rows(n: int, most: int, seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).permutation(n)[:most])


def _residual_order(forward: Choice[Forward], pairs: Pairs) -> NDArray[np.int64]:
    found = np.empty(len(pairs))
    for rows, value in forward.held:
        found[rows] = value.predicted_residuals(pairs.old[rows])
    order: NDArray[np.int64] = np.argsort(-found, kind="stable")
    return order


def _held_mapped(forward: Choice[Forward], queries: Floats, pairs: Pairs) -> Floats:
    out = np.empty((len(queries), len(pairs)), np.float32)
    for rows, value in forward.held:
        out[:, rows] = mapped_scores(value, queries, pairs.take(rows))
    return out


def _held_bridged(bridge: Choice[Bridge], queries: Floats, pairs: Pairs) -> Floats:
    out = np.empty((len(queries), len(pairs)), np.float32)
    for rows, value in bridge.held:
        out[:, rows] = bridged_scores(value, queries, pairs.take(rows))
    return out
