"""Building: what an index over many vectors takes, of processor and memory, checkpoints included.

    python -m retr.benchmarks.studies.building base.npy --specs ivfpq@192 --out building.json

The vectors are mapped, as a collection maps them. Memory is sampled five times a second; that of
mapped files is apart, for the system takes it back when it needs it. Each spec is built twice:
whole, and by a process that kills itself half way and one that goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..ann.process import memory
from ..study import Result, Study
from ..tables import Table, number

SPECS = ("flat@192", "ivfpq@192", "hnsw@192")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the vectors and the indexes."""
    parser.add_argument("base", type=Path, help="the vectors, a .npy file of float32")
    parser.add_argument("--specs", nargs="+", default=SPECS)


def measure(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield what is known after each index."""
    rows, dim = np.load(given.base, mmap_mode="r").shape
    specs: dict[str, Any] = {}
    for spec in given.specs:
        with tempfile.TemporaryDirectory() as folder:
            whole = _run(given.base, spec, Path(folder) / "whole", stop=False)
            _run(given.base, spec, Path(folder) / "part", stop=True)
            rest = _run(given.base, spec, Path(folder) / "part", stop=False)
        specs[spec] = {"whole": whole, "after_a_kill": rest}
        yield {"rows": rows, "dim": dim, "specs": specs}


def build(base: Path, text: str, checkpoint: Path) -> dict[str, Any]:
    """Build an index and return what it took; a variable of the environment kills it half way."""
    from ...indexes import IndexSpec, kind
    from ...indexes.arrays import ArraySource
    from ...indexes.base import Metric
    from ...indexes.checkpoint import FileCheckpoint

    source = ArraySource(np.load(base, mmap_mode="r").view(np.ndarray), Metric.COSINE)
    spec = IndexSpec.parse(text)
    kind(spec.kind)
    before, seen, ended = memory(), [], threading.Event()
    first: list[int] = []

    def sample() -> None:
        while not ended.wait(0.2):
            seen.append(memory())

    def told(done: int, total: int) -> None:
        first.append(done)
        if os.environ.get("RETR_KILL") and done > total // 2:
            os.kill(os.getpid(), signal.SIGKILL)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    cpu, wall = time.process_time(), time.monotonic()
    index = kind(spec.kind).build(
        source, spec, progress=told, checkpoint=FileCheckpoint(checkpoint, seconds=5.0)
    )
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    ended.set()
    thread.join()
    seen.append(memory())  # a short build has no sample
    assert before is not None
    index.save(checkpoint)
    return {
        "cpu_seconds": round(cpu, 1),
        "wall_seconds": round(wall, 1),
        "began_at": first[0],
        "anonymous_before": before["anonymous"],
        "anonymous_peak": max(each["anonymous"] for each in seen if each),
        "index_bytes": checkpoint.stat().st_size,
    }


def tables(result: Result) -> Iterable[Table]:
    """Yield seconds, and megabytes above those before the build."""
    head = ["index", "CPU s", "wall s", "memory MB", "file MB", "CPU s after a kill", "from row"]
    rows = []
    for spec, found in result["specs"].items():
        whole, rest = found["whole"], found["after_a_kill"]
        more = (whole["anonymous_peak"] - whole["anonymous_before"]) / 1e6
        rows.append(
            [spec, number(whole["cpu_seconds"], 1), number(whole["wall_seconds"], 1), number(more),
             number(whole["index_bytes"] / 1e6), number(rest["cpu_seconds"], 1),
             number(rest["began_at"])]
        )  # fmt: skip
    yield Table(head, rows, f"Building over {result['rows']:,} x {result['dim']}")


def _run(base: Path, spec: str, checkpoint: Path, *, stop: bool) -> dict[str, Any]:
    code = "import sys; from retr.benchmarks.studies.building import worker; worker(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(base.resolve()), spec, str(checkpoint)],
        capture_output=True,
        text=True,
        cwd="/",
        env={**os.environ, **({"RETR_KILL": "1"} if stop else {})},
        check=False,
    )
    if done.returncode != (-signal.SIGKILL if stop else 0):
        raise RuntimeError(f"{spec}: {done.stderr}")
    return {} if stop else json.loads(done.stdout)


def worker(base: str, spec: str, checkpoint: str) -> None:
    """Build in a process of its own, and print what it took as JSON."""
    print(json.dumps(build(Path(base), spec, Path(checkpoint))), flush=True)


STUDY = Study("studies.building", __doc__, arguments, measure, tables)

if __name__ == "__main__":
    STUDY.main()
