"""Exact search where it is done soonest: on a GPU that FAISS has, or on the CPU; answers are alike.

A GPU is begun with, and vectors are brought there, only for as many comparisons as make up for
that; both stay for later searches. What is measured of it: `python -m retr.benchmarks.studies.gpu`.
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

# Multiplications from which on a GPU is faster than 16 cores (benchmarks/results/gpu.json).
_BEGUN: Final = 2e11  # to begin with one takes a second
_BROUGHT: Final = 1e9
_BROUGHT_QUERIES: Final = 128  # to bring vectors there takes as long as to compare so many
_THERE: Final = 1e7


def scan(source: VectorSource, queries: Floats, k: int, *, allowed: Bitmap | None = None) -> Hits:
    """Return what `exact.scan` returns, to the last bit; see there."""
    queries = check_queries(queries, source.dim)
    k = as_k(k)
    allowed = check_allowed(allowed, len(source))
    found = _on_gpu(source, queries, k, allowed)
    return exact.scan(source, queries, k, allowed=allowed) if found is None else found


def _on_gpu(source: VectorSource, queries: Floats, k: int, allowed: Bitmap | None) -> Hits | None:
    """Return the answer of a GPU; None where there is none, or the CPU is sooner."""
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
    """Return whether a GPU answers sooner than the CPU.

    is_started: it is in use already.
    is_there:   the vectors lie there already.
    """
    work = rows * dim * queries
    if not is_started:
        return work >= _BEGUN
    if not is_there:
        return work >= _BROUGHT and queries >= _BROUGHT_QUERIES
    return work >= _THERE
