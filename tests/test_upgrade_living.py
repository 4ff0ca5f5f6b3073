"""Upgrades beside other readers and writers, on a full disk, and through indexes of every kind."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import retr
from retr.retrieval.store.store import Store
from retr.retrieval.upgrade.backfill import Backfill
from retr.retrieval.values.errors import InputError, StorageError
from retr.retrieval.values.progress import Silent

from .disks import FullDisk
from .upgrades import (
    QUERIES,
    ModelEncoder,
    assert_scores,
    build,
    documents,
    kinds,
    new_encoder,
    old_encoder,
    text_of,
    texts_found,
)

ROWS = 120
SAMPLE = 60


@pytest.fixture
def collection(tmp_path: Path) -> retr.Collection:
    return build(tmp_path / "c.retr", range(ROWS))


# --- others at it


def test_readers_see_one_generation_each(collection: retr.Collection) -> None:
    """Whatever step falls between two of a reader's searches, each is of a whole generation.

    The readers give vectors of the space that their snapshot is of, and find every document once.
    """
    wrong: list[str] = []
    generations: set[int] = set()
    asked = {e.space: e.encode_queries([QUERIES[0]])[0] for e in (old_encoder(), new_encoder())}
    over = threading.Event()

    def read() -> None:
        reader = retr.open(collection.path)
        while not over.is_set():
            reader.refresh()
            hits = reader.search(vector=asked[reader.space], k=1000)
            generations.add(hits.generation)
            ids = [hit.id for hit in hits]
            if len(ids) != len(set(ids)) or not set(ids) >= {f"d{i}" for i in range(ROWS)}:
                wrong.append(f"generation {hits.generation}: {len(ids)}, {len(set(ids))}")

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        rounds = ((new_encoder(), old_encoder()), (old_encoder(), new_encoder()))
        for version, (new, old) in enumerate(rounds):
            collection.upgrade(new, sample=SAMPLE)
            collection.map_upgrade()
            collection.backfill(rows=20)
            collection.add(documents(range(ROWS, ROWS + 5), version))
            collection.rollback_upgrade(encoder=old)
            collection.backfill()
            collection.upgrade(new, sample=SAMPLE)
            store, snapshot = collection._store, collection._snapshot
            Backfill(store, snapshot, new, Silent(), flush_seconds=0).run(None, None)
            collection.refresh()
            collection.finish_upgrade()
            collection.compact()
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert len(generations) > 3


def test_two_backfills_at_once_embed_no_row_for_nothing_found_twice(
    collection: retr.Collection,
) -> None:
    collection.upgrade(new_encoder(), sample=SAMPLE)
    others = [retr.open(collection.path, encoder=new_encoder()) for _ in range(2)]
    runs = [
        Backfill(o._store, o._snapshot, o.encoder, Silent(), flush_seconds=0, seed=seed)
        for seed, o in enumerate(others)
    ]
    runs[0].run(40, None)
    runs[1].run(None, None)  # began from the generation of before: half of its rows are done
    collection.refresh()
    assert kinds(collection) == {"new": ROWS, "mapped": 0, "old": 0}
    assert_scores(collection)
    own = [s for s in collection._snapshot.dense if s.entry.space == "s2"]
    rows = np.concatenate([s.rows for s in own])
    assert len(rows) == len(set(rows.tolist())) == ROWS


def test_documents_deleted_while_they_are_embedded_stay_away(collection: retr.Collection) -> None:
    """Even where their marks were compacted away meanwhile."""
    collection.upgrade(new_encoder(), sample=SAMPLE)
    late = retr.open(collection.path, encoder=new_encoder())
    run = Backfill(late._store, late._snapshot, late.encoder, Silent())
    collection.delete([f"d{i}" for i in range(0, ROWS, 2)])
    collection.compact()
    run.run(None, None)
    collection.refresh()
    assert texts_found(collection) == {f"d{i}": text_of(i) for i in range(1, ROWS, 2)}
    collection.compact()
    assert texts_found(collection) == {f"d{i}": text_of(i) for i in range(1, ROWS, 2)}
    assert collection._snapshot.deleted.tolist() == []


def test_who_comes_second_with_a_step_is_told(collection: retr.Collection) -> None:
    other = retr.open(collection.path, encoder=old_encoder())
    collection.upgrade(new_encoder(), sample=SAMPLE)
    other_new = retr.open(collection.path, encoder=new_encoder())
    run = Backfill(other_new._store, other_new._snapshot, other_new.encoder, Silent())
    with pytest.raises(InputError, match="an upgrade is under way"):
        other.upgrade(new_encoder(), sample=SAMPLE)
    collection.rollback_upgrade()
    with pytest.raises(InputError, match="its encoder was changed meanwhile"):
        run.run(None, None)
    collection.refresh()
    assert texts_found(collection) == {f"d{i}": text_of(i) for i in range(ROWS)}


def test_two_starts_at_once(collection: retr.Collection) -> None:
    """The second is measured while the first is committed, and then refused."""
    other = retr.open(collection.path, encoder=old_encoder())

    def confirm(_: object) -> bool:
        collection.upgrade(new_encoder(), sample=SAMPLE)
        return True

    with pytest.raises(InputError, match="another writer has changed the encoder meanwhile"):
        other.upgrade(ModelEncoder("third", 16, 0.1), sample=SAMPLE, confirm=confirm)
    assert collection.refresh() == 2
    assert list((collection.path / "staging").iterdir()) == []


# --- a full disk

STEPS: dict[str, Callable[[retr.Collection], object]] = {
    "start": lambda c: c.upgrade(new_encoder(), sample=SAMPLE),
    "map": lambda c: c.map_upgrade(),
    "backfill": lambda c: c.backfill(),
    "finish": lambda c: c.finish_upgrade(),
    "rollback": lambda c: c.rollback_upgrade(encoder=old_encoder()),
}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a collection that is ready for each step; not to be written to."""
    folder = tmp_path_factory.mktemp("full")
    paths = {"start": folder / "start.retr"}
    collection = build(paths["start"], range(ROWS))
    shutil.copytree(paths["start"], folder / "map.retr")
    collection = retr.open(folder / "map.retr", encoder=old_encoder())
    collection.upgrade(new_encoder(), sample=SAMPLE)
    for name in ("map", "backfill", "rollback", "finish"):
        paths[name] = folder / f"{name}.retr"
        if name != "map":
            shutil.copytree(folder / "map.retr", paths[name])
    retr.open(paths["finish"], encoder=new_encoder()).backfill()
    collection = retr.open(paths["rollback"], encoder=new_encoder())
    collection.backfill(rows=10)
    collection.add(documents(range(ROWS, ROWS + 2)))
    return paths


@pytest.mark.parametrize("name", STEPS)
def test_a_full_disk_at_any_operation(name: str, before: dict[str, Path], tmp_path: Path) -> None:
    encoder = new_encoder() if name != "start" else old_encoder()
    texts = texts_found(retr.open(before[name], encoder=encoder))
    failed = 0
    for room in range(0, 400, 1 if name == "finish" else 3):
        path = tmp_path / f"{room}.retr"
        shutil.copytree(before[name], path)
        collection = retr.open(path, encoder=encoder)
        collection._store = Store(path, FullDisk(room))
        try:
            STEPS[name](collection)
            break
        except StorageError as error:
            failed += 1
            assert os.strerror(errno.ENOSPC) in str(error)
        again = retr.open(path, encoder=ENCODERS[retr.open(path).space.encoder]())
        assert again.verify() == []
        assert texts_found(again) == texts
        assert_scores(again)
        shutil.rmtree(path)
    else:
        pytest.fail("it never came to an end")
    assert failed


ENCODERS = {"model:old": old_encoder, "model:new": new_encoder}


# --- indexes


@pytest.mark.parametrize("spec", ["ivfpq", "flat@8"])
def test_bridged_search_through_an_index_finds_what_it_finds_without(
    tmp_path: Path, spec: str
) -> None:
    """Of the best 10, to 0.01, at the point that the index is set to."""
    rows = 2_000
    collection = build(tmp_path / "c.retr", range(rows), spec=spec)
    collection.tune(recall=0.995)
    data = {s.entry.data for s in collection._snapshot.dense}
    collection.upgrade(new_encoder(), sample=200)
    assert {s.entry.data for s in collection._snapshot.dense} >= data  # none was built anew
    (old,) = [s.entry for s in collection._snapshot.dense if s.entry.space == "s1"]
    assert old.index is not None
    assert old.index.measured["own_queries"]  # measured again, on bridged ones
    queries = [text_of(10_000 + i, words=4) for i in range(200)]
    found = collection.search(queries, mode="dense")
    exact = collection.search(queries, mode="dense", recall="exact")
    shared = [
        len({h.id for h in a} & {h.id for h in b}) / 10 for a, b in zip(found, exact, strict=True)
    ]
    assert np.mean(shared) >= 0.99
    collection.map_upgrade()
    mapped = [s.entry for s in collection._snapshot.dense if s.entry.space == "s3"]
    assert [entry.index.spec if entry.index else None for entry in mapped] == [spec]
    collection.backfill(rows=1_200)
    collection.backfill()
    collection.finish_upgrade()
    (only,) = [s.entry for s in collection._snapshot.dense if s.entry.index is not None]
    assert only.index is not None
    assert only.index.spec == spec
    fresh = build(tmp_path / "fresh.retr", range(rows), new_encoder())
    one, other = collection.search(QUERIES, recall="exact"), fresh.search(QUERIES, recall="exact")
    for a, b in zip(one, other, strict=True):
        assert [hit.id for hit in a] == [hit.id for hit in b]
        assert np.allclose([hit.score for hit in a], [hit.score for hit in b], atol=1e-4)
