"""The kind `ivfpq`: clusters of vectors, scanned as 4-bit product-quantized codes, re-ranked.

    ivfpq              all dimensions
    ivfpq@192          a prefix of 192
    ivfpq(lists=1024)  parameters: lists, the number of clusters; rotation

The codes are scanned with SIMD (Andre et al., Quicker ADC, 2019) in the layout of FAISS's fast
scan. A code of 4 bits covers two dimensions; for inner products, those of a vector minus the
centre of its cluster.

How many lists are scanned depends on the query: all those whose centres are nearly as close as the
closest one. Most queries are near the middle of a cluster and need a few lists; some need many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, cast

import numpy as np

from ..base import Floats
from ..faiss import load_faiss
from ..gpu.devices import train
from ..points import OperatingPoint
from ..spec import IndexSpec
from ._lists import like, map_lists, write_mapped
from ._rerank import Buffers
from ._shortlist import Choices, Plan, ShortlistIndex, multiply
from .matryoshka import linear

# The gap, the maximum share of lists to scan, and the number of candidates to re-rank. Below a
# recall of 0.97, more lists help more than more candidates.
_STEPS = (
    (40, 0.004, 60), (70, 0.01, 60), (100, 0.02, 60), (125, 0.03, 60), (150, 0.05, 60),
    (175, 0.08, 60), (200, 0.12, 60), (225, 0.17, 60), (250, 0.25, 60), (280, 0.35, 60),
    (310, 0.5, 70), (350, 0.7, 85), (400, 0.9, 140), (450, 1.0, 160), (520, 1.0, 180),
)  # fmt: skip
_MOST_CANDIDATES: Final = 204
_GAPS: Final = 1000  # a gap of this size is the length of a centre
_NO_GAP: Final = 4000  # reaches every centre
# With random allowed vectors, recall stays the same if the gap grows with this power of the number
# of vectors per allowed one; two thirds of it would do if allowed vectors did not cluster.
_WIDENED: Final = 0.15
# Comparing `_FEW` vectors takes as long as searching the fewest lists, and comparing one vector as
# long as `_CODES` codes.
_FEW: Final = 500
_CODES: Final = 64
# Squared lengths of a query between which float32 can hold the values computed from it.
_SHORT: Final = 1e-12
_LONG: Final = 1e12
_ONE_BY_ONE: Final = 11  # FAISS's number for a scan that keeps a reservoir per query
_ROWS_PER_LIST = 128
_CODE_ROWS = 32_768
_LISTS_PER_ROOT = 2.3  # lists per square root of the number of vectors
_LEAST_ROWS = 39  # the minimum mean number of vectors per list
_MOST_LISTS = 65_536
_ROUNDS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Probing:
    """Which lists a search scans.

    probes:     the maximum number of lists.
    gap:        how much farther than the closest centre theirs may be, in thousandths.
    parameters: FAISS search parameters.
    """

    probes: int
    gap: int
    parameters: Any


class IvfpqIndex(ShortlistIndex):
    """Inverted lists of 4-bit codes.

    Its knobs are `gap`, how much farther than the closest centre the centres of scanned lists may
    be, in thousandths of a centre's length (for L2, of twice the mean squared distance of two
    centres); and `probes`, the maximum number of scanned lists.
    """

    kind: ClassVar[str] = "ivfpq"
    knobs: ClassVar[tuple[str, ...]] = ("gap", "probes")
    # For points stored before the knob `gap` existed.
    added_knobs: ClassVar[Mapping[str, int]] = {"gap": _NO_GAP}
    least_dim: ClassVar[int] = 8
    parameters: ClassVar[Mapping[str, Choices]] = {"lists": range(1, _MOST_LISTS + 1)}

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        faiss, structure = self._faiss, self._structure
        coarse = faiss.downcast_index(structure.quantizer)
        self._centres: Floats = coarse.reconstruct_n(0, structure.nlist)
        self._is_l2 = structure.metric_type == faiss.METRIC_L2
        squares = np.einsum("ij,ij->i", self._centres, self._centres)
        if self._is_l2:
            middle = self._centres.mean(axis=0)
            self._unit = max(float(4 * (squares.mean() - middle @ middle)), 1e-30)
        else:
            self._unit = max(math.sqrt(float(squares.mean())), 1e-30)
        self._centres_at = faiss.swig_ptr(self._centres)
        self._linear_centres = linear(self._centres)
        self._squares = squares
        self._alone = _twin(structure)

    @classmethod
    def default_points(cls, n: int, dim: int, spec: IndexSpec) -> tuple[OperatingPoint, ...]:
        """Return points from a gap of 40 up to a scan of all lists."""
        lists = _lists(spec, n)
        points = []
        for gap, share, last in (*_STEPS, (_NO_GAP, 1.0, _MOST_CANDIDATES)):
            probes = min(lists, max(4, round(share * lists)))
            kept = {f"keep{d}": last for d in spec.dims[1:]}
            shortlist = 3 * last if kept else last
            points.append(OperatingPoint.of(gap=gap, probes=probes, shortlist=shortlist, **kept))
        return tuple(points)

    @classmethod
    def _codes_are_int8(cls, spec: IndexSpec) -> bool:
        return True  # the codes of the centres

    @classmethod
    def _make(cls, spec: IndexSpec, dim: int, metric: int, n: int, sample: Floats) -> Any:
        faiss = load_faiss()
        lists = _lists(spec, n)
        centres = _cluster(_training_rows(sample, lists, _ROWS_PER_LIST * lists), lists, metric)
        # Comparing a query with int8 centres takes a quarter of the time and of the cache.
        coarse = faiss.IndexScalarQuantizer(
            dim, faiss.ScalarQuantizer.QT_8bit_direct_signed, metric
        )
        coarse.train(centres)
        coarse.add(centres)
        structure = faiss.IndexIVFPQFastScan(coarse, dim, lists, dim // 2, 4, metric)
        # Codes of the residual, a vector minus its centre, are more precise. For inner products
        # they cost nothing, because one table serves all lists.
        structure.by_residual = metric == faiss.METRIC_INNER_PRODUCT
        structure.pq.cp.min_points_per_centroid = 1  # otherwise FAISS prints a warning
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # more threads only wait for each other
        try:
            structure.train(_training_rows(sample, 16, _CODE_ROWS))
        finally:
            faiss.omp_set_num_threads(threads)
        return structure

    @classmethod
    def _is_structure(cls, structure: Any) -> bool:
        return isinstance(structure, load_faiss().IndexIVFPQFastScan)

    @classmethod
    def _write(cls, index: Any, path: Path) -> None:
        write_mapped(index, path)

    @classmethod
    def _opened(cls, structure: Any, path: Path) -> None:
        map_lists(structure, path)

    def _parameters(
        self, point: OperatingPoint, shortlist: int, stretch: float, selector: Any
    ) -> Any:
        """Scan more lists, because the allowed neighbours of a query are farther away."""
        probes = min(self._structure.nlist, math.ceil(point["probes"] * math.sqrt(stretch)))
        gap = min(max(point["gap"], _NO_GAP), math.ceil(point["gap"] * stretch**_WIDENED))
        return Probing(probes, gap, load_faiss().SearchParametersIVF(nprobe=probes, sel=selector))

    def _find_one(self, buffers: Buffers, plan: Plan) -> Callable[[], None]:
        faiss, structure, probing = self._faiss, self._alone, plan.parameters
        projection, projected, at_zeros = self._projection, buffers.projected, buffers.at_zeros
        dim, lists, is_l2 = structure.d, structure.nlist, self._is_l2
        closeness = np.empty(lists, np.float32)
        is_near, bar = np.empty(lists, np.bool_), np.empty(1, np.float32)
        parameters = faiss.SearchParametersIVF(sel=probing.parameters.sel)
        compare = faiss.fvec_L2sqr_ny if is_l2 else faiss.fvec_inner_products_ny
        at_centres = self._centres_at
        at_query = buffers.at_projected
        at_distances, at_positions = buffers.at_distances, buffers.at_positions
        shortlist = plan.shortlist
        gap, probes, sqrt = probing.gap / _GAPS * self._unit, probing.probes, math.sqrt
        swig_ptr, squared_length = faiss.swig_ptr, faiss.fvec_norm_L2sqr
        at_closeness, greater_equal = swig_ptr(closeness), np.greater_equal
        search, partition = structure.search_preassigned_c, np.partition

        def find() -> None:
            length = 1.0
            if is_l2:
                projection.fit_query(projected, at_query, at_zeros)
            else:
                square = squared_length(at_query, dim)
                if not _SHORT < square < _LONG:
                    projection.fit_query(projected, at_query, at_zeros)
                    square = squared_length(at_query, dim)
                length = sqrt(square)
            compare(at_closeness, at_query, at_centres, dim, lists)
            if is_l2:
                np.negative(closeness, closeness)
            bar[0] = closeness.item(closeness.argmax()) - gap * length
            greater_equal(closeness, bar, is_near)
            keys = is_near.nonzero()[0]
            near = closeness.take(keys)
            if len(keys) > probes:
                # Lists that tie with the last one are scanned too.
                last = len(keys) - probes
                bar[0] = partition(near, last).item(last)
                kept = (near >= bar).nonzero()[0]
                keys, near = keys.take(kept), near.take(kept)
            if is_l2:
                np.negative(near, near)
            parameters.nprobe = len(keys)
            search(
                1, at_query, shortlist, swig_ptr(keys), swig_ptr(near), at_distances,
                at_positions, False, parameters,
            )  # fmt: skip

        return find

    def _find(self, n: int, projected: Any, plan: Plan, distances: Any, positions: Any) -> None:
        if not n:
            return
        faiss, structure, probing = self._faiss, self._structure, plan.parameters
        queries = faiss.rev_swig_ptr(projected, n * structure.d).reshape(n, structure.d)
        closeness = self._closeness(queries, projected)
        lengths: Any = self._unit
        if not self._is_l2:
            lengths = self._unit * np.sqrt(np.einsum("ij,ij->i", queries, queries))
        least = closeness.max(axis=1) - probing.gap / _GAPS * lengths
        is_near = closeness >= least.astype(np.float32)[:, None]
        counts = np.count_nonzero(is_near, axis=1)
        many = (counts > probing.probes).nonzero()[0]
        if len(many):
            last = structure.nlist - probing.probes
            some = closeness[many]
            is_near[many] &= some >= np.partition(some, last, axis=1)[:, last : last + 1]
            counts[many] = np.count_nonzero(is_near[many], axis=1)
        most = int(counts.max())
        found = is_near.reshape(-1).nonzero()[0]
        owner = np.arange(n).repeat(counts)
        # The index of each list in rows padded to the longest.
        place = np.arange(len(found)) + (np.arange(n) * most - (counts.cumsum() - counts))[owner]
        keys = np.full(n * most, -1, np.int64)
        keys[place] = found - owner * structure.nlist
        near = np.zeros(n * most, np.float32)
        near[place] = closeness.reshape(-1)[found]
        if self._is_l2:
            np.negative(near, near)
        ptr = faiss.swig_ptr
        structure.search_preassigned_c(
            n, projected, plan.shortlist, ptr(keys), ptr(near), distances, positions, False,
            faiss.SearchParametersIVF(nprobe=most, sel=probing.parameters.sel),
        )  # fmt: skip

    def _closeness(self, queries: Floats, at_queries: Any) -> Floats:
        """Return how close each centre is to each query, f32[q, lists]."""
        out = np.empty((len(queries), self._structure.nlist), np.float32)
        multiply(self._linear_centres, len(queries), at_queries, self._faiss.swig_ptr(out))
        if self._is_l2:
            out *= 2
            out -= self._squares
            out -= np.einsum("ij,ij->i", queries, queries)[:, None]
        return out

    def _scan_below(self, point: OperatingPoint) -> float:
        n, lists = len(self._source), min(1.0, point["probes"] / self._structure.nlist)
        return min(n / 4, _FEW + n / _CODES * math.sqrt(lists))


def _twin(structure: Any) -> Any:
    """Return an index over the same lists that scans them in the fastest way for one query.

    FAISS stores the way to scan in the index, not in the search parameters.
    """
    twin = like(structure, structure.invlists)
    twin.implem = _ONE_BY_ONE
    return twin


def _lists(spec: IndexSpec, n: int) -> int:
    wanted = round(_LISTS_PER_ROOT * math.sqrt(n))
    fitting = max(1, min(wanted, n // _LEAST_ROWS, _MOST_LISTS))
    return cast(int, spec.get("lists", fitting))


def _training_rows(sample: Floats, at_least: int, at_most: int) -> Floats:
    """Return rows of `sample` f32[m, dim] to train on, repeated if there are too few."""
    if len(sample) < at_least:
        return np.resize(sample, (at_least, sample.shape[1]))
    return np.ascontiguousarray(sample[:: -(-len(sample) // at_most)])


def _cluster(rows: Floats, lists: int, metric: int) -> Floats:
    """Return k-means centres, f32[lists, dim], rounded to whole numbers from -127 to 127."""
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
        train(clustering, rows, faiss.IndexFlat(dim, metric))
    finally:
        faiss.omp_set_num_threads(threads)
    centres: Floats = faiss.vector_to_array(clustering.centroids).reshape(lists, dim)
    if settings.spherical:
        centres *= np.sqrt(np.einsum("ij,ij->i", rows, rows).mean())
    np.rint(centres, out=centres)
    return np.clip(centres, -127, 127, out=centres)
