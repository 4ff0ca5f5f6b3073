"""The modality gap: text and image vectors lie apart, and two numbers per query close the gap.

An encoder such as CLIP puts texts into one narrow cone and images into another (Liang et al.,
"Mind the Gap", 2022), so that for the query "a dog" every text scores above every image: a score
depends mostly on the modality of the vector. So the mean score of its modality, `query · mean`, is
subtracted from each score, and the difference is scaled to a common deviation. These are two
numbers per query and modality: the order within a modality stays, and across modalities a row
ranks by how much better it fits than is usual. docs/decisions/0008-modality-gap.md has figures.

The mean is over all vectors of a modality and space, in all segments. Each segment keeps the mean
of its own vectors in the manifest, so the mean over all stays right as segments are added, merged
or dropped; deleted rows count until a merge drops them. If another program wrote a segment without
a mean, it is estimated from a sample. The deviation of a query's scores is computed on an evenly
spread sample of the vectors.
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
"""About how many vectors of a modality a query's deviation is computed on."""
PRIOR = 10

Mean = NDArray[np.float64]
# The vectors of a segment f[n, dim], and their mean as its manifest keeps it.
Part = tuple[NDArray[Any], str | None]


def encode_mean(mean: NDArray[Any]) -> str:
    """Return a mean f[dim] as the manifest keeps it: little-endian float32 in base64."""
    return base64.b64encode(np.asarray(mean, "<f4").tobytes()).decode()


def decode_mean(text: str) -> Mean:
    """Return the mean that `encode_mean` encoded, f64[dim].

    Raises:
        ValueError: the text is not such an encoding.
    """
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float64)


class RunningMean:
    """The mean of vectors that come in parts."""

    def __init__(self, dim: int) -> None:
        self._total = np.zeros(dim)
        self._count = 0

    def over(self, parts: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Yield the parts f[n, dim] unchanged, adding them to the mean."""
        for part in parts:
            self._total += part.sum(axis=0, dtype=np.float64)
            self._count += len(part)
            yield part

    def encoded(self) -> str:
        """Return the mean of all parts so far, encoded for the manifest."""
        return encode_mean(self._total / max(self._count, 1))


@dataclass(frozen=True, slots=True, eq=False)
class ScoreStatistics:
    """The mean and covariance of the vectors of one space and modality.

    mean:       f64[dim].
    covariance: f64[dim, dim], of a sample of the vectors.
    rows:       the number of vectors.
    """

    mean: Mean
    covariance: NDArray[np.float64]
    rows: int

    def deviation(self, queries: NDArray[Any]) -> NDArray[np.float64]:
        """Return the standard deviation of the vectors' scores for each query, f64[q]."""
        asked = queries.astype(np.float64)
        squares = ((asked @ self.covariance) * asked).sum(axis=1)
        deviation: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0))
        return deviation


def score_statistics(segments: Sequence[Part]) -> ScoreStatistics:
    """Return the score statistics of all segments of one space and modality."""
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
    """Return f64[q], the factor that brings a modality's deviation to that of all modalities.

    every: the statistics of every modality of the space, including this one.

    The deviation of a few rows says little, so it counts by `rows / (rows + PRIOR)`.
    """
    squares = np.stack([each.deviation(queries) ** 2 for each in every])
    weights = np.array([min(each.rows, SPREAD) for each in every], np.float64)
    weights = np.minimum(weights, 10 * PRIOR)
    common = weights @ squares / weights.sum()
    square = own.deviation(queries) ** 2
    known = (square > 0) & (common > 0)  # a single row has no deviation
    ratio = np.divide(common, square, out=np.ones_like(common), where=known)
    scale: NDArray[np.float64] = ratio ** (0.5 * own.rows / (own.rows + PRIOR))
    return scale


def mean_of(segments: Sequence[Part]) -> Mean:
    """Return the mean of the vectors of all segments of one space and modality, f64[dim]."""
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
