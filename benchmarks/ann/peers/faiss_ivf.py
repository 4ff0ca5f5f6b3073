"""Plain FAISS, inverted lists: 4-bit fast-scan codes re-ranked on half-precision vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ....indexes.faiss import load_faiss
from ._faiss import FaissPeer
from .base import Setting

_PROBES = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 288, 432)
_FACTORS = (4, 10, 20)


class FaissIvf(FaissPeer):
    """`IVFn,PQmx4fs,Refine(SQfp16)` with two dimensions a code and n about 2.3 sqrt(rows)."""

    title = "faiss IVF"

    @property
    def factory(self) -> str:
        codes = self.task.dim // 2 if self.task.dim % 2 == 0 else self.task.dim
        return f"IVF{self._lists},PQ{codes}x4fs,Refine(SQfp16)"

    def settings(self) -> Sequence[Setting]:
        probes = [nprobe for nprobe in _PROBES if nprobe <= self._lists]
        return [{"nprobe": nprobe, "k_factor": factor} for nprobe in probes for factor in _FACTORS]

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
