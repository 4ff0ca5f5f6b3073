"""Collections with images through everything else: filters, explanations, reranking, upkeep."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import retr
from retr.cli import run_command
from retr.commands import hits, rendering
from retr.retrieval.search.plan import Mode
from retr.retrieval.store.manifest import Role
from retr.retrieval.store.store import Store
from retr.retrieval.values.types import Document, Hit, ImageAt, Query

from .toy_images import COLOURS, ToyImageEncoder, picture, save
from .toys import ToyEncoder


def rows(collection: retr.Collection, role: Role, modality: str | None = None) -> list[int]:
    segments = Store(collection.path).read()[0].of_role(role)
    return [s.rows for s in segments if s.modality == modality]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, colour in enumerate([*COLOURS] * 3):
        path = save(tmp_path / "in" / f"{colour}{number}.png", colour, number)
        if number % 2:
            path.with_suffix(".txt").write_text(f"a {colour} wall")
    (tmp_path / "in" / "notes.md").write_text("about red things and a wall")
    return tmp_path / "in"


@pytest.fixture
def mixed(folder: Path, tmp_path: Path) -> retr.Collection:
    return retr.build(folder, tmp_path / "c.retr", encoder=ToyImageEncoder(), progress=False)


def ranking(collection: retr.Collection, query: str | Query, mode: str) -> list[tuple[str, float]]:
    hits = collection.search(query, k=30, mode=mode)
    return [(hit.id, round(hit.score, 5)) for hit in hits]


def test_upkeep_changes_no_ranking(mixed: retr.Collection, folder: Path) -> None:
    queries: list[str | Query] = ["red wall", Query(image=picture("blue"), without="white")]
    mixed.add([Document("late", "a black wall", image=picture("black", seed=77))], progress=False)
    gone = [f"in/{colour}0.png" for colour in COLOURS if (folder / f"{colour}0.png").exists()]
    assert mixed.delete([*gone, "late"]) == len(gone) + 1
    mixed.add([Document("late", "a black wall", image=picture("black", seed=78))], progress=False)
    before = {str(q): ranking(mixed, q, "dense") for q in queries}
    assert not {*gone} & {id for found in before.values() for id, _ in found}
    mixed.compact()
    assert mixed.verify() == []
    documents = len(mixed)
    assert rows(mixed, Role.DOCUMENTS) == [documents]
    assert [len(rows(mixed, Role.DENSE, m)) for m in ("text", "image")] == [1, 1]
    # The means are of the rows that are left now, so scores move, and only across modalities.
    for query in queries:
        after = ranking(mixed, query, "dense")
        assert {id for id, _ in after} == {id for id, _ in before[str(query)]}
    alone = [id for id, _ in before["red wall"] if id.endswith(("0.png", "2.png", "4.png"))]
    again = [id for id, _ in ranking(mixed, "red wall", "dense") if id in alone]
    assert again == alone


def test_filters_and_explanations(mixed: retr.Collection, tmp_path: Path) -> None:
    table = [
        {"id": str(i), "image": picture(colour), "caption": f"a {colour} wall", "year": 2000 + i}
        for i, colour in enumerate(COLOURS)
    ]
    c = retr.build(table, tmp_path / "t.retr", encoder=ToyImageEncoder(), progress=False)
    found = c.search(Query(image=picture("red")), where="year >= 2004", k=9)
    assert {hit.id for hit in found} == {"4", "5", "6", "7"}
    (hit,) = c.search("a red wall", k=1, explain=True)
    assert hit.id == "0" and hit.why is not None
    assert hit.why.dense is not None and hit.why.lexical and "red" in hit.why.words
    assert hit.why.by in ("image", "text") and hit.to_dict()["why"]["by"] == hit.why.by
    (hit,) = c.search(Query(image=picture("green")), k=1, explain=True)
    assert hit.id == "1" and hit.why is not None and hit.why.lexical is None
    assert hit.why.by == "image" and hits.why_text(hit.why).startswith("image ")


def test_reranking_reads_captions_and_keeps_images_without_one(mixed: retr.Collection) -> None:
    def longest(query: str, texts: list[str]) -> list[float]:
        return [float(len(text)) for text in texts]

    found = mixed.search("red wall", k=25, rerank=longest, rerank_depth=25)
    texts = [hit.text for hit in found]
    assert len(found) == 25 and texts[0] is not None
    first_without = texts.index(None)
    assert all(text is None for text in texts[first_without:])


def test_an_index_over_images_is_measured_with_the_texts(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((60, 24))
    made = centres[rng.integers(0, 60, 3000)] + 0.6 * rng.standard_normal((3000, 24))
    said = made + 0.3 * rng.standard_normal(made.shape) + 2 * np.eye(24)[0]
    documents = [
        Document(str(i), vector=text.astype(np.float32), image_vector=image.astype(np.float32))
        for i, (image, text) in enumerate(zip(made, said, strict=True))
    ]
    c = retr.build(documents, tmp_path / "c.retr", spec="hnsw", progress=False)
    segments = {s["modality"]: s for s in c.info()["segments"] if s["role"] == "dense"}
    images, texts = segments["image"]["measured"], segments["text"]["measured"]
    assert images["texts"] and not images["own_queries"] and "texts" not in texts
    assert "texts of the collection" in rendering.info_text(c.info())
    assert "dense images" in rendering.info_text(c.info())
    c.tune()
    segments = {s["modality"]: s for s in c.info()["segments"] if s["role"] == "dense"}
    assert segments["image"]["measured"]["texts"]
    hits = c.search(vector=made[5], k=1, recall="exact")
    assert hits[0].id == "5"


def test_a_document_may_lose_its_image_or_gain_one(tmp_path: Path) -> None:
    path = tmp_path / "c.retr"
    encoder = ToyImageEncoder()
    c = retr.build([Document("a", "red")], path, encoder=encoder, name="x", progress=False)
    assert c.search("red")[0].image is None
    where = ImageAt(str(save(tmp_path / "a.png", "blue")))
    document = Document("a", "red", image=where)
    c = retr.build([document], path, encoder=encoder, name="x", progress=False)
    assert (c.report.updated, len(c), c.search("red")[0].image) == (1, 1, where)
    c = retr.build([Document("a", "red")], path, encoder=encoder, name="x", progress=False)
    assert (c.report.updated, c.search("red")[0].image) == (1, None)


def test_few_images_among_many_texts(tmp_path: Path) -> None:
    documents = [Document(f"t{i}", f"text {i}") for i in range(900)]
    documents[3] = Document("i", image=picture("red"))
    documents[700] = Document("broken", image=b"")
    encoder = ToyImageEncoder()
    c = retr.build(documents, tmp_path / "c.retr", encoder=encoder, progress=False)
    assert (len(c), c.report.images, c.report.skipped) == (899, 1, 1)
    found = [hit.id for hit in c.search("red", mode=Mode.DENSE, k=1)]
    assert found == ["i"]


def test_a_text_encoders_collection_opens_images_of_no_query(tmp_path: Path) -> None:
    c = retr.build(["red"], tmp_path / "c.retr", encoder=ToyEncoder(), progress=False)
    assert isinstance(c.search("red")[0], Hit) and c.search("red")[0].image is None


def test_the_command_line_shows_a_collection_with_images(
    mixed: retr.Collection, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["index", "info", "--index", str(mixed.path), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    modalities = [s["modality"] for s in info["segments"] if s["role"] == "dense"]
    assert sorted(modalities) == ["image", "text"]
    assert run_command(["index", "verify", "--index", str(mixed.path)]) == 0
