"""An encoder that keeps what it has encoded on the disk, so that no text is encoded twice.

A benchmark of upgrades backfills the same rows in several orders; the collection's own code asks
for them each time, and with a slow model all but the first time would be waste.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...retrieval.encoders.base import Encoder, EncoderOptions
from ...retrieval.values.errors import InputError
from ..beir.systems import space_key
from ..files import whole

Floats = NDArray[np.float32]
_BLOCK = 1_024


class RememberingEncoder(Encoder):
    """Another encoder, asked only for texts that it was not asked for before.

    folder: where the vectors are kept, one folder for each space.
    """

    family = "remembering"

    def __init__(self, inner: Encoder, folder: Path) -> None:
        self._inner = inner
        self.space = inner.space
        self.name = inner.name
        self.options = inner.options
        self.modalities = inner.modalities
        self.batch_size = inner.batch_size
        prompt = getattr(inner, "query_prompt", "") or ""
        self._kept = {
            side: _Kept(folder / f"{space_key(inner.space)}-{side}")
            for side in (_DOCUMENTS, _side_of_queries(prompt))
        }
        self._queries = _side_of_queries(prompt)

    @classmethod
    def open(cls, name: str, options: EncoderOptions) -> Encoder:
        """Refuse: it is made around another encoder, never by name."""
        raise InputError(f"encoder {name!r}: no encoder has this name")

    def encode_queries(self, items: Sequence[str]) -> Floats:
        """Return f32[n, dim], with the query prompt."""
        return self._encode(self._queries, items, self._inner.encode_queries)

    def encode_documents(self, items: Sequence[str]) -> Floats:
        """Return f32[n, dim], with the document prompt."""
        return self._encode(_DOCUMENTS, items, self._inner.encode_documents)

    def _encode(
        self, side: str, items: Sequence[str], encode: Callable[[Sequence[str]], Floats]
    ) -> Floats:
        kept = self._kept[side]
        keys = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in items]
        new = {key: text for key, text in zip(keys, items, strict=True) if key not in kept.places}
        # Texts of one length are encoded fastest together.
        order = sorted(new.items(), key=lambda item: len(item[1]))
        for start in range(0, len(order), _BLOCK):
            some = order[start : start + _BLOCK]
            kept.add([key for key, _ in some], encode([text for _, text in some]))
        return kept.take(keys, self.space.dim)


class _Kept:
    """Vectors by the digests of their texts: files that are only ever added."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: list[Floats] = []
        self.places: dict[bytes, tuple[int, int]] = {}
        for file in sorted(folder.glob("*.npz")):
            with np.load(file) as part:
                self._put([bytes(key) for key in part["keys"]], part["vectors"])

    def _put(self, keys: Sequence[bytes], vectors: Floats) -> None:
        for row, key in enumerate(keys):
            self.places[key] = (len(self._parts), row)
        self._parts.append(vectors)

    def add(self, keys: Sequence[bytes], vectors: Floats) -> None:
        """Keep some vectors, in memory and on the disk."""
        number = len(list(self._folder.glob("*.npz")))
        with whole(self._folder / f"{number:05d}.npz") as part, part.open("wb") as file:
            packed = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1)
            np.savez(file, keys=packed, vectors=vectors)
        self._put(keys, vectors)

    def take(self, keys: Sequence[bytes], dim: int) -> Floats:
        """Return f32[n, dim] of keys that are all there."""
        out = np.empty((len(keys), dim), np.float32)
        for row, key in enumerate(keys):
            part, place = self.places[key]
            out[row] = self._parts[part][place]
        return out


_DOCUMENTS = "documents"


def _side_of_queries(prompt: str) -> str:
    return f"queries-{hashlib.blake2b(prompt.encode(), digest_size=4).hexdigest()}"
