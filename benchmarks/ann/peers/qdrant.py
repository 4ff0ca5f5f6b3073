"""qdrant-client's local mode: a brute-force scan in numpy, for it has no index of its own.

It stands here because people reach for it; it says nothing about the Qdrant server.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ....indexes.base import Floats, Metric
from .base import Peer, Rows, Setting

_NAME = "base"
_DISTANCES = {Metric.COSINE: "COSINE", Metric.IP: "DOT", Metric.L2: "EUCLID"}


class Qdrant(Peer):
    """Local mode, in memory."""

    title: ClassVar[str] = "qdrant local mode (brute force)"
    packages: ClassVar[tuple[str, ...]] = ("qdrant-client",)
    reads_vectors: ClassVar[bool] = True

    def build(self, base: Floats, folder: Path) -> dict[str, Any]:
        """Upload into memory; nothing is saved."""
        return {"distance": self._upload(base)}

    def open(self, base: Floats, folder: Path) -> None:
        """Upload again: what it keeps on disk is committed point by point, 18 ms for each."""
        self._upload(base)

    def settings(self) -> Sequence[Setting]:
        """Return the one there is."""
        return [{}]

    def batch(self, queries: Floats) -> Rows:
        """Return the nearest rows, query by query."""
        return np.stack([self.one(query[None]) for query in queries])

    def one(self, query: Floats) -> Rows:
        """Return the nearest rows to one query."""
        found = self._client.query_points(
            _NAME, query=query[0].tolist(), limit=self.task.k, with_payload=False
        )
        rows = np.full(self.task.k, -1, np.int64)
        rows[: len(found.points)] = [int(str(point.id)) for point in found.points]
        return rows

    def _upload(self, base: Floats) -> str:
        from qdrant_client import QdrantClient, models

        distance = models.Distance[_DISTANCES[self.task.metric]]
        self._client = QdrantClient(":memory:")
        self._client.create_collection(
            _NAME, vectors_config=models.VectorParams(size=self.task.dim, distance=distance)
        )
        self._client.upload_collection(_NAME, base, ids=range(len(base)), batch_size=1024)
        return str(distance.value)
