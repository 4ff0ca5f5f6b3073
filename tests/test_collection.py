"""The collection as a user holds it: build, search, add, delete, open, refresh, index."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import retr
from retr.retrieval.encoders.vectors import VectorsEncoder
from retr.retrieval.values.errors import (
    CollectionNotFoundError,
    InputError,
    RetrError,
    SpaceMismatchError,
)

from .toys import ToyEncoder, words_to_vector

ANIMALS = [
    {"id": "bee", "text": "the bee sits on a flower", "legs": 6, "tags": ["insect", "wings"]},
    {"id": "cat", "text": "the cat sleeps on a warm stone", "legs": 4},
    {"id": "eel", "text": "the eel swims in a cold river", "legs": 0, "more": {"a": [1, None]}},
]


@pytest.fixture
def animals(tmp_path: Path) -> retr.Collection:
    return retr.build(ANIMALS, tmp_path / "a.retr", encoder=ToyEncoder())


def test_a_hit_has_what_was_given(animals: retr.Collection) -> None:
    hits = animals.search("flower bee", k=2)
    assert hits[0].id == "bee"
    assert hits[0].text == "the bee sits on a flower"
    assert hits[0].metadata == {"legs": 6, "tags": ["insect", "wings"]}
    assert animals.search("eel river")[0].metadata == {"legs": 0, "more": {"a": [1, None]}}
    assert hits.generation == animals.generation
    expected = float(words_to_vector("flower bee", 24) @ words_to_vector(hits[0].text or "", 24))
    dense = animals.search("flower bee", k=2, mode="dense")
    assert dense[0].score == pytest.approx(expected, abs=1e-6)


def test_results_turn_into_tables(animals: retr.Collection) -> None:
    hits = animals.search("flower", k=3)
    assert json.loads(json.dumps(hits.to_dicts()))[0]["id"] == "bee"
    table = hits.to_arrow()
    assert table.column("id").to_pylist() == [h.id for h in hits]
    assert list(hits.to_pandas()["rank"]) == [1, 2, 3]
    assert "bee" in repr(hits)
    assert [h.id for h in hits[:2]] == [h.id for h in hits][:2]


def test_many_queries_give_what_single_ones_give(animals: retr.Collection) -> None:
    texts = ["cold river", "warm stone", "flower"]
    many = animals.search(texts, k=3)
    assert many == [animals.search(text, k=3) for text in texts]
    assert animals.search([], k=3) == []


def test_queries_by_vector(animals: retr.Collection) -> None:
    vector = words_to_vector("cold river", 24)
    by_text = animals.search("cold river", k=3, mode="dense")
    assert [h.id for h in animals.search(vector=vector, k=3)] == [h.id for h in by_text]
    # Under cosine the length of a query does not matter.
    scaled = animals.search(vector=vector * 100, k=3)
    assert [h.score for h in scaled] == pytest.approx([h.score for h in by_text], abs=1e-6)
    both = animals.search(vector=np.stack([vector, words_to_vector("stone", 24)]), k=1)
    assert [result[0].id for result in both] == ["eel", "cat"]
    # Beside a text it stands for what the encoder would make of it.
    animals = retr.open(animals.path)  # without the encoder
    for query in ({"query": "warm"}, {"query": retr.Query("warm", vector)}):
        if isinstance(query["query"], str):
            query = {**query, "vector": vector}
        assert animals.search(k=3, mode="dense", **query) == by_text
        hits = animals.search(k=3, **query)
        assert {h.id for h in hits[:2]} == {"eel", "cat"}
        assert animals.search(k=3, mode="lexical", **query)[0].id == "cat"


def test_ids_restrict(animals: retr.Collection) -> None:
    hits = animals.search("flower bee", ids=["cat", "eel", "nobody"])
    assert sorted(h.id for h in hits) == ["cat", "eel"]
    assert len(animals.search("flower", ids=[])) == 0
    with pytest.raises(InputError, match="list of ids"):
        animals.search("flower", ids="cat")


def test_updating_and_deleting_are_never_seen_stale(animals: retr.Collection) -> None:
    animals.add([{"id": "bee", "text": "the bee sleeps in a hive"}])
    assert len(animals) == 3
    assert [h.text for h in animals.search("bee", k=9) if h.id == "bee"] == [
        "the bee sleeps in a hive"
    ]
    assert animals.delete(["cat", "nobody"]) == 1
    assert sorted(h.id for h in animals.search("the", k=9)) == ["bee", "eel"]
    assert "cat" not in animals
    assert "bee" in animals
    animals.compact()
    assert sorted(h.id for h in animals.search("the", k=9)) == ["bee", "eel"]
    assert animals.info()["deleted_rows_stored"] == 0
    assert animals.verify() == []


def test_everything_deleted_is_an_empty_collection(animals: retr.Collection) -> None:
    assert animals.delete([a["id"] for a in ANIMALS]) == 3
    for _ in range(2):
        assert len(animals.search("flower")) == 0
        assert len(animals) == 0
        animals.compact()
    animals.add([{"id": "new", "text": "a new flower"}])
    assert animals.search("flower")[0].id == "new"
    assert retr.open(animals.path, encoder=ToyEncoder()).search("flower")[0].row == 3


def test_equal_scores_stand_in_the_order_of_rows(tmp_path: Path) -> None:
    same = [{"id": f"{i:02}", "text": "the same words"} for i in range(30)]
    collection = retr.build(same[:20], tmp_path / "a.retr", encoder=ToyEncoder())
    collection.add(same[20:])
    for k in (1, 7, 25, 99):
        assert [h.id for h in collection.search("same words", k=k)] == [r["id"] for r in same][:k]


def test_passages_give_one_hit_a_document(tmp_path: Path) -> None:
    texts = {f"d{n}": " ".join(f"word{n}-{i} filler" for i in range(400)) for n in range(5)}
    records = [{"id": id, "text": text} for id, text in texts.items()]
    collection = retr.build(
        records, tmp_path / "a.retr", encoder=ToyEncoder(), passages=True, size=300
    )
    assert len(collection) > 50
    assert collection.info()["documents"] == 5
    hits = collection.search("filler", k=5)
    assert sorted(h.id for h in hits) == sorted(texts)
    assert all(h.place for h in hits)
    several = collection.search("filler word3-7", k=12, passages=True)
    assert len(several) == 12
    best = {}
    for hit in collection.search("filler word3-7", k=len(collection), passages=True):
        best.setdefault(hit.id, hit.row)
    one_each = collection.search("filler word3-7", k=99)
    assert {h.id: h.row for h in one_each} == best
    # Updating a document replaces all of its passages.
    collection.add([{"id": "d3", "text": "short now"}], passages=True, size=300)
    assert len([h for h in collection.search("short", k=999, passages=True) if h.id == "d3"]) == 1


def test_a_reader_moves_on_when_told(animals: retr.Collection) -> None:
    reader = retr.open(animals.path, encoder=ToyEncoder())
    eager = retr.open(animals.path, encoder=ToyEncoder(), refresh_seconds=0)
    animals.delete("bee")
    for _ in range(4):  # merges and vacuums take nothing away from a reader
        animals.add([{"id": "x", "text": "flower"}, {"id": "y", "text": "bee flower"}])
        animals.compact()
    assert reader.search("bee flower")[0].id == "bee"
    assert reader.generation == 1
    assert eager.search("bee flower")[0].id == "y"
    assert reader.refresh() == animals.generation
    assert reader.search("bee flower")[0].id == "y"


def test_dtype_float16_is_kept_through_merges(tmp_path: Path) -> None:
    collection = retr.build(ANIMALS, tmp_path / "a.retr", encoder=ToyEncoder(), dtype="float16")
    collection.add([{"id": "ant", "text": "an ant on a stone"}])
    collection.compact()
    assert {str(s.matrix.dtype) for s in collection._snapshot.dense} == {"float16"}
    assert collection.search("ant stone")[0].id == "ant"
    with pytest.raises(InputError, match="stored as float16, not float32"):
        retr.build(ANIMALS, tmp_path / "a.retr", encoder=ToyEncoder(), dtype="float32")


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_own_vectors(tmp_path: Path, metric: str) -> None:
    vectors = np.random.default_rng(3).standard_normal((200, 7)).astype(np.float32)
    before = vectors.copy()
    retr.build(
        vectors,
        tmp_path / "v.retr",
        ids=[f"n{i}" for i in range(200)],
        encoder_options=retr.EncoderOptions(metric=metric),
    )
    assert (vectors == before).all()
    query = vectors[11] + 0.01
    exact = vectors.astype(np.float64)
    scores = -((exact - query) ** 2).sum(axis=1) if metric == "l2" else exact @ query
    if metric == "cosine":
        scores /= np.linalg.norm(exact, axis=1) * np.linalg.norm(query)
    order = np.argsort(-scores)[:10]
    hits = retr.open(tmp_path / "v.retr").search(vector=query, k=10)
    assert [h.id for h in hits] == [f"n{i}" for i in order]
    assert [h.score for h in hits] == pytest.approx(scores[order], abs=1e-4)
    for mode in ("dense", None):
        with pytest.raises(InputError, match="search with vector="):
            retr.open(tmp_path / "v.retr").search("words", mode=mode)


def test_an_index_answers_as_the_scan_does(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    vectors = np.random.default_rng(5).standard_normal((500, 12)).astype(np.float32)
    collection = retr.build(vectors, tmp_path / "v.retr")
    queries = vectors[:20] + 0.05
    exact = collection.search(vector=queries, k=15)
    collection.index("flat")
    assert [s["index"] for s in collection.info()["segments"] if s["role"] == "dense"] == ["flat"]
    for reader in (collection, retr.open(collection.path)):
        for one, other in zip(reader.search(vector=queries, k=15), exact, strict=True):
            assert [h.id for h in one] == [h.id for h in other]
            assert [h.score for h in one] == pytest.approx([h.score for h in other], abs=1e-5)
    # What is added afterwards is found at once, and what is deleted is gone.
    collection.add([retr.Document("new", vector=queries[0])])
    assert collection.search(vector=queries[0], k=1)[0].id == "new"
    collection.delete([exact[0][0].id, "new"])
    assert collection.search(vector=queries[0], k=1)[0].id == exact[0][1].id
    collection.compact()
    assert collection.search(vector=queries[0], k=1)[0].id == exact[0][1].id
    dense = [s for s in collection.info()["segments"] if s["role"] == "dense"]
    assert [(s["index"], s["rows"]) for s in dense] == [("flat", 499)]
    assert collection.verify() == []


def test_a_build_with_a_spec_is_indexed_again(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    path = tmp_path / "a.retr"
    retr.build(ANIMALS, path, encoder=ToyEncoder(), spec="flat")
    more = [*ANIMALS, {"id": "ant", "text": "an ant on a stone"}]
    collection = retr.build(more, path, encoder=ToyEncoder())
    dense = [s for s in collection.info()["segments"] if s["role"] == "dense"]
    assert [(s["index"], s["rows"]) for s in dense] == [("flat", 4)]
    assert collection.search("ant")[0].id == "ant"


def test_spaces_are_never_mixed(animals: retr.Collection) -> None:
    other = ToyEncoder(revision="2")
    for attempt in (
        lambda: retr.open(animals.path, encoder=other),
        lambda: retr.build(ANIMALS, animals.path, encoder=other),
    ):
        with pytest.raises(SpaceMismatchError) as error:
            attempt()
        assert "toy:1" in str(error.value)
        assert "toy:2" in str(error.value)
        assert f"retr upgrade start --to toy:2 --index {animals.path}" in str(error.value)
    # Another dimension is another space, whatever else is equal.
    with pytest.raises(SpaceMismatchError):
        retr.open(animals.path, encoder=ToyEncoder(dim=25))


def test_an_encoder_of_ones_own_has_to_be_given_again(animals: retr.Collection) -> None:
    reader = retr.open(animals.path)
    assert len(reader) == 3
    with pytest.raises(RetrError, match="toy"):
        reader.search("flower")
    assert reader.search(vector=words_to_vector("flower", 24))[0].id == "bee"


def bad_queries() -> Iterator[tuple[dict[str, object], str]]:
    yield {"query": ""}, "the query is empty"
    yield {"query": "  \n"}, "the query is empty"
    yield {"query": 7}, "the query is a int"
    yield {"query": ["ok", 7]}, "a query is a int"
    yield {}, "NoneType"
    yield {"query": "ok", "k": 0}, "k is 0"
    yield {"query": "ok", "k": -1}, "k is -1"
    yield {"query": "ok", "k": 1_000_000}, "k is 1000000"
    yield {"query": "ok", "k": 2.5}, "k is 2.5"
    yield {"query": "ok", "k": True}, "k is True"
    yield {"query": "ok", "vector": [1.0]}, r"shape \(1,\)"
    yield {"query": "ok", "vector": [[0.0] * 24]}, "one text"
    yield {"query": ["ok"], "vector": [0.0] * 24}, "one text"
    yield {"query": "ok", "mode": "fast"}, "no mode 'fast'; the modes are hybrid, dense, lexical"
    yield {"query": retr.Query("", [1.0] * 24)}, "the query is empty"
    yield {"vector": [1.0] * 24, "mode": "lexical"}, "a query has none"
    yield {"vector": [1.0, 2.0]}, r"shape \(2,\)"
    yield {"vector": np.zeros((2, 2, 2))}, "shape"
    yield {"vector": ["a"] * 24}, "does not hold numbers"
    yield {"vector": [float("nan")] * 24}, "NaN"
    yield {"vector": [float("inf")] * 24}, "infinity"
    yield {"vector": [0.0] * 24}, "zero"
    yield {"query": retr.Query()}, "a text, an image or a vector"


@pytest.mark.parametrize(("arguments", "message"), list(bad_queries()))
def test_bad_queries(animals: retr.Collection, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        animals.search(**arguments)  # type: ignore[call-overload]


def test_no_collection_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CollectionNotFoundError, match="retr index build"):
            retr.open(path)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear all")
    with pytest.raises(InputError, match="folder with other contents"):
        retr.build(ANIMALS, tmp_path, encoder=ToyEncoder())
    with pytest.raises(InputError, match="is a file"):
        retr.build(ANIMALS, tmp_path / "letter.txt", encoder=ToyEncoder())
    with pytest.raises(InputError, match="is a file"):
        retr.build(ANIMALS, tmp_path / "letter.txt" / "a.retr", encoder=ToyEncoder())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["letter.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recall": 0}, "recall 0"),
        ({"recall": 1.5}, "recall 1.5"),
        ({"recall": "most"}, "recall 'most'"),
        ({"recall": 0.9, "spec": "flat"}, "not both"),
        ({"spec": "flta"}, "flta"),
        ({"spec": "flat@"}, "flat@"),
        ({"spec": "flat@64/32"}, "prefixes must ascend"),
        ({"dtype": "int8"}, "dtype 'int8'"),
        ({"encoder": "statc"}, "static"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_options(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        retr.build(ANIMALS, tmp_path / "a.retr", **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_collection_can_be_moved(animals: retr.Collection, tmp_path: Path) -> None:
    shutil.move(animals.path, tmp_path / "b.retr")
    moved = retr.open(tmp_path / "b.retr", encoder=ToyEncoder())
    assert moved.search("flower")[0].id == "bee"
    moved.add([{"id": "x", "text": "a flower"}])
    assert moved.search("a flower")[0].id == "x"


def test_without_faiss_an_index_is_one_line_on_stderr(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['faiss'] = None\n"  # what Python sees where it is not installed
        "import retr\n"
        "c = retr.build([{'id': 'a', 'text': 'a bee'}], 'x.retr', spec='flat')\n"
        "assert c.search('bee')[0].id == 'a'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert "retr[cpu]" in line
    assert "retr[gpu]" in line


def test_vectors_encoder_refuses_text_in_documents(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no vectors"):
        retr.build(ANIMALS, tmp_path / "a.retr", encoder="vectors")
    with pytest.raises(InputError, match="own vectors"):
        retr.build(ANIMALS, tmp_path / "a.retr", encoder=VectorsEncoder.for_data(4))


def test_a_query_prompt_may_change_and_is_stored(tmp_path: Path) -> None:
    """It changes no document's vector, so it is no part of the space."""
    path = tmp_path / "a.retr"
    retr.build(ANIMALS, path)
    plain = retr.open(path).search("flower", mode="dense")[0].score
    prompt = retr.EncoderOptions(query_prompt="swims: ")
    assert retr.build(ANIMALS, path, encoder_options=prompt).report.encoded == 0
    reopened = retr.open(path)
    assert reopened.info()["encoder"] == {
        "name": retr.open(path).space.encoder,
        "options": {"query_prompt": "swims: "},
    }
    assert reopened.search("flower", mode="dense")[0].score != plain
    with pytest.raises(SpaceMismatchError):
        retr.open(path, options=retr.EncoderOptions(document_prompt="x: "))


def test_what_nothing_can_repair_is_said(animals: retr.Collection) -> None:
    with pytest.raises(InputError, match="nothing to repair"):
        animals._store.repair()
    (file,) = (animals.path / "vectors").iterdir()
    file.unlink()
    with pytest.raises(RetrError, match=r"is missing; no manifest is damaged.*backup"):
        animals._store.repair()
