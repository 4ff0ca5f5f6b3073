"""Vectors, words, or both: what a collection answers in each mode, and why."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import retr
from retr.retrieval.store.store import Store
from retr.retrieval.text.analysis import analyzer
from retr.retrieval.values import fusion as fusions
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.fusion import Fusion, default_fusion
from retr.retrieval.values.settings import TermSettings
from retr.retrieval.values.types import Document, Query
from retr.retrieval.writing import indexing

from .oracles import assert_best, bm25
from .toys import ToyEncoder, build_without_words, words_to_vector

MODES = ("hybrid", "dense", "lexical")
TEXTS = {
    "bees": "Bees fly from flower to flower.",
    "cats": "The cat sleeps; cats dream.",
    "eels": "An eel swims in the river.",
    "both": "A cat looks at a bee.",
    "none": "",
}
DOCUMENTS = [Document(id, text) for id, text in TEXTS.items()]


@pytest.fixture
def animals(tmp_path: Path) -> retr.Collection:
    return retr.build(DOCUMENTS, tmp_path / "a.retr", encoder=ToyEncoder())


def ids(hits: retr.Results) -> list[str]:
    return [hit.id for hit in hits]


def pairs(hits: retr.Results) -> list[tuple[int, float]]:
    return [(hit.row, hit.score) for hit in hits]


def oracle(texts: dict[int, str], query: str) -> dict[int, float]:
    words = analyzer("english")
    terms = {row: words.terms(text) for row, text in texts.items()}
    return bm25(terms, words.query_terms(query))


@pytest.mark.parametrize(
    "fusion", [default_fusion("toy"), Fusion(0.25, feedback=1.0, spread=0.3)], ids=("own", "usual")
)
def test_modes(fusion: Fusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fusions._DEFAULTS, "toy", fusion)
    animals = retr.build(DOCUMENTS, tmp_path / "a.retr", encoder=ToyEncoder())
    query = "the bee and a cat"
    rows = dict(enumerate(TEXTS.values()))
    by_words = animals.search(query, mode="lexical")
    assert_best(pairs(by_words), oracle(rows, query), 10)
    assert set(ids(by_words)) == {"bees", "cats", "both"}
    by_vectors = animals.search(query, mode="dense")
    assert len(by_vectors) == len(TEXTS)
    asked = words_to_vector(query, 24)
    for hit in by_vectors:
        assert hit.score == pytest.approx(
            float(words_to_vector(hit.text or "", 24) @ asked), abs=1e-6
        )
    fused = animals.search(query)
    assert fused == animals.search(query, mode="hybrid")
    assert len(fused) == len(TEXTS)
    dense = {hit.id: hit.score for hit in by_vectors}
    words = {hit.id: hit.score for hit in by_words}

    def combined(dense: dict[str, float]) -> dict[str, float]:
        low, high, most = min(dense.values()), max(dense.values()), max(words.values())
        return {
            id: fusion.weight * (score - low) / (fusion.spread or high - low)
            + (1 - fusion.weight) * words.get(id, 0) / most
            for id, score in dense.items()
        }

    # The encoder's side looks a second time, with the vector of the best hit beside the query's.
    first = combined(dense)
    seed = words_to_vector(TEXTS[max(first, key=first.__getitem__)], 24)
    near = {id: float(words_to_vector(text, 24) @ seed) for id, text in TEXTS.items()}
    second = {id: dense[id] + fusion.feedback * near[id] for id in dense}
    expected = combined({id: score / (1 + fusion.feedback) for id, score in second.items()})
    assert {hit.id: hit.score for hit in fused} == pytest.approx(expected, abs=1e-6)
    assert [hit.score for hit in fused] == sorted((hit.score for hit in fused), reverse=True)


@pytest.mark.parametrize("mode", MODES)
def test_ids_and_deletes_hold_in_every_mode(animals: retr.Collection, mode: str) -> None:
    query = "bee cat eel"
    assert set(ids(animals.search(query, mode=mode, ids=["bees", "eels"]))) == {"bees", "eels"}
    assert len(animals.search(query, mode=mode, ids=[])) == 0
    animals.delete("both")
    assert "both" not in ids(animals.search(query, mode=mode))
    animals.add([Document("bees", "Nothing of that sort.")])
    assert "bees" not in ids(animals.search("bee", mode="lexical"))
    before = ids(animals.search(query, mode=mode))
    animals.compact()
    assert ids(animals.search(query, mode=mode)) == before
    alive = dict(zip((1, 2, 4, 5), ("cats", "eels", "none", "bees"), strict=True))
    rows = {
        row: TEXTS[id] if id != "bees" else "Nothing of that sort." for row, id in alive.items()
    }
    assert_best(pairs(animals.search(query, mode="lexical")), oracle(rows, query), 10)


def test_a_query_that_no_word_answers(animals: retr.Collection) -> None:
    assert ids(animals.search("zebra", mode="lexical")) == []
    assert ids(animals.search("zebra")) == ids(animals.search("zebra", mode="dense"))
    assert ids(animals.search("?!", mode="lexical")) == []
    # Of stop words only: they are looked for all the same.
    assert set(ids(animals.search("the", mode="lexical"))) == {"cats", "eels"}


def test_a_query_finds_the_same_alone_and_among_others(tmp_path: Path) -> None:
    """Whatever the others have: a text, a vector, or both."""
    vector = words_to_vector("a cat dreams", 24)
    queries = [
        Query("bee"),
        Query(vector=vector),
        Query("flower", vector),
        Query("zebra"),
        Query("eel in the river"),
    ]
    own = [
        Document(id, text, vector=words_to_vector(text + " x", 24)) for id, text in TEXTS.items()
    ]
    for collection in (
        retr.build(DOCUMENTS, tmp_path / "a.retr", encoder=ToyEncoder()),
        retr.build(own, tmp_path / "v.retr"),
    ):
        for mode in (None, "hybrid"):
            many = collection.search(queries, mode=mode, explain=True)
            for query, hits in zip(queries, many, strict=True):
                assert hits == collection.search(query, mode=mode, explain=True)
        assert many[1] == collection.search(queries[1], mode="dense", explain=True)
        # More than are answered in one go.
        bees = collection.search(["bee"] * 1030, k=3)
        assert {tuple(pairs(hits)) for hits in bees} == {tuple(pairs(many[0]))[:3]}


def test_own_vectors_with_texts(tmp_path: Path) -> None:
    """A text is answered by words; where it comes with a vector, by both."""
    vectors = np.eye(len(TEXTS), dtype=np.float32)
    documents = [
        Document(id, text, vector=vector)
        for (id, text), vector in zip(TEXTS.items(), vectors, strict=True)
    ]
    path = tmp_path / "v.retr"
    retr.build(documents, path)
    collection = retr.open(path)
    collection.add([Document("bare", vector=np.ones(5, np.float32))])
    assert collection.search("a cat") == collection.search("a cat", mode="lexical")
    assert set(ids(collection.search("a cat"))) == {"cats", "both"}
    assert ids(collection.search(vector=vectors[2]))[0] == "eels"
    both = collection.search("cat bee", vector=vectors[3])
    assert ids(both)[0] == "both"
    assert both[0].score == pytest.approx(1)
    assert len(both) == 6
    (hit,) = collection.search("eel", explain=True)
    assert hit.why is not None
    assert (hit.why.dense, hit.why.words) == (None, ("eel",))
    with pytest.raises(InputError, match="search with vector="):
        collection.search("a cat", mode="dense")


@pytest.mark.parametrize("mode", MODES)
def test_one_hit_a_document(tmp_path: Path, mode: str) -> None:
    texts = {
        f"d{n}": "\n\n".join(
            f"filler {' '.join(['bee'] * (i % (n + 1)))} w{n}x{i}" for i in range(40)
        )
        for n in range(8)
    }
    documents = [Document(id, text, kind="text") for id, text in texts.items()]
    collection = retr.build(
        documents, tmp_path / "a.retr", encoder=ToyEncoder(), passages=True, size=30
    )
    assert len(collection) > 200
    everything = collection.search("filler bee", k=1000, mode=mode, passages=True)
    best: dict[str, tuple[int, float]] = {}
    for hit in everything:
        best.setdefault(hit.id, (hit.row, hit.score))
    for k in (1, 3, 8, 50):
        hits = collection.search("filler bee", k=k, mode=mode)
        assert [(h.id, (h.row, h.score)) for h in hits] == list(best.items())[:k]


def test_fewer_hits_are_the_first_of_more(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    words = [f"w{i}" for i in range(60)]
    texts = [" ".join(random.choice(words, random.integers(1, 9))) for _ in range(600)]
    collection = retr.build(texts, tmp_path / "a.retr", encoder=ToyEncoder())
    queries = [" ".join(random.choice(words, 3)) for _ in range(30)]
    for mode in MODES:
        more = collection.search(queries, k=50, mode=mode)
        for query, ten, fifty in zip(
            queries, collection.search(queries, k=10, mode=mode), more, strict=True
        ):
            assert list(ten) == list(fifty)[:10], query
            assert len({hit.id for hit in fifty}) == len(fifty)


# --- why


def test_why(animals: retr.Collection) -> None:
    query = "Cats AND the cat's bee!"
    hits = animals.search(query, explain=True)
    assert [hit.why is None for hit in animals.search(query)] == [True] * len(TEXTS)
    dense = {hit.id: hit.score for hit in animals.search(query, mode="dense")}
    words = {hit.id: hit.score for hit in animals.search(query, mode="lexical")}
    for hit in hits:
        assert hit.why is not None
        assert hit.why.dense == pytest.approx(dense[hit.id], abs=1e-6)
        assert hit.why.lexical == words.get(hit.id, 0)
    why = {hit.id: hit.why.words for hit in hits if hit.why is not None}
    # As the query has them, in its order; stop words count for nothing.
    assert why["both"][0] == "Cats"
    assert why["both"][-1] == "bee"
    assert "the" not in why["cats"]
    assert "bee" not in why["cats"]
    assert why["bees"] == ("bee",)
    assert why["none"] == ()
    assert hits[0].to_dict()["why"]["words"] == list(why[hits[0].id])


def test_why_in_one_mode(animals: retr.Collection) -> None:
    (hit,) = animals.search("river", mode="lexical", explain=True)
    assert hit.why is not None
    assert (hit.why.dense, hit.why.lexical) == (None, hit.score)
    hits = animals.search("river", mode="dense", explain=True)
    lexical = [hit.why.lexical for hit in hits if hit.why is not None]
    assert sorted(score or 0 for score in lexical) == [0, 0, 0, 0, hit.score]
    assert all(hit.why is not None and hit.why.dense == pytest.approx(hit.score) for hit in hits)
    by_vector = animals.search(vector=words_to_vector("river", 24), explain=True)
    assert {(hit.why.lexical, hit.why.words) for hit in by_vector if hit.why} == {(None, ())}


def test_why_for_ids_and_after_merges(animals: retr.Collection) -> None:
    animals.add([Document("more", "a bee and another bee")])
    one = animals.search("bee cat", ids=["more"], explain=True)
    assert [hit.why.words for hit in one if hit.why] == [("bee",)]
    before = animals.search("bee cat", explain=True)
    animals.compact()
    assert animals.search("bee cat", explain=True) == before


# --- languages


def test_the_language_is_chosen_at_the_build_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.retr"
    plain = retr.build(DOCUMENTS, path, encoder=ToyEncoder(), language="none")
    assert ids(plain.search("bee", mode="lexical")) == ["both"]  # and no "bees"
    assert ids(plain.search("the", mode="lexical")) == ["cats", "eels"]
    plain.add([Document("more", "a bee")])
    retr.build(DOCUMENTS, path, encoder=ToyEncoder(), language="none")
    with pytest.raises(InputError, match="none, not english"):
        retr.build(DOCUMENTS, path, encoder=ToyEncoder(), language="en")
    # Left out it stays as it is.
    again = retr.build(DOCUMENTS, path, encoder=ToyEncoder())
    assert again.settings["lexical"]["analyzer"].startswith("none:")
    with pytest.raises(InputError, match="klingon"):
        retr.build(DOCUMENTS, tmp_path / "b.retr", encoder=ToyEncoder(), language="klingon")
    assert not (tmp_path / "b.retr").exists()


# --- collections from before words were kept


def test_a_collection_without_words_is_searched_by_vectors(tmp_path: Path) -> None:
    path = tmp_path / "a.retr"
    collection = build_without_words(DOCUMENTS, path, ToyEncoder())
    assert collection.search("bee") == collection.search("bee", mode="dense")
    for mode in ("lexical", "hybrid"):
        with pytest.raises(InputError, match="retr index build"):
            collection.search("bee", mode=mode)
    hits = collection.search("bee", explain=True)
    assert [hit.why.lexical for hit in hits if hit.why] == [None] * len(TEXTS)
    collection.add([Document("more", "a bee")])
    collection.delete("both")
    assert "lexical" not in {s["role"] for s in collection.info()["segments"]}

    generation = collection.generation
    built = retr.build([*DOCUMENTS, Document("more", "a bee")], path, encoder=ToyEncoder())
    assert (built.report.encoded, built.report.added) == (1, 1)  # what was deleted
    new = dict(enumerate([*TEXTS.values(), "a bee", TEXTS["both"]]))
    stored = {row for s in built._snapshot.lexical for row in s.rows.tolist()}
    found = built.search("a bee", mode="lexical")
    scores = oracle({row: new[row] for row in stored}, "a bee")
    assert_best(pairs(found), {r: s for r, s in scores.items() if r != 3}, 10)
    assert built.search("a bee") != built.search("a bee", mode="dense")
    assert built.verify() == []
    # A reader that is open stays with what it had.
    assert collection.generation == generation
    assert collection.search("bee") == collection.search("bee", mode="dense")
    collection.refresh()
    assert set(ids(collection.search("bee", mode="lexical"))) == {"bees", "more", "both"}


def words_twice(path: Path, meanwhile: Sequence[str]) -> retr.Collection:
    """Give a collection its words while another writer does something."""
    other = retr.open(path, encoder=ToyEncoder())

    class Interrupted(Store):
        done = False

        def commit(self, staging, rebase):  # type: ignore[no-untyped-def]
            if not self.done:
                self.done = True
                for what in meanwhile:
                    match what:
                        case "delete":
                            other.delete(["both", "cats"])
                        case "compact":
                            other.compact()
                        case "add":
                            other.add([Document("new", "a new bee")])
                        case "words":
                            other.settle({}, TermSettings("english:1"))
            return super().commit(staging, rebase)

    store = Interrupted(path)
    snapshot = retr.open(path, encoder=ToyEncoder())._snapshot
    indexing.index_words(store, snapshot, TermSettings("english:1"))
    return retr.open(path, encoder=ToyEncoder())


@pytest.mark.parametrize(
    "meanwhile",
    [
        [],
        ["delete"],
        ["delete", "compact"],
        ["add"],
        ["words"],
        ["words", "add"],
        ["add", "compact"],
    ],
)
def test_words_are_added_while_another_writes(tmp_path: Path, meanwhile: list[str]) -> None:
    path = tmp_path / "a.retr"
    build_without_words(DOCUMENTS, path, ToyEncoder())
    collection = words_twice(path, meanwhile)
    texts = dict(TEXTS)
    if "delete" in meanwhile:
        del texts["both"], texts["cats"]
    if "add" in meanwhile:
        texts["new"] = "a new bee"
    rows = [row for s in collection._snapshot.lexical for row in s.rows.tolist()]
    assert len(rows) == len(set(rows)), "a row twice"
    assert len(collection) == len(texts)
    for query, word in (("bee", "bee"), ("cat", "cat"), ("eel", "eel")):
        wanted = {id for id, text in texts.items() if word in text.lower()}
        assert set(ids(collection.search(query, mode="lexical"))) == wanted
        assert set(ids(collection.search(query))) == texts.keys()
    collection.compact()
    assert sorted(len(s) for s in collection._snapshot.lexical) == [len(texts)]
    assert collection.verify() == []


# --- threads


def test_threads_find_the_same(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    words = [f"w{i}" for i in range(300)]
    texts = [" ".join(random.choice(words, 12)) for _ in range(3000)]
    collection = retr.build(texts[:2000], tmp_path / "a.retr", encoder=ToyEncoder())
    collection.add(retr_documents(texts[2000:]))
    collection.delete(["7", "70"])
    queries = [" ".join(random.choice(words, 4)) for _ in range(24)]
    fresh = retr.open(collection.path, encoder=ToyEncoder())
    expected = [
        [collection.search(query, mode=mode, explain=True) for mode in MODES] for query in queries
    ]
    start = threading.Barrier(4)

    def work() -> list[list[retr.Results]]:
        start.wait()
        return [[fresh.search(q, mode=mode, explain=True) for mode in MODES] for q in queries]

    with ThreadPoolExecutor(4) as pool:
        for task in [pool.submit(work) for _ in range(4)]:
            assert task.result() == expected


def retr_documents(texts: Sequence[str]) -> list[Document]:
    return [Document(f"more{i}", text) for i, text in enumerate(texts)]
