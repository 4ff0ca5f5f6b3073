"""Coarse-to-fine search over prefixes: what an index stores of a vector, and how it is computed.

A shortlist is made on a prefix of each vector; longer prefixes and the whole vector re-rank it
(Kusupati et al., Matryoshka Representation Learning, 2022, section 4.3). The prefix is taken from
the unchanged vector, if its encoder was trained for that, or from the vector after an orthogonal
rotation to the eigenvectors of X'X, whose prefixes preserve most of every inner product (Eckart
and Young, 1936). The vectors are not centred, because that would change the ranking by inner
product. Which of the two is better is measured on a sample.

The prefix may be stored as int8. A second, random rotation within the prefix spreads its values
evenly, so that one scale serves them all; it changes no inner product.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..base import Floats, Metric
from ..faiss import load_faiss

_LEVELS: Final = 127  # of int8, on each side of zero
_INSIDE: Final = 0.9999  # the share of a sample that int8's range covers, for L2
_PILOT_ROWS: Final = 8192
_PILOT_QUERIES: Final = 256
_PILOT_KEPT: Final = 30
_GAIN: Final = 0.005


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Maps a vector to what an index stores of it, preserving inner products and distances.

    matrix:    f32[out, dim], orthonormal rows, padded with rows of zeros.
    normalise: whether the prefix is scaled to unit length, for cosine.
    scale:     the factor that makes the values fit int8; 0.0 if they are stored as floats.
    """

    matrix: Floats
    normalise: bool
    scale: float
    metric: Metric

    @property
    def dim(self) -> int:
        """The number of values stored for a vector."""
        return len(self.matrix)

    def codes(self, vectors: Floats) -> Floats:
        """Return the values to store, f32[n, out]; whole numbers from -127 to 127 for int8."""
        out: Floats = vectors @ self.matrix.T
        if self.normalise:
            out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-30)
        if self.scale:
            out *= np.float32(self.scale)
            _round(out)
        return np.ascontiguousarray(out)

    def fit_queries(self, projected: Floats) -> Floats:
        """Convert queries already multiplied by the matrix, f32[q, out], to codes, in place.

        The ranking by inner product does not depend on a query's length, so each query uses the
        whole range of int8.
        """
        if self.scale:
            if self.metric is Metric.L2:
                projected *= np.float32(self.scale)
                _round(projected)
            else:
                largest = np.abs(projected).max(axis=1, keepdims=True)
                projected *= _LEVELS / np.maximum(largest, 1e-30)
                np.rint(projected, out=projected)
        return projected

    def fit_query(self, projected: Floats, at_projected: Any, at_zeros: Any) -> None:
        """Do the same for one query, in calls that take a third of the time.

        projected:    f32[1, out], at the address `at_projected`.
        at_zeros:     the address of `out` zeros.
        """
        if not self.scale or self.metric is Metric.L2:
            self.fit_queries(projected)
            return
        faiss = load_faiss()
        largest = faiss.fvec_Linf(at_projected, at_zeros, self.dim)
        faiss.fvec_madd(
            self.dim, at_zeros, _LEVELS / max(largest, 1e-30), at_projected, at_projected
        )
        np.rint(projected, out=projected)

    def chain(self) -> list[Any]:
        """Return the projection as FAISS transforms, in the order to apply them."""
        faiss = load_faiss()
        first = linear(self.matrix)
        first.set_is_orthonormal()
        parts = [first]
        if self.normalise:
            parts.append(faiss.NormalizationTransform(self.dim))
        if self.scale:
            scaling = np.eye(self.dim, dtype=np.float32) * np.float32(self.scale)
            parts.append(linear(scaling))
        return parts

    @classmethod
    def of_chain(cls, chain: Any, metric: Metric) -> Projection:
        """Return the projection that `chain` wrote, from the chain of an `IndexPreTransform`.

        Raises:
            ValueError: `chain` did not write it.
        """
        faiss = load_faiss()
        parts = [faiss.downcast_VectorTransform(chain.at(i)) for i in range(chain.size())]
        if not parts or not isinstance(parts[0], faiss.LinearTransform):
            raise ValueError("it does not start with a linear transform")
        first, *others = parts
        matrix = faiss.vector_to_array(first.A).reshape(first.d_out, first.d_in)
        normalise = bool(others) and isinstance(others[0], faiss.NormalizationTransform)
        others = others[1:] if normalise else others
        if len(others) > 1:
            raise ValueError("it has too many transforms")
        scale = float(faiss.vector_to_array(others[0].A)[0]) if others else 0.0
        return cls(np.ascontiguousarray(matrix), normalise, scale, metric)


def fit(
    sample: Floats, metric: Metric, kept: int, rotation: bool | None, *, int8: bool, step: int
) -> Projection:
    """Return the projection for vectors from a sample of them, f32[m, dim], with m above 0.

    kept:     how many dimensions are kept.
    rotation: whether to rotate first; None measures which is better.
    int8:     whether the values are stored as int8.
    step:     the number of values is padded to a multiple of this, for which FAISS may have
              faster code; the zeros change no score.
    """
    dim = sample.shape[1]
    normalise = metric is Metric.COSINE and kept < dim

    def made(basis: Floats) -> Projection:
        matrix = np.zeros((-(-kept // step) * step, dim), np.float32)
        matrix[:kept] = basis
        floats = Projection(matrix, normalise, 0.0, metric)
        return replace(floats, scale=_scale(floats.codes(sample), metric)) if int8 else floats

    as_it_is = np.eye(kept, dim, dtype=np.float32)
    if rotation is False:
        return made(as_it_is)
    rotated = made(principal(sample, kept))
    if rotation:
        return rotated
    plain = made(as_it_is)
    return rotated if _pilot(rotated, sample) > _pilot(plain, sample) + _GAIN else plain


def principal(sample: Floats, kept: int) -> Floats:
    """Return a randomly rotated basis of the leading eigenvectors of X'X, f32[kept, dim]."""
    moments = np.zeros((sample.shape[1],) * 2)
    for start in range(0, len(sample), 1 << 14):
        wide = sample[start : start + (1 << 14)].astype(np.float64)
        moments += wide.T @ wide
    _, vectors = np.linalg.eigh(moments)
    mixed, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((kept, kept)))
    basis: NDArray[np.float64] = mixed @ vectors[:, ::-1][:, :kept].T
    return np.ascontiguousarray(basis, np.float32)


def rerank_prefix(
    vectors: Floats, query: Floats, metric: Metric, positions: NDArray[np.int64], kept: int
) -> NDArray[np.int64]:
    """Return the `kept` best of `positions` for one query, scored on a prefix.

    vectors: f32[len(positions), prefix], the prefixes of the vectors at `positions`.
    query:   f32[prefix].
    """
    scores = vectors @ query
    if metric is Metric.L2:
        scores -= np.einsum("ij,ij->i", vectors, vectors) / 2
    elif metric is Metric.COSINE:
        scores /= np.maximum(np.linalg.norm(vectors, axis=1), 1e-30)
    if kept >= len(positions):
        return positions
    return positions[np.argpartition(scores, len(scores) - kept)[-kept:]]


def _scale(values: Floats, metric: Metric) -> float:
    """Return the factor that makes the values fit int8; for L2, outliers may be clipped.

    By inner product the longest vectors win, so they must fit.
    """
    largest = np.abs(values).max(axis=1)
    bound = np.quantile(largest, _INSIDE) if metric is Metric.L2 else largest.max()
    return _LEVELS / max(float(bound), 1e-30)


def _round(values: Floats) -> None:
    np.rint(values, out=values)
    np.clip(values, -_LEVELS, _LEVELS, out=values)


def linear(matrix: Floats) -> Any:
    """Return multiplication by a matrix, f32[out, dim], as a FAISS transform."""
    faiss = load_faiss()
    out, dim = matrix.shape
    transform = faiss.LinearTransform(dim, out, False)
    faiss.copy_array_to_vector(matrix.ravel(), transform.A)
    transform.is_trained = True
    return transform


def _pilot(projection: Projection, sample: Floats) -> float:
    """Return the share of the true best ten that the projection's shortlist contains."""
    queries = sample[:: max(1, len(sample) // _PILOT_QUERIES)][:_PILOT_QUERIES]
    base = sample[:_PILOT_ROWS]
    kept = min(_PILOT_KEPT, len(base))
    top = min(10, kept)
    true = _best(base, queries, projection.metric, top)
    found = _best(
        projection.codes(base),
        projection.fit_queries(queries @ projection.matrix.T),
        projection.metric,
        kept,
    )
    return float((true[:, :, None] == found[:, None, :]).any(axis=2).mean())


def _best(base: Floats, queries: Floats, metric: Metric, kept: int) -> NDArray[np.intp]:
    scores = queries @ base.T
    if metric is Metric.L2:
        scores -= np.einsum("ij,ij->i", base, base) / 2
    return np.argpartition(scores, scores.shape[1] - kept, axis=1)[:, -kept:]
