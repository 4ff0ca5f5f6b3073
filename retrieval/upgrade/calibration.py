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
from .pairs import Pairs


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
    """

    mean: Floats
    new_mean: Floats
    root: Floats
    new_root: Floats
    scale: float = 1.0

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
        shift = (queries @ self.new_mean).astype(np.float64) - scale * (carried @ self.mean)
        return scale, shift


def _spread(projected: Floats) -> NDArray[np.float32]:
    found: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", projected, projected))
    return found


def calibrations(
    pairs: Pairs, carried: Floats, there: Floats, metric: str
) -> dict[str, Calibration | None]:
    """Return every calibration that can be fitted from pairs, the simplest first.

    carried: f32[n, o], the new vectors of the pairs carried to the segment's space as queries.
    there:   f32[n, o], the vectors of the pairs in the segment's space.
    metric:  of the segment.
    """
    found: dict[str, Calibration | None] = {"none": None}
    if metric == "l2" or pairs.new_metric == "l2":
        return found  # what is no inner product has not these moments
    mean, new_mean = there.mean(axis=0), pairs.new.mean(axis=0)
    inside, outside = there - mean, pairs.new - new_mean
    none = np.empty((there.shape[1], 0), np.float32), np.empty((len(new_mean), 0), np.float32)
    sample = slice(0, 500)
    scale = float(
        np.std(pairs.new[sample] @ outside.T) / (np.std(carried[sample] @ inside.T) or 1.0)
    )
    found["mean"] = Calibration(mean, new_mean, *none, scale)
    roots = _root(inside), _root(outside)
    found["moments"] = Calibration(mean, new_mean, *roots)
    return found


def _root(centred: Floats) -> Floats:
    """Return f32[d, r]: a root of the covariance, of the directions that make most of a score."""
    values, vectors = np.linalg.eigh(centred.astype(np.float64).T @ centred / len(centred))
    kept = slice(-min(_RANK, len(values)), None)
    root: Doubles = vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0))
    return root.astype(np.float32)


_RANK = 32
