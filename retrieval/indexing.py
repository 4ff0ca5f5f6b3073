"""Indexing: the dense segments of a space become one segment with an index, by one commit.

Searches and writers go on while it runs; what they changed meanwhile is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from ..indexes import kind
from ..indexes.arrays import ArraySource
from ..indexes.base import Metric
from ..indexes.spec import IndexSpec, SpecError
from .commits import new_id, replace_segments
from .errors import InputError
from .merging import merge_group
from .segment import DenseSegment
from .snapshot import Snapshot
from .store.manifest import IndexEntry, SegmentEntry
from .store.shards import open_vectors
from .store.store import Staging, Store

log = logging.getLogger("retr.indexing")

AUTO = "auto"


def check_spec(text: str) -> str:
    """Return the spec in its canonical form; `auto` stays as it is.

    Raises:
        InputError: it does not parse, or there is no such kind.
    """
    if text == AUTO:
        return AUTO
    try:
        spec = IndexSpec.parse(text)
        kind(spec.kind).check(spec)
    except (SpecError, KeyError) as error:
        raise InputError(f"spec {text!r}: {error.args[0]}") from error
    return str(spec)


def index_all(store: Store, snapshot: Snapshot, spec: str) -> Snapshot:
    """Give every space's vectors one index of this spec; what has it already stays.

    `auto` scans exactly: no index is built, and every recall asked for is met.

    Raises:
        MissingFaissError: faiss is not installed.
        InputError: another writer replaced the segments meanwhile.
    """
    if spec == AUTO:
        return snapshot
    groups: dict[tuple[str | None, str | None], list[DenseSegment]] = {}
    for segment in snapshot.dense:
        groups.setdefault((segment.entry.space, segment.entry.modality), []).append(segment)
    for group in groups.values():
        if not _is_done(snapshot, group, spec):
            snapshot = _index(store, snapshot, group, spec)
    return snapshot


def _is_done(snapshot: Snapshot, group: Sequence[DenseSegment], spec: str) -> bool:
    only = group[0]
    return (
        len(group) == 1
        and only.entry.index is not None
        and only.entry.index.spec == spec
        and not len(only.positions(snapshot.deleted))
    )


def _index(store: Store, snapshot: Snapshot, group: Sequence[DenseSegment], spec: str) -> Snapshot:
    parsed = IndexSpec.parse(spec)
    with store.staging() as staging:
        entry = _merged(staging, snapshot, group)
        old = {segment.entry.id for segment in group}
        if entry is None:  # every row of it is deleted
            return snapshot
        data = staging.find(entry.data)
        metric = Metric(snapshot.spaces[str(entry.space)].metric)
        source = ArraySource(open_vectors(data).matrix, metric)
        log.info("building the index %s over %d vectors", spec, len(source))
        built = kind(parsed.kind).build(source, parsed)
        with staging.external_file("indexes", ".faiss") as (path, name):
            built.save(path)
        new = replace(entry, index=IndexEntry(spec=spec, file=name))
        return replace_segments(store, staging, snapshot, [(old, new)])


def _merged(
    staging: Staging, snapshot: Snapshot, group: Sequence[DenseSegment]
) -> SegmentEntry | None:
    """Return one segment for the group; one that is whole as it is keeps its file."""
    only = group[0]
    if len(group) == 1 and not len(only.positions(snapshot.deleted)):
        return replace(only.entry, id=new_id(), index=None)
    return merge_group(staging, snapshot, group)
