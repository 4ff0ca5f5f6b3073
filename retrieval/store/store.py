"""A collection's folder: reads and publishes generations; stages, checks and removes files.

A writer puts its files into its own staging folder, which nobody else touches while the writer is
alive. A commit holds the writer lock briefly, reads the newest manifest, asks the writer to rebase
onto it, moves the staged files into place and creates manifest N+1 exclusively. Readers map every
file of their generation when they open it, so a file that is removed later stays readable to them
for as long as they need it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ..values.errors import (
    CollectionNotFoundError,
    DamagedError,
    InputError,
    ReadOnlyError,
    RetrError,
    StorageError,
)
from .disk import Disk, storage_errors
from .lock import try_flock, writer_lock
from .manifest import (
    FORMAT,
    Manifest,
    ManifestDamagedError,
    NewerFormatError,
    is_canonical,
    parse_manifest,
)
from .staging import Staging, Unfinished, check_file, kept_work

log = logging.getLogger("retr.store")

KEPT_GENERATIONS = 2
FOLDERS = ("documents", "vectors", "lexical", "indexes", "bridges", "deletes")
_ALL_FOLDERS = ("manifests", "staging", *FOLDERS)
_MANIFEST = re.compile(r"([0-9]{8,})\.json")
_OWN_FILE = re.compile(r"[0-9a-f]{32}(\.ids)?\.(arrow|faiss)")
_OWN_FOLDER = re.compile(r"[0-9a-f]{32}")


class Store:
    """The files of one collection.

    path:         the folder.
    lock_seconds: how long a commit waits for another writer.
    """

    def __init__(self, path: Path, disk: Disk | None = None, lock_seconds: float = 60.0) -> None:
        self.path = path
        self.disk = disk or Disk()
        self.lock_seconds = lock_seconds

    # --- reading

    def exists(self) -> bool:
        """Return whether a generation has ever been committed here."""
        return bool(self.generations())

    def generations(self) -> list[int]:
        """Return the numbers of the manifests here, including damaged ones, newest first."""
        try:
            names = [path.name for path in (self.path / "manifests").iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror})") from error
        found = [int(m[1]) for name in names if (m := _MANIFEST.fullmatch(name))]
        return sorted(found, reverse=True)

    def manifest_path(self, generation: int) -> Path:
        """Return the path of a generation's manifest."""
        return self.path / "manifests" / f"{generation:08d}.json"

    def read(self) -> tuple[Manifest, tuple[int, ...]]:
        """Return the newest complete manifest, and the numbers of damaged ones above it.

        Raises:
            CollectionNotFoundError: nothing has ever been committed here.
            DamagedError: there are manifests, but all are damaged.
            InputError: the newest is of a newer format.
            StorageError: the newest cannot be read, which does not mean that it is damaged.
        """
        for _ in range(10):
            numbers = self.generations()
            if not numbers:
                raise CollectionNotFoundError(
                    f"{self.path}: there is no collection here; "
                    f"build one with: retr index build SOURCE --index {self.path}"
                )
            damaged: list[int] = []
            for number in numbers:
                path = self.manifest_path(number)
                try:
                    return self._load(number), tuple(damaged)
                except FileNotFoundError:
                    break  # removed since the listing: there is a newer one
                except NewerFormatError as error:
                    raise InputError(
                        f"{path}: the collection was written by a newer retr ({error}); "
                        "upgrade: pip install -U retr"
                    ) from error
                except ManifestDamagedError as error:
                    log.debug("%s: %s", path, error)
                    damaged.append(number)
            else:
                raise DamagedError(
                    f"{self.path / 'manifests'}: all manifests are damaged "
                    f"({len(damaged)}); restore the folder from a backup, "
                    "or build the collection again"
                )
        raise DamagedError(f"{self.path}: generations are replaced faster than they can be read")

    def _load(self, number: int) -> Manifest:
        """Return one manifest; raises FileNotFoundError, ManifestDamagedError, NewerFormatError.

        Too many open files, or missing permissions, must not count as damage, because a repair
        would go back to the previous generation.
        """
        path = self.manifest_path(number)
        try:
            manifest = parse_manifest(path.read_bytes())
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno == errno.EIO:
                raise ManifestDamagedError(f"cannot be read ({error.strerror})") from error
            raise StorageError(
                f"{path}: cannot be read ({error.strerror}), which need not mean damage; try again"
            ) from error
        if manifest.generation != number:
            raise ManifestDamagedError(f"holds generation {manifest.generation}")
        return manifest

    # --- writing

    def create(self) -> None:
        """Create the folders of a new collection that do not exist yet."""
        with storage_errors(self.path):
            self.check_target()
            missing = self._missing()
            try:
                for folder in missing:
                    self.disk.make_folder(folder)
                    if folder.parent != self.path:
                        self.disk.sync_folder(folder.parent)
                self.disk.sync_folder(self.path)
            except BaseException:
                self._take_back(missing, ())
                raise

    def _missing(self) -> list[Path]:
        """Return the missing folders, outer ones first."""
        wanted = [self.path, *(self.path / name for name in _ALL_FOLDERS)]
        return [p for p in (*reversed(self.path.parents), *wanted) if not p.exists()]

    def _take_back(self, made: Sequence[Path], files: Iterable[str]) -> None:
        """Remove what was created for a collection whose first generation was not committed.

        made:  its folders, outer ones first.
        files: the files moved into place for the generation.
        """
        if self.exists():
            return
        try:
            (self.path / "staging").rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            return  # another writer is working here
        for path in (*(self.path / name for name in files), self.path / "lock"):
            if self.path in made:
                with contextlib.suppress(OSError):
                    path.unlink()
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def check_target(self) -> None:
        """Refuse a path where a collection cannot be created, before any work is done.

        Raises:
            InputError: the path is a file, or a folder of something else.
            StorageError: the folder cannot be written to.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path}: is a file; a collection is a folder")
        if self.path.is_dir() and not self.exists() and not self._is_ours():
            raise InputError(
                f"{self.path}: is a folder with other contents; give a new one with --index"
            )
        present = next(p for p in (self.path, *self.path.absolute().parents) if p.exists())
        if not present.is_dir():
            raise InputError(f"{self.path}: {present} is a file, not a folder")
        if not os.access(present, os.W_OK | os.X_OK):
            raise StorageError(
                f"{present}: cannot write here (permission denied); "
                "change the permissions or choose another place with --index"
            )

    def _is_ours(self) -> bool:
        """Return whether a folder without a generation is empty, or an interrupted first commit.

        A user's own folder may well be called "documents", and a vacuum would delete unknown files
        in it.
        """
        if not {p.name for p in self.path.iterdir()} <= {"lock", *_ALL_FOLDERS}:
            return False
        files = [p.name for name in FOLDERS for p in (self.path / name).glob("*")]
        staged = [p.name for p in (self.path / "staging").glob("*")]
        return (
            not any((self.path / "manifests").glob("*"))
            and all(_OWN_FILE.fullmatch(name) for name in files)
            and all(_OWN_FOLDER.fullmatch(name) for name in staged)
        )

    @contextlib.contextmanager
    def staging(self, work: Unfinished | None = None) -> Iterator[Staging]:
        """Yield a private folder for files on their way into a commit.

        It is removed at the end. The next vacuum removes what a killed process leaves behind; the
        lock on the folder shows that its owner is gone.

        work: long work that can be continued. Its preserved state is restored, unless another
              process is working on it now; the folder stays until the block succeeds, or until a
              vacuum finds that the work is no longer useful.
        """
        with storage_errors(self.path):
            made = [] if self.exists() else self._missing()
            # Before the first generation the folders may exist without being durable; after it
            # some may be missing, because git and other archives leave out empty ones.
            if not self.exists() or not all((self.path / n).is_dir() for n in _ALL_FOLDERS):
                self.create()
            folder = self.path / "staging" / (work.folder if work else uuid.uuid4().hex)
            try:
                fd = self._own_folder(folder, 100 if work else None)
                if fd is None:  # another process is doing the same work
                    work, folder = None, self.path / "staging" / uuid.uuid4().hex
                    fd = self._own_folder(folder, None)
            except BaseException:
                self._take_back(made, ())
                raise
        assert fd is not None  # without a number of attempts, it is tried until it succeeds
        staging, ended = Staging(self.path, self.disk, folder, work), False
        try:
            yield staging
            ended = True
        finally:
            if ended or kept_work(folder) is None:
                shutil.rmtree(folder, ignore_errors=True)
            os.close(fd)
            if made:
                self._take_back(made, staging.files)

    def _own_folder(self, folder: Path, attempts: int | None) -> int | None:
        """Create `folder` and return a locked descriptor of its lock file.

        attempts: how often to try; None is for ever, for a name that nobody else knows.
        """
        # A vacuum may consider the folder abandoned between these steps; then create it again.
        for _ in itertools.count() if attempts is None else range(attempts):
            # mkdir may find it, and a check whether it is a folder may then miss it.
            with contextlib.suppress(FileExistsError):
                self.disk.make_folder(folder)
            try:
                fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:
                continue
            if try_flock(fd) and (folder / "lock").exists():
                return fd
            os.close(fd)
        return None

    def commit(
        self, staging: Staging, rebase: Callable[[Manifest | None], Manifest | None]
    ) -> Manifest | None:
        """Publish the next generation.

        rebase: called under the lock with the newest manifest (None if there is none yet); returns
                the one to publish, or None if there is nothing to do. It may stage more files.

        Raises:
            LockedError: another writer held the lock for too long.
            ReadOnlyError: the newest manifest is damaged.
        """
        with storage_errors(self.path), writer_lock(self.path / "lock", self.lock_seconds):
            newest: Manifest | None = None
            if self.exists():
                newest, damaged = self.read()
                if damaged:
                    raise ReadOnlyError(
                        f"{self.manifest_path(damaged[0])}: is damaged, so the collection is "
                        f"read-only; continue from generation {newest.generation} with: "
                        f"retr index repair --index {self.path}"
                    )
            wanted = rebase(newest)
            if wanted is None:
                return None
            return self._publish(staging, wanted, (newest.generation if newest else 0) + 1)

    def _publish(self, staging: Staging, wanted: Manifest, generation: int) -> Manifest:
        from ..values.version import __version__

        manifest = replace(
            wanted,
            generation=generation,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            writer=__version__,
            format=FORMAT,
        )
        used = [name for name in staging.files if name in manifest.files]
        for name in used:
            self.disk.rename(staging.folder / Path(name).name, self.path / name)
        for folder in sorted({Path(name).parent.name for name in used}):
            self.disk.sync_folder(self.path / folder)
        temporary = staging.folder / f"{generation:08d}.json"
        with self.disk.create(temporary) as file:
            file.write(manifest.to_bytes())
            self.disk.sync(file)
        try:
            self.disk.link(temporary, self.manifest_path(generation))
        except OSError as error:
            # On file systems without hard links, a rename is atomic too, and we hold the lock.
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP):
                raise
            self.disk.rename(temporary, self.manifest_path(generation))
        self.disk.sync_folder(self.path / "manifests")
        return manifest

    # --- upkeep

    def vacuum(self, lock_seconds: float | None = None) -> list[str]:
        """Remove the files that no kept generation needs; return their names.

        Kept are the last two generations, the staged files of living writers, and those of
        unfinished work that may continue. Under the lock, every file in place belongs to a
        generation or to an interrupted commit.

        lock_seconds: how long to wait for another writer; None waits as long as a commit.

        Raises:
            LockedError: another writer held the lock for too long.
        """
        if not self.exists():
            return []
        wait = self.lock_seconds if lock_seconds is None else lock_seconds
        with storage_errors(self.path), writer_lock(self.path / "lock", wait):
            whole: list[Manifest] = []
            for number in self.generations():
                try:
                    whole.append(self._load(number))
                except (ManifestDamagedError, NewerFormatError):
                    return []  # remove nothing while something is wrong
                if len(whole) == KEPT_GENERATIONS:
                    break
            if not whole:
                return []
            removed = self._vacuum_manifests(whole[-1].generation)
            used = {name for manifest in whole for name in manifest.files}
            for folder in FOLDERS:
                present = sorted((self.path / folder).glob("*"))
                for path in present:
                    if f"{folder}/{path.name}" not in used and _OWN_FILE.fullmatch(path.name):
                        self.disk.remove(path)
                        removed.append(f"{folder}/{path.name}")
            return removed + self._vacuum_staging(whole[0])

    def _vacuum_manifests(self, oldest: int) -> list[str]:
        old = [n for n in self.generations() if n < oldest]
        for number in old:
            self.disk.remove(self.manifest_path(number))
        if old:
            # A manifest must never reappear after a power cut without its files.
            self.disk.sync_folder(self.path / "manifests")
        return [f"manifests/{self.manifest_path(n).name}" for n in old]

    def _vacuum_staging(self, newest: Manifest) -> list[str]:
        removed = []
        for folder in sorted((self.path / "staging").glob("*")):
            if not _OWN_FOLDER.fullmatch(folder.name):
                continue
            try:
                fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
            except OSError:  # its owner is removing it right now
                continue
            try:
                if not try_flock(fd):
                    continue
                work = kept_work(folder)
                if work is None or not work.is_of_use(newest):
                    removed += [f"staging/{folder.name}/{p.name}" for p in folder.glob("*.*")]
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(fd)
        return removed

    def verify(self) -> list[str]:
        """Compare every file of every generation here with its checksum.

        Returns one line per problem; an empty list if there is none.
        """
        numbers = self.generations()
        problems = [] if numbers else [f"{self.path / 'manifests'}: contains no manifest"]
        checked: set[str] = set()
        for number in numbers:
            path = self.manifest_path(number)
            found = []
            try:
                manifest = self._load(number)
                if not is_canonical(path.read_bytes()):
                    found.append(f"{path}: differs from what was written")
            except FileNotFoundError:
                continue  # removed since the listing
            except (ManifestDamagedError, NewerFormatError) as error:
                problems.append(f"{path}: {error}")
                continue
            except StorageError as error:
                problems.append(str(error))
                continue
            for name, entry in sorted(manifest.files.items()):
                if name not in checked:
                    checked.add(name)
                    problem = check_file(self.path / name, entry, contents=True)
                    if problem:
                        found.append(problem)
            # A manifest is removed before its files, so if it still exists, they must too.
            if found and path.exists():
                problems += found
        return problems

    def _nothing_to_repair(self, manifest: Manifest) -> RetrError:
        for name, entry in manifest.files.items():
            problem = check_file(self.path / name, entry, contents=True)
            if problem:
                return DamagedError(
                    f"{problem}; no manifest is damaged, so repair cannot go back to an earlier "
                    "one: restore the file from a backup, or build a new collection from the source"
                )
        return InputError(f"{self.path}: nothing to repair, the newest generation is complete")

    def repair(self) -> Manifest:
        """Continue from the newest complete generation: publish it again above the damaged ones.

        Raises:
            InputError: nothing is damaged.
            DamagedError: no generation is complete.
        """
        with (
            self.staging() as staging,
            storage_errors(self.path),
            writer_lock(self.path / "lock", self.lock_seconds),
        ):
            manifest, damaged = self.read()
            if not damaged:
                raise self._nothing_to_repair(manifest)
            for name, entry in manifest.files.items():
                problem = check_file(self.path / name, entry, contents=True)
                if problem:
                    raise DamagedError(f"{problem}; the previous generation is damaged too")
            repaired = self._publish(staging, manifest, max(damaged) + 1)
            for number in damaged:
                self.disk.remove(self.manifest_path(number))
            self.disk.sync_folder(self.path / "manifests")
            return repaired
