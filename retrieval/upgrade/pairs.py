"""Pairs: the same documents, and queries if given, embedded in the old and the new space."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..bridges.maps import Floats
from ..values.errors import InputError

FEWEST = 20
"""With fewer pairs, nothing can be both fitted and measured."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """What bridges are fitted from and measured on.

    old, new:       f32[n, o] and f32[n, d]: the same documents, row by row, in both spaces.
    old_queries,
    new_queries:    f32[q, o] and f32[q, d]: queries in both spaces; None for none.
    old_metric,
    new_metric:     "cosine", "ip" or "l2": how the spaces compare vectors.
    """

    old: Floats
    new: Floats
    old_queries: Floats | None = None
    new_queries: Floats | None = None
    old_metric: str = "cosine"
    new_metric: str = "cosine"

    def __post_init__(self) -> None:
        if len(self.old) != len(self.new):
            raise InputError(
                f"pairs do not match: {len(self.old)} old and {len(self.new)} new documents"
            )
        old, new = (
            0 if given is None else len(given) for given in (self.old_queries, self.new_queries)
        )
        if old != new:
            raise InputError(f"pairs do not match: {old} old and {new} new queries")

    def __len__(self) -> int:
        return len(self.old)

    @property
    def unit(self) -> bool:
        """Whether new vectors have unit length."""
        return self.new_metric == "cosine"

    @property
    def queries(self) -> int:
        """The number of pairs of queries."""
        return 0 if self.new_queries is None else len(self.new_queries)

    def take(self, rows: NDArray[np.int64]) -> Pairs:
        """Return some of the pairs of documents, and all pairs of queries."""
        return replace(self, old=self.old[rows], new=self.new[rows])


def stacked(documents: Floats, queries: Floats | None) -> Floats:
    """Return the documents with the queries, if there are any, below them."""
    return documents if queries is None else np.concatenate([documents, queries])
