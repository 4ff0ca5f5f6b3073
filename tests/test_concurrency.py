"""Several processes and threads at one collection: nothing lost, nothing stale, nobody blocked."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import retr
from retr.retrieval.store.store import Store
from retr.retrieval.values.errors import CollectionNotFoundError, LockedError, RetrError
from retr.retrieval.values.types import Document
from retr.retrieval.writing.merging import MERGE_FACTOR

from .toys import ToyEncoder

WORKER = Path(__file__).with_name("concurrent_worker.py")
MANY = 20


def encoder() -> ToyEncoder:
    return ToyEncoder(dim=8)


def of_version(version: int) -> list[Document]:
    return [Document(f"d{i}", f"text {i} of version {version}") for i in range(MANY)]


class Writers:
    """Programs that write; all are ended when the test is."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, mode: str, path: Path, name: str, count: int = 0) -> subprocess.Popen[str]:
        """Start one, and return when it is ready to begin."""
        process = subprocess.Popen(
            [sys.executable, str(WORKER), mode, str(path), name, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
        return process

    def begin(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()

    def line(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()

    def end(self, process: subprocess.Popen[str]) -> None:
        _, errors = process.communicate()
        assert process.returncode == 0, errors

    def all_at_once(self) -> None:
        for process in self.processes:
            self.begin(process)
        for process in self.processes:
            self.end(process)


@pytest.fixture
def writers() -> Iterator[Writers]:
    writers = Writers()
    yield writers
    for process in writers.processes:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def everything(path: Path) -> dict[str, tuple[int, str | None]]:
    """Return the row and the text of every document; no row and no id may come twice."""
    collection = retr.open(path, encoder=encoder())
    hits = collection.search("text", k=10_000)
    assert len(hits) == len(collection)
    assert len({hit.row for hit in hits}) == len({hit.id for hit in hits}) == len(hits)
    assert collection.verify() == []
    roles = [s["role"] for s in collection.info()["segments"]]
    assert roles.count("documents") < MERGE_FACTOR
    assert roles.count("lexical") < MERGE_FACTOR
    assert sum(len(s) for s in collection._snapshot.lexical) >= len(hits)
    return {hit.id: (hit.row, hit.text) for hit in hits}


@pytest.mark.parametrize("exists", [True, False])
def test_two_programs_add_at_once(tmp_path: Path, writers: Writers, exists: bool) -> None:
    path = tmp_path / "c.retr"
    if exists:
        retr.build(of_version(0), path, encoder=encoder())
    for name in ("ann", "bob"):
        writers.start("add", path, name, 12)
    writers.all_at_once()
    found = everything(path)
    expected = {
        f"{name}-{n}-{i}": f"{name} {n} {i}"
        for name in ("ann", "bob")
        for n in range(12)
        for i in range(5)
    }
    if exists:
        expected |= {document.id: document.text or "" for document in of_version(0)}
    assert {id: text for id, (_, text) in found.items()} == expected


def test_two_programs_add_the_same_ids(tmp_path: Path, writers: Writers) -> None:
    path = tmp_path / "c.retr"
    for name in ("ann", "bob"):
        writers.start("same", path, name, 15)
    writers.all_at_once()
    found = everything(path)
    assert Store(path).read()[0].next_row == 2 * 15 * 7
    # Who wrote an id last has it, with the last text that he gave it.
    last: dict[str, set[str]] = {}
    for name in ("ann", "bob"):
        random_ = random.Random(name)
        by_id = {i: n for n in range(15) for i in random_.sample(range(10), 7)}
        for i, n in by_id.items():
            last.setdefault(f"d{i}", set()).add(f"text {i} by {name} {n}")
    assert found.keys() == last.keys()
    assert all(text in last[id] for id, (_, text) in found.items())


def test_readers_see_whole_generations_while_another_program_writes(
    tmp_path: Path, writers: Writers
) -> None:
    path = tmp_path / "c.retr"
    retr.build(of_version(0), path, encoder=encoder())
    process = writers.start("versions", path, "ann", 25)
    ended = threading.Event()

    def version_of(hits: retr.Results) -> int:
        """Return the one version that all documents are of."""
        assert {hit.id for hit in hits} == {f"d{i}" for i in range(MANY)}
        (version,) = {int((hit.text or "").rsplit(maxsplit=1)[1]) for hit in hits}
        return version

    def read(search: Callable[[], retr.Results]) -> list[int]:
        versions = []
        while not ended.is_set():
            versions.append(version_of(search()))
        return versions

    refreshing = retr.open(path, encoder=encoder(), refresh_seconds=0)
    standing = retr.open(path, encoder=encoder())
    searches: list[Callable[[], retr.Results]] = [
        lambda: refreshing.search("text", k=100),
        lambda: refreshing.search("text", k=100, mode="dense"),
        lambda: refreshing.search("text", k=100, mode="lexical"),
        lambda: standing.search("text", k=100),
        lambda: retr.open(path, encoder=encoder()).search("text", k=100),
    ]

    def verify() -> list[int]:
        found: list[str] = []
        while not ended.is_set():
            found += Store(path).verify()
        assert found == []
        return [0]

    with ThreadPoolExecutor(len(searches) + 1) as pool:
        tasks = [pool.submit(read, search) for search in searches]
        tasks.append(pool.submit(verify))
        writers.begin(process)
        try:
            writers.end(process)
        finally:
            ended.set()
        seen = [task.result() for task in tasks]
    for versions in seen:
        assert versions == sorted(versions)  # never an older one after a newer
    assert seen[0][-1] > 0
    assert set(seen[3]) == {0}
    assert version_of(retr.open(path, encoder=encoder()).search("text", k=100)) == 25


def test_threads_search_while_others_write_to_the_same_object(tmp_path: Path) -> None:
    collection = retr.build(of_version(0), tmp_path / "c.retr", encoder=encoder())
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            found = {hit.id for hit in collection.search("text", k=1000)}
            assert found >= {f"d{i}" for i in range(MANY)}
            assert "d3" in collection
            assert len(collection) >= MANY
            collection.refresh()

    def add(name: str) -> None:
        for n in range(8):
            collection.add([Document(f"{name}{n}", f"text {name} {n}")])

    def upkeep() -> None:
        for _ in range(6):
            collection.compact()
            collection.vacuum()
            collection.add([Document("gone", "text")])
            assert collection.delete("gone") == 1

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        work = [pool.submit(add, "a"), pool.submit(add, "b"), pool.submit(upkeep)]
        try:
            for task in work:
                task.result()
        finally:
            ended.set()
        for task in readers:
            task.result()
    collection.refresh()
    found = everything(tmp_path / "c.retr")
    assert found.keys() == {f"d{i}" for i in range(MANY)} | {
        f"{n}{i}" for n in "ab" for i in range(8)
    }


def test_a_reader_from_before_many_compactions_still_answers(tmp_path: Path) -> None:
    path = tmp_path / "c.retr"
    writer = retr.build(of_version(0), path, encoder=encoder())
    writer.add([Document("more", "text of a second segment")])
    writer.delete("d0")
    writer.index("flat")
    writer.add([Document("most", "text of a third")])
    reader = retr.open(path, encoder=encoder())
    expected = list(reader.search("text of", k=100))
    had = {p for p in path.glob("*/*.*") if p.parent.name != "manifests"}
    for version in range(1, 6):
        writer.add(of_version(version))
        writer.compact()
        writer.vacuum()
    assert not any(p.exists() for p in had)
    assert list(reader.search("text of", k=100)) == expected
    assert "more" in reader
    assert reader.search("text", ids=["d4"])[0].text == "text 4 of version 0"
    # And it can go on from there.
    assert reader.refresh() == writer.generation
    assert reader.search("text", ids=["d4"])[0].text == "text 4 of version 5"


def test_a_held_lock_says_who_holds_it(tmp_path: Path, writers: Writers) -> None:
    path = tmp_path / "c.retr"
    retr.build(of_version(0), path, encoder=encoder())
    holder = writers.start("lock", path, "ann")
    writers.begin(holder)
    assert writers.line(holder) == "held"
    collection = retr.Collection(path, encoder=encoder(), lock_seconds=0.1)
    generation = collection.generation
    for write in (
        lambda: collection.add([Document("x", "text")]),
        lambda: collection.delete("d1"),
        lambda: collection.index("flat"),
        lambda: collection.compact() if collection.delete("d1") else None,
        lambda: collection.vacuum(),
    ):
        with pytest.raises(LockedError) as error:
            write()
        assert f"process {holder.pid}," in str(error.value)
        assert "concurrent_worker.py lock" in str(error.value)
        assert str(path) in str(error.value)
    # Readers do not notice.
    assert len(retr.open(path, encoder=encoder()).search("text", k=100)) == MANY
    assert collection.refresh() == generation
    # The lock ends with its process.
    holder.kill()
    holder.communicate()
    assert collection.delete("d1") == 1


def test_staged_files_of_dead_writers_are_cleared_away_and_those_of_living_are_not(
    tmp_path: Path, writers: Writers
) -> None:
    path = tmp_path / "c.retr"
    retr.build(of_version(0), path, encoder=encoder())
    living, dead = writers.start("stage", path, "ann"), writers.start("stage", path, "bob")
    folders = {}
    for process in (living, dead):
        writers.begin(process)
        folders[process] = path / "staging" / writers.line(process)
    assert Store(path).vacuum() == []
    dead.kill()
    dead.communicate()
    assert len(list(folders[dead].iterdir())) == 2
    removed = Store(path).vacuum()
    assert [name.split("/")[1] for name in removed] == [folders[dead].name]
    assert not folders[dead].exists()
    assert len(list(folders[living].iterdir())) == 2
    assert living.stdin is not None
    living.stdin.close()
    living.wait()
    assert list((path / "staging").iterdir()) == []


def test_only_what_is_ours_is_cleared_away(tmp_path: Path) -> None:
    """A person's file among ours is no business of a vacuum."""
    path = tmp_path / "c.retr"
    collection = retr.build(of_version(0), path, encoder=encoder())
    theirs = [path / "documents" / "letter.txt", path / "staging" / "notes" / "a.txt"]
    for file in theirs:
        file.parent.mkdir(exist_ok=True)
        file.write_text("dear all")
    ours = [path / "documents" / ("0" * 32 + ".arrow"), path / "vectors" / ("f" * 32 + ".arrow")]
    for file in ours:
        file.write_text("of a commit that was cut short")
    collection.vacuum()
    assert all(file.exists() for file in theirs)
    assert not any(file.exists() for file in ours)


@pytest.mark.parametrize("folder", ["documents", "staging", "vectors", "manifests"])
def test_a_folder_with_names_like_ours_is_not_taken_for_a_collection(
    tmp_path: Path, folder: str
) -> None:
    (tmp_path / folder / "2026").mkdir(parents=True)
    (tmp_path / folder / "letter.txt").write_text("dear all")
    with pytest.raises(RetrError, match="folder with other contents"):
        retr.build(of_version(0), tmp_path, encoder=encoder())
    assert {p.name for p in tmp_path.rglob("*")} == {folder, "2026", "letter.txt"}


def test_staging_and_vacuum_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "c.retr"
    retr.build(of_version(0), path, encoder=encoder())
    ended = threading.Event()

    def clear_away() -> None:
        while not ended.is_set():
            Store(path).vacuum()

    def stage() -> None:
        for _ in range(300):
            with Store(path).staging() as staging:
                with staging.new_file("documents") as (file, name):
                    file.write(b"x")
                assert staging.find(name).exists()

    with ThreadPoolExecutor(3) as pool:
        cleaner = pool.submit(clear_away)
        try:
            for task in [pool.submit(stage) for _ in range(2)]:
                task.result()
        finally:
            ended.set()
        cleaner.result()
    assert list((path / "staging").iterdir()) == []


@pytest.mark.parametrize("kept", ["", "staging", "indexes"])
def test_folders_that_an_archive_left_out_are_made_again(tmp_path: Path, kept: str) -> None:
    """Git and others keep no empty folders."""
    path = tmp_path / "c.retr"
    retr.build(of_version(0), path, encoder=encoder())
    (path / "lock").unlink()
    for folder in path.iterdir():
        if folder.name != kept and not list(folder.iterdir()):
            folder.rmdir()
    before = sorted(path.rglob("*"))
    assert not (path / "deletes").exists()
    collection = retr.open(path, encoder=encoder())
    assert len(collection.search("text", k=100)) == MANY
    assert sorted(path.rglob("*")) == before  # reading writes nothing
    collection.add([Document("x", "text")])
    collection.delete("d1")
    collection.index("flat")
    assert len(collection) == MANY


def test_a_collection_that_is_removed_while_it_is_open(tmp_path: Path) -> None:
    path = tmp_path / "c.retr"
    collection = retr.build(of_version(0), path, encoder=encoder())
    shutil.rmtree(path)
    for write in (
        lambda: collection.add([Document("x", "text")]),
        lambda: collection.delete("d1"),
        lambda: collection.index("flat"),
    ):
        with pytest.raises(CollectionNotFoundError):
            write()
        # One that holds the new document alone would pass for the collection.
        with pytest.raises(CollectionNotFoundError):
            retr.open(path)
    assert collection.vacuum() == []
    assert len(collection.search("text", k=100)) == MANY
