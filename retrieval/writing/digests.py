"""Digests of documents, which tell changed ones from unchanged ones without encoding them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..encoders.base import IMAGE
from ..values.types import Document, ImageAt

if TYPE_CHECKING:
    from ..values.types import Image

SIZE = 16


def digest_of(
    document: Document, modalities: frozenset[str], how: tuple[str | None, bool | None, int | None]
) -> tuple[bytes, int]:
    """Return a document's digest, and its approximate size in bytes without the text.

    modalities: what the encoder makes vectors from; an image counts only if they include images.
    how:        the source's name, whether texts are split into passages, and a passage's size.

    An image in a file is digested by its path, size and modification time, as in make and rsync:
    reading a million photographs to find that none has changed would take hours.
    """
    source, passages, size = how
    values = [
        document.text,
        document.uri,
        document.kind,
        document.place,
        document.metadata,
        source,
        passages,
        size,
    ]
    data = json.dumps(values, sort_keys=True, default=str).encode()
    digest = hashlib.blake2b(data, digest_size=SIZE)
    if document.vector is not None:
        digest.update(np.ascontiguousarray(document.vector, np.float32).tobytes())
    if document.image_vector is not None:
        digest.update(b"image vector")
        digest.update(np.ascontiguousarray(document.image_vector, np.float32).tobytes())
    held = 0
    if document.image is not None and (IMAGE in modalities or isinstance(document.image, ImageAt)):
        digest.update(b"image")
        held = _add_image(digest, document.image, IMAGE in modalities)
    return digest.digest(), max(0, len(data) + held - len(document.text or ""))


def _add_image(digest: Any, image: Image, contents: bool) -> int:
    """Add an image to a digest; return its approximate size in memory, in bytes.

    contents: whether a change to the image's file counts.
    """
    if isinstance(image, str | os.PathLike):
        image = ImageAt(str(Path(image).absolute()))
    if isinstance(image, ImageAt):
        values = [image.path, image.member, image.offset, image.size]
        if contents:
            values += _state(image.path)
        digest.update(json.dumps(values).encode())
        return 0
    data = image if isinstance(image, bytes) else _bytes_of_pixels(image)
    digest.update(data)
    return len(data)


def _state(path: str) -> list[int]:
    try:
        status = Path(path).stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _bytes_of_pixels(image: Any) -> bytes:
    """Return the pixels of a PIL image or an array, with their shape."""
    array = np.ascontiguousarray(image)
    return repr((getattr(image, "mode", ""), array.shape, array.dtype.str)).encode() + (
        array.tobytes()
    )
