"""One segment of documents: the texts, ids and metadata of a range of rows."""

from __future__ import annotations

from pathlib import Path

from ..store.documents import DocumentShard
from ..store.manifest import SegmentEntry
from ..values.errors import DamagedError
from .rows import RowRange


class DocumentSegment(RowRange):
    """The documents of a range of rows."""

    def __init__(self, folder: Path, entry: SegmentEntry) -> None:
        if entry.ids is None:
            raise DamagedError(f"{folder}: the document segment {entry.id} lacks its file of ids")
        self.shard = DocumentShard(folder / entry.data, folder / entry.ids)
        super().__init__(entry, self.shard)
