"""Merging: segments of a role become one, which keeps them few and drops deleted rows.

Merges are size-tiered, as in Lucene. Each is a commit of its own, prepared without the lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..segments.dense import DenseSegment
from ..segments.documents import DocumentSegment
from ..segments.lexical import LexicalSegment
from ..segments.means import RunningMean
from ..segments.snapshot import Snapshot, open_newest
from ..store.documents import merge_documents
from ..store.manifest import Role, SegmentEntry
from ..store.shards import Matrix, Rows, write_vectors_in_parts
from ..store.staging import Staging, check_file
from ..store.store import Store
from ..values.errors import DamagedError
from .commits import commit_on, new_id, with_replaced
from .terms import merge_terms

Group = Sequence[DocumentSegment] | Sequence[DenseSegment] | Sequence[LexicalSegment]
MERGE_FACTOR = 8
SMALLEST_TIER = 1024
DEAD_SHARE = 0.25
BLOCK_ROWS = 16_384


def merge_small(store: Store, snapshot: Snapshot) -> Snapshot:
    """Merge until no tier has too many segments: their number grows with the log of the rows."""
    while True:
        group = _next_merge(snapshot)
        if group is None:
            return snapshot
        snapshot = merge(store, snapshot, [group])


def merge_all(store: Store, snapshot: Snapshot) -> Snapshot:
    """Merge all segments of each role and kind into one, without the deleted rows."""
    groups = _groups(snapshot)
    return merge(store, snapshot, [g for g in groups if len(g) > 1 or _dead(snapshot, g)])


def merge(
    store: Store,
    snapshot: Snapshot,
    groups: Sequence[Group],
) -> Snapshot:
    """Replace each group of segments with one, without the deleted rows."""
    if not groups:
        return snapshot
    with store.staging() as staging:
        merged: list[tuple[set[str], SegmentEntry | None]] = []
        for group in groups:
            old = {segment.entry.id for segment in group}
            merged.append((old, merge_group(staging, snapshot, group)))
        changed = commit_on(
            store, staging, snapshot, lambda newest: with_replaced(store, staging, newest, merged)
        )
    if changed is None:  # another writer has merged the same segments
        changed, _ = open_newest(store, snapshot)
    return changed


def merge_group(
    staging: Staging,
    snapshot: Snapshot,
    group: Group,
) -> SegmentEntry | None:
    """Stage one segment with the live rows of several; None if there are none.

    Raises:
        DamagedError: a file differs from what was written. Merging would copy the damage and give
            it a valid checksum, so that it would never be found.
    """
    for segment in group:
        for name in segment.entry.files:
            path = staging.collection / name
            problem = check_file(path, snapshot.manifest.files[name], contents=True)
            # A removed file is still mapped; the commit will find that its segment was replaced.
            if problem is not None and path.exists():
                raise DamagedError(
                    f"{problem}; see what else is with: "
                    f"retr index verify --index {staging.collection}"
                )
    first = group[0]
    if isinstance(first, DocumentSegment):
        return _merge_documents(
            staging, snapshot, [s for s in group if isinstance(s, DocumentSegment)]
        )
    if isinstance(first, LexicalSegment):
        return _merge_lexical(
            staging, snapshot, [s for s in group if isinstance(s, LexicalSegment)]
        )
    return _merge_dense(staging, snapshot, [s for s in group if isinstance(s, DenseSegment)])


def _merge_documents(
    staging: Staging, snapshot: Snapshot, group: list[DocumentSegment]
) -> SegmentEntry | None:
    group = sorted(group, key=lambda s: s.entry.first_row)
    first = group[0].entry.first_row
    parts = [(s.shard, s.entry.first_row, snapshot.droppable(s)) for s in group]
    if all(len(dropped) == len(shard) for shard, _, dropped in parts):
        return None
    data, ids, rows = merge_documents(staging, parts, first)
    passages = any(s.entry.passages for s in group)
    return SegmentEntry(
        new_id(),
        Role.DOCUMENTS,
        len(rows),
        first,
        first + int(rows[-1]),
        data,
        ids=ids,
        passages=passages,
    )


def _merge_dense(
    staging: Staging, snapshot: Snapshot, group: list[DenseSegment]
) -> SegmentEntry | None:
    group = sorted(group, key=lambda s: s.entry.first_row)
    kept = [np.setdiff1d(np.arange(len(s)), snapshot.droppable(s)) for s in group]
    rows = np.concatenate([s.rows[keep] for s, keep in zip(group, kept, strict=True)])
    if not len(rows):
        return None
    entry = group[0].entry
    space = snapshot.manifest.spaces[str(entry.space)]
    order = np.argsort(rows, kind="stable")
    first = int(rows[order[0]])
    mean = RunningMean(int(space["dim"]))
    data = write_vectors_in_parts(
        staging,
        rows[order] - first,
        mean.over(_gather(group, kept, order)),
        int(space["dim"]),
        space,
        snapshot.settings.dtype,
    )
    return SegmentEntry(
        new_id(),
        Role.DENSE,
        len(rows),
        first,
        int(rows[order[-1]]),
        data,
        space=entry.space,
        modality=entry.modality,
        mean=mean.encoded() if any(s.entry.mean for s in group) else None,
    )


def _gather(group: Sequence[DenseSegment], kept: Sequence[Rows], order: Rows) -> Iterator[Matrix]:
    """Yield the vectors at the kept positions of several segments, in the order of their rows."""
    bounds = np.cumsum([0, *(len(keep) for keep in kept)])
    for start in range(0, len(order), BLOCK_ROWS):
        part = order[start : start + BLOCK_ROWS]
        which = np.searchsorted(bounds, part, side="right") - 1
        block = np.empty((len(part), group[0].matrix.shape[1]), np.float32)
        for number in np.unique(which):
            at = np.flatnonzero(which == number)
            positions = kept[number][part[at] - bounds[number]]
            block[at] = group[number].matrix[positions]
        yield block


def _merge_lexical(
    staging: Staging, snapshot: Snapshot, group: list[LexicalSegment]
) -> SegmentEntry | None:
    entry = group[0].entry
    if entry.space is None:
        assert snapshot.settings.terms is not None  # or there would be no such segments
        described: Mapping[str, Any] = snapshot.settings.terms.to_json()
    else:
        described = snapshot.manifest.spaces[entry.space]
    merged = merge_terms(staging, group, snapshot.deleted, described)
    if merged is None:
        return None
    staged, first = merged
    return staged.entry(new_id(), first)


def _groups(snapshot: Snapshot) -> list[Group]:
    """Return the groups of segments that may be merged with each other, in row order.

    Dense segments of one space and modality form a group, those with an index excepted.
    """
    dense = [
        [segment for segment in group if segment.entry.index is None]
        for group in snapshot.dense_groups()
    ]
    words: dict[str | None, list[LexicalSegment]] = {}
    for postings in (*snapshot.lexical, *snapshot.sparse):
        words.setdefault(postings.entry.space, []).append(postings)
    return [snapshot.documents, *filter(None, dense), *words.values()]


def _dead(snapshot: Snapshot, group: Group) -> int:
    return sum(len(snapshot.droppable(segment)) for segment in group)


def _next_merge(
    snapshot: Snapshot,
) -> Group | None:
    """Return adjacent segments that are due to be merged, None if there are none."""
    for group in _groups(snapshot):
        dead = [len(snapshot.droppable(segment)) for segment in group]
        due = due_for_merge([segment.entry.rows for segment in group], dead)
        if due is not None:
            return group[due]
    return None


def due_for_merge(rows: Sequence[int], dead: Sequence[int]) -> slice | None:
    """Return which segments of a group should become one; None if none should.

    rows, dead: how many rows each segment holds, and how many of them are deleted, in row order.

    The policy is size-tiered, like Lucene's LogMergePolicy: tiers are powers of `MERGE_FACTOR`, and
    `MERGE_FACTOR` segments of one tier become one of the next. A segment followed by a larger one
    can no longer grow that way, so adjacent ones of these are merged, too. This leaves at most
    2 * (MERGE_FACTOR - 1) segments per tier, whatever is added in whatever order, and writes a row
    at most twice per tier. A segment with many deleted rows is due on its own.
    """
    for i, (n, d) in enumerate(zip(rows, dead, strict=True)):
        if d > DEAD_SHARE * n:
            return slice(i, i + 1)
    tiers = [_tier(n - d) for n, d in zip(rows, dead, strict=True)]
    for tier in sorted(set(tiers)):
        members: list[int] = []
        for i, own in enumerate(tiers):
            if own > tier:
                members = []
            elif own == tier:
                members.append(i)
            if len(members) == MERGE_FACTOR:
                return slice(members[0], members[-1] + 1)
    larger = [max(tiers[i + 1 :], default=-1) > own for i, own in enumerate(tiers)]
    for i in range(len(tiers) - 1):
        if larger[i] and larger[i + 1]:
            end = next(j for j in range(i, len(tiers)) if not larger[j])
            return slice(i, end)
    return None


def _tier(rows: int) -> int:
    tier = 0
    while rows > SMALLEST_TIER * MERGE_FACTOR**tier:
        tier += 1
    return tier
