"""Opening: how soon a large index answers its first query, and what memory that takes.

A collection is made of the vectors of one .npy file. For each index spec, whole processes run in
turn: one that opens the collection in Python and searches with a vector, `retr search --vector`,
and one that imports numpy, pyarrow and faiss and does nothing, for comparison. The first round
warms the disk cache and is not counted. Another process says what memory it holds after the
first query, and after a thousand. Run as

    python -m retr.benchmarks.studies.opening base.npy queries.npy --work DIR --out opening.json

DIR keeps the collection, so that a run which was stopped does not index again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..environment import describe

SPECS = ("hnsw@192", "ivfpq@192", "flat@192", "binary")
PYTHON = """
import sys, numpy, retr
query = numpy.load(sys.argv[2])
hits = retr.open(sys.argv[1]).search(vector=query, k=10)
assert len(hits) == 10
"""
COMMAND = "from retr.cli import main; main()"
IMPORTS = "import numpy, pyarrow, faiss"
MEMORY = """
import json, sys, numpy, retr
from retr.benchmarks.ann_process import memory
queries = numpy.load(sys.argv[2])
before = memory()
collection = retr.open(sys.argv[1])
opened = memory()
collection.search(vector=queries[0], k=10)
first = memory()
for query in queries[:1000]:
    collection.search(vector=query, k=10)
print(json.dumps({"imported": before, "opened": opened, "first": first, "thousand": memory()}))
"""


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print its table; `--out` keeps what was measured as JSON."""
    parser = argparse.ArgumentParser(prog="python -m retr.benchmarks.studies.opening")
    parser.add_argument("base", type=Path, help="the vectors, a .npy file")
    parser.add_argument("queries", type=Path, help="queries, a .npy file")
    parser.add_argument("--specs", nargs="+", default=SPECS)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--work", type=Path, required=True, help="where the collection lies")
    parser.add_argument("--build-only", action="store_true", help="index, and measure nothing")
    parser.add_argument("--out", type=Path, help="where to keep what was measured")
    given = parser.parse_args(arguments)
    given.work = given.work.resolve()
    given.work.mkdir(parents=True, exist_ok=True)
    queries = np.load(given.queries).astype(np.float32)
    np.save(given.work / "queries.npy", queries)
    np.save(given.work / "query.npy", queries[0])
    results = {}
    for spec in given.specs:
        indexed(given.base, given.work, spec)
        if not given.build_only:
            results[spec] = measure(given.work, spec, given.rounds)
    if given.build_only:
        return
    shape = np.load(given.base, mmap_mode="r").shape
    result = {"rows": shape[0], "dim": shape[1], "specs": results, "environment": describe()}
    print(table(result))
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n")


def indexed(base: Path, work: Path, spec: str) -> Path:
    """Return the collection with an index of this spec, which is made where it is not there."""
    import retr

    path = place(work, spec)
    if not path.exists() or retr.open(path).settings.get("spec") != spec:
        retr.build(str(base), path, spec=spec, progress=True)
    return path


def place(work: Path, spec: str) -> Path:
    """Return where the collection with an index of this spec lies."""
    return work / (spec.replace("/", "_") + ".retr")


def measure(work: Path, spec: str, rounds: int) -> dict[str, Any]:
    """Return the seconds of every round of every command, and the memory, in bytes."""
    path = str(place(work, spec))
    python = [sys.executable, "-c"]
    one = str(work / "query.npy")
    commands = {
        "Python": [*python, PYTHON, path, one],
        "retr search": [*python, COMMAND, "search", "--vector", one, "--index", path, "--json"],
        "imports": [*python, IMPORTS],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    cpu: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            before = os.times()
            elapsed, _ = _run(command)
            after = os.times()
            if number:
                seconds[name].append(round(elapsed, 4))
                spent = after.children_user + after.children_system
                cpu[name].append(round(spent - before.children_user - before.children_system, 3))
    _, memory = _run([*python, MEMORY, path, str(work / "queries.npy")])
    (index,) = (Path(path) / "indexes").glob("*.faiss")
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "memory": json.loads(memory),
        "index_bytes": index.stat().st_size,
        "load": os.getloadavg()[0],
    }


def table(result: dict[str, Any]) -> str:
    """Return the medians, and the memory as a share of the vectors in float32."""
    vectors = 4 * result["rows"] * result["dim"]
    names = ("Python", "retr search", "imports")
    title = (
        f"{result['rows']:,} rows of {result['dim']} dimensions, {vectors / 1e6:,.0f} MB of "
        "float32; median seconds of a whole process that opens and answers one query (of CPU)"
    )
    columns = "".join(f"{name:>22}" for name in (*names[:2], "imports alone"))
    lines = [title, f"{'':12}{columns} {'anonymous MB':>16} {'mapped MB':>10}"]
    for spec, found in result["specs"].items():
        cells = []
        for name in names:
            wall, spent = (
                statistics.median(found[kind][name]) for kind in ("seconds", "cpu_seconds")
            )
            cells.append(f"{wall:.3f} ({spent:.3f})")
        held = found["memory"]["thousand"]
        share = 100 * held["anonymous"] / vectors
        cells += [f"{held['anonymous'] / 1e6:.0f} ({share:.1f}%)", f"{held['mapped'] / 1e6:.0f}"]
        lines.append(
            f"{spec:12}{''.join(f'{cell:>22}' for cell in cells[:3])} {cells[3]:>16} {cells[4]:>10}"
        )
    return "\n".join(lines)


def _run(command: list[str]) -> tuple[float, str]:
    # From another folder, so that nothing is imported from the working directory.
    start = time.perf_counter()
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    elapsed = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr}")
    return elapsed, done.stdout


if __name__ == "__main__":
    main()
