"""The user's own vectors as a matrix (a .npy file, a numpy array, a torch tensor), and ids."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..values.errors import InputError
from ..values.report import Skipped
from ..values.types import Document
from .base import Source
from .columns import IDS, as_float32, as_id, refuse_not_finite
from .options import SourceOptions
from .streams import Lines, open_file
from .values import encodable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .options import Ids

_BLOCK_BYTES = 4 * 1024 * 1024

# Options that do not apply to a matrix.
_COLUMNS = ("text", "title", "vector", "include", "exclude")


class Vectors(Source):
    """The rows of a matrix, each a document without text; `total` and `done` count rows."""

    def __init__(
        self,
        shape: tuple[int, ...],
        rows: Callable[[int, int], NDArray[Any]],
        what: str,
        name: str | None,
        options: SourceOptions,
    ) -> None:
        """Read `rows(start, stop)` of a matrix of that shape, called `what` in messages.

        Raises:
            InputError: it is not a matrix, or ids and rows differ in number.
        """
        options.refuse(what, *_COLUMNS)
        if len(shape) != 2 or shape[1] < 1:
            raise InputError(
                f"{what} has the shape {shape}; give a 2-dimensional one, a vector per row"
            )
        self.name = name
        self.total = shape[0]
        self._dim = shape[1]
        self._rows = rows
        self._what = what
        self._ids = ids_of(options, shape[0], what)

    def __iter__(self) -> Iterator[Document | Skipped]:
        """Yield one document per row; the default ids are "0", "1", …

        Raises:
            InputError: a vector is not finite, or an id is invalid.
        """
        assert self.total is not None
        size = max(1, _BLOCK_BYTES // (4 * self._dim))
        ids = iter(self._ids())
        self.done = 0
        for start in range(0, self.total, size):
            block = as_float32(self._rows(start, min(start + size, self.total)))
            names = [next(ids) for _ in block]
            refuse_not_finite(block, self._what, names, start)
            for name, vector in zip(names, block, strict=True):
                self.done += 1
                yield Document(name, vector=vector)


def vectors_of_npy(path: Path, options: SourceOptions) -> Vectors:
    """Return the source of a .npy file, which is memory-mapped.

    Raises:
        InputError: it is damaged, or does not hold a matrix of numbers.
    """
    array = mapped(path)
    _refuse_not_numbers(array, path.name)
    name = encodable(str(path))
    return Vectors(array.shape, lambda start, stop: array[start:stop], path.name, name, options)


def vectors_of_array(array: NDArray[Any], options: SourceOptions) -> Vectors:
    """Return the source of a numpy matrix.

    Raises:
        InputError: it is not a matrix of numbers.
    """
    what = "the numpy array"
    options.refuse(what, "id", "format")
    _refuse_not_numbers(array, what)
    return Vectors(array.shape, lambda start, stop: array[start:stop], what, options.name, options)


def vectors_of_tensor(tensor: Any, options: SourceOptions) -> Vectors:
    """Return the source of a torch matrix on any device; it is copied from there in blocks.

    Raises:
        InputError: it is not a dense matrix of real numbers.
    """
    what = "the torch tensor"
    options.refuse(what, "id", "format")
    if str(tensor.layout) != "torch.strided" or tensor.is_complex() or "bool" in str(tensor.dtype):
        raise InputError(f"{what} is {tensor.dtype}, {tensor.layout}; give dense real numbers")

    def rows(start: int, stop: int) -> NDArray[np.float32]:
        block: NDArray[np.float32] = tensor[start:stop].detach().float().cpu().numpy()
        return block

    return Vectors(tuple(tensor.shape), rows, what, options.name, options)


def ids_of(options: SourceOptions, count: int, what: str) -> Callable[[], Iterable[str]]:
    """Return a function that yields `count` ids: `options.ids`, or else "0", "1", …

    Raises:
        InputError: there are more or fewer, or `options.ids` is neither a sequence nor a file.
    """
    given = options.ids
    if given is None:
        return lambda: map(str, range(count))
    if isinstance(given, str | os.PathLike):
        found, read = _ids_of_file(Path(given), options.id)
    elif hasattr(given, "__len__") and hasattr(given, "__iter__") and not isinstance(given, dict):
        found, read = len(given), _ids_of_sequence(given)
    else:
        raise InputError(
            f"ids={type(given).__name__}: give a sequence of ids, or a .txt, .jsonl or .npy file"
        )
    if found != count:
        raise InputError(f"{what} has {count} vectors, but there are {found} ids")
    return read


def _ids_of_sequence(ids: Ids) -> Callable[[], Iterable[str]]:
    values: Any = ids.to_pylist() if hasattr(ids, "to_pylist") else ids
    return lambda: (as_id(value, f"ids[{at}]") for at, value in enumerate(values))


def _ids_of_file(path: Path, column: str | None) -> tuple[int, Callable[[], Iterable[str]]]:
    name = path.name
    suffix = path.suffix.lower()
    if suffix == ".npy":
        array = mapped(path)
        if array.ndim != 1:
            raise InputError(f"{name} has the shape {array.shape}; ids are 1-dimensional")
        return len(array), lambda: (
            as_id(value, f"{name}, row {at}") for at, value in enumerate(array)
        )
    if suffix not in (".txt", ".jsonl"):
        raise InputError(f"{name}: give ids in a .txt, .jsonl or .npy file")
    if suffix == ".txt":
        return sum(1 for _ in Lines(path)), lambda: (
            as_id(line.rstrip("\r\n"), f"{name}, line {number}") for number, line in Lines(path)
        )
    return sum(1 for _, line in Lines(path) if line.strip()), lambda: (
        _id_of_json(line, column, f"{name}, line {number}")
        for number, line in Lines(path)
        if line.strip()
    )


def _id_of_json(line: str, column: str | None, where: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error})") from None
    if isinstance(value, dict):
        names = (column,) if column else IDS
        key = next((name for name in names if name in value), None)
        if key is None:
            raise InputError(f"{where}: has no {' or '.join(names)}")
        value = value[key]
    return as_id(value, f"{where}: the id")


def mapped(path: Path) -> NDArray[Any]:
    """Return the array in a .npy file, memory-mapped.

    Raises:
        InputError: it is damaged, or does not hold an array.
    """
    import numpy as np

    open_file(path).close()
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        # numpy parses the header with Python's tokenizer and evaluator, so any error can occur.
        raise InputError(
            f"{path.name}: cannot be read as a .npy file ({' '.join(str(error).split())})"
        ) from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path.name} is an archive of arrays; save a single one with np.save")
    return array


def _refuse_not_numbers(array: NDArray[Any], what: str) -> None:
    if array.dtype.kind not in "iuf":
        raise InputError(f"{what} holds {array.dtype}; vectors are integers or floats")
