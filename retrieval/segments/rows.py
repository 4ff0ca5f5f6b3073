"""The rows of a segment, which every kind of segment has."""

from __future__ import annotations

from typing import Protocol

from ..store.manifest import SegmentEntry
from ..store.shards import Rows, find_rows


class HasRows(Protocol):
    """A file of a segment that stores its rows relative to the first, i64[n], ascending."""

    @property
    def rows(self) -> Rows:
        """The relative rows, memory-mapped."""
        ...


class RowRange:
    """The rows of a segment: their numbers in the collection, and their positions in the segment.

    entry: the segment in the manifest.
    shard: the file with its rows.
    """

    def __init__(self, entry: SegmentEntry, shard: HasRows) -> None:
        self.entry = entry
        self._relative = shard.rows

    def __len__(self) -> int:
        return len(self._relative)

    @property
    def rows(self) -> Rows:
        """The row at each position, i64[n], ascending; computed on every call."""
        return self._relative + self.entry.first_row

    def rows_at(self, positions: Rows) -> Rows:
        """Return the rows at these positions."""
        return self._relative[positions] + self.entry.first_row

    def positions(self, rows: Rows) -> Rows:
        """Return the positions of those of `rows` (ascending) that are in this segment."""
        return find_rows(self._relative, rows - self.entry.first_row)
