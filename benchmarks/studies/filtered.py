"""Filtered search: recall, leaks and time if a condition lets only some rows through.

    python -m retr.benchmarks.studies.filtered --work DIR --out filtered.json

Paragraphs, grown to 200,000 rows, have two columns. `pick` is drawn at random and so says nothing
of the vectors; `near` is the place of a row by its closeness to one of them, so that what a
condition on it lets through lies together, close to some queries and far from most. Conditions on
each let 50 to 0.01 % of the rows through. An index of every kind, set to a recall without any
condition, is searched under each of them; what it finds is compared with comparing every allowed
vector. Run it with OMP_NUM_THREADS=1, or threads that wait for each other count as work. Half of
the queries are paragraphs close to that one, half are any.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...indexes import IndexSpec, kind
from ...indexes.arrays import ArraySource
from ...indexes.base import Bitmap, Floats, Hits, Index, Metric
from ...indexes.scanning import scan
from ...indexes.tuning import tune
from ...indexes.tuning.curve import K, recalls
from ..study import Result, Study
from ..tables import Table, number
from .recall_sets import grown, paragraphs

SPECS = ("flat", "hnsw@192", "ivfpq@192", "binary", "flat@192", "ivfpq@96/192")
PERCENT = (50.0, 10.0, 1.0, 0.1, 0.01)
_TUNING = 500
_SINGLE = 50


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add how many rows and queries, the recall, the indexes and where they are kept."""
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--specs", nargs="+", default=SPECS)
    parser.add_argument("--work", type=Path, required=True, help="keeps vectors and indexes")


def measure(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield what is known after each index."""
    given.work.mkdir(parents=True, exist_ok=True)
    source = ArraySource(grown(given.work, given.rows), Metric.COSINE)
    near = source.vectors[0]
    conditions, allowed = conditions_on(source.vectors, near)
    _, held = paragraphs()
    order = np.argsort(-(held[_TUNING:] @ near))
    half = given.queries // 2
    drawn = np.random.default_rng(0).permutation(order[half:])[: given.queries - half]
    queries = np.ascontiguousarray(held[_TUNING:][np.concatenate([order[:half], drawn])])
    truths = {text: scan(source, queries, K, allowed=bits) for text, bits in allowed.items()}
    specs: dict[str, Any] = {}
    for text in given.specs:
        index, free = _built(source, IndexSpec.parse(text), given.work, given.rows), 1.0
        if not index.exact:
            tuned = tune.measure(index, source, held[:_TUNING], given.recall)
            assert tuned.index is not None
            index, free = tuned.index, tuned.recall
        cells = [
            {"condition": name, **searched(index, queries, bits, truths[name], len(source))}
            for name, bits in allowed.items()
        ]
        specs[text] = {"without": round(free, 4), "with": cells}
        yield {
            "rows": len(source), "dim": source.dim, "queries": len(queries),
            "asked": given.recall, "conditions": conditions, "specs": specs,
        }  # fmt: skip


def _built(source: ArraySource, spec: IndexSpec, work: Path, rows: int) -> Index:
    """Return the index, built once and kept."""
    path = work / f"{str(spec).replace('/', '_')}-{rows}.faiss"
    if not path.exists():
        kind(spec.kind).build(source, spec).save(path)
    return kind(spec.kind).load(path, source, spec)


def conditions_on(
    vectors: Floats, centre: Floats
) -> tuple[list[dict[str, Any]], dict[str, Bitmap]]:
    """Return the conditions, with the percent of rows each allows, and which rows those are."""
    rows = len(vectors)
    near = np.empty(rows, np.int64)
    near[np.argsort(-(vectors @ centre))] = np.arange(rows)
    columns = {"pick": np.random.default_rng(1).permutation(rows), "near": near}
    conditions, allowed = [], {}
    for name, values in columns.items():
        for percent in PERCENT:
            count = max(1, round(rows * percent / 100))
            condition = f"{name} < {count}"
            conditions.append({"condition": condition, "percent": percent})
            allowed[condition] = np.packbits(values < count, bitorder="little")
    return conditions, allowed


def searched(
    index: Index, queries: Floats, bits: Bitmap, truth: Hits, rows: int
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


def tables(result: Result) -> Iterable[Table]:
    """Yield a table for each index: recall, leaks and processor time under each condition."""
    percent = {each["condition"]: each["percent"] for each in result["conditions"]}
    head = ["allowed", "condition", "recall", "±", "leaks", "one query, CPU µs",
            "in a batch, CPU µs", ""]  # fmt: skip
    for spec, found in result["specs"].items():
        rows = [
            [f"{percent[cell['condition']]:g}%", cell["condition"], f"{cell['recall']:.3f}",
             f"{cell['error']:.3f}", number(cell["leaks"]), number(cell["cpu_us"]),
             number(cell["batch_cpu_us"]),
             "" if cell["recall"] >= result["asked"] - 0.01 else "below"]
            for cell in found["with"]
        ]  # fmt: skip
        title = (
            f"{spec}: {result['rows']:,} x {result['dim']}, set to {result['asked']}, measured "
            f"{found['without']:.3f} without a condition"
        )
        yield Table(head, rows, title, ["One query: the median. Batch: the mean of all queries."])


STUDY = Study("studies.filtered", __doc__, arguments, measure, tables)

if __name__ == "__main__":
    STUDY.main()
