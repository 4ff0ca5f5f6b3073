"""The old model is not spoiled: vectors cut short, and queries that both encoders encode."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner

import retr
from retr.cli import app
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.types import Query

from .upgrades import (
    QUERIES,
    ModelEncoder,
    assert_same_answers,
    documents,
    new_encoder,
    old_encoder,
)

ROWS = 240


def new_ids(collection: retr.Collection) -> set[str]:
    """Return the documents that have a vector of the new encoder."""
    snapshot = collection._snapshot
    rows = [s.rows for s in snapshot.dense if s.entry.space == snapshot.manifest.space]
    return {id for some in rows for id in snapshot.ids(some)}


def ranked(collection: retr.Collection, query: str | Query, without: set[str]) -> list[str]:
    found = collection.search(query, k=ROWS, mode="dense")
    return [hit.id for hit in found if hit.id not in without]


@pytest.fixture
def collection(tmp_path: Path) -> retr.Collection:
    return retr.build(documents(range(ROWS)), tmp_path / "c.retr", encoder=old_encoder())


def test_a_model_that_was_cut_short_is_searched_as_before_at_once(tmp_path: Path) -> None:
    path = tmp_path / "c.retr"
    collection = retr.build(documents(range(ROWS)), path, encoder="static:2@64")
    before = {query: ranked(collection, query, set()) for query in QUERIES}
    report = collection.upgrade("static:2", sample=60)
    assert report["gate"]["bridge_kind"] == "prefix"
    sample = new_ids(collection)
    for query in QUERIES:
        assert ranked(collection, query, sample) == [i for i in before[query] if i not in sample]
    collection.map_upgrade()
    assert collection.upgrade_status()["old"] == 0
    collection.backfill()
    collection.finish_upgrade()
    fresh = retr.build(documents(range(ROWS)), tmp_path / "f.retr", encoder="static:2")
    assert_same_answers(collection, fresh)


def test_both_encoders_leave_old_vectors_in_their_order(collection: retr.Collection) -> None:
    before = {query: ranked(collection, query, set()) for query in QUERIES}
    report = collection.upgrade(new_encoder(), sample=60, both=True)
    assert report["gate"]["both"]
    sample = new_ids(collection)
    bridged = retr.open(collection.path, encoder=new_encoder())  # it cannot load the old one
    same = 0
    for query in QUERIES:
        order = [id for id in before[query] if id not in sample]
        assert ranked(collection, query, sample) == order
        same += ranked(bridged, query, sample) == order
    assert same == 0
    # All at once is as one by one, and an answer gives its reasons.
    together = collection.search(QUERIES, k=20, mode="dense")
    for query, found in zip(QUERIES, together, strict=True):
        alone = collection.search(query, k=20, mode="dense", explain=True)
        assert [hit.id for hit in alone] == [hit.id for hit in found]
        assert all(h.why is not None and h.why.dense == pytest.approx(h.score) for h in alone)


def test_rows_of_both_encoders_mix(collection: retr.Collection, tmp_path: Path) -> None:
    collection.upgrade(new_encoder(), sample=60, both=True)
    sample = new_ids(collection)
    firsts = [hit.id in sample for query in QUERIES for hit in collection.search(query, k=10)]
    # A quarter of the rows has new vectors: neither kind has all the first places.
    assert 0.1 < sum(firsts) / len(firsts) < 0.5


def test_a_vector_and_a_composed_query_go_by_the_bridge(collection: retr.Collection) -> None:
    collection.upgrade(new_encoder(), sample=60, both=True)
    bridged = retr.open(collection.path, encoder=new_encoder())
    vector = new_encoder().encode_queries(QUERIES[:1])[0]
    for query in (
        Query(vector=vector),
        Query(text=QUERIES[0], without=[QUERIES[1]]),
    ):
        assert ranked(collection, query, set()) == ranked(bridged, query, set())
    block = [Query(text=QUERIES[0]), Query(vector=vector)]
    mixed = collection.search(block, k=20, mode="dense")
    assert [h.id for h in mixed[0]] == [
        h.id for h in collection.search(block[0], k=20, mode="dense")
    ]
    assert [h.id for h in mixed[1]] == [h.id for h in bridged.search(block[1], k=20, mode="dense")]


def test_a_reader_without_the_old_encoder_is_told_once(
    collection: retr.Collection, caplog: pytest.LogCaptureFixture
) -> None:
    collection.upgrade(new_encoder(), sample=60, both=True)
    reader = retr.open(collection.path, encoder=new_encoder())
    with caplog.at_level(logging.WARNING, "retr"):
        for query in QUERIES[:3]:
            assert len(reader.search(query, k=5)) == 5
    (record,) = caplog.records
    assert "the old encoder model:old cannot be loaded" in record.getMessage()
    assert "through the bridge only" in record.getMessage()


def test_at_the_end_the_old_encoder_is_not_asked(
    collection: retr.Collection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collection.upgrade(new_encoder(), sample=60, both=True)
    collection.backfill()
    fresh = retr.build(documents(range(ROWS)), tmp_path / "f.retr", encoder=new_encoder())
    reader = retr.open(collection.path, encoder=new_encoder())
    with caplog.at_level(logging.WARNING, "retr"):
        assert_same_answers(reader, fresh)
        collection.finish_upgrade()
        reader.refresh()
        assert_same_answers(reader, fresh)
    assert not caplog.records


def test_judged_queries_decide_for_both(collection: retr.Collection) -> None:
    asked = [Query(text=" ".join(d.text.split()[:4]), id=d.id) for d in documents(range(100))]
    qrels = {d.id: {d.id: 1} for d in documents(range(100))}
    before = {query: ranked(collection, query, set()) for query in QUERIES[:5]}
    alien = ModelEncoder("alien", 32, 0.1, alien=True)
    dry = collection.upgrade(alien, sample=120, queries=asked, qrels=qrels, dry_run=True)
    assert dry["gate"]["bridge_quality"]["compatible"] is False and dry["gate"]["both"]
    not_both = collection.upgrade(
        alien, sample=120, queries=asked, qrels=qrels, dry_run=True, both=False
    )
    assert not not_both["gate"]["both"]
    collection.upgrade(alien, sample=120, queries=asked, qrels=qrels, force=True)
    sample = new_ids(collection)
    for query, order in before.items():
        assert ranked(collection, query, sample) == [id for id in order if id not in sample]


def test_both_needs_the_old_encoder(collection: retr.Collection) -> None:
    there = retr.open(collection.path)  # its name finds nothing
    with pytest.raises(InputError, match="both encoders are asked for, and the old one cannot"):
        there.upgrade(new_encoder(), sample=60, both=True)
    assert there.upgrade_status()["state"] == "none"


def test_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "c.retr"
    retr.build(documents(range(60)), path, encoder="static:1")
    command = ["upgrade", "start", "--to", "static:2", "--sample", "30", "--both", "--yes"]
    result = CliRunner().invoke(app, [*command, "--index", str(path), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["started"] and report["gate"]["both"]
    # The names of both find their encoders again.
    collection = retr.open(path)
    crossing = collection._snapshot.crossings[collection._snapshot.manifest.upgrade.source]
    assert crossing.bridge.both is not None
    assert len(collection.search("word1 word2", k=5)) == 5
