"""Image and caption sets in the layout of Karpathy's splits, such as `dataset_coco.json`.

Karpathy and Fei-Fei, "Deep Visual-Semantic Alignments", 2015: one JSON object whose `images`
lists files with their `sentences` and the `split` that each belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..values.errors import InputError
from ..values.report import Skipped
from ..values.types import Document
from .base import Source
from .options import SourceOptions
from .pictures import CAPTIONS, UnusableImageError, image_in
from .streams import open_file
from .values import encodable, plain

_HEAD = 1 << 16
_KEPT = ("split", "imgid", "cocoid")


class Karpathy(Source):
    """The images of such a file, one document each; `total` and `done` count images.

    An id is the image's file name; the text is its captions, one passage each. Images are in the
    file's folder, or in the one that `images` names, under their `filepath` if they have one.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        """Read such a file, or the one in a folder.

        Raises:
            InputError: there is none, or an option does not apply.
        """
        file = annotations_of(path) if path.is_dir() else path
        if file is None:
            raise InputError(f"{path} has no dataset_*.json in it, or several; give the file")
        options.refuse(
            f"{file.name}, images and their captions,",
            *("id", "text", "title", "vector", "image", "ids", "include", "exclude"),
        )
        self.name = encodable(str(file))
        self._file = file
        self._root = Path(options.images or file.parent)

    def __iter__(self) -> Iterator[Document | Skipped]:
        """Yield one document per image.

        Raises:
            InputError: the file does not have this layout.
        """
        images = _images(self._file)
        self.total, self.done = len(images), 0
        for number, image in enumerate(images):
            where = f"{self._file.name}, image {number}"
            yield self._document(image, where)
            self.done = number + 1

    def _document(self, image: Any, where: str) -> Document | Skipped:
        name = image.get("filename") if isinstance(image, dict) else None
        if not isinstance(name, str) or not name:
            raise InputError(f"{where}: has no 'filename'")
        sentences = image.get("sentences")
        if not isinstance(sentences, list):
            raise InputError(f"{where} ({name}): 'sentences' is not a list")
        raw = [s.get("raw") for s in sentences if isinstance(s, dict)]
        captions = [" ".join(str(text).split()) for text in raw if text]
        metadata = {k: plain(image[k], where) for k in _KEPT if k in image}
        text = encodable("\n".join(captions)) or None
        try:
            at = image_in(self._path_of(name, image.get("filepath")), self._root)
        except UnusableImageError as error:
            return Skipped(where, str(error), encodable(name))
        return Document(
            encodable(name), text, encodable(at.path), metadata, kind=CAPTIONS, image=at
        )

    def _path_of(self, name: str, folder: object) -> str:
        """Return an image's path in the root: with its folder, unless it exists only without it."""
        below = f"{folder}/{name}" if isinstance(folder, str) and folder else name
        if below != name and not (self._root / below).exists() and (self._root / name).exists():
            return name
        return below


def annotations_of(folder: Path) -> Path | None:
    """Return the only such file in a folder; None if there is none or several."""
    try:
        found = [path for path in folder.glob("dataset_*.json") if has_sentences(path)]
    except OSError:
        return None
    return found[0] if len(found) == 1 else None


def has_sentences(path: Path) -> bool:
    """Return whether a JSON file begins like one of images and sentences."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    return head.lstrip().startswith(b"{") and b'"sentences"' in head and b'"images"' in head


def _images(path: Path) -> list[Any]:
    with open_file(path) as file:
        try:
            values = json.load(file)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path.name}: not JSON ({error})") from None
    images = values.get("images") if isinstance(values, dict) else None
    if not isinstance(images, list):
        raise InputError(f"{path.name}: has no list 'images', which Karpathy's splits have")
    return images
