"""Downloading a data set: resumed after a break, checked, unpacked safely.

What a server sends is not trusted: the archive counts only when its checksum is right, and only
the files that a data set consists of are taken out of it, into names that are made here.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import math
import shutil
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ...retrieval.store.disk import storage_errors
from ...retrieval.store.lock import writer_lock
from ...retrieval.values.errors import InputError, RetrError, StorageError
from ...retrieval.values.progress import Progress, Silent
from ...retrieval.values.version import __version__

log = logging.getLogger("retr.benchmarks")

TIMEOUT = 30.0  # seconds without a byte
RETRIES = 5  # attempts in a row that bring nothing new
PAUSE = 0.5  # seconds before the first new attempt; doubled from one to the next
BLOCK = 1 << 20
# Of all BEIR sets the largest unpacks to some 9 GB; more is no data set but an attack or a mistake.
UNPACKED_LIMIT = 64 << 30
RATIO_LIMIT = 200
FOLDERS_LIMIT = 50

_FILES = ("corpus.jsonl", "queries.jsonl")


class DownloadError(RetrError):
    """A data set could not be downloaded, or is not what was published."""


def download(
    url: str,
    path: Path,
    *,
    md5: str,
    progress: Progress | None = None,
    timeout: float = TIMEOUT,
    retries: int = RETRIES,
    pause: float = PAUSE,
) -> Path:
    """Fetch a file whose checksum is known; return `path`.

    What was fetched lies in `path`.part until it is whole and right, and a later call goes on
    from there. A file that is there already is checked, and fetched again if it is wrong.

    md5:     of the whole file, in hex.
    timeout: seconds without a byte after which a connection counts as broken.
    retries: how many attempts in a row may bring nothing new.
    pause:   seconds before the first new attempt.

    Raises:
        DownloadError: there is no such file, the server keeps failing, or what it has is not
            what was published.
        StorageError: the disk is full or the folder cannot be written.
    """
    with _alone(path):
        return _download(url, path, md5, progress or Silent(), timeout, retries, pause)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock of an archive: two processes, or forums, never write the same part of it."""
    lock = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path.parent}: cannot be made ({error.strerror}); choose another folder with --data"
        ) from error
    with writer_lock(lock, math.inf):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)  # whoever waits for it sees that it is gone


def _download(
    url: str,
    path: Path,
    md5: str,
    shown: Progress,
    timeout: float,
    retries: int,
    pause: float,
) -> Path:
    part = path.with_name(path.name + ".part")
    with storage_errors(path.parent):
        if path.is_file() and _md5(path) == md5:
            return path
        from_before = part.stat().st_size if part.exists() else 0
        _fetch(url, part, md5, shown, timeout, retries, pause)
        found = _md5(part)
        if found != md5 and from_before:
            # Something was wrong with what lay there; the server's own file may be right.
            log.warning("%s: what was resumed is damaged, fetching all of it again", url)
            part.unlink()
            _fetch(url, part, md5, shown, timeout, retries, pause)
            found = _md5(part)
        if found != md5:
            part.unlink()
            raise DownloadError(
                f"{url}: its MD5 is {found}, but {md5} was published; nothing of it is kept. "
                "Try again later, or give the path of a folder that has the data set"
            )
        part.replace(path)
    return path


def unpack(archive: Path, into: Path, *, limit: int = UNPACKED_LIMIT) -> list[Path]:
    """Take the BEIR folders out of a zip file; return them.

    Only `corpus.jsonl`, `queries.jsonl` and `qrels/*.tsv` are written, each folder whole or not
    at all; a folder that is there already is kept. Links, absolute paths and `..` are refused. One
    process at a time may unpack into a folder: `fetch_dataset` holds a lock.

    limit: bytes that may be written at most.

    Raises:
        DownloadError: the archive is damaged, holds something it should not, would unpack to
            more than `limit`, or has no data set in it.
        StorageError: the disk is full or the folder cannot be written.
    """
    try:
        with storage_errors(into), zipfile.ZipFile(archive) as opened:
            members = list(_members(opened, archive, limit))
            roots = sorted({root for root, name, _ in members if name == "corpus.jsonl"})
            if not roots:
                raise DownloadError(f"{archive}: has no corpus.jsonl in it, so no data set")
            if len(roots) > FOLDERS_LIMIT:
                raise DownloadError(f"{archive}: holds {len(roots)} data sets, which is too many")
            return [_take_out(opened, archive, into, root, members, limit) for root in roots]
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, RetrError):
            raise
        raise DownloadError(
            f"{archive}: is no zip file that can be read ({error}); remove it and try again"
        ) from error


Member = tuple[PurePosixPath, str, zipfile.ZipInfo]


def _members(opened: zipfile.ZipFile, archive: Path, limit: int) -> Iterator[Member]:
    """Yield folder, name in it, and entry, of what a data set consists of."""
    total = 0
    for info in opened.infolist():
        path = PurePosixPath(info.filename)
        kind = info.external_attr >> 28
        if path.is_absolute() or ".." in path.parts or "\\" in info.filename or kind == 0o12:
            raise DownloadError(f"{archive}: holds {info.filename!r}, which leads out of it")
        if info.is_dir():
            continue
        name = path.name
        root = path.parent
        if path.parent.name == "qrels" and path.suffix == ".tsv":
            name, root = f"qrels/{path.name}", path.parent.parent
        elif name not in _FILES:
            continue
        total += info.file_size
        if total > limit or info.file_size > RATIO_LIMIT * max(info.compress_size, 1024):
            raise DownloadError(
                f"{archive}: would unpack to far more than a data set has "
                f"({info.filename!r}: {info.compress_size:,} to {info.file_size:,} bytes)"
            )
        yield root, name, info


def _take_out(
    opened: zipfile.ZipFile,
    archive: Path,
    into: Path,
    root: PurePosixPath,
    members: list[Member],
    limit: int,
) -> Path:
    target = into.joinpath(*root.parts)
    if (target / "corpus.jsonl").is_file():
        return target
    temporary = target.with_name(f".{target.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that died while it unpacked
    try:
        (temporary / "qrels").mkdir(parents=True)
        for its_root, name, info in members:
            if its_root == root:
                _write(opened, archive, info, temporary / name, limit)
        if target.exists() and not any(target.iterdir()):
            target.rmdir()
        if not target.exists():
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _write(
    opened: zipfile.ZipFile, archive: Path, info: zipfile.ZipInfo, path: Path, limit: int
) -> None:
    """Write one entry; the size it states is held to, whatever comes out of it."""
    written = 0
    with opened.open(info) as source, path.open("wb") as target:
        while block := source.read(BLOCK):
            written += len(block)
            if written > min(info.file_size, limit):
                raise DownloadError(f"{archive}: {info.filename!r} is larger than it says")
            target.write(block)
    if written != info.file_size:
        raise DownloadError(f"{archive}: {info.filename!r} is cut short")


def _fetch(
    url: str,
    part: Path,
    md5: str,
    progress: Progress,
    timeout: float,
    retries: int,
    pause: float,
) -> None:
    """Fetch until the server says that it is all, going on after a connection broke."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            whole = _attempt(url, part, before, progress, timeout)
            # Without a length an end may be a cut: the checksum tells, or the same end again.
            if whole or (whole is None and (part.stat().st_size == before or _md5(part) == md5)):
                return
            problem = "the connection broke off"
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 425, 429):
                raise DownloadError(f"{url}: the server says {error.code} {error.reason}") from None
            problem = f"the server says {error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, OSError) as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise  # our own file, not the network
            problem = str(getattr(error, "reason", None) or error) or type(error).__name__
        after = part.stat().st_size if part.exists() else 0
        failures = 0 if after > before else failures + 1
        if failures >= retries:
            kept = f"{after:,} bytes are kept; " if after else ""
            raise DownloadError(
                f"{url}: cannot be downloaded ({problem}); {kept}run the same command again to "
                "go on, or give the path of a folder that has the data set"
            )
        log.info("%s: %s, trying again", url, problem)
        time.sleep(pause * 2 ** min(failures, 6) if failures else 0)


def _attempt(url: str, part: Path, have: int, progress: Progress, timeout: float) -> bool | None:
    """Fetch what is missing behind the first `have` bytes; return whether it is all there.

    None if the server does not say how much there is.
    """
    headers = {"User-Agent": f"retr/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            # Nothing lies behind it: it is all there, or not this file at all.
            if error.headers.get("Content-Range") == f"bytes */{have}":
                return True
            part.unlink()
            return False
        raise
    with response:
        begins = 0
        if response.status == 206:
            begins, total = _content_range(response.headers.get("Content-Range", ""))
            if begins != have:
                part.unlink(missing_ok=True)
                return False
        else:  # a server that ignores Range sends all of it again
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
        done = begins
        with part.open("ab" if begins else "wb") as file:
            # What has come is written at once: a stall loses none of it.
            while block := response.read1(BLOCK):
                file.write(block)
                done += len(block)
                progress.update(f"downloading {url.rsplit('/', 1)[-1]}", done, done, total)
        return None if total is None else done == total


def _content_range(value: str) -> tuple[int, int | None]:
    """Return first byte and total of a Content-Range such as `bytes 5-9/10`; -1 if unusable."""
    unit, _, rest = value.partition(" ")
    span, _, total = rest.partition("/")
    first, _, _ = span.partition("-")
    if unit != "bytes" or not first.isdigit():
        return -1, None
    return int(first), int(total) if total.isdigit() else None


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def fetch_dataset(
    url: str, md5: str, folder: Path, into: Path, *, progress: Progress | None = None
) -> Path:
    """Return `folder`, a BEIR folder inside `into`, downloaded and unpacked if it is missing.

    The archive is removed once it is unpacked.

    Raises:
        DownloadError, StorageError: see `download` and `unpack`.
        InputError: the archive holds no such folder.
    """
    if (folder / "corpus.jsonl").is_file():
        return folder
    archive = into / url.rsplit("/", 1)[-1]
    with _alone(archive):
        # Another process may have done all of it meanwhile.
        if not (folder / "corpus.jsonl").is_file():
            _download(url, archive, md5, progress or Silent(), TIMEOUT, RETRIES, PAUSE)
            unpack(archive, into)
            archive.unlink()
    if not (folder / "corpus.jsonl").is_file():
        raise InputError(f"{url}: holds no folder {folder.relative_to(into)}")
    return folder
