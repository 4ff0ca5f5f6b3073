"""How open_clip prepares an image for the model, up to the last step, which is arithmetic.

The pixels are those of open_clip's own transforms, but made by Pillow alone: a process that
decodes images needs no torch, and sends bytes instead of floats. The encoder itself (`clip`)
scales to [0, 1] and applies mean and standard deviation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

# The greatest ratio of a resized image's length to that of the picture cut out of it. open_clip
# would resize all of a strip of 1 x 60,000 pixels, to 13 million pixels a line.
_LONGEST = 16


@dataclass(frozen=True, slots=True)
class Preparation:
    """Turns an RGB image into u8[height, width, 3].

    height, width: the result's size, in pixels.
    resize:        "shortest" covers the result and crops the middle; "longest" fits the whole
                   image and fills the rest; "squash" ignores the proportions.
    interpolation: "bicubic" or "bilinear".
    fill:          0 to 255, the value that "longest" fills with.
    """

    height: int
    width: int
    resize: str = "shortest"
    interpolation: str = "bicubic"
    fill: int = 0

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return u8[height, width, 3], C-contiguous."""
        import numpy as np
        from PIL import Image

        linear = self.interpolation == "bilinear"
        filter = Image.Resampling.BILINEAR if linear else Image.Resampling.BICUBIC
        if self.resize == "squash":
            image = _resized(image, (self.width, self.height), filter)
        elif self.resize == "longest":
            image = _resized(image, self._fitting(image, inside=True), filter)
            image = _middle(_padded(image, self.width, self.height, self.fill), self)
        elif self.height == self.width:
            image = self._without_ends(image)
            short, long = sorted(image.size)
            sizes = (self.width, int(self.width * long / short))
            image = _resized(image, sizes if image.width <= image.height else sizes[::-1], filter)
            image = _middle(image, self)
        else:
            # For a shape that is not square, open_clip always uses the bicubic filter.
            image = self._without_ends(image)
            size = self._fitting(image, inside=False)
            image = _resized(image, size, Image.Resampling.BICUBIC)
            image = _middle(_padded(image, self.width, self.height, 0), self)
        return np.asarray(image, np.uint8).copy()

    def _fitting(self, image: Image.Image, *, inside: bool) -> tuple[int, int]:
        ratios = image.width / self.width, image.height / self.height
        ratio = max(ratios) if inside else min(ratios)
        return max(1, round(image.width / ratio)), max(1, round(image.height / ratio))

    def _without_ends(self, image: Image.Image) -> Image.Image:
        """Return an extremely long or wide image without the ends, which nobody will see."""
        longest = _LONGEST * max(self.height / self.width, self.width / self.height)
        width = min(image.width, int(longest * image.height))
        height = min(image.height, int(longest * image.width))
        if (width, height) == image.size:
            return image
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))


def _resized(image: Image.Image, size: tuple[int, int], filter: Image.Resampling) -> Image.Image:
    return image if image.size == size else image.resize(size, filter)


def _padded(image: Image.Image, width: int, height: int, fill: int) -> Image.Image:
    from PIL import Image

    if image.width >= width and image.height >= height:
        return image
    wide, high = max(width, image.width), max(height, image.height)
    ground = Image.new("RGB", (wide, high), (fill, fill, fill))
    ground.paste(image, ((wide - image.width) // 2, (high - image.height) // 2))
    return ground


def _middle(image: Image.Image, to: Preparation) -> Image.Image:
    # Rounded as torchvision does.
    top, left = round((image.height - to.height) / 2.0), round((image.width - to.width) / 2.0)
    return image.crop((left, top, left + to.width, top + to.height))
