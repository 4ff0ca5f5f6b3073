"""The modality gap: vectors of texts and of images lie apart, and two numbers a query close it.

An encoder such as CLIP puts texts into one narrow cone and images into another (Liang et al.,
"Mind the Gap", 2022), so that for the query "a dog" every text scores above every image. Which
modality a vector comes from is most of what its score says. So from each score the mean score of
its modality is taken, `query · mean`, and what is left is brought to the same deviation. These are
two numbers a query and modality: within a modality nothing changes places, and across them what
counts is how much better than usual a row fits. docs/decisions/0008-modality-gap.md has figures.

The mean belongs to the space: it is that of all vectors of a modality, over all segments. Each
segment keeps the mean of its own vectors in the manifest, so that whoever adds, merges or drops
segments keeps the whole right without knowing of it; rows that are deleted count until a merge
leaves them out. A segment without one, of another writer, has it estimated from a sample. How far
the scores of a query deviate is worked out on a sample of the vectors, evenly spread.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLED = 4096
SPREAD = 2048
"""Vectors of a modality that a query's deviation is worked out on, about."""
PRIOR = 10

Mean = NDArray[np.float64]
# The vectors of a segment f[n, dim], and their mean as its manifest keeps it.
Part = tuple[NDArray[Any], str | None]


def encode_mean(mean: NDArray[Any]) -> str:
    """Return a mean f[dim] as the manifest keeps it: little-endian float32 in base64."""
    return base64.b64encode(np.asarray(mean, "<f4").tobytes()).decode()


def decode_mean(text: str) -> Mean:
    """Return f64[dim] of what `encode_mean` made.

    Raises:
        ValueError: it is nothing that it makes.
    """
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float64)


class RunningMean:
    """The mean of vectors that come in parts."""

    def __init__(self, dim: int) -> None:
        self._total = np.zeros(dim)
        self._count = 0

    def over(self, parts: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Yield the parts f[n, dim] as they come, and add them up."""
        for part in parts:
            self._total += part.sum(axis=0, dtype=np.float64)
            self._count += len(part)
            yield part

    def encoded(self) -> str:
        """Return the mean of all that has come, for the manifest."""
        return encode_mean(self._total / max(self._count, 1))


@dataclass(frozen=True, slots=True, eq=False)
class ScoreStatistics:
    """What is usual for the vectors of one space and modality.

    mean:       f64[dim].
    covariance: f64[dim, dim], of a sample of the vectors.
    rows:       how many vectors there are.
    """

    mean: Mean
    covariance: NDArray[np.float64]
    rows: int

    def deviation(self, queries: NDArray[Any]) -> NDArray[np.float64]:
        """Return f64[q], the deviation of what the vectors score for each query."""
        asked = queries.astype(np.float64)
        squares = ((asked @ self.covariance) * asked).sum(axis=1)
        deviation: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0))
        return deviation


def score_statistics(segments: Sequence[Part]) -> ScoreStatistics:
    """Return how scores lie in all segments of one space and modality."""
    rows = sum(len(matrix) for matrix, _ in segments)
    step = -(-rows // SPREAD)
    parts = [matrix[::step].astype(np.float32) for matrix, _ in segments]
    sample = np.concatenate(parts)
    sample -= sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    covariance = (sample.T @ sample).astype(np.float64) / len(sample)
    return ScoreStatistics(mean_of(segments), covariance, rows)


def evened(
    own: ScoreStatistics, every: Sequence[ScoreStatistics], queries: NDArray[Any]
) -> NDArray[np.float64]:
    """Return f64[q]: what makes the deviation of a modality's scores that of all modalities.

    every: those of every modality of the space, this one too. The deviation of a few
            rows says little, so it counts by `rows / (rows + PRIOR)`.
    """
    squares = np.stack([each.deviation(queries) ** 2 for each in every])
    weights = np.array([min(each.rows, SPREAD) for each in every], np.float64)
    weights = np.minimum(weights, 10 * PRIOR)
    common = weights @ squares / weights.sum()
    square = own.deviation(queries) ** 2
    known = (square > 0) & (common > 0)  # a single row deviates from nothing
    ratio = np.divide(common, square, out=np.ones_like(common), where=known)
    scale: NDArray[np.float64] = ratio ** (0.5 * own.rows / (own.rows + PRIOR))
    return scale


def mean_of(segments: Sequence[Part]) -> Mean:
    """Return f64[dim], the mean of the vectors of all segments of one space and modality."""
    rows = sum(len(matrix) for matrix, _ in segments)
    total = np.zeros(segments[0][0].shape[1])
    for matrix, mean in segments:
        total += len(matrix) * _mean(matrix, mean)
    return total / max(rows, 1)


def _mean(matrix: NDArray[Any], kept: str | None) -> Mean:
    if kept is not None:
        return decode_mean(kept)
    step = -(-len(matrix) // SAMPLED)
    mean: Mean = matrix[::step].mean(axis=0, dtype=np.float64)
    return mean
