"""A table of results: one value, printed for a terminal, as Markdown and as HTML.

Cells are texts; who makes a table chooses the digits. A column is aligned to the right if all its
cells look like numbers, with few words beside them, so that a table needs no alignment of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

# 1,234 / +0.12 / 95% / <0.0001 / 0.81 [0.79, 0.83] / 12 µs (11 to 13) / 3/4/5 / –
_NUMBER = re.compile(r"[<≤~]?[+\-−±]?[\d.]|–|-$|none$|not reached$")
_WORD = re.compile(r"[^\W\d_]{2,}")
_WIDE = 60  # longer cells are wrapped in HTML
_ADDRESS = re.compile(r"https://\S*[^\s.,;:)\]]")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under headings.

    headings: one for each column.
    rows:     the cells, as many in a row as there are headings; "" for nothing.
    title:    what the table shows, printed above it.
    notes:    what a reader has to know, printed below it.
    strong:   the places of the rows that stand out, such as means over others.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    notes: Sequence[str] = ()
    strong: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.headings):
                raise ValueError(f"{len(self.headings)} headings, but a row is {list(row)!r}")

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Whether each column holds numbers; the first, which names the rows, never does."""
        return tuple(
            place > 0
            and any(row[place] for row in self.rows)
            and all(_is_number(row[place]) for row in self.rows if row[place])
            for place in range(len(self.headings))
        )

    def text(self) -> str:
        """Return lines for a terminal: title, headings, rows, notes."""
        lines = [self.headings, *self.rows]
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.headings))]
        shown = [
            "  ".join(
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(line, widths, self.numeric, strict=True)
            ).rstrip()
            for line in lines
        ]
        return "\n".join([*([self.title] if self.title else []), *shown, *self.notes])

    def markdown(self, level: int = 3) -> str:
        """Return the table as Markdown, its title as a heading of this level."""
        marks = " | ".join("---:" if right else "---" for right in self.numeric)
        lines = [_line(self.headings), f"| {marks} |"]
        for place, row in enumerate(self.rows):
            cells = [_escaped(cell) for cell in row]
            if place in self.strong:
                cells = [f"**{cell}**" if cell else "" for cell in cells]
            lines.append("| " + " | ".join(cells) + " |")
        title = [f"{'#' * level} {self.title}"] if self.title else []
        return "\n\n".join([*title, "\n".join(lines), *self.notes])

    def html(self, level: int = 3) -> str:
        """Return the table as HTML; addresses in cells and notes become links."""
        head = self._cells("th", self.headings)
        body = []
        for place, row in enumerate(self.rows):
            strong = ' class="strong"' if place in self.strong else ""
            body.append(f"<tr{strong}>{self._cells('td', row)}</tr>")
        title = f"<h{level}>{escape(self.title)}</h{level}>\n" if self.title else ""
        notes = "".join(f'\n<p class="soft">{linked(note)}</p>' for note in self.notes)
        return (
            f'{title}<div class="scroll"><table><thead><tr>{head}</tr></thead>\n'
            f"<tbody>{chr(10).join(body)}</tbody></table></div>{notes}"
        )

    def _cells(self, tag: str, cells: Sequence[str]) -> str:
        parts = []
        for cell, right in zip(cells, self.numeric, strict=True):
            kind = ' class="n"' if right else ' class="wide"' if len(cell) > _WIDE else ""
            parts.append(f"<{tag}{kind}>{linked(cell)}</{tag}>")
        return "".join(parts)


def number(value: float | None, digits: int = 0, *, signed: bool = False) -> str:
    """Return a number with its thousands apart, "" for None."""
    if value is None:
        return ""
    return f"{value:{'+' if signed else ''},.{digits}f}"


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return the median of some values, and the least and the greatest: "12 (11 to 15)"."""
    from statistics import median

    middle, low, high = (number(v, digits) for v in (median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


def linked(text: str) -> str:
    """Return a text as HTML, its addresses as links."""
    parts, last = [], 0
    for found in _ADDRESS.finditer(text):
        address = escape(found[0])
        parts += [escape(text[last : found.start()]), f'<a href="{address}">{address}</a>']
        last = found.end()
    return "".join([*parts, escape(text[last:])])


def _is_number(cell: str) -> bool:
    return _NUMBER.match(cell) is not None and len(_WORD.findall(cell)) <= 2


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _escaped(cell: str) -> str:
    return " ".join(cell.replace("|", "\\|").split())
