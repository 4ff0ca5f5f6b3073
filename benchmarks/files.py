"""Writing results: a file appears whole or not at all, and `git diff` can read its JSON."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..retrieval.store.disk import storage_errors
from ..retrieval.values import files

_WIDTH = 100


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Make the folder of a file that is missing, and yield as `retrieval.values.files.whole` does.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.whole(path) as part:
            yield part


def write_text(text: str, path: Path) -> None:
    """Write a text as UTF-8; errors as `whole`."""
    with whole(path) as part:
        part.write_text(text, "utf-8")


def write_json(value: Any, path: Path) -> None:
    """Write a value as JSON, laid out by `json_text`; errors as `whole`."""
    write_text(json_text(value) + "\n", path)


def json_text(value: Any, indent: int = 0) -> str:
    """Return JSON in which what fits on a line stands on one, and long lists of numbers fill lines.

    value:  what `json.dumps` takes.
    indent: the columns that the lines after the first are indented by.
    """
    flat = json.dumps(value, ensure_ascii=False)
    if indent + len(flat) <= _WIDTH or not isinstance(value, Mapping | list | tuple) or not value:
        return flat
    inner = " " * (indent + 1)
    if isinstance(value, Mapping):
        items = [
            f"{json.dumps(str(name), ensure_ascii=False)}: {json_text(each, indent + 1)}"
            for name, each in value.items()
        ]
        return "{\n" + ",\n".join(inner + item for item in items) + f"\n{' ' * indent}}}"
    if any(isinstance(each, Mapping | list | tuple) for each in value):
        lines = [inner + json_text(each, indent + 1) for each in value]
        return "[\n" + ",\n".join(lines) + f"\n{' ' * indent}]"
    lines = list(_filled([json.dumps(each, ensure_ascii=False) for each in value], indent + 1))
    return "[\n" + ",\n".join(inner + line for line in lines) + f"\n{' ' * indent}]"


def _filled(items: Sequence[str], indent: int) -> Iterator[str]:
    """Yield as many items to a line as fit."""
    line: list[str] = []
    length = indent
    for item in items:
        if line and length + len(item) + 2 > _WIDTH:
            yield ", ".join(line)
            line, length = [], indent
        line.append(item)
        length += len(item) + 2
    if line:
        yield ", ".join(line)
