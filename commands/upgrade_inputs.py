"""What the commands of an upgrade take from people: times, and files of clicks."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

from ..retrieval.values.errors import InputError

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
