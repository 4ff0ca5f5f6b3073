"""The kind `flat` with a prefix, `flat@64`: int8 prefixes of all vectors compared, then re-ranked.

Matryoshka adaptive retrieval: no graph and no clusters, so it builds at the speed of the disk,
and what it misses it misses only because of the prefix.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..base import Floats
from ..faiss import load_faiss
from ..points import OperatingPoint
from ..spec import IndexSpec
from ._shortlist import ShortlistIndex

_SHORTLISTS = (15, 25, 40, 80, 150, 300, 600)
# A vector of the source costs so many times what its int8 prefix costs.
_RATIO = 8


class FlatPrefixIndex(ShortlistIndex):
    """Prefixes as int8, all compared; `shortlist` is the one knob."""

    kind: ClassVar[str] = "flat"

    @classmethod
    def default_points(cls, n: int, dim: int, spec: IndexSpec) -> tuple[OperatingPoint, ...]:
        """Return points from a shortlist of 15 to one of 600."""
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
