"""Files on their way into a commit, in a folder that belongs to one writer.

Most such folders are removed when the writer finishes or dies. Long work keeps its folder instead:
`kept.json` describes the work and its progress, and the same work continues from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..values.errors import RetrError, StorageError
from .disk import Disk, HashingFile, file_sha256, storage_errors
from .manifest import FileEntry, Manifest

log = logging.getLogger("retr.store")

_KEPT = "kept.json"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Long work that can be interrupted and continued.

    segments: the ids of the segments that it will replace, ascending.
    settings: the collection's settings that it depends on; with others its result would differ.
    """

    segments: tuple[str, ...]
    settings: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """The name of its staging folder, which is the same whenever it continues."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def is_of_use(self, newest: Manifest) -> bool:
        """Return whether it could still be committed after the newest generation."""
        present = {segment.id for segment in newest.segments}
        same = all(newest.settings.get(name) == value for name, value in self.settings.items())
        return same and present.issuperset(self.segments)


def kept_work(folder: Path) -> Unfinished | None:
    """Return the work that a staging folder is kept for; None if it is not kept."""
    try:
        values = json.loads((folder / _KEPT).read_bytes())["work"]
        return Unfinished(tuple(values["segments"]), dict(values["settings"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Staging:
    """A folder for files on their way into a commit.

    collection: the collection's folder, where the files go.
    disk:    writes the files.
    folder:  where the files are until the commit.
    work:    the work that the folder is kept for; None to remove it when the block ends.
    files:   the finished files, by their final names.
    note:    the note that an earlier process gave to `keep`; None if the work starts from the
             beginning.
    """

    def __init__(
        self, collection: Path, disk: Disk, folder: Path, work: Unfinished | None = None
    ) -> None:
        self.collection = collection
        self.disk = disk
        self.folder = folder
        self.work = work
        self.files: dict[str, FileEntry] = {}
        self.note: Mapping[str, Any] | None = None
        if work is not None:
            self._take_up()

    def keep(self, note: Mapping[str, Any]) -> None:
        """Preserve the files so far, and a JSON note, beyond this process; no-op without work.

        The folder is removed when the block succeeds, or when the work is no longer useful.
        """
        if self.work is None:
            return
        kept = {
            "work": asdict(self.work),
            "files": {name: asdict(entry) for name, entry in self.files.items()},
            "note": note,
        }
        disk, new = self.disk, self.folder / f"{_KEPT}.new"
        with storage_errors(self.collection):
            disk.remove(new)
            with disk.create(new) as file:
                file.write(json.dumps(kept, indent=1).encode())
                disk.sync(file)
            disk.rename(new, self.folder / _KEPT)
            disk.sync_folder(self.folder)

    def _take_up(self) -> None:
        """Continue from the preserved state, or clear the folder if that is incomplete."""
        try:
            kept = json.loads((self.folder / _KEPT).read_bytes())
            files = {name: FileEntry(**entry) for name, entry in kept["files"].items()}
            whole = kept_work(self.folder) == self.work and not any(
                check_file(self.folder / Path(name).name, entry, contents=False)
                for name, entry in files.items()
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            whole = False
        if whole:
            self.files, self.note = files, kept["note"]
            return
        for path in self.folder.glob("*.*"):
            self.disk.remove(path)

    @contextlib.contextmanager
    def new_file(self, folder: str, suffix: str = ".arrow") -> Iterator[tuple[HashingFile, str]]:
        """Yield a file to write and its final name; the file is durable afterwards.

        When the block ends, the file is closed and listed in `files`; if the block fails, the file
        is removed.
        """
        base = f"{uuid.uuid4().hex}{suffix}"
        path = self.folder / base
        with storage_errors(self.collection):
            try:
                with self.disk.create(path) as raw:
                    file = HashingFile(raw)
                    yield file, f"{folder}/{base}"
                    self.disk.sync(raw)
            except BaseException:
                with contextlib.suppress(OSError):
                    self.disk.remove(path)
                raise
        self.files[f"{folder}/{base}"] = FileEntry(file.size, file.sha256)

    @contextlib.contextmanager
    def external_file(self, folder: str, suffix: str) -> Iterator[tuple[Path, str]]:
        """Yield a path for another library to write to, and the file's final name."""
        base = f"{uuid.uuid4().hex}{suffix}"
        path = self.folder / base
        with storage_errors(self.collection):
            try:
                yield path, f"{folder}/{base}"
            except OSError as error:
                # Other libraries report a full disk only in words.
                if error.errno is None and not isinstance(error, RetrError):
                    raise StorageError(
                        f"{self.collection}: a file could not be written ({error}); no committed "
                        "data is lost: check the disk and run the same command again"
                    ) from error
                raise
            with path.open("rb+") as file:
                self.disk.sync(file)
            self.files[f"{folder}/{base}"] = FileEntry(path.stat().st_size, file_sha256(path))

    def find(self, name: str) -> Path:
        """Return the path of a file that may be staged or committed."""
        staged = self.folder / Path(name).name
        return staged if name in self.files else self.collection / name


def check_file(path: Path, entry: FileEntry, *, contents: bool) -> str | None:
    """Return what is wrong with a file in one line, or None.

    contents: whether to read the whole file and compare its checksum, or only its size.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return f"{path}: is missing"
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror})"
    if size != entry.size:
        return f"{path}: has {size} bytes, but {entry.size} were written"
    if contents:
        try:
            found = file_sha256(path)
        except OSError as error:
            return f"{path}: cannot be read ({error.strerror})"
        if found != entry.sha256:
            return f"{path}: its contents differ from what was written (SHA-256 {found})"
    return None
