"""Superseded rows: those of a dense segment that have a vector in a space that counts for more.

While an encoder is being replaced, a row may have a vector in the old space, a mapped one and a
new one. All but one are marked in their segments and not found there; nothing of them is thrown
away until the upgrade is finished, so that it can be rolled back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..store.manifest import Manifest, Role, SegmentEntry
from ..store.shards import Rows, find_rows, merged_rows, open_marks, open_rows, write_marks
from ..store.staging import Staging


def marks(path: Path, rows: int) -> NDArray[np.bool_]:
    """Return which of a segment's rows are superseded, bool[rows], from the file that says so."""
    bits = open_marks(path, rows)
    return np.unpackbits(bits, count=rows, bitorder="little").view(np.bool_)


def rows_of(staging: Staging, entry: SegmentEntry) -> Rows:
    """Return all rows of a dense segment, staged or committed, ascending."""
    return open_rows(staging.find(entry.data)) + entry.first_row


def superseded_rows(staging: Staging, entry: SegmentEntry) -> Rows:
    """Return the rows of a segment that are superseded, ascending."""
    if entry.superseded is None:
        return np.empty(0, np.int64)
    found = marks(staging.find(entry.superseded), entry.rows)
    return rows_of(staging, entry)[found]


def visible_rows(staging: Staging, entries: Iterable[SegmentEntry]) -> Rows:
    """Return the rows of segments that are not superseded there, ascending, deleted ones too."""
    parts = []
    for entry in entries:
        rows = rows_of(staging, entry)
        if entry.superseded is not None:
            rows = rows[~marks(staging.find(entry.superseded), entry.rows)]
        parts.append(rows)
    return merged_rows(parts)


def superseded_by(staging: Staging, entry: SegmentEntry, rows: Rows) -> SegmentEntry:
    """Return a segment with those of some rows (ascending) marked that it has, beside its others.

    The marks that are there already stay; where none is new it stays as it is.
    """
    if not len(rows) or rows[0] > entry.last_row or rows[-1] < entry.first_row:
        return entry
    positions = find_rows(rows_of(staging, entry), rows)
    if not len(positions):
        return entry
    marked = np.zeros(entry.rows, bool)
    if entry.superseded is not None:
        marked = marks(staging.find(entry.superseded), entry.rows).copy()
        if marked[positions].all():
            return entry
    marked[positions] = True
    return replace(entry, superseded=write_marks(staging, marked))


def carried_over(
    staging: Staging, newest: Manifest, old: set[str], entry: SegmentEntry
) -> SegmentEntry:
    """Return a segment that takes the place of others, with their marks of now.

    old: the ids of those in `newest`.
    """
    if entry.role is not Role.DENSE:
        return entry
    entry = replace(entry, superseded=None)
    for each in newest.segments:
        if each.id in old and each.superseded is not None:
            if each.data == entry.data:
                return replace(entry, superseded=each.superseded)
            entry = superseded_by(staging, entry, superseded_rows(staging, each))
    return entry
