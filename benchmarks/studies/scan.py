"""What exact search costs, by the element type that vectors are stored in, and against FAISS.

    python -m retr.benchmarks.studies.scan --out FILE

The vectors are `vectors/minilm55k.*.f16.npy` of the test data (`RETR_TEST_DATA`, by default
`../shared/data`). They are written to files as float32 and as float16, which are mapped, as those
of a collection are. In each round every method runs once, so that what else the machine does
falls on all of them alike, and the time of every round is kept. Wall time is what a user
waits, CPU time what it takes of the machine: BLAS uses all cores for one query, FAISS one. Threads
that wait for others burn CPU time, so on a busy machine compare methods on one thread
(`OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1`).

Methods: `scan` is `retr.indexes.exact.scan`; `astype` converts float16 with numpy, block by block;
`half` multiplies float16 in numpy itself; `faiss` is a plain `IndexFlatIP`, `faiss fp16` its fp16
scalar quantizer, in memory; `flat` is our index over the mapped file. All but the plain ones give
the same scores, and the run fails if they do not.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...indexes import IndexSpec
from ...indexes.arrays import ArraySource
from ...indexes.base import Floats, Hits, Metric, Positions
from ...indexes.exact import rerank, scan
from ...indexes.faiss import load_faiss, search_parameters
from ...indexes.kinds.flat import FlatIndex
from ..ann.data import minilm
from ..study import Result, Study
from ..tables import Table, number

K = 10
BATCH = 100
GATHERED = 200
SHARES = (0.5, 0.3, 0.2, 0.1, 0.01)

Method = Callable[[Floats], Any]
Times = dict[str, dict[str, list[float]]]

STATISTICS: dict[str, tuple[str, Callable[[list[float]], float]]] = {
    "median wall": ("wall", statistics.median),
    "median CPU": ("cpu", statistics.median),
    "least CPU": ("cpu", min),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the rounds and the seed."""
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Return the bytes on disk, and the seconds of every round of every method."""
    found = minilm()
    base, queries = np.asarray(found.base), found.queries.astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        return timed(base, queries, Path(folder), given.rounds, given.seed)


def timed(
    base: NDArray[np.float16], queries: Floats, folder: Path, rounds: int, seed: int
) -> dict[str, Any]:
    """Return the times over these vectors.

    base:    f16[n, dim], of unit length.
    queries: f32[q, dim], of unit length.
    """
    sources = {}
    for name in ("float32", "float16"):
        np.save(folder / f"{name}.npy", base.astype(name))
        mapped = np.load(folder / f"{name}.npy", mmap_mode="r").view(np.ndarray)
        sources[name] = ArraySource(mapped, Metric.COSINE)
    full = sources["float32"]
    plain = load_faiss().IndexFlatIP(full.dim)
    plain.add(full.vectors)
    methods = _methods(sources, plain, folder / "flat.faiss")
    _check([methods[name] for name in ("scan float32", "scan float16", "flat")], queries[:BATCH])

    rng = np.random.default_rng(seed)
    draws = [queries[i : i + 1] for i in rng.integers(0, len(queries), rounds)]
    single = methods | {"half float16": _half(sources["float16"])}
    times = {"one query": _rounds(single, draws)}
    starts = rng.integers(0, len(queries) - BATCH, rounds)
    batches = [queries[i : i + BATCH] for i in starts]
    times[f"batch of {BATCH}"] = _rounds(methods, batches)

    rows = [np.sort(rng.choice(len(base), GATHERED, replace=False)) for _ in range(rounds * 4)]
    gathers: dict[str, Callable[[Any], Any]] = {}
    for name, source in sources.items():
        gathers[f"take {name}"] = source.take
        gathers[f"rerank {name}"] = _rerank(source, queries[:1])
    times[f"{GATHERED} rows"] = _rounds(gathers, rows)

    for share in SHARES:
        allowed = np.packbits(rng.random(len(base)) < share, bitorder="little")
        some = _filtered_methods(full, plain, allowed)
        times[f"one query, {share:.0%} allowed"] = _rounds(some, draws)
        times[f"batch of {BATCH}, {share:.0%} allowed"] = _rounds(some, batches)
    return {
        "dataset": f"minilm55k, {len(base)} x {base.shape[1]}, cosine, top {K}",
        "seed": seed,
        "rounds": rounds,
        "bytes": {file.name: file.stat().st_size for file in sorted(folder.iterdir())},
        "seconds": times,
    }


def _methods(sources: dict[str, ArraySource], plain: Any, file: Path) -> dict[str, Method]:
    """Return the ways to search all vectors; `plain` is FAISS's index of them."""
    faiss = load_faiss()
    full, halves = sources["float32"], sources["float16"].vectors
    FlatIndex.build(full, IndexSpec("flat")).save(file)
    flat = FlatIndex.load(file, full, IndexSpec("flat"))
    quantizer = faiss.IndexScalarQuantizer(
        full.dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    quantizer.train(full.vectors[:1])
    quantizer.add(full.vectors)

    def astype(queries: Floats) -> Any:
        parts = [halves[i : i + 4096].astype(np.float32) for i in range(0, len(halves), 4096)]
        return _top([queries @ part.T for part in parts])

    return {
        "scan float32": lambda queries: scan(full, queries, K),
        "scan float16": lambda queries: scan(sources["float16"], queries, K),
        "astype float16": astype,
        "flat": lambda queries: flat.search(queries, K),
        "faiss": lambda queries: plain.search(queries, K),
        "faiss fp16": lambda queries: quantizer.search(queries, K),
    }


def _rerank(source: ArraySource, query: Floats) -> Callable[[Positions], Hits]:
    return lambda rows: rerank(source, query, rows[None], K)


def _half(source: ArraySource) -> Method:
    """Return the product in float16, which numpy takes one by one: hopeless for a batch."""
    return lambda queries: _top([queries.astype(np.float16) @ source.vectors.T])


def _filtered_methods(
    source: ArraySource, plain: Any, allowed: NDArray[np.uint8]
) -> dict[str, Method]:
    """Return the ways to search the allowed positions only; `masked` never gathers them."""
    bits = np.unpackbits(allowed, bitorder="little", count=len(source)).astype(bool)
    parameters = search_parameters(allowed)
    rows = np.flatnonzero(bits)

    def masked(queries: Floats) -> Any:
        scores = queries @ source.vectors.T
        scores[:, ~bits] = -np.inf
        return _top([scores])

    def gathered(queries: Floats) -> Any:
        parts = [source.take(rows[i : i + 8192]) for i in range(0, len(rows), 8192)]
        return _top([queries @ part.T for part in parts])

    return {
        "scan float32": lambda queries: scan(source, queries, K, allowed=allowed),
        "masked": masked,
        "gathered": gathered,
        "faiss selector": lambda queries: plain.search(queries, K, params=parameters),
    }


def _check(methods: Sequence[Method], queries: Floats) -> None:
    first, *others = (method(queries) for method in methods)
    for other in others:
        if (first.positions != other.positions).any() or (first.scores != other.scores).any():
            raise SystemExit("the methods do not give the same answer")


def _top(parts: list[NDArray[Any]]) -> NDArray[np.intp]:
    return np.argpartition(np.concatenate(parts, axis=1), -K, axis=1)[:, -K:]


def _rounds(methods: dict[str, Callable[[Any], Any]], inputs: list[Any]) -> Times:
    for method in methods.values():
        method(inputs[0])
    times: Times = {name: {"wall": [], "cpu": []} for name in methods}
    for value in inputs:
        for name, method in methods.items():
            wall, cpu = time.perf_counter(), time.process_time()
            method(value)
            times[name]["cpu"].append(round(time.process_time() - cpu, 7))
            times[name]["wall"].append(round(time.perf_counter() - wall, 7))
    return times


def tables(result: Result) -> Iterable[Table]:
    """Yield a table for each case: three statistics of each method, and ratios to the first."""
    for case, times in result["seconds"].items():
        unit, name = (1e6, "µs") if "rows" in case else (1e3, "ms")
        head = ["method", *(text for each in STATISTICS for text in (f"{each}, {name}", "ratio"))]
        reference = next(iter(times.values()))
        rows = []
        for method, measured in times.items():
            cells = [method]
            for clock, of in STATISTICS.values():
                value = of(measured[clock])
                cells += [number(unit * value, 2), number(value / of(reference[clock]), 2)]
            rows.append(cells)
        rounds = len(reference["wall"])
        yield Table(head, rows, f"{case}; {result['dataset']}, {rounds} rounds")


STUDY = Study("studies.scan", __doc__, arguments, measure, tables)

if __name__ == "__main__":
    STUDY.main()
