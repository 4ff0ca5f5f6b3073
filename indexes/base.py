"""The interface of every index: arrays in, arrays out; no documents, no ids, only its own file.

An index answers with *positions*, the places of rows inside one segment, 0 to n-1. A higher score
is always better: inner product and cosine are unchanged, L2 is the negative squared distance.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, SupportsIndex

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .points import OperatingPoint, check_points
from .spec import IndexSpec

Floats = NDArray[np.float32]
Scores = NDArray[np.floating]
Positions = NDArray[np.int64]
Bitmap = NDArray[np.uint8]
# Called with the number of vectors done and their total; an exception from it stops the work.
Progress = Callable[[int, int], None]


class Metric(StrEnum):
    """How two vectors are compared."""

    COSINE = "cosine"  # rows are stored with unit length, so it is their inner product
    IP = "ip"  # inner product
    L2 = "l2"  # negative squared Euclidean distance


class IndexFileError(OSError):
    """The file of an index is missing, damaged, or of other vectors."""


class MissingFaissError(ImportError):
    """An index needs FAISS, which is not installed; the message has the command."""


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """The best positions for each of q queries, best first.

    scores:    f32[q, k], descending; f64 after calibration. Padded with -inf if fewer than k were
               found.
    positions: i64[q, k], padded with -1. Equal scores are in ascending position, and if they are
               cut off, the lowest positions are kept.
    """

    scores: Scores
    positions: Positions

    @classmethod
    def none(cls, queries: int, k: int, dtype: DTypeLike = np.float32) -> Hits:
        """Return only padding, for `queries` queries."""
        return cls(np.full((queries, k), -np.inf, dtype), np.full((queries, k), -1, np.int64))


class VectorSource(Protocol):
    """n finite vectors of one dimension, possibly larger than memory.

    For cosine they have unit length (to the precision of their element type) or are zero.
    """

    dim: int
    metric: Metric

    def __len__(self) -> int:
        """Return the number of vectors."""
        ...

    def blocks(self, size: int) -> Iterator[Floats]:
        """Yield all vectors in order, read-only, as f32[m, dim] with m from 1 to `size`."""
        ...

    def take(self, positions: Positions) -> Floats:
        """Return the vectors at `positions`, f32[len(positions), dim], in that order."""
        ...

    def sample(self, n: int, seed: int) -> Floats:
        """Return at most `n` vectors drawn without replacement, f32[m, dim]."""
        ...

    def squared_norms(self) -> Floats:
        """Return the squared Euclidean length of every vector, f32[n]; computed once."""
        ...


class Checkpoint(Protocol):
    """Stores what a build has so far, so that a killed build can continue."""

    def read(self, source: VectorSource, class_name: str) -> Any | None:
        """Return the FAISS index to continue from; None if there is none of these vectors.

        class_name: the FAISS class that it must have.
        """

    def write(self, index: Any) -> None:
        """Store the index if it is time to."""

    def write_now(self, index: Any) -> None:
        """Store the index."""


class Index(ABC):
    """A structure over the vectors of one segment.

    There is one file per kind in `indexes/kinds/`: the module's name is the kind, and
    `indexes.kinds()` finds the class. Every kind passes `tests/test_index_contract.py` unchanged.

    exact:        True if the answer is always that of `exact.scan`, to the last bit.
    recall_floor: the lowest mean recall at 10 of the kind's bare spec over real or clustered
                  vectors; the contract suite enforces it.
    points:       the operating points, fastest first.
    default_effort: the number of the point that a search uses by default.
    """

    kind: ClassVar[str]
    exact: ClassVar[bool] = False
    recall_floor: ClassVar[float] = 1.0
    spec: IndexSpec
    points: tuple[OperatingPoint, ...] = (OperatingPoint(),)
    default_effort: int = 0

    @classmethod
    @abstractmethod
    def build(
        cls,
        source: VectorSource,
        spec: IndexSpec,
        *,
        progress: Progress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Index:
        """Build over every vector of `source`, in bounded memory.

        progress:   called after each block of vectors, and once with all of them.
        checkpoint: where to store progress and continue from; None stores nothing.

        Raises:
            SpecError: the kind does not take these prefixes or parameters.
            ValueError: `source` has no vectors.
            MissingFaissError: FAISS is not installed.
        """

    @classmethod
    def check(cls, spec: IndexSpec) -> None:
        """Refuse a spec that this kind cannot build, before any work is done.

        Raises:
            SpecError: it has prefixes or parameters that do not apply to this kind.
        """
        return None

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write the index as a plain FAISS file at `path`.

        Raises:
            OSError: it cannot be written.
        """

    @classmethod
    @abstractmethod
    def load(
        cls,
        path: Path,
        source: VectorSource,
        spec: IndexSpec,
        *,
        points: Sequence[OperatingPoint] | None = None,
        default_effort: int | None = None,
    ) -> Index:
        """Open the file that `save` wrote, memory-mapped, over the same `source`.

        points, default_effort: those that the index had, because the file does not keep them; the
                 default is the points of an index that has not been measured.

        Raises:
            IndexFileError: the file is missing, damaged, or the index of other vectors.
            ValueError: the points do not fit such an index.
            MissingFaissError: FAISS is not installed.
        """

    def with_points(
        self, points: Sequence[OperatingPoint], default_effort: int | None = None
    ) -> Self:
        """Return the same index with other operating points; the two share all memory.

        default_effort: None is the last point, the most thorough.

        Raises:
            ValueError: there are none, one has other knobs, or there is no such default.
        """
        check_points(points, default_effort or 0, set())
        return self

    def check_effort(self, effort: int | None) -> int:
        """Return the number of the operating point; None becomes the default.

        Raises:
            ValueError: there is no point with that number.
        """
        if effort is None:
            return self.default_effort
        if not 0 <= effort < len(self.points):
            raise ValueError(f"effort {effort}: give 0 to {len(self.points) - 1}")
        return effort

    @abstractmethod
    def search(
        self,
        queries: Floats,
        k: int,
        *,
        effort: int | None = None,
        allowed: Bitmap | None = None,
    ) -> Hits:
        """Return the best `k` positions for each query; safe to call from many threads.

        queries: f32[q, dim]; float16 and float64 are converted, and any layout works. For cosine
                 the caller scales them to unit length.
        effort:  the number of an operating point, 0 the fastest; None is the stored default.
        allowed: bits over positions, u8[ceil(n / 8)] in `np.packbits(bitorder="little")`
                 order, one bitmap for the batch; None allows every position.

        Raises:
            ValueError: the queries have the wrong dimension, shape or type or are not finite, k is
                below 1, there is no such operating point, or the bitmap has the wrong length.
        """


def check_queries(queries: NDArray[np.floating], dim: int) -> Floats:
    """Return `queries` as C-contiguous f32[q, dim]; copies them only if they are not.

    Raises:
        ValueError: they are not floats, have another shape, or are not finite in float32.
    """
    if (
        type(queries) is np.ndarray
        and queries.dtype is _FLOAT32
        and queries.shape == (1, dim)
        and queries.flags.c_contiguous
        and math.isfinite(np.vdot(queries, queries))
    ):
        return queries  # the fast path for a single, valid query
    given = np.asarray(queries)
    if given.dtype.kind != "f":
        raise ValueError(f"queries must be float32[q, {dim}], got the type {given.dtype}")
    if given.ndim != 2 or given.shape[1] != dim:
        raise ValueError(f"queries must be float32[q, {dim}], got the shape {given.shape}")
    if given.dtype == np.float32:
        out = np.ascontiguousarray(given, np.float32)
    else:
        with np.errstate(over="ignore"):
            out = np.ascontiguousarray(given, np.float32)
    # The sum of squares is finite only if every value is; it takes one pass and no array.
    if len(out) == 1 and math.isfinite(np.vdot(out, out)):
        return out
    if not np.isfinite(out).all():
        row = int(np.flatnonzero(~np.isfinite(out).all(axis=1))[0])
        raise ValueError(f"query {row} has a value that is NaN, infinite or too large for float32")
    return out


def as_k(k: SupportsIndex) -> int:
    """Return `k` as an int.

    Raises:
        ValueError: it is not an integer above 0.
    """
    try:
        number = operator.index(k)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"k must be an integer above 0, got {k!r}")
    return number


def check_allowed(allowed: Bitmap | None, n: int) -> Bitmap | None:
    """Return the bitmap over `n` positions, contiguous; copies it only if it is not.

    Raises:
        ValueError: it is not u8[ceil(n / 8)].
    """
    if allowed is None:
        return None
    bitmap = np.asarray(allowed)
    size = (n + 7) // 8
    if bitmap.dtype != np.uint8 or bitmap.shape != (size,):
        raise ValueError(
            f"the bitmap over {n} positions must be uint8[{size}], "
            f"got {bitmap.dtype}{list(bitmap.shape)}"
        )
    return np.ascontiguousarray(bitmap)


def allowed_between(bitmap: Bitmap, start: int, stop: int) -> NDArray[np.bool_]:
    """Return which of the positions `start` to `stop` are allowed, bool[stop - start]."""
    first = start // 8
    bits = np.unpackbits(bitmap[first : (stop + 7) // 8], bitorder="little")
    return bits[start - 8 * first : stop - 8 * first].view(np.bool_)


def allowed_positions(bitmap: Bitmap, n: int) -> Positions:
    """Return the allowed positions below `n`, ascending."""
    step = 1 << 20
    parts = [
        start + np.flatnonzero(allowed_between(bitmap, start, min(start + step, n)))
        for start in range(0, n, step)
    ]
    return np.concatenate(parts, dtype=np.int64) if parts else np.empty(0, np.int64)


def count_allowed(bitmap: Bitmap, n: int) -> int:
    """Return how many positions below `n` are allowed."""
    whole = n // 8
    if _COUNT_BITS is None:
        count = int(_BITS[bitmap[:whole]].sum(dtype=np.int64))
    else:
        words = whole // 8
        count = int(_COUNT_BITS(bitmap[: 8 * words].view(np.uint64)).sum(dtype=np.int64))
        count += int(_COUNT_BITS(bitmap[8 * words : whole]).sum(dtype=np.int64))
    return count + int(allowed_between(bitmap, 8 * whole, n).sum())


_FLOAT32 = np.dtype(np.float32)
_BITS = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)
_COUNT_BITS = getattr(np, "bitwise_count", None)  # since numpy 2.0
