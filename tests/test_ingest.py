"""Ingest: what is encoded and what is not, what vanishes, what is refused, what survives a stop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import retr
from retr.retrieval.build import build
from retr.retrieval.segments.snapshot import Snapshot
from retr.retrieval.sources import open_source
from retr.retrieval.sources.base import Source
from retr.retrieval.store.store import Store
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.progress import Silent
from retr.retrieval.values.report import Skipped
from retr.retrieval.writing.commits import NewCollection
from retr.retrieval.writing.ingest import WINDOW_BATCHES, Ingest

from .toys import ToyEncoder, words_to_vector


def lines(path: Path, records: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def texts_of(n: int) -> list[dict[str, object]]:
    return [{"id": f"d{i}", "text": f"text number {i}" + " more" * (i % 7)} for i in range(n)]


def test_vectors_go_to_their_own_rows_whatever_the_lengths(tmp_path: Path) -> None:
    # Batches are sorted by length for the encoder; they must come back in order.
    records = [
        {"id": str(i), "text": " ".join(f"w{i}-{j}" for j in range(1 + i * 7 % 13))}
        for i in range(300)
    ]
    collection = retr.build(records, tmp_path / "a.retr", encoder=ToyEncoder())
    for record in records:
        hit = collection.search(str(record["text"]), k=1)[0]
        assert (hit.id, hit.text) == (record["id"], record["text"])
        assert hit.score == pytest.approx(1.0, abs=1e-5)
        assert hit.row == int(record["id"])


def test_building_again_encodes_what_changed_and_deletes_what_vanished(tmp_path: Path) -> None:
    source = lines(tmp_path / "s.jsonl", texts_of(100))
    path = tmp_path / "a.retr"
    retr.build(source, path, encoder=ToyEncoder())

    encoder = ToyEncoder()
    again = retr.build(source, path, encoder=encoder)
    assert encoder.seen == []
    assert again.generation == 1
    assert (again.report.unchanged, again.report.added, again.report.deleted) == (100, 0, 0)

    changed = texts_of(100)[:90]
    changed[5] = {"id": "d5", "text": "a new text"}
    changed[6] = {**changed[6], "lang": "en"}  # metadata counts, too
    lines(source, [*changed, {"id": "new", "text": "one more"}])
    third = retr.build(source, path, encoder=encoder)
    assert sorted(encoder.seen) == sorted(["a new text", str(changed[6]["text"]), "one more"])
    report = third.report
    assert (report.added, report.updated, report.unchanged, report.deleted) == (1, 2, 88, 10)
    found = {h.id for h in third.search("text", k=200)}
    assert found == {str(r["id"]) for r in changed} | {"new"}


def test_only_what_came_from_this_source_can_vanish(tmp_path: Path) -> None:
    one = lines(tmp_path / "one.jsonl", [{"id": "a", "text": "x"}, {"id": "b", "text": "y"}])
    two = lines(tmp_path / "two.jsonl", [{"id": "c", "text": "z"}])
    path = tmp_path / "a.retr"
    collection = retr.build(one, path, encoder=ToyEncoder())
    collection.add(two)
    collection.add([{"id": "d", "text": "w"}])
    lines(one, [{"id": "b", "text": "y"}])
    assert retr.build(one, path, encoder=ToyEncoder()).report.deleted == 1
    collection.refresh()
    assert sorted(h.id for h in collection.search("x", k=9)) == ["b", "c", "d"]
    # Adding deletes nothing.
    lines(two, [{"id": "e", "text": "v"}])
    collection.add(two)
    assert sorted(h.id for h in collection.search("x", k=9)) == ["b", "c", "d", "e"]


def test_a_document_moves_to_the_source_that_gave_it_last(tmp_path: Path) -> None:
    one = lines(tmp_path / "one.jsonl", [{"id": "a", "text": "x"}, {"id": "b", "text": "y"}])
    two = lines(tmp_path / "two.jsonl", [{"id": "a", "text": "x"}])
    path = tmp_path / "a.retr"
    retr.build(one, path, encoder=ToyEncoder())
    retr.build(two, path, encoder=ToyEncoder())
    lines(one, [{"id": "b", "text": "y"}])
    assert retr.build(one, path, encoder=ToyEncoder()).report.deleted == 0
    assert "a" in retr.open(path)


class Listed(Source):
    """A source of given items, which may have skips among them."""

    def __init__(self, name: str | None, items: list[retr.Document | Skipped]) -> None:
        self.name = name
        self.items = items

    def __iter__(self) -> Iterator[retr.Document | Skipped]:
        yield from self.items


def documents(*ids: str) -> list[retr.Document | Skipped]:
    return [retr.Document(id, text=f"text of {id}") for id in ids]


def test_unreadable_is_not_vanished(tmp_path: Path) -> None:
    folder = Listed("/books", documents("a.txt", "b.txt", "sub/c.txt", "sub/d.txt", "subway.txt"))
    collection = build([{"id": "other", "text": "o"}], tmp_path / "a.retr", encoder=ToyEncoder())
    collection.ingest(folder, None, None, False, vanish=True)
    less: list[retr.Document | Skipped] = [
        *documents("a.txt"),
        Skipped("b.txt", "permission denied", id="b.txt"),
        Skipped("sub", "permission denied", id="sub/"),
    ]
    report = collection.ingest(Listed("/books", less), None, None, False, vanish=True)
    assert (report.deleted, report.skipped, len(report.skips)) == (1, 2, 2)
    found = {h.id for h in collection.search("text", k=20)}
    assert found == {"other", "a.txt", "b.txt", "sub/c.txt", "sub/d.txt"}


def test_a_source_that_yields_nothing_changes_nothing(tmp_path: Path) -> None:
    source = lines(tmp_path / "s.jsonl", texts_of(3))
    path = tmp_path / "a.retr"
    retr.build(source, path, encoder=ToyEncoder())
    source.write_text("")
    with pytest.raises(InputError, match="nothing to index"):
        retr.build(source, path, encoder=ToyEncoder())
    assert len(retr.open(path)) == 3
    skips: list[retr.Document | Skipped] = [Skipped("x.bin", "binary")]
    with pytest.raises(InputError, match=r"1 skipped \(the first: x.bin: binary\)"):
        retr.open(path, encoder=ToyEncoder()).ingest(
            Listed("/x", skips), None, None, False, vanish=True
        )
    with pytest.raises(InputError, match="nothing to index"):
        retr.build([], tmp_path / "b.retr", encoder=ToyEncoder())
    assert not (tmp_path / "b.retr").exists()


def committing_at_once(source: object, path: Path, encoder: ToyEncoder) -> None:
    """Build as `retr.build` does, with a commit after every window."""
    store = Store(path)
    snapshot = Snapshot(store, store.read()[0]) if store.exists() else None
    new = NewCollection(encoder.space, {"name": encoder.name, "options": {}})
    run = Ingest(store, new, encoder, snapshot, Silent(), flush_seconds=0)
    run.run(open_source(source, retr.SourceOptions()), vanish=True)


@pytest.mark.parametrize("distance", [1, 100, 700, 1500])
def test_an_id_that_comes_twice_is_refused(tmp_path: Path, distance: int) -> None:
    # Committing after each window puts the first one into the collection before the second comes.
    records = texts_of(1600)
    records.insert(distance, {"id": "d0", "text": "again"})
    path = tmp_path / "a.retr"
    for _ in range(2):  # the second time everything before it is unchanged
        with pytest.raises(InputError, match="'d0' comes twice"):
            committing_at_once(records, path, ToyEncoder())
    # What came before it is kept, and once.
    collection = retr.open(path, encoder=ToyEncoder()) if path.exists() else None
    if collection is not None:
        ids = [h.id for h in collection.search("text", k=2000)]
        assert len(ids) == len(set(ids))
        assert [h.text for h in collection.search("again", k=2000) if h.text == "again"] == []


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    source = lines(tmp_path / "s.jsonl", texts_of(1000))
    path = tmp_path / "a.retr"
    stopped = ToyEncoder(fail_at=500)
    with pytest.raises(KeyboardInterrupt):
        committing_at_once(source, path, stopped)
    window = ToyEncoder.batch_size * WINDOW_BATCHES
    kept = len(retr.open(path))
    assert 500 - window <= kept < 1000
    second = ToyEncoder()
    collection = retr.build(source, path, encoder=second)
    assert len(second.seen) == 1000 - kept
    assert len(collection) == 1000
    assert {h.id for h in collection.search("text", k=1000)} == {f"d{i}" for i in range(1000)}


def test_an_interrupt_in_the_first_window_keeps_whole_documents(tmp_path: Path) -> None:
    # Two passages each, of which the longer ones are encoded before all the shorter ones.
    texts: list[dict[str, object]] = [
        {"id": f"d{i}", "text": f"{'long ' * (8 + i % 7)}\n\nend {i}"} for i in range(60)
    ]
    source = lines(tmp_path / "s.jsonl", texts)
    path = tmp_path / "a.retr"
    batch = ToyEncoder.batch_size

    def made(path: Path, encoder: ToyEncoder) -> retr.Collection:
        return retr.build(source, path, encoder=encoder, passages=True, size=40)

    rows = len(made(tmp_path / "whole.retr", ToyEncoder()))
    assert rows < batch * WINDOW_BATCHES  # all of it is one window
    stopped = ToyEncoder(fail_at=rows - batch)
    with pytest.raises(KeyboardInterrupt):
        made(path, stopped)
    kept = retr.open(path, encoder=ToyEncoder())
    assert rows - 3 * batch <= len(kept) < rows
    second = ToyEncoder()
    collection = made(path, second)
    assert len(second.seen) == rows - len(kept)
    assert len(collection) == rows


def test_what_a_slow_source_gave_is_kept_before_a_window_is_full(tmp_path: Path) -> None:
    def interrupted() -> Iterator[dict[str, object]]:
        yield from texts_of(600)
        raise KeyboardInterrupt

    encoder = ToyEncoder()
    encoder.batch_size = 1024
    with pytest.raises(KeyboardInterrupt):
        committing_at_once(interrupted(), tmp_path / "a.retr", encoder)
    assert len(retr.open(tmp_path / "a.retr", encoder=encoder)) >= 512


def test_a_wrong_line_keeps_what_came_before(tmp_path: Path) -> None:
    source = lines(tmp_path / "s.jsonl", texts_of(700))
    with source.open("a") as file:
        file.write('{"id": "x", "text": \n')
    with pytest.raises(InputError, match=r"s\.jsonl, line 701"):
        retr.build(source, tmp_path / "a.retr", encoder=ToyEncoder())
    assert 0 < len(retr.open(tmp_path / "a.retr")) <= 700
    lines(source, texts_of(700))
    assert len(retr.build(source, tmp_path / "a.retr", encoder=ToyEncoder())) == 700


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([1.0, 2.0], "2 dimensions"),
        ([1.0, float("nan"), 0.0], "nan"),
        ([0.0, 0.0, 0.0], "zero, so it has no cosine"),
    ],
)
def test_bad_vectors_are_refused(tmp_path: Path, vector: list[float], message: str) -> None:
    good = retr.Document("good", vector=np.ones(3, np.float32))
    bad = retr.Document("bad", vector=np.array(vector, np.float32))
    with pytest.raises(InputError, match=message) as error:
        retr.build([good, bad], tmp_path / "a.retr")
    assert "bad" in str(error.value)


def test_zero_vectors_are_fine_where_they_mean_something(tmp_path: Path) -> None:
    rows = [
        retr.Document("zero", vector=np.zeros(3, np.float32)),
        retr.Document("one", vector=np.ones(3, np.float32)),
    ]
    for metric in ("ip", "l2"):
        collection = retr.build(
            rows, tmp_path / f"{metric}.retr", encoder_options=retr.EncoderOptions(metric=metric)
        )
        assert {h.id for h in collection.search(vector=[1, 1, 1])} == {"zero", "one"}


def test_an_encoder_that_breaks_its_promise_is_named(tmp_path: Path) -> None:
    class Broken(ToyEncoder):
        def encode_documents(self, items):  # type: ignore[no-untyped-def]
            return np.full((len(items), self.space.dim), np.nan, np.float32)

    with pytest.raises(InputError, match=r"toy:1.*NaN.*'d0'"):
        retr.build(texts_of(1), tmp_path / "a.retr", encoder=Broken())

    class Short(ToyEncoder):
        def encode_documents(self, items):  # type: ignore[no-untyped-def]
            return np.zeros((1, self.space.dim), np.float32)

    with pytest.raises(InputError, match=r"shape \(1, 24\), not \(3, 24\)"):
        retr.build(texts_of(3), tmp_path / "a.retr", encoder=Short())


def test_empty_texts_are_documents_too(tmp_path: Path) -> None:
    # Cranfield has two: they are in the judgments' world, and must not turn into NaN.
    rows = [{"id": "empty", "text": ""}, {"id": "blank", "text": " \n"}, {"id": "x", "text": "bee"}]
    for passages in (None, True):
        path = tmp_path / f"{passages}.retr"
        collection = retr.build(rows, path, passages=passages)
        assert len(collection) == 3
        hits = collection.search("bee", k=3)
        assert hits[0].id == "x"
        assert all(np.isfinite(h.score) for h in hits)


def test_documents_with_vectors_of_a_text_encoder(tmp_path: Path) -> None:
    encoder = ToyEncoder()
    rows = [
        retr.Document(f"d{i}", text=f"w{i}", vector=words_to_vector(f"w{i}", 24)) for i in range(20)
    ]
    collection = retr.build(rows, tmp_path / "a.retr", encoder=encoder)
    assert encoder.seen == []
    assert collection.search("w7")[0].id == "d7"


def test_memory_does_not_grow_with_the_source(tmp_path: Path) -> None:
    """The documents held at any time stay below what two flushes hold."""
    alive = 0
    most = 0

    class Counted(dict):  # type: ignore[type-arg]
        def __init__(self, n: int) -> None:
            nonlocal alive, most
            super().__init__(id=str(n), text=f"text {n} " + "x" * 2000)
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    retr.build((Counted(n) for n in range(5000)), tmp_path / "a.retr", encoder=ToyEncoder())
    assert most < 3000
