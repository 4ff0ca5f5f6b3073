"""The report of `retr bench ann`: derived from what the runs left, without running anything."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

from ...retrieval.store.disk import storage_errors
from ..files import write_json, write_text
from ..page import _STYLE as PAGE_STYLE
from . import text
from .plots import STYLE as PLOT_STYLE
from .plots import legend, plot, plot_file
from .results import Comparison, Dataset, Measure, collect
from .suite import ABOUT

_WORDS = ("system", "setting", "front", "best other", "retr, best spec", "measure", "prefix",
          "vectors", "parameters", "cheapest graph that reaches it")  # fmt: skip


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
    for data in comparison.datasets:
        for measure in Measure:
            path = out / data.about["name"] / f"{measure}.svg"
            with storage_errors(path):
                write_text(plot_file(data, measure), path)
    write_json(comparison.to_dict(), out / "ann.json")
    write_text(text.markdown_of(comparison), out / "report.md")
    write_text(html_of(comparison), out / "report.html")
    return comparison


def html_of(comparison: Comparison) -> str:
    """Return the report as one HTML page that needs nothing else."""
    parts = ["<h1>Nearest neighbours: systems side by side</h1>", _soft(text.HOW)]
    for data in comparison.datasets:
        parts += _dataset(data)
    parts += ["<h2>How each was built</h2>", _table(text.parameters(comparison))]
    parts += ["<h2>Machine and versions</h2>", _table(text.machine(comparison))]
    parts += [
        _soft("Raw results lie in the folders beside this page; this page is derived again with:"),
        "<p><code>retr bench report .</code></p>",
    ]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<title>Nearest neighbours benchmark</title>\n"
        f"<style>{PAGE_STYLE}{PLOT_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _dataset(data: Dataset) -> Iterable[str]:
    yield f"<h2>{escape(text.title_of(data))}</h2>"
    yield _soft(text.origin_of(data))
    for warning in text.flaws(data):
        yield f'<p class="warn">{escape(warning)}</p>'
    yield legend(data.systems)
    for measure in Measure:
        yield f"<figure>{plot(data, measure)}</figure>"
    for heading, note, table in text.sections(data):
        yield f"<h3>{escape(heading)}</h3>"
        if note:
            yield _soft(note)
        yield _table(table)
    yield "<details><summary>Every setting</summary>"
    yield _table(text.settings(data))
    yield "</details>"


def _table(table: text.Table) -> str:
    head, rows = table
    # Numbers stand right; a head without a name belongs to the value before it.
    right = [name not in _WORDS for name in head]
    if not any(head):
        right = [False] * len(head)
    cells = "".join(_cell("th", name, number) for name, number in zip(head, right, strict=True))
    lines = [
        "<tr>"
        + "".join(_cell("td", cell, number) for cell, number in zip(row, right, strict=True))
        + "</tr>"
        for row in rows
    ]
    return (
        f'<div class="scroll"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(tag: str, value: str, number: bool) -> str:
    # A reason is longer than any figure.
    wide = ' class="wide"' if len(value) > 60 else ' class="n"' if number else ""
    return f"<{tag}{wide}>{escape(value)}</{tag}>"


def _soft(words: str) -> str:
    return f'<p class="soft">{escape(words)}</p>'
