"""`retr bench ann`: indexes and other systems side by side, over the same vectors.

    OUT/
      ann.json report.md report.html         derived; made again from what lies below
      DATASET/about.json                     the vectors: where from, how many, digest
      DATASET/truth-K.npz                    the nearest rows to each query, and their scores
      DATASET/SYSTEM/build.json              what it is, its build, bytes, versions, machine
      DATASET/SYSTEM/single-R.json           one query at a time on one thread, in round R
      DATASET/SYSTEM/batch-R.json            all queries at once on all threads
      DATASET/SYSTEM/single-R.npz batch-R.npz   the rows answered and their scores: see Answers
      DATASET/SYSTEM/failed.json             why there is no result, if there is none

Each system runs in processes of its own, in rounds: every system once, then every system again.
Within a round they take turns of a quarter of a second (turns.py), so that what else the machine
does falls on all of them alike. What is there is not run again. Recall is derived from the rows
when results are gathered (gather.py).
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...retrieval.store.disk import storage_errors
from ...retrieval.values.errors import InputError
from ..environment import describe
from ..files import whole, write_json
from .data import Prepared
from .peers import name_of, peer
from .truth import Answers, scored
from .turns import Worker, take_turns

log = logging.getLogger("retr.benchmarks")

FORMAT = 1
ABOUT, BUILD, FAILED = "about.json", "build.json", "failed.json"
TRUTH = "truth-{}.npz"
TIMEOUT = 3600.0
_DOING = {"tune": "tuned", "build": "built", "single": "searched", "batch": "searched in a batch"}


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run is made.

    k:       how many neighbours are asked for.
    threads: of a build and of a batch; a single query has one.
    rounds:  how often each system is opened and searched.
    timeout: seconds that one process may take.
    seconds: for how long a batch is repeated at each setting, at least.
    least:   for how long a system is searched, at least: what else a machine does changes.
    together: how many systems are open at once; they take turns.
    fresh:   run again what is there.
    searches: whether to search; else indexes are built, for a later run that does.
    keeps:   whether indexes stay for later rounds.
    """

    k: int = 10
    threads: int = 1
    rounds: int = 3
    timeout: float = TIMEOUT
    seconds: float = 0.5
    least: float = 4.0
    fresh: bool = False
    searches: bool = True
    keeps: bool = False
    together: int = 1000


class FailedError(Exception):
    """A system has no result; the message is for its row of the report."""


def run(
    data: Prepared,
    out: Path,
    cache: Path,
    systems: Sequence[str],
    settings: Settings | None = None,
) -> Path:
    """Measure the systems over the vectors; return the folder with the results.

    cache: where indexes are until they have been measured; then they are removed, unless the
           settings keep them.

    Raises:
        InputError: there is no such system, or k is above the number of rows.
        StorageError: the disk is full or the folder cannot be written.
    """
    settings = settings or Settings(threads=usable_cores())
    systems = list(dict.fromkeys(systems))
    for system in systems:
        peer(system)
    if not 0 < settings.k <= data.about["rows"]:
        raise InputError(f"k must be 1 to {data.about['rows']}, the number of rows")
    folder = out / str(data.about["name"])
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(data.about, folder / ABOUT)
        runs = [_Run(system, data, folder, cache, settings) for system in systems]
        for each in runs:
            each.prepare()
        if not settings.searches:
            return folder
        with whole(folder / TRUTH.format(settings.k)) as part:
            shutil.copyfile(data.truth(settings.k), part)
        for number in range(settings.rounds):
            for phase, threads in (("single", 1), ("batch", settings.threads)):
                for start in range(0, len(runs), settings.together):
                    some = runs[start : start + settings.together]
                    _in_turns(some, phase, threads, f"{phase}-{number}.json")
        for each in [] if settings.keeps else runs:
            shutil.rmtree(each.index, ignore_errors=True)
    return folder


def _in_turns(runs: Sequence[_Run], phase: str, threads: int, name: str) -> None:
    """Let systems search by turns; one that fails leaves the others to go on."""
    own: dict[Worker, _Run] = {}
    try:
        for each in runs:
            if each.lacks(name):
                worker = each.start(phase, threads, each.folder / f"{Path(name).stem}.npy")
                own[worker] = each
                worker.turn()  # until it is open and warm
        # Kept at once, in case the run is interrupted.
        take_turns([*own], lambda one: own[one].finish(phase, str(one.ended), name))
    finally:
        for worker in own:
            worker.end()


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def slug(system: str) -> str:
    """Return the name of a system's folder."""
    return re.sub(r"[^A-Za-z0-9.@-]+", "_", system).strip("_")


class _Run:
    """One system over one base."""

    def __init__(
        self, system: str, data: Prepared, folder: Path, cache: Path, settings: Settings
    ) -> None:
        self.system, self.data, self.settings = system, data, settings
        self.folder = folder / slug(system)
        self.index = cache / "indexes" / data.folder.name / slug(system)
        self.base, self.queries = data.base(), data.queries()
        # A figure made with others is not the one asked for.
        self.key = {
            "format": FORMAT, "system": system, "digest": data.about["digest"],
            "queries": data.about["queries"], "k": settings.k, "threads": settings.threads,
        }  # fmt: skip

    def prepare(self) -> None:
        """Build, unless all that is wanted is there already."""
        if self.settings.fresh:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(exist_ok=True)
        (self.folder / FAILED).unlink(missing_ok=True)
        if self._known(BUILD) is None:
            shutil.rmtree(self.folder)
            self.folder.mkdir()
        elif not self._left():
            log.info("%s: is there already", self.system)
            return
        elif (self.index / "done").exists():
            return
        self._guarded(self._build)

    def lacks(self, name: str) -> bool:
        """Return whether a result is still to be made."""
        return not (self.folder / FAILED).exists() and self._known(name) is None

    def finish(self, phase: str, ended: str, name: str) -> None:
        """Keep what a worker found, or why there is nothing."""
        self._guarded(lambda: self._keep(self._result(phase, ended), name))

    def _guarded(self, step: Any) -> None:
        try:
            step()
        except FailedError as error:
            log.warning("%s: %s", self.system, error)
            write_json({**self.key, "failed": str(error)}, self.folder / FAILED)

    def _left(self) -> list[str]:
        names = [f"{p}-{n}.json" for n in range(self.settings.rounds) for p in ("single", "batch")]
        return [name for name in names if self._known(name) is None]

    def _build(self) -> None:
        shutil.rmtree(self.index, ignore_errors=True)
        self.index.mkdir(parents=True)
        kind, option = peer(self.system), name_of(self.system)[1]
        tuning = self._phase("tune", self.settings.threads) if kind.tunes(option) else None
        made = self._phase("build", self.settings.threads)
        same = made["parameters"].get("same_as")
        if same:  # it cost what it cost there
            other = json.loads((self.folder.parent / same / BUILD).read_bytes())
            made |= {name: other[name] for name in ("cpu_s", "wall_s", "peak_bytes")}
        (self.index / "done").touch()
        record = {**self.key, **made, "tuning": tuning, "graph": kind.graph}
        record["environment"] = describe()
        write_json(record, self.folder / BUILD)

    def _keep(self, found: dict[str, Any], name: str) -> None:
        path = (self.folder / name).with_suffix(".npy")
        rows = np.load(path)
        scores = [scored(self.base, self.queries, self.data.metric, each) for each in rows]
        Answers(rows, np.stack(scores)).save(path.with_suffix(".npz"))
        path.unlink()
        write_json({**self.key, **found, "load": os.getloadavg()[0]}, self.folder / name)

    def _known(self, name: str) -> Mapping[str, Any] | None:
        try:
            found = json.loads((self.folder / name).read_bytes())
        except (OSError, ValueError):
            return None
        same = isinstance(found, dict) and all(found.get(n) == v for n, v in self.key.items())
        return found if same else None

    def _phase(self, phase: str, threads: int) -> dict[str, Any]:
        worker = self.start(phase, threads)
        take_turns([worker])
        return self._result(phase, str(worker.ended))

    def start(self, phase: str, threads: int, answers: Path | None = None) -> Worker:
        """Start the process of a phase; answers: the file for them."""
        about, job = self.data.about, self.folder / f"{phase}.job"
        result = self.folder / f"{phase}.result"
        result.unlink(missing_ok=True)
        asked = {
            "phase": phase, "system": self.system, "data": str(self.data.folder.resolve()),
            "index": str(self.index.resolve()), "out": str(result.resolve()),
            "answers": str(answers.resolve()) if answers else None, "k": self.settings.k,
            "threads": threads, "rows": about["rows"], "dim": about["dim"],
            "metric": about["metric"], "seconds": self.settings.seconds,
            "least": self.settings.least,
        }  # fmt: skip
        job.write_text(json.dumps(asked))
        log.info("%s: is %s", self.system, _DOING[phase])
        log_file = self.folder / f"{phase}.log"
        return Worker(job.resolve(), threads, self.settings.timeout, log_file)

    def _result(self, phase: str, ended: str) -> dict[str, Any]:
        job, result = self.folder / f"{phase}.job", self.folder / f"{phase}.result"
        try:
            found: dict[str, Any] = json.loads(result.read_bytes())
        except (OSError, ValueError):
            raise FailedError(f"{ended} while it was {_DOING[phase]}") from None
        if "failed" in found:
            raise FailedError(f"{found['failed']}, while it was {_DOING[phase]}")
        for path in (job, result):
            path.unlink()
        return found


def split(values: Iterable[str]) -> list[str]:
    """Return the systems of a list whose items may be several with commas between them.

    Commas inside brackets belong to a spec.
    """
    found = []
    for value in values:
        found += [part.strip() for part in re.split(r",(?![^()]*\))", value)]
    return [part for part in found if part]
