"""Fits calibrations from pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..bridges.calibration import Calibration, Matched
from ..bridges.maps import Doubles, Floats, similarities
from .pairs import Pairs


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
    if squares == (None, None):  # these moments are those of inner products
        found["moments"] = Calibration(
            mean, new_mean, _root(there - mean), _root(pairs.new - new_mean)
        )
    found["best"] = matched(replace(pairs, old=there, old_metric=metric))
    return found


def matched(pairs: Pairs, seed: int = 0) -> Matched:
    """Return the calibration that matches scores on a sample of the pairs."""
    some = np.sort(np.random.default_rng(seed).permutation(len(pairs))[:_MATCHED])
    old, new = pairs.old[some], pairs.new[some]
    return Matched(old, new, max(2, round(_BEST * len(some))), pairs.old_metric, pairs.new_metric)


def _within(scores: Floats) -> float:
    """Return the standard deviation of scores about each query's mean score."""
    return float(np.std(scores - scores.mean(axis=1, keepdims=True)))


def _square(vectors: Floats, metric: str) -> float | None:
    return float(np.einsum("ij,ij->i", vectors, vectors).mean()) if metric == "l2" else None


def _root(centred: Floats) -> Floats:
    """Return a root of the covariance, f32[d, r], in the directions of largest variance."""
    values, vectors = np.linalg.eigh(centred.astype(np.float64).T @ centred / len(centred))
    kept = slice(-min(_RANK, len(values)), None)
    root: Doubles = vectors[:, kept] * np.sqrt(np.maximum(values[kept], 0))
    return root.astype(np.float32)


_RANK = 32
_MATCHED, _BEST = 1_000, 0.01
