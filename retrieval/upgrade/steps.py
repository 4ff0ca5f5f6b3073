"""The steps of an upgrade after its start: map the old vectors, finish, roll back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bridges.codec import read_forward
from ..bridges.forward import Forward
from ..encoders.base import TEXT, Encoder, EncoderOptions, Space
from ..segments.dense import DenseSegment
from ..segments.opening import check_space
from ..segments.snapshot import Snapshot
from ..store.manifest import BridgeEntry, Manifest, Maps, UpgradeEntry
from ..store.shards import Rows, merged_rows
from ..store.store import Store
from ..values.errors import InputError, RetrError
from ..values.progress import Progress, Silent
from ..writing.indexing import settle
from . import changes
from .changes import Vectors
from .rows import awaiting, blocks, found_in

MAPPED_ROWS = 1 << 20
"""How many rows one commit maps; a run that is killed loses at most these."""


def under_way(manifest: Manifest, path: object) -> UpgradeEntry:
    """Return the upgrade that is under way.

    Raises:
        InputError: no upgrade is under way.
    """
    if manifest.upgrade is None:
        raise InputError(
            f"{path}: no upgrade is under way; start one with: "
            f"retr upgrade start --to ENCODER --index {path}"
        )
    return manifest.upgrade


def map_all(store: Store, snapshot: Snapshot, progress: Progress) -> tuple[Snapshot, int]:
    """Map the old vectors of rows that await new ones; return the snapshot and how many.

    It can be resumed: each block of rows is a commit.

    Raises:
        InputError: no upgrade is under way, or it is being rolled back.
    """
    upgrade = under_way(snapshot.manifest, store.path)
    if upgrade.back:
        raise InputError(
            f"{store.path}: the upgrade is being rolled back, and there is no map of the new "
            f"vectors; embed those rows: retr upgrade backfill --index {store.path}"
        )
    (entry,) = [b for b in snapshot.manifest.bridges if b.maps is Maps.DOCUMENTS]
    forward = read_forward(store.path / entry.file)
    space = _mapped_space(snapshot, entry, forward, store.path)
    modality = str(entry.measured.get("modality", TEXT))
    waiting = found_in(snapshot, upgrade.source, modality)
    done = 0
    for rows in blocks(waiting, MAPPED_ROWS):
        segments = [s for s in snapshot.dense if s.entry.space == upgrade.source]
        segments = [s for s in segments if s.entry.modality == modality]

        def parts(
            rows: Rows = rows, segments: list[DenseSegment] = segments, before: int = done
        ) -> Iterator[NDArray[Any]]:
            shown = before
            for block in blocks(rows):
                yield forward.apply(_old_vectors(segments, block))
                shown += len(block)
                progress.update("mapping", shown, shown, len(waiting))

        vectors = Vectors(rows, modality, parts)
        snapshot = changes.add_mapped(store, snapshot, entry, space, vectors)
        done += len(rows)
    return settle(store, snapshot, progress), done


def _old_vectors(segments: list[DenseSegment], rows: Rows) -> NDArray[np.float32]:
    """Return the vectors of rows, f32[len(rows), dim]; each row has one in some segment."""
    out = np.empty((len(rows), segments[0].matrix.shape[1]), np.float32)
    for segment in segments:
        positions = segment.positions(rows)
        if len(positions):
            out[np.searchsorted(rows, segment.rows_at(positions))] = segment.matrix[positions]
    return out


def _mapped_space(snapshot: Snapshot, entry: BridgeEntry, forward: Forward, path: Path) -> Space:
    """Return the space of a map's vectors, which the map's file identifies."""
    if entry.made is not None and entry.made in snapshot.spaces:
        return snapshot.spaces[entry.made]
    digest = hashlib.sha256((path / entry.file).read_bytes()).hexdigest()[:16]
    old, new = snapshot.spaces[entry.source], snapshot.spaces[entry.target]
    return Space(
        encoder=f"{new.encoder}, mapped from {old.encoder}",
        family="mapped",
        revision=digest,
        dim=forward.documents.target_dim,
        normalised=forward.metric == "cosine",
        metric=forward.metric,
    )


def finish(
    store: Store, snapshot: Snapshot, *, keep_mapped: bool = False, drop_rest: bool = False
) -> Snapshot:
    """Commit the end of an upgrade, which drops the old vectors.

    keep_mapped: finish even if some rows have mapped vectors only.
    drop_rest:   finish even if some rows have no other vector; only their words find them then.

    Raises:
        InputError: no upgrade is under way, or rows still await new vectors.
    """

    def check(newest: Snapshot) -> None:
        upgrade = under_way(newest.manifest, store.path)
        left = merged_rows(awaiting(newest).values())
        if not len(left):
            return
        old = found_in(newest, upgrade.source)
        mapped = len(left) - len(old)
        if (keep_mapped and not len(old)) or drop_rest:
            return
        if keep_mapped:
            raise InputError(
                f"{store.path}: {len(old):,} rows have neither a new vector nor a mapped one; "
                f"map them first: retr upgrade map --index {store.path}"
            )
        also = f" ({mapped:,} of them have a mapped one; --keep-mapped keeps it)" if mapped else ""
        raise InputError(
            f"{store.path}: {len(left):,} rows have no vector of {newest.space.encoder} yet{also}; "
            f"continue with: retr upgrade backfill --index {store.path}"
        )

    check(snapshot)
    return settle(store, changes.finish(store, snapshot, check), Silent())


def roll_back(store: Store, snapshot: Snapshot) -> Snapshot:
    """Commit the rollback to the old encoder.

    Raises:
        InputError: no upgrade is under way, or it is being rolled back already.
    """

    def check(newest: Manifest) -> None:
        to_roll_back(newest, store.path)

    return changes.roll_back(store, snapshot, check)


def to_roll_back(manifest: Manifest, path: object) -> UpgradeEntry:
    """Return the upgrade that can be rolled back.

    Raises:
        InputError: none is under way, or it is being rolled back already.
    """
    upgrade = under_way(manifest, path)
    if upgrade.back:
        raise InputError(
            f"{path}: the upgrade is being rolled back already; embed the rows that have only "
            f"new vectors with: retr upgrade backfill --index {path}"
        )
    return upgrade


def old_encoder(
    snapshot: Snapshot,
    given: str | Encoder | None,
    known: Mapping[Space, Encoder],
    path: object,
) -> Encoder:
    """Load the old encoder of an upgrade, which queries need after a rollback.

    given: the encoder to use instead of the stored name; None uses the stored name.
    known: encoders that are loaded already, by space.

    Raises:
        InputError: no upgrade is under way, or the encoder cannot be loaded.
        SpaceMismatchError: the encoder given is of another space.
    """
    upgrade = to_roll_back(snapshot.manifest, path)
    space = snapshot.spaces[upgrade.source]
    if given is None and space in known:
        return known[space]
    try:
        return load_old_encoder(snapshot, upgrade, path, given)
    except InputError as error:
        raise InputError(
            f"{error}, and texts cannot be searched without it; in Python, pass it with "
            "rollback_upgrade(encoder=…)"
        ) from error


def load_old_encoder(
    snapshot: Snapshot, upgrade: UpgradeEntry, path: object, given: str | Encoder | None = None
) -> Encoder:
    """Load the old encoder of an upgrade.

    Raises:
        InputError: it cannot be loaded.
        SpaceMismatchError: the encoder given, or what the stored name loads today, is of another
            space.
    """
    from ..encoders import resolve

    name = str(upgrade.encoder["name"])
    try:
        options = EncoderOptions(**upgrade.encoder.get("options", {}))
        encoder = resolve(name, options) if given is None else resolve(given)
    except (RetrError, OSError) as error:
        raise InputError(f"{path}: the old encoder {name} cannot be loaded ({error})") from error
    check_space(snapshot.spaces[upgrade.source], encoder.space, path)
    return encoder
