"""Marks: which rows of a dense segment are hidden by a better vector in another segment.

While an encoder is being replaced, a row may have an old vector, a mapped one and a new one. Only
the best is searched; the row is marked in the segments of the others. Marked vectors stay on disk
until the upgrade is finished, so that it can be rolled back.
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
    """Return which of a segment's rows are marked, bool[rows], from the file of its marks."""
    bits = open_marks(path, rows)
    return np.unpackbits(bits, count=rows, bitorder="little").view(np.bool_)


def rows_of(staging: Staging, entry: SegmentEntry) -> Rows:
    """Return all rows of a dense segment, staged or committed, ascending."""
    return open_rows(staging.find(entry.data)) + entry.first_row


def marked_rows(staging: Staging, entry: SegmentEntry) -> Rows:
    """Return the marked rows of a segment, ascending."""
    if entry.superseded is None:
        return np.empty(0, np.int64)
    found = marks(staging.find(entry.superseded), entry.rows)
    return rows_of(staging, entry)[found]


def unmarked_rows(staging: Staging, entries: Iterable[SegmentEntry]) -> Rows:
    """Return the rows of segments that are not marked there, ascending, with deleted ones."""
    parts = []
    for entry in entries:
        rows = rows_of(staging, entry)
        if entry.superseded is not None:
            rows = rows[~marks(staging.find(entry.superseded), entry.rows)]
        parts.append(rows)
    return merged_rows(parts)


def with_marks(staging: Staging, entry: SegmentEntry, rows: Rows) -> SegmentEntry:
    """Return a segment in which those of `rows` (ascending) that it holds are marked, too.

    Marks it already has stay. Returns the entry itself if no mark is new.
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
    """Return a segment that replaces others, with the marks that those have now.

    old: the ids of the replaced segments in `newest`.
    """
    if entry.role is not Role.DENSE:
        return entry
    entry = replace(entry, superseded=None)
    for each in newest.segments:
        if each.id in old and each.superseded is not None:
            if each.data == entry.data:
                return replace(entry, superseded=each.superseded)
            entry = with_marks(staging, entry, marked_rows(staging, each))
    return entry
