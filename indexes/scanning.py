"""Exact search on the GPU or the CPU, whichever is faster; the answers are the same.

retr starts a GPU, and copies vectors to it, only when the work outweighs the cost; both then serve
later searches. `python -m retr.benchmarks.studies.gpu` measures when that is.
"""

from __future__ import annotations

from typing import Final

from . import exact
from .base import (
    Bitmap,
    Floats,
    Hits,
    VectorSource,
    as_k,
    check_allowed,
    check_queries,
    count_allowed,
)
from .gpu import devices

# The number of multiplications above which a GPU is faster than 16 cores
# (benchmarks/results/gpu.json).
_IF_NOT_STARTED: Final = 2e11  # starting one takes a second
_IF_NOT_THERE: Final = 1e9
_QUERIES_IF_NOT_THERE: Final = 128  # copying the vectors takes as long as comparing this many
_IF_THERE: Final = 1e7


def scan(source: VectorSource, queries: Floats, k: int, *, allowed: Bitmap | None = None) -> Hits:
    """Return what `exact.scan` returns, to the last bit."""
    queries = check_queries(queries, source.dim)
    k = as_k(k)
    allowed = check_allowed(allowed, len(source))
    found = _on_gpu(source, queries, k, allowed)
    return exact.scan(source, queries, k, allowed=allowed) if found is None else found


def _on_gpu(source: VectorSource, queries: Floats, k: int, allowed: Bitmap | None) -> Hits | None:
    """Return a GPU's answer; None if there is no GPU, or the CPU is faster."""
    rows = len(source) if allowed is None else count_allowed(allowed, len(source))
    if not is_worth(rows, source.dim, len(queries), devices.is_started(), is_there=True):
        return None
    there = devices.gpu()
    if there is None or not there.vectors.can_search(source, queries, k):
        return None
    is_there = there.vectors.holds(source, allowed)
    if not is_worth(rows, source.dim, len(queries), True, is_there):
        return None
    return there.vectors.scan(source, queries, k, allowed)


def is_worth(rows: int, dim: int, queries: int, is_started: bool, is_there: bool) -> bool:
    """Return whether a GPU answers faster than the CPU.

    is_started: whether the GPU is already in use.
    is_there:   whether it already holds the vectors.
    """
    work = rows * dim * queries
    if not is_started:
        return work >= _IF_NOT_STARTED
    if not is_there:
        return work >= _IF_NOT_THERE and queries >= _QUERIES_IF_NOT_THERE
    return work >= _IF_THERE
