"""Maps from one embedding space to another: frozen values that take vectors to vectors.

A map is what is left of a fit: numpy alone applies it, and `codec` writes it to an Arrow file.
How one is fitted from pairs is in `upgrade/fits.py`.
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
"""How many vectors are mapped at once: 64 MB at 256 dimensions, and two cores are kept busy."""


class Map(ABC):
    """Takes vectors of one space to another.

    Equal inputs give equal outputs to 1e-5 whatever else is in the block.
    """

    __slots__ = ()

    @abstractmethod
    def dims(self) -> tuple[int, int]:
        """Return the dimensions of what is mapped and of what comes out."""

    @property
    def source_dim(self) -> int:
        """The dimension of what is mapped."""
        return self.dims()[0]

    @property
    def target_dim(self) -> int:
        """The dimension of what comes out."""
        return self.dims()[1]

    @abstractmethod
    def apply(self, vectors: Floats) -> Floats:
        """Return f32[n, target_dim] for f32[n, source_dim]; finite where those are."""

    def raw(self) -> Map:
        """Return the same map without the unit length that it may end with."""
        return self

    def blocks(self, vectors: NDArray[np.floating], size: int = BLOCK) -> Iterator[Floats]:
        """Yield `apply` over blocks of [n, source_dim], of any float type, in order.

        vectors: may be mapped from a file; one block of it is in memory at a time.
        """
        for start in range(0, len(vectors), size):
            yield self.apply(np.ascontiguousarray(vectors[start : start + size], np.float32))


@dataclass(frozen=True, slots=True)
class Identity(Map):
    """Leaves vectors as they are, or keeps their first `kept` dimensions as they are.

    dim:  the dimension of what is mapped.
    kept: how many of the first dimensions come out.
    unit: whether they get unit length again, as a Matryoshka prefix does.
    """

    dim: int
    kept: int
    unit: bool = False

    def dims(self) -> tuple[int, int]:
        """Return the dimensions of what is mapped and of what comes out."""
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
    unit:   whether rows get unit length.
    """

    weight: Floats
    bias: Floats
    unit: bool = False

    def dims(self) -> tuple[int, int]:
        """Return the dimensions of what is mapped and of what comes out."""
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
    """Gives vectors of unit length less length the more they resemble everything.

    Some mapped vectors lie near very many queries whatever those ask ("hubs"; Conneau et al.,
    "Word Translation Without Parallel Data", ICLR 2018, correct for them by what a vector's nearest
    neighbours in the other space score on average). Here that mean, to a power, divides the vector,
    so that mapped vectors stay vectors and are compared by inner product.

    inner:   ends in unit length.
    anchors: f32[a, target_dim], new vectors where queries are compared with mapped ones.
    nearest: how many of them are averaged.
    power:   how much it counts.
    """

    inner: Map
    anchors: Floats
    nearest: int
    power: float

    def dims(self) -> tuple[int, int]:
        """Return the dimensions of what is mapped and of what comes out."""
        return self.inner.dims()

    def raw(self) -> Map:
        """Return the map inside without the unit length that it ends with."""
        return self.inner.raw()

    def apply(self, vectors: Floats) -> Floats:
        """Return f32[n, target_dim]."""
        mapped = self.inner.apply(vectors)
        lengths: Floats = self._usual(mapped) ** -self.power
        return mapped * lengths[:, None]

    def usual(self, vectors: Floats) -> Floats:
        """Return f32[n], what each mapped vector's nearest anchors score on average, 0.1 or more.

        vectors: f32[n, source_dim].
        """
        return self._usual(self.inner.apply(vectors))

    def _usual(self, mapped: Floats) -> Floats:
        out = np.empty(len(mapped), np.float32)
        for start in range(0, len(mapped), _ROWS):
            scores = mapped[start : start + _ROWS] @ self.anchors.T
            scores.partition(scores.shape[1] - self.nearest, axis=1)
            out[start : start + _ROWS] = scores[:, -self.nearest :].mean(axis=1)
        # What resembles next to nothing is no hub, and must not get great length.
        return np.maximum(out, _LEAST, out=out)


_ROWS = 2_048  # vectors and their scores by all anchors stay in the cache
_LEAST = 0.1


def unit_rows(vectors: Floats, *, inplace: bool = False) -> Floats:
    """Return rows of unit length; a zero row stays zero."""
    norms: Floats = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    norms[norms == 0] = 1
    out: Floats = np.divide(vectors, norms, out=vectors if inplace else None)
    return out


def similarities(queries: Floats, documents: Floats, metric: str) -> Floats:
    """Return f32[q, n], higher is better: inner products, or negative squared distances for l2."""
    found: Floats = queries @ documents.T
    if metric != "l2":
        return found
    lengths = np.einsum("ij,ij->i", documents, documents)
    mine = np.einsum("ij,ij->i", queries, queries)[:, None]
    found = 2 * found - lengths - mine
    return found
