"""What ingest owes to the store: no id twice, nothing stale, and no more room than is needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import retr
from retr.retrieval.segments.snapshot import Snapshot
from retr.retrieval.sources import open_source
from retr.retrieval.store.store import Store
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.progress import Silent
from retr.retrieval.values.types import Document
from retr.retrieval.writing.commits import NewCollection
from retr.retrieval.writing.ingest import CHUNK_DOCUMENTS, WINDOW_BATCHES, Ingest
from retr.retrieval.writing.merging import MERGE_FACTOR

from .toys import ToyEncoder


def ingest(path: Path, documents: list[Document], batch_size: int) -> Ingest:
    """Take documents in with a commit after each window."""
    encoder = ToyEncoder(dim=8)
    encoder.batch_size = batch_size
    store = Store(path)
    snapshot = Snapshot(store, store.read()[0]) if store.exists() else None
    new = NewCollection(encoder.space, {"name": encoder.name, "options": {}})
    run = Ingest(store, new, encoder, snapshot, Silent(), flush_seconds=0)
    run.run(open_source(documents), vanish=False)
    return run


@pytest.mark.parametrize("first", [0, 400, 485, 500, 511, 512])
@pytest.mark.parametrize("second", [513, 559, 561, 600, 900])
def test_an_id_that_comes_twice_is_found_across_windows_and_chunks(
    tmp_path: Path, first: int, second: int
) -> None:
    # A window ends between two chunks nowhere, so some ids are on their way from one to the next.
    batch_size = 10
    assert CHUNK_DOCUMENTS % (batch_size * WINDOW_BATCHES)
    documents = [Document(f"d{i}", f"text {i}") for i in range(1000)]
    documents[second] = Document(f"d{first}", "again")
    with pytest.raises(InputError, match=f"'d{first}' comes twice"):
        ingest(tmp_path / "c.retr", documents, batch_size)


@pytest.mark.parametrize("field", ["text", "uri", "metadata", "vector", "place"])
def test_whatever_changes_is_seen(tmp_path: Path, field: str) -> None:
    every: dict[str, list[Any]] = {
        "text": ["one", "other"],
        "uri": ["shelf/1", "shelf/2"],
        "metadata": [{"a": 1}, {"a": "1"}],
        "vector": [np.eye(3, dtype=np.float32)[0], np.eye(3, dtype=np.float32)[1]],
        "place": ["line 1", "line 2"],
    }
    values = every[field]
    always: dict[str, Any] = {"id": "a", "vector": np.ones(3, np.float32)}
    one, other = (Document(**{**always, field: value}) for value in values)
    collection = retr.build([one], tmp_path / "c.retr")
    assert collection.add([one]).unchanged == 1
    assert collection.add([other]).updated == 1
    assert len(collection) == 1
    (hit,) = collection.search(vector=[1, 0, 0])
    if field == "vector":
        assert hit.score == pytest.approx(0, abs=1e-6)
    else:
        assert getattr(hit, field) == values[1]


def test_a_long_run_clears_away_what_it_has_merged(tmp_path: Path) -> None:
    path = tmp_path / "c.retr"
    documents = [Document(f"d{i}", f"text {i}") for i in range(1000)]
    run = ingest(path, documents, batch_size=2)
    assert run.snapshot is not None
    assert run.snapshot.manifest.generation > 1000 // (2 * WINDOW_BATCHES)
    files = [p for p in path.glob("*/*.*") if p.parent.name != "manifests"]
    # Three files a segment pair, of two generations; without clearing away there are 300.
    assert len(files) <= 2 * 3 * MERGE_FACTOR
    assert len(run.snapshot) == 1000


def test_large_metadata_does_not_wait_in_memory(tmp_path: Path) -> None:
    """What counts towards a commit is all that a row holds, not its text alone."""
    big = "x" * (40 << 20)
    documents = (
        Document(f"d{i}", "text", vector=np.ones(3, np.float32), metadata={"page": big})
        for i in range(9)
    )
    encoder = ToyEncoder(dim=3)
    encoder.batch_size = 1
    new = NewCollection(encoder.space, {"name": encoder.name, "options": {}})
    run = Ingest(Store(tmp_path / "c.retr"), new, encoder, None, Silent(), flush_seconds=1e9)
    run.run(open_source(documents), vanish=False)
    assert run.snapshot is not None
    assert run.snapshot.manifest.generation == 2


def test_reading_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.retr"
    retr.build([Document("a", "text", vector=np.ones(3, np.float32))], path)
    before = sorted(path.rglob("*"))
    collection = retr.open(path)
    collection.search(vector=[1, 1, 1])
    collection.verify()
    collection.refresh()
    assert sorted(path.rglob("*")) == before
    assert re.fullmatch(r"Collection\('.*c\.retr', 1 rows, vectors:3\)", repr(collection))
