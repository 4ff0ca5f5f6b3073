"""The vectors of a segment: one float32 or float16 matrix, in memory or mapped from a file."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .base import Floats, Metric, Positions

Halves = NDArray[np.float16]

# Small enough to stay in a core's cache while it is converted.
_PIECE: Final = 1 << 18
# Small enough to stay in the shared cache between conversion and use, and for the allocator to
# reuse the same memory.
_BLOCK: Final = 1 << 22
_BLOCK_ROWS: Final = 1 << 14
_NORMAL: Final = 0
_RANDOM: Final = 1  # on Linux and macOS alike


class ArraySource:
    """A `VectorSource` over one matrix.

    vectors: f32[n, dim] or f16[n, dim], finite, each row contiguous; not copied, so it may be
             a view of a mapped file. `blocks` of float32 are also views of it.
    metric:  how the vectors are compared.

    Raises:
        ValueError: `vectors` is not such a matrix.
    """

    def __init__(self, vectors: Floats | Halves, metric: Metric) -> None:
        matrix: NDArray[np.floating] = np.asarray(vectors)
        if matrix.dtype not in (np.float32, np.float16) or matrix.ndim != 2 or not matrix.shape[1]:
            raise ValueError(
                "vectors must be float32[n, dim] or float16[n, dim], "
                f"got {matrix.dtype}{list(matrix.shape)}"
            )
        if matrix.size and matrix.strides[1] != matrix.itemsize:
            raise ValueError("each vector must be contiguous")
        self.vectors = matrix
        self.dim: int = matrix.shape[1]
        self.metric = Metric(metric)
        self._squared_norms: Floats | None = None
        self._is_random = False

    def read_at_random(self) -> None:
        """Turn off the system's read-ahead, because single vectors are read from now on.

        By default the system reads 128 KB of a mapped file when a vector of 1.5 KB is requested.
        While `blocks` are read, read-ahead is on again.
        """
        self._is_random = True
        advise(self.vectors, _RANDOM)

    def __len__(self) -> int:
        return len(self.vectors)

    def blocks(self, size: int) -> Iterator[Floats]:
        """Yield all vectors in order, read-only, as f32[m, dim] with m from 1 to `size`."""
        if self.vectors.dtype == np.float16:
            size = max(1, min(size, _BLOCK // self.dim, _BLOCK_ROWS))
        if self._is_random:
            advise(self.vectors, _NORMAL)
        try:
            for start in range(0, len(self.vectors), size):
                yield _as_float32(self.vectors[start : start + size])
        finally:
            if self._is_random:
                advise(self.vectors, _RANDOM)

    def take(self, positions: Positions) -> Floats:
        """Return the vectors at `positions`, f32[len(positions), dim], in that order."""
        return _as_float32(self.vectors.take(positions, axis=0))

    def sample(self, n: int, seed: int) -> Floats:
        """Return at most `n` vectors drawn without replacement, f32[m, dim]."""
        if n >= len(self):
            return self.take(np.arange(len(self)))
        drawn = np.random.default_rng(seed).choice(len(self), n, replace=False)
        return self.take(np.sort(drawn))

    def squared_norms(self) -> Floats:
        """Return the squared Euclidean length of every vector, f32[n]; computed once."""
        if self._squared_norms is None:
            norms = np.empty(len(self), np.float32)
            start = 0
            with np.errstate(over="ignore"):
                for block in self.blocks(_BLOCK_ROWS):
                    stop = start + len(block)
                    np.einsum("ij,ij->i", block, block, out=norms[start:stop])
                    start = stop
            self._squared_norms = norms
        return self._squared_norms


def advise(matrix: NDArray[Any], advice: int) -> None:
    """Hint to the system how the memory of a matrix will be read (madvise)."""
    page = mmap.PAGESIZE
    first = -(-matrix.ctypes.data // page) * page
    size = (matrix.ctypes.data + matrix.nbytes - first) // page * page
    if size > 0 and _madvise() is not None:
        _madvise()(ctypes.c_void_p(first), ctypes.c_size_t(size), ctypes.c_int(advice))


@cache
def _madvise() -> Any:
    try:
        return ctypes.CDLL(None).madvise
    except (OSError, AttributeError, TypeError):  # a system without it
        return None


def _as_float32(vectors: NDArray[np.floating]) -> Floats:
    if vectors.dtype == np.float32:
        return vectors.view(np.float32)
    out = np.empty(vectors.shape, np.float32)
    rows = max(1, _PIECE // vectors.shape[1])
    starts = range(0, len(vectors), rows)
    pieces = [(vectors[start : start + rows], out[start : start + rows]) for start in starts]
    if len(pieces) > 1:
        list(_pool().map(_widen, *zip(*pieces, strict=True)))
    else:
        for halves, floats in pieces:
            _widen(halves, floats)
    return out


def _widen(halves: Halves, out: Floats) -> None:
    """Convert finite float16 to float32, four times as fast as numpy, which is not vectorised.

    A half's sign, exponent and fraction bits, moved to their places in a float32, give the value
    times 2^-112 (the difference of the exponent biases), also for subnormal halves.
    """
    bits = out.view(np.int32)
    bits[...] = halves.view(np.int16)
    bits <<= 13
    bits &= -0x70002000
    out *= np.float32(2.0**112)


@cache
def _pool() -> ThreadPoolExecutor:
    # Threads do not survive a fork: a child using the parent's pool would wait for ever.
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_pool.cache_clear)
    return ThreadPoolExecutor(_cores(), thread_name_prefix="retr-vectors")


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
