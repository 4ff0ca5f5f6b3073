"""What the command line says to people: tables of hits, reports, what a collection holds."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..retrieval.values.shown import (
    counted,
    duration,
    one_line,
    plain,
    shorter_path,
    size,
)

if TYPE_CHECKING:
    from ..retrieval.values.report import IngestReport
    from .runs import RunReport

SKIPS_SHOWN = 10


def build_record(report: IngestReport, info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was done and what the collection holds now, as one JSON object."""
    from ..retrieval.values.report import describe

    return {"path": info["path"], **describe(report)} | {
        "documents": info["documents"],
        "bytes": info["bytes"],
    }


def build_text(report: IngestReport, info: Mapping[str, Any]) -> str:
    """Return the same for people."""
    documents = ", ".join(
        f"{getattr(report, what):,} {what}"
        for what in ("added", "updated", "unchanged", "deleted")
        if getattr(report, what) or what == "added"
    )
    split = "" if info["rows"] == info["documents"] else f" in {counted(info['rows'], 'passage')}"
    return (
        f"{documents} in {duration(report.seconds)}\n"
        f"{plain(info['path'])}: {counted(info['documents'], 'document')}{split}, "
        f"{size(info['bytes'])}"
    )


_LONG_TEXTS = {
    "cut": "cut, see --long-text",
    "chunk": "averaged over windows",
    "chunk-max": "reduced to the maximum over windows",
    "stretch": "cut even so",
}


def skips_lines(report: IngestReport, *, listed: bool) -> Iterator[str]:
    """Yield lines on what was skipped or cut; `listed` if each was already named."""
    if report.long_texts:
        what = _LONG_TEXTS.get(report.long_text, report.long_text)
        yield f"{counted(report.long_texts, 'text')} longer than the encoder reads: {what}"
    if not report.skipped:
        return
    yield f"skipped: {report.skipped:,}"
    if listed:
        return
    shown = report.skips[:SKIPS_SHOWN]
    for skip in shown:
        yield f"  {one_line(shorter_path(skip.where))}: {one_line(skip.reason)}"
    if report.skipped > len(shown):
        yield f"  and {report.skipped - len(shown):,} more: see them with --verbose"


def info_text(info: Mapping[str, Any]) -> str:
    """Return what `Collection.info` says, for people."""
    settings = ", ".join(_settings(info["settings"]))
    space = info["space"]
    rows = [
        ("documents", f"{info['documents']:,}"),
        ("rows", f"{info['rows']:,}"),
        ("deleted", f"{info['deleted_rows_stored']:,} rows, removed by the next compact"),
        ("size", size(info["bytes"])),
        ("encoder", f"{info['encoder']['name']}{_options(info['encoder'].get('options', {}))}"),
        ("space", f"{space['dim']} dimensions, {space['metric']}, revision {space['revision']}"),
        ("settings", settings),
        ("upgrade", _upgrade(info["upgrade"])),
        ("generation", f"{info['generation']}, {info['created']}, by {info['written_by']}"),
    ]
    if not info["deleted_rows_stored"]:
        rows = [row for row in rows if row[0] != "deleted"]
    lines = [plain(info["path"])]
    lines += [f"  {name:<10}  {plain(value)}" for name, value in rows if value]
    lines.append("  segments")
    for segment in info["segments"]:
        searched = "" if segment["role"] == "documents" else "  " + _searched(segment)
        if info["upgrade"] and segment["role"] == "dense":
            searched += f", of {plain(segment['space'])}"
        lines.append(
            f"    {_role(segment):<12}  {counted(segment['rows'], 'row'):>14}"
            f"  {size(segment['bytes']):>8}{searched}"
        )
    return "\n".join(lines)


def _upgrade(upgrade: Mapping[str, Any] | None) -> str:
    if upgrade is None:
        return ""
    came = f"from {upgrade['from']}, " if upgrade["from"] else ""
    return f"{came}{upgrade['state']}, {upgrade['share']:.1%} re-embedded; see: retr upgrade status"


def _role(segment: Mapping[str, Any]) -> str:
    """Return a segment's role, and whether it holds images."""
    return f"{segment['role']} images" if segment["modality"] == "image" else segment["role"]


def deleted_text(deleted: int, unknown: int) -> str:
    """Return what a delete did, for people."""
    passed = f"; {counted(unknown, 'id')} not in the collection" if unknown else ""
    return f"deleted {counted(deleted, 'document')}{passed}"


def verify_text(files: int, problems: Sequence[str]) -> str:
    """Return a line for each problem, or that there is none."""
    if problems:
        return "\n".join(one_line(problem) for problem in problems)
    return f"no problems: {counted(files, 'file')} checked"


def compact_record(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return what compacting changed, as one JSON object."""
    return {
        "path": after["path"],
        "rows": after["rows"],
        "segments": len(after["segments"]),
        "segments_before": len(before["segments"]),
        "bytes": after["bytes"],
        "bytes_before": before["bytes"],
    }


def compact_text(record: Mapping[str, Any]) -> str:
    """Return the same for people."""
    return (
        f"{counted(record['segments_before'], 'segment')} became {record['segments']:,}, "
        f"{size(record['bytes_before'])} became {size(record['bytes'])}"
    )


def tune_text(report: Mapping[str, Any]) -> str:
    """Return what tuning found, for people."""
    lines = [
        f"{each['index']} over {counted(each['rows'], 'row')}: recall {each['recall']:.3f} "
        f"[{each['low']:.3f}, {each['high']:.3f}], target {each['asked']:g}"
        for each in report["indexes"]
    ]
    fusion = report["fusion"]
    if fusion is not None:
        done = "is now" if fusion["changed"] else "remains"
        lines.append(
            f"the weight of vectors {done} {fusion['weight']:g}: on "
            f"{counted(fusion['queries'], 'judged query', 'judged queries')} nDCG@10 was "
            f"{fusion['nDCG@10_before']:.4f} and is {fusion['nDCG@10_held_out']:.4f}, each query "
            "held out of the choice of its weight"
        )
    return "\n".join(lines)


def vacuum_text(removed: Sequence[str]) -> str:
    """Return what a vacuum removed, for people."""
    return f"removed {counted(len(removed), 'file')}"


def run_text(report: RunReport, out: str) -> str:
    """Return what a run holds, for people."""
    return (
        f"{'stdout' if out == '-' else plain(out)}: {counted(report.queries, 'query', 'queries')}, "
        f"{counted(report.hits, 'hit')} in {duration(report.seconds)}"
    )


def next_command(path: str, default: str) -> str:
    """Return the search to type next; `default` is the collection that needs no --index."""
    where = "" if path == default else f" --index {shlex.quote(plain(path))}"
    return f'retr search "…"{where}'


def _settings(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, value in sorted(settings.items()):
        match name:
            case "lexical":
                yield f"words {value['analyzer']} (k1 {value['k1']}, b {value['b']})"
            case "fusion":
                yield f"fusion {value['weight']:g} dense ({value['fitted']})"
            case _:
                yield f"{name} {value}"


def _searched(segment: Mapping[str, Any]) -> str:
    if segment["role"] in ("lexical", "sparse"):
        return "postings"
    if not segment["index"]:
        return "scanned exactly"
    measured = segment["measured"]
    if not measured:
        return f"index {segment['index']}, exact"
    queries = "of your queries" if measured["own_queries"] else "synthetic queries"
    if measured.get("texts"):
        queries = "texts of the collection"
    return (
        f"index {segment['index']}, recall {measured['recall']:.3f} "
        f"[{measured['low']:.3f}, {measured['high']:.3f}] on {measured['queries']:,} {queries}, "
        f"target {measured['asked']:g}"
    )


def _options(options: Mapping[str, Any]) -> str:
    return "".join(f", {name.replace('_', ' ')} {value!r}" for name, value in options.items())
