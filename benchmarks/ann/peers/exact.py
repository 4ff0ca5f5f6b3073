"""Exact search, the yardstick: FAISS's flat index, or a BLAS product and a partial sort."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ....indexes.base import Floats
from ....indexes.faiss import load_faiss
from .base import Peer, Rows, Setting

_BLOCK = 1 << 26  # scores held at once in a batch


class Exact(Peer):
    """Every vector, in memory."""

    title: ClassVar[str] = "exact"
    packages: ClassVar[tuple[str, ...]] = ("faiss-cpu", "numpy")
    options: ClassVar[tuple[str, ...]] = ("faiss", "blas")

    def label(self) -> str:
        """Return which of the two it is."""
        return "exact, FAISS flat" if self.option == "faiss" else "exact, BLAS product"

    def build(self, base: Floats, folder: Path) -> dict[str, Any]:
        """Save the vectors."""
        if self.option == "blas":
            np.save(folder / "vectors.npy", base)
            return {}
        faiss = load_faiss()
        index = faiss.IndexFlatIP(self.task.dim) if self._ip else faiss.IndexFlatL2(self.task.dim)
        index.add(base)
        faiss.write_index(index, str(folder / "index.faiss"))
        return {}

    def open(self, base: Floats, folder: Path) -> None:
        """Read the vectors into memory."""
        if self.option == "blas":
            self._vectors: Floats = np.load(folder / "vectors.npy")
            self._norms = np.einsum("ij,ij->i", self._vectors, self._vectors)
            return
        faiss = load_faiss()
        faiss.omp_set_num_threads(self.task.threads)
        self._index: Any = faiss.read_index(str(folder / "index.faiss"))

    def settings(self) -> Sequence[Setting]:
        """Return the one there is."""
        return [{}]

    def batch(self, queries: Floats) -> Rows:
        """Return the nearest rows."""
        if self.option == "faiss":
            found: Rows = self._index.search(queries, self.task.k)[1]
            return found
        size = max(1, _BLOCK // self.task.rows)
        parts = [self._product(queries[i : i + size]) for i in range(0, len(queries), size)]
        return np.concatenate(parts)

    def _product(self, queries: Floats) -> Rows:
        if len(queries) == 1:
            scores = (self._vectors @ queries[0])[None]
        else:
            scores = queries @ self._vectors.T
        if not self._ip:
            scores *= 2
            scores -= self._norms
        return np.argpartition(scores, -self.task.k, axis=1)[:, -self.task.k :]

    @property
    def _ip(self) -> bool:
        return self.task.inner_product
