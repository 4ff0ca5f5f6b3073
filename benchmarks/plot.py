"""Plots as SVG: curves in panels, and bars with intervals.

`draw` and `draw_bars` return one element that is a file of its own or part of a page, as it is. Its
colours are attributes, so that they show even if a style sheet is dropped; a style in it turns
paper and ink over if the reader's screen is dark. The colours of curves are legible on both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from .axes import Axis, Placing, Scale

__all__ = [
    "COLOURS",
    "REDS",
    "Axis",
    "Bar",
    "Bars",
    "Line",
    "Panel",
    "Reference",
    "Scale",
    "draw",
    "draw_bars",
]

COLOURS = ("#2f7fd1", "#d97b1f", "#2f9e68", "#9a63cf", "#978038", "#1f9aab", "#cc5f9c", "#78808c")
# For what stands out among others: our own system beside its peers.
REDS = ("#dc3a4e", "#f0703f", "#b8406c", "#f08f87")

_INK, _SOFT, _GRID, _PAPER = "#1c1f24", "#5b6470", "#dfe3e8", "#ffffff"
_STYLE = (
    "@media (prefers-color-scheme: dark) { .ink { fill: #e6e9ed } .soft { fill: #9aa4b0 } "
    ".grid { stroke: #353b43 } .mark { stroke: #9aa4b0 } .paper { fill: #16191d } "
    ".ring { stroke: #16191d } .rod { stroke: #e6e9ed } }"
)
_FONT = "Helvetica, Arial, sans-serif"
_SIZE = 11
_CHARACTER = 6.0  # the width of one at that size, about

_PLAIN = Axis()
_Box = tuple[float, float, float, float]  # left, right, top, bottom of where the curves are


@dataclass(frozen=True, slots=True)
class Line:
    """A curve; one with a single point is a diamond.

    label:  in the legend; lines of one label have one colour in all panels.
    points: (x, y), joined in this order.
    titles: what is told of each point under the mouse.
    band:   (low, high) of y for each point, drawn as an area.
    base:   the area between the curve and this y is tinted; None leaves it clear.
    loose:  (x, y) of points off the curve, drawn faintly.
    colour: an HTML colour; "" takes the next of `COLOURS`.
    """

    label: str
    points: Sequence[tuple[float, float]]
    titles: Sequence[str] = ()
    band: Sequence[tuple[float, float]] = ()
    base: float | None = None
    loose: Sequence[tuple[float, float]] = ()
    colour: str = ""
    bold: bool = False
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """A dashed line across a panel, at a y, or at an x if `upright`.

    label: written at its right end; of the colour of the line of that label, if there is one.
    shown: whether the label is written.
    """

    at: float
    label: str = ""
    upright: bool = False
    shown: bool = True


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves over two axes; the note stands at the right of the title."""

    lines: Sequence[Line]
    x: Axis = _PLAIN
    y: Axis = _PLAIN
    title: str = ""
    note: str = ""
    references: Sequence[Reference] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar with its interval; `marks` are (value, what it is), drawn as diamonds."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    marks: Sequence[tuple[float, str]] = ()
    text: str = ""  # at the right; the value if not given


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars under a title; bars of one label have one colour in all groups."""

    title: str
    bars: Sequence[Bar]


def draw(
    panels: Sequence[Panel],
    *,
    title: str = "",
    width: float = 340,
    height: float = 240,
    columns: int = 3,
    legend: bool = True,
) -> str:
    """Return panels as an SVG element.

    width, height: of a panel, in pixels.
    columns:       how many stand side by side.
    legend:        one above them, of the labels of all lines.
    """
    columns = max(1, min(columns, len(panels)))
    colours = _colours([(line.label, line.colour) for panel in panels for line in panel.lines])
    styles = {line.label: line for panel in reversed(panels) for line in panel.lines}
    whole = width * columns
    parts, top = _head(title, [styles[each] for each in colours] if legend else [], colours, whole)
    for place, panel in enumerate(panels):
        x, y = width * (place % columns), top + height * (place // columns)
        drawn = "".join(_panel(panel, width, height, colours))
        parts.append(f'<g transform="translate({x:g} {y:g})">{drawn}</g>')
    rows = math.ceil(len(panels) / columns)
    told = [title or "; ".join(panel.title for panel in panels), *map(_told, panels)]
    return _svg(whole, top + height * rows, ". ".join(told), parts)


def draw_bars(
    groups: Sequence[Bars], *, title: str = "", mark: str = "", width: float = 720
) -> str:
    """Return groups of bars as an SVG element; `mark` says in the legend what a diamond is."""
    left, right, row = 190.0, 150.0, 20.0
    bars = [bar for group in groups for bar in group.bars]
    values = [v for b in bars for v in (b.value, b.high or b.value, *(m for m, _ in b.marks))]
    axis = Axis(low=0.0)
    scale = Placing(axis, values or [1.0], left, width - right)
    colours = _colours([(bar.label, "") for bar in bars])
    parts = [_label(12, 20, title, weight="bold", size=14, kind="ink")] if title else []
    y = 30.0 if title else 6.0
    if mark:
        parts += [_diamond(18, y + 9, _INK, mark, "ink ring"), _label(30, y + 13, mark)]
        y += row
    begin = y
    for group in groups:
        parts.append(_label(12, y + 15, group.title, weight="bold", kind="ink"))
        y += row
        for bar in group.bars:
            parts += _bar(bar, scale, y, colours[bar.label], width, left)
            y += row
        y += 6
    grid = []
    for tick in scale.ticks:
        x = scale(tick)
        grid.append(_grid(x, x, begin + row, y))
        grid.append(_label(x, y + 14, scale.text(tick), anchor="middle"))
    told = "; ".join(f"{g.title}, {b.label}: {b.value:.4f}" for g in groups for b in g.bars)
    return _svg(width, y + 22, f"{title}. {told}" if title else told, [*grid, *parts])


def _bar(
    bar: Bar, scale: Placing, y: float, colour: str, width: float, left: float
) -> Iterator[str]:
    told = f"{bar.label}: {bar.value:.4f}"
    yield _label(left - 8, y + 14, bar.label, anchor="end")
    yield (
        f'<rect x="{left:g}" y="{y + 3:g}" width="{max(0.0, scale(bar.value) - left):.1f}" '
        f'height="14" fill="{colour}"><title>{escape(told)}</title></rect>'
    )
    if bar.low is not None and bar.high is not None:
        low, high, middle = scale(bar.low), scale(bar.high), y + 10
        path = f"M{low:.1f} {middle:g}H{high:.1f}M{low:.1f} {middle - 4:g}v8M{high:.1f} "
        path += f"{middle - 4:g}v8"
        # Twice, the wider one in the colour of the paper: the bar below is light or dark.
        yield f'<path class="ring" d="{path}" stroke="{_PAPER}" stroke-width="4"/>'
        yield f'<path class="rod" d="{path}" stroke="{_INK}" stroke-width="1.5"/>'
    for value, name in bar.marks:
        yield _diamond(scale(value), y + 10, _INK, f"{name}: {value:.4f}", "ink ring")
    yield _label(width - 142, y + 14, bar.text or f"{bar.value:.4f}", kind="ink")


def _panel(panel: Panel, width: float, height: float, colours: dict[str, str]) -> Iterator[str]:
    left, right = 68.0 if panel.y.label else 54.0, width - 20
    top, bottom = 26.0, height - (40 if panel.x.label else 24)
    xs, ys = _values(panel)
    x, y = Placing(panel.x, xs, left, right), Placing(panel.y, ys, bottom, top)
    yield _label(left, 16, panel.title, weight="bold", size=13, kind="ink")
    yield _label(right, 16, panel.note, anchor="end")
    box = (left, right, top, bottom)
    yield from _axes(panel, x, y, box)
    for reference in panel.references:
        yield from _reference(reference, x, y, box, colours)
    # A single point lies on top of the curves, and a bold curve on top of others.
    for line in sorted(panel.lines, key=lambda each: (len(each.points) == 1, each.bold)):
        yield from _line(line, x, y, colours[line.label])


def _axes(panel: Panel, x: Placing, y: Placing, box: _Box) -> Iterator[str]:
    left, right, top, bottom = box
    for tick in y.ticks:
        yield _grid(left, right, y(tick), y(tick))
        yield _label(left - 6, y(tick) + 4, y.text(tick), anchor="end")
    last = -math.inf
    for tick in x.ticks:
        yield _grid(x(tick), x(tick), top, bottom)
        text = x.text(tick)
        half = len(text) * _CHARACTER / 2
        if x(tick) - half > last:  # a label that would lie on the one before is left out
            yield _label(x(tick), bottom + 15, text, anchor="middle")
            last = x(tick) + half + 4
    yield _label((left + right) / 2, bottom + 32, panel.x.label, anchor="middle")
    if panel.y.label:
        turned = _label(0, 0, panel.y.label, anchor="middle")
        yield f'<g transform="translate(14 {(top + bottom) / 2:g}) rotate(-90)">{turned}</g>'


def _reference(
    reference: Reference, x: Placing, y: Placing, box: _Box, colours: dict[str, str]
) -> Iterator[str]:
    left, right, top, bottom = box
    at = (x if reference.upright else y)(reference.at)
    ends = (at, at, top, bottom) if reference.upright else (left, right, at, at)
    colour = colours.get(reference.label, _SOFT)
    kind = "" if reference.label in colours else ' class="mark"'
    x1, x2, y1, y2 = (f"{end:.1f}" for end in ends)
    yield (
        f'<line{kind} x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}" stroke="{colour}" '
        f'stroke-width="1.2" stroke-dasharray="4 3"><title>{escape(reference.label)}</title></line>'
    )
    if reference.label and reference.shown:
        place = (at + 4, top + 10, "start") if reference.upright else (right - 2, at - 4, "end")
        yield _label(place[0], place[1], reference.label, anchor=place[2])


def _line(line: Line, x: Placing, y: Placing, colour: str) -> Iterator[str]:
    places = [(x(a), y(b)) for a, b in line.points]
    titles = line.titles or [f"{line.label}: {x.text(a)}, {b:.4g}" for a, b in line.points]
    for a, b in line.loose:
        yield f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="2" fill="{colour}" opacity=".35"/>'
    if len(places) == 1:
        (a, b), told = places[0], titles[0]
        if line.band:
            low, high = (y(end) for end in line.band[0])
            yield f'<path d="M{a:.1f} {low:.1f}V{high:.1f}" stroke="{colour}" stroke-width="1.5"/>'
        yield _diamond(a, b, colour, told, "ring")
        return
    joined = _joined(places)
    area = list(zip((a for a, _ in places), line.band, strict=True)) if line.band else []
    if area:
        edge = [(a, y(high)) for a, (_, high) in area]
        edge += [(a, y(low)) for a, (low, _) in reversed(area)]
        yield f'<polygon points="{_joined(edge)}" fill="{colour}" opacity=".16"/>'
    if line.base is not None and places:
        edge = [(places[0][0], y(line.base)), *places, (places[-1][0], y(line.base))]
        yield f'<polygon points="{_joined(edge)}" fill="{colour}" opacity=".12"/>'
    dashes = ' stroke-dasharray="6 4"' if line.dashed else ""
    yield (
        f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-linejoin="round" '
        f'stroke-width="{2.8 if line.bold else 1.8}"{dashes}/>'
    )
    for (a, b), told in zip(places, titles, strict=True):
        yield (
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{3.4 if line.bold else 2.6}" fill="{colour}">'
            f"<title>{escape(told)}</title></circle>"
        )


def _values(panel: Panel) -> tuple[list[float], list[float]]:
    points = [p for line in panel.lines for p in (*line.points, *line.loose)]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    ys += [end for line in panel.lines for ends in line.band for end in ends]
    for reference in panel.references:
        (xs if reference.upright else ys).append(reference.at)
    return xs or [0.0, 1.0], ys or [0.0, 1.0]


def _colours(labels: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the colour of each label, in their order."""
    found: dict[str, str] = {}
    unnamed = 0
    for label, colour in labels:
        if label not in found:
            found[label] = colour or COLOURS[unnamed % len(COLOURS)]
            unnamed += not colour
    return found


def _head(
    title: str, lines: Sequence[Line], colours: dict[str, str], width: float
) -> tuple[list[str], float]:
    """Return title and legend, and where what is below them begins."""
    parts = [_label(12, 20, title, weight="bold", size=14, kind="ink")] if title else []
    x, y = 12.0, 42.0 if title else 18.0
    if not lines:
        return parts, y - 14
    for line in lines:
        length = 48 + len(line.label) * _CHARACTER
        if x > 12 and x + length > width:
            x, y = 12.0, y + 18
        colour = colours[line.label]
        if len(line.points) == 1:
            parts.append(_diamond(x + 10, y - 4, colour, "", "ring"))
        else:
            dashes = ' stroke-dasharray="6 4"' if line.dashed else ""
            parts.append(
                f'<path d="M{x:.1f} {y - 4:g}h20" stroke="{colour}"{dashes} '
                f'stroke-width="{2.8 if line.bold else 1.8}"/>'
            )
        parts.append(_label(x + 26, y, line.label))
        x += length
    return parts, y + 10


def _label(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    weight: str = "normal",
    size: int = _SIZE,
    kind: str = "soft",
) -> str:
    if not text:
        return ""
    fill = _INK if kind == "ink" else _SOFT
    bold = ' font-weight="bold"' if weight == "bold" else ""
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" '
        f'font-size="{size}" font-family="{_FONT}"{bold}>{escape(text)}</text>'
    )


def _grid(x1: float, x2: float, y1: float, y2: float) -> str:
    ends = f'x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"'
    return f'<line class="grid" {ends} stroke="{_GRID}"/>'


def _diamond(x: float, y: float, colour: str, told: str, kind: str) -> str:
    title = f"<title>{escape(told)}</title>" if told else ""
    return (
        f'<path class="{kind}" d="M{x:.1f} {y - 6:.1f}l6 6-6 6-6-6z" fill="{colour}" '
        f'stroke="{_PAPER}" stroke-width="1.2">{title}</path>'
    )


def _joined(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _told(panel: Panel) -> str:
    ends = (f"{line.label} {line.points[-1][1]:.4g}" for line in panel.lines if line.points)
    return f"{panel.title}: {'; '.join(ends)}"


def _svg(width: float, height: float, told: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" aria-label="{escape(told)}">'
        f'<style>{_STYLE}</style><rect class="paper" width="100%" height="100%" fill="{_PAPER}"/>'
        f"{''.join(parts)}</svg>\n"
    )
