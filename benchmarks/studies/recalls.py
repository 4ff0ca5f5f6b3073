"""Recall asked for and recall had, on queries that the tuner never saw.

    python -m retr.benchmarks.studies.recalls --work DIR --out recalls.json [SET ...]

Over each set of `recall_sets.py` an index is chosen, built and set to a recall as
`retr index build --recall` does it, once with queries of the kind that is asked and once without
any. What is found by other queries of that kind is compared with what was asked for: it is met
where it is at most 0.01 below, and where the tuner said that it is not met, that counts as said.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...indexes import IndexSpec, kind
from ...indexes.arrays import ArraySource
from ...indexes.base import Floats
from ...indexes.points import aimed
from ...indexes.scanning import scan
from ...indexes.tuning.candidates import candidates
from ...indexes.tuning.curve import K, recalls
from ...indexes.tuning.tune import Tuned, measure
from ..environment import describe
from .recall_sets import RecallSet, sets

ASKED = (0.9, 0.95, 0.99)
ALLOWED = 0.01


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print its table; `--out` keeps what was measured as JSON."""
    known = sets()
    parser = argparse.ArgumentParser(prog="python -m retr.benchmarks.studies.recalls")
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(known)}")
    parser.add_argument("--asked", nargs="+", type=float, default=ASKED, help="recalls")
    parser.add_argument("--work", type=Path, required=True, help="keeps vectors and indexes")
    parser.add_argument("--out", type=Path, help="where to keep what was measured; adds to it")
    given = parser.parse_args(arguments)
    given.work.mkdir(parents=True, exist_ok=True)
    wrong = next((name for name in given.sets if name not in known), None)
    if wrong is not None:
        parser.error(f"there is no set {wrong!r}; there are {', '.join(known)}")
    result: dict[str, Any] = {"sets": {}}
    if given.out and given.out.exists():
        result = json.loads(given.out.read_text())
    for name in given.sets or known:
        title, make = known[name]
        keep = given.work / name
        keep.mkdir(exist_ok=True)
        found = measured(make(given.work), given.asked, keep)
        result["sets"][name] = {"title": title, "margin": aimed(0.0, own=False), **found}
        result["environment"] = describe()
        print(table({"sets": {name: result["sets"][name]}}), flush=True)
        if given.out:
            given.out.write_text(json.dumps(result, indent=1) + "\n")


def measured(data: RecallSet, asked_for: Sequence[float], keep: Path) -> dict[str, Any]:
    """Return what was asked of a set, what the tuner said, and what other queries found.

    keep: a folder for its indexes, which are built once.
    """
    source = ArraySource(data.base, data.metric)
    truth = scan(source, data.queries, min(K, len(source)))
    found: dict[str, Any] = {
        "rows": len(source), "dim": source.dim, "metric": str(data.metric),
        "queries": len(data.queries), "given": len(data.given), "asked": [],
    }  # fmt: skip
    for asked in asked_for:
        for queries in (data.given, None):
            begin = time.process_time()
            tuned = _tuned(source, queries, asked, keep)
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


def _tuned(source: ArraySource, queries: Floats | None, recall: float, keep: Path) -> Tuned:
    """Do as `tune`, but build each index once."""
    best: Tuned | None = None
    for spec in candidates(len(source), source.dim, source.metric, recall):
        if spec == IndexSpec("flat"):
            return Tuned(None, (), recall, 0, queries is not None, 0.0, 0.0)
        path = keep / f"{spec}.faiss"
        if not path.exists():
            kind(spec.kind).build(source, spec).save(path)
        tuned = measure(kind(spec.kind).load(path, source, spec), source, queries, recall)
        if best is None or tuned.recall > best.recall:
            best = tuned
        if tuned.is_met:
            return tuned
    assert best is not None  # there is always a candidate
    return best


def verdict(had: dict[str, Any]) -> str:
    """Return "met", "said" where the tuner said that it is not met, or "missed"."""
    if had["recall"] >= had["asked"] - ALLOWED:
        return "met"
    return "missed" if had["said_met"] else "said"


def table(result: dict[str, Any]) -> str:
    """Return a line for each recall asked for: what was measured, and what was found."""
    lines = []
    for name, found in result["sets"].items():
        lines.append(
            f"{name}: {found['title']}; {found['rows']:,} x {found['dim']}, {found['metric']}, "
            f"{found['queries']} queries unseen"
        )
        for had in found["asked"]:
            given = f"{found['given']} given" if had["given"] else "none given"
            lines.append(
                f"  {had['asked']:.2f}  {given:>11}  {had['spec']:<14} measured "
                f"{had['measured']:.3f} [{had['low']:.3f}, {had['high']:.3f}]  found "
                f"{had['recall']:.3f} +- {had['error']:.3f}  {verdict(had)}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
