"""The kind `flat`: all vectors in a plain FAISS file, searched exactly, or by prefixes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..base import (
    Bitmap,
    Checkpoint,
    Floats,
    Hits,
    Index,
    Metric,
    Progress,
    VectorSource,
    as_k,
    check_allowed,
    check_queries,
    count_allowed,
)
from ..exact import GATHER_BELOW, best_of, largest_norm, overflows, score_slack
from ..faiss import faiss_metric, load_faiss, read_index, search_parameters, write_index
from ..points import OperatingPoint
from ..scanning import scan
from ..spec import IndexSpec, SpecError
from ._flat_prefix import FlatPrefixIndex

_BUILD_ROWS = 1 << 14
_BATCH = 4  # from this many queries on, scanning costs less than FAISS


class FlatIndex(Index):
    """Exact search by FAISS, with the answers of `exact.scan` to the last bit.

    FAISS finds a few more candidates than requested, and these are scored on the vectors of the
    source. FAISS orders equal scores in its own way, so if the candidates do not prove that no
    other vector can be among the best, the query is scanned. A batch is always scanned, because a
    matrix product takes a fraction of FAISS's time (benchmarks/studies/scan.py).
    """

    kind: ClassVar[str] = "flat"
    exact: ClassVar[bool] = True

    def __init__(self, index: Any, source: VectorSource, spec: IndexSpec) -> None:
        self.spec = spec
        self._index = index
        self._source = source

    @classmethod
    def check(cls, spec: IndexSpec) -> None:
        """Refuse parameters, because without a prefix there is nothing to choose."""
        if spec.dims:
            FlatPrefixIndex.check(spec)
        elif spec.params:
            raise SpecError(f"index spec '{spec}': flat takes no parameters without a prefix")

    @classmethod
    def build(
        cls,
        source: VectorSource,
        spec: IndexSpec,
        *,
        progress: Progress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Index:
        """Build over every vector of `source`, in the memory of one copy of them.

        checkpoint: used only with prefixes; otherwise copying again is as fast as reading one.

        Raises:
            SpecError: `spec` has parameters that do not apply.
            ValueError: `source` has no vectors.
            MissingFaissError: FAISS is not installed.
        """
        if spec.dims:
            return FlatPrefixIndex.build(source, spec, progress=progress, checkpoint=checkpoint)
        cls.check(spec)
        if not len(source):
            raise ValueError("an index needs at least one vector")
        faiss = load_faiss()
        index = faiss.IndexFlat(source.dim, faiss_metric(source.metric))
        # Allocating the memory at once avoids the three copies of adding to a growing array.
        index.codes.resize(4 * source.dim * len(source))
        index.ntotal = len(source)
        values = faiss.rev_swig_ptr(index.get_xb(), source.dim * len(source))
        start = 0
        for block in source.blocks(_BUILD_ROWS):
            values[start : start + block.size] = block.ravel()
            start += block.size
            if progress is not None:
                progress(start // source.dim, len(source))
        return cls(index, source, spec)

    def save(self, path: Path) -> None:
        """Write the index as a plain FAISS file at `path`.

        Raises:
            OSError: it cannot be written.
        """
        write_index(self._index, path)

    @classmethod
    def load(
        cls,
        path: Path,
        source: VectorSource,
        spec: IndexSpec,
        *,
        points: Sequence[OperatingPoint] | None = None,
        default_effort: int | None = None,
    ) -> Index:
        """Open the file that `save` wrote, over the same `source`.

        Raises:
            IndexFileError: the file is missing, damaged, or the index of other vectors.
            MissingFaissError: FAISS is not installed.
        """
        if spec.dims:
            return FlatPrefixIndex.load(
                path, source, spec, points=points, default_effort=default_effort
            )
        index = cls(read_index(path, source, "IndexFlat"), source, spec)
        return index if points is None else index.with_points(points, default_effort)

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        effort: int | None = None,
        allowed: Bitmap | None = None,
    ) -> Hits:
        """Return the best `k` positions for each query; see `Index.search`.

        effort: has no effect, because there is only one operating point.
        """
        source, n = self._source, len(self._source)
        queries = check_queries(queries, source.dim)
        k = as_k(k)
        self.check_effort(effort)
        allowed = check_allowed(allowed, n)
        longest = largest_norm(source)
        few = allowed is not None and count_allowed(allowed, n) < GATHER_BELOW * n
        if few or not 0 < len(queries) < _BATCH:
            return scan(source, queries, k, allowed=allowed)
        wide = queries.astype(np.float64)
        norm = math.sqrt(max(float(np.vdot(query, query)) for query in wide))
        if overflows(source.metric, norm, longest):
            return scan(source, queries, k, allowed=allowed)
        kept = min(k, n)
        fetched = min(n, kept + max(16, kept // 2))
        scores, candidates = self._index.search(queries, fetched, params=search_parameters(allowed))
        twice = 2 * _slack(source.metric, _rounded_up(norm), longest, source.dim)
        # A candidate below the last one by more than both errors cannot be among the best.
        near = np.abs(scores - scores[:, kept - 1 : kept]) <= twice
        columns = kept + int(np.count_nonzero(near[:, kept:].any(axis=0)))
        best = _of_length(best_of(source, queries, candidates[:, :columns]), k)
        unsure = near[:, -1] & (candidates[:, -1] >= 0)
        if fetched < n and unsure.any():
            scanned = scan(source, queries[unsure], k, allowed=allowed)
            best.scores[unsure] = scanned.scores
            best.positions[unsure] = scanned.positions
        return best


def _of_length(hits: Hits, k: int) -> Hits:
    found = hits.scores.shape[1]
    if found < k:
        padded = Hits.none(len(hits.scores), k)
        padded.scores[:, :found], padded.positions[:, :found] = hits.scores, hits.positions
        return padded
    scores, positions = hits.scores[:, :k], hits.positions[:, :k]
    return Hits(np.ascontiguousarray(scores), np.ascontiguousarray(positions))


def _rounded_up(norm: float) -> float:
    """Return a slightly larger number with few digits, so that results for it can be cached."""
    fraction, exponent = math.frexp(norm)
    return math.ldexp(math.floor(16 * fraction + 1) / 16, exponent)


@lru_cache(1024)
def _slack(metric: Metric, norm: float, longest: float, dim: int) -> float:
    return float(score_slack(metric, np.array([norm]), longest, dim)[0])
