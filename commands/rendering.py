"""What the command line says to people: tables of hits, reports, what a collection holds."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..retrieval.values.shown import one_line, plain, score_text, shorter_path
from .console import json_line, put, say, write

if TYPE_CHECKING:
    from rich.text import Text

    from ..retrieval.results.results import Results
    from ..retrieval.values.report import IngestReport
    from ..retrieval.values.types import Explanation, Hit
    from .runs import RunReport
    from .thumbnails import Protocol

SKIPS_SHOWN = 10
TOKENS_SHOWN = 8
# Of the columns that texts have: below the one a snippet takes three lines and from there on two;
# lines wider than the other are tiring to read.
_NARROW = 88
_WIDEST = 120


def print_results(
    answers: Iterable[Results],
    total: int,
    *,
    table: bool,
    quiet: bool,
    passages: bool = False,
    thumbnails: Protocol | None = None,
) -> None:
    """Print the hits of each query as they come, and below a table how many and how fast.

    total: the number of rows that were searched.
    table: print tables, else JSON lines.
    quiet: print nothing but hits.
    passages: the rows are passages of documents.
    thumbnails: how the terminal shows pictures, None for none.
    """
    queries, hits, seconds = 0, 0, 0.0
    waiting = iter(answers)
    while True:
        start = time.perf_counter()
        results = next(waiting, None)
        seconds += time.perf_counter() - start
        if results is None:
            break
        queries += 1
        hits += len(results)
        if table:
            print_hits(results, thumbnails)
        else:
            for record in hit_records(results):
                write(json_line(record))
    if quiet:
        return
    if not hits:
        say("no hits")
    elif table:
        asked = "" if queries == 1 else f"{counted(queries, 'query', 'queries')}, "
        rows = "passages" if passages else "documents"
        write(f"{asked}{hits:,} of {total:,} {rows} in {duration(seconds)}")


def write_gallery(answers: Iterable[Results], out: str, quiet: bool) -> None:
    """Write the hits as a page, and say where it is."""
    from .pages import write_page

    results = list(answers)
    write_page(results, out)
    if not quiet and out != "-":
        hits = sum(len(each) for each in results)
        say(f"{plain(out)}: {counted(hits, 'hit')}; open it in a browser")


def choose_thumbnails(wanted: bool | None, table: bool) -> Protocol | None:
    """Return how to show pictures among the hits; none where they are not shown as a table."""
    if not table or wanted is False:
        return None
    from .thumbnails import choose

    return choose(wanted)


def hit_records(results: Results) -> Iterator[dict[str, Any]]:
    """Yield a dict a hit: the query's id where it has one, the rank, and what `Hit.to_dict` has."""
    named = {} if results.query.id is None else {"query": results.query.id}
    for rank, hit in enumerate(results, start=1):
        yield {**named, "rank": rank, **hit.to_dict()}


def print_hits(results: Results, thumbnails: Protocol | None = None) -> None:
    """Print the hits as a table as wide as the terminal, the words of the query in bold."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    encoding = console.encoding
    query = results.query.text or ""
    if results.query.id is not None:
        console.print(Text(plain(f"{results.query.id}  {query}", encoding), "bold"))
    scores = [score_text(hit.score) for hit in results]
    left = (len(str(len(results))), max(map(len, scores), default=0))
    indent = sum(left) + 4
    width = min(max(console.width - indent, 20), _WIDEST)
    for rank, (hit, score) in enumerate(zip(results, scores, strict=True), start=1):
        lines = [*_heading(hit, encoding).wrap(console, width)]
        if hit.text:
            room = (3 if width < _NARROW else 2) * width
            lines += _marked(hit.text, query, room, encoding).wrap(console, width)
        if hit.why is not None:
            lines += Text(plain(why_text(hit.why), encoding), "dim").wrap(console, width)
        first = f"{rank:>{left[0]}}  {score:>{left[1]}}  "
        for number, line in enumerate(lines):
            line.rstrip()
            console.print(Text(" " * indent if number else first) + line, soft_wrap=True)
        if thumbnails is not None and hit.image is not None:
            from .thumbnails import picture

            put(picture(hit.image, thumbnails, width, indent) or "")


def why_text(why: Explanation) -> str:
    """Return the scores behind the score and the words that match, in one line."""
    dense = "dense" if why.by is None else why.by
    named = (("first", why.first), (dense, why.dense), ("words", why.lexical))
    scores = ", ".join(f"{name} {score_text(score)}" for name, score in named if score is not None)
    words = (*why.words, *why.tokens[:TOKENS_SHOWN])
    return f"{scores}: {', '.join(words)}" if words else scores


def where(hit: Hit) -> str:
    """Return how to find a hit: its id, and its path where the id does not say it."""
    if hit.uri is None:
        return hit.id
    path = shorter_path(hit.uri)
    if hit.uri == hit.id or hit.uri.endswith("/" + hit.id):
        return path
    return f"{hit.id}  {path}"


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
    "chunk": "the mean of their windows taken",
    "chunk-max": "the maximum of their windows taken",
    "stretch": "cut all the same",
}


def skips_lines(report: IngestReport, *, listed: bool) -> Iterator[str]:
    """Yield lines on what was skipped or cut; `listed` where each skip was named already."""
    if report.long_texts:
        what = _LONG_TEXTS.get(report.long_text, report.long_text)
        yield f"longer than the encoder reads: {report.long_texts:,} texts, {what}"
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
        ("deleted", f"{info['deleted_rows_stored']:,} rows, gone at the next compact"),
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
    return f"{came}{upgrade['state']}, {upgrade['share']:.1%} turned over; see retr upgrade status"


def _role(segment: Mapping[str, Any]) -> str:
    """Return a segment's role, and for images that it is of those."""
    return f"{segment['role']} images" if segment["modality"] == "image" else segment["role"]


def deleted_text(deleted: int, unknown: int) -> str:
    """Return what a delete did, for people."""
    passed = f"; {counted(unknown, 'id')} not in the collection" if unknown else ""
    return f"deleted {counted(deleted, 'document')}{passed}"


def verify_text(files: int, problems: Sequence[str]) -> str:
    """Return what is wrong, a line each, or that nothing is."""
    if problems:
        return "\n".join(one_line(problem) for problem in problems)
    return f"all well: {counted(files, 'file')}"


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
        f"[{each['low']:.3f}, {each['high']:.3f}], {each['asked']:g} asked for"
        for each in report["indexes"]
    ]
    fusion = report["fusion"]
    if fusion is not None:
        done = "is now" if fusion["changed"] else "stays"
        lines.append(
            f"the weight of vectors {done} {fusion['weight']:g}: on "
            f"{counted(fusion['queries'], 'judged query', 'judged queries')} nDCG@10 was "
            f"{fusion['nDCG@10_before']:.4f}, and {fusion['nDCG@10_held_out']:.4f} with weights "
            "chosen on the others"
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


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun in the right form."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {many or one + 's'}"


def size(count: int) -> str:
    """Return a number of bytes for people, in powers of 1000."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{count} B" if unit == "B" else f"{value:.3g} {unit}"


def duration(seconds: float) -> str:
    """Return a time for people."""
    if seconds < 0.9995:
        return f"{max(seconds * 1000, 1):.0f} ms"
    if seconds < 59.5:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _heading(hit: Hit, encoding: str) -> Text:
    from rich.text import Text

    text = Text()
    text.append(plain(where(hit), encoding), style="cyan")
    if hit.place:
        text.append(f"  {plain(hit.place, encoding)}", style="dim")
    return text


def _marked(text: str, query: str, cells: int, encoding: str) -> Text:
    """Return the part of a text to show, about `cells` wide."""
    from rich.cells import cell_len
    from rich.text import Text

    from ..retrieval.text.highlight import Words, snippet

    sample = text[:2000]
    wide = max(cell_len(plain(sample)) / len(sample), 1.0)
    found = snippet(text, query, max(int(cells / wide) - 8, 20))
    shown = plain(found.text, encoding)
    dots = plain("…", encoding)
    out = Text(dots if found.before else "")
    start = len(out)
    out.append(shown)
    # What was made harmless has another length, so the words are looked for in what is shown.
    for first, last in Words(query).spans(shown):
        out.stylize("bold", start + first, start + last)
    if found.after:
        out.append(dots)
    return out


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
    queries = "your queries" if measured["own_queries"] else "made queries"
    if measured.get("texts"):
        queries = "texts of the collection"
    return (
        f"index {segment['index']}, recall {measured['recall']:.3f} "
        f"[{measured['low']:.3f}, {measured['high']:.3f}] on {measured['queries']:,} {queries}, "
        f"{measured['asked']:g} asked for"
    )


def _options(options: Mapping[str, Any]) -> str:
    return "".join(f", {name.replace('_', ' ')} {value!r}" for name, value in options.items())
