"""Whether low-rank maps or residual MLPs would serve an upgrade better than what it chooses from.

    python -m retr.benchmarks.upgrades.more_maps FOLDER... --to ENCODER [--from NAME] [--out FILE]

On arrays of a data set by two encoders, with pairs of which none is judged and with pairs from
anywhere: each candidate's `found` on pairs left out, which is what a choice sees, and its update
gain, which is what it cannot see, with every row searched by a fit that has not seen it. Nothing is
calibrated, which changes no ranking among old rows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...retrieval.bridges.maps import similarities
from ...retrieval.encoders.registry import resolve
from ...retrieval.evaluation.measures import text_table
from ...retrieval.upgrade.candidates import BridgeFits, ForwardFits, bridged_scores, mapped_scores
from ...retrieval.upgrade.gate import ndcg
from ...retrieval.values.errors import RetrError
from .. import environment
from ..beir.cache import exact_collection
from ..beir.datasets import cache_folder
from ..beir.folders import prepare_folders
from ..files import write_json
from .bridge_families import Held, MoreBridges, MoreForwards, held_out
from .curves import open_subject
from .remembering import RememberingEncoder
from .steps import Arrays
from .suite import DRAWS

STEPS: dict[str, tuple[tuple[type[Any], ...], Any]] = {
    "bridge": ((BridgeFits, MoreBridges), bridged_scores),
    "forward": ((ForwardFits, MoreForwards), mapped_scores),
}


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate: what a choice sees of it, M(new,old) and the gain, and its processor seconds."""

    step: str
    kind: str
    settings: dict[str, float]
    found: float
    value: float
    gain: float | None
    seconds: float


def tried(data: Arrays, pairs: int, clean: bool, seed: int) -> Iterator[Tried]:
    """Yield every candidate of both steps."""
    rows = data.drawn(pairs, clean, seed)
    sample, whole = data.pairs(rows), data.whole
    assert whole.old_queries is not None and whole.new_queries is not None
    old = float(
        ndcg(similarities(whole.old_queries, whole.old, whole.old_metric), data.gains).mean()
    )
    new = float(
        ndcg(similarities(whole.new_queries, whole.new, whole.new_metric), data.gains).mean()
    )
    for step, (families, score) in STEPS.items():
        for family in families:
            fits, begun = family(sample), time.process_time()
            for each in held_out(sample, family, score, seed):
                scores = score(fits.make(each.kind, each.settings), whole.new_queries, whole)
                value = float(ndcg(_unseen(scores, each, data, rows, score), data.gains).mean())
                gain = (value - old) / (new - old) if new > old else None
                took = time.process_time() - begun
                found = float(each.found.mean())
                yield Tried(step, each.kind, dict(each.settings), found, value, gain, took)
                begun = time.process_time()


def _unseen(scores: Any, each: Held[Any], data: Arrays, rows: Any, score: Any) -> Any:
    """Return the scores with those of the pairs by the fits that have not seen them."""
    for part, held in each.made:
        scores[:, rows[part]] = score(held, data.whole.new_queries, data.whole.take(rows[part]))
    return scores


def best(found: list[Tried]) -> list[list[str]]:
    """Return the table of the best of each kind by what a choice sees, and by the gain itself."""
    rows = [["step", "kind", "settings", "found", "M(new,old)", "gain", "best gain of the kind"]]
    for step, kind in dict.fromkeys((each.step, each.kind) for each in found):
        mine = [each for each in found if (each.step, each.kind) == (step, kind)]
        top = max(mine, key=lambda each: each.found)
        most = max(each.value for each in mine)
        gain = next(each.gain for each in mine if each.value == most)
        settings = ", ".join(f"{name} {value:g}" for name, value in top.settings.items())
        rows.append(
            [
                step,
                kind,
                settings,
                f"{top.found:.3f}",
                f"{top.value:.3f}",
                _two(top.gain),
                _two(gain),
            ]
        )
    return rows


def _two(gain: float | None) -> str:
    return "" if gain is None else f"{gain:.2f}"


def main(arguments: list[str] | None = None) -> None:
    """Run on data sets in BEIR's layout, print tables; `--out` keeps every candidate as JSON."""
    parser = argparse.ArgumentParser(prog="python -m retr.benchmarks.upgrades.more_maps")
    parser.add_argument("dataset", nargs="+", type=Path, help="folders in BEIR's layout")
    parser.add_argument("--to", required=True, metavar="ENCODER")
    parser.add_argument("--from", dest="old", default="static:1", metavar="ENCODER")
    parser.add_argument("--pairs", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    try:
        result = _run(given)
    except RetrError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if given.out is not None:
        write_json(result, given.out)


def _run(given: argparse.Namespace) -> dict[str, Any]:
    cache = given.cache or cache_folder()
    old, new = (
        RememberingEncoder(resolve(each), cache / "vectors") for each in (given.old, given.to)
    )
    tables: dict[str, Any] = {}
    for dataset in prepare_folders(given.dataset, cache, None).values():
        collection, _ = exact_collection(dataset, old, cache)
        data = open_subject(dataset, collection.path, old, new).arrays
        for draw, clean in DRAWS.items():
            found = list(tried(data, given.pairs, clean, given.seed))
            print(f"{dataset.name}, {given.pairs:,} pairs from {draw}\n{text_table(best(found))}\n")
            tables.setdefault(dataset.name, {})[draw] = [asdict(each) for each in found]
    return {
        "old": given.old,
        "pairs": given.pairs,
        "seed": given.seed,
        "environment": environment.describe(),
        "found": json.loads(json.dumps(tables)),
    }


if __name__ == "__main__":
    main()
