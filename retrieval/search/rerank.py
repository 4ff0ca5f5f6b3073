"""Reranking: a slower model reads the query with each of the best hits and reorders them.

The model reads the text of the hit's row: the passage, if the document was split. It is a
cross-encoder of sentence-transformers (Nogueira and Cho, "Passage Re-ranking with BERT", 2019),
or the user's own.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from ..encoders.base import EncoderOptions
from ..values.errors import InputError
from ..values.types import Hit, Query

DEFAULT_DEPTH = 50

Scores = NDArray[np.float32]
Score = Callable[[str, list[str]], Any]


class Reranker(ABC):
    """Scores how well texts answer a query."""

    name: str = "reranker"

    @abstractmethod
    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Return f32[len(texts)], finite, higher for a better answer; `texts` is never empty."""

    def score_all(self, queries: Sequence[str], texts: Sequence[Sequence[str]]) -> Sequence[Scores]:
        """Return the scores of each query's own texts; override it if batches are faster.

        texts: one list per query, none empty.
        """
        return [self.score(query, own) for query, own in zip(queries, texts, strict=True)]


class CrossEncoderReranker(Reranker):
    """A cross-encoder of sentence-transformers, from a folder, the hub's cache, or the hub.

    name:     the model's name or path, such as "cross-encoder/ms-marco-MiniLM-L6-v2".
    device:   "cpu", "cuda", …; None chooses one.
    revision: the hub's revision (branch, tag or commit).

    The scores are those of `CrossEncoder.predict`. Code from the hub is never run.

    Raises:
        InputError: there is no such model, the hub cannot be reached, or the model does not give
            one score per text.
        MissingExtraError: sentence-transformers is not installed.
    """

    batch_size = 32

    def __init__(
        self, name: str, *, device: str | None = None, revision: str | None = None
    ) -> None:
        from ..encoders.splade_loading import CROSS, find, load

        who = f"reranker {name!r}"
        if not name.strip():
            raise InputError(f"{who}: give the name or the path of a cross-encoder")
        folder = find(who, name, revision)
        options = EncoderOptions(revision=revision, device=device)
        model, missing = load(CROSS, who, name, folder, options)
        if missing:
            raise InputError(
                f"{who}: the model is not a cross-encoder: it lacks the weights "
                f"{', '.join(missing)}"
            )
        if model.num_labels != 1:
            labels = ", ".join(getattr(model.config, "id2label", {}).values())
            raise InputError(
                f"{who}: the model gives {model.num_labels} scores for a text ({labels}), but a "
                "reranker gives one; choose a cross-encoder made for ranking"
            )
        self.name = name
        self._model = model
        # A tokenizer holds its padding and truncation as state, so two threads may collide.
        self._lock = threading.Lock()

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Return f32[len(texts)]."""
        return self.score_all([query], [texts])[0]

    def score_all(self, queries: Sequence[str], texts: Sequence[Sequence[str]]) -> Sequence[Scores]:
        """Return the scores of each query's own texts; batches hold pairs of similar length."""
        pairs = [
            (_readable(query), _readable(text))
            for query, own in zip(queries, texts, strict=True)
            for text in own
        ]
        order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]) - len(pairs[i][1]))
        scores = np.empty(len(pairs), np.float32)
        with self._lock:
            scores[order] = self._model.predict(
                [pairs[i] for i in order],
                batch_size=self.batch_size,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
        return np.split(scores, np.cumsum([len(own) for own in texts])[:-1])


class _Called(Reranker):
    """A function from the user."""

    def __init__(self, function: Score) -> None:
        self.name = getattr(function, "__name__", type(function).__name__)
        self._function = function

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        return np.asarray(self._function(query, list(texts)))


_loaded: WeakValueDictionary[tuple[str, str | None], CrossEncoderReranker] = WeakValueDictionary()
_loading = threading.Lock()


def open_reranker(given: object, device: str | None = None) -> Reranker:
    """Return a reranker: a cross-encoder by name, loaded once per process, or the user's own.

    Raises:
        InputError: `given` is not a name, a `Reranker` or a function.
    """
    if isinstance(given, Reranker):
        return given
    if isinstance(given, str):
        with _loading:
            known = _loaded.get((given, device))
            if known is None:
                known = _loaded[given, device] = CrossEncoderReranker(given, device=device)
        return known
    if not callable(given) or isinstance(given, type) or hasattr(given, "predict"):
        kind = given.__name__ if isinstance(given, type) else type(given).__name__
        raise InputError(
            f"the reranker is {kind}; give the name of a cross-encoder, a Reranker, or a function "
            "of a query and a list of texts"
        )
    return _Called(given)


@dataclass(frozen=True, slots=True)
class Reranking:
    """How to rerank the hits of a search.

    depth: rerank this many of the first hits, or k if k is larger.
    """

    reranker: Reranker
    depth: int = DEFAULT_DEPTH

    def order(
        self, queries: Sequence[Query], found: Sequence[Sequence[Hit]], k: int
    ) -> list[list[Hit]]:
        """Return the best k hits of each query by their new scores.

        Hits with equal scores keep their order. Hits without a text come after the others in the
        order they were found, each with a score 1 below the hit before it.

        Raises:
            InputError: a query has no text, or the reranker gives no scores.
        """
        if not all(query.text for query in queries):
            raise InputError("search: a query without a text cannot be reranked; leave out rerank")
        texts = [[hit.text for hit in hits if hit.text is not None] for hits in found]
        asked = [i for i, own in enumerate(texts) if own]
        out = [list(hits) for hits in found]
        if not asked:
            return [hits[:k] for hits in out]
        scores = self.reranker.score_all(
            [queries[i].text or "" for i in asked], [texts[i] for i in asked]
        )
        for i, own in zip(asked, scores, strict=True):
            out[i] = _ordered(found[i], self._checked(own, len(texts[i])))
        return [hits[:k] for hits in out]

    def _checked(self, scores: object, count: int) -> list[float]:
        """Return the scores that the reranker gave for `count` texts, as numbers."""
        try:
            array = np.asarray(scores, np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{self.reranker.name}: its scores are not numbers ({error})"
            ) from error
        if array.shape != (count,):
            raise InputError(
                f"{self.reranker.name}: gave scores of shape {array.shape} for {count} texts; "
                f"return one number per text, in order"
            )
        if not np.isfinite(array).all():
            raise InputError(f"{self.reranker.name}: gave a score that is NaN or infinite")
        numbers: list[float] = array.tolist()
        return numbers


def _ordered(hits: Sequence[Hit], scores: Sequence[float]) -> list[Hit]:
    """Return the hits with a text, by descending score, then the hits without."""
    read = [hit for hit in hits if hit.text is not None]
    scored = [replace(hit, score=score) for hit, score in zip(read, scores, strict=True)]
    scored.sort(key=lambda hit: -hit.score)
    last = scored[-1].score
    rest = [hit for hit in hits if hit.text is None]
    return scored + [replace(hit, score=last - place) for place, hit in enumerate(rest, start=1)]


def _readable(text: str) -> str:
    """Return the text with what UTF-8 cannot write replaced, as encoders do."""
    return text.encode("utf-8", "replace").decode("utf-8")
