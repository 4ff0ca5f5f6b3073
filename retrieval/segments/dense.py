"""One dense segment: its rows, its vectors, its index, and the exact scan when it has none."""

from __future__ import annotations

import logging
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...indexes.arrays import ArraySource
from ...indexes.base import Hits, Metric
from ...indexes.exact import rerank
from ...indexes.scanning import scan
from ..store.manifest import SegmentEntry
from ..store.shards import Matrix, Rows, open_vectors
from .rows import RowRange

if TYPE_CHECKING:
    from ...indexes.base import Bitmap, Floats, Index

log = logging.getLogger("retr.segment")


class DenseSegment(RowRange):
    """Vectors of one space and modality, memory-mapped.

    matrix: [n, dim], the stored vectors.
    """

    def __init__(self, folder: Path, entry: SegmentEntry, metric: Metric) -> None:
        shard = open_vectors(folder / entry.data)
        super().__init__(entry, shard)
        self.matrix: Matrix = shard.matrix
        self.source = ArraySource(shard.matrix, metric)
        self.index = self._open_index(folder)
        if self.index is not None and not self.index.exact:
            self.source.read_at_random()

    def as_in(self, entry: SegmentEntry) -> DenseSegment:
        """Return the segment with a later generation's entry; both share the open files."""
        if entry == self.entry:
            return self
        other = copy(self)
        other.entry = entry
        return other

    def _open_index(self, folder: Path) -> Index | None:
        if self.entry.index is None:
            return None
        from ...indexes import kind
        from ...indexes.base import MissingFaissError
        from ...indexes.points import OperatingPoint
        from ...indexes.spec import IndexSpec

        spec = IndexSpec.parse(self.entry.index.spec)
        measured = self.entry.index.measured
        # A FAISS file does not store search parameters; the manifest does.
        points = [OperatingPoint.from_json(each["point"]) for each in measured.get("curve", ())]
        try:
            return kind(spec.kind).load(
                folder / self.entry.index.file,
                self.source,
                spec,
                points=points or None,
                default_effort=measured.get("default"),
            )
        except MissingFaissError as error:
            log.warning("scanning every vector instead of using the index %s: %s", spec, error)
            return None

    def _effort(self, recall: float | None) -> int | None:
        """Return the cheapest operating point that reached a recall, or the most accurate one.

        None, for the index's own setting, if no recall is given or nothing was measured.
        """
        measured = self.entry.index.measured if self.entry.index else {}
        curve = measured.get("curve", ())
        if recall is None or not curve:
            return None
        from ...indexes.points import aimed

        target = aimed(recall, measured["own_queries"] or "texts" in measured)
        enough = (i for i, each in enumerate(curve) if each["recall"] >= target)
        return next(enough, len(curve) - 1)

    def score(self, query: Floats, positions: Rows) -> NDArray[np.float64]:
        """Return the exact scores of the vectors at these positions (ascending), f64[n].

        query: f32[dim], in this segment's space.
        """
        hits = rerank(self.source, query[None], positions[None], len(positions))
        ascending = np.argsort(hits.positions[0])
        scores: NDArray[np.float64] = hits.scores[0][ascending].astype(np.float64)
        return scores

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        allowed: Bitmap | None = None,
        recall: float | None = None,
    ) -> Hits:
        """Return the best k rows for each query; `Hits.positions` are rows of the collection.

        queries: f32[q, dim], in this segment's space.
        allowed: packed bits over positions; None allows all.
        recall:  target recall (0 to 1), looked up on the measured curve; None uses the index's own
                 setting.
        """
        k = min(k, len(self))
        if self.index is None or (recall is not None and recall >= 1):
            hits = scan(self.source, queries, k, allowed=allowed)
        else:
            hits = self.index.search(queries, k, allowed=allowed, effort=self._effort(recall))
        found = hits.positions >= 0
        rows = self.rows_at(np.where(found, hits.positions, 0))
        return Hits(hits.scores, np.where(found, rows, -1))


def allow(n: int, *, only: Rows | None = None, never: Rows | None = None) -> NDArray[np.uint8]:
    """Return a packed bitmap over n positions.

    only:  the positions allowed; None allows all.
    never: positions excluded from those.
    """
    bits = np.ones(n, bool) if only is None else np.zeros(n, bool)
    if only is not None:
        bits[only] = True
    if never is not None:
        bits[never] = False
    packed: NDArray[np.uint8] = np.packbits(bits, bitorder="little")
    return packed
