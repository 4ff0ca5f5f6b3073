"""The frame of a study: a module with arguments, what it measures, and the tables of its result.

A study ends with

    STUDY = Study("studies.cold_start", __doc__, arguments, measure, tables)

    if __name__ == "__main__":
        STUDY.main()

and is run as `python -m retr.benchmarks.studies.cold_start`. `--out FILE` keeps the result, which
says what it was measured with; `--show FILE` prints the tables of one that was kept, and
`python -m retr.benchmarks.study FILE...` those of any.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..retrieval.values.errors import DamagedError, InputError, RetrError
from . import environment
from .files import write_json
from .tables import Table

Result = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Study:
    """A study.

    name:      its module below `retr.benchmarks`, kept in its results.
    about:     what it is; the first paragraph is printed by --help.
    arguments: adds its own arguments to a parser.
    measure:   returns JSON values; the frame adds "study" and, if it is not there, "environment".
               A study that takes long yields what it has so far, and each is kept at once.
    tables:    makes the tables of a result, without measuring anything.
    run:       names a result among those of a study that is run in several ways; None for a study
               with one. Such runs are kept side by side in one file: under "runs", each with its
               environment, and a run takes the place of the one of its name.
    """

    name: str
    about: str
    arguments: Callable[[argparse.ArgumentParser], None]
    measure: Callable[[argparse.Namespace], dict[str, Any] | Iterator[dict[str, Any]]]
    tables: Callable[[Result], Iterable[Table]]
    run: Callable[[Result], str] | None = None

    def main(self, argv: Sequence[str] | None = None) -> None:
        """Measure and print, or print what was kept; end with 2 if something cannot be used."""
        try:
            print(self._run(list(sys.argv[1:] if argv is None else argv)))
        except RetrError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)

    def _run(self, argv: list[str]) -> str:
        program = f"python -m {__package__}.{self.name}"
        # A kept result is shown without the arguments that measuring needs.
        showing = argparse.ArgumentParser(prog=program, add_help=False, allow_abbrev=False)
        showing.add_argument("--show", type=Path, metavar="FILE", help="print a kept result")
        shown, rest = showing.parse_known_args(argv)
        if shown.show is not None:
            return text_of(self, read(shown.show))
        about = self.about.strip().split("\n\n")[0]
        parser = argparse.ArgumentParser(prog=program, description=about, parents=[showing])
        self.arguments(parser)
        parser.add_argument("--out", type=Path, metavar="FILE", help="where to keep the result")
        given = parser.parse_args(rest)
        described = environment.describe()
        found = self.measure(given)
        result: dict[str, Any] = {}
        for each in [found] if isinstance(found, dict) else found:
            described["gpu"] = environment.gpu()
            result = {"study": self.name, "environment": described, **each}
            if given.out is not None:
                write_json(self._kept(result, given.out), given.out)
        return text_of(self, result)

    def _kept(self, result: dict[str, Any], out: Path) -> dict[str, Any]:
        """Return what is written to a file: the result, beside the runs that are there."""
        if self.run is None:
            return result
        runs = read(out)["runs"] if out.exists() else {}
        own = {name: value for name, value in result.items() if name != "study"}
        shared = {name: result[name] for name in ("study", "environment")}
        return {**shared, "runs": {**runs, self.run(result): own}}


def read(path: Path) -> dict[str, Any]:
    """Return a kept result.

    Raises:
        InputError: there is no such file.
        DamagedError: it is no JSON object.
    """
    try:
        result = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DamagedError(f"{path}: is no JSON ({error})") from error
    if not isinstance(result, dict):
        raise DamagedError(f"{path}: holds no result")
    return result


def study_of(result: Result) -> Study:
    """Return the study that a kept result is of.

    Raises:
        InputError: the result names no study.
    """
    name = str(result.get("study"))
    try:
        found: Study = importlib.import_module(f"{__package__}.{name}").STUDY
    except (ImportError, AttributeError):
        raise InputError(f"there is no study {name!r}") from None
    return found


def text_of(study: Study, result: Result) -> str:
    """Return the tables of a result as text, with the machine they were measured on."""
    return _printed(study, result, Table.text)


def markdown_of(study: Study, result: Result) -> str:
    """Return the tables of a result as Markdown, with the machine they were measured on."""
    return _printed(study, result, Table.markdown)


def runs_of(result: Result) -> list[Result]:
    """Return the runs that a kept result holds, each with its environment; most hold one."""
    return list(result.get("runs", {"": result}).values())


def _printed(study: Study, result: Result, form: Callable[[Table], str]) -> str:
    parts = []
    for run in runs_of(result):
        parts += [form(table) for table in study.tables(run)]
        parts.append(environment.line(run["environment"]))
    return "\n\n".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables of kept results."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.study")
    parser.add_argument("file", nargs="+", type=Path, help="a result that a study has kept")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    given = parser.parse_args(argv)
    try:
        for path in given.file:
            result = read(path)
            print((markdown_of if given.markdown else text_of)(study_of(result), result))
    except RetrError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
