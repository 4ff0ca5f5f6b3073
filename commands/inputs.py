"""The inputs of commands: queries, ids, times, and files of clicks."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..retrieval.values.errors import InputError
from ..retrieval.values.types import Query


def choose_queries(
    text: str | None,
    queries: str | None,
    vector: str | None,
    images: Sequence[str] = (),
    without: Sequence[str] = (),
    weights: Sequence[str] = (),
) -> list[Query]:
    """Return what was asked: a text and images, the queries of a file, or the vector in a file.

    images:  files, beside a text or alone.
    without: texts of what is not wanted.
    weights: such as "image=0.5", see `Query`.

    Raises:
        InputError: nothing, or more than one of these, is given, or a file cannot be used.
    """
    composed = text is not None or bool(images)
    given = [composed, queries is not None, vector is not None]
    if sum(given) != 1:
        what = "no query is given" if not any(given) else "more than one query is given"
        raise InputError(
            f"{what}: give either a query (words, --image FILE, or both), --queries FILE or "
            "--vector FILE"
        )
    if not composed and (without or weights):
        raise InputError("--without and --weight go with words or an image: give one of those too")
    if queries is not None or vector is not None:
        from ..retrieval.sources.queries import read_queries, read_vector
    if queries is not None:
        return read_queries(queries)
    if vector is not None:
        return [Query(vector=read_vector(vector))]
    how: dict[str, Any] = {"image": list(images) or None, "without": list(without) or None}
    return [Query(text=text, weights=_weights(weights), **how)]


def _weights(given: Sequence[str]) -> dict[str, float | Sequence[float]]:
    """Return weights by name from such as "image=0.5"; a repeated name is for the next part."""
    found: dict[str, list[float]] = {}
    for each in given:
        name, equals, number = each.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = 0.0
        if not equals or not value > 0:
            raise InputError(
                f"--weight {each!r}: write text=W, image=W or without=W, with W above 0"
            )
        found.setdefault(name.strip(), []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def choose_ids(given: Sequence[str], path: str | None) -> list[str]:
    """Return the ids given and those in a file.

    Raises:
        InputError: there is none, or the file cannot be read.
    """
    if not given and path is None:
        raise InputError("no id is given: name documents by their ids, or a file with --ids FILE")
    if path is None:
        return list(given)
    from ..retrieval.sources.queries import read_ids

    return [*given, *read_ids(path)]


def check_run(run: str | None, queries: str | None, passages: bool) -> None:
    """Refuse options that do not go with a run.

    Raises:
        InputError: there are no queries with ids, or a document could be ranked twice.
    """
    if run is not None and queries is None:
        raise InputError("--run needs queries with ids: give --queries FILE")
    if run is not None and passages:
        raise InputError("--run ranks each document once: leave out --passages")


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def read_seconds(text: str) -> float:
    """Return a time in seconds: "90", "30m", "1h30m", "2d".

    Raises:
        InputError: it is not a time above 0.
    """
    parts = re.fullmatch(r"(?:(?:\d+(?:\.\d+)?[smhd])+|\d+(?:\.\d+)?)", text.strip().lower())
    seconds = 0.0
    if parts is not None:
        for number, unit in re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", parts[0]):
            seconds += float(number) * _UNITS[unit or "s"]
    if seconds <= 0:
        raise InputError(f"--time {text!r}: give a time such as 90s, 30m or 2h")
    return seconds


def read_clicks(path: str) -> dict[str, float]:
    """Return how often each document was opened or found, by id.

    A line is an id, a tab and a number; or `{"id": …, "clicks": …}`; or an id alone, which counts
    once for each line.

    Raises:
        InputError: the file cannot be read, holds nothing, or a line is none of these; the
            message names file and line.
    """
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except OSError as error:
        raise InputError(f"--clicks {path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"--clicks {path}: is not UTF-8 text ({error})") from error
    clicks: dict[str, float] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            id, count = _line(line, f"{path}, line {number}")
            clicks[id] = clicks.get(id, 0.0) + count
    if not clicks:
        raise InputError(f"{path}: holds no clicks; a line is an id, a tab and a number")
    return clicks


def _line(line: str, where: str) -> tuple[str, float]:
    if line.lstrip().startswith("{"):
        try:
            values = json.loads(line)
            id, count = values.get("id", values.get("_id")), values.get("clicks", 1)
        except (ValueError, AttributeError) as error:
            raise InputError(f"{where}: is not a JSON object ({error})") from error
        if (
            not isinstance(id, str)
            or isinstance(count, bool)
            or not isinstance(count, (int, float))
        ):
            raise InputError(f'{where}: "id" must be a text and "clicks" a number')
    else:
        id, tab, shown = line.rstrip("\n").partition("\t")
        try:
            count = float(shown) if tab else 1.0
        except ValueError:
            raise InputError(f"{where}: {shown!r} is not a number of clicks") from None
    if not (math.isfinite(count) and count >= 0):
        raise InputError(f"{where}: {count} is not a number of clicks; give one from 0")
    return id, float(count)
