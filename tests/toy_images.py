"""A small encoder of texts and images for tests: colours in pixels against words for colours."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import retr
from retr.retrieval.encoders.base import ImageEncoder, Space

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 190, 50),
    "blue": (40, 60, 220),
    "yellow": (230, 220, 40),
    "purple": (140, 40, 160),
    "white": (245, 245, 245),
    "black": (12, 12, 12),
    "orange": (240, 140, 20),
}
GAP = 3.0


def mean_colour(image: Image.Image) -> NDArray[np.float32]:
    """Return f32[3], each from -1 to 1; what the encoder makes of an image before the model."""
    pixels = np.asarray(image.convert("RGB"), np.float32)
    means: NDArray[np.float32] = (pixels.mean(axis=(0, 1)) / 127.5 - 1).astype(np.float32)
    return means


class ToyImageEncoder(ImageEncoder):
    """Places images by their mean colour and texts by the colours they name.

    Texts lie far from images, as in CLIP: a dimension each says which of the two a vector is of.
    `texts` and `images` count what was encoded; `fail_at` images it is interrupted.
    """

    family = "toyimages"
    batch_size = 8
    image_batch_size = 4

    def __init__(self, fail_at: int | None = None, dim: int = 8) -> None:
        self.name = "toyimages:1"
        self.space = Space(self.name, self.family, "1", dim, True, "cosine")
        self.texts = 0
        self.images = 0
        self.fail_at = fail_at

    @classmethod
    def open(cls, name: str, options: retr.EncoderOptions) -> ToyImageEncoder:
        return cls()

    @property
    def prepare(self) -> Callable[[Image.Image], NDArray[Any]]:
        return mean_colour

    def encode_prepared(self, arrays: NDArray[Any]) -> NDArray[np.float32]:
        if self.fail_at is not None and self.images >= self.fail_at:
            raise KeyboardInterrupt
        self.images += len(arrays)
        return self._placed(np.asarray(arrays, np.float32), 4)

    def encode_queries(self, items: Sequence[str]) -> NDArray[np.float32]:
        return self._encode(items)

    def encode_documents(self, items: Sequence[str]) -> NDArray[np.float32]:
        self.texts += len(items)
        return self._encode(items)

    def _encode(self, items: Sequence[str]) -> NDArray[np.float32]:
        colours = np.zeros((len(items), 3), np.float32)
        for row, text in zip(colours, items, strict=True):
            named = [COLOURS[word] for word in text.lower().split() if word in COLOURS]
            if named:
                row += np.mean(named, axis=0) / 127.5 - 1
        return self._placed(colours, 3)

    def _placed(self, colours: NDArray[np.float32], gap: int) -> NDArray[np.float32]:
        out = np.zeros((len(colours), self.space.dim), np.float32)
        out[:, :3] = colours
        out[:, gap] = GAP
        return out / np.linalg.norm(out, axis=1, keepdims=True) if len(out) else out


def picture(colour: str, size: tuple[int, int] = (24, 16), seed: int = 0) -> Image.Image:
    """Return a picture of one colour, with a little noise."""
    noise = np.random.default_rng(seed).integers(-8, 9, (size[1], size[0], 3))
    pixels = np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels)


def data_of(image: Image.Image, format: str = "PNG") -> bytes:
    """Return the bytes of an image's file."""
    out = io.BytesIO()
    image.save(out, format)
    return out.getvalue()


def save(path: Path, colour: str, seed: int = 0) -> Path:
    """Write a picture of one colour to a file, in a folder that is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(colour, seed=seed).save(path)
    return path
