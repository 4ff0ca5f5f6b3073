"""qdrant-client's local mode: a brute-force scan in numpy, for it has no index of its own.

It stands here because people reach for it; it says nothing about the Qdrant server.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ....indexes.base import Floats, Metric
from .base import Peer, Rows

_NAME = "base"
_DISTANCES = {Metric.COSINE: "COSINE", Metric.IP: "DOT", Metric.L2: "EUCLID"}


class Qdrant(Peer):
    """Local mode, in memory. Nothing is saved: points go to disk one by one, 18 ms for each."""

    title = "qdrant local mode (brute force)"
    packages = ("qdrant-client",)
    reads_vectors = True

    def build(self, base: Floats, folder: Path) -> dict[str, Any]:
        return {"distance": self._upload(base)}

    def open(self, base: Floats, folder: Path) -> None:
        self._upload(base)

    def batch(self, queries: Floats) -> Rows:
        return np.stack([self.one(query[None]) for query in queries])

    def one(self, query: Floats) -> Rows:
        found = self._client.query_points(
            _NAME, query=query[0].tolist(), limit=self.task.k, with_payload=False
        )
        return self.filled([int(str(point.id)) for point in found.points])

    def _upload(self, base: Floats) -> str:
        from qdrant_client import QdrantClient, models

        distance = models.Distance[_DISTANCES[self.task.metric]]
        self._client = QdrantClient(":memory:")
        self._client.create_collection(
            _NAME, vectors_config=models.VectorParams(size=self.task.dim, distance=distance)
        )
        self._client.upload_collection(_NAME, base, ids=range(len(base)), batch_size=1024)
        return str(distance.value)
