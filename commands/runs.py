"""Many queries: answered in blocks, so that memory stays bounded, and written as a TREC run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from ..retrieval.results.results import Results
from ..retrieval.search.path import MAX_K
from ..retrieval.search.rerank import DEFAULT_DEPTH
from ..retrieval.values.errors import InputError
from ..retrieval.values.types import Query
from . import console

if TYPE_CHECKING:
    from ..retrieval.collection import Collection
    from ..retrieval.search.options import SearchOptions

STDOUT = "-"
HITS_AT_ONCE = 50_000
QUERIES_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class RunReport:
    """Size of a run, and how long it took."""

    queries: int
    hits: int
    seconds: float


def answers(
    collection: Collection,
    queries: Sequence[Query],
    k: int,
    **how: Unpack[SearchOptions],
) -> Iterator[Results]:
    """Yield the results of each query in order; the arguments are those of `Collection.search`."""
    size = min(QUERIES_AT_ONCE, max(1, HITS_AT_ONCE // max(k, _read(how), 1)))
    for start in range(0, len(queries), size):
        block = queries[start : start + size]
        yield from collection.search(block, k, **how)


def write_run(
    collection: Collection,
    queries: Sequence[Query],
    k: int,
    out: str,
    tag: str,
    **how: Unpack[SearchOptions],
) -> RunReport:
    """Search for each query and write a TREC run, as `evaluation.trec.write_run` does.

    out: a file, which appears only when the run is complete; "-" is standard output.

    Raises:
        InputError: the tag, the id of a query or the id of a hit is empty or has white space in
            it, which the format cannot hold.
        StorageError: the file cannot be written.
    """
    start = time.perf_counter()
    for query in queries:
        # Checked first: the searches before a wrong id may take hours.
        if (query.id or "").split() != [query.id]:
            raise InputError(
                f"query id {query.id!r}: a run cannot hold an id that is empty or contains white "
                "space; rename it in the file of queries"
            )
    found = _with_ties(collection, queries, k, how)
    hits = _write(((str(results.query.id), results) for results in found), out, tag)
    return RunReport(len(queries), hits, time.perf_counter() - start)


def _with_ties(
    collection: Collection, queries: Sequence[Query], k: int, how: SearchOptions
) -> Iterator[Results]:
    """Yield k hits a query, ranked as trec_eval ranks: of equal scores the highest ids first.

    That also holds at the cut, so a shorter run is a prefix of a longer one: if the last hit has
    the score of the first one left out, all hits with that score are fetched. If hits are reranked,
    only those that the reranker reads are fetched.
    """
    if (read := _read(how)) > 0:
        for results in answers(collection, queries, max(k, read), **how):
            yield _ranked(results, k)
        return
    for results in answers(collection, queries, min(k + 1, MAX_K), **how):
        depth = k + 1
        while len(results) == depth < MAX_K and results[-1].score == results[k - 1].score:
            depth = min(4 * depth, MAX_K)
            results = collection.search(results.query, depth, **how)
        yield _ranked(results, k)


def _ranked(results: Results, k: int) -> Results:
    by_id = sorted(results, key=lambda hit: hit.id.encode(), reverse=True)
    ranked = sorted(by_id, key=lambda hit: -hit.score)
    return Results(results.query, ranked[:k], results.generation)


def _read(how: SearchOptions) -> int:
    """Return how many hits of a query are reranked, at least."""
    return 0 if how.get("rerank") is None else how.get("rerank_depth", DEFAULT_DEPTH)


def _write(run: Iterator[tuple[str, Results]], out: str, tag: str) -> int:
    if out == STDOUT:
        return _write_through(run, None, tag)
    target = console.file_to_write(out, "run")
    if target.exists() and not target.is_file():
        return _write_through(run, target, tag)
    from ..retrieval.evaluation import trec

    return trec.write_run(run, target, tag=tag)


def _write_through(run: Iterator[tuple[str, Results]], target: Path | None, tag: str) -> int:
    """Write a run to standard output (None), or into a pipe or device, which cannot be replaced."""
    from ..retrieval.evaluation import trec

    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "run"
        hits = trec.write_run(run, whole, tag=tag)
        with whole.open(encoding="utf-8", newline="") as lines:
            if target is None:
                for line in lines:
                    console.put(line)
            else:
                with target.open("w", encoding="utf-8", newline="") as file:
                    file.writelines(lines)
    return hits
