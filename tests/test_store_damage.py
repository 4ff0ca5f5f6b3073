"""Damaged collections: every flipped byte is found, and none brings the process down.

RETR_TEST_DAMAGES sets how many damaged copies are opened.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import retr
from retr.retrieval.store.manifest import FORMAT, ManifestDamagedError, is_canonical, parse_manifest
from retr.retrieval.store.store import Store
from retr.retrieval.values.errors import (
    CollectionNotFoundError,
    DamagedError,
    InputError,
    ReadOnlyError,
    StorageError,
)
from retr.retrieval.values.types import Document

WORKER = Path(__file__).with_name("damage_worker.py")
VECTORS = np.random.default_rng(5).standard_normal((40, 4)).astype(np.float32)


def documents(start: int, stop: int) -> list[Document]:
    return [
        Document(
            f"d{i}",
            f"the text of {i}, " + "and more " * (i % 4),
            uri=f"shelf/{i}" if i % 3 else None,
            metadata={"n": i, "tags": ["a"] * (i % 3), "mixed": i if i % 2 else str(i), "é": "ü"},
            vector=VECTORS[i],
        )
        for i in range(start, stop)
    ]


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a collection with a file of every sort; it is not to be written to."""
    path = tmp_path_factory.mktemp("damage") / "c.retr"
    collection = retr.build(documents(0, 30), path, name="shelf")
    collection.index("flat")
    collection.add(documents(30, 40))
    collection.delete(["d3", "d31"])
    folders = {p.parent.name for p in path.glob("*/*.*")}
    assert folders == {"manifests", "documents", "vectors", "lexical", "indexes", "deletes"}
    assert collection.verify() == []
    return path


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "c.retr"))


def newest(path: Path) -> Path:
    return max((path / "manifests").iterdir())


def test_every_flipped_byte_is_found_and_its_file_named(copy: Path) -> None:
    random_ = random.Random(3)
    store = Store(copy)
    files = [p for p in sorted(copy.rglob("*")) if p.is_file() and p.name != "lock"]
    assert len(files) >= 13
    for file in files:
        data = file.read_bytes()
        places = range(len(data)) if len(data) < 600 else random_.sample(range(len(data)), 60)
        for at in places:
            bad = bytearray(data)
            bad[at] ^= random_.choice([0x01, 0x20, 0x80, 0xFF])
            file.write_bytes(bad)
            problems = store.verify()
            assert any(str(file) in problem for problem in problems), (file, at)
        file.write_bytes(data)
        assert store.verify() == []


@pytest.mark.parametrize("mask", [0x01, 0x04, 0x20, 0x80, 0xFF])
def test_every_flipped_byte_of_a_manifest_is_found(whole: Path, mask: int) -> None:
    # 0x20 turns letters to the other case, and so some texts into others of the same meaning.
    data = newest(whole).read_bytes()
    assert is_canonical(data)
    for at in range(len(data)):
        bad = bytearray(data)
        bad[at] ^= mask
        try:
            parse_manifest(bytes(bad))
        except ManifestDamagedError:
            continue
        assert not is_canonical(bytes(bad)), at


def test_a_byte_that_changes_no_value_is_found(copy: Path) -> None:
    file = newest(copy)
    data = file.read_bytes()
    for bad in (data.replace(b"\n ", b"\n\t", 1), data + b"\n", data.rstrip(), b" " + data):
        file.write_bytes(bad)
        assert [str(file) in problem for problem in Store(copy).verify()] == [True]
    # Nothing is lost by it: it still is the manifest that was written.
    assert retr.open(copy).generation == int(file.stem)


@pytest.mark.parametrize("how", ["flipped", "empty", "cut", "no json", "another's", "no manifest"])
def test_the_generation_before_a_damaged_one_opens(
    copy: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = newest(copy)
    data = file.read_bytes()
    number = int(file.stem)
    before = data.replace(b'"role": "dense"', b'"role": "dance"', 1)
    file.write_bytes(
        {
            "flipped": before,
            "empty": b"",
            "cut": data[: len(data) // 2],
            "no json": b"\x00" * len(data),
            "another's": (file.parent / f"{number - 1:08d}.json").read_bytes(),
            "no manifest": _signed({"format": FORMAT}),
        }[how]
    )
    held = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    with caplog.at_level(logging.WARNING, "retr"):
        collection = retr.open(copy)
    assert str(file) in caplog.text
    assert "retr index repair" in caplog.text
    assert collection.generation == number - 1
    found = [hit.id for hit in collection.search(vector=VECTORS[0], k=50)]
    assert sorted(found) == sorted(f"d{i}" for i in range(40))  # what was deleted is back

    for write in (
        lambda: collection.add(documents(0, 1)),
        lambda: collection.delete(["d1"]),
        lambda: collection.index("flat"),
        lambda: collection.compact(),
        lambda: retr.build(documents(0, 2), copy, name="shelf"),
    ):
        with pytest.raises(ReadOnlyError, match="retr index repair"):
            write()
    assert collection.vacuum() == []
    assert {p: p.read_bytes() for p in copy.rglob("*") if p.name != "lock" and p.is_file()} == {
        p: data for p, data in held.items() if p.name != "lock"
    }

    store = Store(copy)
    assert store.repair().generation == number + 1
    assert store.verify() == []
    collection = retr.open(copy)
    assert [hit.id for hit in collection.search(vector=VECTORS[0], k=50)] == found
    collection.add([Document("new", "new", vector=VECTORS[0])])
    assert collection.generation > number + 1
    assert "new" in collection
    with pytest.raises(InputError, match="nothing to repair"):
        store.repair()


def test_a_writer_that_was_open_finds_the_damage(copy: Path) -> None:
    collection = retr.open(copy)
    newest(copy).write_bytes(b"")
    for write in (lambda: collection.add(documents(0, 1)), lambda: collection.delete(["d1"])):
        with pytest.raises(ReadOnlyError, match="retr index repair"):
            write()
    assert len(collection.search(vector=VECTORS[0], k=50)) == 38


def test_repair_goes_above_all_that_is_damaged(copy: Path) -> None:
    number = int(newest(copy).stem)
    for more in (2, 7):
        (copy / "manifests" / f"{number + more:08d}.json").write_bytes(b"{}")
    assert Store(copy).repair().generation == number + 8
    assert retr.open(copy).generation == number + 8
    assert Store(copy).verify() == []


def test_repair_does_not_go_back_to_what_is_damaged_too(copy: Path) -> None:
    newest(copy).write_bytes(b"")
    vectors = min((copy / "vectors").iterdir())
    data = bytearray(vectors.read_bytes())
    data[-100] ^= 1
    vectors.write_bytes(data)
    with pytest.raises(DamagedError, match=vectors.name):
        Store(copy).repair()
    assert len(list((copy / "manifests").iterdir())) == 2


def test_all_manifests_damaged(copy: Path) -> None:
    for file in (copy / "manifests").iterdir():
        file.write_bytes(file.read_bytes()[:-10])
    for use in (
        lambda: retr.open(copy),
        lambda: Store(copy).repair(),
        lambda: retr.build(documents(0, 1), copy),
    ):
        with pytest.raises(DamagedError, match="all manifests are damaged"):
            use()
    assert len(Store(copy).verify()) == 2
    for file in (copy / "manifests").iterdir():
        file.unlink()
    with pytest.raises(CollectionNotFoundError):
        retr.open(copy)
    assert "no manifest" in Store(copy).verify()[0]


def test_a_manifest_that_cannot_be_read_is_not_called_damaged(copy: Path) -> None:
    # A lack of rights or of file handles, too; a folder is what even root cannot read.
    file = newest(copy)
    data = file.read_bytes()
    file.unlink()
    file.mkdir()
    for use in (
        lambda: retr.open(copy),
        lambda: Store(copy).repair(),
        lambda: retr.build(documents(0, 1), copy),
        lambda: Store(copy).vacuum(),
    ):
        with pytest.raises(StorageError, match="cannot be read"):
            use()
    assert str(file) in Store(copy).verify()[0]
    file.rmdir()
    file.write_bytes(data)
    assert Store(copy).verify() == []


def test_a_newer_format_is_told_from_damage(copy: Path) -> None:
    file = newest(copy)
    manifest = parse_manifest(file.read_bytes())
    file.write_bytes(replace(manifest, format=FORMAT + 1, writer="9.9").to_bytes())
    before = sorted(copy.rglob("*"))
    for use in (
        lambda: retr.open(copy),
        lambda: retr.build(documents(0, 1), copy),
        lambda: Store(copy).repair(),
    ):
        with pytest.raises(
            InputError, match=rf"newer retr \(format {FORMAT + 1}, written by retr 9\.9\)"
        ):
            use()
    assert Store(copy).vacuum() == []
    assert str(file) in Store(copy).verify()[0]
    assert sorted(copy.rglob("*")) == before


def test_a_format_that_changed_its_fields_is_newer_and_not_damaged(copy: Path) -> None:
    newest(copy).write_bytes(_signed({"format": FORMAT + 1, "everything": "else"}))
    with pytest.raises(InputError, match="newer retr"):
        retr.open(copy)


@pytest.mark.parametrize("how", ["missing", "empty", "cut", "grown"])
def test_files_of_another_size_are_named_on_opening(whole: Path, tmp_path: Path, how: str) -> None:
    manifest = parse_manifest(newest(whole).read_bytes())
    for number, name in enumerate(manifest.files):
        copy = Path(shutil.copytree(whole, tmp_path / str(number)))
        file = copy / name
        data = file.read_bytes()
        if how == "missing":
            file.unlink()
        else:
            bad = {"empty": b"", "cut": data[:-1], "grown": data + b"\x00"}[how]
            file.write_bytes(bad)
        with pytest.raises(DamagedError, match=file.name):
            retr.open(copy)
        assert any(file.name in problem for problem in Store(copy).verify())


@pytest.mark.parametrize("folder", ["documents", "vectors", "lexical", "deletes"])
def test_writing_to_a_collection_with_a_missing_file(copy: Path, folder: str) -> None:
    collection = retr.open(copy)
    generation = collection.generation
    file = max((copy / folder).glob("*.arrow"), key=lambda p: ".ids" not in p.name)
    file.unlink()
    # The writer has it mapped; another cannot even open it, and neither may publish a generation
    # without it.
    with pytest.raises(DamagedError, match=file.name):
        collection.add(documents(0, 1))
    assert Store(copy).generations()[0] == generation


def test_damage_is_not_copied_on_by_a_merge(whole: Path, tmp_path: Path) -> None:
    """A merged file would get a checksum of its own, and the damage would never be found."""
    names = [n for n in parse_manifest(newest(whole).read_bytes()).files if "deletes" not in n]
    assert len(names) == 11
    for number, name in enumerate(names):
        copy = Path(shutil.copytree(whole, tmp_path / str(number)))
        collection = retr.open(copy)
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
        with pytest.raises(DamagedError, match=name):
            collection.compact()
        assert any(name in problem for problem in collection.verify())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
        collection.compact()
        assert collection.verify() == []


def test_no_damage_brings_the_process_down(copy: Path) -> None:
    """Opening compares sizes only, so damaged bytes are read: refused, or wrong, but alive."""
    count = int(os.environ.get("RETR_TEST_DAMAGES", "300"))
    done = subprocess.run(
        [sys.executable, str(WORKER), str(copy), "1", str(count)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    report = json.loads(done.stdout)
    assert set(report["counts"]) == {"fine", "refused"}, report
    assert Store(copy).verify() == []


def _signed(values: dict[str, object]) -> bytes:
    """Return any JSON with the checksum of a manifest."""
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    checksum = hashlib.sha256(canonical.encode()).hexdigest()
    return json.dumps({**values, "checksum": checksum}).encode()


def test_manifests_come_back_as_they_were_written(whole: Path) -> None:
    data = newest(whole).read_bytes()
    assert parse_manifest(data).to_bytes() == data
