"""The plots of a report as inline SVG: bars with intervals, curves of recall.

Bars place everything by percent and texts by pixels, so they stay sharp and legible at any width.
Colours are classes (`s0`, `s1`, …) that the page's style sheet gives for light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from .datasets import Group
from .published import MEASURE
from .values import FORUMS_NAME, Mean, Report, Row

COLOURS = 6

# The box of a curve, and the plot's area inside.
_WIDTH, _HEIGHT = 340, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 10, 10, 26


@dataclass(frozen=True, slots=True)
class Series:
    """A system under a configuration: one colour, one entry of the legend."""

    configuration: str
    system: str
    label: str
    number: int
    indexed: bool

    @property
    def style(self) -> str:
        """The classes of its colour and dashes: where a curve lies on the exact one, both show."""
        return f"s{self.number % COLOURS}{' dashed' if self.indexed else ''}"


def series_of(report: Report) -> dict[tuple[str, str], Series]:
    """Return the series of a report by configuration and system."""
    several = report.several
    found: dict[tuple[str, str], Series] = {}
    for row in report.rows:
        key = (row.configuration, row.system)
        if key not in found:
            label = f"{row.configuration}: {row.system}" if several else row.system
            found[key] = Series(*key, label, len(found), row.spec is not None)
    return found


def legend(series: Iterable[Series], *, published: bool) -> str:
    """Return the legend as HTML."""
    items = [
        f'<span class="key"><i class="{each.style}"></i>{escape(each.label)}</span>'
        for each in series
    ]
    if published:
        items.append('<span class="key"><i class="diamond"></i>published, same system</span>')
    return f'<p class="legend">{" ".join(items)}</p>'


def plotted(report: Report) -> dict[str, list[Row]]:
    """Return the rows to plot by data set; the forums of CQADupStack by their mean, if there."""
    whole = any(row.dataset == FORUMS_NAME for row in report.rows)
    found: dict[str, list[Row]] = {}
    for row in report.rows:
        forum = row.group == Group.CQADUPSTACK and row.dataset != FORUMS_NAME
        if not (forum and whole):
            found.setdefault(row.dataset, []).append(row)
    return found


def bars(report: Report, series: Mapping[tuple[str, str], Series]) -> str:
    """Return a bar for each data set and system, with its interval and the published figure."""
    groups = plotted(report)
    top = _nice_top(
        value
        for rows in groups.values()
        for row in rows
        for value in (
            row.figures[MEASURE].high or row.figures[MEASURE].value,
            *(beside.value for beside in row.published),
        )
    )
    parts = ['<div class="bars">', _axis(top)]
    for name, rows in groups.items():
        parts.append(f'<div class="group"><h3>{escape(name)}</h3>')
        parts += [_bar(row, series[row.configuration, row.system], top) for row in rows]
        parts.append("</div>")
    for name in dict.fromkeys(mean.name for mean in report.means):
        over = next(mean.over for mean in report.means if mean.name == name)
        parts.append(
            f'<div class="group mean"><h3>{escape(name)}</h3>'
            f"<p><small>{escape(', '.join(over))}</small></p>"
        )
        parts += [
            _mean_bar(mean, series[mean.configuration, mean.system], top)
            for mean in report.means
            if mean.name == name
        ]
        parts.append("</div>")
    return "\n".join([*parts, _axis(top), "</div>"])


def curves(report: Report, series: Mapping[tuple[str, str], Series]) -> str:
    """Return recall at k for each data set, k on a logarithmic axis."""
    parts = ['<div class="curves">']
    for name, rows in plotted(report).items():
        lines = [(series[row.configuration, row.system], row.curve) for row in rows]
        lines = [(each, points) for each, points in lines if len(points) > 1]
        if lines:
            parts.append(_curve(name, lines))
    return "\n".join([*parts, "</div>"])


def _bar(row: Row, series: Series, top: float) -> str:
    figure = row.figures[MEASURE]
    shapes = _rect(figure.value, top, series.style)
    text = f"<b>{figure.value:.4f}</b>"
    title = f"{row.dataset}, {series.label}: {MEASURE} {figure.value:.4f}"
    if figure.low is not None and figure.high is not None:
        shapes += _whisker(figure.low, figure.high, top)
        text += f" <small>{figure.low:.3f}–{figure.high:.3f}</small>"
        title += f", 95% interval {figure.low:.4f} to {figure.high:.4f}"
    for beside in row.published:
        shapes += _diamond(beside.value, top, beside.system)
        title += f", {beside.system} published {beside.value:.4f}"
    mark = "†" if row.trained else ""
    return _row_html(series.label + mark, _svg(shapes, title), text)


def _mean_bar(mean: Mean, series: Series, top: float) -> str:
    value = mean.figures[MEASURE].value
    title = f"{mean.name}, {series.label}: {MEASURE} {value:.4f}"
    return _row_html(
        series.label, _svg(_rect(value, top, series.style), title), f"<b>{value:.4f}</b>"
    )


def _row_html(label: str, svg: str, text: str) -> str:
    return (
        f'<div class="bar"><span class="label">{escape(label)}</span>'
        f'{svg}<span class="value">{text}</span></div>'
    )


def _svg(shapes: str, title: str) -> str:
    named = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<svg height="18" role="img" aria-label="{escape(title)}">{named}'
        f'<line class="zero" x1="0" x2="0" y1="0" y2="18"/>{shapes}</svg>'
    )


def _rect(value: float, top: float, style: str) -> str:
    return f'<rect class="fill {style}" x="0" y="3" width="{_percent(value, top)}" height="12"/>'


def _whisker(low: float, high: float, top: float) -> str:
    left, right = _percent(low, top), _percent(high, top)
    ends = "".join(f'<line x1="{x}" x2="{x}" y1="5" y2="13"/>' for x in (left, right))
    lines = f'<line x1="{left}" x2="{right}" y1="9" y2="9"/>{ends}'
    # Twice, the wider one in the colour of the paper: the bar below is light or dark.
    return f'<g class="halo">{lines}</g><g class="whisker">{lines}</g>'


def _diamond(value: float, top: float, system: str) -> str:
    # Nested, so that the shape keeps its pixels wherever the percentage puts it.
    return (
        f'<svg x="{_percent(value, top)}" y="9" overflow="visible" width="1" height="1">'
        f'<path class="diamond" d="M0-8 5 0 0 8-5 0Z"><title>{escape(system)}: {value:.4f}'
        "</title></path></svg>"
    )


def _axis(top: float) -> str:
    step = 0.05 if top <= 0.2 else 0.1 if top <= 0.4 else 0.2
    ticks = [n * step for n in range(round(top / step) + 1)]
    marks = "".join(
        f'<text x="{_percent(t, top)}" y="11" text-anchor="{_anchor(t, top)}">{t:.2g}</text>'
        for t in ticks
    )
    return (
        f'<div class="bar axis" aria-hidden="true"><span class="label">{MEASURE}</span>'
        f'<svg height="14">{marks}</svg><span class="value"></span></div>'
    )


def _anchor(tick: float, top: float) -> str:
    return "start" if tick == 0 else "end" if math.isclose(tick, top) else "middle"


def _percent(value: float, top: float) -> str:
    return f"{100 * max(0.0, min(value / top, 1.0)):.3f}%"


def _nice_top(values: Iterable[float]) -> float:
    """Return the end of an axis: a round number above all values, 1 at most."""
    highest = max(values, default=1.0)
    return next((top for top in (0.2, 0.4, 0.6, 0.8) if highest <= top), 1.0)


def _curve(name: str, lines: Sequence[tuple[Series, Sequence[tuple[int, float]]]]) -> str:
    last = max(points[-1][0] for _, points in lines)
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(cutoff: int) -> float:
        return _LEFT + width * math.log(cutoff) / math.log(last)

    def y(value: float) -> float:
        return _TOP + height * (1 - value)

    parts = []
    for value in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" '
                     f'y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
                     f'<text x="{_LEFT - 5}" y="{y(value) + 4:.1f}" text-anchor="end">'
                     f"{value:g}</text>")  # fmt: skip
    for cutoff in _ticks(last):
        parts.append(f'<text x="{x(cutoff):.1f}" y="{_HEIGHT - 9}" text-anchor="middle">'
                     f"{cutoff}</text>")  # fmt: skip
    for series, points in lines:
        path = " ".join(f"{x(cutoff):.1f},{y(value):.1f}" for cutoff, value in points)
        parts.append(f'<polyline class="stroke {series.style}" points="{path}"/>')
        for cutoff, value in points:
            parts.append(
                f'<circle class="fill {series.style}" cx="{x(cutoff):.1f}" cy="{y(value):.1f}" '
                f'r="3"><title>{escape(series.label)}: R@{cutoff} {value:.4f}</title></circle>'
            )
    described = "; ".join(
        f"{series.label}: R@{points[-1][0]} {points[-1][1]:.4f}" for series, points in lines
    )
    return (
        f'<figure><figcaption>{escape(name)}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'role="img" aria-label="{escape(f"recall at k, {name}; {described}")}">'
        f"{''.join(parts)}</svg></figure>"
    )


def _ticks(last: int) -> list[int]:
    powers = [10**n for n in range(6) if 10**n <= last]
    return powers if powers[-1] * 2 > last else [*powers, last]
