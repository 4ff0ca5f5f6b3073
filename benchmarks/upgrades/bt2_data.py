"""Labelled images for BT²'s protocol: those of scikit-learn, emoji, CIFAR-100, or a folder.

Images are small and of one size, since what is compared is retrieval across two encoders and not
how good an encoder can get: 8 pixels a side for digits, 32 for all others.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...retrieval.store.disk import storage_errors
from ...retrieval.values.errors import DamagedError, InputError, missing_extra
from ...retrieval.values.images import open_image

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

SIDE = 32
FEWEST_IMAGES = 12
"""Of a class: half of them are left out and search each other."""

_CIFAR_RECORD = 2 + 3 * SIDE * SIDE
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Images and what they show.

    name:   of the file of results: "digits".
    title:  what it is, with its size.
    images: u8[n, height, width, channels].
    labels: i64[n], 0 to c - 1.
    split:  how many of the first images are those to train on, where the data set says so; None
            leaves half of them out at random.
    """

    name: str
    title: str
    images: Images
    labels: Labels
    split: int | None = None

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.labels.max()) + 1


def digits() -> Labelled:
    """Return the digits of scikit-learn.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise missing_extra("the digits of scikit-learn", "st") from None
    found = load_digits()
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = found.target.astype(np.int64)
    title = f"scikit-learn's digits, 10 classes, {len(labels):,} images, half of them left out"
    return Labelled("digits", title, images, labels)


def twemoji(folder: Path | None = None) -> Labelled:
    """Return emoji by their subgroups, without the variants of skin tone, which are near copies.

    folder: holds `emoji-info.json` and `png/NAME.png`; else `twemoji` of the test data, where the
        environment's RETR_TEST_DATA says.

    Raises:
        InputError: there is no such folder.
    """
    if folder is None:
        default = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
        folder = Path(os.environ.get("RETR_TEST_DATA", default)) / "twemoji"
    listing = folder / "emoji-info.json"
    if not listing.is_file():
        raise InputError(
            f"{listing}: there is no such file; set RETR_TEST_DATA to the folder that holds "
            "twemoji/emoji-info.json and twemoji/png"
        )
    files, names = [], []
    for each in json.loads(listing.read_text("utf-8")):
        file = folder / "png" / f"{each['name']}.png"
        if "skin tone" not in each["name"] and file.is_file():
            files.append(file)
            names.append(each["subgroup"])
    return _of_files("twemoji", "Twemoji by subgroup, without skin tones", files, names)


def folder_of_classes(folder: Path) -> Labelled:
    """Return the images of a folder with a folder for each class.

    Raises:
        InputError: there are no two classes with enough images.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; give one that holds a folder for each class")
    files = sorted(file for file in folder.glob("*/*") if file.suffix.lower() in _SUFFIXES)
    return _of_files(folder.name, folder.name, files, [file.parent.name for file in files])


def cifar100(folder: Path, most: int | None = 100) -> Labelled:
    """Return CIFAR-100 from its binary version: its own split, all of its test images.

    folder: holds `train.bin` and `test.bin`, or `cifar-100-binary` with them.
    most:   images a class to train on, the first ones; None takes all 500.

    Raises:
        InputError: the files are not there.
        DamagedError: one is cut short.
    """
    inside = folder / "cifar-100-binary"
    folder = inside if inside.is_dir() else folder
    images, labels = _cifar(folder / "train.bin")
    if most is not None:
        kept = np.sort(np.concatenate([np.flatnonzero(labels == k)[:most] for k in range(100)]))
        images, labels = images[kept], labels[kept]
    others, others_labels = _cifar(folder / "test.bin")
    title = f"CIFAR-100, {len(labels):,} images to train on, {len(others_labels):,} left out"
    return Labelled(
        "cifar100",
        title,
        np.concatenate([images, others]),
        np.concatenate([labels, others_labels]),
        split=len(images),
    )


def _cifar(path: Path) -> tuple[Images, Labels]:
    if not path.is_file():
        raise InputError(
            f"{path}: there is no such file; --data names the folder of CIFAR-100's binary version "
            "(cifar-100-binary: train.bin and test.bin)"
        )
    with storage_errors(path):
        raw = np.fromfile(path, np.uint8)
    if not len(raw) or len(raw) % _CIFAR_RECORD:
        raise DamagedError(
            f"{path}: {len(raw):,} bytes are not records of {_CIFAR_RECORD:,}; it was cut short"
        )
    records = raw.reshape(-1, _CIFAR_RECORD)
    # A byte of the coarse label, one of the fine label, then red, green and blue, row by row.
    labels = records[:, 1].astype(np.int64)
    if labels.max() > 99:
        raise DamagedError(f"{path}: has a label {labels.max()}, above 99: is it CIFAR-100's?")
    images = records[:, 2:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels


def _of_files(name: str, title: str, files: Sequence[Path], names: Sequence[str]) -> Labelled:
    counts = Counter(names)
    kept = sorted(each for each, count in counts.items() if count >= FEWEST_IMAGES)
    if len(kept) < 4:
        raise InputError(
            f"{name}: {len(kept)} classes have {FEWEST_IMAGES} images or more; give at least 4, so "
            "that half of them are classes to tell apart"
        )
    number = {each: at for at, each in enumerate(kept)}
    chosen = [
        (file, number[each]) for file, each in zip(files, names, strict=True) if each in number
    ]
    images = np.stack([_small(file) for file, _ in chosen])
    labels = np.array([label for _, label in chosen], np.int64)
    title = f"{title}, {len(kept)} classes, {len(labels):,} images, half of them left out"
    return Labelled(name, title, images, labels)


def _small(file: Path) -> Images:
    image = open_image(file)
    return np.asarray(image.resize((SIDE, SIDE), 2), np.uint8)  # 2 is bilinear in every Pillow
