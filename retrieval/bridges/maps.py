"""Maps from one embedding space to another: frozen values that turn vectors into vectors.

A map is the result of a fit. Applying it needs only numpy, and `codec` writes it to an Arrow file.
`retrieval.upgrade` fits maps from pairs: of queries from new to old, and of stored vectors from
old to new.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

BLOCK = 65_536
"""How many vectors are mapped at once: 64 MB at 256 dimensions, enough for two busy cores."""


class Map(ABC):
    """Maps vectors of one space to another.

    Equal inputs give equal outputs to 1e-5, whatever else is in the block.
    """

    __slots__ = ()

    @abstractmethod
    def dims(self) -> tuple[int, int]:
        """Return the dimensions of the input and of the output vectors."""

    @property
    def source_dim(self) -> int:
        """The dimension of the input vectors."""
        return self.dims()[0]

    @property
    def target_dim(self) -> int:
        """The dimension of the output vectors."""
        return self.dims()[1]

    @abstractmethod
    def apply(self, vectors: Floats) -> Floats:
        """Return f32[n, target_dim] for f32[n, source_dim]; finite if the input is."""

    def raw(self) -> Map:
        """Return the same map without its final normalisation, if it has one."""
        return self

    def blocks(self, vectors: NDArray[np.floating], size: int = BLOCK) -> Iterator[Floats]:
        """Yield `apply` over blocks of [n, source_dim], of any float type, in order.

        vectors: may be memory-mapped; only one block is in memory at a time.
        """
        for start in range(0, len(vectors), size):
            yield self.apply(np.ascontiguousarray(vectors[start : start + size], np.float32))


@dataclass(frozen=True, slots=True)
class Identity(Map):
    """Keeps vectors unchanged, or only their first `kept` dimensions.

    dim:  the dimension of the input vectors.
    kept: how many of the first dimensions to keep.
    unit: whether to normalise the result, as for a Matryoshka prefix.
    """

    dim: int
    kept: int
    unit: bool = False

    def dims(self) -> tuple[int, int]:
        """Return the dimensions of the input and of the output vectors."""
        return self.dim, self.kept

    def apply(self, vectors: Floats) -> Floats:
        """Return f32[n, target_dim]."""
        out: Floats = vectors[:, : self.kept]
        return unit_rows(out) if self.unit else out


@dataclass(frozen=True, slots=True, eq=False)
class Linear(Map):
    """vectors @ weight + bias.

    weight: f32[source_dim, target_dim].
    bias:   f32[target_dim].
    unit:   whether to normalise the result.
    """

    weight: Floats
    bias: Floats
    unit: bool = False

    def dims(self) -> tuple[int, int]:
        """Return the dimensions of the input and of the output vectors."""
        return self.weight.shape[0], self.weight.shape[1]

    def raw(self) -> Linear:
        """Return the same map without the unit length that it may end with."""
        return replace(self, unit=False)

    def apply(self, vectors: Floats) -> Floats:
        """Return f32[n, target_dim]."""
        out = vectors @ self.weight
        out += self.bias
        return unit_rows(out, inplace=True) if self.unit else out


@dataclass(frozen=True, slots=True, eq=False)
class Hubless(Map):
    """Shortens unit vectors the more they resemble everything.

    Some mapped vectors lie near very many queries, whatever those ask ("hubs"). Conneau et al.,
    "Word Translation Without Parallel Data", ICLR 2018, correct for them by a vector's mean score
    with its nearest neighbours in the other space. Here a power of that mean divides the vector, so
    that the results are still vectors, compared by inner product.

    inner:   the map before; its vectors have unit length.
    anchors: f32[a, target_dim], new vectors in the space where queries and mapped vectors are
             compared.
    nearest: how many of the nearest anchors to average.
    power:   the power of the mean; a larger one corrects more.
    """

    inner: Map
    anchors: Floats
    nearest: int
    power: float

    def dims(self) -> tuple[int, int]:
        """Return the dimensions of the input and of the output vectors."""
        return self.inner.dims()

    def raw(self) -> Map:
        """Return the inner map without its final normalisation."""
        return self.inner.raw()

    def apply(self, vectors: Floats) -> Floats:
        """Return f32[n, target_dim]."""
        mapped = self.inner.apply(vectors)
        lengths: Floats = self._neighbour_scores(mapped) ** -self.power
        return mapped * lengths[:, None]

    def neighbour_scores(self, vectors: Floats) -> Floats:
        """Return each mapped vector's mean score with its nearest anchors, f32[n], at least 0.1.

        vectors: f32[n, source_dim].
        """
        return self._neighbour_scores(self.inner.apply(vectors))

    def _neighbour_scores(self, mapped: Floats) -> Floats:
        out = np.empty(len(mapped), np.float32)
        for start in range(0, len(mapped), _ROWS):
            scores = mapped[start : start + _ROWS] @ self.anchors.T
            scores.partition(scores.shape[1] - self.nearest, axis=1)
            out[start : start + _ROWS] = scores[:, -self.nearest :].mean(axis=1)
        # A vector that resembles almost nothing is no hub, and must not become very long.
        return np.maximum(out, _LEAST, out=out)


_ROWS = 2_048  # vectors whose scores with all anchors fit in the cache
_LEAST = 0.1


def unit_rows(vectors: Floats, *, inplace: bool = False) -> Floats:
    """Return rows of unit length; a zero row stays zero."""
    norms: Floats = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    norms[norms == 0] = 1
    out: Floats = np.divide(vectors, norms, out=vectors if inplace else None)
    return out


def similarities(queries: Floats, documents: Floats, metric: str) -> Floats:
    """Return similarities f32[q, n]: inner products, or negative squared distances for "l2"."""
    found: Floats = queries @ documents.T
    if metric != "l2":
        return found
    lengths = np.einsum("ij,ij->i", documents, documents)
    mine = np.einsum("ij,ij->i", queries, queries)[:, None]
    found = 2 * found - lengths - mine
    return found
