"""Maps that no upgrade chooses from, measured beside those that it does.

Of low rank, with a hidden layer, and BT²'s change of basis: values as those of
`retrieval.bridges.maps`, and the closed forms that fit them. What torch fits is in `gradient`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...retrieval.bridges.maps import Floats, Linear, Map, unit_rows


@dataclass(frozen=True, slots=True, eq=False)
class LowRank(Map):
    """vectors @ left @ right + bias: a linear map of few dimensions in between.

    left:  f32[source_dim, rank].
    right: f32[rank, target_dim].
    bias:  f32[target_dim].
    unit:  whether rows get unit length.
    """

    left: Floats
    right: Floats
    bias: Floats
    unit: bool = False

    def dims(self) -> tuple[int, int]:
        """Return the dimensions of what is mapped and of what comes out."""
        return self.left.shape[0], self.right.shape[1]

    def raw(self) -> LowRank:
        """Return the same map without the unit length that it may end with."""
        return replace(self, unit=False)

    def apply(self, vectors: Floats) -> Floats:
        """Return f32[n, target_dim]."""
        inner: Floats = vectors @ self.left
        out: Floats = inner @ self.right
        out += self.bias
        return unit_rows(out, inplace=True) if self.unit else out


def low_rank(linear: Linear, source: Floats, target: Floats, rank: int) -> LowRank:
    """Return the best map of a rank: a ridge, cut where its predictions vary least.

    Reduced-rank regression (Izenman, 1975): the predictions for the pairs are projected on their
    first `rank` principal directions.

    linear:         the ridge that was fitted on these pairs.
    source, target: f32[n, s] and f32[n, t], the pairs.
    """
    x, weight = source.astype(np.float64), linear.weight.astype(np.float64)
    predicted = (x - x.mean(axis=0)) @ weight
    _, vectors = np.linalg.eigh(predicted.T @ predicted)
    right = vectors[:, ::-1][:, :rank].T
    mean = target.astype(np.float64).mean(axis=0)
    bias = mean + (linear.bias - mean) @ right.T @ right
    left = weight @ right.T
    return LowRank(
        left.astype(np.float32), right.astype(np.float32), bias.astype(np.float32), linear.unit
    )


@dataclass(frozen=True, slots=True, eq=False)
class ResidualMlp(Map):
    """A linear map and a correction to it by one hidden layer.

    vectors @ weight + bias + relu(vectors @ hidden + hidden_bias) @ out.

    weight: f32[source_dim, target_dim]; bias: f32[target_dim].
    hidden: f32[source_dim, h]; hidden_bias: f32[h]; out: f32[h, target_dim].
    unit:   whether rows get unit length.
    """

    weight: Floats
    bias: Floats
    hidden: Floats
    hidden_bias: Floats
    out: Floats
    unit: bool = False

    def dims(self) -> tuple[int, int]:
        """Return the dimensions of what is mapped and of what comes out."""
        return self.weight.shape[0], self.weight.shape[1]

    def raw(self) -> ResidualMlp:
        """Return the same map without the unit length that it may end with."""
        return replace(self, unit=False)

    def apply(self, vectors: Floats) -> Floats:
        """Return f32[n, target_dim]."""
        inner = np.maximum(vectors @ self.hidden + self.hidden_bias, 0)
        out: Floats = vectors @ self.weight + self.bias + inner @ self.out
        return unit_rows(out, inplace=True) if self.unit else out


@dataclass(frozen=True, slots=True, eq=False)
class Dilation(Map):
    """BT²'s orthonormal basis transformation with extra dimensions, from a linear map.

    With A scaled to spectral norm at most 1, V = [A, (I - AA')^(1/2)] has VV' = I. New vectors
    become Phi(x) = xV and old ones Psi(y) = [y, 0]: inner products of new with new are as they
    were, and those of new with old are what the linear map gives, up to `norm`. (Zhou et al.,
    "BT²: Backward-compatible Training with Basis Transformation", ICCV 2023; the form by dilation
    is Halmos's.) As a `Map` it is the first block of Phi: what a query needs for an old segment.

    basis: f32[new, old + new], V.
    norm:  what A was divided by.
    old:   the dimension of the old space.
    """

    basis: Floats
    norm: float
    old: int

    def dims(self) -> tuple[int, int]:
        """Return the dimensions of what is mapped and of what comes out."""
        return self.basis.shape[0], self.old

    @property
    def extra(self) -> int:
        """How many dimensions new vectors have beside the old ones: singular values below 1."""
        return int(self.basis.shape[1]) - self.old

    def apply(self, vectors: Floats) -> Floats:
        """Return f32[n, target_dim]."""
        out: Floats = vectors @ self.basis[:, : self.old]
        return out

    def phi(self, new: Floats) -> Floats:
        """Return new vectors in the common space, f32[n, old + extra]."""
        out: Floats = new @ self.basis
        return out

    def psi(self, old: Floats) -> Floats:
        """Return old vectors in the common space, f32[n, old + extra]."""
        return np.pad(np.asarray(old, np.float32), ((0, 0), (0, self.extra)))


def dilate(linear: Linear) -> Dilation:
    """Return BT²'s form of a linear map from new to old; its bias, which no basis has, is left out.

    The spectral norm of the map is brought to at most 1: scores with old vectors are divided by
    `norm`, which changes no ranking among them.
    """
    weight = linear.weight.astype(np.float64)
    u, values, v = np.linalg.svd(weight, full_matrices=True)
    norm = max(1.0, float(values[0]))
    kept = np.zeros(len(weight))
    kept[: len(values)] = values / norm
    first = u[:, : len(values)] * kept[: len(values)] @ v[: len(values)]
    # (I - AA')^(1/2), of which only the directions with a singular value below 1 are kept.
    rest = np.sqrt(np.maximum(0.0, 1.0 - kept**2))
    extra = u[:, rest > _FLAT] * rest[rest > _FLAT]
    basis = np.concatenate([first, extra], axis=1).astype(np.float32)
    return Dilation(basis, norm, int(weight.shape[1]))


_FLAT = 1e-3  # of the length of a direction: its square is below what float32 tells apart
