"""What a bridge costs a query, the encoder left out: the CPU time, and its share.

    python -m retr.benchmarks.upgrades.bridge_cost COLLECTION --queries FILE

A collection in an upgrade is opened, and queries, vectors of the new encoder already, are carried
to each of its other spaces as the search does it: mapped, calibrated, and given the length that
the segments there expect. Queries come alone and in blocks. Beside it stands what a whole search
by one vector takes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from ..study import Result, Study
from ..tables import Table, number

BLOCKS = (1, 32, 1024)
ROUNDS = 200
LEAST_SECONDS = 0.02


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("collection", help="one in an upgrade")
    parser.add_argument("--queries", required=True, help='a line is {"_id": …, "text": …}')
    parser.add_argument("--rounds", type=int, default=ROUNDS)


def measure(path: str, queries: str, rounds: int) -> dict[str, Any]:
    """Return the microseconds a query of every round, by space and size of the block.

    Raises:
        InputError: the collection is in no upgrade.
    """
    from ...retrieval import collection as collections
    from ...retrieval.search.views import BridgedViews, Home, PlainViews
    from ...retrieval.sources.queries import read_queries
    from ...retrieval.upgrade.steps import under_way

    collection = collections.open(path)
    snapshot = collection._snapshot
    under_way(snapshot.manifest, path)
    texts = [query.text or "" for query in read_queries(queries)]
    vectors = collection.encoder.encode_queries(texts)
    segments = {str(s.entry.space): s for s in snapshot.dense}
    metric = snapshot.space.metric
    home = Home(snapshot.manifest.space, metric, snapshot.crossings)

    def look(key: str, block: Any) -> None:
        own = key == snapshot.manifest.space
        views = PlainViews(block, metric) if own else BridgedViews(home, block)
        views.of(segments[key])

    cost: dict[str, dict[str, list[float]]] = {}
    for key in segments:
        for size in BLOCKS:
            block = np.ascontiguousarray(np.resize(vectors, (size, vectors.shape[1])))
            found = _microseconds(partial(look, key, block), size, rounds)
            cost.setdefault(snapshot.spaces[key].encoder, {})[str(size)] = found
    search = partial(collection.search, vector=vectors[0], k=10)
    return {
        "rows": len(collection),
        "dims": {snapshot.spaces[k].encoder: snapshot.spaces[k].dim for k in segments},
        "bridges": collection.upgrade_status()["bridges"],
        "microseconds": cost,
        "search": _microseconds(search, 1, max(5, rounds // 10)),
    }


def _microseconds(work: Callable[[], object], size: int, rounds: int) -> list[float]:
    """Return the CPU time that each round takes a query, after one that warms up."""
    work()
    repeat, used = 1, 0.0
    while used < LEAST_SECONDS:
        repeat *= 2
        used = _used(work, repeat)
    repeat = max(1, repeat // 8)
    return [_used(work, repeat) / repeat / size * 1e6 for _ in range(rounds)]


def _used(work: Callable[[], object], repeat: int) -> float:
    start = time.process_time()
    for _ in range(repeat):
        work()
    return time.process_time() - start


def tables(result: Result) -> Iterator[Table]:
    """Yield the medians, by space and size of the block."""
    rows = [
        [f"{name}, {result['dims'][name]}", *(number(median(sizes[str(n)]), 2) for n in BLOCKS)]
        for name, sizes in result["microseconds"].items()
    ]
    yield Table(
        ["to the vectors of", *(f"{size} at once" for size in BLOCKS)],
        rows,
        f"{result['rows']:,} rows: microseconds of CPU time a query, the median of the rounds",
        [f"A whole search by a vector, alone: {median(result['search']):,.0f}."],
    )


STUDY = Study(
    "upgrades.bridge_cost",
    __doc__,
    _arguments,
    lambda given: measure(given.collection, given.queries, given.rounds),
    tables,
)

if __name__ == "__main__":
    STUDY.main()
