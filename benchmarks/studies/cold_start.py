"""Cold start: how long a whole `retr search` takes, beside importing sentence_transformers.

    python -m retr.benchmarks.studies.cold_start [FOLDER] [--rounds 11] [--out FILE]

A collection over real texts is built, then three commands run in turn, each a process of its own:
the search, `retr --help`, and `python -c "import sentence_transformers"`. The first round warms
the disk cache and is not counted. Beside the time on the clock stands CPU time, which other work
on the machine does not lengthen. Without a folder the texts are the source code of Python's library
and of all that is installed.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from ..study import Result, Study
from ..tables import Table, spread

QUERY = "how is a file opened for reading"
SEARCH = "from retr.cli import main; main()"
_IMPORT = "import sentence_transformers"


def _arguments(parser: argparse.ArgumentParser) -> None:
    library = Path(os.__file__).parent
    parser.add_argument(
        "source", nargs="?", type=Path, default=library, help="a folder of texts, or records"
    )
    parser.add_argument("--rounds", type=int, default=11)


def measure(source: Path, rounds: int) -> dict[str, Any]:
    """Return the seconds of every round of every command, by the clock and of CPU."""
    from ...retrieval.build import build

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.retr"
        collection = build(source, path)
        commands = {
            "retr search": [sys.executable, "-c", SEARCH, "search", QUERY, "--index", str(path)],
            "retr --help": [sys.executable, "-c", SEARCH, "--help"],
            _IMPORT: [sys.executable, "-c", _IMPORT],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        cpu: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(rounds + 1):
            for name, command in commands.items():
                elapsed, used = _run(command)
                if number:
                    seconds[name].append(elapsed)
                    cpu[name].append(used)
        return {"rows": len(collection), "seconds": seconds, "cpu": cpu}


def tables(result: Result) -> Iterator[Table]:
    """Yield the medians, and how many times less than the import each command takes."""
    rows = []
    for name in result["seconds"]:
        cells = [name]
        for clock in ("seconds", "cpu"):
            times = result[clock]
            ratio = median(times[_IMPORT]) / median(times[name])
            cells += [spread(times[name], 3), f"{ratio:.1f}"]
        rows.append(cells)
    rounds = len(result["seconds"][_IMPORT])
    yield Table(
        ["a whole process", "seconds by the clock", "ratio", "CPU seconds", "ratio"],
        rows,
        f"Cold start over {result['rows']:,} rows",
        [f"The median, the least and the greatest of {rounds} rounds; ratios of medians."],
    )


def _run(command: list[str]) -> tuple[float, float]:
    """Return the seconds a command took, by the clock and of CPU."""
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


STUDY = Study(
    "studies.cold_start",
    __doc__,
    _arguments,
    lambda given: measure(given.source, given.rounds),
    tables,
)

if __name__ == "__main__":
    STUDY.main()
