"""What the command line takes: queries, ids, times, and files of clicks."""

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
        InputError: nothing or things that exclude each other are given, or a file cannot be used.
    """
    composed = text is not None or bool(images)
    given = [composed, queries is not None, vector is not None]
    if sum(given) != 1:
        what = "nothing to look for" if not any(given) else "several things to look for"
        raise InputError(
            f"{what}: give a query (words, --image FILE, or both), --queries FILE or --vector "
            "FILE, one of them"
        )
    if not composed and (without or weights):
        raise InputError("--without and --weight belong to words or an image: give those, too")
    if queries is not None or vector is not None:
        from ..retrieval.sources.queries import read_queries, read_vector
    if queries is not None:
        return read_queries(queries)
    if vector is not None:
        return [Query(vector=read_vector(vector))]
    how: dict[str, Any] = {"image": list(images) or None, "without": list(without) or None}
    return [Query(text=text, weights=_weights(weights), **how)]


def _weights(given: Sequence[str]) -> dict[str, float | Sequence[float]]:
    """Return weights by name from such as "image=0.5"; one that comes again is for the next."""
    found: dict[str, list[float]] = {}
    for each in given:
        name, equals, number = each.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = 0.0
        if not equals or not value > 0:
            raise InputError(
                f"--weight {each!r}: write text=W, image=W or without=W, where W is above 0"
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
    """Refuse what makes no run.

    Raises:
        InputError: there are no queries with ids, or a document could be ranked twice.
    """
    if run is not None and queries is None:
        raise InputError("--run needs queries with ids: give --queries FILE")
    if run is not None and passages:
        raise InputError("--run ranks documents, each once: leave out --passages")


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def read_seconds(text: str) -> float:
    """Return a time in seconds: "90", "30m", "1h30m", "2d".

    Raises:
        InputError: it is no time above 0.
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
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as clicks ({error})") from error
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
            raise InputError(f"{where}: is no JSON object ({error})") from error
        if (
            not isinstance(id, str)
            or isinstance(count, bool)
            or not isinstance(count, (int, float))
        ):
            raise InputError(f'{where}: has no "id" that is a text and "clicks" that are a number')
    else:
        id, tab, shown = line.rstrip("\n").partition("\t")
        try:
            count = float(shown) if tab else 1.0
        except ValueError:
            raise InputError(f"{where}: {shown!r} is no number of clicks") from None
    if not (math.isfinite(count) and count >= 0):
        raise InputError(f"{where}: {count} is no number of clicks")
    return id, float(count)
