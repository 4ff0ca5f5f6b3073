"""What is true: the score of the k-th nearest row to each query, and recall against it.

Recall is worked out from the rows that a system names, never from the scores it claims. A row
counts as found if its true score is that of the k-th nearest or better, less a tolerance of
1e-6: of rows that are equally near, any will do (the definition of ann-benchmarks, with a
thousandth of its tolerance). A number that is no row, or is repeated, finds nothing. True scores
are kept beside the rows, so that recall is worked out again without the vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ...indexes.base import Floats, Metric
from ...retrieval.values.errors import DamagedError
from ..files import whole

TOLERANCE = 1e-6
_MARGIN = 64  # candidates beyond k, so that what float32 rounds off decides nothing
_BLOCK = 1 << 25  # scores held at once

Exact = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judged:
    """What a system's answers are worth.

    recall:    over all queries, the mean share of the k nearest that were found.
    missing:   numbers that were -1: fewer than k rows were named.
    invalid:   numbers that are no row of the base.
    repeated:  rows that stood before in the same answer.
    """

    recall: float
    missing: int
    invalid: int
    repeated: int


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Rows that answer queries, i[..., q, k], and their true scores, f64[..., q, k]."""

    rows: NDArray[np.integer]
    scores: Exact

    def save(self, path: Path) -> None:
        """Write both to a .npz file, the rows as int32 if they are that small.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        small = self.rows.astype(np.int32)
        rows = small if np.array_equal(small, self.rows) else self.rows
        with whole(path) as part, part.open("wb") as file:
            np.savez(file, rows=rows, scores=self.scores)

    @classmethod
    def load(cls, path: Path) -> Answers:
        """Return what `save` wrote.

        Raises:
            DamagedError: the file is missing, cut short or of something else.
        """
        try:
            with np.load(path) as found:
                return cls(found["rows"], found["scores"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise DamagedError(f"{path}: cannot be read ({error}); remove {path.parent}") from error


def nearest(
    base: Floats, queries: Floats, metric: Metric, k: int
) -> tuple[NDArray[np.int64], Exact]:
    """Return the k nearest rows to each query and their scores, best first; i64 and f64[q, k].

    base:    f32[n, dim], n at least k; read block by block.
    Scores are inner products or negative squared distances, of float64.
    """
    rows, count = len(base), min(len(base), k + _MARGIN)
    size = max(1, _BLOCK // len(queries))
    best = np.empty((len(queries), 0), np.float32)
    found = np.empty((len(queries), 0), np.int64)
    for start in range(0, rows, size):
        block = np.asarray(base[start : start + size])
        scores = queries @ block.T
        if metric is Metric.L2:
            scores = 2 * scores - np.einsum("ij,ij->i", block, block)
        numbers = np.broadcast_to(np.arange(start, start + len(block)), scores.shape)
        best, found = np.hstack((best, scores)), np.hstack((found, numbers))
        if best.shape[1] > count:
            kept = np.argpartition(-best, count - 1, axis=1)[:, :count]
            best, found = np.take_along_axis(best, kept, 1), np.take_along_axis(found, kept, 1)
    exact = true_scores(base, queries, found, metric)
    order = np.lexsort((found, -exact), axis=-1)[:, :k]
    return np.take_along_axis(found, order, 1), np.take_along_axis(exact, order, 1)


def true_scores(base: Floats, queries: Floats, rows: NDArray[np.int64], metric: Metric) -> Exact:
    """Return the score of each of the rows i64[q, m], every one of them a row of the base."""
    scores = np.empty(rows.shape, np.float64)
    for i, query in enumerate(queries.astype(np.float64)):
        vectors = base[rows[i]].astype(np.float64)
        if metric is Metric.L2:
            vectors -= query
            scores[i] = -np.einsum("ij,ij->i", vectors, vectors)
        else:
            scores[i] = vectors @ query
    return scores


def scored(base: Floats, queries: Floats, metric: Metric, answers: NDArray[np.integer]) -> Exact:
    """Return the true score of each of i[q, k] numbers, f64[q, k]; -inf for what is no row."""
    numbers = np.asarray(answers, np.int64)
    rows = (numbers >= 0) & (numbers < len(base))
    scores = true_scores(base, queries, np.where(rows, numbers, 0), metric)
    return np.where(rows, scores, -np.inf)


def judge(answers: NDArray[np.integer], scores: Exact, kth: Exact, rows: int) -> Judged:
    """Return what i[q, k] numbers are worth.

    scores: f64[q, k], of `scored`.
    kth:    f64[q], the true score of the k-th nearest row.
    rows:   how many the base has.
    """
    numbers = np.asarray(answers, np.int64)
    missing = numbers == -1
    invalid = ~missing & ((numbers < 0) | (numbers >= rows))
    repeated = _repeated(numbers) & ~missing & ~invalid
    slack = TOLERANCE * np.maximum(1, np.abs(kth))
    hits = ~missing & ~invalid & ~repeated & (scores >= (kth - slack)[:, None])
    return Judged(float(hits.mean()), int(missing.sum()), int(invalid.sum()), int(repeated.sum()))


def _repeated(numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which numbers occur earlier in their row, bool[q, k]."""
    order = np.argsort(numbers, axis=1, kind="stable")
    ordered = np.take_along_axis(numbers, order, axis=1)
    later = np.zeros(numbers.shape, bool)
    later[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    out = np.empty_like(later)
    np.put_along_axis(out, order, later, axis=1)
    return out
