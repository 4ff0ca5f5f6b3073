"""Which sides of a collection answer a query: its vectors, its words, or both fused.

What has to do with words is imported where a collection has some.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..encoders.base import Encoder, Weights
from ..segments.snapshot import Snapshot
from ..store.shards import Rows
from ..values.errors import InputError
from ..values.types import Explanation, Query
from .queries import encode, encode_weights
from .rankers import DenseSide, EachItsOwn, Side
from .views import BridgedViews, CentredViews, Home, NativeQueries, PlainViews, Views

if TYPE_CHECKING:
    from ..text.analysis import Analyzer
    from ..values.settings import TermSettings
    from .words import FusedSide, LexicalSide


class Mode(StrEnum):
    """What ranks the hits."""

    HYBRID = "hybrid"  # vectors and words, fused
    DENSE = "dense"  # the encoder's side alone
    LEXICAL = "lexical"  # the words alone, by BM25


def check_mode(mode: str | None) -> Mode | None:
    """Return the mode of that name; None leaves the choice to `Sides`.

    Raises:
        InputError: there is none.
    """
    try:
        return None if mode is None else Mode(mode)
    except ValueError:
        known = ", ".join(Mode)
        raise InputError(f"search: there is no mode {mode!r}; there is {known}") from None


class Sides:
    """The sides that answer a block of queries, made when they are needed.

    mode:    None is hybrid where the collection and the queries allow it.
    encoder: loads the encoder; called only where a text has to become a vector.
    former:  loads the encoder that an upgrade leaves, None where it cannot be; called only where
             that one encodes the queries as well.
    allowed: the only rows allowed, ascending; None allows all that are not deleted.
    recall:  what of the true best the indexes are to find; None is what they are set to.

    Raises:
        InputError: the mode asks for what the collection or a query does not have.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        queries: Sequence[Query],
        mode: Mode | None,
        encoder: Callable[[], Encoder],
        allowed: Rows | None,
        recall: float | None = None,
        former: Callable[[], Encoder | None] = lambda: None,
    ) -> None:
        self._recall = recall
        self.snapshot = snapshot
        self.queries = queries
        self._encoder = encoder
        self._former = former
        self._allowed = allowed
        self._analyzer: Analyzer | None = None
        self._chosen = mode is not None
        self.mode = mode or self._usual()
        self._check()
        self._dense: DenseSide | LexicalSide | None = None
        self._weights: list[Weights] = []
        self._words: LexicalSide | None = None

    @cached_property
    def _terms(self) -> TermSettings | None:
        """How texts became terms; None where their words are not kept."""
        from ..values.settings import TermSettings

        return TermSettings.of(self.snapshot.manifest.settings)

    @property
    def side(self) -> Side:
        """What ranks the rows."""
        match self.mode:
            case Mode.DENSE:
                return self.dense
            case Mode.LEXICAL:
                return self.words
        fused = self.fused
        return EachItsOwn([self._side_of(query, fused) for query in self.queries])

    @property
    def fused(self) -> FusedSide:
        """Both sides, weighed as the collection's settings say."""
        from .words import FusedSide

        return FusedSide(self.dense, self.words, self.snapshot.fusion)

    def _side_of(self, query: Query, fused: Side) -> Side:
        """Return what ranks the rows for one query: a text or a vector alone is not fused.

        Nor is a composed query, unless that was chosen: its words are only a part of it.
        """
        if not query.text or (query.is_composed and not self._chosen):
            return self.dense
        return fused if self._has_vector(query) else self.words

    @property
    def dense(self) -> DenseSide | LexicalSide:
        """The encoder's side: vectors, or the weights of words of a sparse encoder."""
        if self._dense is None:
            sparse = self.snapshot.space.sparse
            self._dense = self._side_of_weights() if sparse else self._side_of_vectors()
        return self._dense

    def _side_of_vectors(self) -> DenseSide:
        # Alone it has to answer; where it cannot, the encoder says why.
        alone = self.mode is Mode.DENSE
        given = np.array([alone or self._has_vector(query) for query in self.queries], bool)
        there = [query for query, has in zip(self.queries, given, strict=True) if has]
        space = self.snapshot.space
        vectors = np.zeros((len(self.queries), space.dim), np.float32)
        vectors[given] = encode(there, space, self._encoder)
        views = self._views(vectors, given)
        if len(self.snapshot.modalities) > 1 and space.metric != "l2":
            views = CentredViews(views, self.snapshot.score_statistics)
        return DenseSide(self.snapshot, views, given, self._allowed, self._recall)

    def _views(self, vectors: NDArray[np.float32], given: NDArray[np.bool_]) -> Views:
        """Return how the vectors f32[q, dim] of the queries look from the segments of each kind."""
        snapshot = self.snapshot
        if not snapshot.crossings:
            return PlainViews(vectors, snapshot.space.metric)
        home = Home(snapshot.manifest.space, snapshot.space.metric, snapshot.crossings)
        return BridgedViews(home, vectors, native=self._native(given))

    def _native(self, given: NDArray[np.bool_]) -> dict[str, NativeQueries]:
        """Return the plain texts among the queries by the encoder that an upgrade leaves."""
        snapshot, upgrade = self.snapshot, self.snapshot.manifest.upgrade
        crossing = None if upgrade is None else snapshot.crossings.get(upgrade.source)
        if upgrade is None or crossing is None or crossing.bridge.both is None:
            return {}
        left = [s for s in snapshot.dense if s.entry.space == upgrade.source]
        there = given & [q.vector is None and not q.is_composed for q in self.queries]
        encoder = self._former() if there.any() and snapshot.is_searched(left) else None
        if encoder is None:
            return {}
        space, former = snapshot.spaces[upgrade.source], encoder
        vectors = np.zeros((len(self.queries), space.dim), np.float32)
        plain = [query for query, is_plain in zip(self.queries, there, strict=True) if is_plain]
        vectors[there] = encode(plain, space, lambda: former)
        return {upgrade.source: NativeQueries(vectors, there)}

    def _side_of_weights(self) -> LexicalSide:
        from .words import LexicalSide

        self._weights = encode_weights(self.queries, self._encoder)
        sparse = self.snapshot.sparse
        return LexicalSide(self.snapshot, sparse, self._weights, None, self._allowed)

    @property
    def words(self) -> LexicalSide:
        """The side of the words."""
        if self._words is None:
            from ..text.analysis import analyzer
            from .words import LexicalSide

            assert self._terms is not None  # _check has seen to it
            self._analyzer = analyzer(self._terms.analyzer)
            terms = [
                Counter(self._analyzer.query_terms(query.text)) if query.text else {}
                for query in self.queries
            ]
            self._words = LexicalSide(
                self.snapshot, self.snapshot.lexical, terms, self._terms.bm25, self._allowed
            )
        return self._words

    def explain(self, query: int, rows: Sequence[int]) -> list[Explanation]:
        """Return why each of some rows was found by one query."""
        numbers = np.array(rows, np.int64)
        dense: list[float | None] = [None] * len(rows)
        lexical: list[float | None] = [None] * len(rows)
        words: list[tuple[str, ...]] = [()] * len(rows)
        tokens: list[tuple[str, ...]] = [()] * len(rows)
        by: list[str | None] = [None] * len(rows)
        if self.mode is not Mode.LEXICAL and self._has_vector(self.queries[query]):
            dense = [float(s) for s in self.dense.scores(query, numbers)]
            tokens = [self._shared(query, row) for row in rows]
            if isinstance(self.dense, DenseSide):
                by = self.dense.found_by(query, numbers)
        if self.queries[query].text and self._terms is not None:
            lexical = [float(s) for s in self.words.scores(query, numbers)]
            words = [self._held(query, row) for row in rows]
        reasons = zip(dense, lexical, words, tokens, by, strict=True)
        return [Explanation(*each[:4], by=each[4]) for each in reasons]

    def _shared(self, query: int, row: int) -> tuple[str, ...]:
        """Return the words that a sparse encoder gave a weight in a query and in a row."""
        if isinstance(self.dense, DenseSide):
            return ()
        weights = self._weights[query]
        return tuple(sorted(self.dense.held(query, row), key=lambda term: -weights[term]))

    def _held(self, query: int, row: int) -> tuple[str, ...]:
        """Return the words of a query that a row holds, as the query has them."""
        held = set(self.words.held(query, row))
        text = self.queries[query].text or ""
        assert self._analyzer is not None
        spans = self._analyzer.spans(text)
        found = [text[start:end] for start, end, terms in spans if held.intersection(terms)]
        return tuple(dict.fromkeys(found))

    def _has_vector(self, query: Query) -> bool:
        return query.vector is not None or self._can_encode

    @property
    def _can_encode(self) -> bool:
        """Whether texts become vectors; for a collection of one's own vectors they do not."""
        return self.snapshot.space.family != "vectors"

    def _usual(self) -> Mode:
        plain = [query for query in self.queries if query.text and not query.is_composed]
        if not plain or self._terms is None:
            return Mode.DENSE
        no_texts = self.snapshot.documents and not self.snapshot.lexical
        if no_texts and not self._can_encode:  # it says what to do instead
            return Mode.DENSE
        if any(self._has_vector(query) for query in self.queries):
            return Mode.HYBRID
        return Mode.LEXICAL

    def _check(self) -> None:
        if self.mode is Mode.DENSE:
            return
        if self._terms is None:
            raise InputError(
                f"search: mode {self.mode.value!r} needs the words of the texts, which this "
                "collection does not keep; bring it up to date with: retr index build SOURCE"
            )
        if self.mode is Mode.LEXICAL and not all(query.text for query in self.queries):
            raise InputError("search: mode 'lexical' needs a text, and a query has none")
        if self.mode is Mode.LEXICAL and any(q.images or q.without for q in self.queries):
            raise InputError(
                "search: mode 'lexical' goes by the words of texts alone; leave out the image and "
                "`without`, or the mode"
            )


QUERY_BLOCK = 1024
