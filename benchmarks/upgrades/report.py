"""What the results of `retr bench upgrades` say: tables, and plots over backfill.

    python -m retr.benchmarks.upgrades.report RESULTS --out upgrades.json
    python -m retr.benchmarks.upgrades.report --show upgrades.json
    python -m retr.benchmarks.upgrades.report upgrades.json --plot FILE.svg --from static:1

The first packs a folder of results into the one file that a repository keeps; the last draws the
plot of a pair of encoders again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...retrieval.upgrade.gate import SHARES
from ...retrieval.values.errors import InputError
from ..files import write_text
from ..page import Block, Figure, Heading, Text, markdown_of
from ..plot import Axis, Line, Panel, Reference, draw
from ..study import Study, read
from ..tables import Table, number

Result = Mapping[str, Any]
Row = Sequence[str]

DRAWS = {"anywhere": "from anywhere", "unjudged": "none judged"}
_MODES = {"dense": "#2f6db3", "hybrid": "#d0273e"}
_SHARES = [*(f"{100 * share:g}" for share in SHARES[:-1]), "100 %"]
_LEGEND = (
    "nDCG@10. Old/old: old queries, old vectors. Bridge: new queries over old vectors, at once. "
    "Map: new queries over mapped vectors, no encoder called; the sample holds its new vectors. "
    "New/new: everything embedded again. Gain: how much of the way from old/old to new/new. Shares "
    "of backfill are of the rows outside the sample."
)


def load(folder: Path) -> list[Result]:
    """Return the results that lie in a folder, by old encoder and data set."""
    found = [json.loads(file.read_bytes()) for file in sorted(folder.glob("*-to-*.json"))]
    return sorted(found, key=lambda each: (each["old"]["name"], each["dataset"]["name"]))


def write(folder: Path) -> None:
    """Write report.md, and a plot for each pair of encoders, beside the results of a folder."""
    made = list(blocks(load(folder)))
    for block in made:
        if isinstance(block, Figure):
            write_text(block.svg, folder / block.file)
    write_text(markdown_of(made), folder / "report.md")


def blocks(results: Sequence[Result]) -> Iterator[Block]:
    """Yield the whole report."""
    yield Heading("What an upgrade is worth, before, during and after backfill", 1)
    yield Text(_LEGEND)
    for group in _groups(results):
        yield Heading(_title(group[0]))
        slug = "".join(c if c.isalnum() else "-" for c in _title(group[0]).lower())
        yield Figure(plot(group), f"{slug.replace(' ', '-')}.svg", f"{_title(group[0])}, nDCG@10")
        yield from _tables(group)


def summary(results: Sequence[Result]) -> Table:
    """Return the main table: before, during and after, by data set, sample and mode."""
    return Table(_SUMMARY, list(_summaries(results)))


def tables(result: Result) -> Iterator[Table]:
    """Yield the tables of each pair of encoders, under its name."""
    for group in _groups(result["results"]):
        for table in _tables(group):
            title = ": ".join(filter(None, (_title(group[0]), table.title)))
            yield Table(table.headings, table.rows, title, table.notes)


def plot(results: Sequence[Result], drawn: str = "anywhere") -> str:
    """Return the plot of one pair of encoders, a panel for each data set, as SVG.

    A panel runs from 0 to 100 % of the rows backfilled. The old model and the new one are dashed
    lines; the first point of a curve is what users have before a row outside the sample is embedded
    again.
    """
    old, new = (_model(results[0][which]["name"]) for which in ("old", "new"))
    panels = []
    for result in results:
        made = result["draws"][drawn]
        order, *_ = _orders(made)
        base, found = made["curves"]["old_old"], made["curves"][order]["modes"]
        panels.append(
            Panel(
                [
                    Line(mode, list(zip(SHARES, curve["values"], strict=True)), base=base[mode],
                         colour=_MODES[mode])
                    for mode, curve in found.items()
                ],
                Axis(low=0.0, high=1.0, ticks=(0, 0.25, 0.5, 0.75, 1), format=".0%"),
                title=result["dataset"]["name"],
                note=f"{made['pairs']:,} of {result['dataset']['documents']:,} as pairs",
                references=[
                    Reference(end, mode, shown=False)
                    for mode, curve in found.items()
                    for end in (base[mode], curve["values"][-1])
                ],
            )
        )  # fmt: skip
    title = (
        f"{old} to {new}: nDCG@10 over the share of rows embedded again; "
        "dashed: the old model, and the new one at the end"
    )
    return draw(panels, title=title, width=250, height=220, columns=len(panels))


def _groups(results: Iterable[Result]) -> Iterable[list[Result]]:
    """Return the results of each pair of encoders."""
    groups: dict[str, list[Result]] = {}
    for each in results:
        groups.setdefault(_title(each), []).append(each)
    return groups.values()


def _title(result: Result) -> str:
    return f"{_plain(result['old']['name'])} to {_plain(result['new']['name'])}"


def _plain(name: str) -> str:
    # An LSA is fitted on each corpus, so its name has the corpus in it.
    return "lsa" if name.startswith("functions:lsa-") else name


def _model(name: str) -> str:
    family, _, rest = _plain(name).partition(":")
    return rest.replace("_", "-").removeprefix("gt-") if family == "st" else _plain(name)


def _orders(made: Result) -> list[str]:
    """Return the orders of backfill, the usual one first."""
    return [order for order in made["curves"] if order != "old_old"]


def _tables(group: Sequence[Result]) -> Iterator[Table]:
    yield summary(group)
    for title, headings, rows in _DETAILS:
        cells = [
            [each["dataset"]["name"], named, *row]
            for each in group
            for drawn, named in DRAWS.items()
            for row in rows(each["draws"][drawn])
        ]
        if cells:
            yield Table(["data set", "pairs", *headings], cells, title)


_SUMMARY = [
    "data set", "pairs", "mode", "old/old", "bridge", "map", "new/new", "gain", "gain at 25 %",
    "area", "area, random", "least", "falls", "worse",
]  # fmt: skip


def _summaries(results: Iterable[Result]) -> Iterator[Row]:
    for each in results:
        for drawn, named in DRAWS.items():
            made = each["draws"][drawn]
            usual, *others = _orders(made)
            for mode, curve in made["curves"][usual]["modes"].items():
                gains = curve["gains"] or [None] * len(SHARES)
                other = made["curves"][others[0]]["modes"].get(mode) if others else None
                yield [
                    each["dataset"]["name"],
                    f"{made['pairs']:,} {named}",
                    mode,
                    number(made["curves"]["old_old"][mode], 3),
                    number(curve["bridge"], 3),
                    number(curve["values"][0], 3),
                    number(curve["values"][-1], 3),
                    number(gains[0], 2),
                    number(gains[SHARES.index(0.25)], 2),
                    number(curve["area"], 2),
                    number(other and other["area"], 2),
                    number(curve["least"], 3, signed=True),
                    str(len(curve["falls"])),
                    f"{curve['flips'][0]} of {each['queries']}",
                ]


def _gains(made: Result) -> Iterator[Row]:
    for order in _orders(made):
        for mode, curve in made["curves"][order]["modes"].items():
            gains = curve["gains"] or [None] * len(SHARES)
            yield [mode, order, *(number(gain, 2) for gain in gains)]


def _recalls(made: Result) -> Iterator[Row]:
    for order in _orders(made):
        split = made["curves"][order]["recall_of"]
        pairs = zip(split["backfilled"], split["others"], strict=True)
        yield [order, *(f"{number(a, 2) or '–'} / {number(b, 2) or '–'}" for a, b in pairs)]


def _steps(made: Result) -> Iterator[Row]:
    for step in made["steps"]:
        yield [
            step["step"],
            step["kind"],
            ", ".join(f"{name} {value:g}" for name, value in step["settings"].items()),
            step["calibration"],
            number(step["found"], 3),
            number(step["value"], 3),
            number(step["gain"], 2),
            number(step["unseen_gain"], 2),
            f"{step['low']:+.3f} to {step['high']:+.3f}",
            "yes" if step["chosen"] else "",
        ]


def _calibrations(made: Result) -> Iterator[Row]:
    for name, values in made["calibrations"].items():
        yield [name, *(number(value, 3) for value in values)]


def _both(made: Result) -> Iterator[Row]:
    if made.get("both"):
        yield [number(value, 3) for value in (made["old_old"], *made["both"])]


_DETAILS: list[tuple[str, list[str], Callable[[Result], Iterator[Row]]]] = [
    ("Gains over backfill", ["mode", "order", *_SHARES], _gains),
    (
        "Recall@10 of relevant documents with their new vectors / without",
        ["order", *_SHARES],
        _recalls,
    ),
    (
        "Maps, the best of each kind",
        ["step", "kind", "settings", "calibration", "found", "M(new,old)", "gain",
         "gain, every row unseen", "M(new,old) - M(old,old), 95 %", "chosen"],
        _steps,
    ),
    (
        "Calibrations: nDCG@10 over backfill in predicted order",
        ["calibration", *_SHARES],
        _calibrations,
    ),
    (
        "Both encoders encode queries, no map: nDCG@10 over backfill in a random order",
        ["old/old", *_SHARES],
        _both,
    ),
]  # fmt: skip


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, help="a folder of results, or a file that keeps them")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="where to draw a plot to")
    parser.add_argument("--from", dest="old", metavar="ENCODER", help="the old encoder of the plot")


def _measure(given: argparse.Namespace) -> dict[str, Any]:
    """Pack a folder of results, and draw; nothing is measured."""
    results = load(given.results) if given.results.is_dir() else read(given.results)["results"]
    if given.old is not None:
        results = [each for each in results if _plain(each["old"]["name"]) == given.old]
    if not results:
        raise InputError(f"{given.results}: has no results of such an upgrade")
    if given.plot is not None:
        write_text(plot(results), given.plot)
    newest = max((each["environment"] for each in results), key=lambda each: str(each["time"]))
    return {"environment": newest, "results": results}


STUDY = Study("upgrades.report", __doc__, _arguments, _measure, tables)

if __name__ == "__main__":
    STUDY.main()
