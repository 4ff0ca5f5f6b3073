"""Tuning: measures an index on queries, and sets the cheapest operating point that meets a recall.

Recall at k is the share of the true best k that a search finds, and ties count: a hit is right if
its score is at least that of the true kth (as in ann-benchmarks). Queries are split in half:
points are chosen on one half, and reported as measured on the other. Each half chooses in turn,
and the more thorough choice is used.

If no queries are given, they are made from the vectors, see `made_queries`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..base import Checkpoint, Floats, Index, Metric, Progress, VectorSource
from ..kinds import kind
from ..points import aimed
from ..scanning import scan
from ..spec import IndexSpec
from .candidates import candidates
from .curve import K, Measured, Questions, Trial, batches_in_turns, curve_of, in_turns

_QUERIES: Final = 2000
_TRUTH_VALUES: Final = 2_000_000_000  # rows times queries: half a minute at 384 dimensions
_LEAST_QUERIES: Final = 200
_NEIGHBOURS: Final = 12
_AROUND: Final = 64
_COPY: Final = 0.25  # of the distance to the last of `_AROUND`; nearer vectors are copies
_MOVED: Final = 64  # vectors moved at a time, with all their neighbours
_CLEARLY: Final = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """An index with a measured curve.

    index:   its points are those of the curve, and its default is the chosen point; None if
             comparing every vector is the cheapest way, or the only one.
    curve:   ascending in recall and in cost.
    asked:   the requested recall.
    queries: the number of queries.
    own:     whether the user gave them.
    build_seconds, tune_seconds: wall time; building discarded candidates counts as tuning.
    """

    index: Index | None
    curve: tuple[Measured, ...]
    asked: float
    queries: int
    own: bool
    build_seconds: float
    tune_seconds: float

    @property
    def chosen(self) -> Measured | None:
        """The point that searches use; None if they are exact."""
        if self.index is None or not self.curve:
            return None
        return self.curve[self.index.default_effort]

    @property
    def recall(self) -> float:
        """The recall measured at the chosen point; 1 if searches are exact."""
        return 1.0 if self.chosen is None else self.chosen.recall

    @property
    def is_met(self) -> bool:
        """Whether the target is within the interval of the measured recall, or below it.

        The target is the requested recall, or a higher one if the queries were made from the
        vectors.
        """
        return self.chosen is None or self.chosen.high >= aimed(self.asked, self.own)

    def is_better(self, other: Tuned, share: float | None = None) -> bool:
        """Whether only this one meets its recall, or both do and this one is clearly faster.

        If they are about equal, the other is preferred: it builds faster and is faster in batches.

        share: this one's time per query, alone and in a batch, relative to the other's, measured
               in turns; None uses their separate measurements.
        """
        if self.is_met != other.is_met:
            return self.is_met
        if not self.is_met or self.chosen is None or other.chosen is None:
            return self.recall > other.recall
        if share is None:
            share = self.chosen.cpu_us / other.chosen.cpu_us
        return share < _CLEARLY


def tune(
    source: VectorSource,
    spec: IndexSpec | None,
    queries: Floats | None,
    recall: float,
    *,
    memory: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    checkpoint: Callable[[IndexSpec], Checkpoint] | None = None,
) -> Tuned:
    """Build an index over `source` and set it to a recall.

    spec:    the index to build; None builds the candidates for this size, dimension, recall and
             memory, and takes the one that answers a query in the least time.
    queries: f32[q, dim], like those that users will ask; None makes some from the vectors.
    recall:  above 0 and up to 1; 1 is exact.
    memory:  the most bytes that the index may take; None sets no limit.
    checkpoint: returns where the build of a spec stores its progress; None stores nothing.

    Raises:
        ValueError: `source` has no vectors, or the queries have another dimension.
        MissingFaissError: FAISS is not installed.
    """
    start = time.monotonic()
    specs = candidates(len(source), source.dim, source.metric, recall, memory)
    best: Tuned | None = None
    asked: Questions | None = None
    for each in [spec] if spec is not None else specs:
        if spec is None and each.kind == "flat" and not each.dims:
            return Tuned(None, (), recall, 0, queries is not None, 0.0, 0.0)
        begin = time.monotonic()
        kept = None if checkpoint is None else checkpoint(each)
        index = kind(each.kind).build(source, each, progress=progress, checkpoint=kept)
        made = time.monotonic() - begin
        asked = asked or questions(source, index, queries, seed)
        tuned = _measured(index, source, asked, recall, made)
        if best is None or tuned.is_better(best, _share(tuned, best, asked.queries)):
            best = tuned
    assert best is not None  # there is always a candidate
    # Building discarded candidates counts as tuning.
    return replace(best, tune_seconds=time.monotonic() - start - best.build_seconds)


def measure(
    index: Index,
    source: VectorSource,
    queries: Floats | None,
    recall: float,
    *,
    seed: int = 0,
    build_seconds: float = 0.0,
) -> Tuned:
    """Measure an existing index, and set it to a recall; see `tune`."""
    begin = time.monotonic()
    tuned = _measured(index, source, questions(source, index, queries, seed), recall, build_seconds)
    return replace(tuned, tune_seconds=time.monotonic() - begin)


def _measured(
    index: Index, source: VectorSource, asked: Questions, recall: float, build_seconds: float
) -> Tuned:
    curve, default = curve_of(Trial(index, asked), recall, asked.own)
    return Tuned(
        index.with_points([each.point for each in curve], default),
        tuple(curve),
        recall,
        len(asked.queries),
        asked.own,
        build_seconds,
        0.0,
    )


def questions(source: VectorSource, index: Index, queries: Floats | None, seed: int) -> Questions:
    """Return queries with their answers; if none are given, `index` helps to make some."""
    asked = made_queries(source, index, seed) if queries is None else queries
    most = _most_queries(len(source))
    if len(asked) > most:
        asked = asked[np.random.default_rng(seed).permutation(len(asked))[:most]]
    return Questions(asked, scan(source, asked, min(K, len(source))), queries is not None)


def made_queries(source: VectorSource, index: Index, seed: int) -> Floats:
    """Return vectors like those that users may ask, f32[q, dim], none of them in `source`.

    A vector of the index is moved in a random direction among its neighbours, by the distance to
    its nearest neighbour; copies do not count as neighbours. For embeddings of paragraphs such
    queries are as hard as paragraphs held out of the index, or a little harder; the vectors
    themselves, left out of their own results, are far easier, and so are points between
    neighbours. Queries of another kind than the vectors may be harder than these, see `aimed`.
    """
    random = np.random.default_rng(seed)
    sample = source.sample(min(_most_queries(len(source)), len(source)), seed)
    parts = [
        _moved(sample[start : start + _MOVED], source, index, random)
        for start in range(0, len(sample), _MOVED)
    ]
    made = np.concatenate(parts)
    # A vector whose neighbours are all copies does not move, and would be its own query.
    kept = made[np.isfinite(made).all(axis=1)]
    return np.ascontiguousarray(kept if len(kept) else sample, np.float32)


def _moved(
    vectors: Floats, source: VectorSource, index: Index, random: np.random.Generator
) -> NDArray[np.float64]:
    """Return the moved vectors, f64[q, dim]; NaN for a vector that cannot move."""
    near = index.search(vectors, _AROUND + 1, effort=len(index.points) - 1)
    positions = near.positions[:, 1:]  # the first is the vector itself
    there = positions >= 0
    neighbours = source.take(np.where(there, positions, 0).ravel()).reshape(*positions.shape, -1)
    ways = (neighbours - vectors[:, None]).astype(np.float64)
    lengths = np.linalg.norm(ways, axis=2) * there
    there &= lengths > _COPY * lengths.max(axis=1, keepdims=True, initial=0)
    there &= np.cumsum(there, axis=1) <= _NEIGHBOURS
    nearest = np.where(there, lengths, np.inf).min(axis=1, initial=np.inf)
    nearest[np.isinf(nearest)] = np.nan
    way = np.einsum("qn,qnd->qd", random.standard_normal(positions.shape) * there, ways)
    wide: NDArray[np.float64] = vectors.astype(np.float64)
    if source.metric is not Metric.COSINE:
        moved: NDArray[np.float64] = wide + nearest[:, None] * _unit(way)
        return moved
    # Move along the sphere until the chord has that length.
    cosine = np.clip(1 - nearest**2 / 2, -1, 1)[:, None]
    way -= np.einsum("qd,qd->q", way, wide)[:, None] * wide
    return _unit(cosine * wide + np.sqrt(1 - cosine**2) * _unit(way))


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    out: NDArray[np.float64] = vectors / np.maximum(lengths, 1e-30)
    return out


def _share(one: Tuned, other: Tuned, queries: Floats) -> float | None:
    """Return the time per query of one index relative to another's.

    It is the geometric mean for single queries and for a batch, which count equally: a graph that
    is somewhat faster for one query takes far longer for many.
    """
    if one.index is None or other.index is None:
        return None
    pair = [one.index, other.index]
    alone, of_other_alone = in_turns(pair, queries)
    many, of_other_many = batches_in_turns(pair, queries)
    ratios = (alone / max(of_other_alone, 1e-9), many / max(of_other_many, 1e-9))
    return math.sqrt(ratios[0] * ratios[1])


def _most_queries(rows: int) -> int:
    return min(_QUERIES, max(_LEAST_QUERIES, _TRUTH_VALUES // max(rows, 1)))
