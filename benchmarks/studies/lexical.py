"""What search by words costs to build and to ask, beside bm25s and tantivy in the same run.

    python -m retr.benchmarks.studies.lexical                     # prints tables
    python -m retr.benchmarks.studies.lexical --memory 1000000  # and watches a whole build's memory
    python -m retr.benchmarks.studies.lexical --out FILE          # and keeps every time measured

Each system has processes of its own, held to one thread. It builds in one, anew in each round; in
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
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..ann.process import variables
from ..environment import describe
from . import zipf
from .lexical_worker import HEAP, SYSTEMS, K

SETS = ("scifact", "cran", "npl", "cosqa")
MARKS = (100_000, 300_000, 1_000_000)
_NEEDS = {"bm25s": "bm25s", "bm25s numba": "numba", "tantivy": "tantivy"}
_BUILT_BY = {"bm25s numba": "bm25s"}

Result = dict[str, Any]


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(
        prog="python -m retr.benchmarks.studies.lexical", description=__doc__
    )
    parser.add_argument("--rows", type=int, default=100_000, help="passages generated; 0: none")
    parser.add_argument("--memory", type=int, default=0, help="build a collection of so many")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--no-real", action="store_true", help="leave the real texts out")
    parser.add_argument("--scratch", type=Path, help="where indexes are built")
    parser.add_argument("--out", type=Path, help="where to keep what was measured, as JSON")
    given = parser.parse_args(arguments)
    texts, queries = _real()
    result = measure(
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
    print(table(result))
    if given.out:
        given.out.write_text(json.dumps(result) + "\n")


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
    rows:    measure on so many generated passages; 0 does not.
    memory:  watch the memory of a collection of so many generated passages being built.
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
        "benchmark": "lexical",
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
        "packages": {
            name: version(name)
            for name in ("bm25s", "tantivy", "numba", "PyStemmer", "numpy")
            if find_spec("Stemmer" if name == "PyStemmer" else name)
        },
        "environment": describe() | {"load": os.getloadavg()[0]},
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
            _clear(homes[name] / "index")
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
        _clear(home / "index")
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
                env=_environment(),
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


def table(result: Result) -> str:
    """Return what was found, with the ratios of each system to the first."""
    lines = [
        f"{result['environment']['processor']}, one thread; CPU times",
        "ratio: what the first system takes, over what each takes",
    ]
    for name, case in result["cases"].items():
        lines += _lines(name, case, result["queries"])
    if result["memory"]:
        lines += _memory_lines(result["memory"])
    return "\n".join(lines)


def figures(case: Result, name: str, kind: str) -> tuple[float, float, float]:
    """Return the median, the mean and the 95th percentile of a query's CPU time, µs.

    A query's time is the least of its rounds: what it takes where nothing disturbs it.
    """
    own = sorted(min(each) for each in zip(*case["cpu_us"][name][kind], strict=True))
    return statistics.median(own), statistics.fmean(own), own[int(0.95 * (len(own) - 1))]


def build_seconds(case: Result, name: str) -> float:
    """Return the CPU time of building, the least of the rounds."""
    return min(float(built["cpu_s"]) for built in case["builds"][_BUILT_BY.get(name, name)])


def _lines(name: str, case: Result, queries: int) -> list[str]:
    first = next(iter(case["builds"]))
    rows = case["rows"]
    lines = [
        f"\n{name}: {rows:,} texts, {case['bytes'] / 1e6:.0f} MB; {queries} queries, top {K}",
        f"{'build':16}{'CPU s':>9}{'ratio':>7}{'rows/s':>9}{'disk MB':>9}{'anonymous MB':>14}",
    ]
    for system, built in case["builds"].items():
        seconds = build_seconds(case, system)
        anonymous = max(each["anonymous"] for each in built) / 1e6
        lines.append(
            f"{system:16}{seconds:9.2f}{build_seconds(case, first) / seconds:7.2f}"
            f"{rows / seconds:9.0f}{built[0]['bytes'] / 1e6:9.1f}{anonymous:14.0f}"
        )
    for kind in case["cpu_us"][first]:
        reference = figures(case, first, kind)
        head = "".join(f"{name:>9}{'ratio':>7}" for name in ("median µs", "mean", "p95"))
        lines.append(f"{kind:16}{head}{'overlap':>9}{'anon. MB':>9}")
        for system in case["cpu_us"]:
            pairs = zip(figures(case, system, kind), reference, strict=True)
            lines.append(
                f"{system:16}"
                + "".join(f"{value:9.0f}{ours / value:7.2f}" for value, ours in pairs)
                + f"{case['overlap'][system][kind]:9.2f}{case['anonymous'][system] / 1e6:9.0f}"
            )
    return lines


def _memory_lines(watched: Result) -> list[str]:
    texts = f"{watched['rows']:,} texts, {watched['bytes'] / 1e6:.0f} MB"
    lines = [
        f"\na collection of {texts}, built in {watched['cpu_s']:.0f} s of CPU",
        f"rows of its lexical segments: {watched['segments']}",
        "anonymous MB at most, up to so many rows",
    ]
    for mark in (*(m for m in MARKS if m < watched["rows"]), watched["rows"]):
        most = max(size for done, size in watched["samples"] if done <= mark)
        lines.append(f"{mark:12,}{most / 1e6:9.0f}")
    return lines


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


def _clear(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _run(system: str, phase: str, folder: Path) -> str:
    done = subprocess.run(
        _command(system, phase, folder),
        env=_environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def _command(system: str, phase: str, folder: Path) -> list[str]:
    worker = f"{__package__}.lexical_worker"
    return [sys.executable, "-m", worker, system, phase, str(folder)]


def _environment() -> dict[str, str]:
    return {**os.environ, **variables(1), "NUMBA_NUM_THREADS": "1"}


if __name__ == "__main__":
    main()
