"""The forward map turns stored old vectors into mapped ones without calling an encoder.

Mapped vectors are a space of their own, tied to the map that made them; a query reaches them
through the map's bridge. The forward map also predicts how far a row's new vector will be from its
mapped one, and so which rows a backfill should re-embed first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bridge import Bridge
from .maps import BLOCK, Floats, Hubless, Identity, Linear, Map


@dataclass(frozen=True, slots=True, eq=False)
class Residuals:
    """Predicts how far a mapped vector is from the new vector of its row.

    The squared distance is regressed, over the pairs, on two features known before re-embedding:
    the squared Mahalanobis distance of the old vector from the pairs (by which least squares
    increases the variance of a prediction), and the squared length of the mapped vector before it
    is normalised.

    mean:     f32[o], of the pairs' old vectors.
    whitener: f32[o, r].
    raw:      the map without its final normalisation.
    slope:    f32[2]; intercept.
    """

    mean: Floats
    whitener: Floats
    raw: Map
    slope: Floats
    intercept: float

    def predict(self, old: Floats) -> Floats:
        """Return the expected squared distances of old vectors f32[n, o], f32[n]."""
        features = _features(old, self.mean, self.whitener, self.raw)
        out: Floats = features @ self.slope + np.float32(self.intercept)
        return out


def _features(old: Floats, mean: Floats, whitener: Floats, raw: Map) -> Floats:
    away = (old - mean) @ whitener
    mapped = raw.apply(old)
    return np.stack(
        [np.einsum("ij,ij->i", away, away), np.einsum("ij,ij->i", mapped, mapped)], axis=1
    )


@dataclass(frozen=True, slots=True, eq=False)
class Forward:
    """Maps stored old vectors to mapped ones.

    documents: f32[n, old] → f32[n, mapped].
    bridge:    carries a query of the new space to the mapped vectors, and calibrates its scores.
    metric:    how queries and mapped vectors are compared: "cosine", "ip" or "l2".
    kind:      the map's name in reports.
    residuals: predicts each row's error, for the order of a backfill; None if it was not fitted.
    near:      knows the scores of each mapped vector's neighbours, if `documents` does not.
    """

    documents: Map
    bridge: Bridge
    metric: str
    kind: str = "ridge"
    residuals: Residuals | None = None
    near: Hubless | None = None

    def apply(self, old: Floats) -> Floats:
        """Return f32[n, mapped] for f32[n, old]."""
        return self.documents.apply(old)

    def blocks(self, old: NDArray[np.floating], size: int = BLOCK) -> Iterator[Floats]:
        """Yield `apply` over blocks of [n, old], of any float type, in order."""
        yield from self.documents.blocks(old, size)

    def predicted_residuals(self, old: NDArray[np.floating], size: int = BLOCK) -> Floats:
        """Return the expected squared distance of each row's new vector to its mapped one, f32[n].

        old: [n, old], of any float type; may be memory-mapped.
        """
        return self._predicted(old, size, lambda residuals, block: residuals.predict(block))

    def usefulness(self, old: NDArray[np.floating], size: int = BLOCK) -> Floats:
        """Return how much a search gains from each row's own new vector, f32[n], without a unit.

        This is the distance that a vector is expected to move, times the square of the mean score
        with its nearest neighbours: a row far from everything answers no query, however badly it
        is mapped. (The square was found by measuring, see docs/decisions/0009-upgrade-maps.md.)
        If the map does not know the neighbours, it is the distance alone.

        old: [n, old], of any float type; may be memory-mapped.
        """
        near = self.documents if isinstance(self.documents, Hubless) else self.near

        def useful(residuals: Residuals, block: Floats) -> Floats:
            moved: Floats = np.sqrt(np.maximum(residuals.predict(block), _LEAST))
            if near is not None:
                moved *= near.neighbour_scores(block) ** 2
            return moved

        return self._predicted(old, size, useful)

    def _predicted(
        self,
        old: NDArray[np.floating],
        size: int,
        predict: Callable[[Residuals, Floats], Floats],
    ) -> Floats:
        if self.residuals is None:
            raise ValueError("no residuals were fitted for this map")
        parts = [np.empty(0, np.float32)]
        for start in range(0, len(old), size):
            block = np.ascontiguousarray(old[start : start + size], np.float32)
            parts.append(predict(self.residuals, block))
        return np.concatenate(parts)

    def back(self) -> Map | None:
        """Return the map from mapped vectors to queries of the new space; None if there is none."""
        queries = self.bridge.map
        if isinstance(queries, Identity):
            return queries if queries.kept == queries.dim else None
        if not isinstance(queries, Linear) or queries.source_dim != queries.target_dim:
            return None
        inverse = np.linalg.inv(queries.weight.astype(np.float64))
        bias = -queries.bias @ inverse
        return Linear(inverse.astype(np.float32), bias.astype(np.float32), queries.unit)


def fit_residuals(raw: Map, old: Floats, errors: Floats, strength: float = 0.1) -> Residuals:
    """Fit the prediction of a row's residual.

    raw:    the map without its final normalisation.
    old:    f32[n, o], the old vectors of the pairs.
    errors: f32[n], the squared distance between each pair's mapped and new vector, by a map that
            was fitted without the pair.
    """
    x = old.astype(np.float64)
    mean = x.mean(axis=0)
    values, vectors = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    values = np.maximum(values, 0)
    whitener = vectors / np.sqrt(values + strength * (values.mean() or 1.0))
    mean, whitener = mean.astype(np.float32), whitener.astype(np.float32)
    features = _features(old, mean, whitener, raw).astype(np.float64)
    design = np.concatenate([features, np.ones((len(x), 1))], axis=1)
    *slope, intercept = np.linalg.lstsq(design, errors.astype(np.float64), rcond=None)[0]
    return Residuals(mean, whitener, raw, np.array(slope, np.float32), float(intercept))


_LEAST = 1e-6  # of a squared distance; a regression may predict one below 0
