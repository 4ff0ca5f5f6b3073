"""Plain FAISS, graph: HNSW over 8-bit codes, which is as good a graph as FAISS has by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ....indexes.base import Floats
from ....indexes.faiss import load_faiss
from .base import Peer, Rows, Setting

_KINDS = {"": "HNSW32,SQ8", "sq8": "HNSW32,SQ8", "flat": "HNSW32,Flat", "refine": "HNSW32,SQ8"}
_CONSTRUCTION = 100
_EFS = (10, 14, 20, 28, 40, 56, 80, 112, 160, 240, 360, 540, 800)


class FaissHnsw(Peer):
    """`HNSW32,SQ8`; over float32 with `:flat`; re-ranked on float16 with `:refine`."""

    title: ClassVar[str] = "faiss HNSW"
    packages: ClassVar[tuple[str, ...]] = ("faiss-cpu",)
    graph: ClassVar[bool] = True
    options: ClassVar[tuple[str, ...]] = tuple(_KINDS)

    def label(self) -> str:
        """Return the factory string."""
        return f"faiss {self._factory}"

    def build(self, base: Floats, folder: Path) -> dict[str, Any]:
        """Train, add and save."""
        faiss = load_faiss()
        faiss.omp_set_num_threads(self.task.threads)
        metric = faiss.METRIC_INNER_PRODUCT if self.task.inner_product else faiss.METRIC_L2
        index = faiss.index_factory(self.task.dim, self._factory, metric)
        graph = faiss.downcast_index(index.base_index) if self._refined else index
        graph.hnsw.efConstruction = _CONSTRUCTION
        index.train(base)
        index.add(base)
        faiss.write_index(index, str(folder / "index.faiss"))
        return {"factory": self._factory, "efConstruction": _CONSTRUCTION}

    def open(self, base: Floats, folder: Path) -> None:
        """Read the graph into memory."""
        faiss = load_faiss()
        faiss.omp_set_num_threads(self.task.threads)
        self._index: Any = faiss.read_index(str(folder / "index.faiss"))

    def settings(self) -> Sequence[Setting]:
        """Return the sweep over efSearch."""
        return [{"efSearch": ef} for ef in _EFS if ef >= self.task.k]

    def use(self, setting: Setting) -> None:
        """Prepare the parameters of a search."""
        faiss = load_faiss()
        graph = faiss.SearchParametersHNSW(efSearch=setting["efSearch"])
        if self._refined:
            graph = faiss.IndexRefineSearchParameters(k_factor=2, base_index_params=graph)
        self._parameters = graph

    def batch(self, queries: Floats) -> Rows:
        """Return the nearest rows."""
        found: Rows = self._index.search(queries, self.task.k, params=self._parameters)[1]
        return found

    @property
    def _refined(self) -> bool:
        return self.option == "refine"

    @property
    def _factory(self) -> str:
        return _KINDS[self.option] + (",Refine(SQfp16)" if self._refined else "")
