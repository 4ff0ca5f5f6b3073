"""Collections of every format there was, written by the version of then: they open for ever."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import retr
from retr.retrieval.store.manifest import FORMAT, parse_manifest
from retr.retrieval.store.store import Store
from retr.retrieval.values.types import Document

GOLDEN = Path(__file__).with_name("golden")
EXPECTED: dict[str, Any] = {
    name: expected
    for file in sorted(GOLDEN.glob("format*.json"))
    for name, expected in json.loads(file.read_text(encoding="utf-8")).items()
}
UPGRADING = [name for name in EXPECTED if "upgrading" in name]
IMAGES = [name for name in EXPECTED if "images" in name]
_OTHERS = {*UPGRADING, *IMAGES}
TEXTS = [name for name in EXPECTED if "vectors" not in name and name not in _OTHERS]
VECTORS = [name for name in EXPECTED if "vectors" in name]


def maker() -> Any:
    """Return the program that made them, for the documents that it made them of."""
    spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
    assert spec is not None
    assert spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    return make


def encoder() -> retr.Encoder:
    """Return the encoder that the golden texts were encoded with."""
    make = maker()
    return retr.from_functions("golden", make.to_vectors, dim=make.DIM)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Return a folder with copies of all; the originals are not to be touched."""
    for name in EXPECTED:
        shutil.copytree(GOLDEN / name, tmp_path / name)
    return tmp_path


def test_there_is_one_of_every_format() -> None:
    formats = {
        parse_manifest(file.read_bytes()).format
        for name in EXPECTED
        for file in (GOLDEN / name / "manifests").iterdir()
    }
    assert formats == set(range(1, FORMAT + 1))


@pytest.mark.parametrize("name", EXPECTED)
def test_they_are_as_they_were_written(name: str) -> None:
    assert Store(GOLDEN / name).verify() == []
    size = sum(p.stat().st_size for p in (GOLDEN / name).rglob("*"))
    assert size < 200_000
    for file in (GOLDEN / name).rglob("*"):
        if file.is_file():
            assert not any(f"/{d}/".encode() in file.read_bytes() for d in ("home", "tmp", "root"))


FORMAT_1 = [
    ["dense", "flat", 18],
    ["dense", None, 4],
    ["documents", None, 18],
    ["documents", None, 4],
]


def check_texts(collection: retr.Collection, expected: Any, words: str) -> None:
    """Hold that a collection answers as it did.

    words: which of the rankings by words: "lexical", or "compacted" without the deleted rows.
    """
    rows = {row["row"]: row for row in expected["rows"]}
    assert len(collection) == len(rows)
    assert collection.info()["documents"] == len({row["id"] for row in rows.values()})
    for query in expected["queries"]:
        hits = collection.search(query["text"], k=100, passages=True, mode="dense")
        for hit, (row, score) in zip(hits, query["ranking"], strict=True):
            assert hit.score == pytest.approx(score, abs=1e-5)
            wanted = rows[hit.row]
            found = {field: getattr(hit, field) for field in wanted}
            assert found == wanted
            assert hit.row == row
        one_each = collection.search(query["text"], k=100, mode="dense")
        best: dict[str, int] = {}
        for row, _ in query["ranking"]:
            best.setdefault(rows[row]["id"], row)
        assert [(hit.id, hit.row) for hit in one_each] == list(best.items())
        if words in query:
            found = collection.search(query["text"], k=100, passages=True, mode="lexical")
            assert [hit.row for hit in found] == [row for row, _ in query[words]]
            scores = [score for _, score in query[words]]
            assert [hit.score for hit in found] == pytest.approx(scores, rel=1e-9)
            fused = collection.search(query["text"], k=100, passages=True)
            assert {hit.row for hit in fused} == rows.keys()
    for gone in ("gone", "gone late", "nobody"):
        assert gone not in collection


@pytest.mark.parametrize("name", TEXTS)
def test_texts(copied: Path, name: str) -> None:
    path, expected = copied / name, EXPECTED[name]
    before = sorted(path.rglob("*"))
    collection = retr.open(path, encoder=encoder())
    check_texts(collection, expected, "lexical")
    segments = [[s["role"], s["index"], s["rows"]] for s in collection.info()["segments"]]
    assert segments == expected.get("segments", FORMAT_1)
    assert sorted(path.rglob("*")) == before
    # It can be written to as well.
    assert collection.add([Document("new", "new")], passages=False).added == 1
    assert collection.delete("new") == 1
    collection.compact()
    check_texts(collection, expected, "compacted")
    assert collection.verify() == []


@pytest.mark.parametrize("name", [name for name in TEXTS if "merged" not in name])
def test_what_is_unchanged_is_still_known_to_be(copied: Path, name: str) -> None:
    """The digest of a document is part of the format: a new one would encode everything again."""
    path = copied / name
    make = maker()
    kept = [document for document in make.FIRST if document.id not in ("gone", "old")]
    collection = retr.build(
        kept, path, encoder=encoder(), passages=True, size=make.SIZE, name="golden"
    )
    report = collection.report
    assert (report.unchanged, report.encoded, report.deleted) == (len(kept), 0, 0)
    # What had no words has them now.
    found = collection.search("the second part", k=100, passages=True, mode="lexical")
    parts = {row["row"] for row in EXPECTED[name]["rows"] if "part" in row["text"]}
    assert {hit.row for hit in found} == parts
    assert found[0].text is not None
    assert "second part" in found[0].text
    assert collection.verify() == []


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(copied: Path, name: str) -> None:
    expected = EXPECTED[name]
    collection = retr.open(copied / name)
    for _ in range(2):
        assert {id for id in expected["ids"] if id in collection} == set(expected["ids"])
        assert "v1" not in collection
        for query in expected["queries"]:
            hits = collection.search(vector=query["vector"], k=100)
            assert [hit.row for hit in hits] == [row for row, _ in query["ranking"]]
            for hit, (row, score) in zip(hits, query["ranking"], strict=True):
                assert hit.id == f"v{row}"
                assert hit.score == pytest.approx(score, rel=1e-6, abs=1e-5)
        collection.index("flat")
    assert collection.settings["dtype"] == "float16"


def check_upgrading(path: Path, expected: Any) -> None:
    """Hold that an upgrade that an older version began answers as it did, and comes to its end."""
    make = maker()
    new = retr.from_functions("golden, other", make.to_other_vectors, dim=6)
    collection = retr.open(path, encoder=new)
    status = collection.upgrade_status()
    assert {name: status[name] for name in expected["status"]} == expected["status"]
    for query in expected["queries"]:
        hits = collection.search(query["text"], k=100, mode="dense")
        found = {hit.row: hit.score for hit in hits}
        assert found == pytest.approx(dict(query["ranking"]), abs=1e-5)
        assert len(collection.search(query["text"], k=100)) == len(found)
    assert collection.backfill().left == 0
    collection.finish_upgrade()
    assert collection.verify() == []
    found = {hit.id for hit in collection.search("bees", k=100, mode="dense")}
    assert found == {d.id for d in [*make.UPGRADING, make.LATE[0]]} - {"note 4"}


@pytest.mark.parametrize("name", UPGRADING)
def test_upgrading(copied: Path, name: str) -> None:
    check_upgrading(copied / name, EXPECTED[name])


def test_an_upgrade_of_now_is_read_as_one_of_then_will_be(tmp_path: Path) -> None:
    path = tmp_path / "c.retr"
    expected = json.loads(json.dumps(maker().make_upgrading(path)))
    assert expected["status"]["mapped"] > 0
    check_upgrading(path, expected)


@pytest.mark.parametrize("name", IMAGES)
def test_images(copied: Path, name: str) -> None:
    check_images(copied / name, EXPECTED[name])


def test_images_of_now_are_read_as_those_of_then_will_be(tmp_path: Path) -> None:
    path = tmp_path / "c.retr"
    check_images(path, json.loads(json.dumps(maker().make_images(path))))


def check_images(path: Path, expected: Any) -> None:
    """Find what was written, before and after the first commit of this version."""
    collection = retr.open(path)
    for _ in range(2):
        hits = collection.search(vector=[1.0, 1.0, 1.0, 1.0], k=100)
        assert {hit.id: hit.text for hit in hits} == expected["texts"]
        images = {
            hit.id: [hit.image.path, hit.image.member, hit.image.offset, hit.image.size]
            for hit in hits
            if hit.image is not None
        }
        assert images == expected["images"]
        for modality, queries in expected["alone"].items():
            for query in queries:
                found = collection.search(vector=query["vector"], k=100, ids=query["ids"])
                assert [hit.id for hit in found] == query["ids"], modality
        assert collection.search("a picture of snow", k=1, mode="lexical")[0].id == "p2"
        usual = collection._snapshot.score_statistics
        for (_, modality), each in usual.items():
            assert np.allclose(each.mean, expected["means"][str(modality)], atol=1e-6)
        assert collection.verify() == []
        collection.compact()
