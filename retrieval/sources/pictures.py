"""Images of records: which column has them, where they are, and which rows share an image."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..values.errors import InputError
from ..values.images import DOWNLOAD, SUFFIXES, is_address, refuse_address
from ..values.report import Skipped
from ..values.types import Document, ImageAt

if TYPE_CHECKING:
    from ..values.types import Image

COLUMNS = (
    *("image", "image_path", "img_path", "image_file", "image_name", "img", "picture", "photo"),
    *("jpg", "jpeg", "png", "webp"),
)
"""Columns that hold images or their paths."""

PATHS = ("file_name", "filename", "file_path", "filepath", "path", "file")
"""Columns that hold paths, possibly of images."""

CAPTIONS = "captions"
"""The kind (`Document.kind`) of a text that consists of several captions, one per line."""


class UnusableImageError(Exception):
    """A record's image cannot be used; the message is one clause that says why."""


def is_image(path: str) -> bool:
    """Return whether a path has an image's suffix."""
    return os.path.splitext(path)[1].lower() in SUFFIXES  # noqa: PTH122


def image_column(first: Mapping[str, Any], where: str) -> str | None:
    """Return the column of images; None if there is none.

    first: the first non-null value of each column.

    Raises:
        InputError: there is none, but a column holds the addresses of images.
    """
    for name in COLUMNS:
        value = first.get(name)
        if value is None:
            continue
        if not isinstance(value, str) or is_image(value) or is_address(value):
            return name
    for name in PATHS:
        value = first.get(name)
        if isinstance(value, str) and is_image(value) and not is_address(value):
            return name
    for name, value in first.items():
        if is_address(value) and (
            is_image(str(value).split("?")[0]) or name.lower() in ("image_url", "img_url")
        ):
            raise InputError(
                f"{where}: column {name!r} holds addresses of images ({value!s:.60}), and retr "
                f"downloads nothing: {DOWNLOAD}; to index only the texts, choose a text encoder"
            )
    return None


def first_values(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the first non-empty value of each column."""
    found: dict[str, Any] = {}
    for record in records:
        for name, value in record.items():
            blank = value is None or (isinstance(value, str) and not value)
            if not blank and name not in found:
                found[name] = value
    return found


def as_image(value: Any, where: str, root: Path | None, at: ImageAt | None = None) -> Image | None:
    """Return a record's image; None if it has none.

    value: a path, bytes, a dict of both as in Hugging Face's datasets, a PIL image, an array.
    root:  the folder to which paths are relative; None is the current one.
    at:    the position of the value, if it is bytes.

    Raises:
        InputError: it is an address, or has a type that cannot hold an image.
        UnusableImageError: its path leads out of the folder.
    """
    if isinstance(value, Mapping) and ("bytes" in value or "path" in value):
        inside = value.get("bytes")
        value = value.get("path") if inside is None else inside
    if value is None or (isinstance(value, str) and not value):
        return None
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        return data if at is None else dataclasses.replace(at, size=len(data), data=data)
    if isinstance(value, ImageAt):
        return value
    if isinstance(value, str | os.PathLike):
        refuse_address(value, where)
        return image_in(os.fspath(value), root)
    if hasattr(value, "convert") or hasattr(value, "dtype") or hasattr(value, "detach"):
        kept: Image = value
        return kept
    raise InputError(
        f"{where} is of type {type(value).__name__}; give an image as a path, the bytes of a "
        "file, a PIL image or an array"
    )


def image_in(path: str, root: Path | None) -> ImageAt:
    """Return the image at a path; a relative path starts in `root` and must stay in it.

    Raises:
        UnusableImageError: it leads out, by ".." or by a link.
    """
    given = Path(path).expanduser()
    if given.is_absolute():
        return at_path(str(given))
    folder = (root or Path.cwd()).resolve()
    try:
        whole = (folder / given).resolve()
    except (OSError, RuntimeError, ValueError):  # a cycle of links, a NUL
        raise UnusableImageError(f"the image's path {path!r} leads nowhere") from None
    if not whole.is_relative_to(folder):
        raise UnusableImageError(
            f"the image's path {path!r} leads out of {folder}; name the folder of images "
            "(images=, --images)"
        )
    return at_path(str(folder / given))


def at_path(path: str) -> ImageAt:
    """Return the image that is a file by itself."""
    try:
        return ImageAt(path, size=Path(path).stat().st_size)
    except (OSError, ValueError):  # opening it reports what is wrong
        return ImageAt(path)


def captions_of(values: Sequence[Any], where: str) -> tuple[str | None, str | None]:
    """Return the text of a document with an image, one caption per line, and its kind.

    values: of the text columns: texts, or lists of texts, as in COCO and Flickr.

    Raises:
        InputError: a value is neither.
    """
    from .values import as_text

    lists = [v for v in values if isinstance(v, list | tuple)]
    captions = [" ".join(as_text(item, where).split()) for each in lists for item in each]
    text = " ".join(as_text(v, where) for v in values if not isinstance(v, list | tuple)).strip()
    lines = [line for line in (text, *captions) if line]
    if not lines:
        return None, None
    return "\n".join(lines), CAPTIONS if len(lines) > 1 and lists else None


def sidecar(text: str, where: str) -> tuple[dict[str, Any], str | None]:
    """Return the metadata and the caption in the JSON that img2dataset writes beside an image.

    Raises:
        InputError: it is not a JSON object.
    """
    from .values import plain

    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error})") from None
    if not isinstance(values, dict):
        raise InputError(f"{where}: not a JSON object")
    caption = values.get("caption")
    kept = {k: plain(v, where) for k, v in values.items() if k not in _OF_DOWNLOADS}
    return kept, caption if isinstance(caption, str) and caption.strip() else None


_OF_DOWNLOADS = frozenset({"caption", "key", "status", "error_message"})


def one_an_image(found: Iterable[Document | Skipped]) -> Iterator[Document | Skipped]:
    """Merge consecutive rows that name the same image, one caption each, into one document.

    For records without ids: an image that occurs again later gets the id "PATH#2", and so on.
    """
    times: dict[str, int] = {}
    before: Document | None = None
    for each in found:
        same = isinstance(each, Document) and before is not None and _same(before, each)
        if same and before is not None and isinstance(each, Document):
            text = "\n".join(filter(None, (before.text, each.text)))
            before = dataclasses.replace(before, text=text or None, kind=CAPTIONS)
            continue
        if before is not None:
            yield _called(before, times)
        before = each if isinstance(each, Document) else None
        if not isinstance(each, Document):
            yield each
    if before is not None:
        yield _called(before, times)


def _same(one: Document, other: Document) -> bool:
    if not (isinstance(one.image, ImageAt) and isinstance(other.image, ImageAt)):
        return False
    return one.image == other.image and one.image.member is None


def _called(document: Document, times: dict[str, int]) -> Document:
    if not isinstance(document.image, ImageAt) or document.image.member is not None:
        return document
    times[document.id] = times.get(document.id, 0) + 1
    if times[document.id] == 1:
        return document
    return dataclasses.replace(document, id=f"{document.id}#{times[document.id]}")
