"""Recall asked for and recall had, on queries that the tuner never saw.

    python -m retr.benchmarks.studies.recalls --work DIR --out recalls.json [SET ...]

Over each set of `recall_sets.py` an index is chosen, built and set to a recall by `tune`, as
`retr index build --recall` does it, once with queries of the kind that is asked and once without
any. What other queries of that kind find is compared with what was asked for: it is met if it is
at most 0.01 below, and if the tuner said that it is not met, that counts as said.

Sets that --out holds already stay there; each says when and with what it was measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...indexes import IndexSpec
from ...indexes.arrays import ArraySource
from ...indexes.checkpoint import FileCheckpoint
from ...indexes.points import aimed
from ...indexes.scanning import scan
from ...indexes.tuning.curve import K, recalls
from ...indexes.tuning.tune import tune
from ...retrieval.values.errors import InputError
from .. import environment
from ..study import Result, Study, read
from ..tables import Table
from .recall_sets import RecallSet, sets

ASKED = (0.9, 0.95, 0.99)
ALLOWED = 0.01


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sets, the recalls, and where vectors and indexes are kept."""
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(sets())}")
    parser.add_argument("--asked", nargs="+", type=float, default=ASKED, help="recalls")
    parser.add_argument("--work", type=Path, required=True, help="keeps vectors and indexes")


def measure(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield what is known after each set, those of an earlier result included.

    Raises:
        InputError: there is no such set.
    """
    known = sets()
    if wrong := set(given.sets) - set(known):
        raise InputError(f"there is no set {min(wrong)!r}; there are {', '.join(known)}")
    found = read(given.out)["sets"] if given.out and given.out.exists() else {}
    for name in given.sets or known:
        title, make = known[name]
        keep = given.work / name
        keep.mkdir(parents=True, exist_ok=True)
        made = {"environment": environment.describe()}
        one = measured(make(given.work), given.asked, keep)
        found[name] = {"title": title, "margin": aimed(0.0, own=False), **one, **made}
        yield {"sets": found}


def measured(data: RecallSet, asked_for: Sequence[float], keep: Path) -> dict[str, Any]:
    """Return what was asked of a set, what the tuner said, and what other queries found.

    keep: a folder for its indexes, each of which is built once.
    """

    def kept(spec: IndexSpec) -> FileCheckpoint:
        return FileCheckpoint(keep / f"{spec}.faiss")

    source = ArraySource(data.base, data.metric)
    truth = scan(source, data.queries, min(K, len(source)))
    found: dict[str, Any] = {
        "rows": len(source), "dim": source.dim, "metric": str(data.metric),
        "queries": len(data.queries), "given": len(data.given), "asked": [],
    }  # fmt: skip
    for asked in asked_for:
        for queries in (data.given, None):
            begin = time.process_time()
            tuned = tune(source, None, queries, asked, checkpoint=kept)
            spent = time.process_time() - begin
            index = tuned.index
            hits = truth if index is None else index.search(data.queries, K)
            shares = recalls(truth, hits)
            had = {
                "asked": asked,
                "given": queries is not None,
                "spec": "exact" if index is None else str(index.spec),
                "point": None if tuned.chosen is None else tuned.chosen.point.to_json(),
                "measured": round(tuned.recall, 4),
                "low": round(tuned.chosen.low if tuned.chosen else 1.0, 4),
                "high": round(tuned.chosen.high if tuned.chosen else 1.0, 4),
                "said_met": tuned.is_met,
                "recall": round(float(shares.mean()), 4),
                "error": round(float(shares.std() / np.sqrt(len(shares))), 4),
                "cpu_us": None if tuned.chosen is None else round(tuned.chosen.cpu_us, 1),
                "cpu_seconds": round(spent, 1),
            }
            found["asked"].append(had)
    return found


def verdict(had: Result) -> str:
    """Return "met", "said" if the tuner said that it is not met, or "missed"."""
    if had["recall"] >= had["asked"] - ALLOWED:
        return "met"
    return "missed" if had["said_met"] else "said"


def tables(result: Result) -> Iterable[Table]:
    """Yield a table for each set: what was asked for, measured by the tuner, and found."""
    head = ["recall asked for", "queries", "index", "measured", "interval", "found", "±", ""]
    for name, found in result["sets"].items():
        rows = [
            [f"{had['asked']:.2f}", f"{found['given']} given" if had["given"] else "none given",
             had["spec"], f"{had['measured']:.3f}", f"{had['low']:.3f} to {had['high']:.3f}",
             f"{had['recall']:.3f}", f"{had['error']:.3f}", verdict(had)]
            for had in found["asked"]
        ]  # fmt: skip
        title = (
            f"{name}: {found['title']}; {found['rows']:,} x {found['dim']}, {found['metric']}, "
            f"{found['queries']} queries unseen"
        )
        aim = f"Without queries {found['margin']:g} of what may be missed is aimed for."
        yield Table(head, rows, title, [aim, environment.line(found["environment"])])


STUDY = Study("studies.recalls", __doc__, arguments, measure, tables)

if __name__ == "__main__":
    STUDY.main()
