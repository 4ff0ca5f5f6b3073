"""Filtered search: recall, leaks and time where a condition lets only some rows through.

    python -m retr.benchmarks.studies.filtered --work DIR --out filtered.json

A collection of paragraphs, grown to 200,000 rows, has two columns. `pick` is drawn at random and
so says nothing of the vectors; `near` is the place of a row by its closeness to one of them, so
that what a condition on it lets through lies together, close to some queries and far from most.
Conditions on each let 50 to 0.01 % of the rows through. An index of every kind, set to a recall
without any condition, is searched under each of them; what it finds is compared with comparing
every allowed vector. Run it with OMP_NUM_THREADS=1, or threads that wait for each other count as
work. Half of the queries are paragraphs close to that one, half are any.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...indexes import IndexSpec, kind
from ...indexes.arrays import ArraySource
from ...indexes.base import Bitmap, Floats, Index
from ...indexes.scanning import scan
from ...indexes.tuning.curve import K, recalls
from ...indexes.tuning.tune import measure
from ..ann.grow import grow
from ..environment import describe
from .recall_sets import paragraphs

SPECS = ("flat", "hnsw@192", "ivfpq@192", "binary", "flat@192", "ivfpq@96/192")
PERCENT = (50.0, 10.0, 1.0, 0.1, 0.01)
_TUNING = 500
_SINGLE = 50


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print its table; `--out` keeps what was measured as JSON."""
    parser = argparse.ArgumentParser(prog="python -m retr.benchmarks.studies.filtered")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--specs", nargs="+", default=SPECS)
    parser.add_argument("--work", type=Path, required=True, help="where the collection is kept")
    parser.add_argument("--out", type=Path, help="where to keep what was measured")
    given = parser.parse_args(arguments)
    given.work.mkdir(parents=True, exist_ok=True)
    source, allowed, conditions, near = prepared(given.work, given.rows)
    _, held = paragraphs()
    order = np.argsort(-(held[_TUNING:] @ near))
    half = given.queries // 2
    drawn = np.random.default_rng(0).permutation(order[half:])[: given.queries - half]
    queries = np.ascontiguousarray(held[_TUNING:][np.concatenate([order[:half], drawn])])
    truths = {text: scan(source, queries, K, allowed=bits) for text, bits in allowed.items()}
    result: dict[str, Any] = {
        "rows": len(source), "dim": source.dim, "queries": len(queries), "asked": given.recall,
        "conditions": conditions, "specs": {}, "environment": describe(),
    }  # fmt: skip
    for text in given.specs:
        index = _built(source, IndexSpec.parse(text), given.work, given.rows)
        if not index.exact:
            tuned = measure(index, source, held[:_TUNING], given.recall)
            assert tuned.index is not None
            index, free = tuned.index, tuned.recall
        else:
            free = 1.0
        cells = [
            {"condition": name, **searched(index, queries, bits, truths[name], len(source))}
            for name, bits in allowed.items()
        ]
        result["specs"][text] = {"without": round(free, 4), "with": cells}
        print(table({**result, "specs": {text: result["specs"][text]}}), flush=True)
        if given.out:
            given.out.write_text(json.dumps(result, indent=1) + "\n")


def _built(source: ArraySource, spec: IndexSpec, work: Path, rows: int) -> Index:
    """Return the index, built once and kept."""
    path = work / f"{str(spec).replace('/', '_')}-{rows}.faiss"
    if not path.exists():
        kind(spec.kind).build(source, spec).save(path)
    return kind(spec.kind).load(path, source, spec)


def prepared(
    work: Path, rows: int
) -> tuple[ArraySource, dict[str, Bitmap], list[dict[str, Any]], Floats]:
    """Return the vectors, which of them each condition allows, and the row `near` is counted from.

    The conditions are evaluated as a search evaluates them; their times go with them.
    """
    import retr

    from ...retrieval.filters.rows import rows_where
    from ...retrieval.segments.dense import allow

    path, grown = work / f"filtered-{rows}.retr", work / f"grown-{rows}.npy"
    base, _ = paragraphs()
    if not grown.exists():
        grow(base, rows, grown, seed=0)
    vectors = np.load(grown, mmap_mode="r").view(np.ndarray)
    if not path.exists():
        random = np.random.default_rng(1)
        near = np.empty(rows, np.int64)
        near[np.argsort(-(vectors @ base[0]))] = np.arange(rows)
        columns = {
            "id": [f"{i}" for i in range(rows)],
            "vector": pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), vectors.shape[1]),
            "pick": random.permutation(rows),
            "near": near,
        }
        table_ = work / "rows.parquet"
        pq.write_table(pa.table(columns), table_)
        retr.build(str(table_), path, vector="vector", progress=True)
    collection = retr.open(path)
    collection.compact()
    snapshot = collection._snapshot
    (segment,) = snapshot.dense
    allowed, conditions = {}, []
    for column in ("pick", "near"):
        for percent in PERCENT:
            count = max(1, round(rows * percent / 100))
            condition = f"{column} < {count}"
            begin = time.process_time()
            found = rows_where(snapshot, condition)
            seconds = time.process_time() - begin
            assert len(found) == count
            allowed[condition] = allow(len(segment), only=segment.positions(found))
            conditions.append(
                {"condition": condition, "percent": percent, "cpu_ms": round(1e3 * seconds, 2)}
            )
    return segment.source, allowed, conditions, base[0]


def searched(
    index: Index, queries: Floats, bits: Bitmap, truth: Any, rows: int
) -> dict[str, float | int]:
    """Return the recall, the hits that are not allowed, and what a query costs."""
    hits = index.search(queries, K, allowed=bits)
    shares = recalls(truth, hits)
    inside = np.unpackbits(bits, bitorder="little", count=rows).view(bool)
    found = hits.positions[hits.positions >= 0]
    times = []
    for query in queries[:: max(1, len(queries) // _SINGLE)]:
        start = time.process_time_ns()
        index.search(query[None], K, allowed=bits)
        times.append(time.process_time_ns() - start)
    begin = time.process_time()
    index.search(queries, K, allowed=bits)
    batch = time.process_time() - begin
    return {
        "recall": round(float(shares.mean()), 4),
        "error": round(float(shares.std() / np.sqrt(len(shares))), 4),
        "worst": round(float(shares.min()), 2),
        "leaks": int((~inside[found]).sum()),
        "cpu_us": round(float(np.median(times)) / 1e3, 1),
        "batch_cpu_us": round(1e6 * batch / len(queries), 1),
    }


def table(result: dict[str, Any]) -> str:
    """Return a line for each condition: recall, leaks, microseconds of CPU of a single query."""
    lines = []
    percent = {each["condition"]: each["percent"] for each in result["conditions"]}
    for spec, found in result["specs"].items():
        lines.append(
            f"{spec}: {result['rows']:,} x {result['dim']}, set to {result['asked']}, measured "
            f"{found['without']:.3f} without a condition"
        )
        for cell in found["with"]:
            verdict = "" if cell["recall"] >= result["asked"] - 0.01 else "  below"
            lines.append(
                f"  {percent[cell['condition']]:>6g} %  {cell['condition']:<15} recall "
                f"{cell['recall']:.3f} +- {cell['error']:.3f}  {cell['leaks']} leaks  "
                f"{cell['cpu_us']:>8,.0f} us, in a batch {cell['batch_cpu_us']:>8,.0f} us{verdict}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
