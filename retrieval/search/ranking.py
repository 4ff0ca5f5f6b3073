"""What ranks rows: a ranker ranks each segment of its role, and merges what they found.

A search has a ranker of vectors, one of words, or both; `rankers.py` has the first, `words.py` the
other and the fusion of the two.
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
    scores: f64[n], descending; equal scores stand in ascending order of their rows.
    """

    rows: Rows
    scores: Scores


NOTHING = Ranking(np.empty(0, np.int64), np.empty(0, np.float64))


class Ranker(Protocol):
    """Ranks the rows of a snapshot for the queries of a block, which it knows by their numbers."""

    @property
    def segments(self) -> Sequence[Any]:
        """The segments to rank, in the order in which it does best."""
        ...

    def rank(self, segment: Any, queries: Sequence[int], k: int, before: Sequence[Any]) -> Any:
        """Return the best k rows of one segment for each query, in a form that `merge` takes.

        before: what the segments before it gave, so that what they beat can be left out.
        """
        ...

    def merge(self, found: Sequence[Any], queries: Sequence[int], k: int) -> list[Ranking]:
        """Return the best k rows of all segments for each query."""
        ...

    def scores(self, query: int, rows: Rows) -> Scores:
        """Return the score of each row for one query, f64[len(rows)]."""
        ...

    def near(self, query: int, row: int, rows: Rows) -> Scores | None:
        """Return how rows score for the vector of one row, f64[len(rows)].

        None if the ranker has no vectors.
        """
        ...

    def pool_of(self, ranking: Ranking) -> Scores:
        """Return the scores, descending, that scores are normalised by before they are fused."""
        ...

    def wordless(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which of some rows (ascending) have no words that could be found, bool[n]."""
        ...

    def held(self, query: int, row: int) -> list[str]:
        """Return the terms of a query that a row holds; none for a ranker of vectors."""
        ...

    def found_by(self, query: int, rows: Rows) -> list[str | None]:
        """Return for each row the modality whose vector scores best; None if there is one only."""
        ...


class Answer(Protocol):
    """How queries of one kind are answered: by which rankers, and how their rankings are fused."""

    @property
    def rankers(self) -> Sequence[Ranker]:
        """What ranks the rows."""
        ...

    def depth(self, k: int) -> int:
        """Return how many rows each ranker has to find for k hits."""
        ...

    def fuse(
        self, queries: Sequence[int], merged: Sequence[Sequence[Ranking]], k: int
    ) -> list[Ranking]:
        """Return the best k rows of each query, given what each ranker merged."""
        ...


class Alone:
    """The answer of one ranker, with nothing to fuse."""

    def __init__(self, ranker: Ranker) -> None:
        self.rankers = (ranker,)

    def depth(self, k: int) -> int:
        """Return k."""
        return k

    def fuse(
        self, queries: Sequence[int], merged: Sequence[Sequence[Ranking]], k: int
    ) -> list[Ranking]:
        """Return what the ranker merged."""
        return list(merged[0])


def best(rows: Rows, scores: Scores, k: int) -> Ranking:
    """Return the k best of some rows; equal scores in ascending order of rows."""
    order = np.lexsort((rows, -scores))[:k]
    return Ranking(rows[order], scores[order])
