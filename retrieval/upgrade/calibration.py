"""Calibration: scores of mapped or bridged vectors made comparable with those of new ones.

A score of one segment and a score of another meet in one merge. What an old vector scores through
a bridge, or a mapped one directly, lies elsewhere and is spread less than what the new vector of
the same row would score. A calibration gives each query a scale and a shift. Least squares would
shrink the scores of old rows below those of new ones (they are the noisier ones), so the first two
moments are matched instead; and whether any of it helps is measured, see `choose.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .maps import Doubles, Floats


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Scale and shift of the scores that a query has in a segment.

    A query x of the new space, carried to x' in the segment's, has over the rows of the pairs the
    mean score m = x'.mean and the variance v = |x' root|², and over their new vectors M and V
    likewise. Matching them gives scale = (V / v)^(1/2) and shift = M - scale m, each query its own.

    mean:       f32[o], the mean of the pairs in the segment's space.
    new_mean:   f32[n], in the new one.
    root:       f32[o, r], a root of their covariance; r = 0 leaves the scale to `scale`.
    new_root:   f32[n, s].
    scale:      where there are no roots: the same for each query.
    shift:      added for each query.
    shifts:     whether the means are matched; else the shift is `shift` alone.
    """

    mean: Floats
    new_mean: Floats
    root: Floats
    new_root: Floats
    scale: float = 1.0
    shift: float = 0.0
    shifts: bool = True

    def affine(self, queries: Floats, carried: Floats) -> tuple[Doubles, Doubles]:
        """Return the scale and the shift of each query, f64[q] and f64[q].

        queries: f32[q, n], of the new space.
        carried: f32[q, o], the same in the segment's space.
        """
        scale = np.full(len(queries), self.scale, np.float64)
        if self.root.shape[1]:
            inside, outside = _spread(carried @ self.root), _spread(queries @ self.new_root)
            # A query that all rows answer alike gives no scale.
            np.divide(outside, inside, out=scale, where=inside > 0)
        shift = np.full(len(queries), self.shift, np.float64)
        if self.shifts:
            shift += queries @ self.new_mean - scale * (carried @ self.mean)
        return scale, shift


def _spread(projected: Floats) -> NDArray[np.float32]:
    found: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", projected, projected))
    return found
