"""TREC files: what is read, what is refused and how, and that writing loses nothing."""

from __future__ import annotations

import gzip
import logging
import math
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retr.retrieval.evaluation import evaluate, ranked, read_qrels, read_run, write_qrels, write_run
from retr.retrieval.results.results import Results
from retr.retrieval.values.errors import InputError, StorageError
from retr.retrieval.values.types import Hit, Query


def file(folder: Path, content: str | bytes, name: str = "file") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def hit(document: str, score: float) -> Hit:
    return Hit(document, score, None, None, None, {}, 0)


ids = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=" \t\n\r\v\f"), min_size=1
).filter(lambda text: not text.startswith(("#", "\ufeff")))
finite = st.floats(allow_nan=False, allow_infinity=False)
runs = st.dictionaries(ids, st.dictionaries(ids, finite, min_size=1), min_size=1)


@settings(deadline=None)
@given(run=runs, packed=st.booleans())
def test_a_run_reads_back_as_it_was_written(tmp_path_factory, run, packed) -> None:
    path = tmp_path_factory.mktemp("run") / ("run.gz" if packed else "run")
    lines = write_run(run, path)
    assert read_run(path) == run
    assert lines == sum(map(len, run.values()))


@settings(deadline=None)
@given(run=runs)
def test_ranks_count_from_1_in_the_order_of_trec_eval(tmp_path_factory, run) -> None:
    path = tmp_path_factory.mktemp("run") / "run"
    write_run(run, path, tag="mine")
    seen: dict[str, int] = {}
    previous: dict[str, tuple[float, bytes]] = {}
    for line in _lines(path):
        query, q0, document, rank, score, tag = line.split()
        assert (q0, tag) == (b"Q0", b"mine")
        seen[query] = seen.get(query, 0) + 1
        assert int(rank) == seen[query]
        key = (_single(float(score)), document)
        assert query not in previous or key < previous[query]
        previous[query] = key


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().removesuffix(b"\n").split(b"\n")


def _single(x: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", x))[0])
    except OverflowError:
        return math.copysign(math.inf, x)


def test_equal_scores_stand_by_id_descending_bytes_not_numbers() -> None:
    assert ranked({"10": 1.0, "9": 1.0, "é": 1.0, "z": 1.0, "a": 2.0}) == ["a", "é", "z", "9", "10"]
    assert ranked({"\U0001f600": 0.0, "\uffee": -0.0}) == ["\U0001f600", "\uffee"]


def test_scores_that_differ_in_double_precision_only_are_equal() -> None:
    assert ranked({"a": 0.1 + 1e-12, "b": 0.1}) == ["b", "a"]
    assert ranked({"a": 0.1 + 1e-6, "b": 0.1}) == ["a", "b"]


def test_what_is_written_of_single_precision_reads_back_the_same(tmp_path: Path) -> None:
    import numpy as np

    scores = {str(i): x for i, x in enumerate(np.random.default_rng(0).normal(size=50))}
    single = {document: np.float32(x) for document, x in scores.items()}
    write_run({"q": single}, tmp_path / "run")
    assert read_run(tmp_path / "run")["q"] == {d: float(x) for d, x in single.items()}


def test_results_are_written_as_they_come_passages_as_their_document(tmp_path: Path) -> None:
    results = Results(Query("x"), [hit("a", 3.0), hit("b", 2.0), hit("a", 1.0)], 1)
    assert write_run(((str(i), results) for i in range(3)), tmp_path / "run") == 6
    assert read_run(tmp_path / "run") == {str(i): {"a": 3.0, "b": 2.0} for i in range(3)}


def test_tabs_blank_lines_comments_mark_and_crlf_are_read(tmp_path: Path) -> None:
    text = "\ufeffq1\tQ0\td1\t1\t2.5\tt\r\n\n# a note of six words here\n  q1  Q0 d\u00a02 2 1e-3 t"
    assert read_run(file(tmp_path, text)) == {"q1": {"d1": 2.5, "d\u00a02": 0.001}}


def test_queries_may_be_interleaved(tmp_path: Path) -> None:
    text = "a Q0 x 1 2 t\nb Q0 x 1 2 t\na Q0 y 2 1 t\n"
    assert read_run(file(tmp_path, text)) == {"a": {"x": 2.0, "y": 1.0}, "b": {"x": 2.0}}


def test_gzip_is_known_by_its_content(tmp_path: Path) -> None:
    assert read_run(file(tmp_path, gzip.compress(b"q Q0 d 1 1 t\n"))) == {"q": {"d": 1.0}}


def test_the_same_run_gives_the_same_gzipped_bytes(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        write_run({"q": {"d": 1.0}}, tmp_path / name)
    packed = (tmp_path / "a.gz").read_bytes()
    assert packed == (tmp_path / "b.gz").read_bytes()
    assert packed[4:8] == bytes(4)  # the time in gzip's header


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("q Q0 d 1 0.5", "5 columns"),
        ("q Q0 d 1 0.5 my run", "7 columns"),
        ("q Q0 d 1 high t", "score 'high' is not a finite number"),
        ("q Q0 d 1 nan t", "score 'nan'"),
        ("q Q0 d 1 -inf t", "score '-inf'"),
        ("q Q0 d 1 1_0 t", "score '1_0'"),
        ("q Q0 ok 1 0.5 t", "'ok' is listed twice for query 'q'"),
        ("q 0 d 1", "are run and qrels swapped?"),
    ],
)
def test_a_wrong_line_of_a_run_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = file(tmp_path, f"q Q0 ok 1 1.0 t\n\n{line}\nq Q0 last 2 0.1 t\n")
    with pytest.raises(InputError) as error:
        read_run(path)
    assert str(error.value).startswith(f"{path}:3: ")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("q 0 d", "3 columns, but the lines before have 4"),
        ("q 0 d 1 1", "5 columns"),
        ("q 0 d yes", "judgment 'yes'"),
        ("q 0 d 0.5", "judgment '0.5'"),
        ("q 0 d 1_0", "judgment '1_0'"),
        ("q 0 d 100000", "from -10000 to 10000"),
        ("q 0 ok 2", "judged 2 for query 'q', and 1 on an earlier line"),
    ],
)
def test_a_wrong_line_of_qrels_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = file(tmp_path, f"q 0 ok 1\nq 0 ok 1\n{line}\n")
    with pytest.raises(InputError) as error:
        read_qrels(path)
    assert str(error.value).startswith(f"{path}:3: ")
    assert said in str(error.value)


def test_files_that_are_not_what_they_should_be_are_told_apart(tmp_path: Path) -> None:
    run = file(tmp_path, "q Q0 d 1 1.0 t\n", "run")
    qrels = file(tmp_path, "q 0 d 1\n", "qrels")
    beir = file(tmp_path, "query-id\tcorpus-id\tscore\nq\td\t1\n", "beir")
    for wrong in (qrels, beir):
        with pytest.raises(InputError, match=f"{wrong}:1: .*swapped"):
            read_run(wrong)
    with pytest.raises(InputError, match=f"{run}:1: 6 columns; .*swapped"):
        read_qrels(run)
    with pytest.raises(InputError, match="swapped"):
        evaluate(qrels, run)


@pytest.mark.parametrize("read", [read_run, read_qrels])
def test_files_that_cannot_be_read_are_named(tmp_path: Path, read) -> None:
    nothing = file(tmp_path, "\n# nothing\n", "nothing")
    cut = file(tmp_path, gzip.compress(b"q Q0 d 1 1 t\n" * 9999)[:-40], "cut.gz")
    latin = file(tmp_path, "q Q0 d\xe9 1 1 t\n".encode("latin-1"), "latin")
    latin_qrels = file(tmp_path, "q 0 d\xe9 1\n".encode("latin-1"), "latin.qrels")
    with pytest.raises(InputError, match=f"{nothing}: the .* empty"):
        read(nothing)
    with pytest.raises(InputError, match=r"cannot read the .*absent: No such file"):
        read(tmp_path / "absent")
    with pytest.raises(InputError, match="Is a directory"):
        read(tmp_path)
    with pytest.raises(InputError, match="not UTF-8"):
        read(latin if read is read_run else latin_qrels)
    with pytest.raises(InputError, match=str(cut)):
        read(cut)


def test_a_gzipped_run_that_is_cut_short_is_not_taken_for_whole(tmp_path: Path) -> None:
    lines = b"".join(b"q Q0 d%d 1 1 t\n" % i for i in range(9999))
    with pytest.raises(InputError, match="truncated or damaged"):
        read_run(file(tmp_path, gzip.compress(lines)[:-40]))


def test_beir_s_tsv_is_read_ids_with_spaces_too(tmp_path: Path) -> None:
    tsv = "query-id\tcorpus-id\tscore\nq 1\td 1\t2\nq 1\td2\t0\n"
    assert read_qrels(file(tmp_path, tsv)) == {"q 1": {"d 1": 2, "d2": 0}}
    assert read_qrels(file(tmp_path, "q1\td1\t1\nq2\td1\t1\n")) == {
        "q1": {"d1": 1},
        "q2": {"d1": 1},
    }
    with pytest.raises(InputError, match=":1: judgment 'much'"):
        read_qrels(file(tmp_path, "q\td\tmuch\n"))


def test_real_beir_qrels_have_as_many_judgments_as_they_should() -> None:
    data = Path(os.environ.get("RETR_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not data.is_dir():
        pytest.skip(f"no test data at {data}: set RETR_TEST_DATA")
    for name, queries, positives in [("scifact", 300, 339), ("cran", 225, 1837), ("npl", 93, 2083)]:
        qrels = read_qrels(data / "beir" / name / "qrels" / "test.tsv")
        assert len(qrels) == queries
        assert sum(g > 0 for judged in qrels.values() for g in judged.values()) == positives


def test_trec_qrels_read_back_negative_judgments_too(tmp_path: Path) -> None:
    qrels = {"q": {"a": -2, "b": 0, "c": 3}, "r": {"a": 1}}
    assert write_qrels(qrels, tmp_path / "qrels.gz") == 4
    assert read_qrels(tmp_path / "qrels.gz") == qrels
    assert read_qrels(file(tmp_path, "q 0 d 1.0\n")) == {"q": {"d": 1}}


@pytest.mark.parametrize(
    ("run", "tag", "said"),
    [
        ({"q": {"a b": 1.0}}, "t", "document id 'a b'"),
        ({"q\t": {"a": 1.0}}, "t", "query id"),
        ({"": {"a": 1.0}}, "t", "query id ''"),
        ({"#q": {"a": 1.0}}, "t", "begins a comment"),
        ({"q": {"a": 1.0}}, "my run", "tag 'my run'"),
        ({"q": {"a": math.nan}}, "t", "score nan is not a finite number"),
        ({"q": {"a": "x"}}, "t", "score 'x'"),
        ({"q": ["a"]}, "t", "a hit is str"),
        ([("q", {"a": 1.0}), ("q", {"b": 1.0})], "t", "'q' occurs twice"),
    ],
)
def test_what_a_trec_file_cannot_hold_is_refused_and_no_file_is_left(
    tmp_path: Path, run, tag: str, said: str
) -> None:
    with pytest.raises(InputError) as error:
        write_run(run, tmp_path / "run", tag=tag)
    assert said in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    write_run({"q": {"a": 1.0}}, tmp_path / "run")

    def broken():
        yield "r", {"b": 1.0}
        raise RuntimeError("the search failed")

    with pytest.raises(RuntimeError, match="the search failed"):
        write_run(broken(), tmp_path / "run")
    assert read_run(tmp_path / "run") == {"q": {"a": 1.0}}
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(StorageError, match="cannot write"):
        write_run({"q": {"a": 1.0}}, tmp_path / "no folder" / "run")


def test_scores_that_rise_with_the_rank_are_remarked_upon(tmp_path: Path, caplog) -> None:
    rising = "".join(f"q Q0 d{i} {i} {i / 10} t\n" for i in range(1, 30))
    falling = "".join(f"q Q0 d{i} {i} {-i / 10} t\n" for i in range(1, 30))
    with caplog.at_level(logging.WARNING, logger="retr"):
        read_run(file(tmp_path, falling))
        assert not caplog.records
        read_run(file(tmp_path, rising))
    assert "distances" in caplog.text
