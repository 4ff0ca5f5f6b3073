"""What tells a changed document from an unchanged one, without encoding it."""

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
    """Return the digest of a document, and about how many bytes it holds but for its text.

    modalities: what the encoder makes vectors from; without images, an image does not count.
    how:        the source's name, and how texts are split into passages: whether, and the size.

    Of an image in a file its path, size and time of change count, as they do for make and rsync:
    to read a million photographs in order to find that none has changed takes hours.
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
    """Take an image into a digest; return about how many bytes it holds in memory."""
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
    """Return what a PIL image or an array holds, with its shape."""
    array = np.ascontiguousarray(image)
    return repr((getattr(image, "mode", ""), array.shape, array.dtype.str)).encode() + (
        array.tobytes()
    )
