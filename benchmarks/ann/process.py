"""A process that measures: threads pinned, time and memory as the operating system counts."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
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


def anonymous() -> int | None:
    """Return the resident bytes that no file backs, cheap enough to ask often; None off Linux."""
    try:
        lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


class Sampler:
    """Looks at the anonymous memory of this process ten times a second, inside a `with` block.

    done:    what tells how far the work is.
    before:  the bytes at the beginning; None off Linux.
    samples: of each look, what `done` said and the bytes.
    """

    def __init__(self, done: Callable[[], int] = lambda: 0) -> None:
        self.before: int | None = None
        self.samples: list[tuple[int, int]] = []
        self._done = done
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sampler:
        self.before = anonymous()
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def most(self) -> int | None:
        """The most bytes that a look has seen; None off Linux."""
        return max((size for _, size in self.samples), default=None)

    def _run(self) -> None:
        over = False
        while not over:
            over = self._over.wait(0.1) if self.samples else False
            size = anonymous()
            if size is None:
                return
            self.samples.append((self._done(), size))
