"""Which rows a segment holds: what every kind of segment has in common."""

from __future__ import annotations

from typing import Protocol

from ..store.manifest import SegmentEntry
from ..store.shards import Rows, find_rows


class HasRows(Protocol):
    """A file of a segment: its rows lie in it relative to the first, i64[n], ascending."""

    @property
    def rows(self) -> Rows:
        """The relative rows, mapped as they lie on the disk."""
        ...


class RowRange:
    """The rows of a segment: their numbers, and their positions in it.

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
        """The row at each position, i64[n], ascending; computed at each call."""
        return self._relative + self.entry.first_row

    def rows_at(self, positions: Rows) -> Rows:
        """Return the rows at some positions."""
        return self._relative[positions] + self.entry.first_row

    def positions(self, rows: Rows) -> Rows:
        """Return the positions of those of `rows` (ascending) that are in this segment."""
        return find_rows(self._relative, rows - self.entry.first_row)
