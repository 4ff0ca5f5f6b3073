"""The kind `flat`: every vector in a plain FAISS file, searched exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ._faiss import faiss_metric, load_faiss, read_index, search_parameters, write_index
from .base import (
    Bitmap,
    Floats,
    Hits,
    Index,
    VectorSource,
    check_allowed,
    check_k,
    check_queries,
    count_allowed,
)
from .exact import GATHER_BELOW, largest_norm, overflows, rerank, scan, score_slack
from .spec import IndexSpec, SpecError

_BUILD_ROWS = 1 << 14
_BATCH = 4  # from so many queries on, scanning costs less than FAISS


class FlatIndex(Index):
    """Exact search by FAISS, with the answers of `exact.scan` to the last bit.

    FAISS finds a few more candidates than asked for, which are scored from the vectors of the
    source. Its order among equal scores is its own; where the candidates do not show that no
    other vector can be among the best, the query is scanned. So is a batch, because a product of
    matrices takes a fraction of the time of FAISS (benchmarks/scan.py).
    """

    kind: ClassVar[str] = "flat"
    exact: ClassVar[bool] = True

    def __init__(self, index: Any, source: VectorSource, spec: IndexSpec) -> None:
        self.spec = spec
        self._index = index
        self._source = source

    @classmethod
    def check(cls, spec: IndexSpec) -> None:
        """Refuse prefixes and parameters: there is nothing to choose."""
        if spec.dims or spec.params:
            raise SpecError(f"index spec '{spec}': flat takes no prefixes and no parameters")

    @classmethod
    def build(cls, source: VectorSource, spec: IndexSpec) -> FlatIndex:
        """Build over every vector of `source`, in the memory of one copy of them.

        Raises:
            SpecError: `spec` has prefixes or parameters.
            ValueError: `source` has no vectors.
            MissingFaissError: FAISS is not installed.
        """
        cls.check(spec)
        if not len(source):
            raise ValueError("an index needs at least one vector")
        faiss = load_faiss()
        index = faiss.IndexFlat(source.dim, faiss_metric(source.metric))
        # Taking the room at once avoids the three copies that adding to a growing array takes.
        index.codes.resize(4 * source.dim * len(source))
        index.ntotal = len(source)
        values = faiss.rev_swig_ptr(index.get_xb(), source.dim * len(source))
        start = 0
        for block in source.blocks(_BUILD_ROWS):
            values[start : start + block.size] = block.ravel()
            start += block.size
        return cls(index, source, spec)

    def save(self, path: Path) -> None:
        """Write the index as a plain FAISS file at `path`.

        Raises:
            OSError: it cannot be written there.
        """
        write_index(self._index, path)

    @classmethod
    def load(cls, path: Path, source: VectorSource, spec: IndexSpec) -> FlatIndex:
        """Open the file that `save` wrote, over the same `source`.

        Raises:
            IndexFileError: the file is missing, damaged, or the index of other vectors.
            MissingFaissError: FAISS is not installed.
        """
        return cls(read_index(path, source, "IndexFlat"), source, spec)

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        effort: int | None = None,
        allowed: Bitmap | None = None,
    ) -> Hits:
        """Return the best `k` positions for each query; see `Index.search`.

        effort: has no meaning here, for there is one operating point.
        """
        source, n = self._source, len(self._source)
        queries = check_queries(queries, source.dim)
        k = check_k(k)
        allowed = check_allowed(allowed, n)
        norms = np.linalg.norm(queries.astype(np.float64), axis=1)
        longest = largest_norm(source)
        few = allowed is not None and count_allowed(allowed, n) < GATHER_BELOW * n
        faiss_can = 0 < len(queries) < _BATCH and not overflows(source.metric, norms, longest)
        if few or not faiss_can:
            return scan(source, queries, k, allowed=allowed)
        kept = min(k, n)
        fetched = min(n, kept + max(16, kept // 2))
        scores, candidates = self._index.search(queries, fetched, params=search_parameters(allowed))
        best = rerank(source, queries, candidates, k)
        slack = score_slack(source.metric, norms, longest, source.dim)
        unsure = candidates[:, -1] >= 0
        unsure &= np.abs(scores[:, kept - 1] - scores[:, -1]) <= 2 * slack
        if fetched < n and unsure.any():
            scanned = scan(source, queries[unsure], k, allowed=allowed)
            best.scores[unsure] = scanned.scores
            best.positions[unsure] = scanned.positions
        return best
