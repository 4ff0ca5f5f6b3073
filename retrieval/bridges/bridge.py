"""Bridges: how a query of the new space searches a segment of another space.

A bridge carries the query over and makes the scores found there comparable with those of the new
space. Segments of old vectors have one bridge, segments of mapped vectors (`forward.py`) another;
the search path only applies it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .calibration import Calibration, Matched
from .maps import Doubles, Floats, Map

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """Queries carried to a segment's space, and the calibration of their scores there.

    vectors: f32[q, o].
    scale:   f64[q], above 0; a score s of the segment becomes scale * s + shift.
    shift:   f64[q].
    """

    vectors: Floats
    scale: Doubles
    shift: Doubles

    def calibrated(self, scores: Floats) -> Floats:
        """Return the hits' scores on the new space's scale, f32[q, k]; -inf stays."""
        out = scores * self.scale[:, None] + self.shift[:, None]
        return out.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Bridge:
    """Maps queries of the new space to a segment's space, and calibrates the scores found there.

    map:         f32[q, new] → f32[q, segment].
    calibration: None leaves the scores as they are.
    kind:        the map's name in reports: "procrustes", "ridge", …
    both:        calibrates the scores of queries that the segment's own encoder encoded; None if
                 only the map takes queries there.
    """

    map: Map
    calibration: Calibration | Matched | None = None
    kind: str = ""
    both: Matched | None = None

    def apply(self, queries: Floats) -> Carried:
        """Carry queries over.

        queries: f32[q, new], C-contiguous.
        """
        vectors = self.map.apply(queries)
        if self.calibration is None:
            return Carried(vectors, np.ones(len(queries)), np.zeros(len(queries)))
        return Carried(vectors, *self.calibration.affine(queries, vectors))

    def with_native(self, carried: Carried, queries: Floats, own: Floats, there: Bools) -> Carried:
        """Return carried queries with some replaced by the segment's own encoder's vectors.

        queries: f32[q, new].
        own:     f32[q, o], the same queries as encoded by the segment's own encoder.
        there:   bool[q], which queries it has encoded.
        """
        assert self.both is not None  # or they would not have been encoded
        scale, shift = self.both.affine(queries, own)
        return Carried(
            np.where(there[:, None], own, carried.vectors),
            np.where(there, scale, carried.scale),
            np.where(there, shift, carried.shift),
        )
