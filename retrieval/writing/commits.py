"""The commits of a writer: add rows, delete rows, change settings, replace segments.

Each one stages its files without a lock, then takes the lock and rebases onto the newest
generation, so that other writers' commits are kept.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...indexes.base import Floats
from ..encoders.base import IMAGE, TEXT, Space, Weights
from ..segments.marks import carried_over
from ..segments.means import encode_mean
from ..segments.opening import check_settings, check_space
from ..segments.snapshot import Snapshot, open_generation
from ..store.documents import DocumentShard, StoredRow, write_documents
from ..store.manifest import Manifest, Role, SegmentEntry
from ..store.shards import Rows, find_rows, open_rows, write_rows, write_vectors
from ..store.staging import Staging
from ..store.store import Store
from ..values.errors import CollectionNotFoundError, InputError
from ..values.settings import Settings
from .terms import stage_terms, stage_weights

log = logging.getLogger("retr.commits")

MOST_DELETE_FILES = 16


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """The vectors that some rows of a commit have in one modality.

    rows:    i64[n], ascending: the rows, counted from 0 within the commit.
    vectors: f32[n, dim].
    """

    rows: Rows
    vectors: Floats


@dataclass(frozen=True, slots=True)
class NewCollection:
    """What the first commit of a collection needs to know.

    space:    the space of its vectors, or of a sparse encoder's weights.
    encoder:  how to load the encoder of that space: {"name", "options"}.
    settings: the user's settings.
    modalities: what the encoder makes vectors from.

    Raises:
        InputError: a setting does not fit the space.
    """

    space: Space
    encoder: Mapping[str, Any]
    settings: Settings = field(default_factory=Settings)
    modalities: frozenset[str] = frozenset({TEXT})

    def __post_init__(self) -> None:
        check_settings(self.space, self.settings)

    def manifest(self) -> Manifest:
        """Return generation 0, which is never written: the base of the first commit."""
        return Manifest(
            generation=0,
            created="",
            writer="",
            next_row=0,
            encoder=self.encoder,
            space="s1",
            spaces={"s1": self.space.to_json()},
            settings=self.settings.to_json(),
        )


def _space_for(base: Manifest, given: Space, path: object) -> str:
    """Return the key of the space of a writer's vectors.

    A writer that started before the encoder was replaced may finish: its rows then await new
    vectors, as the older rows do.

    Raises:
        SpaceMismatchError: the collection has no vectors of this space.
    """
    upgrade = base.upgrade
    if upgrade is not None and Space.from_json(base.spaces[upgrade.source]) == given:
        return upgrade.source
    check_space(Space.from_json(base.spaces[base.space]), given, path)
    return base.space


def commit_on(
    store: Store,
    staging: Staging,
    previous: Snapshot | None,
    change: Callable[[Manifest], Manifest | None],
    *,
    ground: Manifest | None = None,
) -> Snapshot | None:
    """Commit what `change` makes of the newest generation; return the new one, opened.

    previous: the snapshot that the writer has read; None if it creates the collection.
    change:   returns the changed manifest, or None to change nothing; this function then returns
              None, too. It runs under the writer's lock, and may run again.
    ground:   the manifest that the first commit of a collection starts from.

    Raises:
        CollectionNotFoundError: the collection was removed while it was open.
    """

    def rebase(newest: Manifest | None) -> Manifest | None:
        if newest is None and previous is not None:
            raise CollectionNotFoundError(
                f"{store.path}: the collection was removed while it was open; build it again"
            )
        base = newest or ground
        return None if base is None else change(base)

    manifest = store.commit(staging, rebase)
    return None if manifest is None else open_generation(store, manifest, previous)


def add_rows(
    store: Store,
    new: NewCollection,
    rows: Sequence[StoredRow],
    encoded: Mapping[str, Encoded] | Sequence[Weights],
    previous: Snapshot | None,
    *,
    passages: bool,
) -> tuple[Snapshot, int]:
    """Commit rows and their vectors; the same commit deletes older rows with the same ids.

    encoded: the vectors by modality, or for a sparse space the weights of each row.

    Returns the new snapshot and the number of the first row; the others are numbered after it.
    """
    first = 0
    numbers = np.arange(len(rows), dtype=np.int64)
    ids = list(dict.fromkeys(row.id for row in rows))
    terms = new.settings.terms
    with store.staging() as staging:
        documents, hashes = write_documents(staging, rows)
        staged = _stage_encoded(staging, new, numbers, encoded)
        words = None
        if terms is not None:
            words = stage_terms(staging, numbers, [row.text for row in rows], terms)

        def change(newest: Manifest) -> Manifest:
            nonlocal first
            space = _space_for(newest, new.space, store.path)
            if Settings.of(newest.settings).terms != terms:
                raise InputError(
                    f"{store.path}: another writer has changed how texts are indexed by words; "
                    "run it again"
                )
            first, last = newest.next_row, newest.next_row + len(rows) - 1
            added = [
                SegmentEntry(
                    new_id(),
                    Role.DOCUMENTS,
                    len(rows),
                    first,
                    last,
                    documents,
                    ids=hashes,
                    passages=passages,
                ),
                *(entry(first, space) for entry in staged),
            ]
            if words is not None:
                added.append(words.entry(new_id(), first))
            replaced = np.empty(0, np.int64)
            if newest.segments:
                replaced = np.concatenate(open_generation(store, newest, previous).rows_of(ids))
            deletes = with_deletes(store, staging, newest, replaced)
            return replace(
                newest.with_segments((*newest.segments, *added), deletes, staging.files),
                next_row=last + 1,
            )

        snapshot = commit_on(store, staging, previous, change, ground=new.manifest())
    assert snapshot is not None  # `change` always returns a manifest
    return snapshot, first


def _stage_encoded(
    staging: Staging,
    new: NewCollection,
    rows: Rows,
    encoded: Mapping[str, Encoded] | Sequence[Weights],
) -> list[Callable[[int, str], SegmentEntry]]:
    """Stage the vectors of new rows, or their weights.

    Returns functions that make each segment from the first row's number and the space's key.
    """
    if not isinstance(encoded, Mapping):
        weights = stage_weights(staging, rows, encoded, new.space)
        return [lambda first, space: replace(weights, space=space).entry(new_id(), first)]
    # Means tell modalities apart, so they are not needed if all vectors are made from texts.
    keep_mean = IMAGE in new.modalities or IMAGE in encoded
    made = [(modality, part) for modality, part in encoded.items() if len(part.rows)]
    return [_stage_vectors(staging, new, part, modality, keep_mean) for modality, part in made]


def _stage_vectors(
    staging: Staging, new: NewCollection, part: Encoded, modality: str, keep_mean: bool
) -> Callable[[int, str], SegmentEntry]:
    # Relative to the first row of the segment, as in a merged segment.
    lowest = int(part.rows[0])
    rows = part.rows - lowest
    data = write_vectors(staging, rows, part.vectors, new.space.to_json(), new.settings.dtype)
    mean = encode_mean(part.vectors.mean(axis=0, dtype=np.float64)) if keep_mean else None
    return lambda first, space: SegmentEntry(
        new_id(),
        Role.DENSE,
        len(rows),
        first + lowest,
        first + lowest + int(rows[-1]),
        data,
        space=space,
        modality=modality,
        mean=mean,
    )


def delete_rows(
    store: Store, select: Callable[[Snapshot], Rows], previous: Snapshot | None
) -> tuple[Snapshot | None, int]:
    """Commit the deletion of the rows that `select` picks in the newest generation.

    Returns the new snapshot, or None if there was nothing to delete, and the number of rows.
    """
    count = 0
    with store.staging() as staging:

        def change(newest: Manifest) -> Manifest | None:
            nonlocal count
            rows = select(open_generation(store, newest, previous))
            count = len(rows)
            if not count:
                return None
            deletes = with_deletes(store, staging, newest, rows)
            return newest.with_segments(newest.segments, deletes, staging.files)

        return commit_on(store, staging, previous, change), count


def change_settings(
    store: Store, fields: Mapping[str, Any], encoder: Mapping[str, Any], previous: Snapshot
) -> Snapshot:
    """Commit changed settings, or another way to load the encoder, if anything differs.

    fields:  fields of `Settings`, by name; the others stay.
    encoder: how to load the encoder, of the same space; a query prompt, say, may change.
    """

    def change(newest: Manifest) -> Manifest | None:
        known = Settings.of(newest.settings)
        settings = replace(known, **fields)
        # Another writer may have started to replace the encoder.
        loading = encoder if newest.space == previous.manifest.space else newest.encoder
        if settings == known and loading == newest.encoder:
            return None
        return replace(newest, settings=settings.to_json(), encoder=loading)

    with store.staging() as staging:
        return commit_on(store, staging, previous, change) or previous


def replace_segments(
    store: Store, staging: Staging, snapshot: Snapshot, new: Sequence[tuple[set[str], SegmentEntry]]
) -> Snapshot:
    """Commit segments in place of others.

    Raises:
        InputError: another writer has replaced those meanwhile.
    """
    changed = commit_on(
        store, staging, snapshot, lambda newest: with_replaced(store, staging, newest, list(new))
    )
    if changed is None:
        raise InputError(
            f"{store.path}: another writer has replaced the same segments; run it again"
        )
    return changed


def with_replaced(
    store: Store,
    staging: Staging,
    newest: Manifest,
    merged: list[tuple[set[str], SegmentEntry | None]],
) -> Manifest | None:
    """Return the manifest with segments in place of others; None if all those are gone by now."""
    present = {s.id for s in newest.segments}
    still = [(old, entry) for old, entry in merged if old <= present]
    if not still:
        return None
    gone = set().union(*(old for old, _ in still))
    segments = [s for s in newest.segments if s.id not in gone]
    segments += [carried_over(staging, newest, old, entry) for old, entry in still if entry]
    changed = newest.with_segments(tuple(segments), newest.deletes, staging.files)
    return _forget_deletes(store, staging, changed)


def _forget_deletes(store: Store, staging: Staging, manifest: Manifest) -> Manifest:
    """Drop the delete entries of rows that no segment holds any more."""
    if not manifest.deletes:
        return manifest
    deleted = np.unique(np.concatenate([open_rows(store.path / n) for n in manifest.deletes]))
    held = np.zeros(len(deleted), bool)
    for entry in manifest.segments:
        if entry.role is Role.DOCUMENTS:
            rows = DocumentShard(staging.find(entry.data), staging.find(str(entry.ids))).rows
        else:
            rows = open_rows(staging.find(entry.data))
        relative = deleted - entry.first_row
        held[np.searchsorted(relative, rows[find_rows(rows, relative)])] = True
    if held.all():
        return manifest
    deletes = (write_rows(staging, deleted[held]),) if held.any() else ()
    return manifest.with_segments(manifest.segments, deletes, staging.files)


def with_deletes(store: Store, staging: Staging, manifest: Manifest, rows: Rows) -> tuple[str, ...]:
    """Return the files of deleted rows with these rows added."""
    if not len(rows):
        return manifest.deletes
    rows = np.unique(rows)
    if len(manifest.deletes) < MOST_DELETE_FILES:
        return (*manifest.deletes, write_rows(staging, rows))
    deleted = [open_rows(store.path / name) for name in manifest.deletes]
    return (write_rows(staging, np.unique(np.concatenate([*deleted, rows]))),)


def new_id() -> str:
    """Return a new id for a segment."""
    return uuid.uuid4().hex[:16]
