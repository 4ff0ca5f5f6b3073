"""Opening any image: returns an upright RGB picture, or says in one clause why it cannot.

Files in an image folder cannot be trusted: they may be truncated, empty, not images at all, or
small files that unpack to gigabytes. Each of these raises an `UnreadableImageError` with a reason;
no other Pillow exception escapes.

An image is opened as people see it. Its EXIF orientation is applied. Transparent areas are drawn
on white, as in the training data that img2dataset made, because the colours stored beneath them
are arbitrary. An animation is represented by its first frame. 16-bit and floating-point values
are scaled to 8 bits; Pillow would clip them.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError, StorageError, missing_extra
from .types import ImageAt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

ImageInput = "str | os.PathLike[str] | bytes | Image.Image | NDArray[Any]"
"""A path, the bytes of a file, a PIL image, or an array [height, width(, 1, 3 or 4)]."""

# Pillow raises an error above this; such a picture takes 0.5 GB as RGB.
MAX_PIXELS = 178_956_970
MAX_BYTES = 1 << 30

# Recognised by content, not by name. Left out are formats that Pillow hands to other programs
# (EPS), formats it only describes (GRIB, WMF), and formats without a signature (TGA).
FORMATS = (
    *("JPEG", "MPO", "PNG", "WEBP", "GIF", "AVIF", "HEIF", "TIFF", "BMP", "DIB", "JPEG2000"),
    *("PPM", "ICO", "ICNS", "QOI", "PSD", "SGI", "PCX", "DDS", "JXL"),
)

SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".avif"),
        *(".heic", ".heif", ".tif", ".tiff", ".bmp", ".dib", ".jp2", ".j2k", ".ppm", ".pgm"),
        *(".pbm", ".pnm", ".ico", ".icns", ".qoi", ".psd", ".sgi", ".pcx", ".dds", ".jxl"),
    )
)
"""The lower-case suffixes of the files that count as images."""


DOWNLOAD = (
    "download the images with img2dataset (pip install img2dataset) and pass the folder it writes"
)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class UnreadableImageError(InputError):
    """The given value cannot be opened as an image.

    reason: one clause, without the image's name.
    """

    def __init__(self, reason: str, where: str = "the image") -> None:
        super().__init__(f"{where}: {reason}")
        self.reason = reason


def is_address(value: object) -> bool:
    """Return whether a value is an address such as "https://…"."""
    return isinstance(value, str) and _ADDRESS.match(value.strip()) is not None


def refuse_address(value: object, where: str) -> None:
    """Refuse an address given in place of an image.

    Raises:
        InputError: the value is an address; the message names img2dataset.
    """
    if is_address(value):
        raise InputError(
            f"{where} is an address ({str(value).strip():.60}), and retr downloads nothing: "
            + DOWNLOAD
        )


def open_image(source: Any, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return an image as people see it: upright, RGB and decoded.

    source:     an `ImageInput`: a path, an `ImageAt`, the bytes of a file, a PIL image, or an
                array of shape [height, width], [height, width, 1], [height, width, 3] or
                [height, width, 4], of uint8, uint16, bool, or floats from 0 to 1.
    max_pixels: larger images are refused before they are unpacked.

    Raises:
        UnreadableImageError: `source` cannot be opened; the message says why.
        InputError: `source` has a type that cannot hold an image.
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise missing_extra("reading images", "clip") from error
    if isinstance(source, Image.Image):
        return _guarded(lambda: _as_seen(source, max_pixels))
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(bytes(source), max_pixels)
    if isinstance(source, str | os.PathLike):
        return _decode(read_file(Path(source)), max_pixels)
    if isinstance(source, ImageAt):
        return _decode(bytes_at(source), max_pixels)
    return _guarded(lambda: _as_seen(_of_array(source), max_pixels))


def read_file(path: Path) -> bytes:
    """Return the bytes of an image's file.

    Raises:
        UnreadableImageError: it cannot be read, is not a regular file, or exceeds `MAX_BYTES`.
    """
    if "\0" in str(path):
        raise UnreadableImageError("there is no such file")
    try:
        # Non-blocking, because a pipe that nobody writes to would block for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableImageError("is not a file")
            if status.st_size > MAX_BYTES:
                raise UnreadableImageError(f"is too large for an image: {status.st_size:,} bytes")
            return file.read(MAX_BYTES)
    except FileNotFoundError as error:
        raise UnreadableImageError("there is no such file") from error
    except OSError as error:
        raise UnreadableImageError(f"cannot be read ({error.strerror})") from error


def bytes_at(where: ImageAt) -> bytes:
    """Return the bytes of an image in a file, an archive or a table.

    Raises:
        UnreadableImageError: it cannot be read, or is no longer there.
    """
    if where.data is not None:
        return where.data
    if where.member is None:
        return read_file(Path(where.path))
    if where.path.endswith(".parquet"):
        return _bytes_in_table(where)
    if where.offset is None or where.size is None or where.size > MAX_BYTES:
        raise UnreadableImageError(f"is too large for an image: {where.size or 0:,} bytes")
    try:
        with Path(where.path).open("rb") as file:
            data = os.pread(file.fileno(), where.size, where.offset)
    except OSError as error:
        raise UnreadableImageError(f"cannot be read ({error.strerror})") from error
    if len(data) < where.size:
        raise UnreadableImageError("the archive that held it has been truncated")
    return data


def _bytes_in_table(where: ImageAt) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(where.path, memory_map=True)
        row = where.offset or 0
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            if row < rows:
                column = table.read_row_group(group, columns=[where.member]).column(where.member)
                value = column[row].as_py()
                data = value.get("bytes") if isinstance(value, dict) else value
                if isinstance(data, bytes):
                    return data
                break
            row -= rows
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UnreadableImageError(f"cannot be read ({error})") from error
    raise UnreadableImageError("is no longer in the table")


def _decode(data: bytes, max_pixels: int) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise UnreadableImageError("the file is empty")
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]

    def decode() -> Image.Image:
        try:
            image = Image.open(io.BytesIO(data), formats=formats)
        except UnidentifiedImageError as error:
            raise UnreadableImageError(_unknown(data)) from error
        with image:
            return _as_seen(image, max_pixels)

    return _guarded(decode)


def _guarded(decode: Callable[[], Image.Image]) -> Image.Image:
    """Call `decode`, and turn whatever Pillow raises for a broken image into a reason."""
    from PIL import Image

    try:
        return decode()
    except (InputError, StorageError):
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(_too_many(MAX_PIXELS)) from error
    except MemoryError as error:
        raise UnreadableImageError("needs more memory than is available") from error
    # Pillow raises a dozen exception types for broken files, from struct.error to KeyError.
    except Exception as error:
        said = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise UnreadableImageError(f"is damaged ({said})") from error


def _as_seen(image: Image.Image, max_pixels: int) -> Image.Image:
    from PIL import Image, ImageOps

    width, height = image.size
    if width * height > max_pixels:
        raise UnreadableImageError(_too_many(max_pixels))
    if not width or not height:
        raise UnreadableImageError(f"has {width} x {height} pixels")
    image.load()
    upright: Image.Image = ImageOps.exif_transpose(image)
    mode = upright.mode
    if mode == "RGB" and "transparency" not in upright.info:
        return upright.copy() if upright is image else upright
    if mode.startswith("I") or mode == "F":
        return Image.fromarray(_eight_bits(upright)).convert("RGB")
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in upright.info:
        seen = upright.convert("RGBA")
        white = Image.new("RGBA", seen.size, "white")
        return Image.alpha_composite(white, seen).convert("RGB")
    return upright.convert("RGB")


def _too_many(most: int) -> str:
    return f"has more than {most:,} pixels"


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """Return u8[height, width] of an image with wider values; 16 bits keep the high byte."""
    import numpy as np

    values = np.nan_to_num(np.asarray(image).astype(np.float64))
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I;16") or (image.mode == "I" and low >= 0 and 255 < high < 65536):
        values = values // 256
    elif image.mode == "F" and low >= 0 and high <= 1:
        values = values * 255
    elif low < 0 or high > 255:
        values = (values - low) * (255 / max(high - low, 1e-12))
    return np.clip(values, 0, 255).astype(np.uint8)


def _of_array(given: Any) -> Image.Image:
    import numpy as np
    from PIL import Image

    if hasattr(given, "detach"):  # a torch tensor
        given = given.detach().cpu().numpy()
    if not isinstance(given, np.ndarray):
        raise InputError(
            "an image must be a path, the bytes of a file, a PIL image or an array, not a "
            f"{type(given).__name__}"
        )
    values = given[:, :, 0] if given.ndim == 3 and given.shape[2] == 1 else given
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        raise InputError(
            f"an image's array has the shape {list(given.shape)}; give [height, width] or "
            "[height, width, 3]"
        )
    if 0 in values.shape:
        raise UnreadableImageError(f"has no pixels: its shape is {list(given.shape)}")
    if values.dtype == np.bool_:
        values = values * np.uint8(255)
    elif values.dtype == np.uint16:
        values = values >> 8
    elif values.dtype.kind == "f":
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise InputError("an image's array of floats has values outside 0 to 1")
        values = np.rint(values * 255)
    elif values.dtype != np.uint8:
        raise InputError(
            f"an image's array has dtype {values.dtype}; give uint8, uint16, bool, or floats "
            "from 0 to 1"
        )
    return Image.fromarray(np.ascontiguousarray(values.astype(np.uint8)))


def _unknown(data: bytes) -> str:
    """Return why no format matched, with hints for the common cases."""
    head = data[:512].lstrip().lower()
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        return "is a HEIC image; convert it, or install and register pillow-heif"
    if head.startswith((b"<svg", b"<?xml")) and b"<svg" in data[:4096].lower():
        return "is an SVG drawing, not a pixel image; convert it to PNG"
    if head.startswith((b"<!doctype", b"<html")):
        return "is a web page, not an image"
    if head.startswith(b"%pdf"):
        return "is a PDF, not an image"
    return "is not an image that can be read"
