"""What an upgrade tells people: what the gate measured, its progress, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from ..retrieval.values.shown import counted, duration, plain
from .options import DEFAULT_INDEX

BAR = 20
_LABEL = 50
"""Columns of a table's labels, as wide as the longest; with the figures a line is below 80."""


def gate_text(report: Mapping[str, Any]) -> str:
    """Return what was measured before an upgrade.

    report: of `Collection.upgrade`.
    """
    return "\n".join(_gate(report))


def _gate(report: Mapping[str, Any]) -> Iterator[str]:
    gate = report["gate"]
    old, new = plain(str(report["from"])), plain(str(report["to"]))
    more = f", {counted(gate['queries'], 'query', 'queries')}" if gate["queries"] else ""
    yield f"{old} → {new}"
    yield (
        f"measured on {counted(gate['pairs'], 'row')} embedded by both encoders{more}; each is "
        "held out of the fit that it tests"
    )
    yield ""
    judged = gate["bridge_quality"]
    if judged is not None:
        yield from _quality(gate)
    else:
        yield "agreement with the new model's own ranking (overlap of the top 10). This is not"
        yield "quality: a worse new model could score just as high."
        rows = (
            ("now, with the old model", gate["old_agreement"]),
            (f"at once, with the bridge ({gate['bridge_kind']})", gate["bridge"]),
            (f"after the map ({gate['forward_kind']})", gate["forward"]),
        )
        for what, measured in rows:
            yield _line(what, measured)
        yield f"  {'after the backfill':<{_LABEL}} 1.000"
    yield ""
    what = "nDCG@10" if judged is not None else "agreement"
    yield f"{what} expected during the backfill, after the map, most useful rows first"
    key = "quality" if judged is not None else "agreement"
    values = [(point["share"], point[key]) for point in gate["curve"]]
    top = max((value for _, value in values), default=0) or 1
    for share, value in values:
        yield f"  {share:>5.0%}  {value:.3f}  {'█' * round(BAR * value / top)}"
    yield ""
    yield verdict(report)
    for note in gate.get("notes", ()):
        yield f"note: {plain(note)}"


def _quality(gate: Mapping[str, Any]) -> Iterator[str]:
    bridge, forward = gate["bridge_quality"], gate["forward_quality"]
    yield (
        f"quality, nDCG@10 of {counted(bridge['queries'], 'judged query', 'judged queries')} over "
        "the sample"
    )
    yield _line("now: M(old,old)", bridge["old_old"])
    for what, kind, found in (
        ("at once, with the bridge", gate["bridge_kind"], bridge),
        ("after the map", gate["forward_kind"], forward),
    ):
        yield _line(f"{what} ({kind}): M(new,old)", found["new_old"])
        gain = "none possible" if found["gain"] is None else f"{found['gain']:.2f}"
        better = {True: "yes", False: "no", None: "unclear"}[found["compatible"]]
        yield (
            f"  {'':<4}update gain {gain}; M(new,old) > M(old,old): {better}; "
            f"{found['flips']} queries worse, {found['better']} better"
        )
    if gate.get("both"):
        yield _line("at once, with both encoders: M(old,old)", bridge["old_old"])
    yield _line("after the backfill: M(new,new)", bridge["new_new"])


def _line(what: str, measured: Mapping[str, Any]) -> str:
    interval = measured["interval"]
    shown = "" if interval is None else f"  [{interval['low']:.3f}, {interval['high']:.3f}]"
    return f"  {what:<{_LABEL}} {measured['mean']:.3f}{shown}"


def verdict(report: Mapping[str, Any]) -> str:
    """Return in one sentence what the measurements say about starting."""
    gate = report["gate"]
    if gate["hopeless"]:
        return (
            "the bridge does no better than one fitted on shuffled pairs: the two models have "
            "nothing in common that a map could use"
        )
    quality = gate["bridge_quality"]
    if quality is not None:
        if quality["new_new"]["mean"] <= quality["old_old"]["mean"]:
            return "the new model is no better than the old one on these queries"
        if quality["compatible"] is False:
            return _worse(gate)
        if quality["compatible"]:
            return "search improves at once, and more with the map and the backfill"
        return "at first search is about as good as now; it improves with the backfill"
    if gate["bridge"]["mean"] > gate["old_agreement"]["mean"]:
        return "rankings move towards the new model's at once, and more with map and backfill"
    return (
        "at first rankings are no closer to the new model's than now; they get closer with the "
        "map and the backfill"
    )


def _worse(gate: Mapping[str, Any]) -> str:
    """Return what to do if the bridge is worse than the old model."""
    if not gate.get("both"):
        return (
            "with the bridge alone search gets worse: also encode queries with the old encoder "
            "(--both) until the old vectors are gone, or build a second collection and switch to "
            "it when it is complete"
        )
    left_out = "; leave out the map, which would make it worse" if _no_map(gate) else ""
    return (
        "a bridge alone would make search worse, so the old encoder also encodes queries until the "
        f"old vectors are gone: search is as good as now, and improves with the backfill{left_out}"
    )


def _no_map(gate: Mapping[str, Any]) -> bool:
    """Return whether the old encoder is used as well and beats the mapped vectors."""
    forward = gate["forward_quality"]
    return bool(gate.get("both") and forward is not None and forward["compatible"] is False)


def started_text(report: Mapping[str, Any], index: str) -> str:
    """Return what to do after an upgrade has started."""
    to, where = plain(str(report["to"])), where_text(index)
    gate = report["gate"]
    also = " and the old encoder" if gate.get("both") else ""
    worse = "not advised: worse than the old encoder"
    said = (
        worse if _no_map(gate) else "map the old vectors without calling an encoder: better at once"
    )
    return (
        f"queries are now encoded by {to}{also}; next, any of:\n"
        f"  retr upgrade map{where}       {said}\n"
        f"  retr upgrade backfill{where}  re-embed rows, the most useful first\n"
        f"  retr upgrade rollback{where}  go back"
    )


def status_text(status: Mapping[str, Any], index: str) -> str:
    """Return how far an upgrade has come."""
    return "\n".join(_status(status, index))


def _status(status: Mapping[str, Any], index: str) -> Iterator[str]:
    where = where_text(index)
    if status["state"] == "none":
        yield f"no upgrade is under way; every vector is from {plain(str(status['to']))}"
        return
    if status["from"] is not None:
        arrow = f"{plain(str(status['from']))} → {plain(str(status['to']))}"
        yield f"{arrow}: {status['state']} (since {status['started']})"
    else:
        yield f"{plain(str(status['to']))}: {status['state']}"
    done = round(BAR * status["share"])
    yield (
        f"  {'█' * done}{'░' * (BAR - done)} {status['share']:.1%} of "
        f"{counted(status['rows'], 'row')} re-embedded"
    )
    yield (
        f"  {status['new']:,} with new vectors, {status['mapped']:,} mapped, "
        f"{status['old']:,} with old vectors only"
    )
    if "now" in status:
        yield f"  {status['measure']}: {status['now']:.3f} now, {status['end']:.3f} at the end"
    if status["seconds_left"] and status["new"] < status["rows"]:
        yield (
            f"  {duration(status['seconds_left'])} of backfill left at "
            f"{status['rows_per_second']:,.0f} rows a second"
        )
    ready = status["new"] == status["rows"]
    yield f"next: retr upgrade {'finish' if ready else 'backfill'}{where}"


def backfill_text(record: Mapping[str, Any], index: str) -> str:
    """Return what a backfill did, and what to do next."""
    rate = record["rows"] / max(record["seconds"], 1e-6)
    line = (
        f"embedded {counted(record['rows'], 'row')} in {duration(record['seconds'])} "
        f"({rate:,.0f} a second, order: {record['order']}); {record['left']:,} left"
    )
    if record["cannot"]:
        id, why = next(iter(record["without"].items()))
        line += (
            f"\n{counted(record['cannot'], 'row')} could not be embedded "
            f"(the first: {plain(id)}: {plain(why)})"
        )
    step = "backfill" if record["left"] - record["cannot"] > 0 else "finish"
    if record["back"] and not record["left"]:
        return f"{line}\nthe rollback is complete"
    return f"{line}\nnext: retr upgrade {step}{where_text(index)}"


def where_text(index: str) -> str:
    """Return the option that names a collection; empty for the default one."""
    return "" if index == DEFAULT_INDEX else f" --index {shlex.quote(plain(index))}"
