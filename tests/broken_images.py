"""Images of every kind that a folder of the real world holds, good and bad, made here."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RED, GREEN, BLUE, WHITE = (220, 30, 40), (30, 180, 60), (40, 60, 210), (255, 255, 255)


def halves(size: tuple[int, int] = (60, 40)) -> Image.Image:
    """Return a picture whose left half is red and whose right half is blue."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image


def encoded(image: Image.Image, format: str, **how: Any) -> bytes:
    """Return the bytes of a file of `image`."""
    out = io.BytesIO()
    image.save(out, format, **how)
    return out.getvalue()


def photograph(seed: int = 0, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Return a picture with some structure: smooth noise in colour."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def bomb(side: int = 60_000) -> bytes:
    """Return a PNG of some kilobytes that says it has side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * (side + 1) * 64, 9)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    )


def rotated() -> bytes:
    """Return a JPEG stored on its side; its EXIF says how to hold it, red on the left."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise by 90 degrees to see it
    return encoded(halves().rotate(90, expand=True), "JPEG", quality=95, exif=exif)


def good() -> dict[str, bytes]:
    """Return files by name: red on the left and blue on the right, however they are kept."""
    image = halves()
    grey16 = np.zeros((40, 60), np.uint16)
    grey16[:, :30] = 40_000
    alpha = image.convert("RGBA")
    alpha.paste((0, 0, 0, 0), (0, 20, 60, 40))
    blank = Image.new("RGB", image.size, GREEN)
    return {
        "plain.jpg": encoded(image, "JPEG", quality=95),
        "plain.png": encoded(image, "PNG"),
        "plain.webp": encoded(image, "WEBP", lossless=True),
        "plain.bmp": encoded(image, "BMP"),
        "plain.tif": encoded(image, "TIFF"),
        "wrong name.gif": encoded(image, "PNG"),
        "palette.png": encoded(image.quantize(8), "PNG"),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG", quality=95),
        "cmyk.tif": encoded(image.convert("CMYK"), "TIFF"),
        "rotated.jpg": rotated(),
        "animated.gif": encoded(image, "GIF", save_all=True, append_images=[blank]),
        "animated.png": encoded(image, "PNG", save_all=True, append_images=[blank]),
        "animated.webp": encoded(
            image, "WEBP", save_all=True, append_images=[blank], lossless=True
        ),
        "grey16.png": encoded(Image.fromarray(grey16), "PNG"),
        "grey16.tif": encoded(Image.fromarray(grey16), "TIFF"),
        "alpha.png": encoded(alpha, "PNG"),
        "alpha palette.png": encoded(alpha.quantize(8), "PNG"),
        "grey.jpg": encoded(image.convert("L"), "JPEG"),
        "one bit.png": encoded(image.convert("1"), "PNG"),
    }


def bad() -> dict[str, tuple[bytes, str]]:
    """Return files by name, each with a part of the reason why there is no image in it."""
    jpeg = encoded(photograph(), "JPEG", quality=95)
    png = encoded(photograph(), "PNG")
    flipped = bytearray(png)
    flipped[60] ^= 0xFF
    return {
        "empty.jpg": (b"", "empty"),
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "damaged"),
        "truncated.png": (png[: len(png) // 2], "damaged"),
        "flipped.png": (bytes(flipped), "damaged"),
        "header only.png": (png[:24], "damaged"),
        "bomb.png": (bomb(), "pixels"),
        "noise.jpg": (np.random.default_rng(5).bytes(2000), "not an image"),
        "text.jpg": (b"this is no image\n" * 20, "not an image"),
        "page.png": (b"<!doctype html><html><body>404</body></html>", "web page"),
        "drawing.png": (b'<?xml version="1.0"?><svg width="9"/>', "SVG"),
        "program.png": (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
            "not an image",
        ),
    }


def write_all(folder: Path) -> tuple[list[Path], list[Path]]:
    """Write every good and every bad image into a folder; return the paths of both."""
    folder.mkdir(parents=True, exist_ok=True)
    kept, broken = [], []
    for name, data in good().items():
        (folder / name).write_bytes(data)
        kept.append(folder / name)
    for name, (data, _) in bad().items():
        (folder / name).write_bytes(data)
        broken.append(folder / name)
    return kept, broken
