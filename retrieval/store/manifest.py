"""The manifest: one JSON file that names everything in a generation of the collection.

It is immutable, numbered, and contains its own checksum, so that a reader either has a complete
generation or knows that it has not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

FORMAT = 3
"""Format 2 added postings (roles `lexical` and `sparse`). Format 3 added images (where they are
stored, dense segments for them, and the means of segments), and vectors of several spaces side by
side, with the bridges between them. Older collections open; a commit converts them to format 3."""


class Role(StrEnum):
    """What a segment is for."""

    DOCUMENTS = "documents"
    DENSE = "dense"
    LEXICAL = "lexical"  # the words of texts, for BM25
    SPARSE = "sparse"  # learned weights of words; has a space, as dense vectors do


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of the collection: its size in bytes and its SHA-256 in hex."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One segment, as the manifest names it.

    id:        unique in the collection, never reused.
    role:      what it is for.
    rows:      how many rows it holds, including deleted ones.
    first_row: added to the row numbers in its file, so that a writer can number its rows when it
               commits rather than when it writes.
    last_row:  its highest row number.
    data:      the Arrow file with the rows, relative to the collection.
    ids:       documents only: the file with the sorted hashes of the ids.
    postings:  lexical and sparse only: the file with the lists of its terms.
    space:     dense and sparse only: the key of its space in `Manifest.spaces`.
    modality:  dense only: what its vectors were made from, "text" or "image".
    mean:      dense only: the mean of its vectors, see `encode_mean`; None if not stored.
    index:     dense only: the index over its vectors; None while it is scanned exactly.
    passages:  documents only: True if a document may have several rows.
    superseded: dense only: the file of marks for rows that have a vector in a segment of a
               preferred space, so that searches skip them here; None if there are none.
    """

    id: str
    role: Role
    rows: int
    first_row: int
    last_row: int
    data: str
    ids: str | None = None
    postings: str | None = None
    space: str | None = None
    modality: str | None = None
    mean: str | None = None
    index: IndexEntry | None = None
    passages: bool = False
    superseded: str | None = None

    @property
    def files(self) -> list[str]:
        """All files of the segment."""
        index = self.index.file if self.index else None
        names = [self.data, self.ids, self.postings, index, self.superseded]
        return [name for name in names if name is not None]


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """An index over a segment: its spec, its FAISS file and its measurements."""

    spec: str
    file: str
    measured: Mapping[str, Any] = field(default_factory=dict)


class Maps(StrEnum):
    """What a bridge maps."""

    QUERIES = "queries"  # queries of one space, to search the vectors of another
    DOCUMENTS = "documents"  # stored vectors of one space, so that queries of another find them


@dataclass(frozen=True, slots=True)
class BridgeEntry:
    """A map between two spaces, fitted on documents embedded in both.

    maps:     what it maps. A bridge for documents contains the bridge from queries to the vectors
              that it made.
    source, target: the keys of the spaces that it maps from and to.
    file:     its Arrow file.
    made:     documents only: the key of the space of the vectors it made; None while there are
              none. They are close to those of the target, but have their own space.
    measured: a description of the map, and its results on pairs that it was not fitted on.
    """

    maps: Maps
    source: str
    target: str
    file: str
    made: str | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UpgradeEntry:
    """An upgrade of the encoder that is in progress.

    source:  the key of the old encoder's space; `Manifest.space` is the new one's.
    encoder: how to load the old encoder: {"name", "options"}.
    fusion:  the fusion used with it, if it was fitted on judged queries.
    started: when the upgrade began, ISO 8601 in UTC.
    back:    True once it has been rolled back: then `source` is the newer encoder's space.
    gate:    the measurements made before it began.
    rate:    rows embedded per second by the last backfill; None before the first.
    """

    source: str
    encoder: Mapping[str, Any]
    fusion: Mapping[str, Any] | None
    started: str
    back: bool = False
    gate: Mapping[str, Any] = field(default_factory=dict)
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A generation of a collection.

    generation: its number; higher is newer.
    created:    when it was written, ISO 8601 in UTC.
    writer:     the version of retr that wrote it.
    next_row:   the number of the next new row.
    encoder:    how to load the encoder that answers queries: {"name", "options"}.
    space:      the key in `spaces` of that encoder's space.
    spaces:     the embedding spaces in use, `Space.to_json`, by key.
    settings:   the user's choices at build: {"spec", "recall", "dtype", …}, and retr's own:
                {"lexical": how texts become terms, "fusion": how the sides are weighed}.
    segments:   the segments, in the order of their rows within each role.
    deletes:    files with the rows that are deleted but still stored.
    files:      all files of this generation.
    bridges:    the maps between its spaces.
    upgrade:    the upgrade in progress; None if there is none.
    """

    generation: int
    created: str
    writer: str
    next_row: int
    encoder: Mapping[str, Any]
    space: str
    spaces: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any]
    segments: tuple[SegmentEntry, ...] = ()
    deletes: tuple[str, ...] = ()
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    format: int = FORMAT
    bridges: tuple[BridgeEntry, ...] = ()
    upgrade: UpgradeEntry | None = None

    def of_role(self, role: Role) -> tuple[SegmentEntry, ...]:
        """Return the segments of one role."""
        return tuple(s for s in self.segments if s.role is role)

    def with_segments(
        self,
        segments: tuple[SegmentEntry, ...],
        deletes: tuple[str, ...],
        new_files: Mapping[str, FileEntry],
    ) -> Manifest:
        """Return the manifest with other segments and deletes, and the files that they need."""
        ordered = tuple(sorted(segments, key=lambda s: (s.role, s.first_row, s.last_row, s.id)))
        known = {**self.files, **new_files}
        used = [name for segment in ordered for name in segment.files] + list(deletes)
        used += [bridge.file for bridge in self.bridges]
        return replace(
            self,
            segments=ordered,
            deletes=deletes,
            files={name: known[name] for name in used},
        )

    def to_bytes(self) -> bytes:
        """Return the manifest as the JSON stored on disk, including its checksum."""
        values = asdict(self)
        values["checksum"] = _checksum(values)
        return _written(values)


class ManifestDamagedError(Exception):
    """The bytes are not a complete manifest."""


class NewerFormatError(Exception):
    """The manifest is complete, but of a format that this version does not know."""

    def __init__(self, format: int, writer: str) -> None:
        super().__init__(f"format {format}, written by retr {writer}")
        self.format = format
        self.writer = writer


def parse_manifest(data: bytes) -> Manifest:
    """Return the manifest that `data` holds.

    Raises:
        ManifestDamagedError: the checksum does not match, or it is not JSON.
        NewerFormatError: it is complete, but of a newer format.
    """
    try:
        values = json.loads(data)
        stated = values.pop("checksum")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ManifestDamagedError(str(error)) from error
    if stated != _checksum(values):
        raise ManifestDamagedError("its checksum does not match")
    # The checksum is the same in every format, so a newer manifest differs from a damaged one.
    try:
        if values["format"] > FORMAT:
            raise NewerFormatError(values["format"], values.get("writer", "?"))
        values["segments"] = tuple(parse_segment(s) for s in values["segments"])
        values["deletes"] = tuple(values["deletes"])
        values["files"] = {name: FileEntry(**entry) for name, entry in values["files"].items()}
        bridges = values.pop("bridges", ())
        upgrade = values.pop("upgrade", None)
        return Manifest(
            **values,
            bridges=tuple(BridgeEntry(**{**b, "maps": Maps(b["maps"])}) for b in bridges),
            upgrade=None if upgrade is None else UpgradeEntry(**upgrade),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ManifestDamagedError(
            f"is not a manifest of format {values.get('format')} ({error})"
        ) from error


def is_canonical(data: bytes) -> bool:
    """Return whether JSON is byte for byte what `Manifest.to_bytes` writes.

    The checksum covers the values, and some bytes can change without changing a value.
    """
    try:
        return data == _written(json.loads(data))
    except ValueError:
        return False


def _written(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, sort_keys=True) + "\n").encode()


def parse_segment(values: Mapping[str, Any]) -> SegmentEntry:
    """Return the segment from which `asdict` made these values."""
    index = values["index"]
    own = {"role": Role(values["role"]), "index": IndexEntry(**index) if index else None}
    return SegmentEntry(**{**values, **own})


def _checksum(values: Mapping[str, Any]) -> str:
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
