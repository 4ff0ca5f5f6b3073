"""The axes of a plot: how values are spread over one, its ends, and the ticks at it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

_TICK_NINES = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_ALL = 0.9995  # a share of 1 stands here on an axis of nines


class Scale(StrEnum):
    """How values are spread over an axis."""

    LINEAR = "linear"
    LOG = "log"
    NINES = "nines"  # 0.9, 0.99 and 0.999 are equally far apart: for shares near 1


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis.

    label:  what is on it.
    scale:  of its values.
    low, high: its ends; None for round numbers around the values.
    ticks:  the values to write at it; () for some that are round.
    format: of a tick, as in a format string; "" for as few digits as the ticks need.
    """

    label: str = ""
    scale: Scale = Scale.LINEAR
    low: float | None = None
    high: float | None = None
    ticks: Sequence[float] = ()
    format: str = ""


class Placing:
    """From a value to its place in pixels, between `first` and `last`.

    values: what is to be placed; they give the ends that the axis leaves open.
    ticks:  the values to write at the axis.
    """

    def __init__(self, axis: Axis, values: Sequence[float], first: float, last: float) -> None:
        self._axis, self._first, self._last = axis, first, last
        low = min(values) if axis.low is None else axis.low
        high = max(values) if axis.high is None else axis.high
        self._low, self._high, ticks = _ENDS[axis.scale](low, high, axis)
        shown = [self._shown(tick) for tick in (self._low, self._high)]
        self._begin, self._extent = shown[0], shown[1] - shown[0] or 1.0
        self.ticks = [t for t in axis.ticks or ticks if self._low <= t <= self._high + 1e-12]
        self._digits = _digits(self.ticks)

    def __call__(self, value: float) -> float:
        """Return where a value stands; one beyond an end stands at the end."""
        shown = self._shown(min(max(value, self._low), self._high))
        return self._first + (self._last - self._first) * (shown - self._begin) / self._extent

    def text(self, tick: float) -> str:
        """Return a value as it is written at the axis."""
        if self._axis.format:
            return format(tick, self._axis.format)
        if self._axis.scale is Scale.LINEAR:
            return f"{tick:,.{self._digits}f}"
        return f"{tick:,.6g}"

    def _shown(self, value: float) -> float:
        if self._axis.scale is Scale.LOG:
            return math.log10(value)
        if self._axis.scale is Scale.NINES:
            return -math.log10(1 - min(value, _ALL))
        return value


def _linear(low: float, high: float, axis: Axis) -> tuple[float, float, Sequence[float]]:
    extent = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(extent / 5))
    step = next(n * power for n in (1, 2, 5, 10) if extent / (n * power) <= 6)
    if axis.low is None:
        low = math.floor(low / step + 1e-9) * step
    if axis.high is None:
        high = math.ceil(high / step - 1e-9) * step
    first = math.ceil(low / step - 1e-9)
    return low, high, [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _log(low: float, high: float, axis: Axis) -> tuple[float, float, Sequence[float]]:
    if low <= 0:
        raise ValueError(f"{axis.label}: {low} has no place on a logarithmic axis")
    if axis.low is None:
        low = 10 ** (math.floor(math.log10(low) * 4 + 1e-9) / 4)
    if axis.high is None:
        high = 10 ** (math.ceil(math.log10(high) * 4 - 1e-9) / 4)
    high = max(high, low * 1.5)
    steps = (1,) if high / low > 2e3 else (1, 2, 5)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return low, high, [step * 10.0**power for power in powers for step in steps]


def _nines(low: float, high: float, axis: Axis) -> tuple[float, float, Sequence[float]]:
    if axis.low is None:
        low = max((tick for tick in _TICK_NINES if tick <= low), default=0.0)
    return min(low, _TICK_NINES[-2]), axis.high or _ALL, _TICK_NINES


_ENDS: dict[Scale, Callable[[float, float, Axis], tuple[float, float, Sequence[float]]]] = {
    Scale.LINEAR: _linear,
    Scale.LOG: _log,
    Scale.NINES: _nines,
}


def _digits(ticks: Sequence[float]) -> int:
    """Return how many digits behind the point tell the ticks apart."""
    return next((n for n in range(6) if all(abs(round(t, n) - t) < 1e-9 for t in ticks)), 6)
