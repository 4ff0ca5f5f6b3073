"""The kind `hnsw`: a navigable graph (Malkov and Yashunin, 2016) over int8 codes, re-ranked.

hnsw               all dimensions
hnsw@192           a prefix of 192
hnsw(m=32)         parameters: m, links per vector (24); ef_build (100); rotation; codes

After the build, the vectors are reordered so that neighbours are stored together and a search
finds more of its data in the processor's caches; a FAISS `IndexIDMap` records the original order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Final, cast

import numpy as np

from ..base import Floats, IndexFileError, Positions
from ..faiss import load_faiss
from ..points import OperatingPoint
from ..spec import IndexSpec
from ._shortlist import Choices, ShortlistIndex
from .matryoshka import Projection

_EFS = (16, 20, 28, 40, 56, 80, 112, 160, 224, 320, 450, 640)
_LINKS = 24
_EF_BUILD = 100
# One step of `ef` visits about this many vectors at random.
_VISITS = 12
_BLOCK: Final = 1 << 14
_GROUPS: Final = 32  # neighbourhoods of neighbourhoods


class HnswIndex(ShortlistIndex):
    """A graph over int8 or float16 codes; its knob `ef` is the length of the search queue."""

    kind: ClassVar[str] = "hnsw"
    knobs: ClassVar[tuple[str, ...]] = ("ef",)
    parameters: ClassVar[Mapping[str, Choices]] = {
        "m": range(4, 129),
        "ef_build": range(8, 2001),
        "codes": ("int8", "fp16"),
    }

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        faiss = self._faiss
        self._map: Any = None
        if isinstance(self._structure, faiss.IndexIDMap):
            self._map = self._structure
            self._structure = faiss.downcast_index(self._map.index)
            rows = faiss.vector_to_array(self._map.id_map)
            if len(rows) != len(self._source) or rows.min() < 0 or rows.max() >= len(rows):
                raise IndexFileError(
                    "the index file is damaged: its positions do not match the vectors"
                )
            self._order = np.append(rows, -1)

    @classmethod
    def _finished(cls, index: Any, projection: Projection) -> Any:
        faiss = load_faiss()
        structure = faiss.downcast_index(index.index)
        order = _neighbourly(structure)
        structure.permute_entries(order)
        mapped = faiss.IndexIDMap(faiss.IndexFlat(structure.d, structure.metric_type))
        mapped.index = structure
        mapped.ntotal = structure.ntotal
        mapped.referenced_objects = [structure, index]
        faiss.copy_array_to_vector(order, mapped.id_map)
        finished = faiss.IndexPreTransform(mapped)
        for part in reversed(projection.chain()):
            finished.prepend_transform(part)
        return finished

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
        faiss = load_faiss()
        if isinstance(structure, faiss.IndexIDMap):
            structure = faiss.downcast_index(structure.index)
        return isinstance(structure, faiss.IndexHNSWSQ)

    def _parameters(
        self, point: OperatingPoint, shortlist: int, stretch: float, selector: Any
    ) -> Any:
        """Lengthen the queue, because it also holds vectors that are not allowed."""
        ef = math.ceil(max(point["ef"], shortlist) * stretch)
        if selector is not None and self._map is not None:
            given = selector
            selector = self._faiss.IDSelectorTranslated(self._map.id_map, given)
            selector.referenced_objects = [given]
        return load_faiss().SearchParametersHNSW(efSearch=ef, sel=selector)

    def _scan_below(self, point: OperatingPoint) -> float:
        """Scanning m rows costs m; the graph costs ef * n / m visits."""
        return math.sqrt(_VISITS * point["ef"] * len(self._source))


def _neighbourly(structure: Any) -> Positions:
    """Return an order, i64[n], in which vectors close to each other are stored together.

    About sqrt(n) of the vectors represent neighbourhoods; each vector joins the closest.
    """
    n, storage = structure.ntotal, load_faiss().downcast_index(structure.storage)
    chosen = np.linspace(0, n - 1, max(1, round(math.sqrt(n)))).astype(np.int64)
    centres: Floats = storage.reconstruct_batch(chosen)
    centres = centres[_closest(centres, centres[:: -(-len(centres) // _GROUPS)]).argsort()]
    parts = [
        _closest(storage.reconstruct_n(start, min(_BLOCK, n - start)), centres)
        for start in range(0, n, _BLOCK)
    ]
    return np.concatenate(parts).argsort(kind="stable")


def _closest(vectors: Floats, centres: Floats) -> Positions:
    """Return the number of the centre that is closest to each vector, i64[n]."""
    scores = vectors @ centres.T
    scores -= np.einsum("ij,ij->i", centres, centres) / 2
    closest: Positions = scores.argmax(axis=1)
    return closest
