"""The report of `retr bench ann`: derived from what the runs left, without running anything."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .. import page
from ..files import write_json, write_text
from ..page import Block, Figure, Heading, Text
from . import text
from .plots import plot
from .results import Comparison, Dataset, Measure, collect
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
        yield from _dataset(data)
    yield text.parameters(comparison)
    yield text.machine(comparison)
    yield Text("Raw results lie in the folders beside this page; it is derived again with:")
    yield Text("retr bench report .", code=True)


def _dataset(data: Dataset) -> Iterable[Block]:
    yield Heading(text.title_of(data))
    yield Text(text.origin_of(data))
    for warning in text.flaws(data):
        yield Text(warning, warning=True)
    for measure in Measure:
        if svg := plot(data, measure):
            yield Figure(svg, f"{data.about['name']}/{measure}.svg", str(measure))
    yield from text.main_tables(data)
    yield text.settings(data)


def text_of(comparison: Comparison) -> str:
    """Return the report's main tables for a terminal."""
    parts: list[Block] = []
    for data in comparison.datasets:
        parts += [Heading(text.title_of(data)), *map(Text, text.flaws(data))]
        parts += text.main_tables(data)
    return page.text_of(parts)
