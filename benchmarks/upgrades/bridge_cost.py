"""What a bridge costs a query, the encoder left out: the time of the processor, and its share.

A collection in an upgrade is opened, and queries, vectors of the new encoder already, are carried
to each of its other spaces as the search does it: mapped, calibrated, and given the length that
the segments there expect. Queries come alone and in blocks. Beside it stands what a whole search
by one vector takes. Run as `python -m retr.benchmarks.upgrades.bridge_cost COLLECTION --queries
FILE`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..environment import describe

BLOCKS = (1, 32, 1024)
ROUNDS = 200
LEAST_SECONDS = 0.02


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print its table; `--out` keeps the raw times as JSON."""
    parser = argparse.ArgumentParser(prog="python -m retr.benchmarks.upgrades.bridge_cost")
    parser.add_argument("collection", help="one in an upgrade")
    parser.add_argument("--queries", required=True, help='a line is {"_id": …, "text": …}')
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, help="where to keep the raw times")
    given = parser.parse_args(arguments)
    result = measure(given.collection, given.queries, given.rounds)
    print(table(result))
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n")


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
    home = Home(snapshot.manifest.space, snapshot.space.metric, snapshot.crossings)
    cost: dict[str, dict[str, list[float]]] = {}
    for key, segment in segments.items():
        name = snapshot.spaces[key].encoder
        for size in BLOCKS:
            block = np.ascontiguousarray(np.resize(vectors, (size, vectors.shape[1])))
            if key == snapshot.manifest.space:

                def look(block: Any = block, segment: Any = segment) -> None:
                    PlainViews(block, snapshot.space.metric).of(segment)

            else:

                def look(block: Any = block, segment: Any = segment) -> None:
                    BridgedViews(home, block).of(segment)

            cost.setdefault(name, {})[str(size)] = _microseconds(look, size, rounds)
    one = vectors[0]
    search = _microseconds(lambda: collection.search(vector=one, k=10), 1, max(5, rounds // 10))
    return {
        "rows": len(collection),
        "dims": {snapshot.spaces[k].encoder: snapshot.spaces[k].dim for k in segments},
        "bridges": collection.upgrade_status()["bridges"],
        "microseconds": cost,
        "search": search,
        "environment": describe(),
    }


def _microseconds(work: Callable[[], object], size: int, rounds: int) -> list[float]:
    """Return the time of the processor that each round takes a query, after one that warms up."""
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


def table(result: dict[str, Any]) -> str:
    """Return the medians, by space and size of the block."""
    lines = [
        f"{result['rows']:,} rows; microseconds of the processor a query, the median of the rounds",
        f"  {'to the vectors of':<44}" + "".join(f"{f'{n} at once':>14}" for n in BLOCKS),
    ]
    for name, sizes in result["microseconds"].items():
        dims = result["dims"][name]
        medians = (statistics.median(sizes[str(size)]) for size in BLOCKS)
        lines.append(f"  {f'{name}, {dims}':<44}" + "".join(f"{m:14.2f}" for m in medians))
    whole = statistics.median(result["search"])
    lines.append(f"  a whole search by a vector, alone: {whole:,.0f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
