"""The weight of vectors against words, fitted on judged queries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import retr
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.types import Document, Query

pytest.importorskip("ir_measures")

DIM, COUNT = 24, 60


def made(
    path: Path, *, words_help: bool
) -> tuple[retr.Collection, list[Query], dict[str, dict[str, int]]]:
    """Return documents of which each is asked for once, by vectors or by words but not by both."""
    random = np.random.default_rng(5)
    vectors = random.standard_normal((COUNT, DIM))
    noise = [f"w{random.integers(8)} w{random.integers(8)}" for _ in range(COUNT)]
    documents = [
        Document(
            f"d{i}",
            f"name{i} {noise[i]}" if words_help else noise[i],
            vector=vectors[i].astype(np.float32),
        )
        for i in range(COUNT)
    ]
    asked = random.standard_normal((COUNT, DIM)) if words_help else vectors
    asked = asked + 0.1 * random.standard_normal((COUNT, DIM))
    queries = [
        Query(f"name{i} w1" if words_help else "w1 w2", asked[i].astype(np.float32), id=f"q{i}")
        for i in range(COUNT)
    ]
    collection = retr.build(documents, path, encoder="vectors", progress=False)
    return collection, queries, {f"q{i}": {f"d{i}": 1} for i in range(COUNT)}


@pytest.mark.parametrize("words_help", [True, False])
def test_the_side_that_knows_gets_the_weight(tmp_path: Path, words_help: bool) -> None:
    collection, queries, qrels = made(tmp_path / "a.retr", words_help=words_help)
    before = collection.settings["fusion"]["weight"]
    report = collection.tune(queries, qrels)["fusion"]
    weight = collection.settings["fusion"]["weight"]
    assert report["queries"] == COUNT
    assert weight == report["weight"]
    assert report["changed"]
    assert report["nDCG@10_held_out"] > report["nDCG@10_before"]
    assert weight < before if words_help else weight > before
    assert collection.settings["fusion"]["fitted"] == f"{COUNT} judged queries"
    # At the weight it has now the judged documents are first, or all but.
    assert report["nDCG@10_held_out"] > 0.9
    firsts = [hits[0].id for hits in collection.search(queries, k=1, mode="hybrid")]
    assert sum(id == f"d{i}" for i, id in enumerate(firsts)) >= 0.9 * COUNT
    assert retr.open(tmp_path / "a.retr").settings["fusion"] == collection.settings["fusion"]
    # Judged so again there is nothing to gain.
    assert not collection.tune(queries, qrels)["fusion"]["changed"]


def test_too_few_judged_queries(tmp_path: Path) -> None:
    collection, queries, qrels = made(tmp_path / "a.retr", words_help=True)
    settings = dict(collection.settings)
    with pytest.raises(InputError, match="19 of 60 queries are judged"):
        collection.tune(queries, dict(list(qrels.items())[:19]))
    with pytest.raises(InputError, match="judgments need their queries"):
        collection.tune(None, qrels)
    assert collection.settings == settings
