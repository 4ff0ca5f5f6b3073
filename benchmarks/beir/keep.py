"""The results of `retr bench beir` as one file, for a repository, and the tables of such a file.

    python -m retr.benchmarks.beir.keep RESULTS --out beir.json
    python -m retr.benchmarks.beir.keep --show beir.json

The file has what the figures of a report are derived from: of each system on each data set the
settings, the environment and a value for each query and measure. Rankings and judgments are not in
it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...retrieval.values.errors import DamagedError
from ..study import Study
from ..tables import Table
from .blocks import page
from .report import derive
from .results import FORMAT, Entry, load_all, parse, plain


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder."""
    parser.add_argument("results", type=Path, help="the --out of retr bench beir")


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Pack an output folder; nothing is run."""
    return pack(load_all(given.results))


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the tables of the report."""
    return [block for block in page(derive(unpack(result))) if isinstance(block, Table)]


def pack(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return entries as one JSON value.

    {"environment": of the newest entry, "format", "environments": each once, "queries": data set ->
    ids of its queries, "entries": DATASET/SYSTEM -> what entry.json holds, with the place of its
    environment, and "per_query": measure -> values in the order of the queries}
    """
    environments: list[Mapping[str, Any]] = []
    queries: dict[str, list[str]] = {}
    packed: dict[str, Any] = {}
    for entry in entries:
        if entry.environment not in environments:
            environments.append(entry.environment)
        values = entry.values()
        # Runs of other lengths (--limit) have queries of their own.
        ids = queries.setdefault(_queries_of(entry), list(next(iter(values.values()))))
        packed[entry.path] = {
            **plain(entry),
            "environment": environments.index(entry.environment),
            "per_query": {
                name: [_short(by_query[id]) for id in ids] for name, by_query in values.items()
            },
        }
    return {
        "environment": max(environments, key=lambda each: str(each["time"])),
        "format": FORMAT,
        "environments": environments,
        "queries": queries,
        "entries": packed,
    }


def unpack(result: Mapping[str, Any]) -> Iterable[Entry]:
    """Yield the entries that were packed.

    Raises:
        DamagedError: one of them is not as `pack` makes it.
    """
    for path, packed in result["entries"].items():
        environment = result["environments"][packed["environment"]]
        known = {**packed, "format": result["format"], "environment": environment}
        entry = parse(known, Path(path))
        if entry is None:
            raise DamagedError(f"{path}: is not as retr writes it")
        ids = result["queries"][_queries_of(entry)]
        yield replace(
            entry,
            per_query={
                name: dict(zip(ids, map(float, values), strict=True))
                for name, values in packed["per_query"].items()
            },
        )


def _queries_of(entry: Entry) -> str:
    limit = "" if entry.limit is None else f", the first {entry.limit}"
    return f"{entry.folder.parent.name}{limit}"


def _short(value: float) -> float:
    """Return the same value, as an integer if it is one."""
    return int(value) if value == int(value) else value


STUDY = Study("beir.keep", __doc__, arguments, measure, tables)

if __name__ == "__main__":
    STUDY.main()
