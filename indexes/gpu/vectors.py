"""Vectors kept on a GPU, and exact search of them.

FAISS compares in float32, with its own rounding, and finds a few more candidates than requested.
They are scored again on the CPU as `exact.scan` does it, so that scores and order match a scan to
the last bit. The error of a float32 score is bounded (`exact.score_slack`): if no vector that was
not fetched can be among the best, the answer is proved; otherwise the query is scanned on the CPU.

FAISS allows one caller at a time on a GPU, so each has a lock.

On a GPU, FAISS cannot restrict a search to allowed vectors. If most vectors are allowed, more are
fetched and the others are dropped; if few are allowed, only those are copied to the GPU.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..base import (
    Bitmap,
    Floats,
    Hits,
    Metric,
    Positions,
    VectorSource,
    allowed_between,
    allowed_positions,
    count_allowed,
)
from ..exact import best_of, largest_norm, overflows, scan, score_slack
from ..faiss import faiss_metric
from ..topk import merge_hits

log = logging.getLogger("retr.indexes")

MOST_FETCHED: Final = 2048
"""The maximum number of candidates per query that FAISS finds on a GPU."""

_MORE: Final = 16
_MOSTLY: Final = 0.5  # above this share of allowed vectors, the others are dropped afterwards
_SPARE: Final = 1.5  # factor on what would suffice if forbidden vectors were spread evenly
_TILE: Final = 1 << 28  # values of one FAISS index: 1 GB, because it is moved when it grows
_BLOCK: Final = 1 << 24  # values copied at once: 64 MB
_FOUND: Final = 1 << 22  # candidates of all queries at a time: 48 MB
_REST: Final = 60.0  # seconds during which a GPU that failed is not used

Key = tuple[int, bytes]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _Lot:
    """Vectors kept on the GPU.

    source: the source of the vectors.
    tiles:  FAISS indexes over consecutive vectors.
    size:   the bytes that they take.
    """

    source: weakref.ref[VectorSource]
    tiles: list[Any]
    size: int


class GpuVectors:
    """The vectors kept on a GPU; the least recently used make room for others.

    make: returns an empty flat FAISS index on the GPU, for a dimension and a FAISS metric.
    room: the bytes that kept vectors may take; a larger set is copied for every search.
    alone: the lock to hold while using the GPU.
    """

    def __init__(self, make: Callable[[int, int], Any], room: int) -> None:
        self._make = make
        self._room = room
        self._lots: OrderedDict[Key, _Lot] = OrderedDict()
        self._gone: deque[Key] = deque()
        self.alone = threading.Lock()
        self._failed_at = -_REST

    def attempt(self, what: str, run: Callable[[], None]) -> bool:
        """Call `run` on the GPU; if that fails, log why and return False.

        It fails if memory does not suffice, for example. The GPU is then not used for a minute.
        """
        if time.monotonic() - self._failed_at < _REST:
            return False
        try:
            run()
        except (RuntimeError, MemoryError) as error:
            self._failed_at = time.monotonic()
            self.clear()
            reason = " ".join(str(error).split())[-200:]
            log.warning("%s on the CPU: the GPU cannot be used (%s)", what, reason)
            return False
        return True

    @property
    def held(self) -> int:
        """The bytes of the vectors on the GPU."""
        return sum(lot.size for lot in list(self._lots.values()))

    def holds(self, source: VectorSource, allowed: Bitmap | None) -> bool:
        """Return whether a search would need to copy nothing to the GPU."""
        lot = self._lots.get(_key(source, _brought(len(source), allowed)))
        return lot is not None and lot.source() is source

    def clear(self) -> None:
        """Remove all vectors from the GPU."""
        with self.alone:
            self._lots.clear()

    def abandon(self) -> None:
        """Forget all vectors without freeing their memory."""
        for lot in self._lots.values():
            for tile in lot.tiles:
                tile.this.disown()
        self._lots.clear()

    @staticmethod
    def can_search(source: VectorSource, queries: Floats, k: int) -> bool:
        """Return whether float32 can hold the scores, and FAISS can find enough candidates."""
        if min(k, len(source)) + _more(k) > MOST_FETCHED:
            return False
        norms = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
        longest = float(norms.max(initial=0.0))
        return not overflows(source.metric, longest, largest_norm(source))

    def scan(
        self, source: VectorSource, queries: Floats, k: int, allowed: Bitmap | None
    ) -> Hits | None:
        """Return what `exact.scan` returns; None if the GPU cannot do it.

        queries: f32[q, dim], checked, for which `can_search` holds.
        allowed: allows at least one position.
        """
        answers: list[tuple[Hits, Flags]] = []
        if not self.attempt(
            "searching", lambda: answers.append(self.search(source, queries, k, allowed))
        ):
            return None
        ((best, unsure),) = answers
        if unsure.any():
            scanned = scan(source, queries[unsure], k, allowed=allowed)
            best.scores[unsure], best.positions[unsure] = scanned.scores, scanned.positions
        return best

    def search(
        self, source: VectorSource, queries: Floats, k: int, allowed: Bitmap | None
    ) -> tuple[Hits, Flags]:
        """Return the best k positions for each query, and which queries must be scanned instead.

        queries: f32[q, dim], for which `can_search` holds.
        allowed: allows at least one position.

        Raises:
            RuntimeError: the GPU cannot do it.
        """
        n = len(source)
        count = n if allowed is None else count_allowed(allowed, n)
        brought = _brought(n, allowed)
        rows = None if brought is None else allowed_positions(brought, n)
        left_out = allowed if brought is None else None
        kept = min(k, count)
        fetched = kept + _more(k)
        if left_out is not None:
            fetched = math.ceil(_SPARE * fetched * n / count)
        there = n if rows is None else len(rows)
        fetched = min(fetched, MOST_FETCHED, there)
        best, unsure = Hits.none(len(queries), k), np.zeros(len(queries), bool)
        step = max(1, _FOUND // fetched)
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            some = queries[part]
            found = self._nearest(source, some, fetched, brought, rows)
            hits, unsure[part] = _proved(source, some, kept, found, left_out, fetched == there)
            best.scores[part, :kept] = hits.scores
            best.positions[part, :kept] = hits.positions
        return best, unsure

    def _nearest(
        self,
        source: VectorSource,
        queries: Floats,
        fetched: int,
        brought: Bitmap | None,
        rows: Positions | None,
    ) -> Hits:
        """Return the best by FAISS's own float32 scores."""
        parts: list[Hits] = []
        first = 0
        with self.alone:
            for tile in self._tiles(source, brought, rows):
                scores, positions = tile.search(queries, min(fetched, tile.ntotal))
                if source.metric is Metric.L2:
                    scores = -scores
                scores[positions < 0] = -np.inf
                positions[positions >= 0] += first
                first += tile.ntotal
                parts.append(Hits(scores, positions))
        found = parts[0] if len(parts) == 1 else merge_hits(parts, fetched)
        if rows is None:
            return found
        there = found.positions >= 0
        return Hits(found.scores, np.where(there, rows[found.positions], -1))

    def _tiles(
        self, source: VectorSource, brought: Bitmap | None, rows: Positions | None
    ) -> Iterator[Any]:
        """Return FAISS indexes over the vectors; they are kept if there is room for all."""
        self._let_go()
        key = _key(source, brought)
        lot = self._lots.get(key)
        if lot is not None and lot.source() is source:
            self._lots.move_to_end(key)
            return iter(lot.tiles)
        size = 4 * (len(source) if rows is None else len(rows)) * (source.dim + 1)
        if size > self._room:
            return self._made(source, rows)
        while self._lots and self.held + size > self._room:
            self._lots.popitem(last=False)
        try:
            tiles = list(self._made(source, rows))
        except (RuntimeError, MemoryError):  # other programs use the memory too
            if not self._lots:
                raise
            self._lots.clear()
            tiles = list(self._made(source, rows))
        ref = weakref.ref(source, lambda _: self._forget(key))
        self._lots[key] = _Lot(ref, tiles, size)
        return iter(tiles)

    def _made(self, source: VectorSource, rows: Positions | None) -> Iterator[Any]:
        most = max(1, _TILE // source.dim)
        tile = self._make(source.dim, faiss_metric(source.metric))
        for block in _blocks(source, rows, max(1, min(most, _BLOCK // source.dim))):
            if tile.ntotal + len(block) > most:
                yield tile
                tile = self._make(source.dim, faiss_metric(source.metric))
            tile.add(block)
        yield tile

    def _forget(self, key: Key) -> None:
        """Free vectors whose source is gone, now or when the GPU is free again."""
        self._gone.append(key)
        # Python calls this wherever it collects the source, even during a search.
        if self.alone.acquire(blocking=False):
            try:
                self._let_go()
            finally:
                self.alone.release()

    def _let_go(self) -> None:
        while self._gone:
            key = self._gone.popleft()
            lot = self._lots.get(key)
            if lot is not None and lot.source() is None:
                del self._lots[key]


def _proved(
    source: VectorSource,
    queries: Floats,
    kept: int,
    found: Hits,
    left_out: Bitmap | None,
    is_all: bool,
) -> tuple[Hits, Flags]:
    """Return the best of what was found, f32[q, kept], and which queries are not proved.

    found:    the candidates by float32 scores, best first.
    left_out: the bitmap of allowed positions among them; None allows all.
    is_all:   whether every vector on the GPU was fetched.

    Raises:
        RuntimeError: scores are off by more than float32 explains.
    """
    norms = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
    slack = score_slack(source.metric, norms, largest_norm(source), source.dim)
    # No vector that was not fetched scores higher than this, in the GPU's float32.
    last = np.where(found.positions[:, -1] >= 0, found.scores[:, -1].astype(np.float64), np.inf)
    found = found if left_out is None else _without(found, left_out, len(source))
    bar = found.scores[:, kept - 1].astype(np.float64) - 2 * slack
    unsure = ~(bar > last) & (not is_all)
    near = (found.scores >= bar[:, None]) & ~unsure[:, None]
    columns = max(kept, int(near.sum(axis=1).max(initial=0)))
    candidates = np.ascontiguousarray(found.positions[:, :columns])
    scored = best_of(source, queries, candidates)
    best = Hits(scored.scores[:, :kept], scored.positions[:, :kept])
    off = np.zeros(best.scores.shape, np.float32)
    np.subtract(best.scores, found.scores[:, :kept], out=off, where=best.positions >= 0)
    off = np.abs(off[~unsure])
    if (off > slack[~unsure, None]).any():
        raise RuntimeError(f"its scores are off by {off.max():.2g}, more than float32 explains")
    return best, unsure


def _without(found: Hits, allowed: Bitmap, n: int) -> Hits:
    """Return what was found with forbidden positions replaced by padding at the end."""
    out = (found.positions < 0) | ~allowed_between(allowed, 0, n)[found.positions]
    order = np.argsort(out, axis=1, kind="stable")
    scores, positions = np.where(out, -np.inf, found.scores), np.where(out, -1, found.positions)
    return Hits(
        np.take_along_axis(scores, order, axis=1).astype(np.float32),
        np.take_along_axis(positions, order, axis=1),
    )


def _brought(n: int, allowed: Bitmap | None) -> Bitmap | None:
    """Return which of n vectors a search needs on the GPU; None is all of them."""
    if allowed is None or count_allowed(allowed, n) >= _MOSTLY * n:
        return None
    return allowed


def _blocks(source: VectorSource, rows: Positions | None, size: int) -> Iterator[Floats]:
    if rows is None:
        yield from source.blocks(size)
        return
    for start in range(0, len(rows), size):
        yield source.take(rows[start : start + size])


def _key(source: VectorSource, brought: Bitmap | None) -> Key:
    return id(source), b"" if brought is None else hashlib.blake2b(brought.data).digest()


def _more(k: int) -> int:
    return max(_MORE, k // 2)
