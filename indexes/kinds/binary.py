"""The kind `binary`: one bit per dimension; a shortlist by Hamming distance is re-ranked.

    binary             all dimensions
    binary@128         a prefix of 128

The bits are the signs of the values after a random rotation; how many agree estimates the angle
between two vectors (Charikar, Similarity estimation techniques from rounding algorithms, 2002).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from ..base import Floats
from ..faiss import load_faiss
from ..points import OperatingPoint
from ..spec import IndexSpec
from ._rerank import Buffers
from ._shortlist import Plan, ShortlistIndex

_SHORTLISTS = (25, 50, 100, 200, 400, 800, 1600)
_WORD = 64
# Comparing a vector of the source costs this many times as much as its bits.
_RATIO = 24


class BinaryIndex(ShortlistIndex):
    """Compares all sign bits; `shortlist` is the only knob."""

    kind: ClassVar[str] = "binary"
    rotates: ClassVar[bool | None] = True
    step: ClassVar[int] = _WORD
    least_dim: ClassVar[int] = 32

    @classmethod
    def default_points(cls, n: int, dim: int, spec: IndexSpec) -> tuple[OperatingPoint, ...]:
        """Return points with shortlists from 25 to 1600."""
        return tuple(
            OperatingPoint.of(
                shortlist=shortlist,
                **{f"keep{d}": max(12, shortlist // 2**i) for i, d in enumerate(spec.dims[1:], 1)},
            )
            for shortlist in _SHORTLISTS
        )

    @classmethod
    def _codes_are_int8(cls, spec: IndexSpec) -> bool:
        return False

    @classmethod
    def _make(cls, spec: IndexSpec, dim: int, metric: int, n: int, sample: Floats) -> Any:
        structure = load_faiss().IndexLSH(dim, dim, False, False)
        structure.metric_type = metric
        return structure

    @classmethod
    def _is_structure(cls, structure: Any) -> bool:
        return isinstance(structure, load_faiss().IndexLSH)

    def _parameters(
        self, point: OperatingPoint, shortlist: int, stretch: float, selector: Any
    ) -> Any:
        return selector

    def _scan_below(self, point: OperatingPoint) -> float:
        return len(self._source) / _RATIO

    def _find_one(self, buffers: Buffers, plan: Plan) -> Callable[[], None]:
        structure = self._structure

        def find() -> None:
            _nearest(structure, 1, buffers.at_projected, plan, buffers.at_positions)

        return find

    def _find(self, n: int, projected: Any, plan: Plan, distances: Any, positions: Any) -> None:
        _nearest(self._structure, n, projected, plan, positions)


def _nearest(structure: Any, n: int, projected: Any, plan: Plan, positions: Any) -> None:
    """Write the positions of the vectors with the fewest differing bits."""
    faiss = load_faiss()
    bits = np.empty((n, structure.code_size), np.uint8)
    at_bits = faiss.swig_ptr(bits)
    faiss.fvecs2bitvecs(projected, at_bits, structure.nbits, n)
    counts = np.empty((n, plan.shortlist), np.int32)
    faiss.hammings_knn_mc(
        at_bits,
        structure.codes.data(),
        n,
        structure.ntotal,
        plan.shortlist,
        structure.code_size,
        faiss.swig_ptr(counts),
        positions,
        plan.parameters,
    )
