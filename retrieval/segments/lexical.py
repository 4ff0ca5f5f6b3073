"""Lexical search: BM25 over postings, and the inner product of learned term weights.

A score is a sum over the terms of a query, so a segment is searched term by term. The terms that
can add most come first. Once the remaining terms cannot lift a new row among the best, they are
looked up only for the rows that may still be among the best (MaxScore: Turtle and Flood, "Query
evaluation: strategies and optimizations", 1995). Those rows are then scored again in float64, term
by term in one fixed order, so that equal rows score the same in every segment.

BM25 is Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), in
the form of Lucene: idf(t) = ln(1 + (N - df + 0.5) / (df + 0.5)) and, without the constant factor
k1 + 1, tf / (tf + k1 (1 - b + b length / mean length)). N, df and the mean length are sums over
all segments, so the scores of different segments compare; deleted rows count until they are
compacted.

Scripts without spaces are indexed by pairs of characters. A query for a single character, such as
水, must also find rows where it stands among others, so the lists of all pairs that begin or end
with it are merged into one list.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..store.manifest import SegmentEntry
from ..store.postings import MOST_COUNTED, Counts, Posting, PostingShard, Weights
from ..store.shards import Rows, damage
from ..text.word_breaks import stands_in_pairs
from ..values.errors import DamagedError
from ..values.settings import Bm25
from .rows import RowRange

_FEW_ALLOWED = 0.02
_PRUNE_FROM = 2048  # adding a shorter list is faster than pruning it
_LOOKUP = 8  # adding a list less than this many times as long as the lookups is faster, too

Terms = Mapping[str, float]
"""The terms of a query with their weights; in a text, the weight is the term's count."""


@dataclass(frozen=True, slots=True, eq=False)
class _QueryTerm:
    """A term of a query and its list in one segment.

    weight: multiplies the values of the list.
    bound:  the most the term can add to a row's score.
    """

    weight: float
    bound: float
    posting: Posting


class LexicalSegment(RowRange):
    """The postings of a range of rows, memory-mapped."""

    def __init__(self, folder: Path, entry: SegmentEntry) -> None:
        if entry.postings is None:
            raise DamagedError(f"{folder}: the segment {entry.id} lacks its file of postings")
        self._path = folder / entry.postings
        self.shard = PostingShard(folder / entry.data, self._path)
        super().__init__(entry, self.shard)
        self._norms: tuple[object, NDArray[np.float32]] | None = None

    def search(
        self,
        scoring: Scoring,
        k: int,
        *,
        only: Rows | None = None,
        never: Rows | None = None,
        floor: float = 0.0,
    ) -> tuple[Rows, NDArray[np.float64]]:
        """Return the best k rows that contain any of the terms, and their scores, best first.

        only:  the positions allowed, ascending; None allows all.
        never: positions excluded from those, ascending.
        floor: rows that score less may be left out.
        """
        with damage(self._path):
            terms = scoring.query_terms(self)
            if sum(term.bound for term in terms) <= floor * (1 - _SLACK):
                return np.empty(0, np.int64), np.empty(0, np.float64)
            barred = self._barred(only, never)
            if only is not None and len(only) <= _FEW_ALLOWED * len(self):
                possible = only if barred is None else only[~barred[only]]
            else:
                possible = self._possible_rows(terms, scoring, k, barred, floor)
            scores = self._score(terms, possible, scoring)
        found = np.flatnonzero(scores > 0)
        order = found[np.lexsort((possible[found], -scores[found]))][:k]
        return self.rows_at(possible[order]), scores[order]

    def scores(self, scoring: Scoring, positions: Rows) -> NDArray[np.float64]:
        """Return the rows' scores, f64[len(positions)]; 0 for a row with none of the terms."""
        with damage(self._path):
            return self._score(scoring.query_terms(self), positions, scoring)

    def _score(
        self, terms: Sequence[_QueryTerm], positions: Rows, scoring: Scoring
    ) -> NDArray[np.float64]:
        scores = np.zeros(len(positions), np.float64)
        wide = positions.astype(np.uint32)
        norms = None
        if scoring.bm25 is not None:
            # A row without the term has the value 0, which must not be divided by 0.
            norms = np.maximum(scoring.norm(self.shard.lengths[positions]), _TINY)
        for term in terms:
            at = np.searchsorted(term.posting.positions, wide)
            held = term.posting.positions.take(at, mode="clip") == wide
            values = term.posting.values.take(at, mode="clip") * held.astype(np.float64)
            if norms is not None:
                values /= values + norms
            values *= term.weight
            scores += values
        return scores

    def _barred(self, only: Rows | None, never: Rows | None) -> NDArray[np.bool_] | None:
        if only is None and (never is None or not len(never)):
            return None
        barred = np.zeros(len(self), bool) if only is None else np.ones(len(self), bool)
        if only is not None:
            barred[only] = False
        if never is not None:
            barred[never] = True
        return barred

    def _possible_rows(
        self,
        terms: Sequence[_QueryTerm],
        scoring: Scoring,
        k: int,
        barred: NDArray[np.bool_] | None,
        floor: float,
    ) -> Rows:
        """Return the positions that may be among the best k, ascending.

        floor: as in `search`.
        """
        terms = sorted(terms, key=lambda term: -term.bound)
        left = sum(term.bound for term in terms)
        norms = self.norms(scoring) if scoring.bm25 is not None else None
        scores = np.zeros(len(self), np.float32)
        if barred is not None:
            scores[barred] = -np.inf
        touched: list[NDArray[np.intp]] = []
        most, longest, others = 0.0, np.empty(0, np.intp), terms
        for number, term in enumerate(terms):
            # No row scores more than `most`. The longest list holds each row once, so its kth
            # score is a score that k rows reach.
            if (
                len(term.posting.positions) >= _PRUNE_FROM
                and left < max(most, floor)
                and left < max(_kth(scores.take(longest), k), floor) * (1 - _SLACK)
            ):
                break
            positions = term.posting.positions.astype(np.intp)
            values = _values(term, term.posting.values, norms, positions)
            if number or barred is not None:
                values += scores.take(positions)
            scores[positions] = values
            most = max(most, float(values.max()))
            touched.append(positions)
            longest = max(longest, positions, key=len)
            others = terms[number + 1 :]
            left -= term.bound
        threshold = max(_kth(scores.take(longest), k), floor) * (1 - _SLACK)
        # After the last term, `left` may be a rounding error instead of 0.
        possible = _once(touched, scores, threshold - left if others else threshold)
        return _best(possible, scores, others, norms, k, floor)

    def norms(self, scoring: Scoring) -> NDArray[np.float32]:
        """Return BM25's norm of each row, f32[n], computed once per snapshot."""
        key = (scoring.bm25, scoring.mean_length)
        known = self._norms
        if known is None or known[0] != key:
            known = (key, scoring.norm(self.shard.lengths).astype(np.float32))
            self._norms = known
        return known[1]


class Scoring:
    """Scores the rows of all segments for one query.

    bm25: BM25's constants; None for the inner product of learned weights.
    """

    def __init__(self, segments: Sequence[LexicalSegment], terms: Terms, bm25: Bm25 | None) -> None:
        self.bm25 = bm25
        rows = sum(len(s) for s in segments)
        tokens = sum(s.shard.tokens for s in segments)
        self.mean_length = tokens / rows if tokens else 1.0
        k1, b = (bm25.k1, bm25.b) if bm25 is not None else (0.0, 0.0)
        self._slope, self._least = k1 * b / self.mean_length, k1 * (1 - b)
        # The same order of terms for all segments, because floating-point sums depend on it.
        self._lists: dict[str, list[int | Posting | None]] = {}
        for term in sorted(terms):
            find = _around if bm25 is not None and stands_in_pairs(term) else PostingShard.find
            self._lists[term] = [find(segment.shard, term) for segment in segments]
        self._at = {segment.entry.id: i for i, segment in enumerate(segments)}
        self._weights: dict[str, float] = {}
        for term, lists in self._lists.items():
            found = sum(
                len(of.positions) if isinstance(of, Posting) else segment.shard.size(of)
                for segment, of in zip(segments, lists, strict=True)
                if of is not None
            )
            if found:
                self._weights[term] = terms[term] * (1.0 if bm25 is None else idf(rows, found))

    @property
    def terms(self) -> list[str]:
        """The terms of the query that occur in any row."""
        return list(self._weights)

    def query_terms(self, segment: LexicalSegment) -> list[_QueryTerm]:
        """Return the query's terms that occur in one segment, with their lists there."""
        out = []
        for term, weight in self._weights.items():
            posting = self._posting(term, segment)
            if posting is None:
                continue
            bound = posting.most
            if self.bm25 is not None:
                bound /= bound + posting.shortest * self._slope + self._least
            out.append(_QueryTerm(weight, weight * bound, posting))
        return out

    def norm(self, lengths: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Return k1 (1 - b + b length / mean length), f64[n]."""
        norms: NDArray[np.float64] = lengths.astype(np.float64) * self._slope + self._least
        return norms

    def held(self, segment: LexicalSegment, position: int) -> list[str]:
        """Return the terms of the query that one row contains."""
        out = []
        for term in self._weights:
            posting = self._posting(term, segment)
            if posting is None:
                continue
            positions = posting.positions
            i = int(np.searchsorted(positions, position))
            if i < len(positions) and positions[i] == position:
                out.append(term)
        return out

    def _posting(self, term: str, segment: LexicalSegment) -> Posting | None:
        of = self._lists[term][self._at[segment.entry.id]]
        return segment.shard.posting(of) if isinstance(of, int) else of


def _around(shard: PostingShard, character: str) -> Posting | None:
    """Return the list of a character that stands alone or in pairs; None if no row contains it.

    Its count in a row is the number of pairs that begin with it, or of pairs that end with it,
    whichever is larger: inside a run of characters, each occurrence is in one of each. Occurrences
    alone are added.
    """
    alone = shard.find(character)
    counts = np.zeros(len(shard), np.int64)
    shortest = []
    for numbers in shard.pairs_with(character):
        own = np.zeros(len(shard), np.int64)
        for number in numbers:
            posting = shard.posting(number)
            own[posting.positions] += posting.values.astype(np.int64)
            shortest.append(posting.shortest)
        np.maximum(counts, own, out=counts)
    if alone is not None:
        posting = shard.posting(alone)
        counts[posting.positions] += posting.values.astype(np.int64)
        shortest.append(posting.shortest)
    positions = np.flatnonzero(counts)
    if not len(positions):
        return None
    values = np.minimum(counts[positions], MOST_COUNTED).astype(np.uint16)
    return Posting(positions.astype(np.uint32), values, float(values.max()), min(shortest))


def idf(rows: int, found: int) -> float:
    """Return BM25's weight of a term that occurs in `found` of `rows` rows; always above 0."""
    return math.log1p((rows - found + 0.5) / (found + 0.5))


# Float32 sums in different orders differ by about 1e-6 of their size.
_SLACK = 1e-5
_TINY = 1e-300


def _values(
    term: _QueryTerm,
    found: Counts | Weights,
    norms: NDArray[np.float32] | None,
    positions: NDArray[np.intp],
) -> NDArray[np.float32]:
    """Return what a term adds to the scores of the rows at `positions`, f32[n].

    found: the values that the term's list has for those rows.
    """
    values: NDArray[np.float32] = found.astype(np.float32)
    if norms is not None:
        values /= norms.take(positions) + values
    values *= np.float32(term.weight)
    return values


def _best(
    possible: NDArray[np.intp],
    scores: NDArray[np.float32],
    others: Sequence[_QueryTerm],
    norms: NDArray[np.float32] | None,
    k: int,
    floor: float,
) -> Rows:
    """Return which of these rows may be among the best k, after looking up the other terms."""
    left = sum(term.bound for term in others)
    own = scores.take(possible)
    for term in others:
        if len(own) > 4 * k:  # looking up a few rows is faster than comparing them
            kept = own >= max(_kth(own, k), floor) * (1 - _SLACK) - left
            possible, own = possible[kept], own[kept]
        positions = term.posting.positions
        if len(positions) < _LOOKUP * len(own):
            every = positions.astype(np.intp)
            scores[every] += _values(term, term.posting.values, norms, every)
            own = scores.take(possible)
        else:
            at = np.searchsorted(positions, possible.astype(np.uint32))
            held = np.flatnonzero(positions.take(at, mode="clip") == possible)
            own[held] += _values(term, term.posting.values[at[held]], norms, possible[held])
            scores[possible] = own
        left -= term.bound
    return possible[own >= max(_kth(own, k), floor) * (1 - _SLACK)]


def _kth(scores: NDArray[np.float32], k: int) -> float:
    """Return the kth largest score, 0 if there are fewer than k."""
    if len(scores) < k:
        return 0.0
    return max(float(np.partition(scores, len(scores) - k)[len(scores) - k]), 0.0)


def _once(
    touched: Sequence[NDArray[np.intp]], scores: NDArray[np.float32], least: float
) -> NDArray[np.intp]:
    """Return the positions in any of the lists, ascending, each once.

    Leaves out positions that are barred or that score less than `least`.
    """
    least = max(least, float(np.finfo(np.float32).tiny))
    if 16 * sum(map(len, touched)) > len(scores):
        return np.flatnonzero(scores >= least)
    positions = np.concatenate(touched)
    positions = np.sort(positions[scores.take(positions) >= least])
    once: NDArray[np.intp] = positions[
        np.append(True, positions[1:] != positions[:-1])[: len(positions)]
    ]
    return once
