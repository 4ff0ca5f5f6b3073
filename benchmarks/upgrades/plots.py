"""The plot of `retr bench upgrades` as SVG: quality over backfill, a panel for each data set.

A panel runs from 0 to 100 % of the rows backfilled. The old model is a dashed line, the new one
the upper one; between them the dense and the hybrid curve, the first point of which is what users
have before a single row outside the sample is embedded anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

_PANEL, _HEIGHT = 250, 232
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 14, 30, 34
_HEAD, _FOOT = 58, 14
_COLOURS = {"dense": "#2f6db3", "hybrid": "#d0273e"}
# Attributes and no style sheet: what shows pictures in other people's pages may drop one.
_FONT = "font-family='Helvetica, Arial, sans-serif'"
_TEXT = f"fill='#5b6470' font-size='11' {_FONT}"
_NAME = f"fill='#1d232b' font-size='13' font-weight='bold' {_FONT}"
_TITLE = f"fill='#1d232b' font-size='14' font-weight='bold' {_FONT}"
_CURVE = "fill='none' stroke-width='2.4' stroke-linejoin='round'"
_END = "stroke-dasharray='4 3' stroke-width='1.2' stroke-opacity='0.75'"


def plot(results: Sequence[Mapping[str, Any]], draw: str = "anywhere") -> str:
    """Return the plot of one pair of encoders over its data sets."""
    width = max(_PANEL * len(results) + 10, 600)
    height = _HEAD + _HEIGHT + _FOOT
    old, new = (_model(results[0][which]["name"]) for which in ("old", "new"))
    title = f"{old} to {new}: nDCG@10 over the share of rows embedded anew"
    parts = [f'<text {_TITLE} x="12" y="22">{escape(title)}</text>']
    parts += _legend()
    for number, result in enumerate(results):
        parts.append(f'<g transform="translate({number * _PANEL + 4} {_HEAD})">')
        parts += _panel(result, draw)
        parts.append("</g>")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="{escape(title)}">'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def _legend() -> Iterator[str]:
    x = 12
    for mode, colour in _COLOURS.items():
        yield f'<line x1="{x}" x2="{x + 20}" y1="40" y2="40" stroke="{colour}" stroke-width="2.4"/>'
        yield f'<text {_TEXT} x="{x + 25}" y="44">{mode}</text>'
        x += 80
    yield f'<line {_END} x1="{x}" x2="{x + 20}" y1="40" y2="40" stroke="#5b6470"/>'
    what = "the old model, and the new one after embedding all"
    yield f'<text {_TEXT} x="{x + 25}" y="44">{what}</text>'


def _panel(result: Mapping[str, Any], draw: str) -> Iterator[str]:
    curves = result["draws"][draw]["curves"]
    order = next(key for key in curves if key != "old_old")
    found, shares = curves[order]["modes"], curves[order]["shares"]
    values = [v for mode, c in found.items() for v in (*c["values"], curves["old_old"][mode])]
    low, high = _ends(min(values), max(values))
    step = _step(high - low)

    def x(share: float) -> float:
        return _LEFT + share * (_PANEL - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    yield f'<text {_NAME} x="{_LEFT}" y="14">{escape(result["dataset"]["name"])}</text>'
    yield (
        f'<text {_TEXT} x="{_PANEL - _RIGHT}" y="14" text-anchor="end">'
        f"{result['draws'][draw]['pairs']:,} of {result['dataset']['documents']:,} as pairs</text>"
    )
    for tick in range(round(low / step), round(high / step) + 1):
        at = y(tick * step)
        yield f'<line stroke="#e6e9ee" x1="{_LEFT}" x2="{x(1)}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield (
            f'<text {_TEXT} x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">'
            f"{tick * step:.2f}</text>"
        )
    for share in (0, 0.25, 0.5, 0.75, 1):
        yield (
            f'<text {_TEXT} x="{x(share):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
            f"{share:.0%}</text>"
        )
    for mode, curve in found.items():
        colour = _COLOURS[mode]
        for end in (curves["old_old"][mode], curve["values"][-1]):
            yield (
                f'<line {_END} x1="{_LEFT}" x2="{x(1)}" y1="{y(end):.1f}" '
                f'y2="{y(end):.1f}" stroke="{colour}"/>'
            )
        points = [(x(s), y(v)) for s, v in zip(shares, curve["values"], strict=True)]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        base = y(curves["old_old"][mode])
        yield (
            f'<polygon fill="{colour}" fill-opacity="0.10" '
            f'points="{points[0][0]:.1f},{base:.1f} {line} '
            f'{points[-1][0]:.1f},{base:.1f}"/>'
        )
        yield f'<polyline {_CURVE} stroke="{colour}" points="{line}"/>'
        for (a, b), value in zip(points, curve["values"], strict=True):
            yield (
                f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.8" fill="{colour}"><title>{mode}: '
                f"{value:.4f}</title></circle>"
            )


def _model(name: str) -> str:
    if name.startswith("functions:lsa-"):
        return "LSA"
    family, _, rest = name.partition(":")
    return rest.replace("_", "-").removeprefix("gt-") if family == "st" else name


def _ends(low: float, high: float) -> tuple[float, float]:
    step = _step(high - low)
    return math.floor(low / step) * step, math.ceil(high / step) * step


def _step(extent: float) -> float:
    return next((step for step in (0.01, 0.02, 0.05, 0.1) if extent / step <= 6), 0.2)
