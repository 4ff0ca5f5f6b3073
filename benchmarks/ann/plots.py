"""The plots of `retr bench ann` as SVG: recall against what it costs, a curve for each system.

Recall stands on an axis on which 0.9, 0.99 and 0.999 are equally far apart, for what is left to
miss is what costs. Curves join the settings that no other setting of the system beats in both;
the others are small dots, and what has one setting only is a diamond on top; what is below the axis
is left out. A plot is a file of its own, too, so its colours are in it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from html import escape

from .results import Dataset, Measure, Point, System

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 12, 42
_TICKS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_END = 0.9995  # what finds all stands here
_COLOURS = 10
_TITLES = {
    Measure.CPU: "CPU microseconds of one query (one thread): lower is better",
    Measure.RATE: "queries a second in a batch (all threads): higher is better",
}
STYLE = """
.ann text { fill: var(--soft, #5b6470); font: 11px system-ui, sans-serif; }
.ann .grid { stroke: var(--line, #d9dde3); } .ann .mark { stroke: var(--soft, #5b6470);
  stroke-dasharray: 2 3; } .ann .curve { fill: none; stroke: currentColor; stroke-width: 1.6; }
.ann .ours { stroke-width: 3; } .ann .dot { fill: currentColor; }
.ann .faint { fill: currentColor; opacity: .3; }
.ann .alone { fill: currentColor; stroke: var(--paper, #fff); stroke-width: 1.2; }
.dash { stroke-dasharray: 6 4; }
.p0 { color: #2f6db3; } .p1 { color: #c77a1a; } .p2 { color: #3a9d6a; } .p3 { color: #8a5bb8; }
.p4 { color: #7d6a58; } .p5 { color: #7a7d2a; } .p6 { color: #d0679d; } .p7 { color: #2b9aa8; }
.p8 { color: #6b7480; } .p9 { color: #b0882f; }
.r0 { color: #d0273e; } .r1 { color: #f0603a; } .r2 { color: #a01049; } .r3 { color: #ff8f87; }
"""


def style_of(systems: Sequence[System]) -> dict[str, str]:
    """Return the classes of each system: reds are ours."""
    found = {}
    for prefix, count, ours in (("r", 4, True), ("p", _COLOURS, False)):
        for number, system in enumerate(s for s in systems if s.ours == ours and s.points):
            dash = " dash" if number // count % 2 else ""
            found[system.name] = f"{prefix}{number % count}{dash}"
    return found


def plot(data: Dataset, measure: Measure) -> str:
    """Return one plot as an SVG element."""
    systems = [system for system in data.systems if system.points]
    values = [point.of(measure) for system in systems for point in system.points]
    if not values:
        return ""
    scale = _Scale([value for _, value in values], [recall for recall, _ in values])
    styles = style_of(data.systems)
    parts = list(_axes(scale, measure))
    # Ours last, so that nothing lies on top of them, and single points on top of curves.
    for system in sorted(systems, key=lambda s: (s.ours, len(s.points) == 1)):
        parts += _curve(system, measure, scale, styles[system.name])
    title = f"{data.about['name']}: {_TITLES[measure]}"
    return (
        f'<svg class="ann" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def plot_file(data: Dataset, measure: Measure) -> str:
    """Return the plot as a file of its own, with its legend below."""
    systems = [system for system in data.systems if system.points]
    styles = style_of(data.systems)
    height = _HEIGHT + 18 * math.ceil(len(systems) / 2) + 8
    items = []
    for number, system in enumerate(systems):
        x, y = _LEFT + 330 * (number % 2), _HEIGHT + 14 + 18 * (number // 2)
        items.append(
            f'{_key(system, styles, x, y - 4)}<text x="{x + 28}" y="{y}">'
            f"{escape(system.label)}</text>"
        )
    inner = plot(data, measure).partition(">")[2].removesuffix("</svg>")
    return (
        f'<svg class="ann" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}"><style>{_plain(STYLE)}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>{inner}{"".join(items)}</svg>\n'
    )


def _plain(style: str) -> str:
    """Return the style with the colours of paper, for what shows an SVG but knows no variables."""
    return re.sub(r"var\(--\w+, (#\w+)\)", r"\1", style)


def legend(systems: Sequence[System]) -> str:
    """Return the legend as HTML."""
    styles = style_of(systems)
    items = "".join(
        f'<span class="key"><svg class="ann" width="26" height="12">{_key(system, styles, 2, 6)}'
        f"</svg> {escape(system.label)}</span>"
        for system in systems
        if system.points
    )
    return f'<p class="legend">{items}</p>'


class _Scale:
    """Where a recall and a value stand."""

    def __init__(self, values: Sequence[float], recalls: Sequence[float]) -> None:
        self.low = math.floor(math.log10(min(values)) * 4) / 4
        self.high = max(math.ceil(math.log10(max(values)) * 4) / 4, self.low + 0.25)
        lowest = min(recalls)
        self.first = max((tick for tick in _TICKS[:4] if tick <= lowest), default=_TICKS[0])

    def x(self, recall: float) -> float:
        shown = min(max(recall, self.first), _END)
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (_nines(shown) - _nines(self.first)) / (
            _nines(_END) - _nines(self.first)
        )

    def y(self, value: float) -> float:
        height = _HEIGHT - _TOP - _BOTTOM
        return _TOP + height * (self.high - math.log10(value)) / (self.high - self.low)

    def ticks(self) -> Iterable[float]:
        for power in range(math.floor(self.low), math.ceil(self.high) + 1):
            for step in (1, 2, 5):
                value = step * 10.0**power
                if self.low <= math.log10(value) <= self.high:
                    yield value


def _nines(recall: float) -> float:
    return -math.log10(1 - recall)


def _axes(scale: _Scale, measure: Measure) -> Iterable[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for value in scale.ticks():
        y = scale.y(value)
        yield f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:,g}</text>'
    for recall in (tick for tick in _TICKS if tick >= scale.first):
        x = scale.x(recall)
        name = "mark" if recall in (0.9, 0.95, 0.99) else "grid"
        yield f'<line class="{name}" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{recall:g}</text>'
    yield f'<text x="{_LEFT}" y="{_HEIGHT - 8}">recall: higher is better</text>'
    yield f'<text x="{right}" y="{_HEIGHT - 8}" text-anchor="end">{_TITLES[measure]}</text>'


def _curve(system: System, measure: Measure, scale: _Scale, style: str) -> Iterable[str]:
    shown = [point for point in system.points if point.of(measure)[0] >= scale.first]
    front = [point for point in system.front(measure) if point.of(measure)[0] >= scale.first]
    if len(front) > 1:
        points = " ".join(_place(point, measure, scale) for point in front)
        ours = " ours" if system.ours else ""
        yield f'<polyline class="curve{ours} {style}" points="{points}"/>'
    best = {id(point) for point in front}
    for point in shown:
        x, y = _place(point, measure, scale).split(",")
        if len(system.points) == 1:
            yield _diamond(float(x), float(y), style, _told(system, point, measure))
            continue
        kind, radius = ("dot", 3.6 if system.ours else 2.6) if id(point) in best else ("faint", 2)
        yield (
            f'<circle class="{kind} {style}" cx="{x}" cy="{y}" r="{radius}">'
            f"<title>{_told(system, point, measure)}</title></circle>"
        )


def _told(system: System, point: Point, measure: Measure) -> str:
    recall, value = point.of(measure)
    unit = "µs CPU" if measure is Measure.CPU else "queries a second"
    setting = point.setting or "as it is"
    return escape(f"{system.label}: {setting}; {recall:.4f}, {value:,.0f} {unit}")


def _diamond(x: float, y: float, style: str, told: str = "") -> str:
    title = f"<title>{told}</title>" if told else ""
    return f'<path class="alone {style}" d="M{x:.1f} {y - 6:.1f}l6 6-6 6-6-6z">{title}</path>'


def _key(system: System, styles: dict[str, str], x: int, y: int) -> str:
    """Return what stands for a system in a legend, 22 wide."""
    if len(system.points) == 1:
        return _diamond(x + 11, y, styles[system.name])
    return (
        f'<line class="curve {_classes(system, styles)}" x1="{x}" x2="{x + 22}" y1="{y}" y2="{y}"/>'
    )


def _place(point: Point, measure: Measure, scale: _Scale) -> str:
    recall, value = point.of(measure)
    return f"{scale.x(recall):.1f},{scale.y(value):.1f}"


def _classes(system: System, styles: dict[str, str]) -> str:
    return styles[system.name] + (" ours" if system.ours else "")
