"""Calibration: scores of mapped or bridged vectors made comparable with those of new ones.

A score of one segment and a score of another meet in one merge. What an old vector scores through
a bridge, or a mapped one directly, lies elsewhere and is spread less than what the new vector of
the same row would score. A calibration gives each query a scale and a shift. Least squares would
shrink the scores of old rows below those of new ones (they are the noisier ones), so the first two
moments are matched instead; and whether any of it helps is measured, see `choose.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..upgrade.pairs import Pairs, similarities
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

    @classmethod
    def of(cls, pairs: Pairs, seed: int = 0) -> Matched:
        """Return what matches by some of the pairs."""
        some = np.sort(np.random.default_rng(seed).permutation(len(pairs))[:_MATCHED])
        old, new = pairs.old[some], pairs.new[some]
        return cls(old, new, max(2, round(_BEST * len(some))), pairs.old_metric, pairs.new_metric)

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


_MATCHED, _BEST = 1_000, 0.01


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


def calibrations(
    pairs: Pairs, carried: Floats, there: Floats, metric: str
) -> dict[str, Calibration | Matched | None]:
    """Return every calibration that can be fitted from pairs, the simplest first.

    carried: f32[n, o], the new vectors of the pairs carried to the segment's space as queries.
    there:   f32[n, o], the vectors of the pairs in the segment's space.
    metric:  of the segment.
    """
    found: dict[str, Calibration | Matched | None] = {"none": None}
    mean, new_mean = there.mean(axis=0), pairs.new.mean(axis=0)
    none = np.empty((there.shape[1], 0), np.float32), np.empty((len(new_mean), 0), np.float32)
    sample = slice(0, 500)
    outside = similarities(pairs.new[sample], pairs.new, pairs.new_metric)
    inside = similarities(carried[sample], there, metric)
    scale = float(_within(outside) / (_within(inside) or 1.0))
    squares = _square(there, metric), _square(pairs.new, pairs.new_metric)
    found["mean"] = Calibration(mean, new_mean, *none, scale, *squares)
    if squares == (None, None):  # what is no inner product has not these moments
        found["moments"] = Calibration(
            mean, new_mean, _root(there - mean), _root(pairs.new - new_mean)
        )
    found["best"] = Matched.of(replace(pairs, old=there, old_metric=metric))
    return found


def _within(scores: Floats) -> float:
    """Return how much scores vary about what each query scores on average."""
    return float(np.std(scores - scores.mean(axis=1, keepdims=True)))


def _square(vectors: Floats, metric: str) -> float | None:
    return float(np.einsum("ij,ij->i", vectors, vectors).mean()) if metric == "l2" else None


def _root(centred: Floats) -> Floats:
    """Return f32[d, r]: a root of the covariance, of the directions that make most of a score."""
    values, vectors = np.linalg.eigh(centred.astype(np.float64).T @ centred / len(centred))
    kept = slice(-min(_RANK, len(values)), None)
    root: Doubles = vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0))
    return root.astype(np.float32)


_RANK = 32
