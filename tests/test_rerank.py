"""Reranking: a tiny cross-encoder written here against bare sentence-transformers, one's own
functions, and what the search makes of their scores.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import retr
from retr.cli import app
from retr.retrieval.search import rerank as reranking
from retr.retrieval.search.rerank import CrossEncoderReranker, open_reranker
from retr.retrieval.values.errors import InputError

from .toys import ToyEncoder

os.environ.setdefault("HF_HUB_OFFLINE", "1")

KNOWN = (
    "heat transfer boundary layer wing flow supersonic shock wave plate angle attack laminar "
    "turbulent pressure body speed sound jet cone thin small large over with and of the in"
)
WORDS = KNOWN.split()
QUERIES = ["supersonic wing", "heat of the boundary layer", "shock"]


def sentences(count: int) -> list[str]:
    random = np.random.default_rng(0)
    return [" ".join(random.choice(WORDS, random.integers(2, 12))) for _ in range(count)]


def records(texts: Sequence[str]) -> list[dict[str, str]]:
    return [{"id": f"d{n}", "text": text} for n, text in enumerate(texts)]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> retr.Collection:
    path = tmp_path_factory.mktemp("rerank") / "c.retr"
    return retr.build(records(sentences(90)), path, encoder=ToyEncoder(), progress=False)


def length(query: str, texts: Sequence[str]) -> list[int]:
    """Somebody's own reranker: the longest text is the best."""
    return [len(text) for text in texts]


# ---------------------------------------------------------------- the search


def test_the_first_hits_are_ordered_by_the_new_score(collection: retr.Collection) -> None:
    first = collection.search("supersonic wing", 30)
    for k, depth, read in ((5, 30, 30), (5, 20, 20), (5, 1, 5), (30, 5, 30)):
        hits = collection.search("supersonic wing", k, rerank=length, rerank_depth=depth)
        expected = sorted(first[:read], key=lambda hit: -len(hit.text or ""))[:k]
        assert [hit.id for hit in hits] == [hit.id for hit in expected]
        assert [hit.score for hit in hits] == [len(hit.text or "") for hit in hits]
    assert len(collection.search("wing", 3, rerank=length, rerank_depth=1000)) == 3


def test_of_equal_scores_the_first_found_stands_first(collection: retr.Collection) -> None:
    first = collection.search("supersonic wing", 20)
    same = collection.search("supersonic wing", 20, rerank=lambda query, texts: [1.5] * len(texts))
    assert [hit.row for hit in same] == [hit.row for hit in first]
    assert {hit.score for hit in same} == {1.5}


def test_every_query_of_many_is_reranked_as_it_is_alone(collection: retr.Collection) -> None:
    together = collection.search(QUERIES, 7, rerank=length)
    assert together == [collection.search(query, 7, rerank=length) for query in QUERIES]
    assert together != collection.search(QUERIES, 7)


def test_explaining_keeps_the_scores_of_the_first_stage(collection: retr.Collection) -> None:
    first = {hit.row: hit for hit in collection.search("heat layer", 50, explain=True)}
    hits = collection.search("heat layer", 10, rerank=length, explain=True)
    for hit in hits:
        before = first[hit.row]
        assert hit.why is not None and before.why is not None
        assert hit.why.first == pytest.approx(before.score) and before.why.first is None
        assert (hit.why.dense, hit.why.lexical) == (before.why.dense, before.why.lexical)
        assert hit.to_dict()["why"]["first"] == hit.why.first


def test_the_passage_is_read_and_a_document_found_once(tmp_path: Path) -> None:
    parts = ["heat " * 30 + "wing", "shock " * 30, "jet " * 30]
    collection = retr.build(
        records(["\n\n".join(parts), "a small wing", "wing wing"]),
        tmp_path / "c.retr",
        encoder=ToyEncoder(),
        passages=True,
        size=200,
        progress=False,
    )
    read: list[str] = []

    def short(query: str, texts: Sequence[str]) -> list[int]:
        read.extend(texts)
        return [-len(text) for text in texts]

    hits = collection.search("wing", 3, mode="lexical", rerank=short)
    assert [hit.id for hit in hits] == ["d2", "d1", "d0"]
    (passage,) = [text for text in read if "heat" in text]
    assert "shock" not in passage and len(read) == 3
    assert hits[2].text == passage


def test_hits_without_a_text_come_after_the_others(tmp_path: Path) -> None:
    vectors = np.eye(6, dtype=np.float32) + 0.1
    documents = [
        retr.Document(f"v{n}", text=None if n % 2 else "word " * (6 - n), vector=vectors[n])
        for n in range(6)
    ]
    collection = retr.build(documents, tmp_path / "c.retr", progress=False)
    query = np.array([0, 5, 4, 3, 2, 1], np.float32)
    first = [hit.id for hit in collection.search("text", vector=query, mode="dense")]
    assert first == ["v1", "v2", "v3", "v4", "v5", "v0"]
    hits = collection.search("text", vector=query, mode="dense", rerank=length)
    assert [hit.id for hit in hits] == ["v0", "v2", "v4", "v1", "v3", "v5"]
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 6
    collection.delete(["v0", "v2", "v4"])
    left = collection.search("text", vector=query, mode="dense", rerank=length)
    assert left == collection.search("text", vector=query, mode="dense")


def test_nothing_found_is_nothing_to_rerank(collection: retr.Collection) -> None:
    def never(query: str, texts: Sequence[str]) -> list[float]:
        raise AssertionError("asked for the scores of nothing")

    assert len(collection.search("qwertz", mode="lexical", rerank=never)) == 0
    assert collection.search([], rerank=never) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda query, texts: [1.0], r"gave scores of shape \(1,\) for 50 texts"),
        (lambda query, texts: np.ones((len(texts), 2)), r"of shape \(50, 2\) for 50 texts"),
        (lambda query, texts: None, "gave scores of shape|are not numbers"),
        (lambda query, texts: ["good"] * len(texts), "its scores are not numbers"),
        (lambda query, texts: [float("nan")] * len(texts), "a score that is NaN or infinite"),
        (7, "the reranker is int; give the name of a cross-encoder"),
        (retr.Reranker, "the reranker is Reranker; give"),
    ],
)
def test_what_gives_no_scores_is_refused(
    collection: retr.Collection, given: Any, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        collection.search("wing", rerank=given)


def test_what_cannot_be_asked_is_refused(collection: retr.Collection) -> None:
    vector = np.ones(collection.space.dim, np.float32)
    with pytest.raises(InputError, match="without a text cannot be reranked"):
        collection.search(vector=vector, rerank=length)
    with pytest.raises(InputError, match="without a text cannot be reranked"):
        collection.search([retr.Query("wing"), retr.Query(vector=vector)], rerank=length)
    for depth in (0, 2.5, True):
        with pytest.raises(InputError, match="rerank_depth is"):
            collection.search("wing", rerank=length, rerank_depth=depth)  # type: ignore[arg-type]


def test_ones_own_class_may_take_all_queries_at_once(collection: retr.Collection) -> None:
    class Own(retr.Reranker):
        calls = 0

        def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
            self.calls += 1
            return np.array([len(text) for text in texts], np.float32)

    own = Own()
    found = collection.search(QUERIES, 7, rerank=own)
    assert found == collection.search(QUERIES, 7, rerank=length)
    assert own.calls == len(QUERIES)


# ---------------------------------------------------------------- a cross-encoder


def write_cross_encoder(folder: Path, labels: int = 1, kind: str = "classifier") -> Path:
    """Write a BERT of 16 dimensions with random weights and a classifier, or without one."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("sentence_transformers")
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    tokens += WORDS
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=48,
        initializer_range=0.6,
        num_labels=labels,
    )
    made = BertForSequenceClassification if kind == "classifier" else BertModel
    made(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    )
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cross_encoder(tmp_path_factory.mktemp("models") / "cross")


def predict(model: Path) -> Callable[[str, Sequence[str]], NDArray[np.float32]]:
    from sentence_transformers import CrossEncoder

    bare = CrossEncoder(str(model), device="cpu", local_files_only=True)
    return lambda query, texts: bare.predict([(query, text) for text in texts])


def test_the_order_is_that_of_predict(collection: retr.Collection, model: Path) -> None:
    bare = predict(model)
    found = collection.search(QUERIES, 10, rerank=str(model), rerank_depth=40)
    for query, hits in zip(QUERIES, found, strict=True):
        first = collection.search(query, 40)
        scores = bare(query, [hit.text or "" for hit in first])
        assert np.ptp(scores) > 0.1
        expected = sorted(zip(scores, first, strict=True), key=lambda each: -each[0])[:10]
        assert [hit.id for hit in hits] == [hit.id for _, hit in expected]
        np.testing.assert_allclose([h.score for h in hits], [s for s, _ in expected], atol=1e-5)
        assert [hit.id for hit in hits] != [hit.id for hit in first[:10]]


def test_scores_come_in_the_order_of_the_texts(model: Path) -> None:
    reranker, bare = CrossEncoderReranker(str(model), device="cpu"), predict(model)
    texts = [*sentences(40), "", "wing " * 5000, "a lone \ud800 surrogate"]
    np.testing.assert_allclose(
        reranker.score("heat", texts[:-1]), bare("heat", texts[:-1]), atol=1e-5
    )
    many = reranker.score_all(QUERIES, [texts[:3], texts[3:], texts[:1]])
    assert [len(own) for own in many] == [3, 40, 1]
    for query, own, expected in zip(QUERIES, (texts[:3], texts[3:], texts[:1]), many, strict=True):
        np.testing.assert_allclose(reranker.score(query, own), expected, atol=1e-5)


def test_a_name_is_loaded_once_and_let_go_with_its_collections(
    collection: retr.Collection, model: Path
) -> None:
    one, other = (retr.open(collection.path, encoder=ToyEncoder()) for _ in range(2))
    expected = one.search("wing", 5, rerank=str(model))
    loaded = open_reranker(str(model))
    assert other.search("wing", 5, rerank=str(model)) == expected
    assert open_reranker(str(model)) is loaded
    key = (str(model), None)
    assert reranking._loaded[key] is loaded
    for holder in (collection, one, other):
        holder._rerankers.clear()
    del loaded
    gc.collect()
    assert key not in reranking._loaded


def test_a_model_that_ranks_nothing_is_refused(
    collection: retr.Collection, model: Path, tmp_path: Path
) -> None:
    three = write_cross_encoder(tmp_path / "nli", labels=3)
    plain = write_cross_encoder(tmp_path / "plain", kind="none")
    (tmp_path / "empty").mkdir()
    for name, said in (
        (str(three), "gives 3 scores for a text"),
        (str(plain), "is not a cross-encoder: it lacks the weights classifier"),
        (str(tmp_path / "empty"), "so no model"),
        (str(tmp_path / "none"), "there is no folder"),
        ("cross-encoder/nothing", "not in the local cache"),
        ("nothing", "not in the local cache"),
        (" ", "give the name or the path"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            collection.search("wing", rerank=name)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="device 'nonsense' cannot be used"):
        CrossEncoderReranker(str(model), device="nonsense")
    from sentence_transformers import CrossEncoder

    bare = CrossEncoder(str(model), device="cpu")
    with pytest.raises(InputError, match="the reranker is CrossEncoder; give the name"):
        collection.search("wing", rerank=bare)


def test_the_device_of_the_collection_is_the_rerankers(model: Path, tmp_path: Path) -> None:
    retr.build(records(sentences(5)), tmp_path / "c.retr", progress=False)
    options = retr.EncoderOptions(device="nonsense")
    collection = retr.open(tmp_path / "c.retr", options=options)  # its own encoder needs none
    with pytest.raises(InputError, match=r"reranker .* the device 'nonsense' cannot be used"):
        collection.search("wing", rerank=str(model))


# ---------------------------------------------------------------- the command line


def test_the_command_line_reranks_and_writes_runs(model: Path, tmp_path: Path) -> None:
    texts = sentences(60)
    index = str(tmp_path / "c.retr")
    retr.build(records(texts), index, encoder="static", progress=False)
    collection = retr.open(index)
    expected = collection.search("supersonic wing", 5, rerank=str(model), rerank_depth=20)
    rerank = ["--rerank", str(model), "--rerank-depth", "20", "--index", index, "-q"]
    searched = CliRunner().invoke(app, ["search", "supersonic wing", "-k", "5", "--json", *rerank])
    assert searched.exit_code == 0, searched.output
    hits = [json.loads(line) for line in searched.stdout.splitlines()]
    assert [hit["id"] for hit in hits] == [hit.id for hit in expected]

    queries = tmp_path / "queries.jsonl"
    queries.write_text("\n".join(json.dumps({"_id": q[:4], "text": q}) for q in QUERIES))
    run = tmp_path / "run.trec"
    for k in (5, 30):
        done = CliRunner().invoke(
            app,
            ["search", "--queries", str(queries), "--run", str(run), "-k", str(k), *rerank],
        )
        assert done.exit_code == 0, done.output
        lines = [line.split() for line in run.read_text().splitlines()]
        for query in QUERIES:
            own = [(line[2], float(line[4])) for line in lines if line[0] == query[:4]]
            wanted = collection.search(query, k, rerank=str(model), rerank_depth=20)
            assert {id for id, _ in own} == {hit.id for hit in wanted}
            np.testing.assert_allclose(
                [score for _, score in own], [hit.score for hit in wanted], atol=1e-5
            )
