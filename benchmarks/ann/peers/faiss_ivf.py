"""Plain FAISS, inverted lists: 4-bit fast-scan codes re-ranked on half-precision vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ....indexes.base import Floats
from ....indexes.faiss import load_faiss
from .base import Peer, Rows, Setting

_PROBES = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 288, 432)
_FACTORS = (4, 10, 20)


class FaissIvf(Peer):
    """`IVFn,PQmx4fs,Refine(SQfp16)` with two dimensions a code and n about 2.3 sqrt(rows)."""

    title: ClassVar[str] = "faiss IVF"
    packages: ClassVar[tuple[str, ...]] = ("faiss-cpu",)

    def label(self) -> str:
        """Return the factory string."""
        return f"faiss {self._factory}"

    def build(self, base: Floats, folder: Path) -> dict[str, Any]:
        """Train, add and save."""
        faiss = load_faiss()
        faiss.omp_set_num_threads(self.task.threads)
        metric = faiss.METRIC_INNER_PRODUCT if self.task.inner_product else faiss.METRIC_L2
        index = faiss.index_factory(self.task.dim, self._factory, metric)
        index.train(base)
        index.add(base)
        faiss.write_index(index, str(folder / "index.faiss"))
        return {"factory": self._factory}

    def open(self, base: Floats, folder: Path) -> None:
        """Read the index into memory."""
        faiss = load_faiss()
        faiss.omp_set_num_threads(self.task.threads)
        self._index: Any = faiss.read_index(str(folder / "index.faiss"))

    def settings(self) -> Sequence[Setting]:
        """Return the sweep over nprobe and the length of the shortlist."""
        lists = self._lists
        return [
            {"nprobe": nprobe, "k_factor": factor}
            for nprobe in _PROBES
            if nprobe <= lists
            for factor in _FACTORS
        ]

    def use(self, setting: Setting) -> None:
        """Prepare the parameters of a search."""
        faiss = load_faiss()
        self._parameters = faiss.IndexRefineSearchParameters(
            k_factor=float(setting["k_factor"]),
            base_index_params=faiss.SearchParametersIVF(nprobe=int(setting["nprobe"])),
        )

    def batch(self, queries: Floats) -> Rows:
        """Return the nearest rows."""
        found: Rows = self._index.search(queries, self.task.k, params=self._parameters)[1]
        return found

    @property
    def _lists(self) -> int:
        wanted = 1 << round(math.log2(2.3 * math.sqrt(self.task.rows)))
        # FAISS wants 39 rows for each centroid.
        return max(1, min(wanted, self.task.rows // 39))

    @property
    def _factory(self) -> str:
        codes = self.task.dim // 2 if self.task.dim % 2 == 0 else self.task.dim
        return f"IVF{self._lists},PQ{codes}x4fs,Refine(SQfp16)"
