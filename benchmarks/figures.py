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
from functools import cache
from pathlib import Path
from typing import Any

from ..retrieval.values.errors import InputError, RetrError
from .files import write_text
from .study import markdown_of, read, study_of

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_SPAN = re.compile(r"(<!-- =([\w.-]+) -->)(.*?)(<!-- = -->)", re.DOTALL)

_ABOUT = """# Results

What the benchmarks have measured, one file for each study. This page is written from those files by
`python -m retr.benchmarks.figures`; the figures of the README and the docs are, too. How each is
measured: [docs/benchmarks.md](../../docs/benchmarks.md)."""

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


def pages() -> list[Path]:
    """Return the pages that may hold figures."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def results_page() -> str:
    """Return `benchmarks/results/README.md`: the tables of every kept result."""
    parts = [_ABOUT]
    for path in sorted(RESULTS.glob("*.json")):
        result = read(path)
        study = study_of(result)
        about = " ".join(study.about.strip().split("\n\n")[0].split())
        parts.append(f"## {path.stem}\n\n{about} ([{path.name}]({path.name}))")
        parts.append(markdown_of(study, result))
    return "\n\n".join(parts) + "\n"


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
