"""Fits maps from pairs: the same documents (or queries) embedded in two spaces.

All fits are closed forms in float64 over n pairs, source f32[n, s] and target f32[n, t]. They do
not choose the strength of a ridge: `choose.py` measures those on held-out pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..bridges.maps import Doubles, Floats, Linear


class Ridge:
    """Ridge regression with an intercept, for any number of strengths from one decomposition.

    The penalty is `strength` times the mean variance of a source dimension times n, so that a
    strength means the same whatever the length of the vectors and the number of pairs.

    weights: f64[n], how much each pair counts; None counts all pairs equally.
    towards: f32[s, t], the weight that a strong penalty shrinks to; None is zero.
    """

    def __init__(
        self,
        source: Floats,
        target: Floats,
        weights: NDArray[np.floating] | None = None,
        towards: Floats | None = None,
    ) -> None:
        x, y = source.astype(np.float64), target.astype(np.float64)
        share = np.full(len(x), 1.0) if weights is None else np.asarray(weights, np.float64)
        self._mean = share @ x / share.sum()
        self._target_mean = share @ y / share.sum()
        x -= self._mean
        y -= self._target_mean
        self._towards = None if towards is None else towards.astype(np.float64)
        if self._towards is not None:
            y -= x @ self._towards
        root = np.sqrt(share)[:, None]
        x *= root
        y *= root
        self._values, self._vectors = np.linalg.eigh(x.T @ x)
        self._values = np.maximum(self._values, 0)
        self._projected = self._vectors.T @ (x.T @ y)
        self._scale = float(self._values.mean()) or 1.0

    def map(self, strength: float, *, unit: bool = False) -> Linear:
        """Return the least-squares map under this penalty.

        strength: above 0; there may be fewer pairs than dimensions.
        unit:     whether to normalise mapped vectors.
        """
        weight = self._weight(strength)
        bias = self._target_mean - self._mean @ weight
        return Linear(weight.astype(np.float32), bias.astype(np.float32), unit)

    def _weight(self, strength: float) -> Doubles:
        shrunk = self._projected / (self._values + strength * self._scale)[:, None]
        weight: Doubles = self._vectors @ shrunk
        return weight if self._towards is None else weight + self._towards


class Whitening:
    """Compares the vectors of a space so that a few directions do not dominate.

    vectors: f32[n, d], a sample of the space.
    """

    def __init__(self, vectors: Floats) -> None:
        x = vectors.astype(np.float64)
        x -= x.mean(axis=0)
        values, self._vectors = np.linalg.eigh(x.T @ x / len(x))
        self._values = np.maximum(values, 0)

    def root(self, floor: float) -> Floats:
        """Return R, f32[d, d], symmetric: x R and y R have the inner product x C^(-1/2) y'.

        C is the covariance with `floor` times its mean variance added to every direction. The
        inner product is thus halfway between the space's own and that under full whitening.
        """
        values = (self._values + floor * (self._values.mean() or 1.0)) ** -0.25
        # Keep the scale of the space: the inverse is needed when rows become queries.
        values /= np.sqrt((values**2).mean())
        root: Doubles = (self._vectors * values) @ self._vectors.T
        return root.astype(np.float32)


def procrustes(source: Floats, target: Floats, *, unit: bool = False) -> Linear:
    """Return the least-squares orthogonal map (Schoenemann, 1966): UV' of the SVD of X'Y.

    If the dimensions differ, it is the nearest matrix with orthonormal rows or columns. Nothing is
    centred, because an orthogonal map keeps all inner products.
    """
    cross = source.astype(np.float64).T @ target.astype(np.float64)
    u, _, v = np.linalg.svd(cross, full_matrices=False)
    weight = u @ v
    return Linear(weight.astype(np.float32), np.zeros(weight.shape[1], np.float32), unit)


def folds(n: int, count: int, seed: int) -> Sequence[NDArray[np.int64]]:
    """Split 0 … n-1 at random into `count` parts of nearly equal size."""
    return np.array_split(np.random.default_rng(seed).permutation(n), min(count, n))
