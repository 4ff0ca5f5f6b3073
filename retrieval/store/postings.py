"""Reads and writes postings: which rows hold a term, and how often or with what weight.

A segment of postings has two files. One holds its rows and their lengths. The other has one row
per term, in ascending order of the term's UTF-8 bytes, with the list of positions that hold it, so
that a term is found by bisection and its list is read directly from the mapped file. Values are
counts (uint16, for BM25) or learned weights (float32).
"""

from __future__ import annotations

import contextlib
import json
import mmap
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .disk import storage_errors
from .shards import Rows, as_arrow, as_numpy, damage, open_batches
from .staging import Staging

Counts = NDArray[np.uint16]
Weights = NDArray[np.float32]
Lengths = NDArray[np.uint32]

FOLDER = "lexical"
MOST_COUNTED = 65_535
_TYPES = {"uint16": pa.uint16(), "float32": pa.float32()}
_BLOCK_POSTINGS = 1 << 21
_SAMPLED_TERMS = 1024  # terms of a segment held in memory, for the first steps of a bisection


@dataclass(frozen=True, slots=True, eq=False)
class PostingBlock:
    """The lists of some terms, in ascending order of the terms.

    terms:     large_string[t].
    sizes:     i64[t], how many postings each term has.
    positions: u32[p], ascending within a term.
    values:    u16[p] or f32[p].
    """

    terms: Any
    sizes: NDArray[np.int64]
    positions: NDArray[np.uint32]
    values: Counts | Weights


@dataclass(frozen=True, slots=True, eq=False)
class Posting:
    """The list of one term.

    positions: u32[p], ascending.
    values:    u16[p] or f32[p].
    most:      the largest of the values.
    shortest:  the length of the shortest row in the list.
    """

    positions: NDArray[np.uint32]
    values: Counts | Weights
    most: float
    shortest: int


class PostingShard:
    """The postings of a segment, mapped from its two files.

    rows:    i64[n], ascending, relative to the segment's first row.
    lengths: u32[n], how many terms a row has, counting repeats.
    tokens:  the sum of the lengths.
    terms:   large_string[t], ascending by bytes.
    offsets: i64[t + 1]; the list of term t is from `offsets[t]` to `offsets[t + 1]`.
    """

    def __init__(self, data: Path, postings: Path) -> None:
        self._path = postings
        with damage(data):
            (batch,) = open_batches(data)
            self.rows: Rows = as_numpy(batch.column("row"), "int64")
            self.lengths: Lengths = as_numpy(batch.column("length"), "uint32")
            self.tokens = int(batch.schema.metadata[b"retr:tokens"])
        with damage(postings):
            (batch,) = open_batches(postings)
            lists = batch.column("postings")
            kind = str(lists.type.value_type.field("value").type)
            if kind not in ("uint16", "float"):
                raise ValueError(f"its values are {kind}, neither counts nor weights")
            self.kind = "uint16" if kind == "uint16" else "float32"
            self.terms = batch.column("term")
            self.offsets: NDArray[np.int64] = np.frombuffer(lists.buffers()[1], np.int64)
            self.offsets = self.offsets[: len(lists) + 1]
            self.positions: NDArray[np.uint32] = as_numpy(lists.values.field(0), "uint32")
            self.values: Counts | Weights = as_numpy(lists.values.field(1), self.kind)
            self._most = as_numpy(batch.column("most"), "float32")
            self._shortest = as_numpy(batch.column("shortest"), "uint32")
            self._sorted = _Terms(self.terms)

    def __len__(self) -> int:
        return len(self.rows)

    def find(self, term: str) -> int | None:
        """Return the number of a term; None if no row holds it."""
        wanted = term.encode()
        try:
            number = self._sorted.find(wanted)
            found = number < len(self._sorted) and self._sorted[number] == wanted
        except ValueError:
            # A query looks up many terms, so only a failure pays for the context manager.
            with damage(self._path):
                raise
        return number if found else None

    def pairs_with(self, character: str) -> tuple[list[int], list[int]]:
        """Return the numbers of longer terms that begin, and that end, with a character."""
        wanted = character.encode()
        with damage(self._path):
            first = self._sorted.find(wanted)
            # No UTF-8 byte is 255, so all terms that begin with the character precede this.
            begin = range(first, self._sorted.find(wanted + b"\xff"))
            longer = [number for number in begin if self._sorted[number] != wanted]
            return longer, self._sorted.ending(wanted)

    def size(self, number: int) -> int:
        """Return how many rows hold the term of this number.

        Raises:
            DamagedError: its list is outside the file, or longer than the number of rows.
        """
        start, end = self._bounds(number)
        return end - start

    def posting(self, number: int) -> Posting:
        """Return the list of the term of this number.

        Raises:
            DamagedError: it points outside the file or the segment.
        """
        start, end = self._bounds(number)
        positions = self.positions[start:end]
        # Positions ascend, so the last is the largest; if they do not, using them reports it.
        if len(positions) and positions[-1] >= len(self.rows):
            with damage(self._path):
                raise ValueError(f"a list names position {positions[-1]} of {len(self.rows)}")
        values = self.values[start:end]
        return Posting(positions, values, float(self._most[number]), int(self._shortest[number]))

    def _bounds(self, number: int) -> tuple[int, int]:
        start, end = int(self.offsets[number]), int(self.offsets[number + 1])
        if not 0 <= start <= end <= len(self.positions) or end - start > len(self.rows):
            with damage(self._path):
                raise ValueError(f"a list goes from {start} to {end} of {len(self.positions)}")
        return start, end


class _Terms(Sequence[bytes]):
    """A mapped column of texts, in the form that `bisect` needs."""

    def __init__(self, terms: Any) -> None:
        _, offsets, data = terms.buffers()
        # Offsets are read singly, for which a memoryview is several times faster than an array.
        self._offsets = memoryview(offsets).cast("B").cast("q")[: len(terms) + 1]
        self._data = memoryview(data) if data is not None else memoryview(b"")
        self._len = len(terms)
        self._step = len(terms) // _SAMPLED_TERMS + 1
        self._sample: list[bytes] = []

    def __len__(self) -> int:
        return self._len

    def find(self, wanted: bytes) -> int:
        """Return the index of a term, or where it would be inserted."""
        if not self._sample:
            self._sample = [self[i] for i in range(0, self._len, self._step)]
        end = bisect_right(self._sample, wanted) * self._step
        return bisect_left(self, wanted, max(end - self._step, 0), min(end, self._len))

    def ending(self, wanted: bytes) -> list[int]:
        """Return the indices of longer terms that end with some bytes; reads all terms."""
        first, last = self._offsets[0], self._offsets[self._len]
        offsets = np.frombuffer(self._offsets, np.int64)
        found = []
        for match in re.finditer(re.escape(wanted), self._data[first:last]):
            start, end = first + match.start(), first + match.end()
            place = int(np.searchsorted(offsets, end))
            if self._offsets[place] == end and self._offsets[place - 1] < start:
                found.append(place - 1)
        return found

    def __getitem__(self, index: Any) -> Any:
        start, end = self._offsets[index], self._offsets[index + 1]
        if start < 0:
            raise ValueError(f"a term begins at byte {start}")
        return bytes(self._data[start:end])


def count_terms(
    ids: NDArray[np.integer[Any]], lengths: NDArray[np.integer[Any]], first: int
) -> tuple[NDArray[np.int64], NDArray[np.uint32], Counts]:
    """Count the terms of consecutive rows.

    ids:     the numbers of the rows' terms, row after row, with repeats.
    lengths: how many of them belong to each row.
    first:   the position of the first of the rows.

    Returns the term, position and count of each posting, in ascending order of term and position.
    """
    rows = max(len(lengths), 1)
    keys = ids.astype(np.int64) * rows + np.repeat(np.arange(len(lengths)), lengths)
    keys.sort()
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
    counts = np.diff(np.append(starts, len(keys)))
    kept = keys[starts]
    positions = (kept % rows + first).astype(np.uint32)
    return kept // rows, positions, np.minimum(counts, MOST_COUNTED).astype(np.uint16)


def write_postings(
    staging: Staging,
    rows: Rows,
    lengths: Lengths,
    blocks: Iterable[PostingBlock],
    kind: str,
    metadata: Mapping[str, Any],
) -> tuple[str, str]:
    """Stage the two files of a segment of postings and return their names.

    rows:     i64[n], ascending, relative.
    lengths:  u32[n].
    blocks:   all lists, in ascending order of the terms; a term without postings is left out.
    kind:     "uint16" for counts, "float32" for weights.
    metadata: what made the terms; stored in the schemas' metadata.

    The lists are written to scratch files that are then mapped, so memory grows with the number
    of terms and rows, not of postings.
    """
    described = {"retr:terms": json.dumps(metadata, sort_keys=True)}
    batch = pa.record_batch(
        [as_arrow(rows), as_arrow(lengths)],
        schema=pa.schema(
            [
                pa.field("row", pa.int64(), nullable=False),
                pa.field("length", pa.uint32(), nullable=False),
            ],
            metadata={**described, "retr:tokens": str(int(lengths.sum(dtype=np.int64)))},
        ),
    )
    data = _write_batch(staging, batch)
    with _Scratch(staging, "positions") as positions, _Scratch(staging, "values") as values:
        terms: list[Any] = []
        sizes: list[NDArray[np.int64]] = []
        most: list[NDArray[Any]] = []
        shortest: list[NDArray[Any]] = []
        for block in blocks:
            there = np.flatnonzero(block.sizes)
            starts = (np.cumsum(block.sizes) - block.sizes)[there]
            sizes.append(block.sizes[there])
            terms.append(block.terms.take(as_arrow(there)))
            if len(there):
                most.append(np.maximum.reduceat(block.values, starts))
                shortest.append(np.minimum.reduceat(lengths[block.positions], starts))
            positions.write(block.positions.astype(np.uint32, copy=False))
            values.write(block.values.astype(kind, copy=False))
        struct = pa.StructArray.from_arrays(
            [as_arrow(positions.read(np.uint32)), as_arrow(values.read(kind))],
            fields=[
                pa.field("position", pa.uint32(), nullable=False),
                pa.field("value", _TYPES[kind], nullable=False),
            ],
        )
        offsets = np.cumsum(np.concatenate([[0], *sizes]), dtype=np.int64)
        lists = pa.LargeListArray.from_arrays(as_arrow(offsets), struct)
        columns = {
            "term": pa.concat_arrays([pa.array([], pa.large_string()), *terms]),
            "postings": lists,
            "most": as_arrow(np.concatenate([np.empty(0, np.float32), *most], dtype=np.float32)),
            "shortest": as_arrow(
                np.concatenate([np.empty(0, np.uint32), *shortest], dtype=np.uint32)
            ),
        }
        batch = pa.record_batch(columns).replace_schema_metadata(described)
        return data, _write_batch(staging, batch)


def block_of(
    terms: Sequence[str],
    numbers: NDArray[np.integer[Any]],
    positions: NDArray[np.uint32],
    values: Counts | Weights,
) -> PostingBlock:
    """Return postings as one block.

    terms:   by number, in any order.
    numbers: i64[p], the term of each posting.
    """
    order = sorted(range(len(terms)), key=terms.__getitem__)
    rank = np.empty(len(terms), np.int64)
    rank[order] = np.arange(len(terms))
    ranks = rank[numbers] if len(numbers) else np.empty(0, np.int64)
    by_term = np.lexsort((positions, ranks))
    return PostingBlock(
        pa.array([terms[i] for i in order], pa.large_string()),
        np.bincount(ranks, minlength=len(terms)).astype(np.int64),
        positions[by_term],
        values[by_term],
    )


def merged_blocks(
    parts: Sequence[tuple[PostingShard, NDArray[np.int64]]],
) -> Iterator[PostingBlock]:
    """Yield the merged lists of several shards.

    parts: each shard with the new position for each of its positions, -1 for a dropped row.
    """
    import pyarrow.compute as pc

    terms = pc.unique(pa.concat_arrays([shard.terms for shard, _ in parts]))
    terms = terms.take(pc.sort_indices(terms))
    numbers = [
        as_numpy(pc.index_in(shard.terms, value_set=terms), "int32").astype(np.int64)
        for shard, _ in parts
    ]
    sizes = np.zeros(len(terms), np.int64)
    for (shard, _), there in zip(parts, numbers, strict=True):
        sizes[there] += np.diff(shard.offsets)
    rows = 1 + max((int(new.max(initial=-1)) for _, new in parts), default=0)
    for first, end in _cuts(sizes):
        found = []
        for (shard, new), there in zip(parts, numbers, strict=True):
            low, high = np.searchsorted(there, [first, end])
            start, stop = shard.offsets[low], shard.offsets[high]
            lists = np.repeat(there[low:high] - first, np.diff(shard.offsets[low : high + 1]))
            positions = new[shard.positions[start:stop]]
            kept = positions >= 0
            keys = lists[kept] * rows + positions[kept]
            found.append((keys, shard.values[start:stop][kept]))
        keys = np.concatenate([keys for keys, _ in found])
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        yield PostingBlock(
            terms.slice(first, end - first),
            np.bincount(keys // rows, minlength=end - first).astype(np.int64),
            (keys % rows).astype(np.uint32),
            np.concatenate([values for _, values in found])[order],
        )


def _cuts(sizes: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield ranges of terms that together have about `_BLOCK_POSTINGS` postings."""
    ends = np.cumsum(sizes)
    first, done = 0, 0
    while first < len(sizes):
        end = int(np.searchsorted(ends, done + _BLOCK_POSTINGS, side="right"))
        end = max(end, first + 1)
        yield first, end
        first, done = end, int(ends[end - 1])


def _write_batch(staging: Staging, batch: Any) -> str:
    with (
        staging.new_file(FOLDER) as (file, name),
        pa.ipc.new_file(pa.PythonFile(file, mode="w"), batch.schema) as writer,
    ):
        writer.write_batch(batch)
    return name


class _Scratch(contextlib.AbstractContextManager["_Scratch"]):
    """A temporary file of numbers, written in parts and then mapped."""

    def __init__(self, staging: Staging, name: str) -> None:
        self._path = staging.folder / f"{name}.raw"
        self._store = staging.collection
        self._file: BinaryIO | None = None

    def __enter__(self) -> _Scratch:
        with storage_errors(self._store):
            self._file = self._path.open("w+b")
        return self

    def __exit__(self, *failure: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._path.unlink(missing_ok=True)

    def write(self, array: NDArray[Any]) -> None:
        """Append an array."""
        assert self._file is not None
        with storage_errors(self._store):
            self._file.write(np.ascontiguousarray(array).data)

    def read(self, dtype: Any) -> NDArray[Any]:
        """Return everything written."""
        assert self._file is not None
        with storage_errors(self._store):
            self._file.flush()
            if not self._file.tell():
                return np.empty(0, dtype)
            mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, dtype)
