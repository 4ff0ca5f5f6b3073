"""A small encoder for tests: deterministic, quick, and it counts what it is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import retr
from retr.retrieval.encoders.base import Encoder, ImageEncoder, Space
from retr.retrieval.encoders.clip_preparation import Preparation
from retr.retrieval.sources import open_source
from retr.retrieval.store.store import Store
from retr.retrieval.values.progress import Silent
from retr.retrieval.values.types import Document
from retr.retrieval.writing.commits import NewCollection
from retr.retrieval.writing.ingest import Ingest


def words_to_vector(text: str, dim: int) -> NDArray[np.float32]:
    """Add up a pseudo-random vector per word, so that texts that share words are alike."""
    total = np.zeros(dim, np.float32)
    for word in text.lower().split():
        seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        total += np.random.default_rng(seed).standard_normal(dim, dtype=np.float32)
    length = float(np.linalg.norm(total))
    return total / length if length else total


class ToyEncoder(Encoder):
    """Adds up a vector per word; `seen` holds every document text that it was given."""

    family = "toy"
    batch_size = 16

    def __init__(self, dim: int = 24, revision: str = "1", fail_at: int | None = None) -> None:
        self.name = f"toy:{revision}"
        self.space = Space(self.name, "toy", revision, dim, True, "cosine")
        self.seen: list[str] = []
        self.fail_at = fail_at

    @classmethod
    def open(cls, name: str, options: retr.EncoderOptions) -> ToyEncoder:
        return cls(revision=name.removeprefix("toy:"))

    def encode_queries(self, items: Sequence[str]) -> NDArray[np.float32]:
        return self._encode(items)

    def encode_documents(self, items: Sequence[str]) -> NDArray[np.float32]:
        if self.fail_at is not None and len(self.seen) >= self.fail_at:
            raise KeyboardInterrupt
        self.seen += items
        return self._encode(items)

    def _encode(self, items: Sequence[str]) -> NDArray[np.float32]:
        if not items:
            return np.empty((0, self.space.dim), np.float32)
        return np.stack([words_to_vector(text, self.space.dim) for text in items])


class ToyImageEncoder(ImageEncoder):
    """Colours: of an image its own, of a text those that it names; `batches` holds what it did."""

    family = "toyimages"
    batch_size = 16
    image_batch_size = 16
    prepare = Preparation(4, 4)

    def __init__(self) -> None:
        self.name = "toyimages:1"
        self.space = Space(self.name, "toyimages", "1", 4, True, "cosine")
        self.batches: list[int] = []

    @classmethod
    def open(cls, name: str, options: retr.EncoderOptions) -> ToyImageEncoder:
        return cls()

    def encode_queries(self, items: Sequence[str]) -> NDArray[np.float32]:
        colours = ("red", "green", "blue")
        named = [[255.0 * (colour in text.lower()) for colour in colours] for text in items]
        return self._unit(np.array(named, np.float32).reshape(-1, 3))

    encode_documents = encode_queries

    def encode_prepared(self, arrays: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batches.append(len(arrays))
        return self._unit(arrays.reshape(len(arrays), -1, 3).mean(axis=1, dtype=np.float32))

    def _unit(self, colours: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return f32[n, 4] of unit length: the three colours, and a little that all have."""
        out = np.column_stack((colours, np.full(len(colours), 20, np.float32)))
        return out / np.linalg.norm(out, axis=1, keepdims=True)


def build_without_words(
    documents: Sequence[Document], path: Path, encoder: Encoder
) -> retr.Collection:
    """Build a collection as retr did before it kept the words of texts."""
    new = NewCollection(encoder.space, {"name": encoder.name, "options": {}})
    Ingest(Store(path), new, encoder, None, Silent()).run(
        open_source(list(documents)), vanish=False
    )
    return retr.open(path, encoder=encoder)
