"""A process that measures: threads pinned, time and memory as the operating system counts."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Whatever sizes a pool of threads by itself; lance reads the last two.
_POOLS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS",
    "RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS", "LANCE_CPU_THREADS", "LANCE_IO_THREADS",
)  # fmt: skip


def variables(threads: int) -> dict[str, str]:
    """Return the environment that limits every library to this many threads.

    Threads of OpenMP sleep while they wait, or what they burn would count as work.
    """
    return {**dict.fromkeys(_POOLS, str(threads)), "OMP_WAIT_POLICY": "PASSIVE"}


def pin(threads: int) -> list[int] | None:
    """Pin this process to this many cores; return which, None if the system cannot.

    Called before a library has started threads, for those that run keep their cores.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    # The first core takes most of the interrupts.
    chosen = cores[-threads:]
    os.sched_setaffinity(0, chosen)
    return chosen


@dataclass(slots=True)
class Spent:
    """Seconds of all threads of the process, and seconds that went by."""

    cpu: float = 0.0
    wall: float = 0.0


@contextmanager
def measured(spent: Spent) -> Iterator[Spent]:
    """Add what is done inside to what was spent before."""
    cpu, wall = time.process_time(), time.perf_counter()
    yield spent
    spent.cpu += time.process_time() - cpu
    spent.wall += time.perf_counter() - wall


def memory() -> Mapping[str, int] | None:
    """Return {"anonymous", "mapped"}, resident bytes of its own and of files; None off Linux."""
    try:
        text = Path("/proc/self/smaps_rollup").read_text()
    except OSError:
        return None
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if rest.endswith(" kB"):
            found[name] = int(rest.split()[0]) * 1024
    return {"anonymous": found["Anonymous"], "mapped": found["Rss"] - found["Anonymous"]}


def peak_memory() -> int:
    """Return the most bytes that were resident at once, mapped files among them."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
