"""The modality gap: vectors of texts and of images lie apart, and one number a query closes it.

An encoder such as CLIP puts texts into one narrow cone and images into another (Liang et al.,
"Mind the Gap", 2022), so that for the query "a dog" every text scores above every image. Which
modality a vector comes from is most of what its score says. So from each score the mean score of
its modality is taken, `query · mean`, which is one number a query and modality: within a modality
nothing changes places, and across them what is left is how much better than usual a row fits.

The mean belongs to the space: it is that of all vectors of a modality, over all segments. Each
segment keeps the mean of its own vectors in the manifest, so that whoever adds, merges or drops
segments keeps the whole right without knowing of it; rows that are deleted count until a merge
leaves them out. A segment without one, of another writer, has it estimated from a sample.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .segment import DenseSegment

SAMPLED = 4096

Mean = NDArray[np.float64]


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


def mean_of(segments: Sequence[DenseSegment]) -> Mean:
    """Return f64[dim], the mean of the vectors of all segments of one space and modality."""
    rows = sum(len(segment) for segment in segments)
    total = np.zeros(segments[0].matrix.shape[1])
    for segment in segments:
        total += len(segment) * _mean(segment)
    return total / max(rows, 1)


def _mean(segment: DenseSegment) -> Mean:
    if segment.entry.mean is not None:
        return decode_mean(segment.entry.mean)
    step = -(-len(segment) // SAMPLED)
    mean: Mean = segment.matrix[::step].mean(axis=0, dtype=np.float64)
    return mean
