"""Builds of indexes that are stopped, killed, and go on; and searches beside them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import retr
from retr.indexes import IndexSpec, kind
from retr.indexes.arrays import ArraySource
from retr.indexes.base import Metric
from retr.indexes.checkpoint import FileCheckpoint
from retr.indexes.exact import scan
from retr.indexes.kinds import _shortlist
from retr.indexes.tuning import tune as tuning
from retr.retrieval.store.store import Store
from retr.retrieval.values.settings import Settings

pytest.importorskip("faiss")

ROWS, DIM, BLOCK = 3000, 64, 500
SPECS = ("hnsw", "hnsw@32", "ivfpq", "binary", "flat@32", "ivfpq@32/48")


def vectors(rows: int = ROWS) -> NDArray[np.float32]:
    """Return unit vectors of clusters."""
    random = np.random.default_rng(3)
    made = random.standard_normal((60, DIM))[random.integers(0, 60, rows)]
    made += 0.6 * random.standard_normal((rows, DIM))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(autouse=True)
def few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_QUERIES", 200)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shortlist, "_BLOCK_VALUES", BLOCK * DIM)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("text", "dtype"), [*((spec, "float32") for spec in SPECS), ("flat@32", "float16")]
)
def test_a_build_goes_on_where_it_was_stopped(text: str, dtype: str, tmp_path: Path) -> None:
    spec, source = IndexSpec.parse(text), ArraySource(vectors().astype(dtype), Metric.COSINE)
    seen: list[int] = []

    def stop(done: int, total: int) -> None:
        seen.append(done)
        if len(seen) == 4:
            raise KeyboardInterrupt

    path = tmp_path / "a.part"
    with pytest.raises(KeyboardInterrupt):
        kind(spec.kind).build(source, spec, progress=stop, checkpoint=FileCheckpoint(path, 0))
    assert seen == [500, 1000, 1500, 2000]
    # The block that was being added had no checkpoint yet.
    resumed = kind(spec.kind).build(
        source, spec, progress=lambda done, _: seen.append(done), checkpoint=FileCheckpoint(path, 0)
    )
    assert seen[4:] == [2000, 2500, 3000]
    queries = source.take(np.arange(0, ROWS, 20))
    whole = kind(spec.kind).build(source, spec)
    last = len(whole.points) - 1
    found, wanted = (each.search(queries, 10, effort=last) for each in (resumed, whole))
    if spec.kind == "hnsw":  # its levels are drawn anew
        truth = scan(source, queries, 10).positions
        shares = [
            (hits.positions[:, :, None] == truth[:, None]).any(axis=2).mean()
            for hits in (found, wanted)
        ]
        assert shares[0] > shares[1] - 0.01
    else:
        np.testing.assert_array_equal(found.positions, wanted.positions)
    # Whole, it is not built again.
    seen.clear()
    kind(spec.kind).build(
        source, spec, progress=lambda done, _: seen.append(done), checkpoint=FileCheckpoint(path)
    )
    assert seen == []


def test_a_checkpoint_of_other_vectors_or_cut_short_is_none(tmp_path: Path) -> None:
    spec = IndexSpec.parse("flat@32")
    path = tmp_path / "a.part"
    source = ArraySource(vectors(), Metric.COSINE)
    kind("flat").build(source, spec, checkpoint=FileCheckpoint(path))
    assert FileCheckpoint(path).read(source, "IndexPreTransform").ntotal == ROWS
    for other in (
        ArraySource(vectors()[:100], Metric.COSINE),
        ArraySource(vectors()[:, :63].copy(), Metric.COSINE),
        ArraySource(vectors(), Metric.L2),
    ):
        assert FileCheckpoint(path).read(other, "IndexPreTransform") is None
    assert FileCheckpoint(path).read(source, "IndexHNSWSQ") is None
    os.truncate(path, path.stat().st_size // 2)
    built = kind("flat").build(source, spec, checkpoint=FileCheckpoint(path))
    assert built.search(source.take(np.arange(5)), 1).positions[:, 0].tolist() == list(range(5))
    assert FileCheckpoint(path).read(source, "IndexPreTransform").ntotal == ROWS


def test_a_full_disk_does_not_end_the_build(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = ArraySource(vectors(500), Metric.COSINE)
    checkpoint = FileCheckpoint(tmp_path / "missing" / "a.part", 0)
    built = kind("flat").build(source, IndexSpec.parse("flat@32"), checkpoint=checkpoint)
    assert len(built.search(source.take(np.arange(5)), 1).positions) == 5
    assert "without a checkpoint" in caplog.text


# --- whole collections

WORKER = """
import os, signal, sys
import numpy as np
import retr
from retr.indexes import checkpoint as _checkpoint
from retr.indexes.kinds import _shortlist
from retr.indexes.tuning import tune as tuning
from retr.retrieval.writing import indexing

path, when = sys.argv[1], int(sys.argv[2])
_shortlist._BLOCK_VALUES, _checkpoint._SECONDS = 32_000, 0.0
tuning._QUERIES = 200
done = []
tuned = indexing.tune

def tune(*given, progress, **more):
    def told(done_rows, total):
        print(done_rows, flush=True)
        done.append(done_rows)
        if len(done) == when:
            os.kill(os.getpid(), signal.SIGKILL)
    return tuned(*given, progress=told, **more)

indexing.tune = tune
retr.open(path).index("flat@32")
"""


def run(path: Path, when: int) -> tuple[int, list[int]]:
    """Index in a process that kills itself after so many blocks; return how it ended, and when."""
    done = subprocess.run(
        [sys.executable, "-c", WORKER, path, str(when)],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, [int(line) for line in done.stdout.split()]


def staged(path: Path) -> list[str]:
    return sorted(p.suffix for p in (path / "staging").glob("*/*.*"))


def found(collection: retr.Collection, queries: NDArray[np.float32]) -> list[list[str]]:
    hits = collection.search(vector=queries, k=10, recall=1.0)
    return [[hit.id for hit in each] for each in hits]


@pytest.fixture
def collection(tmp_path: Path) -> retr.Collection:
    """Return one of two segments, so that they are merged before they are indexed."""
    made = retr.build(vectors()[:2000], tmp_path / "c.retr", progress=False)
    made.add(vectors()[2000:], progress=False, ids=[f"b{i}" for i in range(1000)])
    return made


def test_a_killed_index_build_goes_on(collection: retr.Collection) -> None:
    path, queries = collection.path, vectors()[::100]
    before = found(collection, queries)
    status, seen = run(path, 4)
    assert (status, seen) == (-signal.SIGKILL, [500, 1000, 1500, 2000])
    assert staged(path) == [".arrow", ".json", ".part"]
    # Nothing of it shows, and upkeep leaves it alone.
    other = retr.open(path)
    assert found(other, queries) == before
    assert other.verify() == []
    assert not any(name.startswith("staging") for name in other.vacuum())
    # What is deleted meanwhile stays so, though the merged vectors were written before.
    gone = before[0][0]
    other.delete(gone)
    status, again = run(path, 2)
    assert (status, again) == (-signal.SIGKILL, [2000, 2500])
    status, last = run(path, 100)
    assert (status, last) == (0, [2500, 3000])
    assert staged(path) == []
    opened = retr.open(path)
    (dense,) = [s for s in opened.info()["segments"] if s["role"] == "dense"]
    assert (dense["index"], dense["rows"]) == ("flat@32", ROWS)
    assert gone not in {id for ids in found(opened, queries) for id in ids}
    assert opened.search(vector=queries[0], k=10)[0].id != gone
    assert found(opened, queries)[1:] == before[1:]
    assert opened.verify() == []


def test_unfinished_work_goes_when_it_is_of_no_use(collection: retr.Collection) -> None:
    path = collection.path
    assert run(path, 3)[0] == -signal.SIGKILL
    assert staged(path) != []
    # Other settings: the index is no longer wished for.
    other = retr.open(path)
    other.index("binary")
    assert staged(path) == []
    assert run(path, 3)[0] == -signal.SIGKILL
    assert staged(path) != []
    # Other segments: what was merged is no longer what is there.
    other = retr.open(path)
    other.delete([f"b{i}" for i in range(900)])
    other.compact()
    assert staged(path) == []
    assert other.verify() == []


def test_a_folder_of_unfinished_work_that_is_damaged_begins_anew(
    collection: retr.Collection,
) -> None:
    path = collection.path
    assert run(path, 3)[0] == -signal.SIGKILL
    (kept,) = (path / "staging").glob("*/kept.json")
    kept.write_text(kept.read_text()[:-40])
    assert run(path, 100) == (0, [500, 1000, 1500, 2000, 2500, 3000])
    assert run(path, 3)[0] == 0  # there is nothing left to do
    assert retr.open(path).verify() == []


def test_the_same_work_twice_at_once(collection: retr.Collection) -> None:
    """The second does not touch what the first has; the one that ends later finds it done."""
    store = Store(collection.path)
    wish = collection._snapshot.manifest
    from retr.retrieval.store.staging import Unfinished

    work = Unfinished(tuple(s.id for s in wish.segments), {"spec": wish.settings.get("spec")})
    with store.staging(work) as first, store.staging(work) as second:
        assert first.folder.name == work.folder
        assert second.folder != first.folder
        assert second.work is None
        first.keep({"a": 1})
        second.keep({"b": 2})
        assert not (second.folder / "kept.json").exists()
    assert list((collection.path / "staging").iterdir()) == []
    with pytest.raises(ZeroDivisionError), store.staging(work) as third:
        third.keep({"a": 1})
        raise ZeroDivisionError
    with store.staging(work) as fourth:
        assert fourth.note == {"a": 1}
    assert Settings.of(wish.settings).keeps_indexes


def test_searches_go_on_while_an_index_is_built(
    collection: retr.Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every search answers in full, and the index is swapped in by a commit."""
    monkeypatch.setattr(_shortlist, "_BLOCK_VALUES", 250 * DIM)
    path, queries = collection.path, vectors()[::200]
    reader = retr.open(path, refresh_seconds=0)
    wanted = found(reader, queries)
    generations: set[int] = set()
    wrong: list[Any] = []
    ended = threading.Event()

    def search() -> None:
        while not ended.is_set():
            if found(reader, queries) != wanted:
                wrong.append(reader.generation)
            generations.add(reader.generation)
            some = reader.search(vector=queries, k=10)
            share = [
                len({h.id for h in hits} & set(w)) for hits, w in zip(some, wanted, strict=True)
            ]
            if np.mean(share) < 9:
                wrong.append(share)

    thread = threading.Thread(target=search)
    thread.start()
    try:
        collection.index("flat@32")
        collection.index("ivfpq")
    finally:
        ended.set()
        thread.join()
    assert wrong == []
    assert len(generations) >= 2
    reader.refresh()
    assert reader._snapshot.dense[0].index is not None
    assert found(reader, queries) == wanted
