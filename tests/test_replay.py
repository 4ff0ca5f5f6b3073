"""What a power cut leaves: every prefix of recorded commits, with unsynced writes dropped.

SIGKILL cannot show this, for the operating system writes what a killed process left unwritten.
RETR_TEST_MIXTURES sets how many random mixtures of lost and kept are tried after each operation.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import retr
from retr.retrieval.encoders.vectors import VectorsEncoder
from retr.retrieval.sources import open_source
from retr.retrieval.values.errors import CollectionNotFoundError
from retr.retrieval.values.progress import Silent
from retr.retrieval.values.settings import TermSettings
from retr.retrieval.values.types import Document
from retr.retrieval.writing.commits import NewCollection
from retr.retrieval.writing.ingest import Ingest

from .disks import Operation, RecordingDisk, RecordingStore, Variant, every_prefix, lay_out

VECTORS = np.random.default_rng(7).standard_normal((60, 3)).astype(np.float32)
ENCODER = VectorsEncoder.for_data(3)

Contents = dict[str, tuple[str | None, int | None]]
Step = Callable[[retr.Collection], object]


def documents(ids: range, version: int = 1) -> list[Document]:
    return [
        Document(f"d{i}", f"text {i}, version {version}", metadata={"n": i}, vector=VECTORS[i])
        for i in ids
    ]


def contents(collection: retr.Collection) -> Contents:
    """Return all that can be found, by id."""
    hits = collection.search(vector=VECTORS[0], k=1000)
    found: Contents = {hit.id: (hit.text, hit.metadata.get("n")) for hit in hits}
    assert len(found) == len(hits) == len(collection)
    if "lexical" in collection.settings:
        assert {hit.id for hit in collection.search("text", k=1000)} == found.keys()
    return found


class Recording:
    """A collection whose file operations are recorded, and what it held after each step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.disk = RecordingDisk()
        self.store = RecordingStore(path, self.disk)
        self.held: list[tuple[int, Contents]] = [(0, {})]

    def build(self, ids: range) -> retr.Collection:
        new = NewCollection(ENCODER.space, {"name": ENCODER.name, "options": {}})
        run = Ingest(self.store, new, ENCODER, None, Silent())
        run.run(open_source(documents(ids)), vanish=False)
        collection = retr.open(self.path)
        collection._store = self.store
        self.note(collection)
        return collection

    def note(self, collection: retr.Collection) -> None:
        self.held.append((len(self.disk.operations), contents(collection)))

    def may_hold(self, number: int) -> list[Contents]:
        """Return what may be found after so many operations: of before or after the step."""
        before = max((at, i) for i, (at, _) in enumerate(self.held) if at <= number)[1]
        return [held for _, held in self.held[before : before + 2]]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Record every sort of commit."""
    recording = Recording(tmp_path_factory.mktemp("recorded") / "sub" / "c.retr")
    # One generation each, but for merges and indexes, which change nothing that is found.
    collection = recording.build(range(10))
    steps: list[Step] = [
        lambda c: c.add(documents(range(5, 15), version=2)),
        lambda c: c.delete(["d0", "d14"]),
        lambda c: c.settle({}, TermSettings("english:1")),
        lambda c: c.compact(),
        *[lambda c, i=i: c.add(documents(range(20 + i, 21 + i))) for i in range(8)],
        lambda c: c.index("flat"),
        lambda c: c.add(documents(range(3))),
        lambda c: c.delete([f"d{i}" for i in range(1, 9)]),
        lambda c: c.vacuum(),
        lambda c: c.compact(),
        lambda c: c.delete([f"d{i}" for i in range(60)]),
        lambda c: c.compact(),
        lambda c: c.add(documents(range(2))),
    ]
    for step in steps:
        step(collection)
        recording.note(collection)
    assert len(collection) == 2
    return recording


def test_the_recording_is_all_there_is(recording: Recording, tmp_path: Path) -> None:
    """Replayed whole, it gives the files that are there, so nothing was written past it."""
    *_, (_, simulation) = every_prefix(recording.path.parent.parent, recording.disk.operations)
    lay_out(simulation.left(Variant.THERE, random.Random(0)), tmp_path / "all")
    replayed = tmp_path / "all" / "sub" / "c.retr"

    def files(path: Path) -> dict[str, bytes]:
        found = (p for p in path.rglob("*") if p.is_file())
        # Locks hold nothing, and what is in staging folders is nobody's once they are gone.
        return {
            str(p.relative_to(path)): p.read_bytes()
            for p in found
            if p.name != "lock" and "staging" not in p.parts
        }

    assert files(replayed) == files(recording.path)


@pytest.mark.parametrize("variant", list(Variant))
def test_every_prefix_of_a_commit_is_a_whole_generation(
    recording: Recording, tmp_path: Path, variant: Variant
) -> None:
    random_ = random.Random(variant)
    rounds = int(os.environ.get("RETR_TEST_MIXTURES", "1")) if variant is Variant.MIXED else 1
    root, target = recording.path.parent.parent, tmp_path / "crashed"
    known: dict[object, int] = {}
    for _ in range(rounds):
        for number, (committed, simulation) in enumerate(
            every_prefix(root, recording.disk.operations)
        ):
            left = simulation.left(variant, random_)
            # What lies in a staging folder is looked at by nobody.
            seen = frozenset(item for item in left.items() if "staging" not in item[0].parts)
            allowed = recording.may_hold(number)
            key = (seen, committed, len(allowed), str(allowed[0]))
            if key in known and random_.random() < 0.97:
                continue
            lay_out(left, target)
            path = target / "sub" / "c.retr"
            after = recording.disk.operations[number - 1] if number else None
            known[key] = check(path, committed, allowed, after)
            # Going on costs more than opening, so not everywhere.
            if known[key] == 0 or random_.random() < 0.25:
                go_on(path, known[key])
            shutil.rmtree(target)
    assert set(known.values()) == set(range(recording.disk.committed + 1))


def check(path: Path, committed: int, allowed: list[Contents], after: Operation | None) -> int:
    """Open what a crash left, and return its generation, 0 for none."""
    try:
        collection = retr.open(path)
    except CollectionNotFoundError:
        assert committed == 0, after
        return 0
    assert collection.generation in (committed, committed + 1), after
    assert collection.verify() == [], after
    assert contents(collection) in allowed, after
    return collection.generation


def go_on(path: Path, generation: int) -> None:
    """Write to what a crash left."""
    collection = retr.build(documents(range(40, 43)), path)
    assert collection.generation > generation
    assert contents(collection).keys() >= {"d40", "d41", "d42"}
    collection.compact()
    assert collection.verify() == []
    assert list((path / "staging").iterdir()) == []
    # Nothing is left of the commit that was cut short.
    named = {n for g in collection._store.generations() for n in collection._store._load(g).files}
    there = {str(p.relative_to(path)) for p in path.glob("*/*.*")}
    assert {name for name in there if not name.startswith("manifests/")} == named


def test_repair_survives_a_power_cut(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "recorded" / "c.retr")
    collection = recording.build(range(5))
    collection.add(documents(range(5, 6)))
    newest = recording.path / "manifests" / "00000002.json"
    data = newest.read_bytes()
    newest.write_bytes(data[:-5])
    whole = recording.disk.operations
    begun = len(whole)
    recording.store.repair()
    repaired = contents(retr.open(recording.path))
    assert repaired.keys() == {f"d{i}" for i in range(5)}
    prefixes = every_prefix(recording.path.parent, whole)
    for number, (committed, simulation) in enumerate(prefixes):
        if number < begun:
            continue
        if number == begun:
            simulation.live[newest].live = simulation.live[newest].durable = data[:-5]
        for variant in Variant:
            target = tmp_path / "crashed"
            lay_out(simulation.left(variant, random.Random(number)), target)
            opened = retr.open(target / "c.retr")
            assert opened.generation in ((1, 3) if committed < 3 else (3,))
            assert contents(opened) == repaired
            shutil.rmtree(target)
