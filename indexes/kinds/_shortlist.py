"""What the approximate kinds share: a shortlist from short codes, re-ranked on stored vectors.

An index is a FAISS `IndexPreTransform`: a projection to a prefix (matryoshka.py), followed by the
kind's structure over the projected vectors. Its candidates are scored in float32 directly on the
vectors of the source; the best are scored again as `exact.scan` does it, so that a score is a
function of the query and the vector alone.

One query costs only a few calls into FAISS: each thread keeps its arrays, their addresses and the
search parameters in a function made once (`_one`). A batch is split into pieces for all cores.
"""

from __future__ import annotations

import copy
import math
import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from ..base import (
    Bitmap,
    Checkpoint,
    Floats,
    Hits,
    Index,
    IndexFileError,
    Positions,
    Progress,
    VectorSource,
    as_k,
    check_allowed,
    check_queries,
    count_allowed,
)
from ..faiss import faiss_metric, load_faiss, read_index, write_index
from ..points import OperatingPoint, check_points
from ..scanning import scan
from ..spec import IndexSpec, SpecError, Value
from ..threads import each_on_all_cores
from . import matryoshka
from ._rerank import Buffers, ShortlistScorer
from .matryoshka import Projection

TOP: Final = 10  # the k of operating points; a larger k takes a longer shortlist

_SAMPLE_VALUES: Final = 1 << 24  # 64 MB
_BLOCK_VALUES: Final = 1 << 23
# Queries of a batch that a thread takes at a time, so that queries scanning a list share it.
_PIECE: Final = 512
_LEAST_PIECE: Final = 64
_KEPT_PLANS: Final = 64
_MOST_ALLOWED: Final = 0.9  # above this share of allowed vectors, a filter changes little
_AROUND: Final = 64
_FAR: Final = 0.25

Choices = range | tuple[Value, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How to run one search.

    shortlist:  how many candidates the structure returns.
    kept:       how many of them remain after each longer prefix.
    parameters: FAISS search parameters; they hold a reference to the bitmap of allowed positions.
    """

    shortlist: int
    kept: tuple[int, ...]
    parameters: Any


class _Known(threading.local):
    """The single-query searches that this thread has made before, by effort and k."""

    def __init__(self) -> None:
        self.searches: dict[tuple[int, int], Callable[[Floats], Hits]] = {}


class ShortlistIndex(Index):
    """A kind that makes a shortlist with FAISS and re-ranks it on the stored vectors.

    parameters:  the values that each parameter of a spec may have.
    knobs:       the kind's own knobs, besides `shortlist` and one `keepDIM` per longer prefix.
    added_knobs: the knobs that points stored by older versions lack, with their values.
    rotates:     whether vectors are rotated by default; None measures which is better.
    least_dim:   vectors with fewer dimensions are compared directly, because codes of them are
                 too coarse.
    step:        the number of stored values is a multiple of this.
    """

    recall_floor: ClassVar[float] = 0.9
    parameters: ClassVar[Mapping[str, Choices]] = {}
    knobs: ClassVar[tuple[str, ...]] = ()
    added_knobs: ClassVar[Mapping[str, int]] = {}
    rotates: ClassVar[bool | None] = None
    step: ClassVar[int] = 16
    least_dim: ClassVar[int] = 1

    def __init__(
        self,
        index: Any,
        source: VectorSource,
        spec: IndexSpec,
        projection: Projection,
        points: Sequence[OperatingPoint] | None = None,
        default_effort: int | None = None,
    ) -> None:
        faiss = load_faiss()
        self.spec = spec
        self._faiss = faiss
        self._index = index
        self._structure = faiss.downcast_index(index.index)
        # The position in the source of each vector of the structure, with -1 for "none" at the
        # end; None if they are the same.
        self._order: Positions | None = None
        self._source = source
        self._projection = projection
        self._matrix_at = faiss.swig_ptr(projection.matrix)
        self._linear = faiss.downcast_VectorTransform(index.chain.at(0))
        self._scorer = ShortlistScorer(source, spec.dims[1:])
        if points is None:
            points = self.default_points(len(source), source.dim, spec)
            default_effort = len(points) * 3 // 5 if default_effort is None else default_effort
        self._set_points(points, default_effort)

    @classmethod
    @abstractmethod
    def default_points(cls, n: int, dim: int, spec: IndexSpec) -> tuple[OperatingPoint, ...]:
        """Return points for an index that has not been measured, fastest first."""

    @classmethod
    @abstractmethod
    def _codes_are_int8(cls, spec: IndexSpec) -> bool: ...

    @classmethod
    @abstractmethod
    def _make(cls, spec: IndexSpec, dim: int, metric: int, n: int, sample: Floats) -> Any:
        """Return the trained, empty structure over `dim` values; sample: f32[m, dim]."""

    @abstractmethod
    def _parameters(
        self, point: OperatingPoint, shortlist: int, stretch: float, selector: Any
    ) -> Any:
        """Return FAISS search parameters.

        stretch:  the number of positions per allowed one.
        selector: a FAISS selector of the allowed positions; None allows all.
        """

    @abstractmethod
    def _scan_below(self, point: OperatingPoint) -> float:
        """Return the number of allowed positions below which comparing them all costs less."""

    @classmethod
    def check(cls, spec: IndexSpec) -> None:
        """Refuse parameters and prefixes that do not apply to this kind.

        Raises:
            SpecError: the spec has such.
        """
        choices: dict[str, Choices] = {"rotation": (True, False), **cls.parameters}
        for name, value in spec.params:
            known = choices.get(name)
            if known is None:
                raise SpecError(
                    f"index spec '{spec}': {cls.kind} has no parameter {name}; "
                    f"use {', '.join(sorted(choices))}"
                )
            if type(value) is not type(known[0]) or value not in known:
                raise SpecError(f"index spec '{spec}': {name} must be {_written(known)}")
        if len(spec.dims) > 1 and spec.get("rotation"):
            raise SpecError(
                f"index spec '{spec}': several prefixes re-rank on prefixes of the stored "
                "vectors; give one prefix or rotation=false"
            )

    @classmethod
    def build(
        cls,
        source: VectorSource,
        spec: IndexSpec,
        *,
        progress: Progress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        """Build over every vector of `source`; see `Index.build`.

        Besides the index, it takes the memory of a sample, 64 MB, and of a block.
        """
        cls.check(spec)
        n = len(source)
        if not n:
            raise ValueError("an index needs at least one vector")
        if spec.dims and spec.dims[-1] >= source.dim:
            raise SpecError(
                f"index spec '{spec}': a prefix must be shorter than all {source.dim} dimensions"
            )
        index = None if checkpoint is None else checkpoint.read(source, "IndexPreTransform")
        if index is None:
            index = cls._trained(source, spec)
            if checkpoint is not None:
                checkpoint.write(index)
        projection = Projection.of_chain(index.chain, source.metric)
        structure = load_faiss().downcast_index(index.index)
        there, done = index.ntotal, 0
        for block in source.blocks(max(1, _BLOCK_VALUES // source.dim)):
            new = block[max(0, there - done) :]
            done += len(block)
            if not len(new):
                continue
            structure.add(projection.codes(new))
            index.ntotal = done
            if progress is not None:
                progress(done, n)
            if checkpoint is not None:
                checkpoint.write(index)
        if checkpoint is not None:
            checkpoint.write_now(index)
        return cls(cls._finished(index, projection), source, spec, projection)

    @classmethod
    def _finished(cls, index: Any, projection: Projection) -> Any:
        """Return the index in the form to save, once it holds every vector."""
        return index

    @classmethod
    def _trained(cls, source: VectorSource, spec: IndexSpec) -> Any:
        """Return an empty FAISS index, fitted and trained on a sample."""
        faiss = load_faiss()
        sample = source.sample(max(1000, _SAMPLE_VALUES // source.dim), 0)
        projection = matryoshka.fit(
            sample,
            source.metric,
            spec.dims[0] if spec.dims else source.dim,
            cls._rotation(spec),
            int8=cls._codes_are_int8(spec),
            step=cls.step,
        )
        metric = faiss_metric(source.metric)
        structure = cls._make(spec, projection.dim, metric, len(source), projection.codes(sample))
        index = faiss.IndexPreTransform(structure)
        for part in reversed(projection.chain()):
            index.prepend_transform(part)
        return index

    @classmethod
    def _rotation(cls, spec: IndexSpec) -> bool | None:
        given = spec.get("rotation")
        if given is None:
            return False if len(spec.dims) > 1 else cls.rotates
        return bool(given)

    def save(self, path: Path) -> None:
        """Write the index as a plain FAISS file at `path`.

        Raises:
            OSError: it cannot be written.
        """
        self._write(self._index, path)

    @classmethod
    def _write(cls, index: Any, path: Path) -> None:
        write_index(index, path)

    @classmethod
    def load(
        cls,
        path: Path,
        source: VectorSource,
        spec: IndexSpec,
        *,
        points: Sequence[OperatingPoint] | None = None,
        default_effort: int | None = None,
    ) -> Self:
        """Open the file that `save` wrote, mapped, over the same `source`; see `Index.load`."""
        index = read_index(path, source, "IndexPreTransform")
        try:
            projection = Projection.of_chain(index.chain, source.metric)
        except ValueError as error:
            raise IndexFileError(
                f"the index file {path} is not of kind {cls.kind}: {error}"
            ) from error
        structure = load_faiss().downcast_index(index.index)
        if not cls._is_structure(structure) or bool(projection.scale) != cls._codes_are_int8(spec):
            raise IndexFileError(
                f"the index file {path} is not of kind {cls.kind}: "
                f"it holds a {type(structure).__name__}"
            )
        cls._opened(structure, path)
        return cls(index, source, spec, projection, points, default_effort)

    @classmethod
    def _opened(cls, structure: Any, path: Path) -> None:
        """Finish opening a structure that was read from `path`."""

    @classmethod
    @abstractmethod
    def _is_structure(cls, structure: Any) -> bool: ...

    def with_points(
        self, points: Sequence[OperatingPoint], default_effort: int | None = None
    ) -> Self:
        """Return the same index with other operating points; see `Index.with_points`."""
        other = copy.copy(self)
        other._set_points(points, default_effort)
        return other

    def _set_points(self, points: Sequence[OperatingPoint], default: int | None) -> None:
        self.points = tuple(
            OperatingPoint.of(**{**self.added_knobs, **point}) if self.added_knobs else point
            for point in points
        )
        self.default_effort = len(self.points) - 1 if default is None else default
        names = {*self.knobs, "shortlist", *(f"keep{dim}" for dim in self.spec.dims[1:])}
        check_points(self.points, self.default_effort, names)
        self._plans: dict[tuple[int, int], Plan] = {}
        self._known = _Known()

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        effort: int | None = None,
        allowed: Bitmap | None = None,
    ) -> Hits:
        """Return the best `k` positions for each query; see `Index.search`."""
        source = self._source
        queries = check_queries(queries, source.dim)
        k = as_k(k)
        effort = self.check_effort(effort)
        if allowed is None and len(queries) == 1:
            known = self._known.searches.get((effort, k))
            hits = None if known is None else known(queries)
            if hits is not None and hits.positions.item(k - 1) >= 0:
                return hits
        n = len(source)
        allowed = check_allowed(allowed, n)
        count = n if allowed is None else count_allowed(allowed, n)
        plan = None if 2 * k > count else self._plan(effort, k, count, allowed)
        if plan is None:
            return scan(source, queries, k, allowed=allowed)
        if allowed is None or count > _MOST_ALLOWED * n:
            hits = self._run(queries, k, plan)
            if len(queries) == 1 and allowed is None:
                if len(self._known.searches) >= _KEPT_PLANS:
                    self._known.searches = {}
                self._known.searches[effort, k] = self._one(k, plan)
            lacking = hits.positions[:, -1] < 0
        else:
            hits = Hits.none(len(queries), k)
            lacking = self._is_far(queries, self.points[effort], allowed, count / n)
            near = self._run(queries[~lacking], k, plan)
            hits.scores[~lacking], hits.positions[~lacking] = near.scores, near.positions
            lacking |= hits.positions[:, -1] < 0
        if lacking.any():
            scanned = scan(source, queries[lacking], k, allowed=allowed)
            hits.scores[lacking], hits.positions[lacking] = scanned.scores, scanned.positions
        return hits

    def _run(self, queries: Floats, k: int, plan: Plan) -> Hits:
        one = len(queries) == 1
        return self._one(k, plan)(queries) if one else self._search_many(queries, k, plan)

    def _is_far(
        self, queries: Floats, point: OperatingPoint, allowed: Bitmap, share: float
    ) -> NDArray[np.bool_]:
        """Return which queries have few allowed vectors around them, bool[q].

        A filter at odds with the query leaves only vectors that are all about equally far away: a
        graph or a cluster does not lead to them, and codes do not tell them apart.
        """
        projected = self._projected(queries)
        plan = Plan(_AROUND, (), self._parameters(point, _AROUND, 1.0, None))
        scores = np.empty((len(queries), _AROUND), np.float32)
        around = np.empty((len(queries), _AROUND), np.int64)
        ptr = self._faiss.swig_ptr
        self._find(len(queries), ptr(projected), plan, ptr(scores), ptr(around))
        self._in_source(around)
        outside = (around < 0) | (around >= len(self._source))  # too large only in a damaged file
        around[outside] = 0
        bits = (allowed[around >> 3] >> (around & 7)) & 1
        bits[outside] = 0
        far: NDArray[np.bool_] = bits.mean(axis=1) < _FAR * share
        return far

    def _plan(self, effort: int, k: int, count: int, allowed: Bitmap | None) -> Plan | None:
        """Return how to search, or None if comparing every allowed vector costs less."""
        if allowed is None:
            plan = self._plans.get((effort, k))
            if plan is not None:
                return plan
        point = self.points[effort]
        more = max(1.0, k / TOP) ** 0.8
        stretch = len(self._source) / count
        # Allowed vectors may be far from the query, where codes are less precise.
        more *= math.sqrt(stretch)
        shortlist = min(count, max(k, round(point["shortlist"] * more)))
        few = count <= self._scan_below(point) or self._source.dim < self.least_dim
        if few or 2 * shortlist > count:
            return None
        kept = tuple(max(k, round(point[f"keep{dim}"] * more)) for dim in self.spec.dims[1:])
        selector = None if allowed is None else load_faiss().IDSelectorBitmap(allowed)
        plan = Plan(shortlist, kept, self._parameters(point, shortlist, stretch, selector))
        if allowed is None:
            if len(self._plans) >= _KEPT_PLANS:
                self._plans = {}
            self._plans[effort, k] = plan
        return plan

    def _one(self, k: int, plan: Plan) -> Callable[[Floats], Hits]:
        """Return a function that searches one query f32[1, dim], fast and in one thread.

        The function keeps the buffers alive; FAISS has only their addresses.
        """
        matrix = self._projection.matrix
        buffers = Buffers(len(matrix), plan.shortlist, k)
        find, rerank = self._find_one(buffers, plan), self._scorer.one(buffers, plan.kept)
        project, swig_ptr = self._faiss.fvec_inner_products_ny, self._faiss.swig_ptr
        at_matrix = self._matrix_at
        dim = self._source.dim

        def search_one(query: Floats) -> Hits:
            at_query = swig_ptr(query)
            project(buffers.at_projected, at_query, at_matrix, dim, len(matrix))
            find()
            return rerank(query, at_query)

        return search_one

    def _search_many(self, queries: Floats, k: int, plan: Plan) -> Hits:
        hits = Hits.none(len(queries), k)

        threads = self._faiss.omp_get_max_threads()
        size = max(_LEAST_PIECE, min(_PIECE, -(-len(queries) // threads)))

        def run(start: int) -> None:
            part = slice(start, start + size)
            found = self._search_piece(queries[part], self._projected(queries[part]), k, plan)
            hits.scores[part], hits.positions[part] = found.scores, found.positions

        each_on_all_cores(run, range(0, len(queries), size))
        return hits

    def _projected(self, queries: Floats) -> Floats:
        """Return queries in the form to compare with stored values, f32[q, out]."""
        out = np.empty((len(queries), self._projection.dim), np.float32)
        ptr = self._faiss.swig_ptr
        multiply(self._linear, len(queries), ptr(queries), ptr(out))
        return self._fitted(out)

    def _fitted(self, projected: Floats) -> Floats:
        """Convert projected queries to the form that codes are compared with, in place."""
        return self._projection.fit_queries(projected)

    def _search_piece(self, queries: Floats, projected: Floats, k: int, plan: Plan) -> Hits:
        faiss = self._faiss
        shape = (len(queries), plan.shortlist)
        scores, positions = np.empty(shape, np.float32), np.empty(shape, np.int64)
        at_scores, at_positions = faiss.swig_ptr(scores), faiss.swig_ptr(positions)
        self._find(len(queries), faiss.swig_ptr(projected), plan, at_scores, at_positions)
        self._in_source(positions)
        return self._scorer.many(queries, positions, k, plan.kept)

    def _in_source(self, positions: Positions) -> None:
        """Convert positions in the structure to positions in the source, in place."""
        if self._order is not None:
            positions[...] = self._order[positions]

    def _find_one(self, buffers: Buffers, plan: Plan) -> Callable[[], None]:
        """Return a function that writes the shortlist of the query projected in `buffers`.

        It holds no reference to the index, which would be a reference cycle.
        """
        projection, order, positions = self._projection, self._order, buffers.positions
        search, shortlist, parameters = self._structure.search_c, plan.shortlist, plan.parameters
        at_query, at_distances, at_positions = (
            buffers.at_projected,
            buffers.at_distances,
            buffers.at_positions,
        )

        def find() -> None:
            projection.fit_query(buffers.projected, at_query, buffers.at_zeros)
            search(1, at_query, shortlist, at_distances, at_positions, parameters)
            if order is not None:
                positions[...] = order.take(positions, mode="wrap")  # -1 is the last

        return find

    def _find(self, n: int, projected: Any, plan: Plan, distances: Any, positions: Any) -> None:
        """Write the shortlists of n queries; the arguments are addresses."""
        self._structure.search_c(
            n, projected, plan.shortlist, distances, positions, plan.parameters
        )


def multiply(linear: Any, n: int, vectors: Any, out: Any) -> None:
    """Apply a FAISS transform to n vectors with FAISS's BLAS, on one thread.

    numpy's BLAS would start its own threads in each thread, which spin while they wait.

    vectors, out: addresses.
    """
    faiss = load_faiss()
    threads = faiss.omp_get_max_threads()
    if threads > 1:
        faiss.omp_set_num_threads(1)  # for this thread only
    try:
        linear.apply_noalloc(n, vectors, out)
    finally:
        if threads > 1:
            faiss.omp_set_num_threads(threads)


def _written(choices: Choices) -> str:
    if isinstance(choices, range):
        return f"an integer from {choices[0]} to {choices[-1]}"
    return " or ".join(str(c).lower() if isinstance(c, bool) else str(c) for c in choices)
