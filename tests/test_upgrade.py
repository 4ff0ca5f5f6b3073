"""Upgrades of a live collection, step by step: what is found, by which vectors, what is refused."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

import retr
from retr.retrieval.sources import open_source
from retr.retrieval.store.store import Store
from retr.retrieval.values.errors import InputError, SpaceMismatchError
from retr.retrieval.values.fusion import default_fusion
from retr.retrieval.values.progress import Silent
from retr.retrieval.values.types import Document
from retr.retrieval.writing.commits import NewCollection
from retr.retrieval.writing.ingest import Ingest

from .upgrades import (
    QUERIES,
    ModelEncoder,
    agreement,
    assert_same_answers,
    assert_scores,
    build,
    documents,
    ids_found,
    kinds,
    new_encoder,
    old_encoder,
    snapshot_of,
    text_of,
    texts_found,
)

ROWS = 600
SAMPLE = 200


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> retr.Collection:
    """Return what a collection is that was built with the new encoder; not to be written to."""
    return build(tmp_path_factory.mktemp("fresh") / "c.retr", range(ROWS), new_encoder())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("built") / "c.retr"
    build(path, range(ROWS))
    return path


@pytest.fixture(scope="module")
def begun(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = copied(built, tmp_path_factory.mktemp("begun"))
    retr.open(path, encoder=old_encoder()).upgrade(new_encoder(), sample=SAMPLE)
    return path


def copied(path: Path, folder: Path) -> Path:
    return Path(shutil.copytree(path, Path(tempfile.mkdtemp(dir=folder)) / "c.retr"))


@pytest.fixture
def collection(built: Path, tmp_path: Path) -> retr.Collection:
    """Return a collection of the old encoder."""
    return retr.open(copied(built, tmp_path), encoder=old_encoder())


@pytest.fixture
def upgrading(begun: Path, tmp_path: Path) -> retr.Collection:
    """Return a collection in an upgrade; only the new encoder is given."""
    return retr.open(copied(begun, tmp_path), encoder=new_encoder())


# --- start


def test_a_start_embeds_the_sample_alone(collection: retr.Collection) -> None:
    new = new_encoder()
    before = snapshot_of(collection)
    report = collection.upgrade(new, sample=SAMPLE)
    assert report["started"]
    assert (report["from"], report["to"]) == ("model:old", "model:new")
    assert len(new.seen) == SAMPLE
    assert kinds(collection) == {"new": SAMPLE, "mapped": 0, "old": ROWS - SAMPLE}
    assert collection.space == new.space
    # The old vectors lie where they lay, in the same file.
    after = snapshot_of(collection)
    assert {s.entry.data for s in before.dense} < {s.entry.data for s in after.dense}
    assert ids_found(collection) == {f"d{i}" for i in range(ROWS)}
    assert collection.verify() == []


def test_the_sample_is_drawn_from_all_over(collection: retr.Collection) -> None:
    collection.upgrade(new_encoder(), sample=60)
    (new,) = [s for s in snapshot_of(collection).dense if s.entry.space == "s2"]
    assert all(np.diff(np.searchsorted(new.rows, np.linspace(0, ROWS, 61))) == 1)


def test_bridged_queries_find_what_the_new_encoder_finds(
    collection: retr.Collection, upgrading: retr.Collection, fresh: retr.Collection
) -> None:
    at_first, now = agreement(collection, fresh), agreement(upgrading, fresh)
    assert now > at_first
    upgrading.map_upgrade()
    assert agreement(upgrading, fresh) > at_first


def test_scores_are_the_bridges(upgrading: retr.Collection) -> None:
    assert_scores(upgrading)
    upgrading.map_upgrade()
    assert_scores(upgrading)
    upgrading.backfill(rows=100)
    assert_scores(upgrading)


@pytest.mark.parametrize("mapped", [False, True])
def test_a_query_that_means_nothing(upgrading: retr.Collection, mapped: bool) -> None:
    """Its vector is zero: everything is as near, and nothing is lost or no number."""
    if mapped:
        upgrading.map_upgrade()
    zero = retr.Query(text="?", vector=None)
    assert not upgrading.encoder.encode_queries([" "]).any()
    plain = upgrading.encoder.encode_queries
    upgrading.encoder.encode_queries = lambda items: plain([" " for _ in items])  # type: ignore[method-assign]
    hits = upgrading.search([zero, zero], k=ROWS + 50, mode="dense")[1]
    assert len(hits) == ROWS
    assert all(np.isfinite(hit.score) for hit in hits)


def test_a_dry_run_changes_nothing(collection: retr.Collection) -> None:
    generation = collection.generation
    report = collection.upgrade(new_encoder(), sample=SAMPLE, dry_run=True)
    assert not report["started"]
    assert report["gate"]["pairs"] == SAMPLE
    assert retr.open(collection.path).generation == generation
    assert list((collection.path / "staging").iterdir()) == []
    json.dumps(report)


def test_whoever_does_not_agree_changes_nothing(collection: retr.Collection) -> None:
    asked = []

    def confirm(report: object) -> bool:
        asked.append(report)
        return False

    report = collection.upgrade(new_encoder(), sample=SAMPLE, confirm=confirm)
    assert len(asked) == 1
    assert not report["started"]
    assert collection.space == old_encoder().space


def test_a_hopeless_pair_is_said_and_refused(collection: retr.Collection) -> None:
    alien = ModelEncoder("alien", 32, 0.1, alien=True)
    report = collection.upgrade(alien, sample=SAMPLE, dry_run=True)
    assert report["gate"]["hopeless"]
    with pytest.raises(InputError, match="shuffled pairs; nothing was changed"):
        collection.upgrade(alien, sample=SAMPLE)
    assert collection.space == old_encoder().space
    assert collection.upgrade(alien, sample=SAMPLE, force=True)["started"]
    assert ids_found(collection) == {f"d{i}" for i in range(ROWS)}


def test_judged_queries_make_it_quality(collection: retr.Collection) -> None:
    new = new_encoder()
    queries = [retr.Query(text=text, id=f"q{i}") for i, text in enumerate(QUERIES)]
    vectors = new.encode_documents([text_of(i) for i in range(ROWS)])
    best = np.argsort(-(new.encode_queries(QUERIES) @ vectors.T), axis=1)[:, :3]
    qrels = {f"q{i}": {f"d{row}": 1 for row in rows} for i, rows in enumerate(best)}
    report = collection.upgrade(new, sample=SAMPLE, queries=queries, qrels=qrels, dry_run=True)
    quality = report["gate"]["bridge_quality"]
    assert quality["queries"] == len(QUERIES)
    assert quality["new_new"]["mean"] > quality["new_old"]["mean"] > quality["old_old"]["mean"]
    assert 0 < quality["gain"] < 1
    assert report["gate"]["queries"] == len(QUERIES)
    assert report["gate"]["pairs"] > SAMPLE  # the judged documents are among them
    # Without them it says agreement, which is something else.
    report = collection.upgrade(new, sample=SAMPLE, queries=QUERIES, dry_run=True)
    assert report["gate"]["bridge_quality"] is None


@pytest.mark.parametrize("gone", ["start", "all"])
def test_without_the_old_encoder(built: Path, tmp_path: Path, gone: str) -> None:
    """Its name finds nothing: begun, searched, turned over and finished all the same."""
    collection = retr.open(copied(built, tmp_path))
    with pytest.raises(InputError, match="no encoder 'model:old'"):
        collection.search("word1")
    report = collection.upgrade(new_encoder(), sample=SAMPLE, queries=QUERIES)
    (note,) = report["gate"]["notes"]
    assert "the old encoder cannot be used" in note
    assert report["gate"]["queries"] == 0
    assert len(collection.search(QUERIES[0], k=5)) == 5
    if gone == "start":
        with pytest.raises(InputError, match=r"model:old cannot be loaded .*rollback_upgrade\("):
            collection.rollback_upgrade()
        collection.rollback_upgrade(encoder=old_encoder())
        assert collection.space == old_encoder().space
        return
    collection.backfill()
    collection.finish_upgrade()
    assert kinds(collection) == {"new": ROWS, "mapped": 0, "old": 0}


# --- refused


def test_the_message_of_another_space_names_the_command(built: Path) -> None:
    with pytest.raises(SpaceMismatchError, match="retr upgrade start --to model:new --index"):
        retr.open(built, encoder=new_encoder())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.map_upgrade(), "no upgrade is under way; start one with: retr upgrade start"),
        (lambda c: c.backfill(), "every row has its vector of model:old; there is nothing"),
        (lambda c: c.finish_upgrade(), "no upgrade is under way"),
        (lambda c: c.rollback_upgrade(), "no upgrade is under way"),
        (lambda c: c.upgrade(old_encoder()), "its vectors are of model:old already"),
        (lambda c: c.upgrade(new_encoder(), sample=3), "a sample of 3 rows is too small"),
        (lambda c: c.upgrade(new_encoder(), sample="many"), "the sample is 'many'"),
        (lambda c: c.upgrade("nope:x"), "there is no encoder 'nope:x'"),
        (lambda c: c.upgrade("vectors:8"), "encodes no text"),
        (lambda c: c.upgrade(new_encoder(), qrels={"q": {"d1": 1}}), "need their queries"),
    ],
)
def test_what_is_refused(collection: retr.Collection, call: object, message: str) -> None:
    generation = collection.generation
    with pytest.raises(InputError, match=message):
        call(collection)  # type: ignore[operator]
    assert collection.refresh() == generation


def test_a_second_upgrade_is_refused_while_one_is_under_way(upgrading: retr.Collection) -> None:
    newer = ModelEncoder("newer", 16, 0.1)
    with pytest.raises(InputError, match=r"under way \(model:old to model:new\); finish it first"):
        upgrading.upgrade(newer, sample=SAMPLE)
    upgrading.backfill()
    upgrading.finish_upgrade()
    assert upgrading.upgrade(newer, sample=SAMPLE)["started"]  # a chain, one after the other
    upgrading.backfill()
    upgrading.finish_upgrade()
    fresh = build(upgrading.path.parent / "newer.retr", range(ROWS), newer)
    assert_same_answers(upgrading, fresh)


def test_a_prefix_longer_than_the_new_vectors_is_refused_before_anything(tmp_path: Path) -> None:
    collection = build(tmp_path / "c.retr", range(60), spec="flat@20")
    with pytest.raises(InputError, match="prefix of 20 is not shorter than the vectors of"):
        collection.upgrade(ModelEncoder("short", 16, 0.1), sample=40)


def test_vectors_without_texts_cannot_be_embedded_anew(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    collection = retr.build(
        [Document(f"v{i}", vector=v) for i, v in enumerate(vectors)], tmp_path / "c"
    )
    with pytest.raises(InputError, match="0 of 50 sampled rows could be embedded"):
        collection.upgrade(new_encoder())


def test_own_vectors_with_texts_can(tmp_path: Path) -> None:
    old = old_encoder()
    made = old.encode_documents([text_of(i) for i in range(100)])
    with_vectors = [Document(f"d{i}", text_of(i), vector=vector) for i, vector in enumerate(made)]
    collection = retr.build(with_vectors, tmp_path / "c.retr")
    assert collection.space.family == "vectors"
    collection.upgrade(new_encoder(), sample=60)
    collection.backfill()
    collection.finish_upgrade()
    fresh = build(tmp_path / "fresh.retr", range(100), new_encoder())
    assert_same_answers(collection, fresh)


def test_weights_of_words_have_no_bridge(collection: retr.Collection, tmp_path: Path) -> None:
    from retr.retrieval.encoders.base import Space, SparseEncoder

    class Sparse(SparseEncoder):
        family = "sparse"
        name = "sparse:1"
        space = Space("sparse:1", "sparse", "1", 1000, False, "ip", sparse=True)

        @classmethod
        def open(cls, name: str, options: retr.EncoderOptions) -> Sparse:
            return cls()

        def encode_queries(self, items):  # type: ignore[no-untyped-def]
            return [dict.fromkeys(text.split(), 1.0) for text in items]

        encode_documents = encode_queries

    with pytest.raises(InputError, match="there is no map between those and vectors"):
        collection.upgrade(Sparse(), sample=SAMPLE)
    sparse = build(tmp_path / "sparse.retr", range(30), Sparse())
    with pytest.raises(InputError, match="there is no map between those and vectors"):
        sparse.upgrade(new_encoder(), sample=30)


# --- map


def test_the_map_calls_no_encoder(upgrading: retr.Collection, fresh: retr.Collection) -> None:
    bridged = agreement(upgrading, fresh)
    seen = len(upgrading.encoder.seen)  # type: ignore[attr-defined]
    assert upgrading.map_upgrade() == ROWS - SAMPLE
    assert len(upgrading.encoder.seen) == seen  # type: ignore[attr-defined]
    assert kinds(upgrading) == {"new": SAMPLE, "mapped": ROWS - SAMPLE, "old": 0}
    assert agreement(upgrading, fresh) > bridged - 0.05
    assert ids_found(upgrading) == {f"d{i}" for i in range(ROWS)}
    # The second look, by the vector of the best hit, goes over from every kind to every other.
    for query in QUERIES:
        hybrid = upgrading.search(query, k=ROWS, mode="hybrid")
        assert all(np.isfinite(hit.score) for hit in hybrid)
    assert upgrading.map_upgrade() == 0  # there is nothing left to map
    upgrading.add(documents(range(ROWS, ROWS + 5)))
    assert kinds(upgrading)["new"] == SAMPLE + 5
    assert upgrading.map_upgrade() == 0


def test_mapped_vectors_are_merged_with_their_own_kind_alone(upgrading: retr.Collection) -> None:
    upgrading.map_upgrade()
    upgrading.backfill(rows=50)
    upgrading.compact()
    spaces = [s.entry.space for s in snapshot_of(upgrading).dense]
    assert sorted(spaces) == ["s1", "s2", "s3"]
    assert upgrading.info()["segments"][0]["role"] == "dense"
    assert kinds(upgrading) == {"new": SAMPLE + 50, "mapped": ROWS - SAMPLE - 50, "old": 0}
    mapped = snapshot_of(upgrading).spaces["s3"]
    assert (mapped.family, mapped.encoder) == ("mapped", "model:new, mapped from model:old")


# --- backfill and finish


@pytest.mark.parametrize("mapped", [False, True])
def test_at_the_end_it_is_a_fresh_collection(
    upgrading: retr.Collection, fresh: retr.Collection, mapped: bool
) -> None:
    if mapped:
        upgrading.map_upgrade()
    report = upgrading.backfill()
    assert (report.rows, report.left, report.order) == (ROWS - SAMPLE, 0, "residual")
    assert_same_answers(upgrading, fresh)  # before the old vectors are dropped
    upgrading.finish_upgrade()
    assert upgrading.upgrade_status()["state"] == "none"
    assert_same_answers(upgrading, fresh)
    assert_same_answers(upgrading, fresh, mode="hybrid")
    manifest = snapshot_of(upgrading).manifest
    assert list(manifest.spaces) == ["s2"]
    assert manifest.bridges == ()
    assert upgrading.verify() == []
    upgrading.compact()
    assert [len(segment) for segment in snapshot_of(upgrading).dense] == [ROWS]
    assert list((upgrading.path / "bridges").iterdir()) == []
    assert_same_answers(upgrading, fresh)


def test_backfill_goes_on_where_it_stopped(upgrading: retr.Collection) -> None:
    new = upgrading.encoder
    assert isinstance(new, ModelEncoder)
    seen = len(new.seen)
    assert upgrading.backfill(rows=100).left == ROWS - SAMPLE - 100
    assert upgrading.backfill(rows=100).left == ROWS - SAMPLE - 200
    report = upgrading.backfill(seconds=1e-9)
    assert (report.rows, report.left) == (0, ROWS - SAMPLE - 200)
    upgrading.backfill()
    assert len(new.seen) - seen == ROWS - SAMPLE  # none twice
    assert sorted(new.seen[seen:]) != new.seen[seen:]


def test_an_interrupted_backfill_keeps_what_it_has(upgrading: retr.Collection) -> None:
    new = upgrading.encoder
    assert isinstance(new, ModelEncoder)
    plain, calls = new.encode_documents, 0

    def interrupted(items):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += 1
        if calls > 20:
            raise KeyboardInterrupt
        return plain(items)

    new.encode_documents = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        upgrading.backfill()
    new.encode_documents = plain  # type: ignore[method-assign]
    assert kinds(upgrading)["new"] == SAMPLE + 64  # whole windows of 8 batches of 4
    assert ids_found(upgrading) == {f"d{i}" for i in range(ROWS)}


def test_orders(upgrading: retr.Collection) -> None:
    new = upgrading.encoder
    assert isinstance(new, ModelEncoder)
    texts = {text_of(i): f"d{i}" for i in range(ROWS)}
    done = {hit.id for hit in upgrading.search(QUERIES[0], k=ROWS, mode="dense")}
    waiting = done - {texts[text] for text in new.seen if text in texts}
    chosen = sorted(waiting)[10:13]
    upgrading.backfill(rows=3, clicks=dict.fromkeys(chosen, 5.0) | {"gone": 9.0})
    assert {texts[text] for text in new.seen[-3:]} <= set(chosen) | done
    report = upgrading.backfill(rows=3, order="random")
    assert report.order == "random"
    with pytest.raises(InputError, match="needs a file of clicks"):
        upgrading.backfill(order="clicks")
    with pytest.raises(
        InputError, match="no order 'best'; the orders are clicks, residual, random"
    ):
        upgrading.backfill(order="best")


def test_the_residual_order_begins_with_what_the_map_misses(
    upgrading: retr.Collection, fresh: retr.Collection
) -> None:
    """Against the true residuals: the first half is farther off than the second."""
    upgrading.map_upgrade()
    snapshot = snapshot_of(upgrading)
    (mapped,) = [s for s in snapshot.dense if s.entry.space == "s3"]
    true = fresh.encoder.encode_documents([row.text or "" for row in snapshot.read(mapped.rows)])
    residual = dict(
        zip(mapped.rows.tolist(), ((true - mapped.matrix) ** 2).sum(axis=1), strict=True)
    )
    upgrading.backfill(rows=len(residual) // 2)
    (first,) = [s for s in snapshot_of(upgrading).dense if s.entry.space == "s3"]
    done = snapshot_of(upgrading).marked(first)
    values = np.array([residual[row] for row in first.rows.tolist()])
    assert values[done].mean() > values[~done].mean()


def test_finish_is_refused_while_rows_await(upgrading: retr.Collection) -> None:
    with pytest.raises(InputError, match=r"400 rows have no vector of model:new yet; continue"):
        upgrading.finish_upgrade()
    with pytest.raises(InputError, match="400 rows have neither a new vector nor a mapped one"):
        upgrading.finish_upgrade(keep_mapped=True)
    upgrading.map_upgrade()
    upgrading.add(documents(range(3)))
    with pytest.raises(InputError, match=r"of them have a mapped one; --keep-mapped keeps it"):
        upgrading.finish_upgrade()
    assert upgrading.upgrade_status()["state"] == "under way"


def test_mapped_vectors_that_are_kept_can_be_embedded_later(
    upgrading: retr.Collection, fresh: retr.Collection
) -> None:
    upgrading.map_upgrade()
    before = upgrading.search(QUERIES[0], k=ROWS, mode="dense")
    upgrading.finish_upgrade(keep_mapped=True)
    after = upgrading.search(QUERIES[0], k=ROWS, mode="dense")
    assert [(hit.id, hit.score) for hit in after] == [(hit.id, hit.score) for hit in before]
    assert upgrading.upgrade_status()["state"] == "finished, mapped vectors kept"
    upgrading.compact()
    with pytest.raises(InputError, match="vectors mapped from an earlier encoder"):
        upgrading.upgrade(old_encoder(), sample=SAMPLE)
    assert upgrading.backfill(rows=100).order == "random"
    upgrading.compact()  # now the marked rows go, too
    assert sum(len(s) for s in snapshot_of(upgrading).dense) == ROWS
    upgrading.backfill()
    assert_same_answers(upgrading, fresh)


def test_what_cannot_be_embedded_is_listed_and_can_be_dropped(tmp_path: Path) -> None:
    old = old_encoder()
    collection = build(tmp_path / "c.retr", range(100), old)
    collection.add([Document("bare", vector=old.encode_documents(["word1"])[0])])
    collection.upgrade(new_encoder(), sample=60)
    report = collection.backfill()
    assert (report.cannot, report.left) == (1, 1)
    assert report.without == {"bare": "no text is stored with its vector"}
    assert "bare" in {hit.id for hit in collection.search(QUERIES[0], k=200, mode="dense")}
    with pytest.raises(InputError, match="1 rows have no vector of model:new yet"):
        collection.finish_upgrade()
    collection.finish_upgrade(drop_rest=True)
    assert "bare" not in {hit.id for hit in collection.search(QUERIES[0], k=200, mode="dense")}
    assert "bare" in collection


# --- rollback


@pytest.mark.parametrize("mapped", [False, True])
def test_rolled_back_it_is_what_it_was(
    upgrading: retr.Collection, collection: retr.Collection, mapped: bool
) -> None:
    upgrading.backfill(rows=50)
    if mapped:
        upgrading.map_upgrade()
    assert upgrading.rollback_upgrade(encoder=old_encoder()) == 0
    assert_same_answers(upgrading, collection)
    assert_same_answers(upgrading, collection, mode="hybrid")
    manifest = snapshot_of(upgrading).manifest
    assert manifest.upgrade is None
    assert list(manifest.spaces) == ["s1"]
    assert manifest.bridges == ()
    assert upgrading.verify() == []
    assert upgrading.upgrade(new_encoder(), sample=SAMPLE)["started"]  # and again


def test_what_came_since_stays_until_the_old_encoder_has_embedded_it(
    upgrading: retr.Collection,
) -> None:
    upgrading.backfill(rows=50)
    upgrading.add(documents(range(10), version=2))  # changed
    upgrading.add(documents(range(ROWS, ROWS + 10)))  # new
    upgrading.delete([f"d{i}" for i in range(100, 110)])
    upgrading.compact()
    expected = {f"d{i}" for i in range(ROWS + 10) if not 100 <= i < 110}
    old = old_encoder()
    assert upgrading.rollback_upgrade(encoder=old) == 20
    assert upgrading.space == old.space
    assert ids_found(upgrading) == expected
    assert kinds(upgrading) == {"new": ROWS - 20, "mapped": 0, "old": 20}
    assert upgrading.upgrade_status()["state"] == "rolled back"
    with pytest.raises(InputError, match="being rolled back already"):
        upgrading.rollback_upgrade()
    with pytest.raises(InputError, match="is being rolled back, and there is no map"):
        upgrading.map_upgrade()
    with pytest.raises(InputError, match="an upgrade is being rolled back"):
        upgrading.upgrade(new_encoder(), sample=SAMPLE)
    report = upgrading.backfill()
    assert (report.rows, report.left, report.back) == (20, 0, True)
    assert sorted(old.seen) == sorted(
        [*(text_of(i, 2) for i in range(10)), *(text_of(i) for i in range(ROWS, ROWS + 10))]
    )
    assert snapshot_of(upgrading).manifest.upgrade is None
    fresh = retr.build(
        [*documents(range(10), 2), *documents(range(10, 100)), *documents(range(110, ROWS + 10))],
        upgrading.path.parent / "fresh.retr",
        encoder=old_encoder(),
    )
    assert_same_answers(upgrading, fresh)


# --- living on


def test_writes_during_an_upgrade(upgrading: retr.Collection) -> None:
    upgrading.add(documents(range(20), version=2))
    upgrading.delete([f"d{i}" for i in range(20, 30)])
    upgrading.add(documents(range(ROWS, ROWS + 3)))
    found = texts_found(upgrading)
    assert found.keys() == {f"d{i}" for i in range(ROWS + 3) if not 20 <= i < 30}
    assert all(found[f"d{i}"] == text_of(i, 2) for i in range(20))
    upgrading.compact()
    assert texts_found(upgrading) == found
    upgrading.map_upgrade()
    upgrading.backfill(rows=100)
    upgrading.delete([f"d{i}" for i in range(30, 300)])  # much: merges follow
    assert texts_found(upgrading) == {
        id: text for id, text in found.items() if int(id[1:]) >= 300 or int(id[1:]) < 20
    }
    assert upgrading.vacuum() is not None
    assert upgrading.verify() == []


def test_filters_ids_passages_and_reasons_work_as_ever(upgrading: retr.Collection) -> None:
    wanted = [f"d{i}" for i in range(0, ROWS, 7)]
    hits = upgrading.search(QUERIES[0], k=ROWS, ids=wanted, mode="dense")
    assert {hit.id for hit in hits} == set(wanted)
    everything = {hit.id: hit.score for hit in upgrading.search(QUERIES[0], k=ROWS, mode="dense")}
    assert all(hit.score == everything[hit.id] for hit in hits)
    hits = upgrading.search(QUERIES[0], k=5, explain=True)
    assert all(hit.why is not None and hit.why.dense is not None for hit in hits)
    hits = upgrading.search(QUERIES[0], k=3, rerank=lambda q, texts: [-len(t) for t in texts])
    assert len(hits) == 3


def test_a_reader_sees_each_step_by_refresh(built: Path, tmp_path: Path) -> None:
    writer = retr.open(copied(built, tmp_path), encoder=old_encoder())
    reader = retr.open(writer.path, encoder=old_encoder())
    before = [(hit.id, hit.score) for hit in reader.search(QUERIES[0], mode="dense")]
    writer.upgrade(new_encoder(), sample=SAMPLE)
    writer.map_upgrade()
    writer.backfill(rows=100)
    writer.compact()
    # Its snapshot stays whole, whatever was cleared away.
    assert [(hit.id, hit.score) for hit in reader.search(QUERIES[0], mode="dense")] == before
    reader.refresh()
    with pytest.raises(InputError, match="no encoder 'model:new'"):  # a name finds no class of ours
        reader.search(QUERIES[0])
    hits = reader.search(vector=new_encoder().encode_queries([QUERIES[0]])[0])
    assert [hit.id for hit in hits] == [hit.id for hit in writer.search(QUERIES[0], mode="dense")]
    writer.rollback_upgrade()
    reader.refresh()
    assert [(hit.id, hit.score) for hit in reader.search(QUERIES[0], mode="dense")] == before


def test_a_writer_that_began_before_goes_on(built: Path, tmp_path: Path) -> None:
    """An ingest with the old encoder does not stop: its rows await the new vectors."""
    collection = retr.open(copied(built, tmp_path), encoder=old_encoder())
    snapshot = snapshot_of(collection)
    new = NewCollection(collection.space, snapshot.manifest.encoder, snapshot.settings)
    ingest = Ingest(Store(collection.path), new, old_encoder(), snapshot, Silent())
    collection.upgrade(new_encoder(), sample=SAMPLE)
    ingest.run(open_source(documents(range(ROWS, ROWS + 10))), vanish=False)
    collection.refresh()
    assert kinds(collection) == {"new": SAMPLE, "mapped": 0, "old": ROWS - SAMPLE + 10}
    assert ids_found(collection) == {f"d{i}" for i in range(ROWS + 10)}
    collection.backfill()
    collection.finish_upgrade()
    ingest = Ingest(Store(collection.path), new, old_encoder(), snapshot, Silent())
    with pytest.raises(SpaceMismatchError):
        ingest.run(open_source(documents(range(ROWS + 10, ROWS + 12))), vanish=False)


def test_the_weight_goes_over_with_the_vectors(collection: retr.Collection) -> None:
    fitted = retr.retrieval.values.fusion.Fusion(0.9, "30 judged queries", 0.1)  # type: ignore[attr-defined]
    store = Store(collection.path)
    manifest = snapshot_of(collection).manifest
    from retr.retrieval.writing.commits import change_settings

    change_settings(store, {"fusion": fitted}, manifest.encoder, snapshot_of(collection))
    collection.refresh()
    collection.upgrade(new_encoder(), sample=SAMPLE)
    own = default_fusion("model")
    share = SAMPLE / ROWS
    now = snapshot_of(collection).fusion
    assert now.weight == pytest.approx(share * own.weight + (1 - share) * 0.9)
    assert now.feedback == pytest.approx(share * own.feedback + (1 - share) * 0.1)
    collection.backfill()
    assert snapshot_of(collection).fusion == own
    collection.rollback_upgrade()
    assert snapshot_of(collection).fusion == fitted


@pytest.mark.parametrize(
    ("metric", "new_metric", "dtype"),
    [
        ("ip", "ip", "float32"),
        ("ip", "ip", "float16"),
        ("cosine", "ip", "float16"),
        ("ip", "cosine", "float32"),
        ("ip", "l2", "float32"),
        ("l2", "ip", "float16"),
        ("l2", "l2", "float32"),
        ("l2", "cosine", "float32"),
        ("cosine", "l2", "float16"),
    ],
)
def test_across_metrics_and_element_types(
    tmp_path: Path, metric: str, new_metric: str, dtype: str
) -> None:
    old = ModelEncoder(f"old-{metric}", 24, 0.5, metric=metric)
    collection = build(tmp_path / "c.retr", range(200), old, dtype=dtype)
    new = ModelEncoder(f"new-{new_metric}", 16, 0.1, metric=new_metric)
    fresh = build(tmp_path / "fresh.retr", range(200), new, dtype=dtype)
    by_chance = 10 / 200
    collection.upgrade(new, sample=120)
    assert ids_found(collection) == {f"d{i}" for i in range(200)}
    assert agreement(collection, fresh) > 4 * by_chance
    collection.map_upgrade()
    assert ids_found(collection) == {f"d{i}" for i in range(200)}
    assert agreement(collection, fresh) > 4 * by_chance
    collection.backfill(40)
    assert ids_found(collection) == {f"d{i}" for i in range(200)}
    assert agreement(collection, fresh) > 4 * by_chance
    collection.backfill()
    assert_same_answers(collection, fresh)
    collection.finish_upgrade()
    assert_same_answers(collection, fresh)


def test_passages(tmp_path: Path) -> None:
    long = [
        Document(f"d{i}", "\n\n".join(text_of(10 * i + j, words=40) for j in range(4)), kind="text")
        for i in range(30)
    ]
    collection = retr.build(long, tmp_path / "c.retr", encoder=old_encoder(), size=300)
    assert len(collection) > 60
    collection.upgrade(new_encoder(), sample=40)
    assert {hit.id for hit in collection.search(QUERIES[0], k=100)} == {f"d{i}" for i in range(30)}
    collection.backfill()
    collection.finish_upgrade()
    fresh = retr.build(long, tmp_path / "fresh.retr", encoder=new_encoder(), size=300)
    assert_same_answers(collection, fresh)
