"""One process of `retr bench ann`: a system is tuned, built, or opened and searched.

    python -m retr.benchmarks.ann.worker JOB.json [PIPE]

A job names the system, the phase and the folders. What comes out is a JSON file, and for the
phases that search also the numbers of all rows that were answered, i64[settings, q, k]; whether
they are right is for the parent to say. The phases are processes of their own, so that the memory
of a search is not that of a build, and single queries have one thread and no more. With a pipe,
those that search rest now and then and let others work (turns.py).
"""

from __future__ import annotations

import faulthandler
import gc
import json
import sys
import time
import traceback
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...indexes.base import Floats, Metric
from ...indexes.tuning.curve import turns
from .peers import name_of, peer
from .peers.base import Peer, Rows, Setting, Task
from .process import Spent, measured, memory, peak_memory, pin
from .turns import Turn

Job = dict[str, Any]

_TURN = 100  # queries searched for at one setting before it is another's turn
_WARM = 20  # others are searched for before the clock runs, each time
_COLD = 100  # and this many if another process has worked since
_WARMING = 5.0  # seconds in which all queries are searched for, before the first turn
_REPEATS = 3  # of a batch, at least
_SLOW = 10.0  # but once if that takes this many seconds


def main(arguments: list[str] | None = None) -> None:
    """Do the job; exit with 0 if a result was written, even if it is that the system failed."""
    given, *pipe = sys.argv[1:] if arguments is None else arguments
    job: Job = json.loads(Path(given).read_bytes())
    turn = Turn(int(pipe[0])) if pipe else Turn()
    faulthandler.enable()
    cores = pin(job["threads"])
    try:
        result = _PHASES[job["phase"]](job, turn)
    except ImportError as error:
        traceback.print_exc()
        result = {"failed": f"not installed: pip install 'retr[bench]' ({error})"}
    except Exception as error:
        traceback.print_exc()
        first = next(iter(str(error).strip().splitlines()), "")
        result = {"failed": f"{type(error).__name__}: {first}"[:300]}
    result["cores"] = cores
    Path(job["out"]).write_text(json.dumps(result))


def tune(job: Job, _: Turn) -> dict[str, Any]:
    """Let the system choose what is to be built."""
    system, base = _system(job), _base(job)
    queries: Floats = np.load(Path(job["data"]) / "tuning.npy")
    _touch(base)
    with measured(Spent()) as spent:
        chosen = system.tune(base, queries, Path(job["index"]))
    return {"chosen": chosen, "cpu_s": spent.cpu, "wall_s": spent.wall}


def build(job: Job, _: Turn) -> dict[str, Any]:
    """Build and save; the vectors are in the page cache before the clock runs."""
    system, base, folder = _system(job), _base(job), Path(job["index"])
    before = _size(folder)
    _touch(base)
    with measured(Spent()) as spent:
        parameters = system.build(base, folder)
    return {
        "label": system.label(),
        "parameters": parameters,
        "cpu_s": spent.cpu,
        "wall_s": spent.wall,
        "peak_bytes": peak_memory(),
        "index_bytes": _size(folder) - before,
        "vector_bytes": base.nbytes if system.reads_vectors else 0,
        "versions": {name: found for name in system.packages if (found := _version(name))},
    }


def single(job: Job, turn: Turn) -> dict[str, Any]:
    """Search for one query after the other at each setting, on one thread."""
    return _searched(job, turn, _one_by_one)


def batch(job: Job, turn: Turn) -> dict[str, Any]:
    """Search for all queries at once at each setting."""
    return _searched(job, turn, _at_once)


Measure = Callable[[Peer, list[Setting], Floats, Rows, Turn, Job], list[dict[str, Any]]]


def _searched(job: Job, turn: Turn, measure: Measure) -> dict[str, Any]:
    system = _system(job)
    queries: Floats = np.load(Path(job["data"]) / "queries.npy")
    before = memory()
    with measured(Spent()) as opening:
        system.open(_base(job), Path(job["index"]))
    opened = memory()
    settings: list[Setting] = list(system.settings())
    answers = np.empty((len(settings), len(queries), job["k"]), np.int64)
    gc.disable()
    found = measure(system, settings, queries, answers, turn, job)
    gc.enable()
    after = memory()
    np.save(job["answers"], answers)
    pairs = zip(settings, found, strict=True)
    return {
        "points": [{"setting": dict(setting), **each} for setting, each in pairs],
        "open_cpu_s": opening.cpu,
        "open_wall_s": opening.wall,
        "memory": {"before": before, "opened": opened, "searched": after},
        "clock_us": _clock(),
    }


def _one_by_one(
    system: Peer, settings: list[Setting], queries: Floats, answers: Rows, turn: Turn, job: Job
) -> list[dict[str, Any]]:
    one, cpu_clock, wall_clock = system.one, time.process_time_ns, time.perf_counter_ns
    asked = [queries[i : i + 1] for i in range(len(queries))]
    _warm(system, settings[-1], asked)  # the last is the widest
    turn.rest(at_once=True)
    passes: list[NDArray[np.int64]] = []
    spent = [Spent() for _ in settings]
    while not passes or sum(each.wall for each in spent) < job["least"]:
        times = np.empty((len(settings), 2, len(asked)), np.int64)
        # In turns, so that what else the machine does falls on all settings alike, and of unlike
        # queries, so that none finds in the cache what the setting before it has read: a system
        # with one setting never would.
        starts = range(0, len(asked), _TURN)
        for number, block in turns(len(settings), len(starts)):
            warm = _COLD if turn.rest() else _WARM
            system.use(settings[number])
            for i in range(starts[block] - warm, starts[block]):
                one(asked[i % len(asked)])
            with measured(spent[number]):
                for i in range(starts[block], min(starts[block] + _TURN, len(asked))):
                    wall, cpu = wall_clock(), cpu_clock()
                    rows = one(asked[i])
                    times[number, 0, i] = cpu_clock() - cpu
                    times[number, 1, i] = wall_clock() - wall
                    answers[number, i] = rows
        passes.append(times)
    all_times = np.concatenate(passes, axis=2) / 1e3
    count = len(passes) * len(asked)
    return [_summary(*pair, count) for pair in zip(all_times, spent, strict=True)]


def _warm(system: Peer, setting: Setting, asked: list[Floats]) -> None:
    """Search for each query once, as far as the time for it goes."""
    end = time.monotonic() + _WARMING
    system.use(setting)
    for query in asked:
        system.one(query)
        if time.monotonic() > end:
            return


def _summary(times: NDArray[np.float64], spent: Spent, count: int) -> dict[str, Any]:
    summary = {}
    for name, values in zip(("cpu_us", "wall_us"), times, strict=True):
        summary[name] = round(float(np.median(values)), 3)
        summary[f"{name}_p95"] = round(float(np.percentile(values, 95)), 3)
    # Of the whole loop, so what a thread does after the answer is in it, too.
    summary["cpu_us_mean"] = round(1e6 * spent.cpu / count, 3)
    summary["wall_us_mean"] = round(1e6 * spent.wall / count, 3)
    return summary


def _at_once(
    system: Peer, settings: list[Setting], queries: Floats, answers: Rows, turn: Turn, job: Job
) -> list[dict[str, Any]]:
    rates: list[list[float]] = [[] for _ in settings]
    cpu: list[list[float]] = [[] for _ in settings]
    total = 0.0
    while total < job["least"] or not rates[-1]:
        for number, setting in enumerate(settings):
            turn.rest()
            system.use(setting)
            with measured(Spent()) as first:
                answers[number] = system.batch(queries)
            own, times = 0.0, 0
            few = first.wall < _SLOW
            while not times or few or own < job["seconds"]:
                with measured(Spent()) as spent:
                    system.batch(queries)
                cpu[number].append(spent.cpu)
                rates[number].append(len(queries) / spent.wall)
                own, times = own + spent.wall, times + 1
                few = times < _REPEATS and first.wall + own < _SLOW
            total += own
    return [
        {
            "qps": round(float(np.median(of_one)), 2),
            "qps_all": [round(rate, 2) for rate in of_one],
            "cpu_us": round(1e6 * float(np.median(spent_cpu)) / len(queries), 3),
        }
        for of_one, spent_cpu in zip(rates, cpu, strict=True)
    ]


def _system(job: Job) -> Peer:
    task = Task(job["rows"], job["dim"], Metric(job["metric"]), job["k"], job["threads"])
    return peer(job["system"])(task, name_of(job["system"])[1])


def _base(job: Job) -> Floats:
    base: Floats = np.load(Path(job["data"]) / "base.npy", mmap_mode="r")
    return base.view(np.ndarray)


def _touch(base: Floats) -> None:
    for start in range(0, len(base), 1 << 14):
        base[start : start + (1 << 14)].sum()


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _clock() -> float:
    """Return the microseconds that reading the clocks adds to each query."""
    times = []
    for _ in range(1000):
        cpu = time.process_time_ns()
        times.append(time.process_time_ns() - cpu)
    return float(np.median(times)) / 1e3


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


_PHASES = {"tune": tune, "build": build, "single": single, "batch": batch}

if __name__ == "__main__":
    main()
