"""Queries from files, and TREC's run files."""

from __future__ import annotations

import gzip
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

import retr
from retr.commands import inputs, runs
from retr.retrieval.sources.queries import read_ids, read_queries, read_vector
from retr.retrieval.values.errors import InputError, StorageError
from retr.retrieval.values.types import Query

# --- a run over a collection


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> retr.Collection:
    vectors = np.random.default_rng(5).standard_normal((40, 8)).astype(np.float32)
    ids = [f"d{i}" for i in range(39)] + ["with space"]
    path = tmp_path_factory.mktemp("runs") / "c.retr"
    options = retr.SourceOptions(ids=ids)
    return retr.build(vectors, path, options=options, progress=False)


@pytest.fixture(scope="module")
def queries() -> list[Query]:
    vectors = np.random.default_rng(6).standard_normal((30, 8)).astype(np.float32)
    return [Query(vector=vector, id=f"q{i}") for i, vector in enumerate(vectors)]


def test_a_run_holds_what_a_search_finds(
    collection: retr.Collection, queries: list[Query], tmp_path: Path
) -> None:
    out = tmp_path / "out.trec"
    ids = [f"d{i}" for i in range(30)]
    report = runs.write_run(collection, queries, 5, str(out), "mine", ids=ids)
    lines = [line.split() for line in out.read_text().splitlines()]
    expected = [
        [query.id, "Q0", found.id, str(rank), repr(found.score), "mine"]
        for query, results in zip(queries, collection.search(queries, 5, ids=ids), strict=True)
        for rank, found in enumerate(results, start=1)
    ]
    assert lines == expected
    assert (report.queries, report.hits) == (30, 150)
    assert [path.name for path in tmp_path.iterdir()] == ["out.trec"]


def test_queries_are_answered_in_blocks_as_at_once(
    collection: retr.Collection, queries: list[Query], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = collection.search(queries, 7)
    monkeypatch.setattr(runs, "HITS_AT_ONCE", 20)
    assert list(runs.answers(collection, queries, 7)) == at_once


def test_equal_scores_stand_by_id_at_the_cut_too(tmp_path: Path) -> None:
    """A run of fewer hits is the beginning of a run of more, whatever order rows came in."""
    texts = {"3": "bee", "10": "bee", "1": "bee", "2": "bee", "b": "bee", "a": "bee", "z": "cat"}
    records = [{"id": id, "text": text} for id, text in texts.items()]
    same = retr.build(records, tmp_path / "c.retr", progress=False)
    for k in (1, 3, 6, 7):
        out = tmp_path / "out.trec"
        runs.write_run(same, [Query(text="bee", id="q")], k, str(out), "t")
        ids = [line.split()[2] for line in out.read_text().splitlines()]
        assert ids == ["b", "a", "3", "2", "10", "1", "z"][:k]


def test_a_run_that_fails_leaves_the_older_one(
    collection: retr.Collection, queries: list[Query], tmp_path: Path
) -> None:
    out = tmp_path / "out.trec"
    out.write_text("older\n")
    with pytest.raises(InputError, match="'with space'"):
        runs.write_run(collection, queries, 40, str(out), "t")
    assert out.read_text() == "older\n"
    assert [path.name for path in tmp_path.iterdir()] == ["out.trec"]


def test_a_run_goes_to_where_a_link_points(
    collection: retr.Collection, queries: list[Query], tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.trec"
    link.symlink_to(tmp_path / "real" / "run.trec")
    runs.write_run(collection, queries[:1], 3, str(link), "t", ids=["d1", "d2"])
    assert link.is_symlink()
    assert len((tmp_path / "real" / "run.trec").read_text().splitlines()) == 2


def test_a_run_can_be_read_from_a_pipe(
    collection: retr.Collection, queries: list[Query], tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.extend(pipe.read_text().splitlines()))
    reader.start()
    runs.write_run(collection, queries[:1], 3, str(pipe), "t", ids=["d1", "d2"])
    reader.join()
    assert len(read) == 2


@pytest.mark.parametrize(
    ("out", "error"),
    [("nowhere/out.trec", StorageError), (".", InputError)],
)
def test_a_run_that_cannot_be_written_says_so(
    collection: retr.Collection,
    queries: list[Query],
    tmp_path: Path,
    out: str,
    error: type[Exception],
) -> None:
    with pytest.raises(error):
        runs.write_run(collection, queries, 3, str(tmp_path / out), "t", ids=["d1"])


@pytest.mark.parametrize("tag", ["", "two words", "tab\t"])
def test_a_tag_that_the_format_cannot_hold_is_refused(
    collection: retr.Collection, queries: list[Query], tmp_path: Path, tag: str
) -> None:
    with pytest.raises(InputError, match="tag"):
        runs.write_run(collection, queries, 3, str(tmp_path / "out"), tag)


@pytest.mark.parametrize("id", ["", "a b", "a\t", "\u00a0", None])
def test_a_query_that_a_run_cannot_hold_is_refused_before_any_search(
    collection: retr.Collection, queries: list[Query], tmp_path: Path, id: str | None
) -> None:
    wrong = Query(vector=np.ones(3, np.float32), id=id)  # searching for it would fail otherwise
    with pytest.raises(InputError, match=r"query id .*: a run cannot hold"):
        runs.write_run(collection, [*queries, wrong], 3, str(tmp_path / "out"), "t")


# --- queries from files


def written(tmp_path: Path, text: str | bytes, name: str = "queries") -> str:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


EXPECTED = [("q1", "one two"), ("2", "größe\tx")]
AS_JSON = "".join(json.dumps({"_id": i, "text": t, "metadata": {}}) + "\n" for i, t in EXPECTED)
AS_TSV = "q1\tone two\r\n\n2\tgröße\tx"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (AS_JSON, "q.jsonl"),
        (AS_JSON, "q"),
        (AS_JSON.replace('"2"', "2"), "q.jsonl"),
        (AS_JSON.replace("_id", "id"), "q.jsonl"),
        (b"\xef\xbb\xbf" + AS_JSON.encode(), "q.jsonl"),
        (gzip.compress(AS_JSON.encode(), mtime=0), "q.jsonl.gz"),
        (AS_TSV, "q.tsv"),
        (AS_TSV, "q.txt"),
        (AS_TSV.encode("utf-16"), "q.tsv"),
    ],
)
def test_queries_are_read_as_json_lines_or_tsv(
    tmp_path: Path, text: str | bytes, name: str
) -> None:
    found = read_queries(written(tmp_path, text, name))
    assert [(query.id, query.text) for query in found] == EXPECTED
    assert all(query.vector is None for query in found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"_id": "1", "text": "a"}\n{"_id": "1", "text": "b"}', "line 2: the id '1'"),
        ('{"_id": "1", "text": "a"}\nnot json', "line 2: is not JSON"),
        ('{"_id": "1", "text": "a"}\n[1]', "line 2: is a JSON list"),
        ('{"text": "a"}', "line 1: has no '_id'"),
        ('{"_id": "1"}', "line 1: has no 'text'"),
        ('{"_id": "1", "text": ["a"]}', "line 1: 'text' is"),
        ('{"_id": true, "text": "a"}', "line 1: '_id' is True"),
        ('{"_id": "", "text": "a"}', "line 1: the id is empty"),
        ('{"_id": "1", "text": " "}', "line 1: the query '1' has no text"),
        ("1\ta\n\nno tab", "line 3: is not an id, a tab and a text"),
        ("1\ta\n\tb", "line 2: is not an id, a tab and a text"),
        ("1\ta\n1\tb", "line 2: the id '1'"),
        ("1\t", "line 1: the query '1' has no text"),
        ("", "there is no query in it"),
        ("\n \n", "there is no query in it"),
        (b"1\ta\n2\t\xff", "line 2: not UTF-8"),
    ],
)
def test_a_wrong_line_is_named_by_file_and_number(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(InputError) as raised:
        read_queries(written(tmp_path, text))
    assert message in str(raised.value)
    assert "queries" in str(raised.value)


def test_queries_are_read_from_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=[AS_JSON])
    writer.start()
    found = read_queries(str(pipe))
    writer.join()
    assert [(query.id, query.text) for query in found] == EXPECTED


def test_ids_are_read_as_they_stand(tmp_path: Path) -> None:
    path = written(tmp_path, "a b\r\n\n c\nd\u2028e")
    assert read_ids(path) == ["a b", " c", "d\u2028e"]
    assert inputs.choose_ids(["x"], path) == ["x", "a b", " c", "d\u2028e"]
    assert inputs.choose_ids(["x"], None) == ["x"]
    with pytest.raises(InputError, match="no id is given"):
        inputs.choose_ids([], None)


# --- a vector from a file


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32"])
@pytest.mark.parametrize("shape", [(4,), (1, 4)])
def test_a_vector_is_read(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "v.npy", np.arange(4).astype(dtype).reshape(shape))
    read = read_vector(str(tmp_path / "v.npy"))
    assert read.dtype == np.float32
    assert read.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 4)),
        np.zeros((0,)),
        np.zeros((1, 2, 2)),
        np.float32(1),
        np.array(["a"]),
        np.array([1j]),
        np.array([{}], dtype=object),
        np.array([True]),
    ],
)
def test_what_is_no_vector_is_refused(tmp_path: Path, array: np.ndarray) -> None:  # type: ignore[type-arg]
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(InputError, match=r"v\.npy"):
        read_vector(str(tmp_path / "v.npy"))


def test_a_file_that_is_no_vector_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.zeros(100))
    cut = written(tmp_path, (tmp_path / "v.npy").read_bytes()[:200], "cut.npy")
    for path in (cut, written(tmp_path, "text"), written(tmp_path, ""), str(tmp_path / "none")):
        with pytest.raises(InputError):
            read_vector(path)


@pytest.mark.parametrize(
    ("text", "queries", "vector"),
    [(None, None, None), ("a", "f", None), ("a", None, "v"), (None, "f", "v")],
)
def test_one_thing_is_looked_for(text: str | None, queries: str | None, vector: str | None) -> None:
    with pytest.raises(InputError, match="give either a query"):
        inputs.choose_queries(text, queries, vector)
