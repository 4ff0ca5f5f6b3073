"""Cold start: how long a whole `retr search` takes, beside importing sentence_transformers.

A collection over real texts is built, then three commands run in turn, each a process of its own:
the search, `retr --help`, and `python -c "import sentence_transformers"`. The first round warms
the disk cache and is not counted. Beside the time on the clock stands that of the processor, of
which other work on the machine takes nothing. Run as `python -m retr.benchmarks.studies.cold_start
FOLDER`; without a folder, with the source code of Python's library and all that is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ..environment import describe

QUERY = "how is a file opened for reading"
SEARCH = "from retr.cli import main; main()"


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print its table; `--out` keeps the raw times as JSON."""
    parser = argparse.ArgumentParser(prog="python -m retr.benchmarks.studies.cold_start")
    parser.add_argument("source", nargs="?", help="a folder of texts, or a file of records")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--out", type=Path, help="where to keep the raw times")
    given = parser.parse_args(arguments)
    source = Path(given.source) if given.source else Path(json.__file__).parent.parent
    result = measure(source, given.rounds)
    print(table(result))
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(source: Path, rounds: int) -> dict[str, Any]:
    """Return the seconds of every round of every command, and what they were made with.

    Two lists a command: on the clock ("seconds") and of the processor ("cpu").
    """
    from ...retrieval.build import build

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.retr"
        collection = build(source, path)
        commands = {
            "retr search": [sys.executable, "-c", SEARCH, "search", QUERY, "--index", str(path)],
            "retr --help": [sys.executable, "-c", SEARCH, "--help"],
            "import sentence_transformers": [
                sys.executable,
                "-c",
                "import sentence_transformers",
            ],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        cpu: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(rounds + 1):
            for name, command in commands.items():
                elapsed, used = _run(command)
                if number:
                    seconds[name].append(elapsed)
                    cpu[name].append(used)
        rows = len(collection)
    return {"rows": rows, "seconds": seconds, "cpu": cpu, "environment": describe()}


def table(result: dict[str, Any]) -> str:
    """Return the medians, and how many times faster than the import each command is."""
    medians = {name: statistics.median(times) for name, times in result["seconds"].items()}
    slowest = medians["import sentence_transformers"]
    lines = [f"{result['rows']:,} rows; median seconds of a whole process, and the ratio"]
    for name, median in medians.items():
        low, high = min(result["seconds"][name]), max(result["seconds"][name])
        ratio = f"{slowest / median:5.1f} x"
        lines.append(f"  {name:<30} {median:7.3f}  ({low:.3f} to {high:.3f})  {ratio}")
    lines.append("median seconds of the processor, and the ratio")
    used = {name: statistics.median(times) for name, times in result["cpu"].items()}
    for name, median in used.items():
        ratio = used["import sentence_transformers"] / median
        lines.append(f"  {name:<30} {median:7.3f}  {ratio:5.1f} x")
    return "\n".join(lines)


def _run(command: list[str]) -> tuple[float, float]:
    """Return the seconds a command took, on the clock and of the processor."""
    # From another folder, so that nothing is imported from the working directory.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd="/", capture_output=True, text=True, env=environment, check=False
    )
    elapsed = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
