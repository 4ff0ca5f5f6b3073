"""hnswlib, the reference HNSW: M 16 and efConstruction 100, swept by ef."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ....indexes.base import Floats
from .base import Peer, Rows, Setting

# More links pay at the highest recall, fewer below it.
_BUILDS = {"": (16, 100), "m24": (24, 200)}


class Hnswlib(Peer):
    """A graph over float32 vectors, in memory."""

    title = "hnswlib"
    packages = ("hnswlib",)
    graph = True
    options = tuple(_BUILDS)
    sweep = (("ef", (10, 14, 20, 28, 40, 56, 80, 112, 160, 240, 360, 540, 800)),)
    queues = ("ef",)

    def label(self) -> str:
        links, construction = _BUILDS[self.option]
        return f"hnswlib M{links} efC{construction}"

    def build(self, base: Floats, folder: Path) -> dict[str, Any]:
        index = self._new()
        links, construction = _BUILDS[self.option]
        index.init_index(len(base), M=links, ef_construction=construction, random_seed=1)
        index.add_items(base, np.arange(len(base)), num_threads=self.task.threads)
        index.save_index(str(folder / "index.bin"))
        return {"M": links, "ef_construction": construction}

    def open(self, base: Floats, folder: Path) -> None:
        self._index = self._new()
        self._index.load_index(str(folder / "index.bin"), max_elements=self.task.rows)
        self._index.set_num_threads(self.task.threads)

    def use(self, setting: Setting) -> None:
        self._index.set_ef(setting["ef"])

    def batch(self, queries: Floats) -> Rows:
        labels, _ = self._index.knn_query(queries, self.task.k, num_threads=self.task.threads)
        return np.asarray(labels, np.int64)

    def _new(self) -> Any:
        import hnswlib

        space = "ip" if self.task.inner_product else "l2"
        return hnswlib.Index(space=space, dim=self.task.dim)
