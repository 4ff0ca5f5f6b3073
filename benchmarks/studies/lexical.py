"""What search by words costs to build and to ask, beside bm25s and tantivy in the same run.

    python -m retr.benchmarks.studies.lexical                     # prints tables
    python -m retr.benchmarks.studies.lexical --memory 1000000  # and watches a whole build's memory
    python -m retr.benchmarks.studies.lexical --out FILE          # and keeps every time measured

Each system has processes of its own, held to one thread. It builds in one, again in each round; in
another it answers the queries, one at a time, in rounds in which all systems take turns, so that
what else the machine does falls on all of them alike. Times are CPU times of the process.

The texts are `beir/{scifact,cran,npl,cosqa}` of the test data (`RETR_TEST_DATA`, by default
`../shared/data`) with their queries, and passages generated with the words of those (`zipf`). The
queries are asked as they stand, and without stop words: retr and bm25s leave out their own lists
of those, tantivy's English analyser looks all of them up. All three give the numbers of the best
ten rows. bm25s holds the texts, and builds, in memory; tantivy's writer may fill 256 MiB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..ann.process import variables
from ..study import Study
from ..tables import Table, number
from . import zipf
from .lexical_worker import HEAP, SYSTEMS, K

SETS = ("scifact", "cran", "npl", "cosqa")
MARKS = (100_000, 300_000, 1_000_000)
_NEEDS = {"bm25s": "bm25s", "bm25s numba": "numba", "tantivy": "tantivy"}
_BUILT_BY = {"bm25s numba": "bm25s"}

Result = dict[str, Any]


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=100_000, help="passages generated; 0: none")
    parser.add_argument(
        "--memory", type=int, default=0, metavar="N", help="build a collection of N"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--no-real", action="store_true", help="leave the real texts out")
    parser.add_argument("--scratch", type=Path, help="where indexes are built")


def _measure(given: argparse.Namespace) -> Result:
    texts, queries = _real()
    return measure(
        texts,
        queries,
        [name for name in given.systems if name not in _NEEDS or find_spec(_NEEDS[name])],
        real=not given.no_real,
        rows=given.rows,
        memory=given.memory,
        rounds=given.rounds,
        seed=given.seed,
        scratch=given.scratch,
    )


def measure(
    texts: Sequence[str],
    queries: Sequence[str],
    systems: Sequence[str],
    *,
    real: bool = True,
    rows: int = 0,
    memory: int = 0,
    rounds: int = 3,
    seed: int = 0,
    scratch: Path | None = None,
) -> Result:
    """Return everything that was measured, as JSON values.

    texts, queries: the real ones.
    real:    measure on them.
    rows:    also measure on this many generated passages, if not 0.
    memory:  watch the memory while a collection of this many generated passages is built.
    scratch: the folder in which indexes are built and removed.
    """
    law = zipf.fit(texts)
    asked = {"as asked": list(queries), "content words": _content(queries)}
    cases: dict[str, Result] = {}
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        if real:
            cases["real"] = _case(Path(folder) / "real", texts, asked, systems, rounds)
        if rows:
            drawn = zipf.passages(law, rows, seed=seed)
            cases["generated"] = _case(Path(folder) / "drawn", drawn, asked, systems, rounds)
        watched = None
        if memory:
            target = Path(folder) / "memory"
            watched = _written(target, zipf.passages(law, memory, seed=seed))
            watched |= json.loads(_run("retr", "memory", target))
    return {
        "k": K,
        "queries": len(queries),
        "rounds": rounds,
        "seed": seed,
        "tantivy_heap_bytes": HEAP,
        "law": {
            "words": len(law.words),
            "tokens": law.tokens,
            "new": 1 - float(law.bounds[-1]),
            "exponent": law.exponent,
            "shift": law.shift,
            "repeats": law.repeats,
        },
        "cases": cases,
        "memory": watched,
        "load": os.getloadavg()[0],
    }


def _case(
    folder: Path,
    texts: Iterable[str],
    queries: Mapping[str, Sequence[str]],
    systems: Sequence[str],
    rounds: int,
) -> Result:
    """Build and ask all systems over the same texts."""
    about = _written(folder, texts)
    builders = [name for name in systems if name not in _BUILT_BY]
    homes = {name: _home(folder, name) for name in builders}
    built: dict[str, list[Result]] = {name: [] for name in builders}
    for _ in range(rounds):
        for name in builders:
            shutil.rmtree(homes[name] / "index", ignore_errors=True)
            built[name].append(json.loads(_run(name, "build", homes[name])))
    times: dict[str, dict[str, list[list[int]]]] = {
        name: {kind: [] for kind in queries} for name in systems
    }
    hits: dict[str, dict[str, list[list[int]]]] = {name: {} for name in systems}
    anonymous: dict[str, int] = {}
    with ExitStack() as stack:
        asked = {
            name: stack.enter_context(_Asked(name, homes[_BUILT_BY.get(name, name)]))
            for name in systems
            if _BUILT_BY.get(name, name) in homes
        }
        # The first round maps pages and compiles; it is not counted.
        for number in range(rounds + 1):
            for kind, texts_asked in queries.items():
                for name, system in asked.items():
                    answer = system.ask(texts_asked)
                    if number:
                        times[name][kind].append(answer["cpu_us"])
                    hits[name][kind] = answer["hits"]
                    anonymous[name] = answer["anonymous"]
    for home in homes.values():
        shutil.rmtree(home / "index")
    return about | {
        "builds": built,
        "cpu_us": {name: times[name] for name in asked},
        "anonymous": anonymous,
        "overlap": {
            name: {kind: _overlap(hits[systems[0]][kind], hits[name][kind]) for kind in queries}
            for name in asked
        },
    }


class _Asked(ExitStack):
    """A process that searches."""

    def __init__(self, system: str, folder: Path) -> None:
        super().__init__()
        self._process = self.enter_context(
            subprocess.Popen(
                _command(system, "search", folder),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=_ENVIRONMENT,
                text=True,
            )
        )

    def ask(self, texts: Sequence[str]) -> Result:
        """Return its answer to each text, and the CPU time each took, µs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(texts) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} has ended")
        answer: Result = json.loads(line)
        return answer


def figures(case: Result, name: str, kind: str) -> tuple[float, float, float]:
    """Return the median, the mean and the 95th percentile of a query's CPU time, µs.

    A query's time is the least of its rounds: what it takes where nothing disturbs it.
    """
    own = sorted(min(each) for each in zip(*case["cpu_us"][name][kind], strict=True))
    return statistics.median(own), statistics.fmean(own), own[int(0.95 * (len(own) - 1))]


def build_seconds(case: Result, name: str) -> float:
    """Return the CPU time of building, the least of the rounds."""
    return min(float(built["cpu_s"]) for built in case["builds"][_BUILT_BY.get(name, name)])


def tables(result: Mapping[str, Any]) -> Iterator[Table]:
    """Yield what was found; ratios are of what the first system takes over what each takes."""
    for name, case in result["cases"].items():
        about = f"{name}, {case['rows']:,} texts of {case['bytes'] / 1e6:.0f} MB, one thread"
        yield _builds(f"Building: {about}", case)
        for kind in next(iter(case["cpu_us"].values())):
            title = f"{result['queries']} queries, {kind}, top {K}: {about}"
            yield _answers(title, case, kind)
    if result["memory"]:
        yield _memory(result["memory"])


def _builds(title: str, case: Result) -> Table:
    first = next(iter(case["builds"]))
    rows = []
    for system, built in case["builds"].items():
        seconds = build_seconds(case, system)
        most = max(each["anonymous"] for each in built)
        rows.append(
            [system, number(seconds, 2), number(build_seconds(case, first) / seconds, 2),
             number(case["rows"] / seconds), number(built[0]["bytes"] / 1e6, 1), number(most / 1e6)]
        )  # fmt: skip
    head = ["system", "CPU s", "ratio", "rows/s", "disk MB", "anonymous MB"]
    return Table(head, rows, title, ["CPU time, the least of the rounds."])


def _answers(title: str, case: Result, kind: str) -> Table:
    reference = figures(case, next(iter(case["builds"])), kind)
    rows = []
    for system in case["cpu_us"]:
        pairs = zip(figures(case, system, kind), reference, strict=True)
        cells = [cell for value, ours in pairs for cell in (number(value), number(ours / value, 2))]
        overlap, held = case["overlap"][system][kind], case["anonymous"][system]
        rows.append([system, *cells, number(overlap, 2), number(held / 1e6)])
    columns = [each for name in ("median µs", "mean", "p95") for each in (name, "ratio")]
    note = "CPU time of a query, the least of its rounds. Overlap with the first system's ten best."
    return Table(["system", *columns, "overlap", "anonymous MB"], rows, title, [note])


def _memory(watched: Result) -> Table:
    marks = [*(mark for mark in MARKS if mark < watched["rows"]), watched["rows"]]
    rows = [
        [f"{mark:,}", number(max(size for done, size in watched["samples"] if done <= mark) / 1e6)]
        for mark in marks
    ]
    title = (
        f"A collection of {watched['rows']:,} texts, {watched['bytes'] / 1e6:.0f} MB, built in "
        f"{watched['cpu_s']:.0f} s of CPU"
    )
    note = f"Rows of its lexical segments: {', '.join(f'{n:,}' for n in watched['segments'])}."
    return Table(["rows so far", "anonymous MB at most"], rows, title, [note])


def _real() -> tuple[list[str], list[str]]:
    default = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
    folder = Path(os.environ.get("RETR_TEST_DATA", default)) / "beir"
    if not folder.is_dir():
        sys.exit("there are no test texts: set RETR_TEST_DATA to the folder of the test data")
    texts, queries = [], []
    for name in SETS:
        with (folder / name / "corpus.jsonl").open() as lines:
            for document in map(json.loads, lines):
                texts.append(f"{document.get('title', '')} {document['text']}".strip())
        with (folder / name / "queries.jsonl").open() as lines:
            queries += [json.loads(line)["text"] for line in lines]
    return texts, queries


def _content(queries: Sequence[str]) -> list[str]:
    """Return the queries without stop words, in what words are left."""
    from ...retrieval.text.stop_words import STOP_WORDS

    stops = set(STOP_WORDS["english"].split())
    return [
        " ".join(word for word in query.split() if word.lower().strip("?.,") not in stops) or query
        for query in queries
    ]


def _overlap(ones: Sequence[Sequence[int]], others: Sequence[Sequence[int]]) -> float:
    """Return the share of the rows found first that the other has found, too."""
    pairs = list(zip(ones, others, strict=True))
    shares = [len({*one} & {*other}) / len(one) for one, other in pairs if one]
    return round(statistics.fmean(shares), 4) if shares else 0.0


def _written(folder: Path, texts: Iterable[str]) -> Result:
    """Write the texts where workers look for them."""
    folder.mkdir()
    rows = size = 0
    with (folder / "texts.jsonl").open("w") as lines:
        for text in texts:
            lines.write(json.dumps(text) + "\n")
            rows += 1
            size += len(text.encode())
    return {"rows": rows, "bytes": size}


def _home(folder: Path, system: str) -> Path:
    home = folder / system.replace(" ", "-")
    home.mkdir()
    (home / "texts.jsonl").symlink_to(folder / "texts.jsonl")
    return home


def _run(system: str, phase: str, folder: Path) -> str:
    command = _command(system, phase, folder)
    done = subprocess.run(command, env=_ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def _command(system: str, phase: str, folder: Path) -> list[str]:
    worker = f"{__package__}.lexical_worker"
    return [sys.executable, "-m", worker, system, phase, str(folder)]


_ENVIRONMENT = {**os.environ, **variables(1), "NUMBA_NUM_THREADS": "1"}


def _run_name(result: Mapping[str, Any]) -> str:
    parts = [f"{case['rows']} {name}" for name, case in result["cases"].items()]
    parts += [f"memory of {result['memory']['rows']}"] if result["memory"] else []
    return ", ".join(parts)


STUDY = Study("studies.lexical", __doc__, _arguments, _measure, tables, run=_run_name)

if __name__ == "__main__":
    STUDY.main()
