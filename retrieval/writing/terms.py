"""Writes the files of lexical and sparse segments, for new rows and for merges."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from ..encoders.base import Space
from ..segments.lexical import LexicalSegment
from ..store.manifest import Role, SegmentEntry
from ..store.postings import Counts, block_of, count_terms, merged_blocks, write_postings
from ..store.shards import Rows
from ..store.staging import Staging
from ..text.analysis import Vocabulary, analyzer
from ..values.settings import TermSettings

log = logging.getLogger("retr.terms")

_CHUNK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class StagedTerms:
    """A segment of postings staged for a commit.

    rows:   how many rows it holds.
    first, last: its first and last row numbers, as stored in its file.
    """

    role: Role
    data: str
    postings: str
    rows: int
    first: int
    last: int
    space: str | None = None

    def entry(self, id: str, first_row: int) -> SegmentEntry:
        """Return the segment's manifest entry, with rows counted from `first_row`."""
        return SegmentEntry(
            id,
            self.role,
            self.rows,
            first_row,
            first_row + self.last,
            self.data,
            postings=self.postings,
            space=self.space,
        )


def stage_terms(
    staging: Staging, rows: Rows, texts: Sequence[str | None], settings: TermSettings
) -> StagedTerms | None:
    """Stage the postings of texts; return None if all texts are None.

    rows: i64[len(texts)], ascending, relative.
    """
    there = [i for i, text in enumerate(texts) if text is not None]
    if not there:
        return None
    vocabulary = Vocabulary(analyzer(settings.analyzer))
    parts: list[tuple[Any, Any, Counts]] = []
    lengths = np.empty(len(there), np.uint32)
    for start in range(0, len(there), _CHUNK_ROWS):
        chunk = there[start : start + _CHUNK_ROWS]
        ids, own = vocabulary.add([texts[i] or "" for i in chunk])
        lengths[start : start + len(chunk)] = own
        parts.append(count_terms(ids, own, start))
    terms, positions, counts = (np.concatenate(each) for each in zip(*parts, strict=True))
    kept = rows[there]
    data, postings = write_postings(
        staging,
        kept,
        lengths,
        [block_of(vocabulary.terms, terms, positions, counts)],
        "uint16",
        settings.to_json(),
    )
    return StagedTerms(Role.LEXICAL, data, postings, len(kept), int(kept[0]), int(kept[-1]))


def stage_weights(
    staging: Staging, rows: Rows, weights: Sequence[Mapping[str, float]], space: Space
) -> StagedTerms:
    """Stage the postings of a sparse encoder's weights.

    rows: i64[len(weights)], ascending, relative; a row without weights is kept, too.
    """
    lengths = np.array([len(own) for own in weights], np.uint32)
    total = int(lengths.sum())
    words = list(set().union(*weights))
    numbers = {word: number for number, word in enumerate(words)}
    every = chain.from_iterable(weights)
    terms = np.fromiter(map(numbers.__getitem__, every), np.int64, total)
    values = np.fromiter(chain.from_iterable(own.values() for own in weights), np.float32, total)
    positions = np.repeat(np.arange(len(rows), dtype=np.uint32), lengths)
    data, postings = write_postings(
        staging,
        rows,
        lengths,
        [block_of(words, terms, positions, values)],
        "float32",
        space.to_json(),
    )
    return StagedTerms(Role.SPARSE, data, postings, len(rows), int(rows[0]), int(rows[-1]))


def merge_terms(
    staging: Staging, group: Sequence[LexicalSegment], deleted: Rows, described: Mapping[str, Any]
) -> tuple[StagedTerms, int] | None:
    """Stage one segment with the rows of several that are not deleted.

    described: what made the terms, stored in the file.

    Returns the segment and the row that its rows are counted from; None if no row is left.
    """
    kept = [np.setdiff1d(np.arange(len(s)), s.positions(deleted)) for s in group]
    rows = np.concatenate([s.rows[keep] for s, keep in zip(group, kept, strict=True)])
    if not len(rows):
        return None
    order = np.argsort(rows, kind="stable")
    place = np.empty(len(rows), np.int64)
    place[order] = np.arange(len(rows))
    lengths = [s.shard.lengths[keep] for s, keep in zip(group, kept, strict=True)]
    parts, done = [], 0
    for segment, keep in zip(group, kept, strict=True):
        new = np.full(len(segment), -1, np.int64)
        new[keep] = place[done : done + len(keep)]
        done += len(keep)
        parts.append((segment.shard, new))
    first = int(rows[order[0]])
    relative = rows[order] - first
    data, postings = write_postings(
        staging,
        relative,
        np.concatenate(lengths)[order],
        merged_blocks(parts),
        group[0].shard.kind,
        described,
    )
    entry = group[0].entry
    staged = StagedTerms(
        entry.role, data, postings, len(rows), 0, int(relative[-1]), space=entry.space
    )
    return staged, first
