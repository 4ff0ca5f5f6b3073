"""A bridge in one product: what carries a query and what calibrates its scores, side by side.

All that a calibration asks of a query is linear in it: its inner products with the means and with
the roots, here and in the other space. So one matrix has the columns of the map and those of the
calibration beside them, and a query that comes alone, as most do, costs one product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .bridge import Bridge, Carried
from .calibration import Calibration
from .maps import Floats, Linear

_TINY = np.float32(np.finfo(np.float32).tiny)  # of a square: what is zero stays zero


def carrier(bridge: Bridge, metric: str) -> Callable[[Floats], Carried]:
    """Return what carries f32[q, new] queries to a space of that metric as its segments want them.

    For "cosine" the vectors get unit length, which indexes expect, and the scales what is divided
    out. Beside that it does the same as `bridge.apply`, to 1e-5.
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

    unit: whether what is carried gets unit length though the map gives none.
    """

    def __init__(self, map: Linear, calibration: Calibration, *, unit: bool) -> None:
        weight, bias = map.weight.astype(np.float64), map.bias.astype(np.float64)
        root, new_root = calibration.root, calibration.new_root
        # The columns: the query there, its parts by the root and its mean; those of the new space.
        inside = np.concatenate([root, calibration.mean[:, None]], axis=1)
        outside = [new_root, calibration.new_mean[:, None]]
        matrix = np.concatenate([weight, weight @ inside, *outside], axis=1)
        self._matrix = np.ascontiguousarray(matrix, np.float32)
        whole = np.zeros(matrix.shape[1], np.float32)
        self._dim = weight.shape[1]
        self._mean = self._dim + root.shape[1]
        whole[: self._mean + 1] = np.concatenate([bias, bias @ inside])
        self._bias = whole if whole.any() else None
        # Which columns' squares make the length, and those that the roots compare.
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
        # The scale of scores by what the map gives before it is brought to unit length.
        if self._fixed:
            scale = np.full(len(queries), self._scale)
            if self._map_unit:
                scale /= lengths
        else:
            spreads = squares[:, 1:] + _TINY  # a query that all rows answer alike leaves 1
            scale = np.sqrt(spreads[:, 1] / spreads[:, 0]).astype(np.float64)
        shift = both[:, -1] - scale * both[:, self._mean]
        vectors = both[:, : self._dim]
        if not self._unit:
            return Carried(np.ascontiguousarray(vectors), scale, shift)
        scale *= lengths
        out: Floats = vectors / lengths[:, None]
        return Carried(out, scale, shift)
