"""Which indexes are worth building, by size, dimension, recall and memory.

The tuner builds all candidates, measures them with the same queries, and takes the fastest that
reaches the recall.
"""

from __future__ import annotations

from typing import Final

from ..base import Metric
from ..spec import IndexSpec

# Below this many values, comparing them all is as fast as searching an index.
_FEW_VALUES: Final = 2_000_000
# For the spectra of real embeddings, this many rotated dimensions make a good shortlist.
_LEAST_PREFIX: Final = 96
_SHARE: Final = 0.5
_MOST_PREFIX: Final = 256
_STEP: Final = 32
# A graph of 24 links has 48 at its lowest level, of 4 bytes each, and 24 bytes for the rest.
_LINK_BYTES: Final = 216
_ID_BYTES: Final = 8


def candidates(
    n: int, dim: int, metric: Metric, recall: float, memory: int | None = None
) -> list[IndexSpec]:
    """Return one or two specs for n vectors of `dim` dimensions, the most promising first.

    recall: the recall to reach, above 0; 1.0 or more is exact.
    memory: the most bytes that the index may take; None sets no limit.

    If nothing fits the memory, the smallest is returned.
    """
    flat = IndexSpec("flat")
    if recall >= 1.0 or n * dim <= _FEW_VALUES:
        return [flat]
    prefix = coarse_dim(dim)
    dims = () if prefix is None else (prefix,)
    kinds = ("ivfpq", "hnsw", "binary")
    specs = [IndexSpec(kind, dims if kind != "binary" else ()) for kind in kinds]
    if memory is None:
        return specs[:2]
    fitting = [spec for spec in specs if bytes_of(spec, n, dim) <= memory]
    return fitting[:2] or [min(specs, key=lambda spec: bytes_of(spec, n, dim))]


def coarse_dim(dim: int) -> int | None:
    """Return the prefix to make a shortlist on; None for the whole vector."""
    prefix = min(_MOST_PREFIX, max(_LEAST_PREFIX, round(dim * _SHARE / _STEP) * _STEP))
    return prefix if prefix < dim else None


def bytes_of(spec: IndexSpec, n: int, dim: int) -> int:
    """Return about how many bytes the index takes in a file, and in memory if all is in use."""
    stored = spec.dims[0] if spec.dims else dim
    match spec.kind:
        case "hnsw":
            return n * (stored + _LINK_BYTES)
        case "ivfpq":
            return n * (stored // 4 + _ID_BYTES)
        case "binary":
            return n * (-(-dim // 64) * 8)
    return n * dim * 4 if not spec.dims else n * stored
