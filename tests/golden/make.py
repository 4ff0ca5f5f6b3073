"""Makes the golden collections of the format that this version writes.

    python tests/golden/make.py

They are made once for each format and never again: that they were written by a version of long
ago is what they are for. So this refuses to overwrite one. What must be found in them for ever
stands in the JSON file beside them; it comes from the documents below and from brute force, not
from the collections.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import retr
from retr.retrieval.store.manifest import FORMAT
from retr.retrieval.text.analysis import analyzer
from retr.retrieval.text.word_breaks import stands_in_pairs
from retr.retrieval.values.types import Document, ImageAt

HERE = Path(__file__).parent
DIM = 4
QUERIES = ["what does the bee do", "a river", "", "ünïcödé", "second part of the books", "北京"]


def to_vectors(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return vectors that depend on nothing but the texts, in any version of anything."""
    digests = [hashlib.blake2b(text.encode(), digest_size=DIM).digest() for text in texts]
    return np.array([[byte % 16 - 7.5 for byte in digest] for digest in digests])


# One document a line of three passages, and one that is a passage by itself.
FIRST = [
    Document(
        f"book/{i}",
        f"The first part of book {i}.\n\nThe second part of book {i}.\n\nThe third of book {i}.",
        uri=f"shelf/book-{i}.txt",
        metadata={"year": 1990 + i, "price": 9.5 if i % 2 else 9, "tags": ["a", "b"][: i % 3]},
    )
    for i in range(5)
] + [
    Document("short", "A bee.", metadata={"year": 2**60, "mixed": 1}),
    Document("gone", "This one was deleted.", metadata={"mixed": "gone"}),
    Document("old", "This one was replaced."),
]
SECOND = [
    Document("old", "This one replaced another.", uri="new/place", metadata={"mixed": [1, None]}),
    Document(
        "ünï", "Ünïcödé: 北京 🐝", metadata={"": "empty key", "mixed": {"deep": {"er": 2**70}}}
    ),
    Document("empty", "", metadata={"flag": True}),
    Document("at a place", "A line of a file.", uri="lines.jsonl", place="line 12"),
]
SIZE = 30
THIRD = [
    Document("ids", "getUserName calls user_name, not a user-name; state-of-the-art C++ in v2.0"),
    Document("numbers", "1,024 bees, 3.14 and 42 cafés: naïve, NAÏVE"),
    Document("tokyo", "東京の花と蜂、flowers and bees in Tokyo"),
    Document("stop", "to be or not to be, that is it"),
    Document("gone", "A bee that was deleted before the merge."),
]
FOURTH = [
    Document("late", "The bees came late: bees, bees, a bee's book."),
    Document("gone late", "A bee that was deleted after the merge."),
    *[Document(f"more {i}", f"Book {i} of a user's flowers.") for i in range(6)],
]
ASKED_WORDS = [*QUERIES, "user name", "naive cafe", "1024", "蜂", "to be or not to be", "the bee's"]
VECTORS = np.array(
    [[1, 2, 3], [4, 5, 6], [0, 0, 0], [-1, 0.5, 8], [1, 2, 3], [100, -100, 0.25]], np.float32
)
ASKED = [[1, 2, 3], [0, 0, 1]]


def expected_row(document: Document, text: str | None, place: str | None, row: int) -> Any:
    metadata = {k: v for k, v in document.metadata.items() if v is not None}
    found = {"id": document.id, "text": text, "uri": document.uri, "place": place, "row": row}
    return {**found, "metadata": metadata}


def make_texts(path: Path) -> Any:
    """Passages, an index, two segments, deletes, metadata of all kinds, two sources."""
    encoder = retr.from_functions("golden", to_vectors, dim=DIM)
    collection = retr.build(
        FIRST, path, encoder=encoder, passages=True, size=SIZE, name="golden", progress=False
    )
    collection.index("flat")
    collection.add(SECOND, passages=False, name="golden, second", progress=False)
    assert collection.delete("gone") == 1

    rows = []
    for document in FIRST:
        assert document.text is not None
        parts = document.text.split("\n\n")
        for number, part in enumerate(parts):
            line = 2 * number + 1
            place = f"line {line}" if len(parts) > 1 else None
            rows.append(expected_row(document, part, place, len(rows)))
    replaced = len(rows)
    for document in SECOND:
        rows.append(expected_row(document, document.text, document.place, len(rows)))
    dead = {row["row"] for row in rows[:replaced] if row["id"] in ("gone", "old")}
    return expected_texts(collection, rows, dead, QUERIES)


def make_merged(path: Path) -> Any:
    """Words of all sorts, a segment that was merged and one that was not, deletes in the last."""
    encoder = retr.from_functions("golden", to_vectors, dim=DIM)
    collection = retr.build(THIRD[:2], path, encoder=encoder, passages=False, progress=False)
    collection.add(THIRD[2:], passages=False, progress=False)
    assert collection.delete("gone") == 1
    collection.compact()
    collection.add(FOURTH, passages=False, progress=False)
    assert collection.delete("gone late") == 1
    every = [*THIRD, *FOURTH]
    rows = [
        expected_row(document, document.text, document.place, row)
        for row, document in enumerate(every)
    ]
    dead = {row["row"] for row in rows if row["id"] == "gone late"}
    stored = [row for row in rows if row["id"] != "gone"]
    return expected_texts(collection, stored, dead, ASKED_WORDS)


def expected_texts(
    collection: retr.Collection, rows: list[Any], dead: set[int], queries: list[str]
) -> Any:
    """Return what must be found among the rows, some of which are deleted and still stored."""
    alive = [row for row in rows if row["row"] not in dead]
    name = collection.settings["lexical"]["analyzer"]
    return {
        "segments": [[s["role"], s["index"], s["rows"]] for s in collection.info()["segments"]],
        "rows": alive,
        "queries": [
            {
                "text": query,
                "ranking": brute_force(query, alive),
                "lexical": by_words(name, query, rows, dead),
                "compacted": by_words(name, query, alive, set()),
            }
            for query in queries
            if query
        ],
    }


def by_words(name: str, query: str, rows: list[Any], dead: set[int]) -> list[list[Any]]:
    """Return BM25's ranking; deleted rows count for the statistics until they are compacted."""
    sys.path.append(str(HERE.parent))
    from oracles import bm25  # type: ignore[import-not-found]

    words = analyzer(name)
    terms = {row["row"]: words.terms(row["text"]) for row in rows}
    asked = words.query_terms(query)
    for alone in filter(stands_in_pairs, asked):  # it ends the only run of characters it is in
        terms = {row: [alone if alone in t else t for t in own] for row, own in terms.items()}
    scores = bm25(terms, asked)
    ranked = sorted((-score, row) for row, score in scores.items() if row not in dead)
    return [[row, -score] for score, row in ranked]


def brute_force(query: str, rows: list[Any]) -> list[list[Any]]:
    vectors = to_vectors([row["text"] for row in rows])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    (asked,) = to_vectors([query])
    scores = vectors @ (asked / np.linalg.norm(asked))
    ranked = sorted(zip(scores.tolist(), rows, strict=True), key=lambda r: (-r[0], r[1]["row"]))
    return [[row["row"], score] for score, row in ranked]


def make_vectors(path: Path) -> Any:
    """Vectors of one's own, in float16, compared by L2, without texts; a compacted segment."""
    documents = [Document(f"v{i}", vector=vector) for i, vector in enumerate(VECTORS)]
    collection = retr.build(
        documents[:4],
        path,
        dtype="float16",
        encoder_options=retr.EncoderOptions(metric="l2"),
        progress=False,
    )
    collection.add(documents[4:], progress=False)
    collection.delete("v1")
    collection.compact()
    queries = []
    for asked in ASKED:
        scores = -((VECTORS.astype(np.float64) - asked) ** 2).sum(axis=1)
        ranked = sorted((-s, i) for i, s in enumerate(scores.tolist()) if i != 1)
        queries.append({"vector": asked, "ranking": [[i, -distance] for distance, i in ranked]})
    return {"ids": ["v0", "v2", "v3", "v4", "v5"], "queries": queries}


PICTURES = [
    Document(
        f"p{i}",
        f"a picture of {word}" if i % 3 else None,
        f"shots/{i}.jpg",
        {"year": 2000 + i},
        np.array(to_vectors([word])[0] + 9, np.float32) if i % 3 else None,
        image=ImageAt(f"shots/{i}.jpg", size=100 + i)
        if i % 2
        else ImageAt("shots/all.tar", f"{i}.jpg", 512 * i, 100 + i),
        image_vector=np.array(to_vectors([f"{word}, drawn"])[0] - 9, np.float32),
    )
    for i, word in enumerate(["bees", "a river", "snow", "gone", "蜂", "flowers", "a book"])
] + [Document("note", "a note on bees", vector=np.array([9, 9, 8, 7], np.float32))]


def make_images(path: Path) -> Any:
    """Images and texts: rows in two dense segments, where images lie, means, a merge, a delete."""
    collection = retr.build(PICTURES[:5], path, progress=False)
    assert collection.delete("p3") == 1
    collection.compact()
    collection.add(PICTURES[5:], progress=False)
    kept = [document for document in PICTURES if document.id != "p3"]
    rankings = {}
    for modality in ("image", "text"):
        named = "image_vector" if modality == "image" else "vector"
        of = [d for d in kept if getattr(d, named) is not None]
        other = "vector" if modality == "image" else "image_vector"
        alone = [d for d in of if getattr(d, other) is None]
        rankings[modality] = [
            {"vector": query, "ids": _by_cosine(query, [(d.id, getattr(d, named)) for d in alone])}
            for query in ([1.0, 2.0, 3.0, 4.0], [-1.0, 0.5, -2.0, 1.0])
        ]
    images = {
        d.id: [d.image.path, d.image.member, d.image.offset, d.image.size]
        for d in kept
        if isinstance(d.image, ImageAt)
    }
    means = {
        m: usual.mean.tolist() for (_, m), usual in collection._snapshot.score_statistics.items()
    }
    return {
        "images": images,
        "texts": {d.id: d.text for d in kept},
        "alone": rankings,
        "means": means,
    }


def _by_cosine(query: list[float], rows: list[tuple[str, Any]]) -> list[str]:
    def score(vector: Any) -> float:
        return float(np.dot(vector, query) / np.linalg.norm(np.asarray(vector, np.float64)))

    return [id for id, vector in sorted(rows, key=lambda row: -score(row[1]))]


UPGRADING = [Document(f"note {i}", f"Note {i} of bees, and {i * i} flowers.") for i in range(40)]
LATE = [Document("late", "A note that came during the upgrade."), UPGRADING[3]]


def to_other_vectors(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return what another model makes of texts: more dimensions, each of several of the others."""
    way = np.arange(DIM * 6).reshape(DIM, 6) % 5 - 1.7
    return to_vectors(texts) @ way


def make_upgrading(path: Path) -> Any:
    """An upgrade under way: old, mapped and new vectors, a row added since, one deleted."""
    sys.path.append(str(HERE.parent))
    from upgrades import expected_scores  # type: ignore[import-not-found]

    old = retr.from_functions("golden", to_vectors, dim=DIM)
    new = retr.from_functions("golden, other", to_other_vectors, dim=6)
    collection = retr.build(UPGRADING, path, encoder=old, passages=False, progress=False)
    collection.upgrade(new, sample=20, force=True, progress=False)
    collection.map_upgrade(progress=False)
    collection.backfill(5, order="random", progress=False)
    collection.add(LATE[:1], passages=False, progress=False)
    assert collection.delete("note 4") == 1
    queries = []
    for query in QUERIES:
        if query:
            scores = expected_scores(collection, query)
            ranking = sorted(([row, score] for row, score in scores.items()), key=lambda r: -r[1])
            queries.append({"text": query, "ranking": ranking})
    status = collection.upgrade_status()
    kinds = {name: status[name] for name in ("state", "rows", "new", "mapped", "old")}
    return {"status": kinds, "queries": queries}


def main() -> None:
    expected = {}
    makers = {
        "": make_texts,
        "-merged": make_merged,
        "-vectors": make_vectors,
        "-upgrading": make_upgrading,
        "-images": make_images,
    }
    for name, make in makers.items():
        path = HERE / f"format{FORMAT}{name}.retr"
        if path.exists():
            sys.exit(f"{path.name} is there: what a format was is never made again")
        expected[path.name] = make(path)
        (path / "lock").unlink()  # holds who wrote last, and is made anew
    text = json.dumps(expected, indent=1, ensure_ascii=False) + "\n"
    (HERE / f"format{FORMAT}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
