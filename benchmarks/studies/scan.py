"""What exact search costs, by the element type that vectors are stored in, and against FAISS.

    python -m retr.benchmarks.studies.scan             # prints a table
    python -m retr.benchmarks.studies.scan --out FILE  # and keeps every time measured

The vectors are `vectors/minilm55k.*.f16.npy` of the test data (`RETR_TEST_DATA`, by default
`../shared/data`). They are written to Arrow files as float32 and as float16, which are mapped, as
those of a collection are. In each round every method runs once, so that what else the machine
does falls on all of them alike; the figures are medians, and the least CPU time. Wall time is
what a user waits, CPU time what it takes of the machine: BLAS uses all cores for one query, FAISS
one. Threads that wait for others burn CPU time, so on a busy machine the figures to trust are
those of one thread (`OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1`).

Methods: `scan` is `retr.indexes.exact.scan`; `astype` converts float16 with numpy, block by block;
`half` multiplies float16 in numpy itself; `faiss` is a plain `IndexFlatIP`, `faiss fp16` its fp16
scalar quantizer, in memory; `flat` is our index over the mapped file. All but the plain ones give
the same scores, and the run fails where they do not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
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

K = 10
BATCH = 100
GATHERED = 200
SHARES = (0.5, 0.3, 0.2, 0.1, 0.01)

HEADS = ("wall", "CPU", "least CPU")

Method = Callable[[Floats], Any]
Times = dict[str, dict[str, list[float]]]


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(prog="retr.benchmarks.studies.scan", description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write machine, versions and all times as JSON")
    options = parser.parse_args(arguments)
    base, queries = _vectors()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(base, queries, Path(folder), options.rounds, options.seed)
    print(_table(result))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(
    base: NDArray[np.float16], queries: Floats, folder: Path, rounds: int, seed: int
) -> dict[str, Any]:
    """Return the machine, the bytes on disk, and the seconds of every run of every method.

    base:    f16[n, dim], of unit length.
    queries: f32[q, dim], of unit length.
    """
    stored = {
        name: _mapped(folder / f"{name}.arrow", base.astype(dtype))
        for name, dtype in (("float32", np.float32), ("float16", np.float16))
    }
    sources = {name: ArraySource(matrix, Metric.COSINE) for name, matrix in stored.items()}
    methods, same = _search_methods(sources, folder / "flat.faiss")
    _check(methods, same, queries[:BATCH])

    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(queries), rounds)
    times: dict[str, Times] = {}
    single = methods | {"half float16": _half(sources["float16"])}
    times["one query"] = _rounds(single, [queries[i : i + 1] for i in draws])
    starts = rng.integers(0, len(queries) - BATCH, rounds)
    times[f"batch of {BATCH}"] = _rounds(methods, [queries[i : i + BATCH] for i in starts])

    rows = [np.sort(rng.choice(len(base), GATHERED, replace=False)) for _ in range(rounds * 4)]
    gathers: dict[str, Callable[[Any], Any]] = {}
    for name, source in sources.items():
        gathers[f"take {name}"] = source.take
        gathers[f"rerank {name}"] = _rerank(source, queries[:1])
    times[f"{GATHERED} rows"] = _rounds(gathers, rows)

    for share in SHARES:
        allowed = np.packbits(rng.random(len(base)) < share, bitorder="little")
        filtered = _filtered_methods(sources["float32"], methods, allowed)
        times[f"one query, {share:.0%} allowed"] = _rounds(
            filtered, [queries[i : i + 1] for i in draws]
        )
        times[f"batch of {BATCH}, {share:.0%} allowed"] = _rounds(
            filtered, [queries[i : i + BATCH] for i in starts]
        )
    return {
        "benchmark": "scan",
        "machine": _machine(),
        "dataset": f"minilm55k, {len(base)} x {base.shape[1]}, cosine, top {K}",
        "seed": seed,
        "rounds": rounds,
        "bytes": {file.name: file.stat().st_size for file in sorted(folder.iterdir())},
        "seconds": times,
    }


def _search_methods(
    sources: dict[str, ArraySource], file: Path
) -> tuple[dict[str, Method], set[str]]:
    """Return what is timed, and the names of those that have to answer alike."""
    faiss = load_faiss()
    spec = IndexSpec("flat")
    FlatIndex.build(sources["float32"], spec).save(file)
    flat = FlatIndex.load(file, sources["float32"], spec)
    halves = sources["float16"].vectors
    dim = sources["float32"].dim
    plain = faiss.IndexFlatIP(dim)
    plain.add(sources["float32"].vectors)
    quantizer = faiss.IndexScalarQuantizer(
        dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    quantizer.train(sources["float32"].vectors[:1])
    quantizer.add(sources["float32"].vectors)

    def astype(queries: Floats) -> Any:
        parts = [halves[i : i + 4096].astype(np.float32) for i in range(0, len(halves), 4096)]
        return _top([queries @ part.T for part in parts])

    methods: dict[str, Method] = {
        "scan float32": lambda queries: scan(sources["float32"], queries, K),
        "scan float16": lambda queries: scan(sources["float16"], queries, K),
        "astype float16": astype,
        "flat": lambda queries: flat.search(queries, K),
        "faiss": lambda queries: plain.search(queries, K),
        "faiss fp16": lambda queries: quantizer.search(queries, K),
    }
    return methods, {"scan float32", "scan float16", "flat"}


def _rerank(source: ArraySource, query: Floats) -> Callable[[Positions], Hits]:
    return lambda rows: rerank(source, query, rows[None], K)


def _half(source: ArraySource) -> Method:
    """Return the product in float16, which numpy takes one by one: hopeless for a batch."""
    return lambda queries: _top([queries.astype(np.float16) @ source.vectors.T])


def _filtered_methods(
    source: ArraySource, methods: dict[str, Method], allowed: NDArray[np.uint8]
) -> dict[str, Method]:
    """Return the ways to search the allowed positions only; `masked` never gathers them."""
    faiss = load_faiss()
    plain = faiss.IndexFlatIP(source.dim)
    plain.add(source.vectors)
    bits = np.unpackbits(allowed, bitorder="little")[: len(source)].astype(bool)
    parameters = search_parameters(allowed)
    rows = np.flatnonzero(bits)

    def masked(queries: Floats) -> Any:
        scores = queries @ source.vectors.T
        scores[:, ~bits] = -np.inf
        return _top([scores])

    def gathered(queries: Floats) -> Any:
        parts = [
            queries @ source.vectors.take(rows[i : i + 8192], axis=0).T
            for i in range(0, len(rows), 8192)
        ]
        return _top(parts)

    return {
        "scan float32": lambda queries: scan(source, queries, K, allowed=allowed),
        "masked": masked,
        "gathered": gathered,
        "faiss selector": lambda queries: plain.search(queries, K, params=parameters),
    }


def _check(methods: dict[str, Method], same: set[str], queries: Floats) -> None:
    first, *others = (methods[name](queries) for name in sorted(same))
    for other in others:
        if not _equal(first, other):
            raise SystemExit("the methods do not give the same answer")


def _equal(one: Hits, other: Hits) -> bool:
    return np.array_equal(one.positions, other.positions) and np.array_equal(
        one.scores, other.scores
    )


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


def _mapped(file: Path, vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the vectors as a view of an Arrow file that is mapped."""
    import pyarrow as pa

    dtype, shape = vectors.dtype, vectors.shape
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), shape[1])
    table = pa.table({"vector": column})
    with pa.OSFile(str(file), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=shape[0])
    batch = pa.ipc.open_file(pa.memory_map(str(file))).get_batch(0)
    buffer = batch.column(0).flatten().buffers()[1]
    return np.frombuffer(buffer, dtype, shape[0] * shape[1]).reshape(shape)


def _vectors() -> tuple[NDArray[np.float16], Floats]:
    default = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
    folder = Path(os.environ.get("RETR_TEST_DATA", default)) / "vectors"
    if not folder.is_dir():
        sys.exit("there are no test vectors: set RETR_TEST_DATA to the folder of the test data")
    base = np.load(folder / "minilm55k.base.f16.npy")
    return base, np.load(folder / "minilm55k.queries.f16.npy").astype(np.float32)


def _machine() -> dict[str, Any]:
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "system": f"{platform.system()} {platform.machine()}",
        "load before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "pyarrow": version("pyarrow"),
        "faiss": load_faiss().__version__,
    }


def _table(result: dict[str, Any]) -> str:
    lines = [f"{result['dataset']}; {result['machine']}", f"bytes: {result['bytes']}"]
    for case, times in result["seconds"].items():
        unit, name = (1e6, "µs") if "rows" in case else (1e3, "ms")
        lines.append(
            f"\n{case:28}" + "".join(f"{f'{head} {name}':>16}{'ratio':>8}" for head in HEADS)
        )
        reference = _figures(next(iter(times.values())))
        for method, measured in times.items():
            pairs = zip(_figures(measured), reference, strict=True)
            lines.append(
                f"{method:28}" + "".join(f"{v * unit:16.2f}{v / r:8.2f}" for v, r in pairs)
            )
    return "\n".join(lines)


def _figures(measured: dict[str, list[float]]) -> tuple[float, float, float]:
    wall, cpu = measured["wall"], measured["cpu"]
    return statistics.median(wall), statistics.median(cpu), min(cpu)


if __name__ == "__main__":
    main()
