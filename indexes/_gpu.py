"""GPUs: the work of a build that FAISS can do on one.

That is the clustering of vectors, which takes most of the training of `ivfpq`. FAISS has no GPU
form of the graph, of 4-bit codes for SIMD, of int8 and of sign bits, so that all else, and every
search, is done on the CPU whatever is installed, with the same results.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from ._faiss import load_faiss

log = logging.getLogger("retr.indexes")

_DEVICE: ContextVar[str | None] = ContextVar("retr_device", default=None)


@contextmanager
def on_device(device: str | None) -> Iterator[None]:
    """Build on a device: "cpu", "cuda", or "cuda:1"; None is the first GPU that FAISS has."""
    token = _DEVICE.set(device)
    try:
        yield
    finally:
        _DEVICE.reset(token)


def gpu_number(device: str | None) -> int | None:
    """Return the number of the GPU that is meant; None where FAISS has no such one."""
    faiss = load_faiss()
    there = int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0
    found = re.fullmatch(r"cuda(?::(\d+))?", device or "cuda")
    if found is None:
        return None
    number = int(found[1] or 0)
    return number if number < there else None


def on_gpu(index: Any) -> Any:
    """Return an empty flat index on the GPU; itself where there is none, or it cannot be used."""
    number = gpu_number(_DEVICE.get())
    if number is None:
        return index
    try:
        return load_faiss().index_cpu_to_gpu(_resources(), number, index)
    except RuntimeError as error:  # out of memory, or a driver that does not fit
        log.warning("clustering on the CPU: the GPU cannot be used (%s)", str(error)[-200:])
        return index


@cache
def _resources() -> Any:
    """Return FAISS's streams and scratch memory, made once: they cost a good deal of memory."""
    return load_faiss().StandardGpuResources()
