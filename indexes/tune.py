"""Tuning: measure an index on queries, and set the cheapest operating point that meets a recall.

Recall at k is the share of the true best k that a search finds, and ties count: a hit is right
where its score is at least that of the true kth (as ann-benchmarks has it). Queries are halved:
points are chosen on one half, and what is reported of them was measured on the other. Each half
chooses, and the more thorough choice is taken.

Where no queries are given they are made from the vectors, see `made_queries`.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from . import kind
from ._checkpoint import Checkpoint
from .base import Floats, Hits, Index, Metric, Progress, VectorSource
from .candidates import candidates
from .exact import scan
from .points import OperatingPoint, aimed
from .spec import IndexSpec

K: Final = 10
TARGETS: Final = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
"""The recalls for which a curve has points, beside the one asked for."""

_QUERIES: Final = 2000
_TRUTH_VALUES: Final = 2_000_000_000  # rows times queries: half a minute at 384 dimensions
_LEAST_QUERIES: Final = 200
_TIMED: Final = 200
_NEIGHBOURS: Final = 12
_AROUND: Final = 64
_COPY: Final = 0.25  # of the way to the last of so many: what is nearer says the same again
_MOVED: Final = 64  # vectors at a time, with all their neighbours
_BISECTIONS: Final = 3
_LONGER: Final = 2.5  # what else the length of a shortlist is tried with
_TURN: Final = 25  # queries asked at one point before it is another's turn
_CLEARLY: Final = 0.9
_Z: Final = 1.96


@dataclass(frozen=True, slots=True)
class Measured:
    """What an operating point was found to do.

    recall:    the mean recall at `K` over queries that did not choose the point.
    low, high: its 95% interval.
    cpu_us:    microseconds of CPU of a single query, the median; depends on the machine.
    """

    point: OperatingPoint
    recall: float
    low: float
    high: float
    cpu_us: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            "point": self.point.to_json(),
            "recall": round(self.recall, 4),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
            "cpu_us": round(self.cpu_us, 1),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Measured:
        """Return what `to_json` wrote."""
        return cls(**{**values, "point": OperatingPoint.from_json(values["point"])})


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """An index with a measured curve.

    index:   its points are those of the curve, and its default is the point chosen; None where
             comparing every vector is the cheapest way, or the only one.
    curve:   ascending in recall and in cost.
    asked:   the recall asked for.
    queries: how many there were.
    own:     whether the user gave them.
    build_seconds, tune_seconds: wall time; what was built and not taken counts as tuning.
    """

    index: Index | None
    curve: tuple[Measured, ...]
    asked: float
    queries: int
    own: bool
    build_seconds: float
    tune_seconds: float

    @property
    def chosen(self) -> Measured | None:
        """The point that searches take; None where they are exact."""
        if self.index is None or not self.curve:
            return None
        return self.curve[self.index.default_effort]

    @property
    def recall(self) -> float:
        """The recall measured at the chosen point; 1 where searches are exact."""
        return 1.0 if self.chosen is None else self.chosen.recall

    @property
    def is_met(self) -> bool:
        """Whether what was aimed for is within the interval of what was measured, or below.

        That is the recall asked for, or with queries made from the vectors a higher one.
        """
        return self.chosen is None or self.chosen.high >= aimed(self.asked, self.own)

    def is_better(self, other: Tuned, share: float | None = None) -> bool:
        """Whether it meets what the other does not, or both do and it takes clearly less time.

        The other is the better bet: it is built sooner, and batches are faster with it.

        share: what a query takes, in parts of what it takes with the other, where both were asked
               in turns; None takes what was measured of each by itself.
        """
        if self.is_met != other.is_met:
            return self.is_met
        if not self.is_met or self.chosen is None or other.chosen is None:
            return self.recall > other.recall
        if share is None:
            share = self.chosen.cpu_us / other.chosen.cpu_us
        return share < _CLEARLY


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """What indexes over one source are measured with.

    queries: f32[q, dim].
    truth:   the answers of a search of all vectors.
    own:     whether the user gave the queries.
    """

    queries: Floats
    truth: Hits
    own: bool


def tune(
    source: VectorSource,
    spec: IndexSpec | None,
    queries: Floats | None,
    recall: float,
    *,
    memory: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    checkpoint: Callable[[IndexSpec], Checkpoint] | None = None,
) -> Tuned:
    """Build an index over `source` and set it to a recall.

    spec:    the kind of index; None builds those that size, dimension, recall and memory leave to
             choose from, and takes what answers a query in the least time.
    queries: f32[q, dim] of the kind that will be asked; None makes some from the vectors.
    recall:  above 0 and up to 1; 1 is exact.
    memory:  bytes that the index may take; None does not limit it.
    checkpoint: where the build of a spec leaves what is done; None keeps nothing.

    Raises:
        ValueError: `source` has no vectors, or the queries are not of its dimension.
        MissingFaissError: FAISS is not installed.
    """
    start = time.monotonic()
    specs = candidates(len(source), source.dim, source.metric, recall, memory)
    best: Tuned | None = None
    asked: Questions | None = None
    for each in [spec] if spec is not None else specs:
        if spec is None and each.kind == "flat" and not each.dims:
            return Tuned(None, (), recall, 0, queries is not None, 0.0, 0.0)
        begin = time.monotonic()
        kept = None if checkpoint is None else checkpoint(each)
        index = kind(each.kind).build(source, each, progress=progress, checkpoint=kept)
        made = time.monotonic() - begin
        asked = asked or questions(source, index, queries, seed)
        tuned = _measured(index, source, asked, recall, made)
        if best is None or tuned.is_better(best, _share(tuned, best, asked.queries)):
            best = tuned
    assert best is not None  # there is always a candidate
    # What was built and not taken was tuning, too.
    return replace(best, tune_seconds=time.monotonic() - start - best.build_seconds)


def measure(
    index: Index,
    source: VectorSource,
    queries: Floats | None,
    recall: float,
    *,
    seed: int = 0,
    build_seconds: float = 0.0,
) -> Tuned:
    """Measure an index that is there, and set it to a recall; see `tune`."""
    begin = time.monotonic()
    tuned = _measured(index, source, questions(source, index, queries, seed), recall, build_seconds)
    return replace(tuned, tune_seconds=time.monotonic() - begin)


def _measured(
    index: Index, source: VectorSource, asked: Questions, recall: float, build_seconds: float
) -> Tuned:
    curve, default = _curve(_Trial(index, asked), recall, asked.own)
    return Tuned(
        index.with_points([each.point for each in curve], default),
        tuple(curve),
        recall,
        len(asked.queries),
        asked.own,
        build_seconds,
        0.0,
    )


def questions(source: VectorSource, index: Index, queries: Floats | None, seed: int) -> Questions:
    """Return queries with their answers; `index` helps to make some where none are given."""
    asked = made_queries(source, index, seed) if queries is None else queries
    most = _most_queries(len(source))
    if len(asked) > most:
        asked = asked[np.random.default_rng(seed).permutation(len(asked))[:most]]
    return Questions(asked, scan(source, asked, min(K, len(source))), queries is not None)


def made_queries(source: VectorSource, index: Index, seed: int) -> Floats:
    """Return vectors as they may come to be asked for, f32[q, dim], none of them in `source`.

    A vector of the index moves in a random direction among its neighbours, as far as its nearest
    neighbour is away; copies of it are no neighbours. On embeddings of paragraphs such queries are
    as hard as paragraphs held out of the index, or a little harder; the vectors themselves, left
    out of their own results, are far easier, and so are points between neighbours. Where queries
    are of another kind than the vectors they may be harder than these: see `aimed`.
    """
    random = np.random.default_rng(seed)
    sample = source.sample(min(_most_queries(len(source)), len(source)), seed)
    parts = [
        _moved(sample[start : start + _MOVED], source, index, random)
        for start in range(0, len(sample), _MOVED)
    ]
    made = np.concatenate(parts)
    # What has copies only does not move, and would be asked for as it is.
    kept = made[np.isfinite(made).all(axis=1)]
    return np.ascontiguousarray(kept if len(kept) else sample, np.float32)


def _moved(
    vectors: Floats, source: VectorSource, index: Index, random: np.random.Generator
) -> NDArray[np.float64]:
    """Return vectors moved, f64[q, dim]; NaN where there is nowhere to move."""
    near = index.search(vectors, _AROUND + 1, effort=len(index.points) - 1)
    positions = near.positions[:, 1:]  # the first is the vector itself
    there = positions >= 0
    neighbours = source.take(np.where(there, positions, 0).ravel()).reshape(*positions.shape, -1)
    ways = (neighbours - vectors[:, None]).astype(np.float64)
    lengths = np.linalg.norm(ways, axis=2) * there
    there &= lengths > _COPY * lengths.max(axis=1, keepdims=True, initial=0)
    there &= np.cumsum(there, axis=1) <= _NEIGHBOURS
    nearest = np.where(there, lengths, np.inf).min(axis=1, initial=np.inf)
    nearest[np.isinf(nearest)] = np.nan
    way = np.einsum("qn,qnd->qd", random.standard_normal(positions.shape) * there, ways)
    wide: NDArray[np.float64] = vectors.astype(np.float64)
    if source.metric is not Metric.COSINE:
        moved: NDArray[np.float64] = wide + nearest[:, None] * _unit(way)
        return moved
    # Along the sphere, to where the chord is as long.
    cosine = np.clip(1 - nearest**2 / 2, -1, 1)[:, None]
    way -= np.einsum("qd,qd->q", way, wide)[:, None] * wide
    return _unit(cosine * wide + np.sqrt(1 - cosine**2) * _unit(way))


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    out: NDArray[np.float64] = vectors / np.maximum(lengths, 1e-30)
    return out


def recalls(truth: Hits, found: Hits) -> NDArray[np.float64]:
    """Return the recall of each query, f64[q]; equal scores count as found."""
    kept = np.isfinite(truth.scores).sum(axis=1)
    last = truth.scores[np.arange(len(kept)), np.maximum(kept - 1, 0)]
    right = (found.scores >= last[:, None]) & (found.positions >= 0)
    shares: NDArray[np.float64] = np.minimum(right.sum(axis=1), kept) / np.maximum(kept, 1)
    return shares


class _Trial:
    """An index on trial: what each operating point finds, and what it costs."""

    def __init__(self, index: Index, asked: Questions) -> None:
        self.index = index
        self._queries = asked.queries
        self._truth = asked.truth
        self._known: dict[OperatingPoint, NDArray[np.float64]] = {}
        self._costs: dict[OperatingPoint, float] = {}
        self._first = np.arange(len(asked.queries)) % 2 == 0

    def turned(self) -> _Trial:
        """Return the same trial with the halves of the queries changed over."""
        other = copy.copy(self)
        if len(self._queries) > 1:
            other._first = ~self._first
        return other

    def overall(self, point: OperatingPoint) -> float:
        """Return the mean recall on all queries."""
        return float(self._recalls(point).mean())

    def recall(self, point: OperatingPoint) -> float:
        """Return the mean recall on the half of the queries that choose."""
        return float(self._recalls(point)[self._first].mean())

    def error(self, point: OperatingPoint) -> float:
        """Return the standard error of `recall`."""
        values = self._recalls(point)[self._first]
        return float(values.std() / math.sqrt(len(values)))

    def measured(self, point: OperatingPoint) -> Measured:
        """Return what a point does on the half that does not choose."""
        several = len(self._queries) > 1
        values = self._recalls(point)[~self._first if several else self._first]
        mean = float(values.mean())
        low, high = _interval(values)
        return Measured(point, mean, low, high, self.cost(point))

    def cost(self, point: OperatingPoint) -> float:
        """Return the median CPU microseconds of a single query."""
        if point not in self._costs:
            (self._costs[point],) = _in_turns([self.index.with_points([point])], self._queries)
        return self._costs[point]

    def cheapest(self, points: Sequence[OperatingPoint]) -> OperatingPoint | None:
        """Return the point that answers a query in the least time, the first of equals.

        They are asked in turns, so that what else the machine does falls on all alike.
        """
        if len({*points}) < 2:
            return points[0] if points else None
        indexes = [self.index.with_points([point]) for point in points]
        return points[int(np.argmin(_in_turns(indexes, self._queries)))]

    def _recalls(self, point: OperatingPoint) -> NDArray[np.float64]:
        if point not in self._known:
            k = self._truth.scores.shape[1]
            hits = self.index.with_points([point]).search(self._queries, k)
            self._known[point] = recalls(self._truth, hits)
        return self._known[point]


def _in_turns(indexes: Sequence[Index], queries: Floats) -> list[float]:
    """Return the median CPU microseconds of a single query with each, at its default point."""
    times: list[list[int]] = [[] for _ in indexes]
    for start in range(0, min(_TIMED, len(queries)), _TURN):
        for index, spent in zip(indexes, times, strict=True):
            for query in queries[start : start + _TURN]:
                begin = time.process_time_ns()
                index.search(query[None], K)
                spent.append(time.process_time_ns() - begin)
    return [float(np.median(each)) / 1000 for each in times]


def _share(one: Tuned, other: Tuned, queries: Floats) -> float | None:
    """Return what a query takes with one, in parts of what it takes with the other."""
    if one.index is None or other.index is None:
        return None
    time_of_one, time_of_other = _in_turns([one.index, other.index], queries)
    return time_of_one / max(time_of_other, 1e-9)


def _curve(trial: _Trial, recall: float, own: bool) -> tuple[list[Measured], int]:
    """Return the points for `TARGETS` and the recall asked for, and which of them is for it."""
    points, turned = trial.index.points, trial.turned()
    wanted = sorted({*TARGETS, recall})
    chosen: dict[OperatingPoint, _Trial] = {}
    of_recall = points[-1]
    for target in wanted:
        best, of_best = points[-1], trial
        first = _cheapest(trial, points, aimed(target, own))
        second = _cheapest(turned, points, aimed(target, own))
        is_there = first is not None and second is not None
        if first is not None and second is not None:
            # Chance has favoured the half that is content with less.
            best = max(first, second, key=trial.overall)
            of_best = trial if best == first else turned
        chosen.setdefault(best, of_best)
        if target == recall:
            of_recall = best
        if not is_there:
            break
    measured = [of.measured(point) for point, of in chosen.items()]
    measured.sort(key=lambda each: (each.recall, each.cpu_us))
    kept: list[Measured] = []
    for each in measured:
        while kept and kept[-1].cpu_us >= each.cpu_us and kept[-1].point != of_recall:
            kept.pop()
        kept.append(each)
    return kept, [each.point for each in kept].index(of_recall)


def _cheapest(
    trial: _Trial, points: Sequence[OperatingPoint], target: float
) -> OperatingPoint | None:
    """Return the cheapest point that meets a recall on the half that chooses; None if none does.

    Whether wider searches or longer shortlists find more for the time depends on how much the
    codes say of the vectors, so both are tried.
    """
    longer = [
        OperatingPoint.of(**{**each, "shortlist": round(_LONGER * each["shortlist"])})
        for each in points
        if "shortlist" in each and len(each) > 1
    ]
    found = [_least(trial, each, target) for each in (points, longer)]
    return trial.cheapest([point for point in found if point is not None])


def _least(trial: _Trial, points: Sequence[OperatingPoint], target: float) -> OperatingPoint | None:
    """Return the least of ascending points, or between them, that meets a recall."""

    def meets(point: OperatingPoint) -> bool:
        return trial.recall(point) - trial.error(point) / 2 >= target

    above = next((i for i, point in enumerate(points) if meets(point)), None)
    if above is None:
        return None
    high = points[above]
    if above:
        low = points[above - 1]
        for _ in range(_BISECTIONS):
            middle = _between(low, high)
            if middle in (low, high):
                break
            if meets(middle):
                high = middle
            else:
                low = middle
    return _trimmed(trial, high, meets)


def _trimmed(trial: _Trial, point: OperatingPoint, meets: Any) -> OperatingPoint:
    """Lower each knob by itself as far as the recall allows."""
    for name in point:
        for share in (0.5, 0.7, 0.85):
            value = max(1, round(point[name] * share))
            lower = OperatingPoint.from_json({**point.to_json(), name: value})
            if lower != point and meets(lower):
                point = lower
                break
    return point


def _between(low: OperatingPoint, high: OperatingPoint) -> OperatingPoint:
    """Return the point whose knobs lie half way, on a scale of ratios."""
    return OperatingPoint.of(
        **{name: max(1, round(math.sqrt(low[name] * high[name]))) for name in high}
    )


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95% interval of the mean of recalls.

    Wilson's for a share (1927), with as many trials as would give the variance that was seen: it
    stays within 0 and 1, and is not empty where every query found all.
    """
    n, mean = len(values), float(values.mean())
    spread = float(values.var())
    trials = n * K if spread == 0 else min(n * K, max(n, mean * (1 - mean) / spread * n))
    centre = (mean + _Z**2 / (2 * trials)) / (1 + _Z**2 / trials)
    half = math.sqrt(mean * (1 - mean) / trials + (_Z / (2 * trials)) ** 2)
    half *= _Z / (1 + _Z**2 / trials)
    return max(0.0, centre - half), min(1.0, centre + half)


def _most_queries(rows: int) -> int:
    return min(_QUERIES, max(_LEAST_QUERIES, _TRUTH_VALUES // max(rows, 1)))
