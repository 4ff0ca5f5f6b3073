"""Calibration makes the scores of mapped or bridged vectors comparable with those of new ones.

One merge compares the scores of all segments. The scores of old vectors through a bridge, and of
mapped vectors, have another mean and a smaller spread than the scores that the rows' new vectors
would have. A calibration gives each query a scale and a shift. Least squares would shrink the
scores of old rows, which are the noisier ones, below those of new rows, so the first two moments
are matched instead. Whether that helps is measured, see `upgrade/choose.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .maps import Doubles, Floats, similarities


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Scale and shift of a query's scores in a segment, by matching mean and variance.

    A query x of the new space is carried to x' in the segment's space. Over the pairs' vectors
    there, its scores have the mean m = x'.mean and the variance v = |x' root|²; over the pairs' new
    vectors, the scores of x have M and V likewise. Matching them gives each query its own
    scale = (V / v)^(1/2) and shift = M - scale m.

    mean:       f32[o], the mean of the pairs in the segment's space.
    new_mean:   f32[n], in the new space.
    root:       f32[o, r], a root of their covariance; r = 0 uses `scale` instead.
    new_root:   f32[n, s].
    scale:      the scale of every query if there are no roots.
    square, new_square: the pairs' mean squared length in the segment's and the new space, if
                scores are negative squared distances ("l2"); None if they are inner products.
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
        """Whether scale and shift depend on the query only through products linear in it."""
        return self.square is None and self.new_square is None

    def affine(self, queries: Floats, carried: Floats) -> tuple[Doubles, Doubles]:
        """Return the scale and the shift of each query, f64[q] and f64[q].

        queries: f32[q, n], in the new space.
        carried: f32[q, o], the same queries in the segment's space.
        """
        scale = np.full(len(queries), self.scale, np.float64)
        if self.root.shape[1]:
            inside, outside = _spread(carried @ self.root), _spread(queries @ self.new_root)
            # If all rows score the same for a query, there is no spread to match.
            np.divide(outside, inside, out=scale, where=inside > 0)
        new_mean = _mean_scores(queries, self.new_mean, self.new_square)
        shift = new_mean - scale * _mean_scores(carried, self.mean, self.square)
        return scale, shift


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """Scale and shift of a query's scores, by matching its scores of a sample in both spaces.

    Two encoders need not spread scores alike: some score all rows but a few near zero. So each
    query's mean score is matched, and how far the best of the sample lie above it: the best rows
    are the ones that become hits.

    old, new: f32[n, o] and f32[n, d], the sample in the segment's and the new space.
    best:     how many rows count as the best.
    metric, new_metric: of the two spaces.
    """

    old: Floats
    new: Floats
    best: int
    metric: str
    new_metric: str

    def affine(self, queries: Floats, own: Floats) -> tuple[Doubles, Doubles]:
        """Return the scale and the shift of each query, f64[q] and f64[q].

        queries: f32[q, d], in the new space.
        own:     f32[q, o], the same queries in the segment's space.
        """
        mean, above = self._spread(similarities(own, self.old, self.metric))
        new_mean, new_above = self._spread(similarities(queries, self.new, self.new_metric))
        scale = np.ones(len(queries))
        np.divide(new_above, above, out=scale, where=(above > 0) & (new_above > 0))
        return scale, new_mean - scale * mean

    def _spread(self, scores: Floats) -> tuple[Doubles, Doubles]:
        """Return the mean of each query's scores, and how far the best lie above it."""
        mean = scores.mean(axis=1, dtype=np.float64)
        best = np.partition(scores, scores.shape[1] - self.best, axis=1)[:, -self.best :]
        return mean, best.mean(axis=1, dtype=np.float64) - mean


def _mean_scores(queries: Floats, mean: Floats, square: float | None) -> Doubles:
    """Return each query's mean score over vectors with this mean, f64[q].

    square: the vectors' mean squared length under "l2"; None for inner products.
    """
    products = (queries @ mean).astype(np.float64)
    if square is None:
        return products
    scores: Doubles = 2 * products - square - np.einsum("ij,ij->i", queries, queries)
    return scores


def _spread(projected: Floats) -> NDArray[np.float32]:
    found: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", projected, projected))
    return found
