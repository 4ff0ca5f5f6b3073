"""Exact search, the yardstick: FAISS's flat index, or a BLAS product and a partial sort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ....indexes.base import Floats
from ._faiss import FaissPeer
from .base import Rows

_BLOCK = 1 << 26  # scores held at once in a batch


class Exact(FaissPeer):
    """Every vector, in memory."""

    title = "exact"
    packages = ("faiss-cpu", "numpy")
    options = ("faiss", "blas")
    factory = "Flat"

    def label(self) -> str:
        return "exact, BLAS product" if self._blas else "exact, FAISS flat"

    def build(self, base: Floats, folder: Path) -> dict[str, Any]:
        if self._blas:
            np.save(folder / "vectors.npy", base)
        else:
            super().build(base, folder)
        return {}

    def open(self, base: Floats, folder: Path) -> None:
        if self._blas:
            self._vectors: Floats = np.load(folder / "vectors.npy")
            self._norms = np.einsum("ij,ij->i", self._vectors, self._vectors)
        else:
            super().open(base, folder)

    def batch(self, queries: Floats) -> Rows:
        if not self._blas:
            return super().batch(queries)
        size = max(1, _BLOCK // self.task.rows)
        parts = [self._product(queries[i : i + size]) for i in range(0, len(queries), size)]
        return np.concatenate(parts)

    def _product(self, queries: Floats) -> Rows:
        if len(queries) == 1:
            scores = (self._vectors @ queries[0])[None]
        else:
            scores = queries @ self._vectors.T
        if not self.task.inner_product:
            scores *= 2
            scores -= self._norms
        return np.argpartition(scores, -self.task.k, axis=1)[:, -self.task.k :]

    @property
    def _blas(self) -> bool:
        return self.option == "blas"
