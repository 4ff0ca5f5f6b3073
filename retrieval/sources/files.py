"""Folders and single files of prose, code and images, one document per file.

If the source reads images, a text of the same name is an image's caption (`beach.jpg`,
`beach.txt`), and an object in `beach.json` its metadata, as img2dataset and others write them.

Silently left out are hidden files and folders, files that `.gitignore` excludes, generated files
(`node_modules`, `__pycache__`, virtual environments, lock files, minified scripts), and retr's own
collections. A file that looks like a document but cannot be read is `Skipped`.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..values.errors import InputError
from ..values.report import Skipped
from ..values.types import Document
from .base import Source, Unreadable
from .extract import kind_of, text_of
from .ignore import Ignored, ignored_around, patterns
from .options import SourceOptions
from .pictures import at_path, is_image, sidecar

_COLUMNS = ("id", "text", "title", "vector", "image", "images", "ids")

_NAMES_LEFT_OUT = (
    "node_modules bower_components __pycache__ __MACOSX CVS lost+found "
    "package-lock.json pnpm-lock.yaml yarn.lock poetry.lock uv.lock Pipfile.lock Cargo.lock "
    "composer.lock Gemfile.lock go.sum flake.lock Thumbs.db desktop.ini"
)
_LEFT_OUT = frozenset(_NAMES_LEFT_OUT.split())
_LEFT_OUT_ENDS = (".pyc", ".pyo", ".egg-info", ".min.js", ".min.css", ".js.map", ".css.map", "~")


@dataclass(frozen=True, slots=True)
class _Found:
    path: str  # absolute
    id: str
    caption: str | None = None  # for an image, the absolute path of the text beside it
    metadata: str | None = None  # and that of the JSON beside it


class Folder(Source):
    """The files of a folder and its subfolders; `total` and `done` count files.

    Files are read in the order of their names, folder by folder. An id is the folder's name and
    the path in it, such as "docs/guide/install.md". Links to files are followed if they stay in
    the folder; links to folders are not followed. `include` only narrows what is read: it does
    not restore files that are otherwise left out.
    """

    def __init__(self, folder: Path, options: SourceOptions) -> None:
        """Read a folder, given by its resolved path.

        Raises:
            InputError: it cannot be read, is a collection, or a pattern is invalid.
        """
        options.refuse(f"{folder}, a folder of files,", *_COLUMNS)
        if is_collection(str(folder)):
            raise InputError(f"{folder} is a collection of retr, so it cannot be the source of one")
        self._folder = folder
        self._root = str(folder).rstrip("/") + "/"
        self._include = patterns(options.include, "include") if options.include else None
        self._exclude = patterns(options.exclude, "exclude") if options.exclude else None
        self.name = printable(str(folder))
        try:
            os.scandir(folder).close()
        except OSError as error:
            raise InputError(f"{folder} cannot be read: {error.strerror}") from error
        self.total = sum(1 for found in self._walk() if isinstance(found, _Found))

    def __iter__(self) -> Iterator[Document | Skipped]:
        """Yield one document per file."""
        self.done = 0
        if self.images:
            self.total = sum(1 for found in self._walk() if isinstance(found, _Found))
        for found in self._walk():
            if isinstance(found, Skipped):
                yield found
                continue
            self.done += 1
            wanted = self.images and is_image(found.path)
            read = _image(found) if wanted else _document(found.path, found.id)
            if read is not None:
                yield read

    def _walk(self) -> Iterator[_Found | Skipped]:
        """Yield the files in order, and the folders that cannot be read."""
        root = str(self._folder)
        # A stack, because folders may be nested deeper than Python's recursion limit.
        try:
            around = ignored_around(self._folder)
        except OSError as error:
            yield _skipped(str(error.filename), error)
            around = Ignored()
        waiting: list[tuple[str, Ignored] | _Found | Skipped] = [(root, around)]
        while waiting:
            next_ = waiting.pop()
            if isinstance(next_, _Found | Skipped):
                yield next_
            else:
                waiting.extend(reversed(list(self._entries(*next_))))

    def _entries(
        self, folder: str, above: Ignored
    ) -> Iterator[tuple[str, Ignored] | _Found | Skipped]:
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            yield _skipped(folder, error, self._id(folder) + "/")
            return
        names = {entry.name for entry in found}
        if folder != str(self._folder) and (
            "pyvenv.cfg" in names or ("manifests" in names and is_collection(folder))
        ):
            return
        if ".git" in names and folder != str(self._folder):
            # For a repository inside a repository, git reads no .gitignore above its root.
            above = Ignored()
        ignored = above
        if ".gitignore" in names:
            try:
                ignored = above.below(Path(folder))
            except OSError as error:
                yield _skipped(f"{folder}/.gitignore", error)
        beside = _beside(names) if self.images else {}
        taken = {name for pair in beside.values() for name in pair if name is not None}
        for entry in found:
            if entry.name in taken:
                continue
            read = self._entry(entry, ignored)
            if isinstance(read, _Found) and entry.name in beside:
                caption, metadata = (self._join(folder, name) for name in beside[entry.name])
                read = replace(read, caption=caption, metadata=metadata)
            if read is not None:
                yield read

    def _join(self, folder: str, name: str | None) -> str | None:
        """Return the path of a file beside an image; None if it leads out of the folder."""
        if name is None:
            return None
        path = f"{folder}/{name}"
        return path if Path(path).resolve().is_relative_to(self._folder) else None

    def _entry(
        self, entry: os.DirEntry[str], ignored: Ignored
    ) -> tuple[str, Ignored] | _Found | Skipped | None:
        name, path = entry.name, entry.path
        if name.startswith(".") or name in _LEFT_OUT or name.endswith(_LEFT_OUT_ENDS):
            return None
        is_folder = entry.is_dir(follow_symlinks=False)
        if ignored.covers(path + "/" if is_folder else path):
            return None
        inside = path[len(self._root) :]
        if self._exclude and self._exclude.match_file(inside + "/" if is_folder else inside):
            return None
        if is_folder:
            return path, ignored
        if self._include and not self._include.match_file(inside):
            return None
        if entry.is_symlink():
            return self._linked(path)
        # Pipes, sockets and devices are not documents, and opening one may never return.
        return _Found(path, self._id(path)) if entry.is_file(follow_symlinks=False) else None

    def _linked(self, path: str) -> _Found | Skipped | None:
        try:
            mode = Path(path).stat().st_mode
        except OSError:
            return Skipped(printable(path), "a link that leads nowhere", self._id(path))
        if not stat.S_ISREG(mode):
            return None
        if not Path(path).resolve().is_relative_to(self._folder):
            return Skipped(printable(path), "a link that leads out of the folder", self._id(path))
        return _Found(path, self._id(path))

    def _id(self, path: str) -> str:
        inside = path[len(self._root) :]
        return printable(f"{self._folder.name}/{inside}" if self._folder.name else inside)


class File(Source):
    """One file of prose or code; its id is its name."""

    def __init__(self, path: Path, options: SourceOptions) -> None:
        options.refuse(path.name, *_COLUMNS, "include", "exclude")
        self.name = printable(str(path))
        self.total = 1
        self._path = path

    def __iter__(self) -> Iterator[Document | Skipped]:
        """Yield the document, or why it cannot be read."""
        self.done = 0
        path, name = str(self._path), printable(self._path.name)
        read: Document | Skipped | None
        if self.images and is_image(path):
            read = _image(_Found(path, name))
        else:
            read = _document(path, name, data=True)
        if read is not None:
            yield read
        self.done = 1


def is_collection(folder: str) -> bool:
    """Return whether a folder is a collection of retr, whatever its name.

    Other programs have a folder `manifests` too, but not numbered files in it.
    """
    try:
        with os.scandir(f"{folder}/manifests") as entries:
            return any(re.fullmatch(r"[0-9]{8,}\.json", entry.name) for entry in entries)
    except OSError:
        return False


def printable(path: str) -> str:
    """Return a path that UTF-8 can encode: invalid bytes are written like "\\xe9"."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _beside(names: set[str]) -> dict[str, tuple[str | None, str | None]]:
    """Return, for each image that has either, the names of the text and the JSON beside it."""
    beside = {}
    for name in names:
        if is_image(name):
            stem = name[: name.rindex(".")]
            pair = tuple(f"{stem}{e}" if f"{stem}{e}" in names else None for e in (".txt", ".json"))
            if any(pair):
                beside[name] = (pair[0], pair[1])
    return beside


def _image(found: _Found) -> Document:
    """Return an image's document, with caption and metadata from the readable files beside it."""
    text = None
    metadata: dict[str, Any] = {}
    with contextlib.suppress(OSError, Unreadable):
        if found.caption is not None:
            text = text_of(found.caption).strip() or None
    with contextlib.suppress(OSError, Unreadable, InputError):
        if found.metadata is not None:
            metadata, said = sidecar(text_of(found.metadata, data=True), found.id)
            text = text or said
    where = printable(found.path)
    return Document(found.id, text, uri=where, metadata=metadata, image=at_path(found.path))


def _document(path: str, identity: str, *, data: bool = False) -> Document | Skipped | None:
    """Return the document in a file; None if the file has meanwhile been deleted."""
    where = printable(path)
    try:
        text = text_of(path, data=data)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _skipped(path, error, identity)
    except Unreadable as error:
        return Skipped(where, str(error), None if error.holds_no_text else identity)
    return Document(identity, text, uri=where, kind=kind_of(path))


def _skipped(path: str, error: OSError, identity: str | None = None) -> Skipped:
    return Skipped(printable(path), f"cannot be read: {error.strerror or error}", identity)
