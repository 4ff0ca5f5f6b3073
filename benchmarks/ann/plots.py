"""The plots of `retr bench ann`: recall against what it costs, a curve for each system.

Curves join the settings that no other setting of the system beats in both; the others are faint
dots, and what has one setting only is a diamond. What is below the axis is left out.
"""

from __future__ import annotations

from ..plot import COLOURS, REDS, Axis, Line, Panel, Reference, Scale, draw
from .results import RECALLS, Dataset, Measure, Point, System

_LOWEST = (0.5, 0.7, 0.8, 0.9)  # where the axis of recall may begin
_TITLES = {
    Measure.CPU: "CPU microseconds of one query (one thread): lower is better",
    Measure.RATE: "queries a second in a batch (all threads): higher is better",
}


def plot(data: Dataset, measure: Measure) -> str:
    """Return one plot as SVG, "" if nothing has a recall that is on the axis."""
    systems = [system for system in data.systems if system.points]
    recalls = [point.of(measure)[0] for system in systems for point in system.points]
    first = max((low for low in _LOWEST if low <= min(recalls, default=0)), default=_LOWEST[0])
    if max(recalls, default=0) < first:
        return ""
    lines = []
    for ours in (False, True):
        colours = REDS if ours else COLOURS
        for number, system in enumerate(each for each in systems if each.ours is ours):
            lap, place = divmod(number, len(colours))
            lines.append(_line(system, measure, first, colours[place], dashed=lap % 2 == 1))
    panel = Panel(
        [line for line in lines if line.points],
        Axis("recall: higher is better", Scale.NINES, low=first),
        Axis(_TITLES[measure], Scale.LOG),
        references=[Reference(recall, upright=True, shown=False) for recall in RECALLS],
    )
    return draw([panel], title=f"{data.about['name']}: {measure}", width=720, height=400)


def _line(system: System, measure: Measure, first: float, colour: str, dashed: bool) -> Line:
    front = [point for point in system.front(measure) if point.of(measure)[0] >= first]
    others = [p for p in system.points if p not in front and p.of(measure)[0] >= first]
    return Line(
        system.label,
        [point.of(measure) for point in front],
        [_told(system, point, measure) for point in front],
        loose=[point.of(measure) for point in others],
        colour=colour,
        bold=system.ours,
        dashed=dashed,
    )


def _told(system: System, point: Point, measure: Measure) -> str:
    recall, value = point.of(measure)
    unit = "µs CPU" if measure is Measure.CPU else "queries a second"
    setting = point.setting or "as it is"
    return f"{system.label}: {setting}; {recall:.4f}, {value:,.0f} {unit}"
