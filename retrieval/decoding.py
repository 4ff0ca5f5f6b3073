"""Images on their way to the encoder: decoded ahead, encoded in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .images import UnreadableImageError, open_image

if TYPE_CHECKING:
    from .encoders.base import ImageEncoder
    from .types import Image


@dataclass(slots=True, eq=False)
class Ticket:
    """An image that is being decoded."""

    image: Image


class Decoding:
    """Decodes images ahead of the encoder."""

    def __init__(self, encoder: ImageEncoder) -> None:
        self._encoder = encoder
        self.batch = max(1, encoder.image_batch_size)
        self.window = 4 * self.batch

    def start(self, image: Image) -> Ticket:
        """Begin to decode an image."""
        return Ticket(image)

    def encode(
        self, tickets: Sequence[Ticket]
    ) -> list[NDArray[np.float32] | UnreadableImageError]:
        """Return f32[dim] for each image, or why there is none."""
        made: list[Any] = []
        for ticket in tickets:
            try:
                made.append(self._encoder.prepare(open_image(ticket.image)))
            except UnreadableImageError as error:
                made.append(error)
        arrays = [each for each in made if not isinstance(each, UnreadableImageError)]
        vectors = iter(self._encoder.encode_prepared(np.stack(arrays)) if arrays else ())
        return [
            each if isinstance(each, UnreadableImageError) else next(vectors) for each in made
        ]

    def close(self) -> None:
        """Give up what is still being decoded."""
