"""Disks for tests: one that records what is done to it, one that fails, and what a crash leaves.

The model of a crash is what POSIX promises and no more: the contents of a file are on the disk up
to its last sync, an entry of a folder once the folder was synced. What was not synced may be there
or not, in any combination.
"""

from __future__ import annotations

import errno
import io
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, BinaryIO, cast

from retr.retrieval.store.disk import Disk
from retr.retrieval.store.manifest import Manifest
from retr.retrieval.store.staging import Staging
from retr.retrieval.store.store import Store


class WatchedFile(io.RawIOBase):
    """A new file that tells of each write before it happens."""

    def __init__(self, file: BinaryIO, path: Path, tell: Callable[[bytes], None]) -> None:
        self._file = file
        self._tell = tell
        self.path = path

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        self._tell(bytes(view))
        return self._file.write(view)

    def flush(self) -> None:
        if not self._file.closed:
            self._file.flush()

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()
        super().close()


class WatchedDisk(Disk):
    """Tells of every operation before it happens; `tell` may raise in its place."""

    def tell(
        self, operation: str, path: Path, target: Path | None = None, data: bytes = b""
    ) -> None:
        raise NotImplementedError

    def create(self, path: Path) -> BinaryIO:
        self.tell("create", path)
        file = super().create(path)
        watched = WatchedFile(file, path, lambda data: self.tell("write", path, data=data))
        return cast("BinaryIO", watched)

    def sync(self, file: IO[bytes]) -> None:
        file.flush()
        path = file.path if isinstance(file, WatchedFile) else Path(file.name)
        self.tell("sync", path, data=path.read_bytes())
        super().sync(file)

    def sync_folder(self, path: Path) -> None:
        self.tell("sync_folder", path)
        super().sync_folder(path)

    def make_folder(self, path: Path) -> None:
        self.tell("make_folder", path)
        super().make_folder(path)

    def rename(self, source: Path, target: Path) -> None:
        self.tell("rename", source, target)
        super().rename(source, target)

    def link(self, source: Path, target: Path) -> None:
        self.tell("link", source, target)
        super().link(source, target)

    def remove(self, path: Path) -> None:
        self.tell("remove", path)
        super().remove(path)


@dataclass(frozen=True)
class Operation:
    """What was done; `committed` are the generations that had been by then."""

    name: str
    path: Path
    target: Path | None
    data: bytes
    committed: int


class RecordingDisk(WatchedDisk):
    """Records every operation."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.committed = 0

    def tell(
        self, operation: str, path: Path, target: Path | None = None, data: bytes = b""
    ) -> None:
        self.operations.append(Operation(operation, path, target, data, self.committed))


class RecordingStore(Store):
    """Tells its disk when a commit has returned: from there on nothing of it may be lost."""

    def __init__(self, path: Path, disk: RecordingDisk) -> None:
        super().__init__(path, disk)
        self.recording = disk

    def commit(
        self, staging: Staging, rebase: Callable[[Manifest | None], Manifest | None]
    ) -> Manifest | None:
        manifest = super().commit(staging, rebase)
        if manifest is not None:
            self.recording.committed = manifest.generation
        return manifest

    def repair(self) -> Manifest:
        manifest = super().repair()
        self.recording.committed = manifest.generation
        return manifest


class FullDisk(WatchedDisk):
    """Raises an error at the operation of a number, and from there on at each that takes room.

    Of the many small writes of a file only every fourth counts.
    """

    takes_room = frozenset({"create", "write", "sync", "make_folder", "link", "rename"})

    def __init__(self, fail_at: int, number: int = errno.ENOSPC) -> None:
        self.left = fail_at
        self.number = number
        self.writes = 0

    @property
    def failed(self) -> bool:
        return self.left < 0

    def tell(
        self, operation: str, path: Path, target: Path | None = None, data: bytes = b""
    ) -> None:
        self.writes += operation == "write"
        if operation in self.takes_room:
            self.left -= operation != "write" or self.writes % 4 == 1
            if self.left < 0:
                raise OSError(self.number, os.strerror(self.number), str(path))


class Variant(StrEnum):
    """What a crash does to what was not synced."""

    DROPPED = "entries and contents lost"
    EMPTY = "entries there, contents lost"
    TORN = "entries there, half of the contents"
    THERE = "all there"
    MIXED = "each entry and each content there or not"


@dataclass
class _File:
    live: bytes = b""
    durable: bytes = b""


@dataclass
class _Folder:
    """What is in a folder on the disk for certain, and what was done to it since."""

    durable: dict[str, _File | None] = field(default_factory=dict)  # None is a folder
    pending: list[tuple[str, _File | None, bool]] = field(default_factory=list)  # True: removed


class Simulation:
    """A folder as operations leave it, on the disk and beyond."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders: dict[Path, _Folder] = {root: _Folder()}
        self.live: dict[Path, _File] = {}

    def apply(self, operation: Operation) -> None:
        path, target = operation.path, operation.target
        if not path.is_relative_to(self.root):
            return
        match operation.name:
            case "create":
                self._enter(path, _File())
            case "write":
                self.live[path].live += operation.data
            case "sync":
                if path not in self.live:  # written by another library
                    self._enter(path, _File())
                self.live[path].live = self.live[path].durable = operation.data
            case "make_folder":
                if path not in self.folders:
                    self.folders[path] = _Folder()
                    self.folders[path.parent].pending.append((path.name, None, False))
            case "rename" | "link":
                assert target is not None
                self._enter(target, self.live[path])
                if operation.name == "rename":
                    self._leave(path)
            case "remove":
                if path in self.live:
                    self._leave(path)
            case "sync_folder":
                folder = self.folders[path]
                for name, entry, removed in folder.pending:
                    _set(folder.durable, name, entry, removed)
                folder.pending.clear()
            case other:
                raise AssertionError(other)

    def _enter(self, path: Path, file: _File) -> None:
        self.live[path] = file
        self.folders[path.parent].pending.append((path.name, file, False))

    def _leave(self, path: Path) -> None:
        file = self.live.pop(path)
        self.folders[path.parent].pending.append((path.name, file, True))

    def left(self, variant: Variant, random_: random.Random) -> dict[Path, bytes | None]:
        """Return what a crash at this point leaves: files, and folders (None), below the root."""
        return dict(self._left(self.root, Path(), variant, random_))

    def _left(
        self, path: Path, inside: Path, variant: Variant, random_: random.Random
    ) -> Iterator[tuple[Path, bytes | None]]:
        folder = self.folders[path]
        entries = dict(folder.durable)
        for name, entry, removed in folder.pending:
            mixed = variant is Variant.MIXED and random_.random() < 0.5
            if mixed or variant in (Variant.EMPTY, Variant.TORN, Variant.THERE):
                _set(entries, name, entry, removed)
        for name, entry in entries.items():
            if entry is None:
                yield inside / name, None
                yield from self._left(path / name, inside / name, variant, random_)
            else:
                yield inside / name, _contents(entry, variant, random_)


def _set(entries: dict[str, _File | None], name: str, entry: _File | None, removed: bool) -> None:
    if not removed:
        entries[name] = entry
    elif entries.get(name) is entry:
        entries.pop(name, None)


def _contents(file: _File, variant: Variant, random_: random.Random) -> bytes:
    if variant is Variant.MIXED:
        variant = random_.choice([Variant.EMPTY, Variant.TORN, Variant.THERE])
    lost = len(file.live) - len(file.durable)
    if variant is Variant.THERE:
        return file.live
    if variant is Variant.TORN:
        return file.live[: len(file.durable) + lost // 2]
    return file.durable


def lay_out(left: dict[Path, bytes | None], target: Path) -> None:
    """Make a folder of what a crash left."""
    target.mkdir()
    for path, data in left.items():
        if data is None:
            (target / path).mkdir()
        else:
            (target / path).write_bytes(data)


def every_prefix(root: Path, operations: list[Operation]) -> Iterator[tuple[int, Simulation]]:
    """Yield what is left by no operation, by the first, by the first two, …

    With each comes the number of generations that had been committed.
    """
    simulation = Simulation(root)
    yield 0, simulation
    for operation, following in zip(operations, [*operations[1:], None], strict=True):
        simulation.apply(operation)
        yield (following or operation).committed, simulation
