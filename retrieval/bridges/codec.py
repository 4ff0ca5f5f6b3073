"""Writes fitted values such as bridges to Arrow files, and reads them back.

A file holds one record batch with a row for each array: its path inside the value
(`map.first.weight`), its shape, and its numbers. Everything else (kinds, flags, nested values) is
JSON in the schema's metadata. Only the kinds listed here are ever made from a file, and each is
checked against its arrays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..store.shards import as_arrow, damage, open_batches
from .bridge import Bridge
from .calibration import Calibration, Matched
from .forward import Forward, Residuals
from .maps import Hubless, Identity, Linear

T = TypeVar("T")

KEY = "retr:upgrade"
VERSION = 1

_KINDS = (Bridge, Calibration, Matched, Identity, Linear, Hubless)
"""What the file of a bridge may hold."""
_FORWARD_KINDS = (*_KINDS, Forward, Residuals)


def write_map(file: BinaryIO, value: Bridge | Forward) -> None:
    """Write a bridge or a forward map as an Arrow IPC file."""
    write(file, value, _FORWARD_KINDS if isinstance(value, Forward) else _KINDS)


def read_bridge(path: Path) -> Bridge:
    """Read a bridge; its arrays are memory-mapped.

    Raises:
        DamagedError: the file is cut short, or not a bridge.
        FileNotFoundError: the file is gone.
    """
    return read_as(path, _KINDS, Bridge)


def read_forward(path: Path) -> Forward:
    """Read a forward map; its arrays are memory-mapped.

    Raises:
        DamagedError: the file is cut short, or not a forward map.
        FileNotFoundError: the file is gone.
    """
    return read_as(path, _FORWARD_KINDS, Forward)


def to_arrow(value: Any, kinds: Iterable[type]) -> Any:
    """Return a frozen value, with everything inside it, as a `pyarrow.RecordBatch`.

    kinds: the classes that it may contain, each stored by its name.
    """
    names = {kind: kind.__name__ for kind in kinds}
    arrays: dict[str, NDArray[Any]] = {}
    plan = _plain(value, "", names, arrays)
    numbers = [np.ascontiguousarray(array, np.float32).ravel() for array in arrays.values()]
    ends = np.cumsum([0, *(len(each) for each in numbers)])
    flat = np.concatenate([np.empty(0, np.float32), *numbers])
    values = pa.LargeListArray.from_arrays(as_arrow(ends.astype(np.int64)), as_arrow(flat))
    shapes = pa.array([list(array.shape) for array in arrays.values()], pa.list_(pa.int64()))
    schema = pa.schema(
        [
            pa.field("path", pa.string(), nullable=False),
            pa.field("shape", shapes.type, nullable=False),
            pa.field("values", values.type, nullable=False),
        ],
        metadata={KEY: json.dumps({"version": VERSION, "value": plan}, sort_keys=True)},
    )
    return pa.record_batch([pa.array(list(arrays), pa.string()), shapes, values], schema=schema)


def from_arrow(batch: Any, kinds: Iterable[type]) -> Any:
    """Return the value that `to_arrow` encoded; its arrays are views of the batch.

    Raises:
        ValueError: the batch describes an unknown kind or version, or an array is missing or of
            the wrong shape.
    """
    known = {kind.__name__: kind for kind in kinds}
    header = json.loads((batch.schema.metadata or {}).get(KEY.encode(), b"{}"))
    if header.get("version") != VERSION:
        raise ValueError(f"it is of version {header.get('version')!r}, but only {VERSION} is known")
    paths = batch.column("path").to_pylist()
    shapes = batch.column("shape").to_pylist()
    values = batch.column("values")
    values.validate(full=True)
    arrays = {}
    for number, (path, shape) in enumerate(zip(paths, shapes, strict=True)):
        flat = np.asarray(values[number].values.to_numpy(zero_copy_only=True))
        arrays[path] = flat.reshape(shape)
    return _made(header["value"], "", known, arrays)


def write(file: BinaryIO, value: Any, kinds: Iterable[type]) -> None:
    """Write a value as an Arrow IPC file."""
    batch = to_arrow(value, kinds)
    with pa.ipc.new_file(pa.PythonFile(file, mode="w"), batch.schema) as writer:
        writer.write_batch(batch)


def read_as(path: Path, kinds: Iterable[type], expected: type[T]) -> T:
    """Read a value of the kind `expected`; its arrays are memory-mapped.

    Raises:
        DamagedError: the file is cut short, or holds something else.
        FileNotFoundError: the file is gone.
    """
    with damage(path):
        (batch,) = open_batches(path)
        value = from_arrow(batch, kinds)
        if not isinstance(value, expected):
            raise ValueError(f"it holds a {type(value).__name__}")
        return value


def _plain(
    value: Any, path: str, names: Mapping[type, str], arrays: dict[str, NDArray[Any]]
) -> Any:
    if isinstance(value, np.ndarray):
        arrays[path] = value
        return {"array": path}
    if is_dataclass(value):
        inside = {
            field.name: _plain(getattr(value, field.name), f"{path}.{field.name}", names, arrays)
            for field in fields(value)
        }
        return {"kind": names[type(value)], "fields": inside}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"plain": value}
    raise TypeError(f"{path}: a {type(value).__name__} cannot be written to such a file")


def _made(
    plan: Mapping[str, Any],
    path: str,
    known: Mapping[str, type],
    arrays: Mapping[str, NDArray[Any]],
) -> Any:
    if "array" in plan:
        return arrays[plan["array"]]
    if "kind" not in plan:
        return plan["plain"]
    name = plan["kind"]
    if name not in known:
        raise ValueError(f"{path or 'it'} is of the unknown kind {name!r}")
    inside = {
        field: _made(each, f"{path}.{field}", known, arrays)
        for field, each in plan["fields"].items()
    }
    return known[name](**inside)
