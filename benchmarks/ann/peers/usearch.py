"""usearch: a graph over half-precision vectors, swept by its expansion in search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ....indexes.base import Floats
from .base import Peer, Rows, Setting

_LINKS, _CONSTRUCTION = 16, 128


class Usearch(Peer):
    """A graph over float16 or 8-bit vectors, in memory."""

    title = "usearch"
    packages = ("usearch",)
    graph = True
    options = ("", "f16", "i8")
    sweep = (("expansion", (10, 16, 24, 36, 52, 76, 112, 160, 240, 360, 540, 800)),)
    queues = ("expansion",)

    def label(self) -> str:
        return f"usearch {self._dtype}"

    def build(self, base: Floats, folder: Path) -> dict[str, Any]:
        from usearch.index import Index

        given: dict[str, Any] = {
            "metric": "ip" if self.task.inner_product else "l2sq",
            "dtype": self._dtype,
            "connectivity": _LINKS,
            "expansion_add": _CONSTRUCTION,
        }
        index = Index(ndim=self.task.dim, **given)
        index.add(np.arange(len(base)), np.ascontiguousarray(base), threads=self.task.threads)
        index.save(str(folder / "index.usearch"))
        return given

    def open(self, base: Floats, folder: Path) -> None:
        from usearch.index import Index

        self._index: Any = Index.restore(str(folder / "index.usearch"), view=False)

    def use(self, setting: Setting) -> None:
        self._index.expansion_search = setting["expansion"]

    def batch(self, queries: Floats) -> Rows:
        found = self._index.search(queries, self.task.k, threads=self.task.threads)
        keys, counts = np.asarray(found.keys), np.asarray(found.counts)
        # What stands behind the last match is not defined.
        return np.where(np.arange(keys.shape[1]) < counts[:, None], keys.astype(np.int64), -1)

    def one(self, query: Floats) -> Rows:
        keys: Rows = self._index.search(query[0], self.task.k, threads=1).keys
        return keys

    @property
    def _dtype(self) -> str:
        return self.option or "f16"
