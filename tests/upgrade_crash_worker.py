"""Kills upgrades and looks at what they leave; `test_upgrade_kill.py` runs it as a program.

    upgrade_crash_worker.py FOLDER COUNT SEED   killed at file operations, each step in turn

Prints a JSON object. How writers are killed is in `crash_worker.py`.
"""

from __future__ import annotations

import importlib
import json
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from crash_worker import KillingDisk, Log, LoggingStore, ended, in_a_fork, must
from upgrades import (
    ModelEncoder,
    assert_same_answers,
    assert_scores,
    documents,
    new_encoder,
    old_encoder,
    text_of,
    texts_found,
)

import retr
from retr.retrieval.store.store import Store
from retr.retrieval.upgrade.backfill import Backfill
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.progress import Silent

Texts = dict[str, str | None]

ROWS = 60
SAMPLE = 24


@dataclass(frozen=True)
class Step:
    """Something done in an upgrade.

    puts, version: documents that are added; removes: those that are deleted.
    done:          what the step says where it has been done already.
    """

    label: str
    run: Callable[[retr.Collection], object]
    puts: range = range(0)
    version: int = 1
    removes: tuple[str, ...] = field(default=())
    done: str | None = None

    def after(self, before: Texts) -> Texts:
        """Return what is found once it is done."""
        put = {f"d{i}": text_of(i, self.version) for i in self.puts}
        return {id: text for id, text in {**before, **put}.items() if id not in self.removes}


def started(to: Callable[[], ModelEncoder]) -> Callable[[retr.Collection], object]:
    return lambda c: c.upgrade(to(), sample=SAMPLE, force=True, progress=False)


def backfilled(rows: int | None) -> Callable[[retr.Collection], object]:
    """Embed rows, and commit each window of them."""

    def run(collection: retr.Collection) -> None:
        store, snapshot = collection._store, collection._snapshot
        if snapshot.manifest.upgrade is not None:
            Backfill(store, snapshot, collection.encoder, Silent(), flush_seconds=0).run(rows, None)
        store.vacuum()

    return run


def added(numbers: range, version: int = 1) -> Callable[[retr.Collection], object]:
    return lambda c: c.add(documents(numbers, version), progress=False)


GONE = tuple(f"d{i}" for i in range(20, 26))
UNDER_WAY, NONE = "an upgrade is", "no upgrade is under way"
STEPS = [
    Step("start", started(new_encoder), done=UNDER_WAY),
    Step("add", added(range(5), 2), range(5), 2),
    Step("delete", lambda c: c.delete(list(GONE)), removes=GONE),
    Step("map", lambda c: c.map_upgrade(progress=False)),
    Step("compact", lambda c: c.compact()),
    Step("backfill", backfilled(None)),
    Step("finish", lambda c: c.finish_upgrade(), done=NONE),
    Step("start again", started(old_encoder), done=UNDER_WAY),
    Step("backfill some", backfilled(8)),
    Step("add more", added(range(70, 74)), range(70, 74)),
    Step("map again", lambda c: c.map_upgrade(progress=False)),
    Step("roll back", lambda c: c.rollback_upgrade(encoder=new_encoder()), done="rolled back alre"),
    Step("backfill back", backfilled(None)),
    Step("compact at the end", lambda c: c.compact()),
]
ENCODERS = {"model:old": old_encoder, "model:new": new_encoder}


def opened(path: Path, log: Log, disk: KillingDisk | None = None) -> retr.Collection:
    """Open with the encoder that it has now."""
    manifest = Store(path).read()[0]
    encoder = ENCODERS[str(manifest.encoder["name"])]()
    collection = retr.open(path, encoder=encoder)
    collection._store = LoggingStore(path, disk or KillingDisk(None), log)
    return collection


def run(path: Path, log: Log, number: int, disk: KillingDisk | None = None) -> None:
    step = STEPS[number]
    try:
        step.run(opened(path, log, disk))
    except InputError as error:
        if step.done is None or step.done not in str(error):
            raise


def look(path: Path, log: Log, allowed: list[Texts]) -> None:
    """See that nothing is lost, found twice, or found by the wrong vector."""
    collection = opened(path, log)
    assert collection.verify() == []
    assert texts_found(collection) in allowed
    assert_scores(collection)


def look_and_finish(path: Path, log: Log, number: int, before: Texts) -> None:
    """Look at what a step that was killed has left, and run it again."""
    after = STEPS[number].after(before)
    committed = log.read("committed")
    look(path, log, [before, after])
    if committed:
        assert Store(path).generations()[0] in (committed[-1], committed[-1] + 1)
    run(path, log, number)
    look(path, log, [after])
    collection = opened(path, log)
    collection.vacuum()
    assert list((path / "staging").iterdir()) == []
    store = Store(path)
    named = {name for g in store.generations() for name in store._load(g).files}
    there = {str(p.relative_to(path)) for p in path.glob("*/*.*")}
    assert {name for name in there if not name.startswith("manifests/")} == named


def points(folder: Path, count: int, random_: random.Random) -> dict[str, object]:
    """Kill each step at operations spread over all of it."""
    folder = folder.resolve()
    log = Log(folder / "log")
    bases = [folder / f"base{i}" for i in range(len(STEPS) + 1)]
    must(lambda: retr.build(documents(range(ROWS)), bases[0], encoder=old_encoder()), "build")
    sizes: list[int] = []
    histories: list[Texts] = [{f"d{i}": text_of(i) for i in range(ROWS)}]
    for number, step in enumerate(STEPS):
        following = bases[number + 1]
        shutil.copytree(bases[number], following)

        def whole(number: int = number, following: Path = following) -> None:
            disk = KillingDisk(None)
            disk.listen(following)
            run(following, log, number, disk)
            log.write("operations", disk.count)
            log.write("modules", sorted(sys.modules))

        must(whole, f"{step.label}, not killed")
        sizes.append(log.read("operations")[-1])
        histories.append(step.after(histories[-1]))
    must(lambda: at_the_end(bases[-1], log, histories[-1], folder), "all steps, not killed")
    for name in log.read("modules")[-1]:
        importlib.import_module(name) if name.startswith("retr.") else None
    everywhere = [(i, at) for i, size in enumerate(sizes) for at in range(size)]
    # Every step is killed somewhere, and before its last operation.
    own = [(i, random_.randrange(max(1, size - 2))) for i, size in enumerate(sizes)]
    chosen = sorted({*own, *random_.sample(everywhere, min(count, len(everywhere)))})
    killed: Counter[str] = Counter()
    path = folder / "c.retr"
    for number, at in chosen:
        log.clear()
        shutil.copytree(bases[number], path)

        def cut_short(number: int = number, at: int = at) -> None:
            disk = KillingDisk(at)
            disk.listen(path)
            run(path, log, number, disk)

        what = f"{STEPS[number].label}, killed at operation {at} of {sizes[number]}"
        if ended(in_a_fork(cut_short)) == -signal.SIGKILL:
            killed[STEPS[number].label] += 1
        before = histories[number]
        must(lambda n=number, b=before: look_and_finish(path, log, n, b), what)
        shutil.rmtree(path)
    return {"kills": sum(killed.values()), "steps": killed, "operations": sum(sizes)}


def at_the_end(path: Path, log: Log, texts: Texts, folder: Path) -> None:
    """It is what a collection is that never had another encoder."""
    collection = opened(path, log)
    assert texts_found(collection) == texts
    fresh = retr.build(
        [retr.Document(id, text) for id, text in texts.items()],
        folder / "fresh.retr",
        encoder=new_encoder(),
    )
    assert_same_answers(collection, fresh)


if __name__ == "__main__":
    result = points(Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3])))
    sys.stdout.write(json.dumps(result))
