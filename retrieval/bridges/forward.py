"""The forward map: stored old vectors taken to where new queries look for them, no encoder called.

Mapped vectors are a space of their own: they remember the map that made them, and a query reaches
them through the map's bridge. How far the new vector of a row may be from the mapped one is
predicted, and with it which rows a backfill does best to begin with.
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

    The squared distance is regressed, over the pairs, on what is known of a row before: how far
    its old vector lies from the pairs (Mahalanobis, which is what least squares adds to the
    variance of a prediction) and how long its mapped vector is without unit length.

    mean:     f32[o], of the pairs' old vectors.
    whitener: f32[o, r].
    raw:      the map without unit length.
    slope:    f32[2]; intercept.
    """

    mean: Floats
    whitener: Floats
    raw: Map
    slope: Floats
    intercept: float

    def predict(self, old: Floats) -> Floats:
        """Return f32[n] for f32[n, o]: squared distances expected."""
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
    """Takes stored old vectors to mapped ones.

    documents: f32[n, old] → f32[n, mapped].
    bridge:    takes a query of the new space to the mapped vectors, and its scores back.
    metric:    how queries and mapped vectors are compared: "cosine", "ip" or "l2".
    kind:      what the map is called in reports.
    residuals: predicts them for the order of backfill; None where that was not fitted.
    near:      knows what each mapped vector's neighbours score, where `documents` does not.
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
        """Return f32[n]: how far each row's new vector may be from its mapped one, squared.

        old: [n, old], of any float type; may be mapped from a file.
        """
        return self._predicted(old, size, lambda residuals, block: residuals.predict(block))

    def usefulness(self, old: NDArray[np.floating], size: int = BLOCK) -> Floats:
        """Return f32[n]: how much a search gains, in no unit, by each row's own new vector.

        That is the distance that a vector is expected to move times the square of what it usually
        scores with what lies near it: a row that is far from everything is answer to nothing,
        however badly it is mapped. (The square was measured, see
        docs/decisions/0009-upgrade-maps.md.) A map that knows no neighbours gives the distance.

        old: [n, old], of any float type; may be mapped from a file.
        """
        near = self.documents if isinstance(self.documents, Hubless) else self.near

        def useful(residuals: Residuals, block: Floats) -> Floats:
            moved: Floats = np.sqrt(np.maximum(residuals.predict(block), _LEAST))
            if near is not None:
                moved *= near.usual(block) ** 2
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
        """Return what takes a mapped vector to the new space, as a query; None for no such map."""
        queries = self.bridge.map
        if isinstance(queries, Identity):
            return queries if queries.kept == queries.dim else None
        if not isinstance(queries, Linear) or queries.source_dim != queries.target_dim:
            return None
        inverse = np.linalg.inv(queries.weight.astype(np.float64))
        bias = -queries.bias @ inverse
        return Linear(inverse.astype(np.float32), bias.astype(np.float32), queries.unit)


def fit_residuals(raw: Map, old: Floats, errors: Floats, strength: float = 0.1) -> Residuals:
    """Fit what predicts the residual of a row.

    raw:    the map without unit length.
    old:    f32[n, o], the old vectors of the pairs.
    errors: f32[n], the squared distance of each pair's mapped from its new vector, by a map that
            has not seen the pair.
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


_LEAST = 1e-6  # of a squared distance: a regression may predict one below nothing
