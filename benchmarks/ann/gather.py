"""What the runs of `retr bench ann` left in a folder, as one value: all that they measured.

The value is what `python -m retr.benchmarks.ann.report` keeps in one file:

    {"datasets": [{"about": …, "systems": [SYSTEM, …]}], "environment": that of the newest build}

    SYSTEM = {"system": …, "k": …, "threads": …, "neighbours": …, "failed": … (if it has),
              "build": … (if it got that far), "single": [ROUND, …], "batch": [ROUND, …]}

A ROUND has the figures of each setting in columns. Nothing in it is derived but recall: it is
worked out from the rows that a system answered with and their true scores, against the truth.
"neighbours" is False for a system whose rows were not kept, and whose recall was worked out when
it was measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...retrieval.values.errors import DamagedError, InputError
from .suite import ABOUT, BUILD, FAILED, FORMAT, TRUTH
from .truth import Answers, judge

# What says what a result is of; once for a system.
_KEY = ("format", "system", "digest", "queries", "k", "threads")


def gather(out: Path) -> dict[str, Any]:
    """Return what lies in an output folder.

    Raises:
        InputError: there are no results.
        DamagedError: a file of them cannot be read.
    """
    datasets: list[dict[str, Any]] = []
    for path in sorted(out.glob(f"*/{ABOUT}")):
        about = _read(path)
        folders = sorted(each for each in path.parent.iterdir() if each.is_dir())
        systems = [found for folder in folders if (found := _system(folder, about["rows"]))]
        datasets.append({"about": about, "systems": systems})
    builds = [s["build"] for data in datasets for s in data["systems"] if "build" in s]
    if not builds:
        raise InputError(f"{out}: holds no results; make some with: retr bench ann --out {out}")
    newest = max((build["environment"] for build in builds), key=lambda each: str(each["time"]))
    return {"datasets": datasets, "environment": newest}


def _system(folder: Path, rows: int) -> dict[str, Any] | None:
    known = {name: _read(folder / name) for name in (BUILD, FAILED) if (folder / name).exists()}
    if not known:
        return None
    key = known.get(FAILED) or known[BUILD]
    found: dict[str, Any] = {name: key.get(name) for name in ("system", "k", "threads")}
    found["neighbours"] = any(folder.glob("*.npz"))
    if FAILED in known:
        found["failed"] = known[FAILED]["failed"]
    if BUILD in known:
        found["build"] = _without_key(known[BUILD])
    for phase in ("single", "batch"):
        found[phase] = [_round(file, rows) for file in sorted(folder.glob(f"{phase}-*.json"))]
    return found


def _round(path: Path, rows: int) -> dict[str, Any]:
    found = _read(path)
    points = found["points"]
    if path.with_suffix(".npz").exists():
        answers = Answers.load(path.with_suffix(".npz"))
        truth = Answers.load(path.parents[1] / TRUTH.format(found["k"]))
        pairs = zip(answers.rows, answers.scores, strict=True)
        judged = [judge(*pair, truth.scores[:, -1], rows) for pair in pairs]
        points = [{**point, **asdict(each)} for point, each in zip(points, judged, strict=True)]
    return {**_without_key(found), "points": _columns(points)}


def _columns(points: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {name: [point[name] for point in points] for name in points[0]} if points else {}


def _without_key(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in _KEY}


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path}: cannot be read ({error}); remove {path.parent}") from error
    if not isinstance(values, dict) or values.get("format", FORMAT) != FORMAT:
        raise DamagedError(f"{path}: is not as this retr writes it; remove {path.parent}")
    return values
