"""Composed queries: texts and images added up to one vector, unwanted ones subtracted.

The arithmetic is ALIGN's (Jia et al., "Scaling Up Visual and Vision-Language Representation
Learning With Noisy Text Supervision", 2021, section 6.1): each part's vector is normalised to unit
length and multiplied by its weight, below 0 for an unwanted part; the sum is normalised again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..encoders.base import IMAGE, TEXT, Encoder, ImageEncoder
from ..values.errors import InputError
from ..values.images import refuse_address
from ..values.types import Query

if TYPE_CHECKING:
    from ..encoders.base import Space


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One part of a query: the query's number, the text or image, and its weight."""

    query: int
    item: Any
    weight: float


def compose(
    queries: Sequence[Query], space: Space, encoder: Callable[[], Encoder]
) -> NDArray[np.float32]:
    """Return f32[len(queries), dim], each query's parts added up to one vector.

    The texts of all queries are encoded in one call, and so are the images. A query of one text
    gets that text's vector.

    Raises:
        InputError: an image cannot be read, the encoder takes no images, or the parts of a query
            cancel each other out.
    """
    texts: list[_Part] = []
    images: list[_Part] = []
    for number, query in enumerate(queries):
        for modality, item, weight in query.parts():
            (texts if modality == TEXT else images).append(_Part(number, item, weight))
    out = np.zeros((len(queries), space.dim))
    loaded = encoder()
    if texts:
        _add(out, texts, loaded.encode_queries([part.item for part in texts]))
    if images:
        for part in images:
            refuse_address(part.item, "search: the image")
        _add(out, images, _images(loaded).encode_images([part.item for part in images]))
    for number, query in enumerate(queries):
        if not query.is_composed:
            continue
        length = float(np.linalg.norm(out[number]))
        if length < 1e-6:
            raise InputError(
                "search: the parts of the query cancel each other out; change the query or "
                "`without`, or give `without` less weight"
            )
        if space.normalised:
            out[number] /= length
    return out.astype(np.float32)


def _add(out: NDArray[np.float64], parts: Sequence[_Part], vectors: NDArray[np.float32]) -> None:
    for part, vector in zip(parts, vectors, strict=True):
        out[part.query] += part.weight * vector.astype(np.float64)


def _images(encoder: Encoder) -> ImageEncoder:
    if not encoder.modalities:
        raise InputError(
            "search: the collection holds your own vectors and has no encoder for images; search "
            "with vector=…"
        )
    if not isinstance(encoder, ImageEncoder) or IMAGE not in encoder.modalities:
        raise InputError(
            f"search: the collection's encoder {encoder.name} takes only texts; to search with "
            "an image, build a collection with --encoder clip:MODEL"
        )
    return encoder
