"""Lexical segments without a collection around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from retr.retrieval.segments.lexical import LexicalSegment
from retr.retrieval.store.disk import Disk
from retr.retrieval.store.manifest import Role, SegmentEntry
from retr.retrieval.store.postings import block_of, write_postings
from retr.retrieval.store.staging import Staging
from retr.retrieval.store.store import Store
from retr.retrieval.values.settings import TermSettings
from retr.retrieval.writing.terms import StagedTerms, merge_terms, stage_terms

PLAIN = TermSettings("none:1")


class QuickDisk(Disk):
    """Waits for nothing: there will be no power cut in a test."""

    def sync(self, file: IO[bytes]) -> None:
        file.flush()

    def sync_folder(self, path: Path) -> None:
        pass


class Segments:
    """Makes segments; their files are gone from the folder and stay mapped."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder, QuickDisk())
        self._number = 0

    def of_texts(
        self,
        texts: Sequence[str | None],
        first: int = 0,
        rows: NDArray[np.int64] | None = None,
        settings: TermSettings = PLAIN,
    ) -> LexicalSegment | None:
        """Return the segment of texts, None where none is a text.

        rows: relative to `first`; they follow each other by default.
        """
        with self.store.staging() as staging:
            relative = np.arange(len(texts)) if rows is None else rows
            staged = stage_terms(staging, relative, texts, settings)
            return None if staged is None else self._open(staging, staged, first)

    def of_lists(
        self,
        lists: Mapping[str, tuple[NDArray[np.uint32], NDArray[Any]]],
        lengths: NDArray[np.uint32],
        kind: str = "uint16",
    ) -> LexicalSegment:
        """Return the segment of lists of positions and values, by term."""
        terms = list(lists)
        sizes = [len(positions) for positions, _ in lists.values()]
        block = block_of(
            terms,
            np.repeat(np.arange(len(terms)), sizes),
            np.concatenate([positions for positions, _ in lists.values()]).astype(np.uint32),
            np.concatenate([values for _, values in lists.values()]).astype(kind),
        )
        rows = np.arange(len(lengths))
        with self.store.staging() as staging:
            data, postings = write_postings(staging, rows, lengths, [block], kind, {})
            staged = StagedTerms(Role.LEXICAL, data, postings, len(rows), 0, len(rows) - 1)
            return self._open(staging, staged, 0)

    def merged(
        self, group: Sequence[LexicalSegment], deleted: Sequence[int] = ()
    ) -> LexicalSegment | None:
        """Return several segments as one, without the deleted rows; None where none is left."""
        with self.store.staging() as staging:
            dead = np.array(sorted(deleted), np.int64)
            found = merge_terms(staging, group, dead, PLAIN.to_json())
            return None if found is None else self._open(staging, *found)

    def _open(self, staging: Staging, staged: StagedTerms, first: int) -> LexicalSegment:
        self._number += 1
        entry = staged.entry(str(self._number), first)
        return LexicalSegment(staging.folder, _beside(entry))


def _beside(entry: SegmentEntry) -> SegmentEntry:
    """Return the segment with its files in one folder."""
    assert entry.postings is not None
    return replace(entry, data=Path(entry.data).name, postings=Path(entry.postings).name)
