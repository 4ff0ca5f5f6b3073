"""The report of `retr bench ann`, derived from what the runs left without running anything.

    python -m retr.benchmarks.ann.report OUT --out FILE    # keeps all that was measured in one file
    python -m retr.benchmarks.ann.report --show FILE       # prints its tables

OUT is the folder that `retr bench ann --out` filled. FILE has every figure that was measured, in
every round, and the recall that was derived from the rows answered; the rows themselves stay in
OUT.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import page
from ..files import write_json, write_text
from ..page import Block, Figure, Heading, Text
from ..study import Result, Study
from ..tables import Table
from . import text
from .gather import gather
from .plots import plot
from .results import Comparison, Measure, collect, derive
from .suite import ABOUT


def is_comparison(out: Path) -> bool:
    """Return whether a folder holds what `retr bench ann` leaves."""
    return any(out.glob(f"*/{ABOUT}"))


def write(out: Path) -> Comparison:
    """Write ann.json, report.md, report.html and the plots; return what is in them.

    Raises:
        InputError: there are no results.
        DamagedError: a file of them cannot be read.
    """
    comparison = collect(out)
    made = list(blocks(comparison))
    for block in made:
        if isinstance(block, Figure):
            write_text(block.svg, out / block.file)
    write_json(comparison.to_dict(), out / "ann.json")
    write_text(page.markdown_of(made), out / "report.md")
    write_text(page.html_of(made), out / "report.html")
    return comparison


def blocks(comparison: Comparison) -> Iterable[Block]:
    """Yield the whole report."""
    yield Heading("Nearest neighbours: systems side by side", 1)
    yield Text(text.HOW)
    for data in comparison.datasets:
        yield Heading(text.title_of(data))
        yield Text(text.origin_of(data))
        for warning in text.flaws(data):
            yield Text(warning, warning=True)
        for measure in Measure:
            if svg := plot(data, measure):
                yield Figure(svg, f"{data.about['name']}/{measure}.svg", str(measure))
        yield from text.main_tables(data)
        yield text.settings(data)
    yield text.parameters(comparison)
    yield text.machine(comparison)
    yield Text("Raw results lie in the folders beside this page; it is derived again with:")
    yield Text("retr bench report .", code=True)


def text_of(comparison: Comparison) -> str:
    """Return the report's main tables for a terminal."""
    parts: list[Block] = []
    for data in comparison.datasets:
        parts += [Heading(text.title_of(data)), *map(Text, text.flaws(data))]
        parts += text.main_tables(data)
    return page.text_of(parts)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder."""
    parser.add_argument("results", type=Path, metavar="OUT", help="a folder of `retr bench ann`")


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Return what lies in the folder; its environment is that of the newest build."""
    return gather(given.results)


def tables(result: Result) -> Iterable[Table]:
    """Yield the tables of each base, all settings last, and what was built how."""
    comparison = derive(result)
    without = {(found["about"]["name"], each["system"]) for found in result["datasets"]
               for each in found["systems"] if not each["neighbours"]}  # fmt: skip
    for data in comparison.datasets:
        name = data.about["name"]
        notes = [text.origin_of(data), *text.flaws(data)]
        if bare := [system.name for system in data.systems if (name, system.name) in without]:
            notes.append(f"Recall as it was when measured, rows not kept: {', '.join(bare)}.")
        main = [*text.main_tables(data), text.settings(data)]
        main[0] = replace(main[0], notes=[*main[0].notes, *notes])
        yield from (replace(table, title=f"{text.title_of(data)}: {table.title}") for table in main)
    yield text.parameters(comparison)
    yield text.machine(comparison)


STUDY = Study("ann.report", __doc__, arguments, measure, tables)

if __name__ == "__main__":
    STUDY.main()
