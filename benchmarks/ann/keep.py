"""Keep what `retr bench ann` measured in one file, and print its tables from it.

    python -m retr.benchmarks.ann.keep OUT --out FILE   # OUT is what `retr bench ann --out` filled
    python -m retr.benchmarks.ann.keep --show FILE

The file has every figure that was measured, in every round, and the recall that was derived from
the rows answered; the rows themselves stay in OUT.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..study import Result, Study
from ..tables import Table
from . import text
from .gather import gather
from .results import derive


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder."""
    parser.add_argument("results", type=Path, metavar="OUT", help="a folder of `retr bench ann`")


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Return what lies in the folder; its environment is that of the newest build."""
    return gather(given.results)


def tables(result: Result) -> Iterable[Table]:
    """Yield the tables of each base, all settings last, and what was built how."""
    comparison = derive(result)
    kept = {(d["about"]["name"], s["system"]) for d in result["datasets"] for s in d["systems"]
            if s["neighbours"]}  # fmt: skip
    for data in comparison.datasets:
        about = [text.origin_of(data), *text.flaws(data)]
        others = [s.name for s in data.systems if (data.about["name"], s.name) not in kept]
        if others:
            about.append(f"Recall as it was when measured, rows not kept: {', '.join(others)}.")
        for table in (*text.main_tables(data), text.settings(data)):
            yield replace(table, title=f"{text.title_of(data)}: {table.title}",
                          notes=[*table.notes, *about])  # fmt: skip
            about = []
    yield text.parameters(comparison)
    yield text.machine(comparison)


STUDY = Study("ann.keep", __doc__, arguments, measure, tables)

if __name__ == "__main__":
    STUDY.main()
