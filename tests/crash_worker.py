"""Kills writers and looks at what they leave; `test_kill.py` runs it as a program.

    crash_worker.py points FOLDER COUNT SEED   killed at file operations, each step in turn
    crash_worker.py times FOLDER COUNT SEED    killed at moments, again and again, until all is done
    crash_worker.py run FOLDER                 do all steps, to be killed from outside
    crash_worker.py check FOLDER               look at what `run` left, and finish it

Prints a JSON object. Writers are forks of this process, for importing takes longer than a step; it
has no threads, so that a fork has all that a process has.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from disks import WatchedDisk
from numpy.typing import NDArray
from toys import ToyEncoder

import retr
from retr.retrieval.segments.snapshot import Snapshot
from retr.retrieval.sources import SourceOptions, open_source
from retr.retrieval.store.manifest import Manifest
from retr.retrieval.store.staging import Staging
from retr.retrieval.store.store import Store
from retr.retrieval.values.progress import Silent
from retr.retrieval.values.settings import Settings, TermSettings
from retr.retrieval.values.types import Document
from retr.retrieval.writing import commits, indexing, merging
from retr.retrieval.writing.commits import NewCollection
from retr.retrieval.writing.ingest import WINDOW_BATCHES, Ingest

Contents = dict[str, str]

BATCH = 2
WINDOW = BATCH * WINDOW_BATCHES


class Log:
    """Lines that outlive the process that writes them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def write(self, kind: str, value: object) -> None:
        os.write(self._fd, (json.dumps([kind, value]) + "\n").encode())

    def read(self, kind: str) -> list[Any]:
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [value for found, value in lines if found == kind]

    def clear(self) -> None:
        os.truncate(self.path, 0)


class LoggingEncoder(ToyEncoder):
    """Notes every document text that it encodes."""

    batch_size = BATCH

    def __init__(self, log: Log) -> None:
        super().__init__(dim=8)
        self.log = log

    def encode_documents(self, items: Sequence[str]) -> NDArray[np.float32]:
        for item in items:
            self.log.write("encoded", item)
        return super().encode_documents(items)


class KillingDisk(WatchedDisk):
    """Counts operations, and ends the process with SIGKILL at the one of a number."""

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at = kill_at
        self.count = 0
        self._writes = 0

    def tell(
        self, operation: str, path: Path, target: Path | None = None, data: bytes = b""
    ) -> None:
        if operation == "write":  # one in ten, or there would be little else
            self._writes += 1
            if self._writes % 10:
                return
        self.step()

    def step(self) -> None:
        if self.count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1

    def listen(self, folder: Path) -> None:
        """Count what the interpreter does to files in a folder as well, past any `Disk`."""
        inside = str(folder)
        events = {"open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.scandir"}

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event in events and str(arguments[0]).startswith(inside):
                self.step()

        sys.addaudithook(hook)


class LoggingStore(Store):
    """Notes each commit that has returned."""

    def __init__(self, path: Path, disk: KillingDisk, log: Log) -> None:
        super().__init__(path, disk)
        self.log = log

    def commit(
        self, staging: Staging, rebase: Callable[[Manifest | None], Manifest | None]
    ) -> Manifest | None:
        manifest = super().commit(staging, rebase)
        if manifest is not None:
            self.log.write("committed", manifest.generation)
        return manifest


@dataclass(frozen=True)
class Step:
    """Something done to a collection.

    puts:     documents taken in, in windows.
    name:     of their source, whose other documents vanish.
    removes:  ids deleted.
    then:     what changes nothing that can be found.
    """

    label: str
    puts: Contents = field(default_factory=dict)
    name: str | None = None
    removes: tuple[str, ...] = ()
    then: Callable[[Store, Snapshot], object] | None = None

    def run(self, store: Store, encoder: ToyEncoder) -> None:
        snapshot = Snapshot(store, store.read()[0]) if store.exists() else None
        if self.puts:
            settings = Settings() if snapshot is None else snapshot.settings
            new = NewCollection(encoder.space, {"name": encoder.name, "options": {}}, settings)
            run = Ingest(store, new, encoder, snapshot, Silent(), flush_seconds=0)
            source = open_source(
                [Document(id, text, metadata={"n": len(text)}) for id, text in self.puts.items()],
                SourceOptions(name=self.name),
            )
            run.run(source, vanish=self.name is not None)
        assert self.puts or snapshot is not None
        if snapshot is None:
            return
        if self.removes:
            commits.delete_rows(store, lambda s: _rows(s, self.removes), snapshot)
        if self.then is not None:
            self.then(store, snapshot)
        store.vacuum()

    def after(self, before: Contents, sources: dict[str, str | None]) -> Contents:
        """Return what can be found once it is done."""
        gone = {*self.removes, *self.vanished(before, sources)}
        return {id: text for id, text in {**before, **self.puts}.items() if id not in gone}

    def vanished(self, before: Contents, sources: dict[str, str | None]) -> set[str]:
        if self.name is None:
            return set()
        return {id for id in before if sources[id] == self.name and id not in self.puts}

    def check(self, before: Contents, found: Contents, sources: dict[str, str | None]) -> None:
        """Refuse what cannot be found when it was killed on the way."""
        new = [id for id, text in self.puts.items() if before.get(id) != text]
        taken = [found.get(id) == self.puts[id] for id in new]
        count = sum(taken)
        assert all(taken[:count]), "a later document is there and an earlier one is not"
        assert count % WINDOW == 0 or count == len(new), "a part of a window"
        gone = {*self.removes, *self.vanished(before, sources)} & before.keys()
        lost = {id for id in before if id not in found}
        assert lost in (set(), gone), "deleted in part, or what nobody deleted"
        assert not lost or count == len(new), "deleted before everything was there"
        expected = {**before, **{id: self.puts[id] for id in new[:count]}}
        assert found == {id: text for id, text in expected.items() if id not in lost}

    def to_encode(self, before: Contents) -> int:
        return sum(before.get(id) != text for id, text in self.puts.items())


def _rows(snapshot: Snapshot, ids: Sequence[str]) -> NDArray[np.int64]:
    return np.concatenate(snapshot.rows_of(ids))


def texts(numbers: range, version: int = 1) -> Contents:
    return {f"d{i}": f"document {i} of version {version}" for i in numbers}


def index_flat(store: Store, snapshot: Snapshot) -> None:
    loading = snapshot.manifest.encoder
    snapshot = commits.change_settings(store, {"spec": "flat"}, loading, snapshot)
    indexing.index_all(store, snapshot)


WORDS = TermSettings("english:1")
STEPS = [
    Step("build", texts(range(40)), "shelf"),
    Step("build again", {**texts(range(20, 40)), **texts(range(10, 20), 2)}, "shelf"),
    Step("add", texts(range(50, 70))),
    Step("delete", removes=("d50", "d69", "d15")),
    Step("words", then=lambda store, snapshot: indexing.index_words(store, snapshot, WORDS)),
    Step("index", then=lambda store, snapshot: index_flat(store, snapshot)),
    *[Step(f"add {i}", texts(range(80 + i, 81 + i))) for i in range(5)],
    Step("add and merge", texts(range(30, 90), 3)),
    Step("delete much", removes=tuple(f"d{i}" for i in range(35, 60))),
    Step("merge", then=lambda store, snapshot: merging.merge_small(store, snapshot)),
    Step("compact", then=lambda store, snapshot: merging.merge_all(store, snapshot)),
    Step(
        "settings",
        then=lambda store, snapshot: commits.change_settings(
            store, {"memory": 10**9}, snapshot.manifest.encoder, snapshot
        ),
    ),
    Step("delete all", removes=tuple(f"d{i}" for i in range(100))),
    Step("compact nothing", then=lambda store, snapshot: merging.merge_all(store, snapshot)),
    Step("add to nothing", texts(range(5))),
]


def histories() -> list[tuple[Contents, dict[str, str | None]]]:
    """Return what can be found before each step, with the source of each, and at the end."""
    found: list[tuple[Contents, dict[str, str | None]]] = [({}, {})]
    for step in STEPS:
        before, sources = found[-1]
        after = step.after(before, sources)
        names = {**sources, **dict.fromkeys(step.puts, step.name)}
        found.append((after, {id: names[id] for id in after}))
    return found


def contents(collection: retr.Collection) -> Contents:
    hits = collection.search("document", k=1000, mode="dense")
    if "lexical" in collection.settings:  # every row, with its words or none of it
        for mode in ("lexical", "hybrid"):
            found = collection.search("document", k=1000, mode=mode)
            assert {hit.row for hit in found} == {hit.row for hit in hits}, mode
    assert len({hit.id for hit in hits}) == len(hits) == len(collection), "an id twice"
    for hit in hits:
        assert hit.text is not None
        assert hit.metadata == {"n": len(hit.text)}
    return {hit.id: hit.text or "" for hit in hits}


def in_a_fork(task: Callable[[], object]) -> int:
    """Start a task in a process of its own and return its number."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            task()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid


def ended(pid: int) -> int:
    """Wait for a process; 0 where it ended well, else minus its signal or its code."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def must(task: Callable[[], object], what: str) -> None:
    if ended(in_a_fork(task)) != 0:
        raise SystemExit(f"failed: {what}")


def warm_up(folder: Path) -> None:
    """Import here what every fork would import, without the threads that using it starts."""
    path, log = folder / "warm.retr", Log(folder / "warm")

    def all_steps() -> None:
        write(path, log, range(len(STEPS)), KillingDisk(None))
        check_whole(path, log, histories()[-1][0])
        log.write("modules", sorted(sys.modules))

    must(all_steps, "all steps, not killed")
    for name in log.read("modules")[0]:
        with contextlib.suppress(ImportError):  # some only exist once another is used
            importlib.import_module(name)
    shutil.rmtree(path)
    names = [(thread / "comm").read_text() for thread in Path("/proc/self/task").glob("*")]
    threads = [name for name in names if not name.startswith("jemalloc")]  # it sees to forks
    assert len(threads) <= 1, f"threads are not forked: {threads}"


def write(path: Path, log: Log, numbers: Sequence[int], disk: KillingDisk) -> None:
    """Do some of the steps, noting each that is done."""
    store = LoggingStore(path, disk, log)
    for number in numbers:
        STEPS[number].run(store, LoggingEncoder(log))
        log.write("done", number)


def look_and_finish(path: Path, log: Log, number: int) -> None:
    """Look at what a step that was killed has left, and run it again.

    The log is of that step only.
    """
    step = STEPS[number]
    (before, sources), (after, _) = histories()[number : number + 2]
    committed = log.read("committed")
    encoder = LoggingEncoder(log)
    store = Store(path)
    if store.exists():
        collection = retr.open(path, encoder=encoder)
        assert store.verify() == []
        if committed:
            assert collection.generation in (committed[-1], committed[-1] + 1)
        found = contents(collection)
        step.check(before, found, sources)
    else:
        assert not committed
        assert not before
    write(path, log, [number], KillingDisk(None))
    # In between, one window at most was encoded and not committed.
    assert len(log.read("encoded")) <= step.to_encode(before) + WINDOW
    check_whole(path, log, after)


def check_whole(path: Path, log: Log, after: Contents) -> None:
    collection = retr.open(path, encoder=LoggingEncoder(log))
    assert collection.verify() == []
    assert contents(collection) == after
    collection.vacuum()
    assert list((path / "staging").iterdir()) == [], "a dead writer's files"
    store = Store(path)
    named = {name for g in store.generations() for name in store._load(g).files}
    there = {str(p.relative_to(path)) for p in path.glob("*/*.*")}
    assert {name for name in there if not name.startswith("manifests/")} == named


def points(folder: Path, count: int, random_: random.Random) -> dict[str, object]:
    """Kill each step at operations spread over all of it."""
    folder = folder.resolve()
    log = Log(folder / "log")
    bases = [folder / f"base{i}" for i in range(len(STEPS))]
    sizes: list[int] = []
    for number in range(len(STEPS)):
        # What one step leaves is what the next begins with.
        following = folder / f"base{number + 1}"
        if bases[number].exists():
            shutil.copytree(bases[number], following)

        def run(number: int = number, following: Path = following) -> None:
            disk = KillingDisk(None)
            disk.listen(following)
            write(following, log, [number], disk)
            log.write("operations", disk.count)

        must(run, f"{STEPS[number].label}, not killed")
        sizes.append(log.read("operations")[-1])
    everywhere = [(i, at) for i, size in enumerate(sizes) for at in range(size)]
    making = everywhere[: sizes[0] // 4]  # a folder half made happens once, and early
    others = random_.sample(everywhere, min(count, len(everywhere)))
    chosen = sorted({*random_.sample(making, min(20, len(making))), *others})
    killed: Counter[str] = Counter()
    path = folder / "c.retr"
    for number, at in chosen:
        log.clear()
        if bases[number].exists():
            shutil.copytree(bases[number], path)

        def run(number: int = number, at: int = at) -> None:
            disk = KillingDisk(at)
            disk.listen(path)
            write(path, log, [number], disk)

        what = f"{STEPS[number].label}, killed at operation {at} of {sizes[number]}"
        # A random name or two more or less may end a step before its last operations.
        if ended(in_a_fork(run)) == -signal.SIGKILL:
            killed[STEPS[number].label] += 1
        must(lambda number=number: look_and_finish(path, log, number), what)
        shutil.rmtree(path)
    return {"kills": sum(killed.values()), "steps": killed, "operations": sum(sizes)}


def times(folder: Path, count: int, random_: random.Random) -> dict[str, object]:
    """Kill at moments; what was killed goes on from there, and is killed again."""
    log = Log(folder / "log")
    path = folder / "c.retr"
    start = time.monotonic()
    must(lambda: write(path, log, range(len(STEPS)), KillingDisk(None)), "all steps")
    longest = (time.monotonic() - start) / 4
    kills, rounds, next_step = 0, 0, len(STEPS)
    while kills < count:
        if next_step == len(STEPS):
            must(lambda: check_whole(path, log, histories()[-1][0]), "all steps")
            shutil.rmtree(path)
            rounds, next_step = rounds + 1, 0
        log.clear()
        left = range(next_step, len(STEPS))
        pid = in_a_fork(lambda left=left: write(path, log, left, KillingDisk(None)))
        time.sleep(random_.uniform(0, longest))
        os.kill(pid, signal.SIGKILL)
        kills += ended(pid) == -signal.SIGKILL
        next_step = finish(path, log, next_step)
    return {"kills": kills, "rounds": rounds}


def finish(path: Path, log: Log, first: int) -> int:
    """Look at what steps from a first one on have left; return the number of the next."""
    done = log.read("done")
    number = done[-1] + 1 if done else first
    if number < len(STEPS):
        lines = log.path.read_text().splitlines()
        last = max((i for i, line in enumerate(lines) if '"done"' in line), default=-1)
        log.path.write_text("".join(line + "\n" for line in lines[last + 1 :]))
        what = f"{STEPS[number].label}, killed at some moment"
        must(lambda: look_and_finish(path, log, number), what)
        number += 1
    return number


def main() -> None:
    mode, folder = sys.argv[1], Path(sys.argv[2])
    if mode == "run":
        write(folder / "c.retr", Log(folder / "log"), range(len(STEPS)), KillingDisk(None))
        return
    if mode == "check":
        number = finish(folder / "c.retr", Log(folder / "log"), 0)
        sys.stdout.write(json.dumps({"next": number}))
        return
    warm_up(folder)
    do = {"points": points, "times": times}[mode]
    sys.stdout.write(json.dumps(do(folder, int(sys.argv[3]), random.Random(int(sys.argv[4])))))


if __name__ == "__main__":
    main()
