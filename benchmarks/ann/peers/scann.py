"""ScaNN: leaves of a tree, anisotropic 4-bit codes of two dimensions, exact re-ranking."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ....indexes.base import Floats
from .base import Peer, Rows, Setting

_SEARCHED = (1, 2, 4, 6, 8, 12, 16, 24, 36, 54, 80, 120, 180, 270, 400)
_REORDERED = (50, 100, 200)
_SAMPLE = 250_000
_THRESHOLD = 0.2


class Scann(Peer):
    """About sqrt(rows) leaves, as its authors advise, all float32 vectors in memory."""

    title = "scann"
    packages = ("scann",)
    sweep = (("leaves", _SEARCHED), ("reorder", _REORDERED))
    queues = ("reorder",)

    def label(self) -> str:
        return f"scann {self._leaves} leaves, AH2"

    def build(self, base: Floats, folder: Path) -> dict[str, Any]:
        from scann.scann_ops.py import scann_ops_pybind

        given = {
            "num_leaves": self._leaves,
            "training_sample_size": min(_SAMPLE, self.task.rows),
            "dimensions_per_block": 2,
            "anisotropic_quantization_threshold": _THRESHOLD,
            "reorder": max(_REORDERED),
        }
        measure = "dot_product" if self.task.inner_product else "squared_l2"
        searcher = (
            scann_ops_pybind.builder(np.ascontiguousarray(base), self.task.k, measure)
            .set_n_training_threads(self.task.threads)
            .tree(
                num_leaves=given["num_leaves"],
                num_leaves_to_search=_SEARCHED[-1],
                training_sample_size=given["training_sample_size"],
            )
            .score_ah(
                given["dimensions_per_block"],
                anisotropic_quantization_threshold=_THRESHOLD
                if self.task.inner_product
                else float("nan"),
            )
            .reorder(given["reorder"])
            .build()
        )
        searcher.serialize(str(folder), relative_path=True)
        return given

    def open(self, base: Floats, folder: Path) -> None:
        from scann.scann_ops.py import scann_ops_pybind

        self._searcher = scann_ops_pybind.load_searcher(str(folder))
        self._searcher.set_num_threads(self.task.threads)

    def allows(self, setting: Mapping[str, int]) -> bool:
        return super().allows(setting) and setting["leaves"] <= self._leaves

    def use(self, setting: Setting) -> None:
        self._given = {
            "final_num_neighbors": self.task.k,
            "pre_reorder_num_neighbors": setting["reorder"],
            "leaves_to_search": setting["leaves"],
        }

    def batch(self, queries: Floats) -> Rows:
        if self.task.threads == 1:
            found = self._searcher.search_batched(queries, **self._given)
        else:
            size = max(1, min(256, -(-len(queries) // self.task.threads)))
            found = self._searcher.search_batched_parallel(queries, **self._given, batch_size=size)
        # If the leaves hold fewer than k, row 0 fills up, at no distance.
        return np.where(np.isnan(found[1]), -1, found[0].astype(np.int64))

    def one(self, query: Floats) -> Rows:
        # It answers with fewer if the leaves hold fewer.
        return self.filled(self._searcher.search(query[0], **self._given)[0])

    @property
    def _leaves(self) -> int:
        return max(1, min(round(math.sqrt(self.task.rows)), self.task.rows // 16))
