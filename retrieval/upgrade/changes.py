"""The commits of an upgrade: start it, add vectors, finish it, roll it back.

Each stages its files without a lock and rebases onto the newest generation under it, as the commits
in `retrieval/writing/commits.py` do. The space of a vector decides its rank: vectors of the space
of the queries are best, mapped ones second, old ones last. A search finds a row by its best vector;
the row is marked in the segments of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...indexes.base import Floats
from ..bridges.bridge import Bridge
from ..bridges.codec import write_map
from ..bridges.forward import Forward
from ..encoders.base import Space
from ..segments.marks import rows_of, unmarked_rows, with_marks
from ..segments.means import RunningMean
from ..segments.snapshot import Snapshot, open_generation
from ..store.manifest import BridgeEntry, Manifest, Maps, Role, SegmentEntry, UpgradeEntry
from ..store.shards import Rows, find_rows, write_vectors_in_parts
from ..store.staging import Staging
from ..store.store import Store
from ..values.errors import InputError
from ..values.fusion import Fusion
from ..values.settings import Settings
from ..writing.commits import commit_on, new_id, with_deletes

BLOCK = 16_384


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """Vectors of some rows that are to be added to a collection.

    rows:     i64[n], ascending.
    modality: what they were made from.
    parts:    yields them in the order of the rows, f32[m, dim] each; may be called twice.
    """

    rows: Rows
    modality: str
    parts: Callable[[], Iterable[NDArray[Any]]]

    @classmethod
    def of(cls, rows: Rows, modality: str, vectors: Floats) -> Vectors:
        """Return the `Vectors` of an array in memory, f32[n, dim]."""
        return cls(rows, modality, lambda: [vectors])

    def without(self, rows: Rows) -> Vectors:
        """Return the vectors without those of `rows` (ascending)."""
        keep = np.ones(len(self.rows), bool)
        keep[find_rows(self.rows, rows)] = False

        def parts() -> Iterator[NDArray[Any]]:
            start = 0
            for part in self.parts():
                yield part[keep[start : start + len(part)]]
                start += len(part)

        return Vectors(self.rows[keep], self.modality, parts)


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What an upgrade starts with.

    space:    the space of the new encoder.
    encoder:  how to load the new encoder.
    vectors:  the sample's vectors by the new encoder.
    bridge:   carries queries of the new encoder to the old vectors.
    back:     carries queries of the old encoder to new vectors.
    forward:  maps the old vectors.
    measured: the kind and the measurements of each of the three.
    gate:     the gate's measurements.
    """

    space: Space
    encoder: Mapping[str, Any]
    vectors: Vectors
    bridge: Bridge
    back: Bridge
    forward: Forward
    measured: tuple[Mapping[str, Any], ...]
    gate: Mapping[str, Any]


def begin(store: Store, snapshot: Snapshot, fitted: Fitted) -> Snapshot:
    """Commit the start of an upgrade: from then on, the new encoder encodes the queries.

    Raises:
        InputError: another writer has started or finished an upgrade meanwhile.
    """
    with store.staging() as staging:
        made = (fitted.bridge, fitted.back, fitted.forward)
        files = [_write(staging, each) for each in made]
        staged = _stage(staging, snapshot, fitted.vectors, fitted.space)

        def change(newest: Manifest) -> Manifest | None:
            old, new = newest.space, new_key(newest)
            if newest.upgrade is not None or old != snapshot.manifest.space:
                raise InputError(
                    f"{store.path}: another writer has changed the encoder meanwhile; see: "
                    f"retr upgrade status --index {store.path}"
                )
            ways = ((Maps.QUERIES, new, old), (Maps.QUERIES, old, new), (Maps.DOCUMENTS, old, new))
            bridges = tuple(
                BridgeEntry(maps, source, target, file, measured=measured)
                for (maps, source, target), file, measured in zip(
                    ways, files, fitted.measured, strict=True
                )
            )
            settings = Settings.of(newest.settings)
            upgrade = UpgradeEntry(
                source=old,
                encoder=newest.encoder,
                fusion=None if settings.fusion is None else settings.fusion.to_json(),
                started=datetime.now(UTC).isoformat(timespec="seconds"),
                gate=fitted.gate,
            )
            begun = replace(
                newest,
                space=new,
                encoder=fitted.encoder,
                spaces={**newest.spaces, new: fitted.space.to_json()},
                settings=replace(settings, fusion=None).to_json(),
                bridges=(*newest.bridges, *bridges),
                upgrade=upgrade,
            )
            committed = open_generation(store, newest, snapshot)
            return _with_vectors(store, staging, committed, begun, new, staged)

        changed = commit_on(store, staging, snapshot, change)
    assert changed is not None  # `change` always returns a manifest
    return changed


def add_vectors(
    store: Store, snapshot: Snapshot, vectors: Vectors, *, rate: float | None = None
) -> Snapshot:
    """Commit vectors of the space of the queries for rows that await them.

    rate: how many rows were embedded per second.

    Rows that have such a vector by now are left out, and so are deleted rows.

    Raises:
        InputError: the space of the queries has changed meanwhile.
    """
    key = snapshot.manifest.space
    with store.staging() as staging:
        staged = _stage(staging, snapshot, vectors, snapshot.space)

        def change(newest: Manifest) -> Manifest | None:
            if newest.space != key:
                raise InputError(
                    f"{store.path}: its encoder was changed meanwhile, so the new vectors cannot "
                    f"be used; see: retr upgrade status --index {store.path}"
                )
            committed = open_generation(store, newest, snapshot)
            if rate is not None and newest.upgrade is not None:
                newest = replace(newest, upgrade=replace(newest.upgrade, rate=round(rate, 2)))
            return _with_vectors(store, staging, committed, newest, key, staged)

        return commit_on(store, staging, snapshot, change) or snapshot


def add_mapped(
    store: Store, snapshot: Snapshot, entry: BridgeEntry, space: Space, vectors: Vectors
) -> Snapshot:
    """Commit vectors made by a map of documents; they are of a space of their own.

    Raises:
        InputError: the upgrade was finished or rolled back meanwhile.
    """
    with store.staging() as staging:
        staged = _stage(staging, snapshot, vectors, space)

        def change(newest: Manifest) -> Manifest | None:
            there = next((b for b in newest.bridges if b.file == entry.file), None)
            if there is None or newest.upgrade is None:
                raise InputError(
                    f"{store.path}: the upgrade was finished or rolled back meanwhile; see: "
                    f"retr upgrade status --index {store.path}"
                )
            committed = open_generation(store, newest, snapshot)
            key = there.made
            if key is None:
                key = new_key(newest)
                made = tuple(replace(b, made=key) if b is there else b for b in newest.bridges)
                spaces = {**newest.spaces, key: space.to_json()}
                newest = replace(newest, spaces=spaces, bridges=made)
            return _with_vectors(store, staging, committed, newest, key, staged)

        return commit_on(store, staging, snapshot, change) or snapshot


def finish(store: Store, snapshot: Snapshot, check: Callable[[Snapshot], None]) -> Snapshot:
    """Commit the end of an upgrade, which drops the old vectors.

    check: called with the newest generation; raises an error if the upgrade may not end.
    """
    with store.staging() as staging:

        def change(newest: Manifest) -> Manifest | None:
            opened = open_generation(store, newest, snapshot)
            check(opened)
            upgrade = newest.upgrade
            assert upgrade is not None  # `check` has seen to it
            searched = {s.entry.id for s in opened.dense if opened.is_searched([s])}
            kept = [
                s
                for s in newest.of_role(Role.DENSE)
                if s.space == newest.space or (s.space != upgrade.source and s.id in searched)
            ]
            return _with_dense(staging, replace(newest, upgrade=None), kept)

        changed = commit_on(store, staging, snapshot, change)
    assert changed is not None  # `change` always returns a manifest
    return changed


def roll_back(store: Store, snapshot: Snapshot, check: Callable[[Manifest], None]) -> Snapshot:
    """Commit a rollback: the old encoder, whose vectors are all still there, encodes queries again.

    Mapped vectors are dropped. New ones stay for rows without an old one, which now await it.

    check: called with the newest manifest; raises an error if there is nothing to roll back.
    """
    with store.staging() as staging:

        def change(newest: Manifest) -> Manifest | None:
            check(newest)
            upgrade = newest.upgrade
            assert upgrade is not None  # `check` has seen to it
            old, new = upgrade.source, newest.space
            olds = [
                replace(s, superseded=None) for s in newest.of_role(Role.DENSE) if s.space == old
            ]
            left = []
            for entry in newest.of_role(Role.DENSE):
                if entry.space == new:
                    entry = replace(entry, superseded=None)
                    alike = [s for s in olds if s.modality == entry.modality]
                    entry = with_marks(staging, entry, unmarked_rows(staging, alike))
                    if len(unmarked_rows(staging, [entry])):
                        left.append(entry)
            fusion = None if upgrade.fusion is None else Fusion(**upgrade.fusion)
            settings = replace(Settings.of(newest.settings), fusion=fusion)
            back = UpgradeEntry(
                source=new,
                encoder=newest.encoder,
                fusion=None,
                started=datetime.now(UTC).isoformat(timespec="seconds"),
                back=True,
            )
            changed = replace(
                newest,
                space=old,
                encoder=upgrade.encoder,
                settings=settings.to_json(),
                bridges=tuple(b for b in newest.bridges if b.maps is Maps.QUERIES),
                upgrade=back if left else None,
            )
            return _with_dense(staging, changed, [*olds, *left])

        changed = commit_on(store, staging, snapshot, change)
    assert changed is not None  # `change` always returns a manifest
    return changed


def new_key(manifest: Manifest) -> str:
    """Return a new key for a space, not used by any space or by the end of any bridge."""
    ends = [(b.source, b.target, b.made or b.target) for b in manifest.bridges]
    known = {*manifest.spaces, *(key for each in ends for key in each)}
    return f"s{1 + max(int(key[1:]) for key in known)}"


def _with_vectors(
    store: Store,
    staging: Staging,
    committed: Snapshot,
    newest: Manifest,
    key: str,
    staged: tuple[Vectors, SegmentEntry, Space],
) -> Manifest | None:
    """Return the manifest with vectors of a space added; None if every row has one already.

    committed: the newest generation, opened.
    newest:    its manifest, which may have been changed since.
    """
    vectors, entry, space = staged
    alike = [s for s in newest.of_role(Role.DENSE) if s.modality == vectors.modality]
    # Another backfill may have been faster.
    there = _all_rows(staging, [s for s in alike if s.space == key])
    duplicates = there[find_rows(there, vectors.rows)]
    if len(duplicates):
        vectors = vectors.without(duplicates)
        if not len(vectors.rows):
            return None
        vectors, entry, space = _stage(staging, committed, vectors, space)
    entry = replace(entry, id=new_id(), space=key)
    rank = _rank(newest, key)
    better = [s for s in alike if _rank(newest, str(s.space)) < rank]
    entry = with_marks(staging, entry, _all_rows(staging, better))
    worse = {s.id for s in alike if _rank(newest, str(s.space)) > rank}
    segments = [
        with_marks(staging, s, vectors.rows) if s.id in worse else s for s in newest.segments
    ]
    # Rows may have been deleted, or even compacted away together with their marks.
    gone = vectors.rows[~committed.holds(vectors.rows)]
    deletes = with_deletes(store, staging, newest, gone)
    return newest.with_segments((*segments, entry), deletes, staging.files)


def _rank(manifest: Manifest, key: str) -> int:
    """Return the rank of the vectors of a space: 0 is best, then mapped, then old ones."""
    if key == manifest.space:
        return 0
    return 1 if any(b.made == key for b in manifest.bridges) else 2


def _all_rows(staging: Staging, entries: Iterable[SegmentEntry]) -> Rows:
    parts = [rows_of(staging, entry) for entry in entries]
    return np.sort(np.concatenate([np.empty(0, np.int64), *parts]))


def _stage(
    staging: Staging, snapshot: Snapshot, vectors: Vectors, space: Space
) -> tuple[Vectors, SegmentEntry, Space]:
    """Write vectors to a segment's file; the entry still lacks its id and space."""
    first = int(vectors.rows[0])
    mean = RunningMean(space.dim)
    data = write_vectors_in_parts(
        staging,
        vectors.rows - first,
        mean.over(iter(vectors.parts())),
        space.dim,
        space.to_json(),
        snapshot.settings.dtype,
    )
    entry = SegmentEntry(
        "",
        Role.DENSE,
        len(vectors.rows),
        first,
        int(vectors.rows[-1]),
        data,
        modality=vectors.modality,
        mean=mean.encoded() if any(s.entry.mean for s in snapshot.dense) else None,
    )
    return vectors, entry, space


def _write(staging: Staging, made: Bridge | Forward) -> str:
    with staging.new_file("bridges") as (file, name):
        write_map(file.as_binary(), made)
    return name


def _with_dense(staging: Staging, manifest: Manifest, dense: Iterable[SegmentEntry]) -> Manifest:
    """Return the manifest with these dense segments, and only the spaces and bridges they need."""
    others = [s for s in manifest.segments if s.role is not Role.DENSE]
    segments = (*others, *dense)
    used = {str(s.space) for s in segments if s.space is not None} | {manifest.space}
    bridges = manifest.bridges
    if manifest.upgrade is not None:
        used.add(manifest.upgrade.source)
    else:  # mapped vectors are still found through the bridge of their map
        bridges = tuple(b for b in bridges if b.made in used)
    spaces = {key: space for key, space in manifest.spaces.items() if key in used}
    pruned = replace(manifest, spaces=spaces, bridges=bridges)
    return pruned.with_segments(segments, manifest.deletes, staging.files)
