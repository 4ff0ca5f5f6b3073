"""The curve of an index: the recall and cost of its operating points.

Queries are split in half: points are chosen on one half, and reported as measured on the other.
Each half chooses in turn, and the more thorough choice is used.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..base import Floats, Hits, Index
from ..gpu.devices import on_device
from ..points import OperatingPoint, aimed

K: Final = 10
TARGETS: Final = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
"""The recalls for which a curve has points, besides the requested one."""

_BISECTIONS: Final = 3
_LONGER: Final = 2.5  # the factor by which longer shortlists are also tried
_TURN: Final = 25  # queries searched at one point before the next has its turn
_TIMED: Final = 200
_BATCHES: Final = 3
_Z: Final = 1.96


@dataclass(frozen=True, slots=True)
class Measured:
    """The measured recall and cost of an operating point.

    recall:    the mean recall at `K` over queries that did not choose the point.
    low, high: its 95% interval.
    cpu_us:    the median CPU time of a single query in microseconds; depends on the machine.
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
        """Return the value that `to_json` wrote."""
        return cls(**{**values, "point": OperatingPoint.from_json(values["point"])})


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """The queries with which indexes over one source are measured.

    queries: f32[q, dim].
    truth:   the exact answers.
    own:     whether the user gave the queries.
    """

    queries: Floats
    truth: Hits
    own: bool


def recalls(truth: Hits, found: Hits) -> NDArray[np.float64]:
    """Return the recall of each query, f64[q]; equal scores count as found."""
    kept = np.isfinite(truth.scores).sum(axis=1)
    last = truth.scores[np.arange(len(kept)), np.maximum(kept - 1, 0)]
    right = (found.scores >= last[:, None]) & (found.positions >= 0)
    shares: NDArray[np.float64] = np.minimum(right.sum(axis=1), kept) / np.maximum(kept, 1)
    return shares


class Trial:
    """An index under measurement: the recall and cost of each operating point."""

    def __init__(self, index: Index, asked: Questions) -> None:
        self.index = index
        self._queries = asked.queries
        self._truth = asked.truth
        self._known: dict[OperatingPoint, NDArray[np.float64]] = {}
        self._costs: dict[OperatingPoint, float] = {}
        self._first = np.arange(len(asked.queries)) % 2 == 0

    def turned(self) -> Trial:
        """Return the same trial with the two halves of the queries swapped."""
        other = copy.copy(self)
        if len(self._queries) > 1:
            other._first = ~self._first
        return other

    def overall(self, point: OperatingPoint) -> float:
        """Return the mean recall on all queries."""
        return float(self._recalls(point).mean())

    def recall(self, point: OperatingPoint) -> float:
        """Return the mean recall on the half of the queries that chooses."""
        return float(self._recalls(point)[self._first].mean())

    def error(self, point: OperatingPoint) -> float:
        """Return the standard error of `recall`."""
        values = self._recalls(point)[self._first]
        return float(values.std() / math.sqrt(len(values)))

    def measured(self, point: OperatingPoint) -> Measured:
        """Return a point's measurement on the half that does not choose."""
        several = len(self._queries) > 1
        values = self._recalls(point)[~self._first if several else self._first]
        mean = float(values.mean())
        low, high = _interval(values)
        return Measured(point, mean, low, high, self.cost(point))

    def cost(self, point: OperatingPoint) -> float:
        """Return the median CPU microseconds of a single query."""
        if point not in self._costs:
            (self._costs[point],) = in_turns([self.index.with_points([point])], self._queries)
        return self._costs[point]

    def cheapest(self, points: Sequence[OperatingPoint]) -> OperatingPoint | None:
        """Return the point that answers a query in the least time, the first if several tie.

        The points take turns, so that other load on the machine affects all alike.
        """
        if len({*points}) < 2:
            return points[0] if points else None
        indexes = [self.index.with_points([point]) for point in points]
        return points[int(np.argmin(in_turns(indexes, self._queries)))]

    def _recalls(self, point: OperatingPoint) -> NDArray[np.float64]:
        if point not in self._known:
            k = self._truth.scores.shape[1]
            hits = self.index.with_points([point]).search(self._queries, k)
            self._known[point] = recalls(self._truth, hits)
        return self._known[point]


def in_turns(indexes: Sequence[Index], queries: Floats) -> list[float]:
    """Return each index's median CPU time of a single query in microseconds, at its default point.

    No index gets a query that another has just answered: it would find the vectors to re-rank in
    the processor's cache, which favours an index more the longer its shortlist is.
    """
    times: list[list[int]] = [[] for _ in indexes]
    starts = range(0, min(_TIMED, len(queries)), _TURN)
    with on_device("cpu"):
        for number, block in turns(len(indexes), len(starts)):
            for query in queries[starts[block] : starts[block] + _TURN]:
                begin = time.process_time_ns()
                indexes[number].search(query[None], K)
                times[number].append(time.process_time_ns() - begin)
    return [float(np.median(each)) / 1000 for each in times]


def batches_in_turns(indexes: Sequence[Index], queries: Floats) -> list[float]:
    """Return each index's median CPU time of a batch in seconds, at its default point."""
    times: list[list[float]] = [[] for _ in indexes]
    with on_device("cpu"):
        for _ in range(_BATCHES):
            for index, spent in zip(indexes, times, strict=True):
                begin = time.process_time()
                index.search(queries, K)
                spent.append(time.process_time() - begin)
    return [float(np.median(each)) for each in times]


def turns(count: int, blocks: int) -> Iterator[tuple[int, int]]:
    """Yield (number, block) pairs in turns until each of `count` numbers has had each block.

    The pairs form a Latin square with maximal distance: between two numbers' turns at the same
    block other blocks come, and no number is always first.
    """
    for start in range(blocks):
        for number in range(count):
            apart = number * blocks // count if count <= blocks else number
            yield number, (start + apart) % blocks


def curve_of(trial: Trial, recall: float, own: bool) -> tuple[list[Measured], int]:
    """Return the points for `TARGETS` and the requested recall, and the latter's index."""
    points, turned = trial.index.points, trial.turned()
    wanted = sorted({*TARGETS, recall})
    chosen: dict[OperatingPoint, Trial] = {}
    of_recall = points[-1]
    for target in wanted:
        best, of_best = points[-1], trial
        first = _cheapest(trial, points, aimed(target, own))
        second = _cheapest(turned, points, aimed(target, own))
        is_there = first is not None and second is not None
        if first is not None and second is not None:
            # The half that accepts the cheaper point was favoured by chance.
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
    trial: Trial, points: Sequence[OperatingPoint], target: float
) -> OperatingPoint | None:
    """Return the cheapest point that meets a recall on the half that chooses; None if none does.

    Whether wider searches or longer shortlists gain more recall for their time depends on how
    precise the codes are, so both are tried.
    """
    longer = [
        OperatingPoint.of(**{**each, "shortlist": round(_LONGER * each["shortlist"])})
        for each in points
        if "shortlist" in each and len(each) > 1
    ]
    found = [_least(trial, each, target) for each in (points, longer)]
    return trial.cheapest([point for point in found if point is not None])


def _least(trial: Trial, points: Sequence[OperatingPoint], target: float) -> OperatingPoint | None:
    """Return the lowest of ascending points, or one between them, that meets a recall."""

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


def _trimmed(trial: Trial, point: OperatingPoint, meets: Any) -> OperatingPoint:
    """Lower each knob separately as far as the recall allows."""
    for name in point:
        for share in (0.5, 0.7, 0.85):
            value = max(1, round(point[name] * share))
            lower = OperatingPoint.from_json({**point.to_json(), name: value})
            if lower != point and meets(lower):
                point = lower
                break
    return point


def _between(low: OperatingPoint, high: OperatingPoint) -> OperatingPoint:
    """Return the point halfway between two, by the geometric mean of each knob."""
    return OperatingPoint.of(
        **{name: max(1, round(math.sqrt(low[name] * high[name]))) for name in high}
    )


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95% interval of the mean of recalls.

    It is Wilson's interval for a share (1927), with the number of trials that would give the
    observed variance: it stays within 0 and 1, and is not empty if every query found everything.
    """
    n, mean = len(values), float(values.mean())
    spread = float(values.var())
    trials = n * K if spread == 0 else min(n * K, max(n, mean * (1 - mean) / spread * n))
    centre = (mean + _Z**2 / (2 * trials)) / (1 + _Z**2 / trials)
    half = math.sqrt(mean * (1 - mean) / trials + (_Z / (2 * trials)) ** 2)
    half *= _Z / (1 + _Z**2 / trials)
    return max(0.0, centre - half), min(1.0, centre + half)
