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
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..study import Result, Study
from ..tables import Table, number, spread

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
from retr.benchmarks.ann.process import memory
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


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the vectors, the indexes, the rounds and where the collection lies."""
    parser.add_argument("base", type=Path, help="the vectors, a .npy file")
    parser.add_argument("queries", type=Path, help="queries, a .npy file")
    parser.add_argument("--specs", nargs="+", default=SPECS)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--work", type=Path, required=True, help="where the collection lies")
    parser.add_argument("--build-only", action="store_true", help="index, and measure nothing")


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Return what each index takes; nothing of them if they are only built."""
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    queries = np.load(given.queries).astype(np.float32)
    np.save(work / "queries.npy", queries)
    np.save(work / "query.npy", queries[0])
    specs = {}
    for spec in given.specs:
        path = indexed(given.base, work, spec)
        if not given.build_only:
            specs[spec] = opened(work, path, given.rounds)
    rows, dim = np.load(given.base, mmap_mode="r").shape
    return {"rows": rows, "dim": dim, "specs": specs}


def indexed(base: Path, work: Path, spec: str) -> Path:
    """Return the collection with an index of this spec, which is made if it is not there."""
    import retr

    path = work / (spec.replace("/", "_") + ".retr")
    if not path.exists() or retr.open(path).settings.get("spec") != spec:
        retr.build(str(base), path, spec=spec, progress=True)
    return path


def opened(work: Path, collection: Path, rounds: int) -> dict[str, Any]:
    """Return the seconds of every round of every command, and the memory, in bytes."""
    path = str(collection)
    python = [sys.executable, "-c"]
    one = str(work / "query.npy")
    commands = {
        "Python": [*python, PYTHON, path, one],
        "retr search": [*python, COMMAND, "search", "--vector", one, "--index", path, "--json"],
        "imports": [*python, IMPORTS],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    cpu: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            before = os.times()
            elapsed, _ = _run(command)
            after = os.times()
            if turn:
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


def tables(result: Result) -> Iterable[Table]:
    """Yield the medians by the clock and of CPU, and the memory as a share of the vectors."""
    vectors = 4 * result["rows"] * result["dim"]
    names = ("Python", "retr search", "imports")
    head = ["index", *(f"{name}, {clock}" for name in names for clock in ("wall s", "CPU s")),
            "anonymous MB", "of the vectors", "mapped MB"]  # fmt: skip
    rows = []
    for spec, found in result["specs"].items():
        times = [found[kind][name] for name in names for kind in ("seconds", "cpu_seconds")]
        held = found["memory"]["thousand"]
        rows.append(
            [spec, *(spread(each, 3) for each in times), number(held["anonymous"] / 1e6),
             f"{held['anonymous'] / vectors:.1%}", number(held["mapped"] / 1e6)]
        )  # fmt: skip
    rounds = {len(each) for found in result["specs"].values() for each in found["seconds"].values()}
    title = f"Opening {result['rows']:,} x {result['dim']}, {vectors / 1e6:,.0f} MB of float32"
    note = (
        "A whole process that opens the collection and answers one query, and one that imports "
        "numpy, pyarrow and faiss alone: the median, the least and the greatest of "
        f"{'/'.join(map(str, sorted(rounds)))} rounds. Memory after a thousand queries."
    )
    yield Table(head, rows, title, [note])


def _run(command: list[str]) -> tuple[float, str]:
    # From another folder, so that nothing is imported from the working directory.
    start = time.perf_counter()
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    elapsed = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr}")
    return elapsed, done.stdout


STUDY = Study("studies.opening", __doc__, arguments, measure, tables)

if __name__ == "__main__":
    STUDY.main()
