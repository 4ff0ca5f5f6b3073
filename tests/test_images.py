"""Opening images: what people see, or one clause that says why not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from retr.retrieval.values.errors import InputError
from retr.retrieval.values.images import SUFFIXES, UnreadableImageError, open_image

from .broken_images import BLUE, RED, bad, bomb, encoded, good, halves, photograph

GOOD, BAD = good(), bad()


def corner(image: Image.Image, x: float) -> np.ndarray:
    """Return the colour at x of the width, in the upper quarter."""
    return np.array(image.getpixel((int(x * image.width), image.height // 4)), int)


@pytest.mark.parametrize("name", GOOD)
def test_every_kind_of_image_is_seen_as_people_see_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(GOOD[name])
    for source in (path, str(path), GOOD[name]):
        image = open_image(source)
        assert (image.mode, image.size) == ("RGB", (60, 40))
        left, right = corner(image, 0.2), corner(image, 0.8)
        if "grey" in name or "bit" in name:
            assert len({*left.tolist()}) == 1, "a grey"
            assert abs(int(left[0]) - int(right[0])) > 5 or name == "one bit.png"
        else:
            # The ink colours of CMYK and the compression of JPEG are not exact.
            assert np.abs(left - RED).max() < 12
            assert np.abs(right - BLUE).max() < 12


def test_16_bits_keep_their_greys() -> None:
    for name in ("grey16.png", "grey16.tif"):
        assert corner(open_image(GOOD[name]), 0.2).tolist() == [40_000 // 256] * 3
        assert corner(open_image(GOOD[name]), 0.8).tolist() == [0] * 3


def test_what_is_transparent_lies_on_white() -> None:
    for name in ("alpha.png", "alpha palette.png"):
        assert open_image(GOOD[name]).getpixel((10, 35)) == (255, 255, 255)


def test_32_bit_images_are_scaled(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    for values, mode in (
        (ramp, "F"),
        (ramp * 1e6 - 5e5, "F"),
        ((ramp * 1e9).astype(np.int32), "I"),
    ):
        image = Image.fromarray(values)
        assert image.mode == mode
        seen = np.asarray(open_image(encoded(image, "TIFF")))[:, :, 0]
        assert np.abs(seen.ravel().astype(int) - np.arange(256)).max() <= 1


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_says_why(name: str, tmp_path: Path) -> None:
    data, part = BAD[name]
    path = tmp_path / name
    path.write_bytes(data)
    for source in (path, data):
        with pytest.raises(UnreadableImageError) as caught:
            open_image(source)
        assert part in caught.value.reason
        assert "\n" not in caught.value.reason
        assert str(path) not in caught.value.reason, "the caller says where"


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    data = bomb()
    assert len(data) < 30_000
    with pytest.raises(UnreadableImageError, match=r"pixels"):
        open_image(data)
    with pytest.raises(UnreadableImageError, match=r"more than 2,399 pixels"):
        open_image(GOOD["plain.png"], max_pixels=2399)
    assert open_image(GOOD["plain.png"], max_pixels=2400).size == (60, 40)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name, part in (
        ("pipe.jpg", "not a file"),
        ("folder.jpg", "directory"),
        ("nothing.jpg", "no such file"),
        ("a\0b.jpg", "no such file"),
    ):
        with pytest.raises(UnreadableImageError, match=part):
            open_image(f"{tmp_path}/{name}")


def test_images_and_arrays_in_memory() -> None:
    image = photograph()
    rgb = np.asarray(image)
    before = image.copy()
    for each in (image, rgb, rgb / 255.0, rgb.astype(np.uint16) << 8, image.convert("RGBA")):
        assert np.array_equal(np.asarray(open_image(each)), rgb)
    assert image == before
    grey = rgb[:, :, 0]
    for each in (grey, grey[:, :, None]):
        assert np.array_equal(np.asarray(open_image(each))[:, :, 2], grey)
    assert open_image(grey > 100).getextrema() == ((0, 255),) * 3
    opened = open_image(image)
    opened.putpixel((0, 0), (1, 2, 3))
    assert image == before, "a copy"


@pytest.mark.parametrize(
    "given",
    [
        7,
        None,
        ["a.jpg"],
        np.zeros((4, 4, 2), np.uint8),
        np.zeros(4, np.uint8),
        np.full((4, 4), 3.0),
        np.full((4, 4), np.nan),
        np.zeros((4, 4), np.int64),
        np.zeros((4, 4), object),
        np.zeros((0, 4), np.uint8),
    ],
)
def test_what_is_no_image_in_memory_is_refused(given: object) -> None:
    with pytest.raises(InputError):
        open_image(given)


@settings(max_examples=150, deadline=None)
@given(some.data())
def test_damage_gives_an_image_or_a_reason(data: some.DataObject) -> None:
    """Whatever bytes are changed, nothing but an `UnreadableImageError` comes out."""
    whole = GOOD[data.draw(some.sampled_from(sorted(GOOD)))]
    broken = bytearray(whole[: data.draw(some.integers(0, len(whole)))])
    for place, value in data.draw(some.lists(some.tuples(some.integers(0), some.integers(0, 255)))):
        if broken:
            broken[place % len(broken)] = value
    try:
        image = open_image(bytes(broken), max_pixels=1_000_000)
    except UnreadableImageError as error:
        assert error.reason
    else:
        assert image.mode == "RGB"


def test_suffixes_are_of_formats_that_are_read(tmp_path: Path) -> None:
    for suffix in (
        ".jpg",
        ".png",
        ".webp",
        ".gif",
        ".tif",
        ".bmp",
        ".ppm",
        ".ico",
        ".avif",
        ".qoi",
    ):
        assert suffix in SUFFIXES
    assert open_image(encoded(halves(), "PPM")).size == (60, 40)
