"""A small encoder for tests: deterministic, quick, and it counts what it is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import retr
from retr.retrieval.commits import Birth
from retr.retrieval.encoders.base import Encoder, Space
from retr.retrieval.ingest import Ingest
from retr.retrieval.progress import Silent
from retr.retrieval.sources import open_source
from retr.retrieval.store.store import Store
from retr.retrieval.types import Document


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


def build_without_words(
    documents: Sequence[Document], path: Path, encoder: Encoder
) -> retr.Collection:
    """Build a collection as retr did before it kept the words of texts."""
    birth = Birth(encoder.space, {"name": encoder.name, "options": {}})
    Ingest(Store(path), birth, encoder, None, Silent()).run(
        open_source(list(documents)), vanish=False
    )
    return retr.open(path, encoder=encoder)
