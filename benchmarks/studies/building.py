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
from pathlib import Path
from typing import Any

import numpy as np

from ..ann.process import memory
from ..environment import describe

SPECS = ("flat@192", "ivfpq@192", "hnsw@192")


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print its table; `--out` keeps what was measured as JSON."""
    parser = argparse.ArgumentParser(prog="python -m retr.benchmarks.studies.building")
    parser.add_argument("base", type=Path, help="the vectors, a .npy file of float32")
    parser.add_argument("--specs", nargs="+", default=SPECS)
    parser.add_argument("--out", type=Path, help="where to keep what was measured")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.worker:
        print(json.dumps(build(given.base, given.worker[0], Path(given.worker[1]))), flush=True)
        return
    rows, dim = np.load(given.base, mmap_mode="r").shape
    result: dict[str, Any] = {
        "rows": rows, "dim": dim, "specs": {}, "environment": describe()
    }  # fmt: skip
    for spec in given.specs:
        with tempfile.TemporaryDirectory() as folder:
            whole = _run(given.base, spec, Path(folder) / "whole", stop=False)
            _run(given.base, spec, Path(folder) / "part", stop=True)
            rest = _run(given.base, spec, Path(folder) / "part", stop=False)
        result["specs"][spec] = {"whole": whole, "after_a_kill": rest}
        print(table({**result, "specs": {spec: result["specs"][spec]}}), flush=True)
        if given.out:
            given.out.write_text(json.dumps(result, indent=1) + "\n")


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


def table(result: dict[str, Any]) -> str:
    """Return a line for each spec: seconds, and megabytes above those before."""
    lines = []
    for spec, found in result["specs"].items():
        whole, rest = found["whole"], found["after_a_kill"]
        more = (whole["anonymous_peak"] - whole["anonymous_before"]) / 1e6
        lines.append(
            f"{spec} over {result['rows']:,} x {result['dim']}: {whole['cpu_seconds']} s of CPU; "
            f"{more:,.0f} MB of memory at most, for an index of {whole['index_bytes'] / 1e6:,.0f} "
            f"MB; killed half way, {rest['cpu_seconds']} s more, from row {rest['began_at']:,}"
        )
    return "\n".join(lines)


def _run(base: Path, spec: str, checkpoint: Path, *, stop: bool) -> dict[str, Any]:
    module = [sys.executable, "-m", "retr.benchmarks.studies.building", str(base.resolve())]
    done = subprocess.run(
        [*module, "--worker", spec, str(checkpoint), ""],
        capture_output=True,
        text=True,
        cwd="/",
        env={**os.environ, **({"RETR_KILL": "1"} if stop else {})},
        check=False,
    )
    if done.returncode != (-signal.SIGKILL if stop else 0):
        raise RuntimeError(f"{spec}: {done.stderr}")
    return {} if stop else json.loads(done.stdout)


if __name__ == "__main__":
    main()
