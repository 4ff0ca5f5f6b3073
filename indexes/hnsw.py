"""The kind `hnsw`: a navigable graph (Malkov and Yashunin, 2016) over int8 codes, re-ranked.

hnsw               all dimensions
hnsw@192           a prefix of 192
hnsw(m=32)         parameters: m, links of a vector (16); ef_build (100); rotation; codes
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from ._faiss import load_faiss
from ._shortlist import Choices, ShortlistIndex
from .base import Floats
from .points import OperatingPoint
from .spec import IndexSpec

_EFS = (16, 20, 28, 40, 56, 80, 112, 160, 224, 320, 450, 640)
_LINKS = 16
_EF_BUILD = 100
# One step of `ef` visits about so many vectors at random.
_VISITS = 12


class HnswIndex(ShortlistIndex):
    """A graph over int8 or float16 codes; its knob is `ef`, the length of the search's queue."""

    kind: ClassVar[str] = "hnsw"
    knobs: ClassVar[tuple[str, ...]] = ("ef",)
    parameters: ClassVar[Mapping[str, Choices]] = {
        "m": range(4, 129),
        "ef_build": range(8, 2001),
        "codes": ("int8", "fp16"),
    }

    @classmethod
    def default_points(cls, n: int, dim: int, spec: IndexSpec) -> tuple[OperatingPoint, ...]:
        """Return points with `ef` from 16 to 640; a funnel starts from a longer shortlist."""
        points = []
        for ef in _EFS:
            last = max(12, round(3 * math.sqrt(ef)))
            kept = {f"keep{d}": 2 * last for d in spec.dims[1:]}
            points.append(OperatingPoint.of(ef=ef, shortlist=4 * last if kept else last, **kept))
        return tuple(points)

    @classmethod
    def _codes_are_int8(cls, spec: IndexSpec) -> bool:
        return spec.get("codes", "int8") == "int8"

    @classmethod
    def _make(cls, spec: IndexSpec, dim: int, metric: int, n: int, sample: Floats) -> Any:
        faiss = load_faiss()
        quantizer = faiss.ScalarQuantizer
        codes = quantizer.QT_8bit_direct_signed if cls._codes_are_int8(spec) else quantizer.QT_fp16
        structure = faiss.IndexHNSWSQ(dim, codes, cast(int, spec.get("m", _LINKS)), metric)
        structure.hnsw.efConstruction = cast(int, spec.get("ef_build", _EF_BUILD))
        structure.train(sample[:1])
        return structure

    @classmethod
    def _is_structure(cls, structure: Any) -> bool:
        return isinstance(structure, load_faiss().IndexHNSWSQ)

    def _parameters(
        self, point: OperatingPoint, shortlist: int, stretch: float, selector: Any
    ) -> Any:
        """The queue holds vectors that are not allowed, too, so it has to be longer."""
        ef = math.ceil(max(point["ef"], shortlist) * stretch)
        return load_faiss().SearchParametersHNSW(efSearch=ef, sel=selector)

    def _scan_below(self, point: OperatingPoint) -> float:
        """m rows cost m; the graph costs ef * n / m visits."""
        return math.sqrt(_VISITS * point["ef"] * len(self._source))
