"""Collections that benchmarks are run on, kept between runs.

One folder for each corpus and embedding space; the collection in it *is* the cache of the
embeddings: it is resumable while it is built and costs nothing when it is whole. One whose words or
fusion are not as a new collection has them is brought up to date, its vectors kept. An index is
built over a second collection that shares the files of the first, so the exact one stays exact.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...indexes.base import MissingFaissError
from ...retrieval.build import build
from ...retrieval.collection import Collection
from ...retrieval.encoders.base import Encoder, Space
from ...retrieval.store.disk import storage_errors
from ...retrieval.store.manifest import Manifest, Role, parse_manifest
from ...retrieval.store.store import FOLDERS, Store
from ...retrieval.values.errors import (
    CollectionNotFoundError,
    DamagedError,
    InputError,
    missing_extra,
)
from ...retrieval.values.settings import Settings
from ..files import write_json
from .folders import Prepared
from .systems import fusion_of_new, space_key, words_of_new

log = logging.getLogger("retr.benchmarks")

_DONE = "built.json"


def exact_collection(
    dataset: Prepared,
    encoder: Encoder,
    cache: Path,
    *,
    progress: bool | None = None,
    checked: set[Path] | None = None,
) -> tuple[Collection, Mapping[str, Any]]:
    """Return the collection of a data set in the encoder's space, without an index.

    One that is there already is compared with its checksums, and made again if it is damaged.

    checked: the collections of this run that were compared before; this one joins them.

    Also returns what is known of its making: {"documents", "rows", "encoded", "skipped",
    "seconds", "bytes"}; seconds is None if it took more than one run.
    """
    folder = _folder(dataset, encoder.space, cache)
    path = folder / "exact.retr"
    made = _read_done(folder / _DONE)
    if made is not None or Store(path).exists():
        whole = _whole(path, encoder, checked)
        if whole is None:
            # What is left of it is no use, nor is an index that shares its files.
            shutil.rmtree(folder, ignore_errors=True)
        elif made is not None:
            return whole, _up_to_date(whole, made, folder / _DONE)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    resumed = Store(path).exists()
    begin = time.monotonic()
    try:
        collection = build(
            str(dataset.folder),
            path,
            encoder=encoder,
            passages=False,
            progress=progress,
        )
    except InputError as error:
        # A line is named by its file alone, and every data set has a corpus.jsonl.
        if type(error) is not InputError or str(dataset.folder) in str(error):
            raise
        raise InputError(f"{dataset.folder}: {error}") from error
    _note(checked, path)
    report = collection.report
    _settle(collection)  # it may have been begun with other words
    info = collection.info()
    made = {
        "documents": info["documents"],
        "rows": info["rows"],
        "encoded": report.encoded,
        "skipped": report.skipped,
        "seconds": None if resumed else round(time.monotonic() - begin, 3),
        "bytes": info["bytes"],
    }
    write_json(made, folder / _DONE)
    return collection, made


def indexed_collection(
    dataset: Prepared,
    encoder: Encoder,
    cache: Path,
    spec: str,
    *,
    checked: set[Path] | None = None,
) -> tuple[Collection, Mapping[str, Any]]:
    """Return the collection with an index of this spec over the very vectors of the exact one.

    checked: as for `exact_collection`.

    Also returns {"index", "seconds", "bytes"}: the spec of the index of each segment, how long it
    took to build, and the size of the collection with it.

    Raises:
        InputError: the spec does not parse, or there is no such kind.
        MissingExtraError: faiss is not installed.
    """
    folder = _folder(dataset, encoder.space, cache)
    name = _slug(spec)
    path, done = folder / f"{name}.retr", folder / f"{name}.json"
    made = _read_done(done)
    if made is not None:
        whole = _whole(path, encoder, checked)
        if whole is not None:
            return whole, _up_to_date(whole, made, done)
    with storage_errors(path):
        done.unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)
        share(folder / "exact.retr", path)
    collection = Collection(path, encoder=encoder)
    begin = time.monotonic()
    try:
        collection.index(spec)
    except MissingFaissError:
        raise missing_extra(f"the index {spec}", "cpu") from None
    seconds = time.monotonic() - begin
    info = collection.info()
    dense = [s["index"] for s in info["segments"] if s["role"] == "dense"]
    made = {"index": dense, "seconds": round(seconds, 3), "bytes": info["bytes"]}
    write_json(made, done)
    _note(checked, path)
    return collection, made


def share(source: Path, target: Path) -> None:
    """Make a second collection of the newest generation of one, by links to the same files.

    The files of a collection never change, so both may be written to without a word between
    them. Where the file system has no hard links they are copied.

    Raises:
        DamagedError: the source has no whole generation.
    """
    store = Store(source)
    manifest, damaged = store.read()
    if damaged:
        raise DamagedError(f"{store.manifest_path(damaged[0])}: is damaged; remove {source}")
    for name in ("manifests", "staging", *FOLDERS):
        (target / name).mkdir(parents=True, exist_ok=True)
    for name in manifest.files:
        _link(source / name, target / name)
    own = store.manifest_path(manifest.generation)
    # Last, for with it the collection is there.
    parse_manifest(own.read_bytes())
    _link(own, target / "manifests" / own.name)


def _up_to_date(collection: Collection, made: Mapping[str, Any], done: Path) -> Mapping[str, Any]:
    """Give a collection the words and fusion of a new one; return what is known of its making."""
    if not _settle(collection):
        return made
    made = {**made, "bytes": collection.info()["bytes"]}
    write_json(made, done)
    return made


def _settle(collection: Collection) -> bool:
    """Give a collection the words and fusion of a new one; return whether it had others."""
    words, fusion = words_of_new(), fusion_of_new(collection.space)
    known = Settings.of(collection.settings)
    if known.terms == words and known.fusion == fusion:
        return False
    log.info("%s: is brought up to date, words %s, fusion %s", collection.path, words, fusion)
    if known.terms not in (None, words):
        _drop_words(collection)
    collection.settle({"fusion": fusion}, words)
    return True


def _drop_words(collection: Collection) -> None:
    """Take the words out of a collection, so that other ones can be put in; vectors stay."""
    store = Store(collection.path)

    def without(newest: Manifest | None) -> Manifest | None:
        if newest is None:
            return None
        kept = tuple(each for each in newest.segments if each.role is not Role.LEXICAL)
        settings = replace(Settings.of(newest.settings), terms=None)
        return replace(newest.with_segments(kept, newest.deletes, {}), settings=settings.to_json())

    with store.staging() as staging:
        store.commit(staging, without)
    collection.refresh()


def _whole(path: Path, encoder: Encoder, checked: set[Path] | None) -> Collection | None:
    """Return a cached collection, None if it is gone or damaged."""
    try:
        collection = Collection(path, encoder=encoder)
        if checked is not None and path in checked:
            return collection
        problems = collection.verify()
    except CollectionNotFoundError:
        return None
    except DamagedError as error:
        problems = [str(error)]
    if problems:
        log.warning("%s: is damaged, so it is made again (%s)", path, problems[0])
        return None
    _note(checked, path)
    return collection


def _note(checked: set[Path] | None, path: Path) -> None:
    if checked is not None:
        checked.add(path)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        shutil.copyfile(source, target)


def _folder(dataset: Prepared, space: Space, cache: Path) -> Path:
    return cache / "collections" / f"{dataset.slug}-{dataset.corpus_digest[:12]}-{space_key(space)}"


def _slug(spec: str) -> str:
    return re.sub(r"[^a-z0-9.-]+", "_", spec).strip("_")


def _read_done(path: Path) -> dict[str, Any] | None:
    try:
        made = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return made if isinstance(made, dict) else None
