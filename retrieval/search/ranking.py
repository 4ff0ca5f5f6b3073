"""Rankers: each ranks the segments of its role one by one, then merges their hits.

A search uses a ranker of vectors, a ranker of words, or both. `rankers.py` has the first,
`words.py` the second and the fusion of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..store.shards import Rows
from ..values.fusion import Scores


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The hits of one query, best first.

    rows:   i64[n].
    scores: f64[n], descending; rows with equal scores are in ascending order.
    """

    rows: Rows
    scores: Scores


NOTHING = Ranking(np.empty(0, np.int64), np.empty(0, np.float64))


class Ranker(Protocol):
    """Ranks the rows of a snapshot for a block of queries, which it knows by number."""

    @property
    def segments(self) -> Sequence[Any]:
        """The segments to rank, in the order that is fastest for this ranker."""
        ...

    def rank(self, segment: Any, queries: Sequence[int], k: int, before: Sequence[Any]) -> Any:
        """Return the best k rows of one segment for each query, in the form that `merge` takes.

        before: what the earlier segments returned, so that rows they beat can be left out.
        """
        ...

    def merge(self, found: Sequence[Any], queries: Sequence[int], k: int) -> list[Ranking]:
        """Return the best k rows of all segments for each query."""
        ...

    def scores(self, query: int, rows: Rows) -> Scores:
        """Return the score of each row for one query, f64[len(rows)]."""
        ...

    def near(self, query: int, row: int, rows: Rows) -> Scores | None:
        """Return the scores of rows for the vector of one row, f64[len(rows)].

        None if the ranker has no vectors.
        """
        ...

    def pool_of(self, ranking: Ranking) -> Scores:
        """Return the scores, descending, that normalise this ranking before fusion."""
        ...

    def wordless(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which of these rows (ascending) have no searchable words, bool[n]."""
        ...

    def held(self, query: int, row: int) -> list[str]:
        """Return the terms of a query that a row contains; empty for a ranker of vectors."""
        ...

    def found_by(self, query: int, rows: Rows) -> list[str | None]:
        """Return for each row the modality whose vector scores best; None if there is only one."""
        ...


class Answer(Protocol):
    """How to answer queries of one kind: which rankers, and how to fuse their rankings."""

    @property
    def rankers(self) -> Sequence[Ranker]:
        """The rankers to use."""
        ...

    def depth(self, k: int) -> int:
        """Return how many rows each ranker must find for k hits."""
        ...

    def fuse(
        self, queries: Sequence[int], merged: Sequence[Sequence[Ranking]], k: int
    ) -> list[Ranking]:
        """Return the best k rows of each query from the merged rankings of each ranker."""
        ...


class Alone:
    """The answer of a single ranker, with nothing to fuse."""

    def __init__(self, ranker: Ranker) -> None:
        self.rankers = (ranker,)

    def depth(self, k: int) -> int:
        """Return k."""
        return k

    def fuse(
        self, queries: Sequence[int], merged: Sequence[Sequence[Ranking]], k: int
    ) -> list[Ranking]:
        """Return the ranker's merged rankings."""
        return list(merged[0])


def best(rows: Rows, scores: Scores, k: int) -> Ranking:
    """Return the k best rows; rows with equal scores are in ascending order."""
    order = np.lexsort((rows, -scores))[:k]
    return Ranking(rows[order], scores[order])
