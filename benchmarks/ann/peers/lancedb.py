"""LanceDB: tuned (IVF_HNSW_SQ, or IVF_PQ re-ranked), or with all that it does by default."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ....indexes.base import Floats, Metric
from .base import Peer, Rows, Setting

_TABLE = "base"
_WAIT = timedelta(hours=2)
_BLOCK = 1 << 13
_METRICS = {Metric.COSINE: "cosine", Metric.IP: "dot", Metric.L2: "l2"}
# Partitions probed, the graph's queue (0 for the index without one), and the refine factor.
_GRAPH = [(1, 20, 0), (2, 20, 0), (2, 40, 2), (2, 80, 5), (4, 80, 5), (4, 160, 10), (8, 320, 10)]
_CODES = [(4, 0, 5), (8, 0, 5), (8, 0, 20), (16, 0, 20), (32, 0, 20), (64, 0, 20), (64, 0, 50)]


class LanceDb(Peer):
    """A table on disk, one column of vectors with an index."""

    title = "lancedb"
    packages = ("lancedb", "pylance")
    options = ("", "hnsw_sq", "ivf_pq", "default")

    def label(self) -> str:
        names = {"default": "at its defaults", "ivf_pq": "IVF_PQ tuned"}
        return f"lancedb {names.get(self.option, 'IVF_HNSW_SQ tuned')}"

    def build(self, base: Floats, folder: Path) -> dict[str, Any]:
        import lancedb
        import pyarrow as pa

        dim = self.task.dim
        schema = pa.schema([("row", pa.int64()), ("vector", pa.list_(pa.float32(), dim))])

        def batches() -> Iterator[Any]:
            for start in range(0, len(base), _BLOCK):
                block = np.ascontiguousarray(base[start : start + _BLOCK])
                vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), dim)
                rows = pa.array(np.arange(start, start + len(block)))
                yield pa.record_batch([rows, vectors], schema=schema)

        table: Any = lancedb.connect(str(folder)).create_table(
            _TABLE, pa.RecordBatchReader.from_batches(schema, batches())
        )
        given = self._parameters()
        metric = _METRICS[self.task.metric]
        table.create_index(metric, vector_column_name="vector", wait_timeout=_WAIT, **given)
        return {"metric": metric, **given}

    def open(self, base: Floats, folder: Path) -> None:
        import lancedb

        self._table: Any = lancedb.connect(str(folder)).open_table(_TABLE)
        self._threads = ThreadPoolExecutor(self.task.threads)

    def settings(self) -> Sequence[Setting]:
        if self.option == "default":
            return [{}]
        sweep = _CODES if self.option == "ivf_pq" else _GRAPH
        names = ("nprobes", "ef", "refine_factor")
        return [dict(zip(names, each, strict=True)) for each in sweep]

    def batch(self, queries: Floats) -> Rows:
        # Each thread asks query by query.
        return np.stack(list(self._threads.map(self.one, queries[:, None])))

    def one(self, query: Floats) -> Rows:
        search = self._table.search(query[0]).limit(self.task.k).select(["row"])
        if self.setting:
            search = search.distance_type(_METRICS[self.task.metric])
            search = search.nprobes(self.setting["nprobes"])
        if self.setting.get("ef"):
            search = search.ef(self.setting["ef"])
        if self.setting.get("refine_factor"):
            search = search.refine_factor(self.setting["refine_factor"])
        return self.filled(search.to_arrow()["row"].to_numpy())

    def _parameters(self) -> dict[str, Any]:
        if self.option == "default":
            return {}
        lists = max(1, round(math.sqrt(self.task.rows)))
        if self.option == "ivf_pq":
            codes = self.task.dim // next(c for c in (4, 3, 2, 1) if self.task.dim % c == 0)
            return {"index_type": "IVF_PQ", "num_partitions": lists, "num_sub_vectors": codes}
        # Few large graphs: each probe pays for a search of its own.
        parts = max(1, self.task.rows // 100_000)
        kind = {"index_type": "IVF_HNSW_SQ", "num_partitions": parts}
        return {**kind, "m": 16, "ef_construction": 100}
