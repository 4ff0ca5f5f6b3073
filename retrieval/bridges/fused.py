"""Applies a bridge in one matrix product: the map and the calibration side by side.

A calibration needs only products that are linear in the query: with the means and with the roots,
in both spaces. So one matrix holds the columns of the map and those of the calibration, and a
single query, the commonest case, costs one product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .bridge import Bridge, Carried
from .calibration import Calibration
from .maps import Floats, Linear

_TINY = np.float32(np.finfo(np.float32).tiny)  # least square to divide by, so that 0 stays 0


def carrier(bridge: Bridge, metric: str) -> Callable[[Floats], Carried]:
    """Return a function that carries queries f32[q, new] to a space with this metric.

    For "cosine" it normalises the vectors, as indexes expect, and multiplies the scales by their
    lengths. Otherwise its results equal those of `bridge.apply` to 1e-5.
    """
    unit = metric == "cosine"
    map, calibration = bridge.map, bridge.calibration
    if isinstance(map, Linear) and isinstance(calibration, Calibration) and calibration.linear:
        return Fused(map, calibration, unit=unit).apply
    return (lambda queries: _unit(bridge.apply(queries))) if unit else bridge.apply


def _unit(carried: Carried) -> Carried:
    vectors = carried.vectors
    lengths = np.sqrt(np.maximum(np.vecdot(vectors, vectors), _TINY))
    return replace(carried, vectors=vectors / lengths[:, None], scale=carried.scale * lengths)


class Fused:
    """A linear map and a calibration, applied together.

    unit: normalise the carried vectors even if the map does not.
    """

    def __init__(self, map: Linear, calibration: Calibration, *, unit: bool) -> None:
        weight, bias = map.weight.astype(np.float64), map.bias.astype(np.float64)
        root, new_root = calibration.root, calibration.new_root
        # The columns: the carried query; its products with the root and the mean of the segment's
        # space; the query's products with those of the new space.
        inside = np.concatenate([root, calibration.mean[:, None]], axis=1)
        outside = [new_root, calibration.new_mean[:, None]]
        matrix = np.concatenate([weight, weight @ inside, *outside], axis=1)
        self._matrix = np.ascontiguousarray(matrix, np.float32)
        whole = np.zeros(matrix.shape[1], np.float32)
        self._dim = weight.shape[1]
        self._mean = self._dim + root.shape[1]
        whole[: self._mean + 1] = np.concatenate([bias, bias @ inside])
        self._bias = whole if whole.any() else None
        # Which columns' squares add up to the length, and which to each of the two spreads.
        kinds = np.zeros((matrix.shape[1], 3), np.float32)
        kinds[: self._dim, 0] = kinds[self._dim : self._mean, 1] = 1
        kinds[self._mean + 1 : -1, 2] = 1
        self._kinds = kinds
        self._map_unit, self._unit = map.unit, map.unit or unit
        self._scale, self._fixed = calibration.scale, not root.shape[1]

    def apply(self, queries: Floats) -> Carried:
        """Carry queries over.

        queries: f32[q, new], C-contiguous.
        """
        both = queries @ self._matrix
        if self._bias is not None:
            both += self._bias
        squares = (both * both) @ self._kinds
        lengths: Floats = np.sqrt(np.maximum(squares[:, 0], _TINY))
        # The scale of scores with the map's vectors before they are normalised.
        if self._fixed:
            scale = np.full(len(queries), self._scale)
            if self._map_unit:
                scale /= lengths
        else:
            spreads = squares[:, 1:] + _TINY  # a scale of 1 if all rows score the same
            scale = np.sqrt(spreads[:, 1] / spreads[:, 0]).astype(np.float64)
        shift = both[:, -1] - scale * both[:, self._mean]
        vectors = both[:, : self._dim]
        if not self._unit:
            return Carried(np.ascontiguousarray(vectors), scale, shift)
        scale *= lengths
        out: Floats = vectors / lengths[:, None]
        return Carried(out, scale, shift)
