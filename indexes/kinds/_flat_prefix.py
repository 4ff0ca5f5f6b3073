"""The kind `flat` with a prefix, `flat@64`: compares int8 prefixes of all vectors, then re-ranks.

This is Matryoshka adaptive retrieval. Without a graph or clusters it builds at the speed of the
disk, and it misses a vector only because of the prefix.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..base import Floats
from ..faiss import load_faiss
from ..points import OperatingPoint
from ..spec import IndexSpec
from ._shortlist import ShortlistIndex

_SHORTLISTS = (15, 25, 40, 80, 150, 300, 600)
# Comparing a vector of the source costs this many times as much as its int8 prefix.
_RATIO = 8


class FlatPrefixIndex(ShortlistIndex):
    """Compares all prefixes as int8; `shortlist` is the only knob."""

    kind: ClassVar[str] = "flat"

    @classmethod
    def default_points(cls, n: int, dim: int, spec: IndexSpec) -> tuple[OperatingPoint, ...]:
        """Return points with shortlists from 15 to 600."""
        return tuple(
            OperatingPoint.of(
                shortlist=shortlist,
                **{f"keep{d}": max(12, shortlist // 2) for d in spec.dims[1:]},
            )
            for shortlist in _SHORTLISTS
        )

    @classmethod
    def _codes_are_int8(cls, spec: IndexSpec) -> bool:
        return True

    @classmethod
    def _make(cls, spec: IndexSpec, dim: int, metric: int, n: int, sample: Floats) -> Any:
        faiss = load_faiss()
        structure = faiss.IndexScalarQuantizer(
            dim, faiss.ScalarQuantizer.QT_8bit_direct_signed, metric
        )
        structure.train(sample[:1])
        return structure

    @classmethod
    def _is_structure(cls, structure: Any) -> bool:
        return isinstance(structure, load_faiss().IndexScalarQuantizer)

    def _parameters(
        self, point: OperatingPoint, shortlist: int, stretch: float, selector: Any
    ) -> Any:
        return None if selector is None else load_faiss().SearchParameters(sel=selector)

    def _scan_below(self, point: OperatingPoint) -> float:
        return len(self._source) / _RATIO * self._projection.dim / self._source.dim
