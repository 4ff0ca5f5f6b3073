"""A collection against a plain dict and brute force, whatever is done to it in whatever order.

RETR_TEST_EXAMPLES sets how many histories are tried.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from numpy.typing import NDArray

import retr
from retr.retrieval.text.analysis import analyzer
from retr.retrieval.text.passages import split
from retr.retrieval.values.fusion import POOL, default_fusion
from retr.retrieval.values.types import Document, Hit
from retr.retrieval.writing.merging import MERGE_FACTOR

from .oracles import assert_best, bm25

DIM = 4
PASSAGE = 40
IDS = [f"d{i}" for i in range(12)]
BALLAST = [f"b{i}" for i in range(60)]
WORDS = ["bee", "cat", "eel", "fox", "gnu", "hen"]
ENGLISH = analyzer("english")


def to_vectors(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return vectors of small integers, so that many score the same."""
    digests = [hashlib.blake2b(text.encode(), digest_size=DIM).digest() for text in texts]
    return np.array([[byte % 3 - 1.0 for byte in digest] for digest in digests])


def toy_encoder(metric: str) -> retr.Encoder:
    return retr.from_functions("small integers", to_vectors, dim=DIM, metric=metric)


@dataclass(frozen=True)
class Row:
    """A row as it should be."""

    number: int
    id: str
    text: str
    place: str | None
    uri: str | None
    metadata: dict[str, Any]
    source: str | None


class Model:
    """What the collection should hold: its rows by document, and nothing of how it holds them."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.encoder = toy_encoder(metric)
        self.documents: dict[str, tuple[Row, ...]] = {}
        self.given: dict[str, tuple[object, ...]] = {}
        self.texts: dict[int, str] = {}  # of every row there ever was
        self.next_row = 0

    def copy(self) -> Model:
        other = Model(self.metric)
        other.documents, other.given = dict(self.documents), dict(self.given)
        other.texts, other.next_row = dict(self.texts), self.next_row
        return other

    def put(self, documents: list[Document], passages: bool | None, source: str | None) -> None:
        for document in documents:
            assert document.text is not None
            given = (document.text, document.uri, repr(document.metadata), passages, source)
            if self.given.get(document.id) == given:
                continue
            parts: list[tuple[str, str | None]] = [(document.text, None)]
            if passages:
                found = split(document.text, "text", size=PASSAGE)
                parts = [(passage.text, passage.place) for passage in found]
            metadata = {k: v for k, v in document.metadata.items() if v is not None}
            self.documents[document.id] = tuple(
                Row(self.next_row + i, document.id, text, place, document.uri, metadata, source)
                for i, (text, place) in enumerate(parts)
            )
            self.given[document.id] = given
            self.texts |= {row.number: row.text for row in self.documents[document.id]}
            self.next_row += len(parts)

    def remove(self, ids: Sequence[str]) -> int:
        there = [id for id in dict.fromkeys(ids) if id in self.documents]
        for id in there:
            del self.documents[id], self.given[id]
        return len(there)

    def rows(self) -> list[Row]:
        return [row for rows in self.documents.values() for row in rows]

    def search(
        self, query: str, k: int, ids: Sequence[str] | None, passages: bool
    ) -> list[tuple[Row, float]]:
        """Return the best rows by float64 brute force, ties by row."""
        rows = [row for row in self.rows() if ids is None or row.id in ids]
        ranked = self.by_vector(query, rows)
        if not passages:
            best: dict[str, tuple[Row, float]] = {}
            for row, score in ranked:
                best.setdefault(row.id, (row, score))
            ranked = list(best.values())
        return ranked[:k]

    def by_vector(self, query: str, rows: list[Row]) -> list[tuple[Row, float]]:
        """Return all rows and their scores, best first."""
        asked = self.encoder.encode_queries([query])[0].astype(np.float64)
        return self.near(asked, rows)

    def near(self, asked: NDArray[np.float64], rows: list[Row]) -> list[tuple[Row, float]]:
        """Return all rows and their scores for a vector, best first."""
        if not rows:
            return []
        vectors = self.encoder.encode_documents([row.text for row in rows]).astype(np.float64)
        scores = vectors @ asked if self.metric != "l2" else -((vectors - asked) ** 2).sum(axis=1)
        rounded = scores.astype(np.float32).tolist()
        return sorted(zip(rows, rounded, strict=True), key=lambda r: (-r[1], r[0].number))

    def by_words(self, query: str, rows: list[Row], stored: Sequence[int]) -> dict[int, float]:
        """Return the rows that hold a word of the query; statistics are those of all stored."""
        terms = {row: ENGLISH.terms(self.texts[row]) for row in stored}
        scores = bm25(terms, ENGLISH.query_terms(query))
        return {row.number: scores[row.number] for row in rows if row.number in scores}

    def by_both(
        self, query: str, rows: list[Row], stored: Sequence[int]
    ) -> dict[int, float] | None:
        """Return the fused score of every row, which are `POOL` at most.

        None where the vector of the second look is that of one of several texts by a hair.
        """
        assert len(rows) <= POOL
        dense = {row.number: score for row, score in self.by_vector(query, rows)}
        words = self.by_words(query, rows, stored)
        first = _combined(dense, words)
        if not words:
            return first
        most = max(first.values())
        best = {row.text: row for row in rows if first[row.number] > most - 1e-5}
        if len(best) > 1:
            return None
        seed = self.encoder.encode_documents(list(best))[0].astype(np.float64)
        if self.metric == "ip":
            asked = self.encoder.encode_queries([query])[0]
            seed *= np.linalg.norm(asked) / (np.linalg.norm(seed) or 1)
        near = {row.number: score for row, score in self.near(seed, rows)}
        again = {row: dense[row] + FUSION.feedback * near[row] for row in dense}
        return _combined(again, words)


FUSION = default_fusion("toy")


def _combined(dense: dict[int, float], words: dict[int, float]) -> dict[int, float]:
    low, high = min(dense.values(), default=0), max(dense.values(), default=0)
    most = max(words.values(), default=1)
    return {
        row: FUSION.weight * ((score - low) / (high - low) if high > low else 0)
        + (1 - FUSION.weight) * words.get(row, 0) / most
        for row, score in dense.items()
    }


TEXTS = st.builds(" ".join, st.lists(st.sampled_from(WORDS), min_size=1, max_size=3))
LONG_TEXTS = st.builds(
    lambda parts: "\n\n".join(" ".join([part] * 4) for part in parts),
    st.lists(st.sampled_from(WORDS), min_size=2, max_size=5),
)
METADATA = st.dictionaries(
    st.sampled_from(["a", "b"]),
    st.one_of(
        st.none(),
        st.integers(-(2**60), 2**60),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
        st.text(max_size=3),
        st.lists(st.integers(0, 3), max_size=2),
        st.dictionaries(st.sampled_from(["x"]), st.integers(), max_size=1),
    ),
    max_size=2,
)


@st.composite
def document_lists(draw: st.DrawFn) -> list[Document]:
    ids = draw(st.lists(st.sampled_from(IDS), min_size=1, max_size=6, unique=True))
    return [
        Document(
            id,
            draw(st.one_of(TEXTS, TEXTS, LONG_TEXTS)),
            uri=draw(st.sampled_from([None, "u/1", "u/2"])),
            metadata=draw(METADATA),
        )
        for id in ids
    ]


ID_LISTS = st.lists(st.sampled_from([*IDS, "nobody", *BALLAST[:6]]), max_size=8)


class Histories(RuleBasedStateMachine):
    """A writer and a second reader of one collection, each with what it should see."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @initialize(
        metric=st.sampled_from(["cosine", "ip", "l2"]),
        dtype=st.sampled_from(["float32", "float16"]),
        documents=document_lists(),
        ballast=st.sampled_from([0, 30, 60]),
    )
    def build(self, metric: str, dtype: str, documents: list[Document], ballast: int) -> None:
        """Make the collection; with ballast, deleted rows are few among many, and stay a while."""
        documents = documents + [Document(id, f"bee {id}") for id in BALLAST[:ballast]]
        self.path = self.folder / "c.retr"
        self.model = Model(metric)
        # Of small integers float16 holds all; of unit vectors it does not.
        self.writer = retr.build(
            documents,
            self.path,
            encoder=toy_encoder(metric),
            dtype=dtype if metric != "cosine" else "float32",
            passages=False,
        )
        self.model.put(documents, False, None)
        self.reader = retr.open(self.path, encoder=toy_encoder(metric))
        self.seen = self.model.copy()

    @rule(documents=document_lists(), passages=st.booleans())
    def add(self, documents: list[Document], passages: bool) -> None:
        before = dict(self.model.given)
        report = self.writer.add(documents, passages=passages, size=PASSAGE if passages else None)
        self.model.put(documents, passages, None)
        same = sum(before.get(d.id) == self.model.given[d.id] for d in documents)
        assert (report.unchanged, report.added + report.updated) == (same, len(documents) - same)
        assert report.updated == sum(d.id in before for d in documents) - same

    @rule(documents=document_lists())
    def build_again(self, documents: list[Document]) -> None:
        """A source with a name: what it no longer has vanishes."""
        self.writer = retr.build(
            documents,
            self.path,
            encoder=toy_encoder(self.model.metric),
            passages=False,
            name="shelf",
        )
        gone = [
            id
            for id, rows in self.model.documents.items()
            if rows[0].source == "shelf" and id not in {d.id for d in documents}
        ]
        assert self.writer.report.deleted == len(gone)
        self.model.remove(gone)
        self.model.put(documents, False, "shelf")

    @rule(texts=st.lists(TEXTS, min_size=1, max_size=9))
    def add_one_at_a_time(self, texts: list[str]) -> None:
        for i, text in enumerate(texts):
            documents = [Document(f"s{i % 5}", text)]
            self.writer.add(documents, passages=False)
            self.model.put(documents, False, None)

    @rule(ids=ID_LISTS)
    def delete(self, ids: list[str]) -> None:
        assert self.writer.delete(ids) == self.model.remove(ids)

    @rule()
    def compact(self) -> None:
        self.writer.compact()
        info = self.writer.info()
        alive = len(self.model.rows())
        # What is indexed and has no row left stays until there is something to index again.
        if alive:
            assert [s["rows"] for s in info["segments"]] == [alive, alive, alive]
            assert info["deleted_rows_stored"] == 0

    @rule()
    def vacuum(self) -> None:
        self.writer.vacuum()

    @precondition(lambda self: self.model.documents)
    @rule()
    def index(self) -> None:
        self.writer.index("flat")
        dense = [s for s in self.writer.info()["segments"] if s["role"] == "dense"]
        assert [s["index"] for s in dense] == ["flat"]

    @rule()
    def reopen(self) -> None:
        self.writer = retr.open(self.path, encoder=toy_encoder(self.model.metric))

    @rule()
    def refresh_reader(self) -> None:
        assert self.reader.refresh() == self.writer.generation
        self.seen = self.model.copy()

    @rule(
        query=TEXTS,
        k=st.integers(1, 30),
        ids=st.one_of(st.none(), st.none(), ID_LISTS),
        passages=st.booleans(),
    )
    def search(self, query: str, k: int, ids: list[str] | None, passages: bool) -> None:
        for collection, model in ((self.writer, self.model), (self.reader, self.seen)):
            hits = collection.search(query, k, ids=ids, passages=passages, mode="dense")
            assert_hits(list(hits), model.search(query, k, ids, passages))
            assert hits.generation == collection.generation

    @rule(
        query=TEXTS,
        k=st.integers(1, 30),
        ids=st.one_of(st.none(), st.none(), ID_LISTS),
        passages=st.booleans(),
        mode=st.sampled_from(["lexical", "hybrid"]),
    )
    def search_words(
        self, query: str, k: int, ids: list[str] | None, passages: bool, mode: str
    ) -> None:
        for collection, model in ((self.writer, self.model), (self.reader, self.seen)):
            hits = list(collection.search(query, k, ids=ids, passages=passages, mode=mode))
            rows = {row.number: row for row in model.rows() if ids is None or row.id in ids}
            if mode == "hybrid" and len(rows) > POOL:
                continue
            # Rows that are deleted count until they are compacted.
            stored = [row for s in collection._snapshot.lexical for row in s.rows.tolist()]
            assert len(set(stored)) == len(stored)
            assert {row.number for row in model.rows()} <= set(stored)
            by = model.by_words if mode == "lexical" else model.by_both
            scores = by(query, list(rows.values()), stored)
            if scores is None:
                continue
            if not passages:
                best: dict[str, int] = {}
                for row in sorted(scores, key=lambda row: (-scores[row], row)):
                    best.setdefault(rows[row].id, row)
                assert len({hit.id for hit in hits}) == len(hits)
                # Of a document's equal passages another may stand for it.
                close = {rows[row].id: scores[row] for row in best.values()}
                assert all(abs(scores[hit.row] - close[hit.id]) < 1e-5 for hit in hits)
                taken = {hit.id: hit.row for hit in hits}
                scores = {taken.get(id, row): scores[row] for id, row in best.items()}
            assert all(rows[hit.row].id == hit.id for hit in hits)
            assert_best([(hit.row, hit.score) for hit in hits], scores, k, 1e-5)

    @rule()
    def contains(self) -> None:
        for collection, model in ((self.writer, self.model), (self.reader, self.seen)):
            everything = [*IDS, *BALLAST, "s0", "nobody"]
            assert {i for i in everything if i in collection} == model.documents.keys() & everything

    @invariant()
    def counts(self) -> None:
        for collection, model in ((self.writer, self.model), (self.reader, self.seen)):
            assert len(collection) == len(model.rows())
            assert collection.info()["documents"] == len(model.documents)

    @invariant()
    def few_segments(self) -> None:
        """So few rows are all of one tier; an index adds a segment that no tier holds."""
        roles = [s["role"] for s in self.writer.info()["segments"] if s["index"] is None]
        assert roles.count("documents") < MERGE_FACTOR
        assert roles.count("dense") < MERGE_FACTOR
        assert roles.count("lexical") < MERGE_FACTOR

    @invariant()
    def whole(self) -> None:
        assert self.writer.verify() == []
        assert list((self.path / "staging").iterdir()) == []


def assert_hits(hits: list[Hit], expected: list[tuple[Row, float]]) -> None:
    found = [(h.row, h.id, h.text, h.place, h.uri) for h in hits]
    assert found == [(r.number, r.id, r.text, r.place, r.uri) for r, _ in expected]
    for hit, (row, score) in zip(hits, expected, strict=True):
        assert abs(hit.score - score) <= 1e-5
        assert dict(hit.metadata) == row.metadata
        for key, value in row.metadata.items():
            assert isinstance(hit.metadata[key], bool) == isinstance(value, bool)


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=int(os.environ.get("RETR_TEST_EXAMPLES", "20")),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
