"""Runs a batch of queries on all cores: Python threads, each with FAISS on a single thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from .faiss import load_faiss


def each_on_all_cores(run: Callable[[int], None], starts: Sequence[int]) -> None:
    """Call `run` with each of `starts`, on as many threads as FAISS may use, one per core."""
    faiss = load_faiss()
    threads = min(len(starts), faiss.omp_get_max_threads())
    if threads <= 1:
        for start in starts:
            run(start)
        return
    list(_pool(threads).map(run, starts))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    # Threads do not survive a fork: a child using the parent's pool would wait for ever.
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_pool.cache_clear)
    # Called in a thread, this sets the number for that thread only.
    return ThreadPoolExecutor(
        threads, "retr-search", load_faiss().omp_set_num_threads, initargs=(1,)
    )
