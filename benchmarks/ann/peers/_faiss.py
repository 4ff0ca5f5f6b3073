"""What the systems made by a factory string of FAISS share: they train, add, save and are read."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from ....indexes.base import Floats
from ....indexes.faiss import load_faiss
from .base import Peer, Rows


class FaissPeer(Peer):
    """An index in memory, made by `factory` and searched with `parameters`."""

    packages: ClassVar[tuple[str, ...]] = ("faiss-cpu",)
    parameters: Any = None

    @property
    @abstractmethod
    def factory(self) -> str:
        """The factory string."""

    def configure(self, index: Any) -> dict[str, Any]:
        """Set what the factory string cannot say; return it for the report."""
        return {}

    def label(self) -> str:
        return f"faiss {self.factory}"

    def build(self, base: Floats, folder: Path) -> dict[str, Any]:
        faiss = self._library()
        metric = faiss.METRIC_INNER_PRODUCT if self.task.inner_product else faiss.METRIC_L2
        index = faiss.index_factory(self.task.dim, self.factory, metric)
        configured = self.configure(index)
        index.train(base)
        index.add(base)
        faiss.write_index(index, str(folder / "index.faiss"))
        return {"factory": self.factory, **configured}

    def open(self, base: Floats, folder: Path) -> None:
        self._index: Any = self._library().read_index(str(folder / "index.faiss"))

    def batch(self, queries: Floats) -> Rows:
        found: Rows = self._index.search(queries, self.task.k, params=self.parameters)[1]
        return found

    def _library(self) -> Any:
        faiss = load_faiss()
        faiss.omp_set_num_threads(self.task.threads)
        return faiss
