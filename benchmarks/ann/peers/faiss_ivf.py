"""Plain FAISS, inverted lists: 4-bit fast-scan codes re-ranked on half-precision vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ....indexes.faiss import load_faiss
from ._faiss import FaissPeer
from .base import Setting


class FaissIvf(FaissPeer):
    """`IVFn,PQmx4fs,Refine(SQfp16)` with two dimensions a code and n about 2.3 sqrt(rows)."""

    title = "faiss IVF"
    sweep = (
        ("nprobe", (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 288, 432)),
        ("k_factor", (4, 10, 20)),
    )

    @property
    def factory(self) -> str:
        codes = self.task.dim // 2 if self.task.dim % 2 == 0 else self.task.dim
        return f"IVF{self._lists},PQ{codes}x4fs,Refine(SQfp16)"

    def allows(self, setting: Mapping[str, int]) -> bool:
        return setting["nprobe"] <= self._lists

    def use(self, setting: Setting) -> None:
        faiss = load_faiss()
        self.parameters = faiss.IndexRefineSearchParameters(
            k_factor=float(setting["k_factor"]),
            base_index_params=faiss.SearchParametersIVF(nprobe=int(setting["nprobe"])),
        )

    @property
    def _lists(self) -> int:
        wanted = 1 << round(math.log2(2.3 * math.sqrt(self.task.rows)))
        # FAISS wants 39 rows for each centroid.
        return max(1, min(wanted, self.task.rows // 39))
