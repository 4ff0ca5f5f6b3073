"""The kind `ivfpq`: clusters of vectors, scanned as 4-bit product-quantized codes, re-ranked.

    ivfpq              all dimensions
    ivfpq@192          a prefix of 192
    ivfpq(lists=1024)  parameters: lists, the number of clusters; rotation

The codes are scanned with SIMD (Andre et al., Quicker ADC, 2019) in the layout of FAISS's fast
scan. A code of 4 bits holds two dimensions; for inner products, those of a vector less the centre
of its cluster.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import numpy as np

from ._faiss import load_faiss
from ._gpu import on_gpu
from ._shortlist import Choices, ShortlistIndex
from .base import Floats
from .points import OperatingPoint
from .spec import IndexSpec

_PROBES = (4, 8, 16, 24, 32, 48, 64, 96, 144, 224, 320, 512)
_ROWS_PER_LIST = 64
_CODE_ROWS = 32_768
_LISTS_PER_ROOT = 2.3  # lists for each square root of the number of vectors
_LEAST_ROWS = 39  # a list has so many vectors, or there are fewer lists
_MOST_LISTS = 65_536
_ROUNDS = 8


class IvfpqIndex(ShortlistIndex):
    """Inverted lists of 4-bit codes; its knob is `probes`, the lists that are scanned."""

    kind: ClassVar[str] = "ivfpq"
    knobs: ClassVar[tuple[str, ...]] = ("probes",)
    least_dim: ClassVar[int] = 8
    parameters: ClassVar[Mapping[str, Choices]] = {"lists": range(1, _MOST_LISTS + 1)}

    @classmethod
    def default_points(cls, n: int, dim: int, spec: IndexSpec) -> tuple[OperatingPoint, ...]:
        """Return points from 4 probes to a scan of all lists."""
        lists = _lists(spec, n)
        probes = [p for p in _PROBES if p < lists]
        points = []
        for count in (*probes, lists):
            last = max(60, round(9 * math.sqrt(min(count, 512))))
            kept = {f"keep{d}": last for d in spec.dims[1:]}
            shortlist = 3 * last if kept else last
            points.append(OperatingPoint.of(probes=count, shortlist=shortlist, **kept))
        return tuple(points)

    @classmethod
    def _codes_are_int8(cls, spec: IndexSpec) -> bool:
        return True  # those of the centres

    @classmethod
    def _make(cls, spec: IndexSpec, dim: int, metric: int, n: int, sample: Floats) -> Any:
        faiss = load_faiss()
        lists = _lists(spec, n)
        centres = _cluster(_training_rows(sample, lists, _ROWS_PER_LIST * lists), lists, metric)
        # Comparing a query with int8 centres takes a quarter of the time, and of the cache.
        coarse = faiss.IndexScalarQuantizer(
            dim, faiss.ScalarQuantizer.QT_8bit_direct_signed, metric
        )
        coarse.train(centres)
        coarse.add(centres)
        structure = faiss.IndexIVFPQFastScan(coarse, dim, lists, dim // 2, 4, metric)
        # Codes of what is left of a vector less its centre are sharper, and for inner products
        # they cost nothing: one table serves all lists.
        structure.by_residual = metric == faiss.METRIC_INNER_PRODUCT
        structure.pq.cp.min_points_per_centroid = 1  # or it warns on the terminal
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # more of them only wait for each other
        try:
            structure.train(_training_rows(sample, 16, _CODE_ROWS))
        finally:
            faiss.omp_set_num_threads(threads)
        return structure

    @classmethod
    def _is_structure(cls, structure: Any) -> bool:
        return isinstance(structure, load_faiss().IndexIVFPQFastScan)

    def _parameters(
        self, point: OperatingPoint, shortlist: int, stretch: float, selector: Any
    ) -> Any:
        """The allowed neighbours of a query lie further away, in more lists."""
        probes = min(self._structure.nlist, math.ceil(point["probes"] * math.sqrt(stretch)))
        return load_faiss().SearchParametersIVF(nprobe=probes, sel=selector)

    def _scan_below(self, point: OperatingPoint) -> float:
        n = len(self._source)
        return math.sqrt(n * n * min(1.0, point["probes"] / self._structure.nlist) / 8)


def _lists(spec: IndexSpec, n: int) -> int:
    wanted = round(_LISTS_PER_ROOT * math.sqrt(n))
    fitting = max(1, min(wanted, n // _LEAST_ROWS, _MOST_LISTS))
    return cast(int, spec.get("lists", fitting))


def _training_rows(sample: Floats, at_least: int, at_most: int) -> Floats:
    """Return rows to train on: of `sample` f32[m, dim], over again where it has too few."""
    if len(sample) < at_least:
        return np.resize(sample, (at_least, sample.shape[1]))
    return np.ascontiguousarray(sample[:: -(-len(sample) // at_most)])


def _cluster(rows: Floats, lists: int, metric: int) -> Floats:
    """Return centres by k-means, f32[lists, dim]; whole numbers from -127 to 127."""
    faiss = load_faiss()
    dim = rows.shape[1]
    settings = faiss.ClusteringParameters()
    settings.niter = _ROUNDS
    settings.seed = 1
    settings.min_points_per_centroid = 1
    settings.max_points_per_centroid = _ROWS_PER_LIST
    settings.spherical = metric == faiss.METRIC_INNER_PRODUCT
    clustering = faiss.Clustering(dim, lists, settings)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        clustering.train(rows, on_gpu(faiss.IndexFlat(dim, metric)))
    finally:
        faiss.omp_set_num_threads(threads)
    centres: Floats = faiss.vector_to_array(clustering.centroids).reshape(lists, dim)
    if settings.spherical:
        centres *= np.sqrt(np.einsum("ij,ij->i", rows, rows).mean())
    np.rint(centres, out=centres)
    return np.clip(centres, -127, 127, out=centres)
