"""Plain FAISS, graph: HNSW over 8-bit codes, which is as good a graph as FAISS has by itself."""

from __future__ import annotations

from typing import Any

from ....indexes.faiss import load_faiss
from ._faiss import FaissPeer
from .base import Setting

_KINDS = {
    "": "HNSW32,SQ8",
    "sq8": "HNSW32,SQ8",
    "flat": "HNSW32,Flat",
    "refine": "HNSW32,SQ8,Refine(SQfp16)",
}
_CONSTRUCTION = 100


class FaissHnsw(FaissPeer):
    """`HNSW32,SQ8`; over float32 with `:flat`; re-ranked on float16 with `:refine`."""

    title = "faiss HNSW"
    graph = True
    options = tuple(_KINDS)
    sweep = (("efSearch", (10, 14, 20, 28, 40, 56, 80, 112, 160, 240, 360, 540, 800)),)
    queues = ("efSearch",)

    @property
    def factory(self) -> str:
        return _KINDS[self.option]

    def configure(self, index: Any) -> dict[str, Any]:
        graph = load_faiss().downcast_index(index.base_index) if self._refined else index
        graph.hnsw.efConstruction = _CONSTRUCTION
        return {"efConstruction": _CONSTRUCTION}

    def use(self, setting: Setting) -> None:
        faiss = load_faiss()
        self.parameters = faiss.SearchParametersHNSW(efSearch=setting["efSearch"])
        if self._refined:
            self.parameters = faiss.IndexRefineSearchParameters(
                k_factor=2, base_index_params=self.parameters
            )

    @property
    def _refined(self) -> bool:
        return self.option == "refine"
