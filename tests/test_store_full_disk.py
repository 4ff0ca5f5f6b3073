"""A disk that is full, at every operation of every commit: one clear line, and nothing lost."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import retr
from retr.retrieval.encoders.vectors import VectorsEncoder
from retr.retrieval.sources import open_source
from retr.retrieval.store.staging import kept_work
from retr.retrieval.store.store import Store
from retr.retrieval.values.errors import CollectionNotFoundError, StorageError
from retr.retrieval.values.progress import Silent
from retr.retrieval.values.settings import TermSettings
from retr.retrieval.values.types import Document
from retr.retrieval.writing.commits import NewCollection
from retr.retrieval.writing.ingest import Ingest

from .disks import FullDisk
from .toys import build_without_words

VECTORS = np.random.default_rng(9).standard_normal((40, 3)).astype(np.float32)
ENCODER = VectorsEncoder.for_data(3)


def documents(ids: range, version: int = 1) -> list[Document]:
    return [Document(f"d{i}", f"text {i}, {version}", vector=VECTORS[i]) for i in ids]


def contents(path: Path) -> dict[str, str | None]:
    collection = retr.open(path)
    assert collection.verify() == []
    found = {hit.id: hit.text for hit in collection.search(vector=VECTORS[0], k=100)}
    if "lexical" in collection.settings:
        assert {hit.id for hit in collection.search("text", k=100)} == found.keys()
    return found


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a collection with several segments and deletes; it is not to be written to."""
    path = tmp_path_factory.mktemp("full") / "c.retr"
    collection = retr.build(documents(range(10)), path)
    collection.add(documents(range(10, 20)))
    collection.delete(["d1", "d2"])
    return path


@pytest.fixture(scope="module")
def without_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("full") / "c.retr"
    collection = build_without_words(documents(range(10)), path, ENCODER)
    collection.add(documents(range(10, 20)))
    collection.delete(["d1", "d2"])
    return path


STEPS: dict[str, Callable[[retr.Collection], object]] = {
    "add": lambda c: c.add(documents(range(15, 25), version=2)),
    "delete": lambda c: c.delete(["d3"]),
    "delete much": lambda c: c.delete([f"d{i}" for i in range(10)]),
    "compact": lambda c: c.compact(),
    "index": lambda c: c.index("flat"),
    "settle": lambda c: c.settle({"recall": 0.9}, TermSettings("english:1")),
}


@pytest.mark.parametrize("name", [*STEPS, "words"])
def test_a_full_disk_at_every_operation(
    before: Path, without_words: Path, tmp_path: Path, name: str
) -> None:
    step = STEPS["settle" if name == "words" else name]
    before = without_words if name == "words" else before
    old = contents(before)
    path = Path(shutil.copytree(before, tmp_path / "whole"))
    step(retr.open(path))
    new = contents(path)
    for fail_at in range(1000):
        path = Path(shutil.copytree(before, tmp_path / str(fail_at)))
        collection = retr.open(path)
        generation = collection.generation
        disk = collection._store.disk = FullDisk(fail_at)
        try:
            step(collection)
        except StorageError as error:
            assert disk.failed
            assert str(path) in str(error)
            assert "the disk is full" in str(error)
            assert "\n" not in str(error)
        else:
            assert not disk.failed
            assert fail_at > 3
            break
        found = contents(path)
        assert found in (old, new)
        if found != old:
            assert retr.open(path).generation > generation
        left = [folder for folder in (path / "staging").iterdir() if kept_work(folder) is None]
        assert left == []  # but for an index that goes on where it stopped
        # With room again the same object goes on.
        collection._store.disk = FullDisk(10**9)
        step(collection)
        assert contents(path) == new
        collection.add(documents(range(30, 31)))
        assert contents(path) == new | {"d30": "text 30, 1"}
        shutil.rmtree(path)
    else:
        raise AssertionError("it never ended")


def test_a_full_disk_at_every_operation_of_the_first_build(tmp_path: Path) -> None:
    new = NewCollection(ENCODER.space, {"name": ENCODER.name, "options": {}})
    for fail_at in range(1000):
        path = tmp_path / str(fail_at) / "c.retr"
        disk = FullDisk(fail_at)
        run = Ingest(Store(path, disk), new, ENCODER, None, Silent())
        try:
            run.run(open_source(documents(range(5))), vanish=False)
        except StorageError as error:
            assert disk.failed
            assert "the disk is full" in str(error)
        else:
            assert not disk.failed
            break
        with pytest.raises(CollectionNotFoundError):
            retr.open(path)
        assert not path.parent.exists()
        retr.build(documents(range(5)), path)
        assert contents(path).keys() == {f"d{i}" for i in range(5)}
    else:
        raise AssertionError("it never ended")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_the_sentence_says_what_is_wrong(before: Path, tmp_path: Path, number: int) -> None:
    path = Path(shutil.copytree(before, tmp_path / "c.retr"))
    collection = retr.open(path)
    collection._store.disk = FullDisk(0, number)
    with pytest.raises(StorageError, match=os.strerror(number)) as error:
        collection.add(documents(range(30, 31)))
    assert str(path) in str(error.value)


LIMITED = """
import resource, sys
import numpy as np
import retr
from retr.retrieval.values.types import Document

path, step, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
vectors = np.random.default_rng(1).standard_normal((2000, 16)).astype(np.float32)
documents = [Document(f"new{i}", "x" * 30, vector=vectors[i]) for i in range(2000)]
if step == "words":  # their lists take more room than their texts
    words = [a + b for a in "abcdefghijklmnopqrst" for b in "abcdefghijklmnopqrstuvwxy"]
    documents = [Document(f"new{i}", " ".join(words), vector=vectors[i]) for i in range(200)]
collection = retr.open(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    if step == "index":
        collection.index("flat")
    elif step == "compact":
        collection.compact()
    else:
        collection.add(documents)
except retr.RetrError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("step", "limit"),
    # Vectors take 128 kB and the documents about as much: the limits stop one file after another.
    # 100,000 words are lists of positions of 400 kB and texts of 300 kB.
    [
        ("add", 1_000),
        ("add", 60_000),
        ("add", 127_000),
        ("compact", 100_000),
        ("index", 100_000),
        ("words", 330_000),
        ("words", 405_000),
    ],
)
def test_a_limit_of_the_operating_system(tmp_path: Path, step: str, limit: int) -> None:
    """Real errors of the operating system, in Arrow's and in FAISS's own writing, too."""
    path = tmp_path / "c.retr"
    vectors = np.random.default_rng(2).standard_normal((2000, 16)).astype(np.float32)
    collection = retr.build(
        [Document(f"d{i}", "a text", vector=vectors[i]) for i in range(1000)], path
    )
    collection.add([Document(f"d{i}", "a text", vector=vectors[i]) for i in range(1000, 2000)])
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), step, str(limit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"StorageError {path}: ")
    assert "too large" in line
    assert list((path / "staging").iterdir()) == []
    again = retr.open(path)
    assert again.verify() == []
    assert len(again) == 2000
    again.add([Document("more", "a text", vector=vectors[0])])
    again.compact()
    assert len(again) == 2001
    assert again.verify() == []
