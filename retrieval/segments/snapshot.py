"""One generation of a collection, opened: a search reads the same one from start to end.

All files are mapped when the snapshot is made, so no later write can change or remove what a
reader holds. Snapshots share in memory the segments that their generations share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...indexes.base import IndexFileError, Metric, count_allowed
from ..encoders.base import Space
from ..store.documents import DocumentShard, StoredRow, hash_id
from ..store.manifest import Manifest, Role, SegmentEntry
from ..store.shards import Bits, Rows, find_rows, merged_rows, open_marks, open_rows
from ..store.staging import check_file
from ..store.store import Store
from ..values.errors import DamagedError
from ..values.fusion import Fusion, default_fusion
from ..values.settings import Settings
from .dense import DenseSegment, allow
from .documents import DocumentSegment
from .means import ScoreStatistics, score_statistics

if TYPE_CHECKING:
    from ..bridges.crossing import Crossing
    from .lexical import LexicalSegment


class Snapshot:
    """The segments of one generation.

    deleted: i64[d], ascending: the deleted rows that are still stored.
    """

    def __init__(self, store: Store, manifest: Manifest, previous: Snapshot | None = None) -> None:
        self.manifest = manifest
        for name, written in manifest.files.items():
            problem = check_file(store.path / name, written, contents=False)
            if problem is not None:
                if not (store.path / name).exists():
                    raise FileNotFoundError(problem)
                raise DamagedError(
                    f"{problem}; see what else is with: retr index verify --index {store.path}"
                )
        self.spaces = {key: Space.from_json(v) for key, v in manifest.spaces.items()}
        self.space = self.spaces[manifest.space]
        # Segments are immutable and their ids unique, so one that is open is reused.
        documents = {s.entry.id: s for s in previous.documents} if previous else {}
        self.documents: list[DocumentSegment] = [
            documents.get(entry.id) or DocumentSegment(store.path, entry)
            for entry in manifest.of_role(Role.DOCUMENTS)
        ]
        dense = {s.entry.id: s for s in previous.dense} if previous else {}
        self.dense: list[DenseSegment] = []
        for entry in manifest.of_role(Role.DENSE):
            metric = Metric(self.spaces[str(entry.space)].metric)
            known = dense.get(entry.id)
            self.dense.append(
                known.as_in(entry) if known is not None else _open_dense(store.path, entry, metric)
            )
        self._marks = {
            entry.id: open_marks(store.path / entry.superseded, entry.rows)
            for entry in manifest.of_role(Role.DENSE)
            if entry.superseded is not None
        }
        self.crossings: dict[str, Crossing] = {}
        if manifest.bridges:
            from ..bridges.crossing import open_bridges

            crossings = {} if previous is None else previous.crossings
            self.crossings = open_bridges(store.path, manifest, crossings)
        words = {s.entry.id: s for s in (*previous.lexical, *previous.sparse)} if previous else {}
        self.lexical: list[LexicalSegment] = [
            words.get(entry.id) or _open_words(store.path, entry)
            for entry in manifest.of_role(Role.LEXICAL)
        ]
        self.sparse: list[LexicalSegment] = [
            words.get(entry.id) or _open_words(store.path, entry)
            for entry in manifest.of_role(Role.SPARSE)
        ]
        rows = [open_rows(store.path / name) for name in manifest.deletes]
        self.deleted: Rows = merged_rows(rows)
        self._first_rows = np.array([s.entry.first_row for s in self.documents], np.int64)

    @cached_property
    def settings(self) -> Settings:
        """The settings chosen when the collection was built, and changed since."""
        return Settings.of(self.manifest.settings)

    def dense_groups(self) -> list[list[DenseSegment]]:
        """Return the dense segments grouped by space and modality; merges stay within a group."""
        groups: dict[tuple[str | None, str | None], list[DenseSegment]] = {}
        for segment in self.dense:
            groups.setdefault((segment.entry.space, segment.entry.modality), []).append(segment)
        return list(groups.values())

    @property
    def modalities(self) -> frozenset[str]:
        """The modalities that the vectors were made from: texts, images, or both."""
        return frozenset(str(segment.entry.modality) for segment in self.dense)

    @cached_property
    def score_statistics(self) -> dict[tuple[str | None, str | None], ScoreStatistics]:
        """The score statistics of the vectors, by space and modality."""
        return {
            (group[0].entry.space, group[0].entry.modality): score_statistics(
                [(segment.matrix, segment.entry.mean) for segment in group]
            )
            for group in self.dense_groups()
        }

    @cached_property
    def findable(self) -> list[Bits | None]:
        """Which positions of each dense segment a search may find, packed; None means all.

        Deleted and marked rows are not findable.
        """
        return [self._findable(segment) for segment in self.dense]

    def _findable(self, segment: DenseSegment) -> Bits | None:
        marks = self._marks.get(segment.entry.id)
        dead = segment.positions(self.deleted)
        if marks is None and not len(dead):
            return None
        bits = allow(len(segment), never=dead)
        return bits if marks is None else bits & ~marks

    def is_searched(self, segments: Sequence[DenseSegment]) -> bool:
        """Return whether a search may find any row of these dense segments."""
        for segment, bits in zip(self.dense, self.findable, strict=True):
            if any(segment is each for each in segments) and (bits is None or bits.any()):
                return True
        return False

    def marked(self, segment: DenseSegment) -> NDArray[np.bool_]:
        """Return which rows of a dense segment are marked, bool[n]."""
        marks = self._marks.get(segment.entry.id)
        if marks is None:
            return np.zeros(len(segment), bool)
        return np.unpackbits(marks, count=len(segment), bitorder="little").view(np.bool_)

    def marked_at(self, segment: DenseSegment, positions: Rows) -> NDArray[np.bool_]:
        """Return which of n positions of a dense segment are marked, bool[n]."""
        marks = self._marks.get(segment.entry.id)
        if marks is None:
            return np.zeros(len(positions), bool)
        at: NDArray[np.bool_] = (marks[positions >> 3] >> (positions & 7) & 1).astype(bool)
        return at

    def droppable(self, segment: DocumentSegment | DenseSegment | LexicalSegment) -> Rows:
        """Return the positions that a merge drops: those of deleted rows.

        Marked rows are dropped too, unless an upgrade is under way that could be rolled back.
        """
        dead = segment.positions(self.deleted)
        if segment.entry.superseded is None or self.manifest.upgrade is not None:
            return dead
        assert isinstance(segment, DenseSegment)
        return merged_rows([dead, np.flatnonzero(self.marked(segment))])

    @cached_property
    def fusion(self) -> Fusion:
        """How the rankings by vectors and by words are fused.

        While the encoder is being replaced, the weight moves from the old encoder's to the new
        one's as vectors are replaced, unless it was fitted on judged queries meanwhile.
        """
        upgrade, fitted = self.manifest.upgrade, self.settings.fusion
        own = fitted or default_fusion(self.space.family)
        if upgrade is None or fitted is not None:
            return own
        if upgrade.fusion is not None:
            old = Fusion(**upgrade.fusion)
        else:
            old = default_fusion(self.spaces[upgrade.source].family)
        return own.blended(old, self.query_space_share)

    @cached_property
    def query_space_share(self) -> float:
        """The share of the findable vectors that are of the space of the queries, 0 to 1."""
        own = total = 0
        for segment, bits in zip(self.dense, self.findable, strict=True):
            found = len(segment) if bits is None else count_allowed(bits, len(segment))
            total += found
            own += found if segment.entry.space == self.manifest.space else 0
        return own / total if total else 1.0

    @cached_property
    def dead_words(self) -> dict[str, Rows]:
        """The positions of deleted rows in each lexical and sparse segment, by segment id."""
        return {s.entry.id: s.positions(self.deleted) for s in (*self.lexical, *self.sparse)}

    @property
    def has_passages(self) -> bool:
        """Whether a document may have several rows."""
        return any(s.entry.passages for s in self.documents)

    def __len__(self) -> int:
        """Return the number of rows that can be found."""
        return sum(s.entry.rows - len(s.positions(self.deleted)) for s in self.documents)

    def count_documents(self) -> int:
        """Return the number of documents that can be found."""
        total = 0
        for segment in self.documents:
            first = segment.shard.first_parts().copy()
            first[segment.positions(self.deleted)] = False
            total += int(first.sum())
        return total

    def read(self, rows: Rows) -> list[StoredRow]:
        """Return what is stored for each row, in the order given."""
        return self._gather(rows, lambda shard, positions: shard.read(positions))

    def ids(self, rows: Rows) -> list[str]:
        """Return the document id of each row."""
        return self._gather(rows, lambda shard, positions: shard.column("id", positions))

    def digests(self, rows: Rows) -> list[bytes]:
        """Return the digest of each row's document."""
        return self._gather(rows, lambda shard, positions: shard.column("digest", positions))

    def _gather(self, rows: Rows, read: Callable[[DocumentShard, Rows], list[Any]]) -> list[Any]:
        # Document segments hold disjoint ranges of rows, in ascending order.
        which = np.searchsorted(self._first_rows, rows, side="right") - 1
        found: list[Any] = [None] * len(rows)
        for number in sorted(set(which.tolist())):
            at = np.flatnonzero(which == number)
            if number < 0:
                raise _no_document(int(rows[at[0]]))
            segment = self.documents[number]
            relative = rows[at] - segment.entry.first_row
            there = segment.shard.rows
            positions = np.minimum(np.searchsorted(there, relative), len(there) - 1)
            lost = there[positions] != relative
            if lost.any():
                raise _no_document(int(rows[at[lost][0]]))
            for i, value in zip(at, read(segment.shard, positions), strict=True):
                found[i] = value
        return found

    def rows_of(self, ids: Sequence[str]) -> list[Rows]:
        """Return the rows of each id that are not deleted, ascending; empty if there are none."""
        hashes = np.fromiter((hash_id(id) for id in ids), np.uint64, len(ids))
        found: list[list[Rows]] = [[] for _ in ids]
        for segment in self.documents:
            for i, positions in enumerate(segment.shard.positions_of(hashes, ids)):
                if len(positions):
                    found[i].append(segment.rows_at(positions))
        none = np.empty(0, np.int64)
        return [self._alive(np.concatenate(rows)) if rows else none for rows in found]

    def holds(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which of these rows (ascending) are stored and not deleted, bool[len(rows)]."""
        held = np.zeros(len(rows), bool)
        for segment in self.documents:
            there = segment.rows_at(segment.positions(rows))
            held[np.searchsorted(rows, there)] = True
        held[find_rows(rows, self.deleted)] = False
        return held

    def rows_from(self, source: str) -> Rows:
        """Return the rows of a source that are not deleted, ascending."""
        rows = [s.rows_at(s.shard.positions_from(source)) for s in self.documents]
        return self._alive(np.concatenate(rows)) if rows else np.empty(0, np.int64)

    def _alive(self, rows: Rows) -> Rows:
        """Return which of these rows are not deleted; fast for a few rows and many deletes."""
        if not len(self.deleted):
            return rows
        at = np.minimum(np.searchsorted(self.deleted, rows), len(self.deleted) - 1)
        alive: Rows = rows[self.deleted[at] != rows]
        return alive


def _open_dense(folder: Path, entry: SegmentEntry, metric: Metric) -> DenseSegment:
    try:
        return DenseSegment(folder, entry, metric)
    except IndexFileError as error:
        if entry.index is not None and not (folder / entry.index.file).exists():
            raise FileNotFoundError(str(error)) from error
        raise DamagedError(
            f"{error}; see what else is with: retr index verify --index {folder}"
        ) from error


def _no_document(row: int) -> DamagedError:
    return DamagedError(
        f"row {row} has a vector but no document: a file of the collection is damaged; "
        "see which with: retr index verify"
    )


def _open_words(path: Path, entry: SegmentEntry) -> LexicalSegment:
    from .lexical import LexicalSegment

    return LexicalSegment(path, entry)


def open_generation(store: Store, manifest: Manifest, previous: Snapshot | None) -> Snapshot:
    """Open a generation, or a newer one if its files have been removed since.

    Raises:
        DamagedError: a file is missing, or differs from what was written.
    """
    while True:
        try:
            return Snapshot(store, manifest, previous)
        except FileNotFoundError as error:
            newest, _ = store.read()
            if newest.generation == manifest.generation:
                raise DamagedError(
                    f"{error}; see what else is with: retr index verify --index {store.path}"
                ) from error
            manifest = newest


def open_newest(store: Store, previous: Snapshot | None) -> tuple[Snapshot, tuple[int, ...]]:
    """Open the newest undamaged generation; return it and the numbers of newer, damaged ones.

    Raises:
        CollectionNotFoundError: the folder holds no collection.
        DamagedError: no generation can be read.
    """
    manifest, damaged = store.read()
    return open_generation(store, manifest, previous), damaged
