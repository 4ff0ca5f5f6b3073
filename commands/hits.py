"""How hits are printed: tables on a terminal, JSON lines elsewhere, a page in a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..retrieval.values.shown import counted, duration, plain, score_text, shorter_path
from .console import json_line, put, say, write

if TYPE_CHECKING:
    from rich.text import Text

    from ..retrieval.results.results import Results
    from ..retrieval.values.types import Explanation, Hit
    from .thumbnails import Protocol


TOKENS_SHOWN = 8
# Width of a snippet in columns: below _NARROW it takes three lines instead of two; lines wider than
# _WIDEST are tiring to read.
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
    """Print the hits of each query as they arrive; below a table, their number and the time.

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
    """Write the hits as a web page, and print its path."""
    from .pages import write_page

    results = list(answers)
    write_page(results, out)
    if not quiet and out != "-":
        hits = sum(len(each) for each in results)
        say(f"{plain(out)}: {counted(hits, 'hit')}; open it in a browser")


def choose_thumbnails(wanted: bool | None, table: bool) -> Protocol | None:
    """Return how to show pictures among the hits; None if the hits are not shown as a table."""
    if not table or wanted is False:
        return None
    from .thumbnails import choose

    return choose(wanted)


def hit_records(results: Results) -> Iterator[dict[str, Any]]:
    """Yield a dict for each hit: the query's id if it has one, the rank, and `Hit.to_dict`."""
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
    """Return how to find a hit: its id, and its path if the id does not end it."""
    if hit.uri is None:
        return hit.id
    path = shorter_path(hit.uri)
    if hit.uri == hit.id or hit.uri.endswith("/" + hit.id):
        return path
    return f"{hit.id}  {path}"


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
