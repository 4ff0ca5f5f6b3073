"""Document shards: each row's text, place and metadata, and the rows of each id.

The texts are in an Arrow file of several record batches, which is mapped and never read whole. A
small file beside it holds the hashes of the ids in ascending order with their positions, so that
an id is found by bisection.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..values.types import ImageAt
from .metadata import NO_FIELD, cast_metadata, decode_metadata, encode_metadata, unify_fields
from .shards import Rows, as_arrow, as_numpy, check_offsets, damage, open_batches
from .staging import Staging

BATCH_ROWS = 16_384
BATCH_BYTES = 64 << 20
FEW = 256
DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One row of a document shard.

    id:     the id of its document.
    part:   0 for the first passage of a document, 1 for the second, …
    source: the name of its source; None if the source has no name.
    digest: the digest of the document and of how it was split; if equal, nothing has changed.
    image:  where its document's image is stored; None if it has no image or the image no path.
    """

    id: str
    part: int
    text: str | None
    uri: str | None
    place: str | None
    source: str | None
    digest: bytes
    metadata: Mapping[str, Any]
    image: ImageAt | None = None


def hash_id(id: str) -> int:
    """Return the 64-bit hash by which an id is looked up."""
    data = id.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def write_documents(staging: Staging, rows: Sequence[StoredRow]) -> tuple[str, str]:
    """Stage a document shard of consecutive rows; return the names of its two files."""
    batch = _batch(rows)
    parts = (batch.slice(start, BATCH_ROWS) for start in range(0, len(rows), BATCH_ROWS))
    hashes = np.fromiter((hash_id(row.id) for row in rows), np.uint64, len(rows))
    numbers = np.arange(len(rows), dtype=np.int64)
    return _write_batches(staging, batch.schema, parts), _write_ids(staging, hashes, numbers)


def merge_documents(
    staging: Staging, shards: Sequence[tuple[DocumentShard, int, Rows]], first_row: int
) -> tuple[str, str, Rows]:
    """Stage one shard from several, in memory that does not depend on their size.

    shards: each with its first row and the positions to drop (ascending), in order of rows.

    Returns the names of its two files and its rows, i64[n], relative to `first_row`.
    """
    schema = _schema(
        unify_fields(shard.metadata_type for shard, _, _ in shards),
        sorted({name for shard, _, _ in shards for name in shard.sources}),
        images=any(shard.has_images for shard, _, _ in shards),
    )
    kept_rows: list[Rows] = []
    kept_hashes: list[NDArray[np.uint64]] = []

    def batches() -> Iterator[Any]:
        for shard, shard_first_row, dropped in shards:
            keep = np.ones(len(shard), bool)
            keep[dropped] = False
            kept_hashes.append(shard.hashes_by_position()[keep])
            for batch, start in zip(shard.batches, shard.starts, strict=True):
                part = keep[start : start + batch.num_rows]
                kept = batch if part.all() else batch.filter(pa.array(part))
                if kept.num_rows:
                    rows = as_numpy(kept.column("row"), "int64") + (shard_first_row - first_row)
                    kept_rows.append(rows)
                    yield _rewrite(kept, rows, shard.sources, schema)

    name = _write_batches(staging, schema, _coalesce(batches()))
    rows = np.concatenate(kept_rows)
    return name, _write_ids(staging, np.concatenate(kept_hashes), rows), rows


class DocumentShard:
    """A document shard, mapped from its two files.

    rows: i64[n], ascending, relative to the segment's first row.
    """

    def __init__(self, data: Path, ids: Path) -> None:
        self._path = data
        self._ids_path = ids
        self._checked: set[tuple[int, str]] = set()
        with damage(data):
            self.batches = open_batches(data)
            schema = self.batches[0].schema
            self.sources: list[str] = json.loads(schema.metadata[b"retr:sources"])
            self.metadata_type = schema.field("metadata").type
            self.has_images = IMAGE in schema.names
            if schema != _schema(list(self.metadata_type), self.sources, images=self.has_images):
                raise ValueError("its columns are wrong for a document shard")
            bounds = np.cumsum([0, *(b.num_rows for b in self.batches)])
            self.starts = bounds[:-1]
        with damage(ids):
            (hashes,) = open_batches(ids)
            self._hashes: NDArray[np.uint64] = as_numpy(hashes.column("hash"), "uint64")
            self._positions: Rows = as_numpy(hashes.column("position"), "int64")
            self.rows: Rows = as_numpy(hashes.column("row"), "int64")
            if {len(self._hashes), len(self._positions), len(self.rows)} != {int(bounds[-1])}:
                raise ValueError(f"it does not match the {bounds[-1]} rows of {data.name}")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def path(self) -> Path:
        """The file with the texts."""
        return self._path

    def read(self, positions: Rows) -> list[StoredRow]:
        """Return the rows at `positions`, in that order."""
        found: dict[int, StoredRow] = {}
        with damage(self._path):
            names = [*_PLAIN, "metadata", *([IMAGE] if self.has_images else ())]
            for at, batch in self._take(names, positions):
                columns = [batch.column(name).to_pylist() for name in _PLAIN]
                records = decode_metadata(batch.column("metadata"))
                images = batch.column(IMAGE).to_pylist() if self.has_images else [None] * len(at)
                for i, record, image, *values in zip(at, records, images, *columns, strict=True):
                    plain = dict(zip(_PLAIN, values, strict=True))
                    code = plain.pop("source")
                    source = None if code is None else self.sources[code]
                    where = None if image is None else ImageAt(**image)
                    found[i] = StoredRow(**plain, source=source, metadata=record, image=where)
        return [found[i] for i in range(len(positions))]

    def column(self, name: str, positions: Rows) -> list[Any]:
        """Return one column's values at `positions`, in that order."""
        found: list[Any] = [None] * len(positions)
        with damage(self._path):
            for at, batch in self._take([name], positions):
                for i, value in zip(at, batch.column(name).to_pylist(), strict=True):
                    found[i] = value
        return found

    def _take(self, names: list[str], positions: Rows) -> Iterator[tuple[list[int], Any]]:
        """Yield, for each record batch with any of `positions`, which are in it, and those rows."""
        which = np.searchsorted(self.starts, positions, side="right") - 1
        for number in sorted(set(which.tolist())):
            at = np.flatnonzero(which == number)
            batch = self.batches[number].select(names)
            for name in names:
                if (number, name) not in self._checked:
                    check_offsets(batch.column(name))
                    self._checked.add((number, name))
            yield at.tolist(), _rows_of(batch, positions[at] - self.starts[number])

    def positions_of(self, hashes: NDArray[np.uint64], ids: Sequence[str]) -> list[Rows]:
        """Return the positions of each id, ascending; an empty array for an id that is not here.

        hashes: u64[len(ids)], `hash_id` of each.
        """
        low = np.searchsorted(self._hashes, hashes, side="left")
        high = np.searchsorted(self._hashes, hashes, side="right")
        with damage(self._ids_path):  # if hashes do not ascend, a run may end before it begins
            owners = np.repeat(np.arange(len(ids)), high - low)
        runs = [self._positions[a:b] for a, b in zip(low, high, strict=True) if b > a]
        candidates = np.concatenate(runs) if runs else np.empty(0, np.int64)
        # Two ids may share a hash, so compare the ids themselves.
        found: list[list[int]] = [[] for _ in ids]
        names = self.column("id", candidates)
        for i, position, name in zip(owners.tolist(), candidates.tolist(), names, strict=True):
            if name == ids[i]:
                found[i].append(position)
        return [np.array(sorted(positions), np.int64) for positions in found]

    def positions_from(self, source: str) -> Rows:
        """Return the positions of the rows from a source, ascending."""
        if source not in self.sources:
            return np.empty(0, np.int64)
        code = self.sources.index(source)
        with damage(self._path):
            codes = [as_numpy(b.column("source").fill_null(-1), "int32") for b in self.batches]
        return np.flatnonzero(np.concatenate(codes) == code)

    def first_parts(self) -> NDArray[np.bool_]:
        """Return whether each row is the first of its document, bool[n]."""
        with damage(self._path):
            return np.concatenate([as_numpy(b.column("part"), "int32") == 0 for b in self.batches])

    def hashes_by_position(self) -> NDArray[np.uint64]:
        """Return the hash of each row's id, u64[n]."""
        out = np.empty(len(self._hashes), np.uint64)
        out[self._positions] = self._hashes
        return out


def _rows_of(batch: Any, positions: Rows) -> Any:
    """Return a copy of some rows of a record batch."""
    if len(positions) > FEW:
        return batch.take(as_arrow(positions))
    # `take` imports pyarrow.compute, which takes a tenth of the time of a first search.
    return pa.concat_batches([batch.slice(i, 1) for i in positions.tolist()])


_PLAIN = ("id", "part", "text", "uri", "place", "source", "digest")
IMAGE = "image"
"""The column that says where images are stored; only shards with images have it."""


def _plain_image(image: ImageAt) -> dict[str, Any]:
    return {name: getattr(image, name) for name in ("path", "member", "offset", "size")}


def _image_type() -> Any:
    return pa.struct(
        [
            pa.field("path", pa.large_string(), nullable=False),
            pa.field("member", pa.large_string()),
            pa.field("offset", pa.int64()),
            pa.field("size", pa.int64()),
        ]
    )


def _schema(metadata: Sequence[Any], sources: Sequence[str], *, images: bool) -> Any:
    # A struct without fields does not survive every Arrow version, so it gets a null field.
    fields = [f for f in metadata if f.name != NO_FIELD] or [pa.field(NO_FIELD, pa.null())]
    return pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("id", pa.large_string(), nullable=False),
            pa.field("part", pa.int32(), nullable=False),
            pa.field("text", pa.large_string()),
            pa.field("uri", pa.large_string()),
            pa.field("place", pa.large_string()),
            pa.field("source", pa.int32()),
            pa.field("digest", pa.binary(DIGEST_BYTES), nullable=False),
            pa.field("metadata", pa.struct(fields)),
            *([pa.field(IMAGE, _image_type())] if images else ()),
        ],
        metadata={"retr:sources": json.dumps(sources)},
    )


def _batch(rows: Sequence[StoredRow]) -> Any:
    metadata = encode_metadata([row.metadata for row in rows])
    sources = sorted({row.source for row in rows if row.source is not None})
    codes = {name: code for code, name in enumerate(sources)}
    images = any(row.image is not None for row in rows)
    schema = _schema(list(metadata.type), sources, images=images)
    columns: list[Any] = [pa.array(range(len(rows)), pa.int64())]
    for name in _PLAIN:
        values = [getattr(row, name) for row in rows]
        if name == "source":
            values = [codes.get(value) for value in values]
        columns.append(pa.array(values, schema.field(name).type))
    columns.append(metadata)
    if images:
        where = [None if row.image is None else _plain_image(row.image) for row in rows]
        columns.append(pa.array(where, _image_type()))
    return pa.record_batch(columns, schema=schema)


def _rewrite(batch: Any, rows: Rows, sources: Sequence[str], schema: Any) -> Any:
    """Return a batch with new row numbers, in the schema of the shard it goes into."""
    new_sources = json.loads(schema.metadata[b"retr:sources"])
    codes = pa.array([new_sources.index(name) for name in sources], pa.int32())
    columns = [as_arrow(rows)]
    columns += [batch.column(name) for name in _PLAIN]
    columns[1 + _PLAIN.index("source")] = codes.take(batch.column("source"))
    columns.append(cast_metadata(batch.column("metadata"), list(schema.field("metadata").type)))
    if IMAGE in schema.names:
        has_images = IMAGE in batch.schema.names
        columns.append(batch.column(IMAGE) if has_images else pa.nulls(len(rows), _image_type()))
    return pa.record_batch(columns, schema=schema)


def _coalesce(batches: Iterable[Any]) -> Iterator[Any]:
    """Join small batches, up to `BATCH_ROWS` rows or `BATCH_BYTES` bytes each."""
    held: list[Any] = []
    rows = size = 0
    for batch in batches:
        if held and (rows + batch.num_rows > BATCH_ROWS or size + batch.nbytes > BATCH_BYTES):
            yield pa.concat_batches(held)
            held, rows, size = [], 0, 0
        held.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
    if held:
        yield pa.concat_batches(held)


def _write_batches(staging: Staging, schema: Any, batches: Iterable[Any]) -> str:
    with (
        staging.new_file("documents") as (file, name),
        pa.ipc.new_file(pa.PythonFile(file, mode="w"), schema) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
    return name


def _write_ids(staging: Staging, hashes: NDArray[np.uint64], rows: Rows) -> str:
    order = np.argsort(hashes, kind="stable")
    batch = pa.record_batch(
        {"hash": as_arrow(hashes[order]), "position": as_arrow(order), "row": as_arrow(rows)}
    )
    with (
        staging.new_file("documents", ".ids.arrow") as (file, name),
        pa.ipc.new_file(pa.PythonFile(file, mode="w"), batch.schema) as writer,
    ):
        writer.write_batch(batch)
    return name
