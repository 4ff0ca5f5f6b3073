"""GPUs: which one to use, and what FAISS keeps on it.

A GPU does two things: exact search for many queries (`scanning`, with `GpuVectors`), and the
clustering of vectors, which takes most of the training of `ivfpq`. FAISS has no GPU version of the
graph, of 4-bit codes for SIMD, of int8 and of sign bits, so everything else runs on the CPU,
whatever is installed.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from ..base import MissingFaissError
from ..faiss import load_faiss

if TYPE_CHECKING:
    from .vectors import GpuVectors

_DEVICE: ContextVar[str | None] = ContextVar("retr_device", default=None)


@contextmanager
def on_device(device: str | None) -> Iterator[None]:
    """Build and search on a device: "cpu", "cuda", "cuda:1"; None is the first GPU, if any."""
    token = _DEVICE.set(device)
    try:
        yield
    finally:
        _DEVICE.reset(token)


def gpu_number(device: str | None, there: int) -> int | None:
    """Return the number of the GPU called `device`, of `there` GPUs; None if it is not one."""
    found = re.fullmatch(r"cuda(?::(\d+))?", device or "cuda")
    number = int(found[1] or 0) if found else there
    return number if number < there else None


@dataclass(frozen=True, slots=True, eq=False)
class Gpu:
    """A GPU that FAISS can use.

    resources: FAISS's streams and scratch memory on it; they take more than a gigabyte.
    vectors:   the vectors that are kept on it.
    """

    number: int
    resources: Any
    vectors: GpuVectors


def gpu() -> Gpu | None:
    """Return the GPU that `on_device` chose; None if FAISS cannot use it."""
    # Looking for a driver takes far less time than importing FAISS.
    if _is_forked() or _driver() is None:
        return None
    try:
        number = gpu_number(_DEVICE.get(), _count())
    except MissingFaissError:
        return None
    return None if number is None else _opened(number)


def _is_forked() -> bool:
    return any(parent != os.getpid() for parent in _FORKED)


def is_started() -> bool:
    """Return whether a GPU is already in use; starting one takes a second."""
    return bool(_OPENED)


def train(clustering: Any, rows: Any, index: Any) -> None:
    """Train a FAISS clustering, with the comparisons on the GPU if there is one.

    index: an empty flat index on the CPU.
    """
    there = gpu()
    if there is not None:
        faiss, number, resources = load_faiss(), there.number, there.resources

        def run() -> None:
            with there.vectors.alone:
                clustering.train(rows, faiss.index_cpu_to_gpu(resources, number, index))

        if there.vectors.attempt("clustering", run):
            return
        clustering.centroids.clear()
    clustering.train(rows, index)


@cache
def _count() -> int:
    faiss = load_faiss()
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


_OPENING: Final = threading.Lock()
_OPENED: Final[dict[int, Gpu]] = {}
_FORKED: Final[set[int]] = set()  # the processes that used CUDA when they were forked


def _opened(number: int) -> Gpu:
    with _OPENING:
        if number not in _OPENED:
            from .vectors import GpuVectors

            faiss = load_faiss()
            resources = faiss.StandardGpuResources()

            def make(dim: int, metric: int) -> Any:
                config = faiss.GpuIndexFlatConfig()
                config.device = number
                return faiss.GpuIndexFlat(resources, dim, metric, config)

            _OPENED[number] = Gpu(number, resources, GpuVectors(make, _memory(number) // 2))
        return _OPENED[number]


def _close() -> None:
    """Free all memory while the driver is still there."""
    for each in _OPENED.values():
        each.vectors.clear()
    _OPENED.clear()


def _before_fork() -> None:
    """Record whether this process uses CUDA, because a child can then neither use nor free it."""
    cuda: Any = getattr(sys.modules.get("torch"), "cuda", None)
    used = bool(_OPENED) or (_driver.cache_info().currsize > 0 and _driver() is not None)
    if used or (hasattr(cuda, "is_initialized") and cuda.is_initialized()):
        _FORKED.add(os.getpid())


def _after_fork() -> None:
    for each in _OPENED.values():
        each.vectors.abandon()
        each.resources.this.disown()
    _OPENED.clear()


atexit.register(_close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


@cache
def _driver() -> Any:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        return driver if driver.cuInit(0) == 0 else None
    except OSError:
        return None


def _memory(number: int) -> int:
    """Return a GPU's memory in bytes; 0 if unknown."""
    driver, device, size = _driver(), ctypes.c_int(), ctypes.c_size_t()
    if driver is None or driver.cuDeviceGet(ctypes.byref(device), number):
        return 0
    return 0 if driver.cuDeviceTotalMem_v2(ctypes.byref(size), device) else size.value
