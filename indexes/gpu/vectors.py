"""The vectors that lie on a GPU, and exact search of them.

FAISS compares in float32, with rounding of its own, and finds a few more candidates than asked
for. They are scored once more as `exact.scan` does it, on the CPU, so that scores and order are
those of a scan to the last bit. How far a score in float32 can be from the true one is known
(`exact.score_slack`): where no vector that was not fetched can be among the best, the answer is
proved, and else the query is one of those that the caller scans.

FAISS takes one caller at a time on a GPU, so there is a lock for each.

Which vectors may be found is no argument that FAISS takes on a GPU. Where most may, more are
fetched, and those that may not are left out; where few may, only they are brought there.
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
"""So many candidates of a query does FAISS find on a GPU."""

_MORE: Final = 16
_MOSTLY: Final = 0.5  # from this share of allowed vectors on, the others are left out afterwards
_SPARE: Final = 1.5  # so many times as many are fetched as would do if the others lay evenly
_TILE: Final = 1 << 28  # values of one FAISS index: 1 GB, for it is moved when it grows
_BLOCK: Final = 1 << 24  # values brought there at once: 64 MB
_FOUND: Final = 1 << 22  # candidates of all queries at a time: 48 MB
_REST: Final = 60.0  # seconds in which a GPU that failed is not asked again

Key = tuple[int, bytes]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _Lot:
    """Vectors that lie on the card.

    source: whose they are.
    tiles:  FAISS indexes, one after the other.
    size:   the bytes that they take.
    """

    source: weakref.ref[VectorSource]
    tiles: list[Any]
    size: int


class GpuVectors:
    """The vectors that lie on a GPU, the longest unused of which make room for others.

    make: returns an empty flat FAISS index there, for vectors of a dimension and a FAISS metric.
    room: the bytes that vectors may take for good; more of them are brought there each time.
    alone: to be held by who uses the GPU.
    """

    def __init__(self, make: Callable[[int, int], Any], room: int) -> None:
        self._make = make
        self._room = room
        self._lots: OrderedDict[Key, _Lot] = OrderedDict()
        self._gone: deque[Key] = deque()
        self.alone = threading.Lock()
        self._failed_at = -_REST

    def attempt(self, what: str, run: Callable[[], None]) -> bool:
        """Do something there; return False, having said why, where it cannot be done.

        That is where its memory does not suffice, say. It is left alone for a minute then.
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
        """The bytes of vectors that lie there."""
        return sum(lot.size for lot in list(self._lots.values()))

    def holds(self, source: VectorSource, allowed: Bitmap | None) -> bool:
        """Return whether a search would have to bring nothing there."""
        lot = self._lots.get(_key(source, _brought(len(source), allowed)))
        return lot is not None and lot.source() is source

    def clear(self) -> None:
        """Leave nothing there."""
        with self.alone:
            self._lots.clear()

    def abandon(self) -> None:
        """Forget what is there without freeing it."""
        for lot in self._lots.values():
            for tile in lot.tiles:
                tile.this.disown()
        self._lots.clear()

    @staticmethod
    def can_search(source: VectorSource, queries: Floats, k: int) -> bool:
        """Return whether float32 can hold the scores, and FAISS can find so many."""
        if min(k, len(source)) + _more(k) > MOST_FETCHED:
            return False
        norms = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
        longest = float(norms.max(initial=0.0))
        return not overflows(source.metric, longest, largest_norm(source))

    def scan(
        self, source: VectorSource, queries: Floats, k: int, allowed: Bitmap | None
    ) -> Hits | None:
        """Return what `exact.scan` returns; None where the GPU cannot do it.

        queries: f32[q, dim], checked, for which `can_search` holds.
        allowed: allows one position at least.
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
        """Return the best k positions for each query, and which queries have to be scanned.

        queries: f32[q, dim], for which `can_search` holds.
        allowed: allows one position at least.

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
        """Return the best by scores in float32, as FAISS computes them."""
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
        """Return FAISS indexes over the vectors, kept where there is room for all of them."""
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
        except (RuntimeError, MemoryError):  # others use the memory, too
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
        """Let go of what nobody can search any more, at once or when the card is free again."""
        self._gone.append(key)
        # This is called wherever an object goes, in the midst of a search, too.
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
    """Return the best of what was found, f32[q, kept], and of which queries that is not proved.

    found:    by scores in float32, best first.
    left_out: allows what may be found of that; None allows all.
    is_all:   nothing else is there.

    Raises:
        RuntimeError: scores are further off than float32 can be.
    """
    norms = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
    slack = score_slack(source.metric, norms, largest_norm(source), source.dim)
    # What was not fetched scores no more than this, in the float32 of the card.
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
    """Return what was found without positions that are not allowed, as long, best first."""
    out = (found.positions < 0) | ~allowed_between(allowed, 0, n)[found.positions]
    order = np.argsort(out, axis=1, kind="stable")
    scores, positions = np.where(out, -np.inf, found.scores), np.where(out, -1, found.positions)
    return Hits(
        np.take_along_axis(scores, order, axis=1).astype(np.float32),
        np.take_along_axis(positions, order, axis=1),
    )


def _brought(n: int, allowed: Bitmap | None) -> Bitmap | None:
    """Return which of n vectors a search needs on the card; None is all of them."""
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
