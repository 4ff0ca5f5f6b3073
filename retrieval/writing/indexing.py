"""Indexing: one commit turns the dense segments of a space into one segment with an index.

Searches and other writers continue while it runs, and their changes are kept.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...indexes import kind
from ...indexes.arrays import ArraySource
from ...indexes.base import Floats, Metric, MissingFaissError
from ...indexes.checkpoint import FileCheckpoint
from ...indexes.spec import IndexSpec
from ...indexes.tuning.candidates import candidates
from ...indexes.tuning.curve import K
from ...indexes.tuning.tune import Tuned, measure, tune
from ..encoders.base import IMAGE, TEXT
from ..segments.dense import DenseSegment
from ..segments.documents import DocumentSegment
from ..segments.snapshot import Snapshot, open_newest
from ..store.manifest import IndexEntry, Manifest, Role, SegmentEntry, parse_segment
from ..store.shards import open_vectors
from ..store.staging import Staging, Unfinished
from ..store.store import Store
from ..values.progress import Progress
from ..values.settings import AUTO, Settings, TermSettings
from .commits import commit_on, new_id, replace_segments
from .merging import merge_group, merge_small
from .terms import StagedTerms, stage_terms

log = logging.getLogger("retr.indexing")

WORDS_ROWS = 65_536
MEASURED_AT = 0.95
"""The recall that an index is set to if a spec was given but no recall."""
FEWEST_TEXTS = 100
MOST_TEXTS = 1000
"""An index of images is measured with this many of the collection's texts; with fewer than
`FEWEST_TEXTS`, it is measured with images."""
LATE = 0.1
"""The share of rows that may be outside the index, or deleted from it, before it is rebuilt."""


def index_all(
    store: Store,
    snapshot: Snapshot,
    *,
    queries: Floats | None = None,
    late: float = 0.0,
    progress: Progress | None = None,
) -> Snapshot:
    """Give the vectors of every space one index; an index that fits the settings already stays.

    queries: f32[q, dim], queries like those that users will ask, to measure with; None makes some.
    late:    the share of rows that may be outside the index, or deleted from it, before it is
             rebuilt.

    If `auto` has to find every neighbour, or there are few vectors, an existing index is removed
    and every vector is compared.

    Raises:
        MissingFaissError: faiss is not installed.
        InputError: another writer replaced the same segments.
    """
    settings = snapshot.settings
    if settings.keeps_indexes:
        return snapshot
    for group in snapshot.dense_groups():
        if not snapshot.is_searched(group):
            continue
        if _scans(group, settings):
            snapshot = _without_indexes(store, snapshot, group)
        elif not _is_done(snapshot, group, settings, late):
            own = queries if group[0].entry.space == snapshot.manifest.space else None
            snapshot = _index(store, snapshot, group, settings, own, progress)
    return snapshot


def measure_all(
    store: Store,
    snapshot: Snapshot,
    recall: float | None,
    queries: Floats | None,
    *,
    space: str | None = None,
) -> Snapshot:
    """Measure the existing indexes again, and set them to a recall; None keeps their own.

    queries: f32[q, dim], in the space with the key `space`; indexes of other spaces are measured
             on queries made from their vectors.
    space:   the key of a space; None is the space of the collection's queries.
    """
    target = snapshot.settings.recall
    space = space or snapshot.manifest.space
    for segment in [s for s in snapshot.dense if s.index is not None]:
        stored = segment.entry.index
        if stored is None or segment.index is None or segment.index.exact:
            continue
        asked = recall or target or stored.measured.get("asked", MEASURED_AT)
        own = queries if segment.entry.space == space else None
        texts = texts_for_images(snapshot, segment.entry) if own is None else None
        given = own if texts is None else texts
        tuned = measure(segment.index, segment.source, given, asked)
        index = _entry(tuned, stored.file, texts is not None)
        entry = replace(segment.entry, id=new_id(), index=index)
        with store.staging() as staging:
            old = {segment.entry.id}
            snapshot = replace_segments(store, staging, snapshot, [(old, entry)])
    return snapshot


def _without_indexes(
    store: Store, snapshot: Snapshot, segments: Sequence[DenseSegment]
) -> Snapshot:
    """Remove the indexes of these segments, so that every vector is compared."""
    new = [
        ({segment.entry.id}, replace(segment.entry, id=new_id(), index=None))
        for segment in segments
        if segment.entry.index is not None
    ]
    if not new:
        return snapshot
    with store.staging() as staging:
        return replace_segments(store, staging, snapshot, new)


def _scans(group: Sequence[DenseSegment], settings: Settings) -> bool:
    """Return whether comparing every vector of a group is the fastest way."""
    if settings.spec != AUTO:
        return False
    rows, source = sum(len(segment) for segment in group), group[0].source
    found = candidates(rows, source.dim, source.metric, settings.recall or 1.0, settings.memory)
    return found[0] == IndexSpec("flat")


def index_words(store: Store, snapshot: Snapshot, terms: TermSettings) -> Snapshot:
    """Add the postings of every text to a collection that does not index words yet.

    This is one commit: either all texts have postings and the settings say so, or none has.
    """
    while snapshot.settings.terms is None:
        with store.staging() as staging:
            staged = [
                words.entry(new_id(), first)
                for segment in snapshot.documents
                for words, first in _words_of(staging, segment, terms)
            ]
            seen = snapshot.manifest.of_role(Role.DOCUMENTS)

            def change(
                newest: Manifest, staging: Staging = staging, staged: Any = staged, seen: Any = seen
            ) -> Manifest | None:
                settings = Settings.of(newest.settings)
                if settings.terms is not None or newest.of_role(Role.DOCUMENTS) != seen:
                    return None  # rows were added or compacted, or another writer was faster
                segments = (*newest.segments, *staged)
                changed = newest.with_segments(segments, newest.deletes, staging.files)
                return replace(changed, settings=replace(settings, terms=terms).to_json())

            changed = commit_on(store, staging, snapshot, change)
        if changed is not None:
            return merge_small(store, changed)
        snapshot, _ = open_newest(store, snapshot)
    return snapshot


def _words_of(
    staging: Staging, segment: DocumentSegment, terms: TermSettings
) -> Iterator[tuple[StagedTerms, int]]:
    rows = segment.rows
    for start in range(0, len(rows), WORDS_ROWS):
        positions = np.arange(start, min(start + WORDS_ROWS, len(rows)))
        texts = segment.shard.column("text", positions)
        first = int(rows[start])
        words = stage_terms(staging, rows[positions] - first, texts, terms)
        if words is not None:
            yield words, first


def _is_done(
    snapshot: Snapshot, group: Sequence[DenseSegment], settings: Settings, most_late: float
) -> bool:
    """Return whether all but a few rows have the index that the settings ask for."""
    done = late = 0
    for segment in group:
        dead = len(snapshot.droppable(segment))
        stored = segment.entry.index
        if (
            stored is not None
            and _is_asked_for(stored, settings)
            and dead <= most_late * len(segment)
        ):
            done += len(segment)
        else:
            late += len(segment)
    # Rows without an index are all compared, which costs little if there are few.
    return done > 0 and late <= most_late * done


def _is_asked_for(stored: IndexEntry, settings: Settings) -> bool:
    if settings.spec != AUTO:
        return stored.spec == settings.spec
    return bool(stored.measured) and stored.measured.get("asked") == settings.recall


def _index(
    store: Store,
    snapshot: Snapshot,
    group: Sequence[DenseSegment],
    settings: Settings,
    queries: Floats | None,
    progress: Progress | None,
) -> Snapshot:
    stored = snapshot.manifest.settings
    work = Unfinished(
        tuple(sorted(segment.entry.id for segment in group)),
        {name: stored.get(name) for name in ("spec", "recall", "memory")},
    )
    with store.staging(work) as staging:
        entry = _merged(staging, snapshot, group)
        old = {segment.entry.id for segment in group}
        if entry is None:  # every row of the group is deleted
            return snapshot
        data = staging.find(entry.data)
        metric = Metric(snapshot.spaces[str(entry.space)].metric)
        source = ArraySource(open_vectors(data).matrix, metric)
        log.info("building the index %s over %d vectors", settings.spec, len(source))
        texts = texts_for_images(snapshot, group[0].entry) if queries is None else None
        given = queries if texts is None else texts
        tuned = _tuned(source, settings, given, progress, staging.folder)
        if tuned.index is not None:  # None if comparing all the vectors is fastest
            _say(tuned)
            with staging.external_file("indexes", ".faiss") as (path, name):
                tuned.index.save(path)
            _say_size(staging.files[name].size, tuned.index.spec, settings.memory)
            entry = replace(entry, index=_entry(tuned, name, texts is not None))
        return replace_segments(store, staging, snapshot, [(old, entry)])


def _tuned(
    source: ArraySource,
    settings: Settings,
    queries: Floats | None,
    progress: Progress | None,
    folder: Path,
) -> Tuned:
    """Build and measure an index.

    folder: where the build saves its progress, to resume from after an interruption.
    """

    def shown(done: int, total: int) -> None:
        if progress is not None:
            progress.update("building the index", done, done, total)

    def kept(spec: IndexSpec) -> FileCheckpoint:
        name = hashlib.sha256(str(spec).encode()).hexdigest()[:32]
        return FileCheckpoint(folder / f"{name}.part")

    recall = settings.recall or (1.0 if settings.spec == AUTO else MEASURED_AT)
    spec = None if settings.spec == AUTO else IndexSpec.parse(settings.spec)
    if spec is not None and kind(spec.kind).exact and not spec.dims:
        built = kind(spec.kind).build(source, spec, progress=shown)
        return Tuned(built, (), 1.0, 0, False, 0.0, 0.0)
    memory = settings.memory if spec is None else None
    return tune(source, spec, queries, recall, memory=memory, progress=shown, checkpoint=kept)


def texts_for_images(snapshot: Snapshot, entry: SegmentEntry) -> Floats | None:
    """Return text vectors to measure an index of images with, f32[q, dim]; None if there are few.

    People search images by words, whose vectors lie apart from all images. There an index may miss
    many neighbours even if it finds nearly all for an image (Chen et al., "RoarGraph", 2024).
    Captions of the same space, spread over the collection, resemble the queries to come.
    """
    if entry.modality != IMAGE:
        return None
    found = [
        segment
        for segment in snapshot.dense
        if segment.entry.modality == TEXT and segment.entry.space == entry.space
    ]
    total = sum(len(segment) for segment in found)
    if total < FEWEST_TEXTS:
        return None
    step = max(1, total // MOST_TEXTS)
    taken = [segment.matrix[::step].astype(np.float32) for segment in found]
    return np.concatenate(taken)[:MOST_TEXTS]


def _entry(tuned: Tuned, file: str, texts: bool = False) -> IndexEntry:
    """Return the manifest's entry of an index: its file and the measured curve.

    texts: whether it was measured with the texts of the collection.
    """
    assert tuned.index is not None
    measured: dict[str, Any] = {}
    if tuned.curve:
        measured = {
            "asked": tuned.asked,
            "k": K,
            "curve": [each.to_json() for each in tuned.curve],
            "default": tuned.index.default_effort,
            "queries": tuned.queries,
            "own_queries": tuned.own and not texts,
            **({"texts": True} if texts else {}),
            "build_seconds": round(tuned.build_seconds, 1),
            "tune_seconds": round(tuned.tune_seconds, 1),
        }
    return IndexEntry(spec=str(tuned.index.spec), file=file, measured=measured)


def _say_size(size: int, spec: IndexSpec, memory: int | None) -> None:
    if memory is not None and size > memory:
        log.warning(
            "no index fits in the %s bytes of memory asked for: %s takes %s; "
            "recall exact needs no index",
            f"{memory:,}",
            spec,
            f"{size:,}",
        )


def _say(tuned: Tuned) -> None:
    chosen = tuned.chosen
    if chosen is None or tuned.is_met:
        return
    spec = tuned.index.spec if tuned.index else ""
    if tuned.own or chosen.recall < tuned.asked:
        what = f"the index {spec} reaches at most {chosen.recall:.3f}"
    else:
        what = (
            f"the index {spec} reaches at most {chosen.recall:.3f} on queries made from the "
            "vectors, and real queries may be harder"
        )
    log.warning(
        "a recall of %g was asked for, but %s; ask for exact, or give queries of your own to "
        "retr index tune",
        tuned.asked,
        what,
    )


def _merged(
    staging: Staging, snapshot: Snapshot, group: Sequence[DenseSegment]
) -> SegmentEntry | None:
    """Return one segment for the group; a single segment without deleted rows keeps its file.

    An interrupted run may have left the merged segment. Rows deleted since are still in it, listed
    as deleted, just like rows that are deleted while an index is built.
    """
    if staging.note is not None:
        return parse_segment(staging.note)
    only = group[0]
    entry: SegmentEntry | None
    if len(group) == 1 and not len(snapshot.droppable(only)):
        entry = replace(only.entry, id=new_id(), index=None)
    else:
        entry = merge_group(staging, snapshot, group)
    if entry is not None:
        staging.keep(asdict(entry))
    return entry


def settle(store: Store, snapshot: Snapshot, progress: Progress) -> Snapshot:
    """Merge and index what was written, as the collection's settings ask."""
    snapshot = merge_small(store, snapshot)
    try:
        return index_all(store, snapshot, late=LATE, progress=progress)
    except MissingFaissError as error:
        log.warning(
            "every vector is scanned, without the index %s: %s",
            snapshot.settings.spec,
            error,
        )
        return snapshot
