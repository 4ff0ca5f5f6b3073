"""The commits a writer makes: rows added, rows deleted, settings changed, segments replaced.

Each one stages its files without a lock, then rebases onto the newest generation under it: what
others did meanwhile is kept.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...indexes.base import Floats
from ...indexes.spec import IndexSpec
from ..encoders.base import IMAGE, TEXT, Space, Weights
from ..segments.marks import carried_over
from ..segments.means import encode_mean
from ..segments.opening import check_space
from ..segments.snapshot import Snapshot, open_generation
from ..store.documents import DocumentShard, StoredRow, write_documents
from ..store.manifest import Manifest, Role, SegmentEntry
from ..store.shards import Rows, find_rows, open_rows, write_rows, write_vectors
from ..store.staging import Staging
from ..store.store import Store
from ..values.errors import CollectionNotFoundError, InputError
from ..values.settings import TermSettings
from .terms import stage_terms, stage_weights

log = logging.getLogger("retr.commits")

MOST_DELETE_FILES = 16


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """The vectors of some of the rows of a commit, all made from one modality.

    rows:    i64[n], ascending: which of the rows, counted from 0.
    vectors: f32[n, dim].
    """

    rows: Rows
    vectors: Floats


@dataclass(frozen=True, slots=True)
class Birth:
    """What a collection is from its first commit on.

    space:    of its vectors, or of the weights of a sparse encoder.
    encoder:  how to load the encoder of that space: {"name", "options"}.
    settings: what the user chose: {"spec", "recall", "dtype", …}.
    modalities: what the encoder makes vectors from.

    Raises:
        InputError: a setting has no meaning for the space.
    """

    space: Space
    encoder: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    modalities: frozenset[str] = frozenset({TEXT})

    def __post_init__(self) -> None:
        check_settings(self.space, self.settings)

    def manifest(self) -> Manifest:
        """Return generation 0, which is never written: the ground of the first commit."""
        return Manifest(
            generation=0,
            created="",
            writer="",
            next_row=0,
            encoder=self.encoder,
            space="s1",
            spaces={"s1": self.space.to_json()},
            settings=self.settings,
        )


def _space_for(ground: Manifest, given: Space, path: object) -> str:
    """Return the key of the space that a writer's vectors are of.

    One that began before the encoder was replaced goes on: its rows await the new vectors like
    those that were there.

    Raises:
        SpaceMismatchError: it is none that the collection has vectors of.
    """
    upgrade = ground.upgrade
    if upgrade is not None and Space.from_json(ground.spaces[upgrade.source]) == given:
        return upgrade.source
    check_space(Space.from_json(ground.spaces[ground.space]), given, path)
    return ground.space


def check_settings(space: Space, settings: Mapping[str, Any]) -> None:
    """Refuse settings that the vectors of a space cannot have, or a sparse space, which has none.

    Raises:
        InputError: there is one.
    """
    if not space.sparse:
        spec = settings.get("spec", "auto")
        dims = () if spec == "auto" else IndexSpec.parse(spec).dims
        if dims and dims[-1] >= space.dim:
            raise InputError(
                f"spec {spec!r}: its prefix of {dims[-1]} is not shorter than the vectors of "
                f"{space.encoder!r}, which have {space.dim} dimensions"
            )
        return
    for name, without in (("spec", "auto"), ("dtype", "float32")):
        if settings.get(name, without) != without:
            raise InputError(
                f"encoder {space.encoder!r}: its weights of words are kept as postings and not as "
                f"vectors, so the {name} {settings[name]!r} has no meaning; leave it out"
            )


def add_rows(
    store: Store,
    birth: Birth,
    rows: Sequence[StoredRow],
    encoded: Mapping[str, Encoded] | Sequence[Weights],
    previous: Snapshot | None,
    *,
    passages: bool,
) -> tuple[Snapshot, int]:
    """Commit rows and their vectors; rows that the same ids had are deleted with it.

    encoded: the vectors by modality, or weights for each row for a sparse space.

    Returns the new snapshot and the number of the first row; the others follow it.
    """
    first = 0
    numbers = np.arange(len(rows), dtype=np.int64)
    ids = list(dict.fromkeys(row.id for row in rows))
    with store.staging() as staging:
        documents, hashes = write_documents(staging, rows)
        staged = _stage_encoded(staging, birth, numbers, encoded)
        words = None
        if (terms := TermSettings.of(birth.settings)) is not None:
            words = stage_terms(staging, numbers, [row.text for row in rows], terms)

        def rebase(newest: Manifest | None) -> Manifest:
            nonlocal first
            check_there(store, newest, previous)
            ground = newest or birth.manifest()
            space = _space_for(ground, birth.space, store.path)
            if TermSettings.of(ground.settings) != terms:
                raise InputError(
                    f"{store.path}: another writer has changed how its texts are searched by "
                    "words; run it again"
                )
            first, last = ground.next_row, ground.next_row + len(rows) - 1
            new = [
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
                new.append(words.entry(new_id(), first))
            replaced = np.empty(0, np.int64)
            if newest is not None:
                replaced = np.concatenate(open_generation(store, newest, previous).rows_of(ids))
            deletes = with_deletes(store, staging, ground, replaced)
            return replace(
                ground.with_segments((*ground.segments, *new), deletes, staging.files),
                next_row=last + 1,
            )

        manifest = store.commit(staging, rebase)
    assert manifest is not None  # rebase always returns one
    return open_generation(store, manifest, previous), first


def _stage_encoded(
    staging: Staging, birth: Birth, rows: Rows, encoded: Mapping[str, Encoded] | Sequence[Weights]
) -> list[Callable[[int, str], SegmentEntry]]:
    """Stage the vectors of new rows, or their weights.

    Returns what makes each segment, given the first row's number and the key of the space.
    """
    if not isinstance(encoded, Mapping):
        weights = stage_weights(staging, rows, encoded, birth.space)
        return [lambda first, space: replace(weights, space=space).entry(new_id(), first)]
    # Where all vectors were made from texts, there is nothing that a mean would tell apart.
    keep_mean = IMAGE in birth.modalities or IMAGE in encoded
    made = [(modality, part) for modality, part in encoded.items() if len(part.rows)]
    return [_stage_vectors(staging, birth, part, modality, keep_mean) for modality, part in made]


def _stage_vectors(
    staging: Staging, birth: Birth, part: Encoded, modality: str, keep_mean: bool
) -> Callable[[int, str], SegmentEntry]:
    dtype = str(birth.settings.get("dtype", "float32"))
    # Relative to the first of them, as in a segment that was merged.
    lowest = int(part.rows[0])
    rows = part.rows - lowest
    data = write_vectors(staging, rows, part.vectors, birth.space.to_json(), dtype)
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
    """Commit the deletion of the rows that `select` finds in the newest generation.

    Returns the new snapshot, None where nothing was to be deleted, and the number of rows.
    """
    count = 0
    with store.staging() as staging:

        def rebase(newest: Manifest | None) -> Manifest | None:
            nonlocal count
            check_there(store, newest, previous)
            if newest is None:
                return None
            rows = select(open_generation(store, newest, previous))
            count = len(rows)
            if not count:
                return None
            deletes = with_deletes(store, staging, newest, rows)
            return newest.with_segments(newest.segments, deletes, staging.files)

        manifest = store.commit(staging, rebase)
    return (open_generation(store, manifest, previous) if manifest else None), count


def change_settings(
    store: Store, settings: Mapping[str, Any], encoder: Mapping[str, Any], previous: Snapshot
) -> Snapshot:
    """Commit other settings, or another way to load the encoder, where they differ.

    encoder: of the same space; a query prompt, say, may change.
    """
    with store.staging() as staging:

        def rebase(newest: Manifest | None) -> Manifest | None:
            check_there(store, newest, previous)
            if newest is None:
                return None
            # Another writer may have begun to replace the encoder.
            loading = encoder if newest.space == previous.manifest.space else newest.encoder
            changed = replace(newest, settings={**newest.settings, **settings}, encoder=loading)
            return None if changed == newest else changed

        manifest = store.commit(staging, rebase)
    return open_generation(store, manifest, previous) if manifest else previous


def replace_segments(
    store: Store, staging: Staging, snapshot: Snapshot, new: Sequence[tuple[set[str], SegmentEntry]]
) -> Snapshot:
    """Commit segments in place of others; refused where those are gone by now."""

    def rebase(newest: Manifest | None) -> Manifest | None:
        check_there(store, newest, snapshot)
        return with_replaced(store, staging, newest, list(new))

    manifest = store.commit(staging, rebase)
    if manifest is None:
        raise InputError(
            f"{store.path}: another writer has replaced the segments meanwhile; run it again"
        )
    return open_generation(store, manifest, snapshot)


def check_there(store: Store, newest: Manifest | None, previous: Snapshot | None) -> None:
    """Refuse to begin anew where a collection was removed while it was open.

    Raises:
        CollectionNotFoundError: it is gone.
    """
    if newest is None and previous is not None:
        raise CollectionNotFoundError(
            f"{store.path}: the collection was removed while it was open; build it again"
        )


def with_replaced(
    store: Store,
    staging: Staging,
    newest: Manifest | None,
    merged: list[tuple[set[str], SegmentEntry | None]],
) -> Manifest | None:
    """Return the manifest with segments in place of others; None where those are gone by now."""
    if newest is None:
        return None
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
    """Drop the marks of rows that no segment holds any more."""
    if not manifest.deletes:
        return manifest
    marked = np.unique(np.concatenate([open_rows(store.path / n) for n in manifest.deletes]))
    held = np.zeros(len(marked), bool)
    for entry in manifest.segments:
        if entry.role is Role.DOCUMENTS:
            rows = DocumentShard(staging.find(entry.data), staging.find(str(entry.ids))).rows
        else:
            rows = open_rows(staging.find(entry.data))
        relative = marked - entry.first_row
        held[np.searchsorted(relative, rows[find_rows(rows, relative)])] = True
    if held.all():
        return manifest
    deletes = (write_rows(staging, marked[held]),) if held.any() else ()
    return manifest.with_segments(manifest.segments, deletes, staging.files)


def with_deletes(store: Store, staging: Staging, manifest: Manifest, rows: Rows) -> tuple[str, ...]:
    """Return the files of deletes with some rows marked beside those that are."""
    if not len(rows):
        return manifest.deletes
    rows = np.unique(rows)
    if len(manifest.deletes) < MOST_DELETE_FILES:
        return (*manifest.deletes, write_rows(staging, rows))
    marked = [open_rows(store.path / name) for name in manifest.deletes]
    return (write_rows(staging, np.unique(np.concatenate([*marked, rows]))),)


def new_id() -> str:
    """Return an id for a segment."""
    return uuid.uuid4().hex[:16]
