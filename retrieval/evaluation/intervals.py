"""Confidence intervals of a mean with numpy alone, for use without scipy.

`significance.py` compares whole runs and needs the extra `eval`; an upgrade has to measure itself
on any installation.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from .significance import Interval, check_options

_BLOCK = 1 << 22  # values held at once while resampling


def mean_interval(
    values: NDArray[np.floating],
    *,
    confidence: float = 0.95,
    resamples: int = 1_999,
    seed: int = 0,
) -> Interval | None:
    """Return the bias-corrected and accelerated bootstrap interval (Efron 1987) of the mean.

    values: [n]; for two systems, the differences query by query. None for fewer than two.
    """
    check_options(confidence, resamples, seed)
    x = np.asarray(values, np.float64)
    n = len(x)
    if n < 2:
        return None
    mean = float(x.mean())
    centred = x - mean
    if np.abs(centred).max() < 1e-12:
        return Interval(mean, mean, confidence)
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [
            x[rng.integers(0, n, (size, n))].mean(axis=1)
            for size in _sizes(resamples, max(1, _BLOCK // n))
        ]
    )
    normal = NormalDist()
    below = (np.count_nonzero(means < mean) + np.count_nonzero(means <= mean)) / (2 * resamples)
    bias = normal.inv_cdf(min(max(below, 0.5 / resamples), 1 - 0.5 / resamples))
    # The acceleration by the jackknife: leaving a value out moves the mean by its own deviation.
    acceleration = float((centred**3).sum() / (6 * (centred**2).sum() ** 1.5))
    ends = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = bias + normal.inv_cdf(tail)
        ends.append(normal.cdf(bias + z / (1 - acceleration * z)))
    low, high = np.quantile(means, ends)
    return Interval(float(low), float(high), confidence)


def _sizes(total: int, block: int) -> list[int]:
    whole, rest = divmod(total, block)
    return [block] * whole + ([rest] if rest else [])
