"""Reads and writes Arrow files of vectors and of row numbers.

A vector shard holds ONE record batch, so that its vectors are one contiguous matrix, mapped from
the file without a copy, as scanning, gathering and FAISS all need it. Row numbers in a file are
relative to `SegmentEntry.first_row` and ascending.
"""

from __future__ import annotations

import contextlib
import json
import mmap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..values.errors import DamagedError, StorageError
from .disk import storage_errors
from .staging import Staging

Rows = NDArray[np.int64]
Matrix = NDArray[np.float32] | NDArray[np.float16]
Bits = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class VectorShard:
    """The vectors of a segment, mapped from its file.

    rows:   i64[n], ascending, relative to the segment's first row.
    matrix: f32[n, dim] or f16[n, dim], C-contiguous, read-only.
    """

    rows: Rows
    matrix: Matrix


def write_vectors(
    staging: Staging, rows: Rows, matrix: Matrix, space: Mapping[str, Any], dtype: str
) -> str:
    """Stage a vector shard and return its name.

    rows:   i64[n], ascending, relative.
    matrix: [n, dim] of any float type; stored as `dtype`.
    space:  the space's JSON, stored in the schema's metadata.
    """
    return _write(staging, rows, np.ascontiguousarray(matrix, dtype=dtype), space)


def write_vectors_in_parts(
    staging: Staging,
    rows: Rows,
    parts: Iterable[Matrix],
    dim: int,
    space: Mapping[str, Any],
    dtype: str,
) -> str:
    """Stage a vector shard whose vectors come in parts, in memory that does not grow with it.

    The parts are written to a scratch file that is then mapped, so that they can be written as
    one record batch without all being in memory.
    """
    scratch = staging.folder / "scratch.raw"
    try:
        with storage_errors(staging.collection), scratch.open("wb") as file:
            for part in parts:
                file.write(np.ascontiguousarray(part, dtype=dtype).data)
        with scratch.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        matrix = np.frombuffer(mapped, dtype=dtype).reshape(len(rows), dim)
        return _write(staging, rows, matrix, space)
    finally:
        scratch.unlink(missing_ok=True)


def _write(staging: Staging, rows: Rows, matrix: Matrix, space: Mapping[str, Any]) -> str:
    dim = matrix.shape[1]
    vectors = pa.FixedSizeListArray.from_arrays(as_arrow(matrix.reshape(-1)), dim)
    schema = pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("vector", vectors.type, nullable=False),
        ],
        metadata={"retr:space": json.dumps(space, sort_keys=True)},
    )
    batch = pa.record_batch([as_arrow(rows), vectors], schema=schema)
    with (
        staging.new_file("vectors") as (file, name),
        pa.ipc.new_file(pa.PythonFile(file, mode="w"), schema) as writer,
    ):
        writer.write_batch(batch)
    return name


def open_vectors(path: Path) -> VectorShard:
    """Map a vector shard.

    Raises:
        DamagedError: it is truncated or not a vector shard.
        FileNotFoundError: it no longer exists.
    """
    with damage(path):
        (batch,) = open_batches(path)
        vectors = batch.column("vector")
        dim = vectors.type.list_size
        # The child array ignores an offset that flatten() would apply, but there is none.
        kind = {pa.float32(): "float32", pa.float16(): "float16"}[vectors.type.value_type]
        matrix = as_numpy(vectors.values, kind).reshape(len(vectors), dim)
        rows = as_numpy(batch.column("row"), "int64")
        _check_lengths(len(rows), len(matrix))
        return VectorShard(rows, matrix)


def write_rows(staging: Staging, rows: Rows) -> str:
    """Stage a file of deleted rows, i64[n] ascending and absolute; return its name."""
    batch = pa.record_batch({"row": as_arrow(rows)})
    with (
        staging.new_file("deletes") as (file, name),
        pa.ipc.new_file(pa.PythonFile(file, mode="w"), batch.schema) as writer,
    ):
        writer.write_batch(batch)
    return name


def open_rows(path: Path) -> Rows:
    """Map a file of rows; raises DamagedError if it is not one."""
    with damage(path):
        (batch,) = open_batches(path)
        return as_numpy(batch.column("row"), "int64")


def write_marks(staging: Staging, marked: NDArray[np.bool_]) -> str:
    """Stage a file of marks for some positions of a segment, bool[n]; return its name."""
    bits = np.packbits(marked, bitorder="little")
    batch = pa.record_batch({"bits": as_arrow(bits)})
    with (
        staging.new_file("deletes") as (file, name),
        pa.ipc.new_file(pa.PythonFile(file, mode="w"), batch.schema) as writer,
    ):
        writer.write_batch(batch)
    return name


def open_marks(path: Path, rows: int) -> Bits:
    """Map the marks of a segment of `rows` rows: packed bits over its positions.

    Raises:
        DamagedError: it is not such a file, or belongs to another segment.
    """
    with damage(path):
        (batch,) = open_batches(path)
        bits = as_numpy(batch.column("bits"), "uint8")
        _check_lengths(len(bits), (rows + 7) // 8)
        return bits


def as_numpy(array: Any, dtype: str) -> NDArray[Any]:
    """Return an Arrow array of numbers without nulls as a view of its buffer.

    `Array.to_numpy` does the same, but imports pandas if it is installed, which takes half the
    time of a first search.
    """
    return np.frombuffer(array.buffers()[1], dtype)[array.offset : array.offset + len(array)]


def as_arrow(array: NDArray[Any]) -> Any:
    """Return a one-dimensional numpy array as an Arrow array that shares its memory."""
    data = np.ascontiguousarray(array)
    kind = pa.from_numpy_dtype(data.dtype)
    return pa.Array.from_buffers(kind, len(data), [None, pa.py_buffer(data)])


def merged_rows(parts: Iterable[Rows]) -> Rows:
    """Return the rows in any of `parts`, ascending, each once.

    `np.unique` does the same, but imports numpy.ma, which a first search does not need.
    """
    rows = np.sort(np.concatenate([np.empty(0, np.int64), *parts]))
    once: Rows = rows[np.append(True, rows[1:] != rows[:-1])[: len(rows)]]
    return once


def find_rows(sorted_rows: Rows, wanted: Rows) -> Rows:
    """Return the positions in `sorted_rows` of the `wanted` rows that it contains.

    Both are ascending and without duplicates.
    """
    if not len(sorted_rows):
        return np.empty(0, np.int64)
    at = np.minimum(np.searchsorted(sorted_rows, wanted), len(sorted_rows) - 1)
    positions: Rows = at[sorted_rows[at] == wanted]
    return positions


def open_batches(path: Path) -> list[Any]:
    """Map an Arrow file and return its record batches, without copying their buffers.

    Raises:
        DamagedError: the file is damaged or incomplete.
        FileNotFoundError: it no longer exists.
    """
    with damage(path):
        reader = pa.ipc.open_file(pa.memory_map(str(path), "r"))
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        for batch in batches:
            # Compares the sizes of buffers with the lengths, which takes a few microseconds; reads
            # beyond a buffer would hit other memory, or none.
            batch.validate()
        return batches


@contextlib.contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turn any error in reading a file that we wrote into one clear sentence.

    `verify` compares checksums, opening does not, so a damaged file can cause any error, from a
    wrong schema to an index out of bounds.
    """
    try:
        yield
    except (FileNotFoundError, DamagedError):
        raise
    except PermissionError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
    except (
        pa.ArrowException,
        OSError,
        AttributeError,
        LookupError,
        OverflowError,
        SystemError,
        TypeError,
        ValueError,
    ) as error:
        raise DamagedError(
            f"{path}: is damaged ({error}); "
            f"look for other damage with: retr index verify --index {path.parent.parent}"
        ) from error


def check_offsets(array: Any) -> None:
    """Refuse an array of texts or lists whose offsets point outside it.

    Arrow follows them without checking, which can crash the process. `Array.validate(full=True)`
    checks them, but also reads every text.

    Raises:
        ValueError: they do, or retr never writes arrays of this type.
    """
    kind = array.type
    _check_type(kind)
    if _is_flat(kind) or not len(array):
        return
    if pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            check_offsets(array.field(number))
        return
    _, offsets, *data = array.buffers()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        check_offsets(array.values)
        size = len(array.values)
    else:
        size = data[0].size if data[0] is not None else 0
    large = pa.types.is_large_list(kind) or pa.types.is_large_string(kind)
    bounds: NDArray[Any] = np.frombuffer(offsets, np.int64 if large else np.int32)
    bounds = bounds[array.offset : array.offset + len(array) + 1]
    # Compared, not subtracted, because the difference of two wild offsets may wrap around.
    if bounds[0] < 0 or bounds[-1] > size or (bounds[1:] < bounds[:-1]).any():
        raise ValueError("a text or a list begins or ends outside the file")


def _check_type(kind: Any) -> None:
    """Refuse types that columns never have, such as dictionaries, views and extensions."""
    if pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            _check_type(kind.field(number).type)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        _check_type(kind.value_type)
    elif pa.types.is_decimal(kind):
        if abs(kind.scale) > 76:  # Arrow computes 10**scale unchecked, which can crash
            raise ValueError(f"a column has the type {kind}, which is never written")
    elif not (
        _is_flat(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string(kind)
        or pa.types.is_binary(kind)
    ):
        raise ValueError(f"a column has the type {kind}, which is never written")


def _is_flat(kind: Any) -> bool:
    """Return whether the values of a type are contiguous and of equal size."""
    return bool(
        pa.types.is_null(kind)
        or pa.types.is_primitive(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _check_lengths(*lengths: int) -> None:
    if len(set(lengths)) > 1:
        raise ValueError(f"columns have the lengths {lengths}")
