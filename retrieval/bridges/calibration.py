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

from .maps import Doubles, Floats, similarities


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
    square, new_square: the mean squared length of the pairs there and in the new space, where
                scores are negative squared distances ("l2"); None where they are inner products.
    """

    mean: Floats
    new_mean: Floats
    root: Floats
    new_root: Floats
    scale: float = 1.0
    square: float | None = None
    new_square: float | None = None

    @property
    def linear(self) -> bool:
        """Whether all it asks of a query is linear in it."""
        return self.square is None and self.new_square is None

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
        usual = _usual(queries, self.new_mean, self.new_square)
        shift = usual - scale * _usual(carried, self.mean, self.square)
        return scale, shift


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """Scales and shifts by what a query scores a sample, in a segment's space and in the new one.

    Two encoders need not spread scores alike: some give next to nothing to all rows but a few. So
    what is matched is, of each query, the mean and how far above it the best of the sample are,
    for it is among the best that hits are decided.

    old, new: f32[n, o] and f32[n, d], the sample in both spaces.
    best:     how many of it are the best.
    metric, new_metric: of the two spaces.
    """

    old: Floats
    new: Floats
    best: int
    metric: str
    new_metric: str

    def affine(self, queries: Floats, own: Floats) -> tuple[Doubles, Doubles]:
        """Return the scale and the shift of each query, f64[q] and f64[q].

        queries: f32[q, d], of the new space.
        own:     f32[q, o], the same in the segment's space.
        """
        mean, above = self._spread(similarities(own, self.old, self.metric))
        new_mean, new_above = self._spread(similarities(queries, self.new, self.new_metric))
        scale = np.ones(len(queries))
        np.divide(new_above, above, out=scale, where=(above > 0) & (new_above > 0))
        return scale, new_mean - scale * mean

    def _spread(self, scores: Floats) -> tuple[Doubles, Doubles]:
        """Return the mean of each query's scores, and how far above it the best lie."""
        mean = scores.mean(axis=1, dtype=np.float64)
        best = np.partition(scores, scores.shape[1] - self.best, axis=1)[:, -self.best :]
        return mean, best.mean(axis=1, dtype=np.float64) - mean


def _usual(queries: Floats, mean: Floats, square: float | None) -> Doubles:
    """Return f64[q], what each query scores vectors of that mean on average."""
    found = (queries @ mean).astype(np.float64)
    if square is None:
        return found
    usual: Doubles = 2 * found - square - np.einsum("ij,ij->i", queries, queries)
    return usual


def _spread(projected: Floats) -> NDArray[np.float32]:
    found: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", projected, projected))
    return found
