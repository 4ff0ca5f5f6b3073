"""Encoders that a bridge can be learnt between, and what a collection in an upgrade must find."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import retr
from retr.retrieval.encoders.base import Encoder, Space
from retr.retrieval.segments.snapshot import Snapshot
from retr.retrieval.values.types import Document

TOPICS = 12


def _random(*what: object) -> np.random.Generator:
    digest = hashlib.blake2b(repr(what).encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


class ModelEncoder(Encoder):
    """A word means a point of a common space, seen through a model: a linear view and noise.

    noise: how much of a word's vector is the model's own.
    alien: whether it sees nothing that the others see.
    seen:  every document text it was given.
    """

    family = "model"
    batch_size = 4

    def __init__(
        self, name: str, dim: int, noise: float, *, metric: str = "cosine", alien: bool = False
    ) -> None:
        self.name = f"model:{name}"
        self.space = Space(self.name, "model", name, dim, metric == "cosine", metric)
        self._view = _random("view", name).standard_normal((TOPICS, dim))
        self._noise = noise
        self._known: dict[str, NDArray[np.float64]] = {}
        self._alien = alien
        self.seen: list[str] = []

    @classmethod
    def open(cls, name: str, options: retr.EncoderOptions) -> ModelEncoder:
        raise NotImplementedError

    def encode_queries(self, items: Sequence[str]) -> NDArray[np.float32]:
        return self._encode(items)

    def encode_documents(self, items: Sequence[str]) -> NDArray[np.float32]:
        self.seen += items
        return self._encode(items)

    def _word(self, word: str) -> NDArray[np.float64]:
        if word not in self._known:
            meaning = _random("word", word, self.name if self._alien else "").standard_normal(
                TOPICS
            )
            own = _random("own", self.name, word).standard_normal(self.space.dim)
            self._known[word] = meaning @ self._view / TOPICS**0.5 + self._noise * own
        return self._known[word]

    def _encode(self, items: Sequence[str]) -> NDArray[np.float32]:
        out = np.zeros((len(items), self.space.dim))
        for number, text in enumerate(items):
            # Nothing of a text's words is left in what an alien makes of it.
            for word in [text] if self._alien else text.split():
                out[number] += self._word(word)
        if self.space.normalised:
            lengths = np.linalg.norm(out, axis=1, keepdims=True)
            out /= np.where(lengths == 0, 1, lengths)
        return out.astype(np.float32)


def old_encoder() -> ModelEncoder:
    return ModelEncoder("old", 24, 1.0)


def new_encoder() -> ModelEncoder:
    return ModelEncoder("new", 32, 0.1)


VOCABULARY = [f"word{i}" for i in range(150)]


def text_of(number: int, version: int = 1, words: int = 8) -> str:
    return " ".join(_random("text", number, version).choice(VOCABULARY, words))


def documents(numbers: range, version: int = 1) -> list[Document]:
    return [
        Document(f"d{i}", text_of(i, version), metadata={"n": i, "version": version})
        for i in numbers
    ]


QUERIES = [" ".join(_random("query", i).choice(VOCABULARY, 4)) for i in range(20)]


def ids_found(collection: retr.Collection) -> set[str]:
    """Return what is found by vectors, and see that it is found once, and by its words as well."""
    hits = collection.search(QUERIES[0], k=10_000, mode="dense")
    assert len({hit.id for hit in hits}) == len(hits)
    lexical = collection.search(" ".join(VOCABULARY), k=10_000, mode="lexical")
    assert {hit.row for hit in lexical} == {hit.row for hit in hits}
    return {hit.id for hit in hits}


def texts_found(collection: retr.Collection) -> dict[str, str | None]:
    ids_found(collection)
    return {hit.id: hit.text for hit in collection.search(QUERIES[0], k=10_000, mode="dense")}


def kinds(collection: retr.Collection) -> Mapping[str, int]:
    """Return how many rows are found by new, mapped and old vectors."""
    status = collection.upgrade_status()
    assert status["new"] + status["mapped"] + status["old"] == status["rows"]
    return {kind: status[kind] for kind in ("new", "mapped", "old")}


def agreement(one: retr.Collection, other: retr.Collection, k: int = 10) -> float:
    """Return how many of the best of two collections are the same, over the queries."""
    pairs = zip(
        one.search(QUERIES, k, mode="dense"), other.search(QUERIES, k, mode="dense"), strict=True
    )
    return float(np.mean([len({h.id for h in a} & {h.id for h in b}) / k for a, b in pairs]))


def assert_same_answers(one: retr.Collection, other: retr.Collection, mode: str = "dense") -> None:
    """Compare all scores of two collections of the same documents, to 1e-4."""
    for query in QUERIES[:5]:
        a = {hit.id: hit.score for hit in one.search(query, k=10_000, mode=mode)}
        b = {hit.id: hit.score for hit in other.search(query, k=10_000, mode=mode)}
        assert a.keys() == b.keys()
        assert all(abs(a[id] - b[id]) <= 1e-4 for id in a)


def expected_scores(collection: retr.Collection, query: str) -> dict[int, float]:
    """Return what every row scores, from vectors and bridges alone, by brute force.

    New vectors count for more than mapped ones, and those for more than old ones; the marks of the
    collection are ignored.
    """
    snapshot = collection._snapshot
    manifest = snapshot.manifest
    asked = collection.encoder.encode_queries([query])
    alive = {row for segment in snapshot.documents for row in segment.rows.tolist()}
    alive -= set(snapshot.deleted.tolist())
    made = {bridge.made for bridge in manifest.bridges}
    ranked = sorted(
        snapshot.dense,
        key=lambda s: (s.entry.space != manifest.space, s.entry.space not in made),
    )
    out: dict[int, float] = {}
    for segment in ranked:
        key = str(segment.entry.space)
        vectors, scale, shift = asked, np.ones(1), np.zeros(1)
        if key != manifest.space:
            carried = snapshot.crossings[key].bridge.apply(asked)
            vectors, scale, shift = carried.vectors, carried.scale, carried.shift
        scores = segment.matrix.astype(np.float64) @ vectors[0].astype(np.float64)
        for row, score in zip(segment.rows.tolist(), scores.tolist(), strict=True):
            if row in alive:
                out.setdefault(row, scale[0] * score + shift[0])
    return out


def assert_scores(collection: retr.Collection, query: str = QUERIES[1]) -> None:
    """See that every row is found once, by the vector that counts most, with its score."""
    expected = expected_scores(collection, query)
    hits = collection.search(query, k=10_000, mode="dense", passages=True)
    assert sorted(hit.row for hit in hits) == sorted(expected)
    assert all(abs(hit.score - expected[hit.row]) < 5e-6 for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def snapshot_of(collection: retr.Collection) -> Snapshot:
    return collection._snapshot


def build(
    path: Path, numbers: range, encoder: Encoder | None = None, **how: object
) -> retr.Collection:
    encoder = encoder or old_encoder()
    return retr.build(documents(numbers), path, encoder=encoder, **how)  # type: ignore[arg-type]
