"""Whether low-rank maps or residual MLPs would serve an upgrade better than what it chooses from.

    python -m retr.benchmarks.upgrades.more_maps FOLDER... --to ENCODER [--from NAME] [--out FILE]

On arrays of a data set by two encoders, with pairs of which none is judged and with pairs from
anywhere: each candidate's `found` on pairs left out, which is what a choice sees, and its update
gain, which is what it cannot see, with every row searched by a fit that has not seen it. Nothing is
calibrated, which changes no ranking among old rows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...retrieval.bridges.maps import similarities
from ...retrieval.encoders.registry import resolve
from ...retrieval.upgrade.candidates import BridgeFits, ForwardFits, bridged_scores, mapped_scores
from ...retrieval.upgrade.gate import ndcg
from ..beir.cache import exact_collection
from ..beir.datasets import cache_folder
from ..beir.folders import prepare_folders
from ..study import Result, Study
from ..tables import Table, number
from .bridge_families import Held, MoreBridges, MoreForwards, held_out
from .curves import open_subject
from .remembering import RememberingEncoder
from .report import DRAWS
from .steps import Arrays
from .suite import CLEAN

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


def tables(result: Result) -> Iterator[Table]:
    """Yield for each data set and sample the best of each kind, by what a choice sees and by gain.

    A result of one sample has its candidates by data set alone.
    """
    head = ["step", "kind", "settings", "found", "M(new,old)", "gain", "best gain of the kind"]
    for dataset, drawn in result["found"].items():
        by_draw = drawn if isinstance(drawn, dict) else {result["draw"]: drawn}
        for draw, found in by_draw.items():
            about = result.get("data", {}).get(dataset)
            title = f"{dataset}{f' ({about})' if about else ''}, {result['pairs']:,} pairs, "
            yield Table(head, list(_best(found)), title + DRAWS[draw])


def _best(found: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    for step, kind in dict.fromkeys((each["step"], each["kind"]) for each in found):
        mine = [each for each in found if (each["step"], each["kind"]) == (step, kind)]
        top = max(mine, key=lambda each: float(each["found"]))
        most = max(mine, key=lambda each: float(each["value"]))
        yield [
            step,
            kind,
            ", ".join(f"{name} {value:g}" for name, value in top["settings"].items()),
            number(top["found"], 3),
            number(top["value"], 3),
            number(top["gain"], 2),
            number(most["gain"], 2),
        ]


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", nargs="+", type=Path, help="folders in BEIR's layout")
    parser.add_argument("--to", required=True, metavar="ENCODER")
    parser.add_argument("--from", dest="old", default="static:1", metavar="ENCODER")
    parser.add_argument("--pairs", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, metavar="DIR")


def _measure(given: argparse.Namespace) -> dict[str, Any]:
    cache = given.cache or cache_folder()
    old, new = (
        RememberingEncoder(resolve(each), cache / "vectors") for each in (given.old, given.to)
    )
    found: dict[str, Any] = {}
    for dataset in prepare_folders(given.dataset, cache, None).values():
        collection, _ = exact_collection(dataset, old, cache)
        data = open_subject(dataset, collection.path, old, new).arrays
        found[dataset.name] = {
            draw: [asdict(each) for each in tried(data, given.pairs, clean, given.seed)]
            for draw, clean in CLEAN.items()
        }
    return {"old": given.old, "pairs": given.pairs, "seed": given.seed, "found": found}


STUDY = Study("upgrades.more_maps", __doc__, _arguments, _measure, tables)

if __name__ == "__main__":
    STUDY.main()
