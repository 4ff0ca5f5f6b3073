"""Queries, ids and vectors in files and on standard input."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..values.errors import InputError
from ..values.types import Query
from .streams import Lines, open_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


STDIN = "-"


def read_queries(path: str) -> list[Query]:
    """Return the queries of a file, each with its id; "-" reads standard input.

    A line is `{"_id": "q1", "text": "the question"}`, as in BEIR, or an id, a tab and the text.
    The file's suffix (.jsonl or .tsv) decides which, or else the first line.

    Raises:
        InputError: a line is neither, its text is empty, or an id occurs twice; the message names
            the file and the line.
    """
    lines, name = _lines(path)
    queries: list[Query] = []
    first_lines: dict[str, int] = {}
    is_json: bool | None = None
    for number, line in lines:
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        if is_json is None:
            is_json = _is_json(name, line)
        id, text = _from_json(line, where) if is_json else _from_tsv(line, where)
        if not text.strip():
            raise InputError(
                f"{where}: the query {id!r} has no text; add one or leave the query out"
            )
        if id in first_lines:
            raise InputError(
                f"{where}: the id {id!r} is also on line {first_lines[id]}; "
                "give every query its own id"
            )
        first_lines[id] = number
        queries.append(Query(text=text, id=id))
    if not queries:
        raise InputError(f"{name}: there is no query in it")
    return queries


def read_ids(path: str) -> list[str]:
    """Return the ids in a file, one per line, unchanged; "-" reads standard input.

    Raises:
        InputError: the file cannot be read.
    """
    lines, _ = _lines(path)
    return [id for _, line in lines if (id := line.rstrip("\r\n"))]


def read_vector(path: str) -> NDArray[np.float32]:
    """Return f32[dim], the one vector in a .npy file of shape [dim] or [1, dim].

    Raises:
        InputError: the file is missing, is not a .npy file, or holds anything else.
    """
    import numpy as np

    with open_file(Path(path)) as file:
        try:
            array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, EOFError, OSError, MemoryError) as error:
            raise InputError(f"{path}: is not a .npy file of numbers ({error})") from error
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2) or array.size == 0:
        raise InputError(
            f"{path}: holds {array.dtype} of shape {array.shape}; give one vector of numbers"
        )
    if array.ndim == 2 and len(array) != 1:
        raise InputError(f"{path}: holds {len(array)} vectors; give one, of shape [dim]")
    return array.reshape(-1).astype(np.float32)


def _lines(path: str) -> tuple[Iterator[tuple[int, str]], str]:
    """Return the numbered lines of a file and its name for messages."""
    if path == STDIN:
        if sys.stdin.isatty():
            raise InputError("'-' is standard input, but nothing is piped into it")
        return iter(Lines(sys.stdin.buffer)), "stdin"  # type: ignore[arg-type]
    if stat.S_ISFIFO(_mode(path)):  # such as the shell's <(…), which has no positions
        return _of_pipe(path), path
    return iter(Lines(Path(path))), path


def _of_pipe(path: str) -> Iterator[tuple[int, str]]:
    with open_file(Path(path)) as file:
        lines = Lines(file)
        lines.name = path
        yield from lines


def _mode(path: str) -> int:
    try:
        return Path(path).stat().st_mode
    except OSError:  # opening it reports what is wrong
        return 0


def _is_json(name: str, line: str) -> bool:
    endings = {ending.lower() for ending in Path(name).suffixes}
    if endings & {".jsonl", ".ndjson"}:
        return True
    return ".tsv" not in endings and line.lstrip().startswith("{")


def _from_json(line: str, where: str) -> tuple[str, str]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is not JSON ({error}); {_FORM}") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: is a JSON {type(value).__name__}; {_FORM}")
    id, text = value.get("_id", value.get("id")), value.get("text")
    if isinstance(id, int) and not isinstance(id, bool):
        id = str(id)
    for name, each in (("_id", id), ("text", text)):
        if each is None:
            raise InputError(f"{where}: has no {name!r}; {_FORM}")
        if not isinstance(each, str):
            raise InputError(f"{where}: {name!r} is {each!r:.40}, not a text; {_FORM}")
    if not id:
        raise InputError(f"{where}: the id is empty; {_FORM}")
    return str(id), str(text)


def _from_tsv(line: str, where: str) -> tuple[str, str]:
    id, tab, text = line.rstrip("\r\n").partition("\t")
    if not tab or not id.strip():
        raise InputError(f"{where}: is not an id, a tab and a text; {_FORM}")
    return id.strip(), text


_FORM = 'a line is {"_id": "q1", "text": "the question"}, or an id, a tab and the text'
