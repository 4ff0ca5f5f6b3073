"""What the results of `retr bench upgrades` say: tables in Markdown, and the plot over backfill."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...retrieval.evaluation.measures import text_table
from ...retrieval.store.disk import storage_errors
from . import bt2
from .plots import plot

Result = Mapping[str, Any]
_DRAWS = {"anywhere": "from anywhere", "unjudged": "none judged"}


def read(folder: Path) -> list[Result]:
    """Return the results that lie in a folder, by data set and old encoder."""
    found = [json.loads(file.read_bytes()) for file in sorted(folder.glob("*-to-*.json"))]
    return sorted(found, key=lambda each: (each["old"]["name"], each["dataset"]["name"]))


def read_bt2(folder: Path) -> list[Result]:
    """Return the results of BT²'s protocol on images that lie in a folder, by name."""
    return [json.loads(file.read_bytes()) for file in sorted(folder.glob("bt2-*.json"))]


def write(folder: Path) -> None:
    """Write report.md and a plot for each pair of encoders beside the results of a folder."""
    results = read(folder)
    with storage_errors(folder):
        (folder / "report.md").write_text(markdown(results, read_bt2(folder)), "utf-8")
        for name, group in _groups(results):
            (folder / f"{name}.svg").write_text(plot(group), "utf-8")


def text(results: Sequence[Result]) -> str:
    """Return the main table as plain text."""
    return text_table([_HEAD, *_lines(results)])


def markdown(results: Sequence[Result], images: Sequence[Result] = ()) -> str:
    """Return the whole report; images: results of BT²'s protocol."""
    parts = ["# What an upgrade is worth, before, during and after backfill", _LEGEND]
    for name, group in _groups(results):
        parts += [f"## {_title(group[0])}", f"![]({name}.svg)"]
        parts += [_table([_HEAD, *_lines(group)])]
        parts += ["### Gains over backfill", _table([_CURVE_HEAD, *_curves(group)])]
        parts += [
            "### Recall@10 of relevant documents with their new vectors / without",
            _table([_RECALL_HEAD, *_recalls(group)]),
        ]
        parts += ["### Maps, the best of each kind", _table([_STEP_HEAD, *_steps(group)])]
        parts += [
            "### Calibrations: nDCG@10 over backfill in predicted order",
            _table([_CALIBRATION_HEAD, *_calibrations(group)]),
        ]
        both = list(_both(group))
        if both:
            parts += [
                "### Both encoders encode queries, no map: nDCG@10 over backfill in a random order",
                _table([_BOTH_HEAD, *both]),
            ]
    if images:
        parts += ["## BT²'s protocol on labelled images", _BT2_LEGEND]
        for each in images:
            parts += [f"### {each['dataset']}; {each['seeds']} seeds", _table(bt2.lines(each))]
        parts += ["### Published, of CIFAR-100", _table(bt2.published())]
    return "\n\n".join(parts) + "\n"


def _groups(results: Sequence[Result]) -> Iterator[tuple[str, list[Result]]]:
    groups: dict[tuple[str, str], list[Result]] = {}
    for each in results:
        groups.setdefault((_plain(each["old"]["name"]), _plain(each["new"]["name"])), []).append(
            each
        )
    for (old, new), group in groups.items():
        slug = "".join(c if c.isalnum() else "-" for c in f"{old}-to-{new}".lower())
        yield slug, group


def _plain(name: str) -> str:
    # An LSA is fitted on each corpus, so its name has the corpus in it.
    return "lsa" if name.startswith("functions:lsa-") else name


def _title(result: Result) -> str:
    return f"{_plain(result['old']['name'])} to {_plain(result['new']['name'])}"


_LEGEND = (
    "nDCG@10. Old/old: old queries, old vectors. Bridge: new queries over old vectors, at once. "
    "Map: new queries over mapped vectors, no encoder called; the sample holds its new vectors. "
    "New/new: everything embedded anew. Gain: how much of the way from old/old to new/new. Shares "
    "of backfill are of the rows outside the sample."
)
_BT2_LEGEND = (
    "Percent, mean ± deviation over the seeds. x/y: queries by x search a gallery by y; both are "
    "the images left out of training, and a query's own is removed. The old encoder was trained on "
    "half of the classes, the new one on all, each by itself; nothing is fitted after that but the "
    "maps, on the images that the encoders were trained on. No bridge: the new encoder's first "
    "dimensions as they are. In the common space: where BT²'s basis, refined with labels, has put "
    "new vectors, whose inner products stay as they were. The published figures are of "
    "another data set, with larger encoders that were trained together: they say what kind of "
    "table this is, and nothing about the rows above."
)
_HEAD = [
    "data set", "pairs", "mode", "old/old", "bridge", "map", "new/new", "gain", "gain at 25 %",
    "area", "area, random", "least", "falls", "worse",
]  # fmt: skip


def _lines(results: Iterable[Result]) -> Iterator[list[str]]:
    for each in results:
        for draw, named in _DRAWS.items():
            curves = each["draws"][draw]["curves"]
            orders = [key for key in curves if key != "old_old"]
            main = curves[orders[0]]["modes"]
            for mode, curve in main.items():
                other = curves[orders[1]]["modes"].get(mode) if len(orders) > 1 else None
                gains = curve["gains"]
                yield [
                    each["dataset"]["name"],
                    f"{each['draws'][draw]['pairs']:,} {named}",
                    mode,
                    _number(curves["old_old"][mode]),
                    _number(curve["bridge"]),
                    _number(curve["values"][0]),
                    _number(curve["values"][-1]),
                    "" if gains is None else f"{gains[0]:.2f}",
                    "" if gains is None else f"{gains[3]:.2f}",
                    _number(curve["area"], 2),
                    "" if other is None else _number(other["area"], 2),
                    f"{curve['least']:+.3f}",
                    str(len(curve["falls"])),
                    f"{curve['flips'][0]} of {each['queries']}",
                ]


_CURVE_HEAD = [
    "data set", "pairs", "mode", "order", "0", "5", "10", "25", "50", "75", "90", "100 %",
]  # fmt: skip


def _curves(results: Iterable[Result]) -> Iterator[list[str]]:
    for each in results:
        for draw, named in _DRAWS.items():
            for order, found in each["draws"][draw]["curves"].items():
                if order == "old_old":
                    continue
                for mode, curve in found["modes"].items():
                    gains = curve["gains"] or [None] * len(curve["values"])
                    cells = [_number(gain, 2) for gain in gains]
                    yield [each["dataset"]["name"], named, mode, order, *cells]


_RECALL_HEAD = ["data set", "pairs", "order", "0", "5", "10", "25", "50", "75", "90", "100 %"]


def _recalls(results: Iterable[Result]) -> Iterator[list[str]]:
    for each in results:
        for draw, named in _DRAWS.items():
            for order, found in each["draws"][draw]["curves"].items():
                if order != "old_old":
                    split = found["recall_of"]
                    pairs = zip(split["backfilled"], split["others"], strict=True)
                    cells = [f"{_number(a, 2) or '–'} / {_number(b, 2) or '–'}" for a, b in pairs]
                    yield [each["dataset"]["name"], named, order, *cells]


_STEP_HEAD = [
    "data set", "pairs", "step", "kind", "settings", "calibration", "found", "M(new,old)", "gain",
    "gain, every row unseen", "M(new,old) - M(old,old), 95 %", "chosen",
]  # fmt: skip


def _steps(results: Iterable[Result]) -> Iterator[list[str]]:
    for each in results:
        for draw, named in _DRAWS.items():
            for step in each["draws"][draw]["steps"]:
                yield [
                    each["dataset"]["name"],
                    named,
                    step["step"],
                    step["kind"],
                    ", ".join(f"{name} {value:g}" for name, value in step["settings"].items()),
                    step["calibration"],
                    _number(step["found"]),
                    _number(step["value"]),
                    _number(step["gain"], 2),
                    _number(step["unseen_gain"], 2),
                    f"{step['low']:+.3f} to {step['high']:+.3f}",
                    "yes" if step["chosen"] else "",
                ]


_CALIBRATION_HEAD = [
    "data set", "pairs", "calibration", "0", "5", "10", "25", "50", "75", "90", "100 %",
]  # fmt: skip


def _calibrations(results: Iterable[Result]) -> Iterator[list[str]]:
    for each in results:
        for draw, named in _DRAWS.items():
            for name, values in each["draws"][draw]["calibrations"].items():
                yield [each["dataset"]["name"], named, name, *map(_number, values)]


_BOTH_HEAD = ["data set", "pairs", "old/old", *_CALIBRATION_HEAD[3:]]


def _both(results: Iterable[Result]) -> Iterator[list[str]]:
    for each in results:
        for draw, named in _DRAWS.items():
            made = each["draws"][draw]
            values = made.get("both", ())
            if values:
                shown = [_number(value) for value in (made["old_old"], *values)]
                yield [each["dataset"]["name"], named, *shown]


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])
