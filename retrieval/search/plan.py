"""The plan of a search: which rankers answer which queries, and what they need to do so.

The modules for words are imported only for a collection that indexes words.
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
from ..values.types import Query
from .queries import encode, encode_weights
from .rankers import DenseRanker
from .ranking import Alone, Answer, Ranker
from .views import BridgedViews, CentredViews, Home, NativeQueries, PlainViews, Views

if TYPE_CHECKING:
    from ..text.analysis import Analyzer
    from .words import Fused, LexicalRanker

QUERY_BLOCK = 1024
"""How many queries are planned and searched at once."""


class Mode(StrEnum):
    """What ranks the hits."""

    HYBRID = "hybrid"  # vectors and words, fused
    DENSE = "dense"  # the encoder's ranking alone
    LEXICAL = "lexical"  # the words alone, by BM25


def check_mode(mode: str | None) -> Mode | None:
    """Return the mode with this name; None leaves the choice to `SearchPlan`.

    Raises:
        InputError: there is no such mode.
    """
    try:
        return None if mode is None else Mode(mode)
    except ValueError:
        known = ", ".join(Mode)
        raise InputError(f"search: there is no mode {mode!r}; the modes are {known}") from None


class SearchPlan:
    """How to answer a block of queries. Each ranker is made when it is first needed.

    mode:        None is hybrid if the collection and the queries allow it.
    encoder:     loads the encoder; called only if a text or an image needs a vector.
    allowed:     the rows to search, ascending; None searches all that are not deleted.
    recall:      target recall of the indexes (0 to 1); None uses each index's own setting.
    old_encoder: loads the old encoder during an upgrade, or returns None if it cannot be loaded;
                 called only if the old encoder encodes the queries, too.

    Raises:
        InputError: the collection or a query lacks what the mode needs.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        queries: Sequence[Query],
        mode: Mode | None,
        encoder: Callable[[], Encoder],
        allowed: Rows | None,
        recall: float | None = None,
        old_encoder: Callable[[], Encoder | None] = lambda: None,
    ) -> None:
        self.snapshot = snapshot
        self.queries = queries
        self._chosen = mode is not None
        self._encoder = encoder
        self._old_encoder = old_encoder
        self._allowed = allowed
        self._recall = recall
        self.mode = mode or self._default_mode()
        self._check()

    def encode(self) -> None:
        """Make what the rankers need from the queries: vectors or weights, and terms."""
        if self.mode is not Mode.LEXICAL:
            _ = self.dense
        if self.mode is not Mode.DENSE:
            _ = self.words

    def answers(self, queries: Sequence[int]) -> list[tuple[Answer, list[int]]]:
        """Return how to answer these queries, given by number, and which each answer is for.

        A query's answer depends on that query alone, so it finds the same hits in any block.
        """
        if self.mode is not Mode.HYBRID:
            ranker = self.dense if self.mode is Mode.DENSE else self.words
            return [(Alone(ranker), list(queries))]
        by_dense: list[int] = []
        by_words: list[int] = []
        by_both: list[int] = []
        for number in queries:
            query = self.queries[number]
            # A query with only a text, or only a vector, is not fused. Neither is a composed query
            # unless the caller chose this mode: its words are only a part of it.
            if not query.text or (query.is_composed and not self._chosen):
                by_dense.append(number)
            else:
                (by_both if self.has_vector(query) else by_words).append(number)
        answers: list[tuple[Answer, list[int]]] = []
        for numbers, ranker in ((by_dense, self.dense), (by_words, self.words)):
            if numbers:
                answers.append((Alone(ranker), numbers))
        return [*answers, (self.fused, by_both)] if by_both else answers

    @cached_property
    def fused(self) -> Fused:
        """Both rankers, weighted as the collection's settings say."""
        from .words import Fused

        return Fused(self.dense, self.words, self.snapshot.fusion)

    @cached_property
    def dense(self) -> Ranker:
        """The encoder's ranker: by vectors, or by a sparse encoder's word weights."""
        return self._by_weights() if self.snapshot.space.sparse else self._by_vectors()

    def _by_vectors(self) -> DenseRanker:
        # In dense mode every query needs a vector; encoding one that has none says why not.
        alone = self.mode is Mode.DENSE
        given = np.array([alone or self.has_vector(query) for query in self.queries], bool)
        with_vectors = [query for query, has in zip(self.queries, given, strict=True) if has]
        space = self.snapshot.space
        vectors = np.zeros((len(self.queries), space.dim), np.float32)
        vectors[given] = encode(with_vectors, space, self._encoder)
        views = self._views(vectors, given)
        if len(self.snapshot.modalities) > 1 and space.metric != "l2":
            views = CentredViews(views, self.snapshot.score_statistics)
        return DenseRanker(self.snapshot, views, given, self._allowed, self._recall)

    def _views(self, vectors: NDArray[np.float32], given: NDArray[np.bool_]) -> Views:
        """Return the views that each kind of segment has of the queries' vectors, f32[q, dim]."""
        snapshot = self.snapshot
        if not snapshot.crossings:
            return PlainViews(vectors, snapshot.space.metric)
        home = Home(snapshot.manifest.space, snapshot.space.metric, snapshot.crossings)
        return BridgedViews(home, vectors, native=self._native(given))

    def _native(self, given: NDArray[np.bool_]) -> dict[str, NativeQueries]:
        """Return the plain texts among the queries as an upgrade's old encoder encodes them."""
        snapshot, upgrade = self.snapshot, self.snapshot.manifest.upgrade
        crossing = None if upgrade is None else snapshot.crossings.get(upgrade.source)
        if upgrade is None or crossing is None or crossing.bridge.both is None:
            return {}
        old_segments = [s for s in snapshot.dense if s.entry.space == upgrade.source]
        there = given & [q.vector is None and not q.is_composed for q in self.queries]
        is_needed = there.any() and snapshot.is_searched(old_segments)
        old = self._old_encoder() if is_needed else None
        if old is None:
            return {}
        space, encoder = snapshot.spaces[upgrade.source], old
        vectors = np.zeros((len(self.queries), space.dim), np.float32)
        plain = [query for query, is_plain in zip(self.queries, there, strict=True) if is_plain]
        vectors[there] = encode(plain, space, lambda: encoder)
        return {upgrade.source: NativeQueries(vectors, there)}

    def _by_weights(self) -> LexicalRanker:
        from .words import LexicalRanker

        snapshot = self.snapshot
        return LexicalRanker(
            snapshot.sparse, self.weights, None, self._allowed, snapshot.dead_words
        )

    @cached_property
    def weights(self) -> list[Weights]:
        """The word weights that a sparse encoder gives each query."""
        return encode_weights(self.queries, self._encoder)

    @cached_property
    def words(self) -> LexicalRanker:
        """The ranker by the words of the texts."""
        from .words import LexicalRanker

        snapshot, terms = self.snapshot, self.snapshot.settings.terms
        assert terms is not None  # _check has seen to it
        asked = [
            Counter(self.analyzer.query_terms(query.text)) if query.text else {}
            for query in self.queries
        ]
        return LexicalRanker(
            snapshot.lexical, asked, terms.bm25, self._allowed, snapshot.dead_words
        )

    @cached_property
    def analyzer(self) -> Analyzer:
        """The analyzer that turns texts into terms; only for a collection that indexes words."""
        from ..text.analysis import analyzer

        terms = self.snapshot.settings.terms
        assert terms is not None  # _check has seen to it
        return analyzer(terms.analyzer)

    @property
    def keeps_words(self) -> bool:
        """Whether the collection indexes the words of its texts."""
        return self.snapshot.settings.terms is not None

    def has_vector(self, query: Query) -> bool:
        """Return whether a query has a vector, or can be given one."""
        return query.vector is not None or self._can_encode

    @property
    def _can_encode(self) -> bool:
        """Whether texts can be encoded; not in a collection of the user's own vectors."""
        return self.snapshot.space.family != "vectors"

    def _default_mode(self) -> Mode:
        plain = [query for query in self.queries if query.text and not query.is_composed]
        if not plain or not self.keeps_words:
            return Mode.DENSE
        no_texts = self.snapshot.documents and not self.snapshot.lexical
        if no_texts and not self._can_encode:  # the error of dense mode says what to do instead
            return Mode.DENSE
        if any(self.has_vector(query) for query in self.queries):
            return Mode.HYBRID
        return Mode.LEXICAL

    def _check(self) -> None:
        if self.mode is Mode.DENSE:
            return
        if not self.keeps_words:
            raise InputError(
                f"search: mode {self.mode.value!r} needs the words of the texts, which this "
                "collection has not indexed; update it with: retr index build SOURCE"
            )
        if self.mode is Mode.LEXICAL and not all(query.text for query in self.queries):
            raise InputError("search: mode 'lexical' needs a text, but a query has none")
        if self.mode is Mode.LEXICAL and any(q.images or q.without for q in self.queries):
            raise InputError(
                "search: mode 'lexical' searches by words only; leave out the image and "
                "`without`, or the mode"
            )
