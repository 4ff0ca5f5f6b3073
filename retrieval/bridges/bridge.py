"""Bridges: how a query of the new space searches a segment of another one.

A bridge carries the query over and says how the scores found there compare with those of the new
space. A segment of old vectors and one of mapped vectors (`forward.py`) have one each; the search
path applies it and knows no more.
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
    """Queries in a segment's space, and what their scores there are worth.

    vectors: f32[q, o].
    scale:   f64[q], above 0; a score s of the segment counts as scale * s + shift.
    shift:   f64[q].
    """

    vectors: Floats
    scale: Doubles
    shift: Doubles

    def calibrated(self, scores: Floats) -> Floats:
        """Return f32[q, k], the scores of each query's hits as the new space's; -inf stays."""
        out = scores * self.scale[:, None] + self.shift[:, None]
        return out.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Bridge:
    """Takes queries of the new space to a segment's, and its scores back.

    map:         f32[q, new] → f32[q, segment].
    calibration: None leaves the scores as they are.
    kind:        what the map is called in reports: "procrustes", "ridge", …
    both:        of the scores of queries that the segment's own encoder has encoded as well; None
                 where the map alone takes queries there.
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

    def with_own(self, carried: Carried, queries: Floats, own: Floats, there: Bools) -> Carried:
        """Return what was carried over with some queries as the segment's own encoder has them.

        queries: f32[q, new]; own: f32[q, o], the same by the other encoder.
        there:   bool[q], which of them it has encoded.
        """
        assert self.both is not None  # or they would not have been encoded
        scale, shift = self.both.affine(queries, own)
        return Carried(
            np.where(there[:, None], own, carried.vectors),
            np.where(there, scale, carried.scale),
            np.where(there, shift, carried.shift),
        )
