"""CSV and TSV, texts a line, stdin and BEIR folders; what is wrong is named by its line."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retr.retrieval.sources import SourceOptions, open_source
from retr.retrieval.sources.records import Stdin
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.types import Document


def read(source: object, **options: Any) -> list[Document]:
    opened = open_source(source, SourceOptions(**options))
    found = list(opened)
    assert opened.done == opened.total
    documents = [item for item in found if isinstance(item, Document)]
    assert len(documents) == len(found)
    return documents


def of_text(path: Path, text: str, **options: Any) -> list[Document]:
    path.write_text(text, encoding="utf-8", newline="")
    return read(path, **options)


def of_stdin(data: bytes, **options: Any) -> list[Document]:
    found = list(Stdin(io.BufferedReader(io.BytesIO(data)), SourceOptions(**options)))  # type: ignore[arg-type]
    return [item for item in found if isinstance(item, Document)]


# CSV and TSV


def test_csv_columns_get_one_type_each(tmp_path: Path) -> None:
    text = (
        "id,text,year,score,good,zip,mixed,empty,late\n"
        "01,one,2020,1,true,00123,1,,1\n"
        '02,"two, and\nmore",,-2.5e1,False,12345,x,,2\n'
        "\n"
        "03,,1999,0,,1,2,,3x\n"
    )
    documents = of_text(tmp_path / "a.csv", text)
    assert [(d.id, d.text) for d in documents] == [
        ("01", "one"), ("02", "two, and\nmore"), ("03", ""),
    ]  # fmt: skip
    assert [d.metadata for d in documents] == [
        {"year": 2020, "score": 1.0, "good": True, "zip": "00123", "mixed": "1", "empty": "",
         "late": "1"},
        {"year": None, "score": -25.0, "good": False, "zip": "12345", "mixed": "x", "empty": "",
         "late": "2"},
        {"year": 1999, "score": 0.0, "good": None, "zip": "1", "mixed": "2", "empty": "",
         "late": "3x"},
    ]  # fmt: skip
    assert isinstance(documents[0].metadata["score"], float)


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=8)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(CELL.filter(bool), CELL, CELL.map(lambda s: "v" + s)), max_size=5),
    tab=st.booleans(),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_csv_comes_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], tab: bool, quoting: int
) -> None:
    path = tmp_path_factory.mktemp("csv") / ("a.tsv" if tab else "a.csv")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, "excel-tab" if tab else "excel", quoting=quoting)  # type: ignore[arg-type]
        writer.writerows([("id", "text", "other"), *rows])
    assert [(d.id, d.text, d.metadata["other"]) for d in read(path)] == [
        (id_, text.strip(), other) for id_, text, other in rows
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,text\n1,a\n\n2\n", "line 4: 1 values, but the header has 2"),
        ('id,text\n1,"a\nb"\n2,b,c\n', "line 4: 3 values, but the header has 2"),
        ("id,text,id\n1,a,2\n", "line 1: two columns are called 'id'; rename one"),
        ("id,text, text\n1,a,2\n", "line 1: two columns are called 'text'"),
        ('id,text\n1,"a"b\n', "line 2: not a row of CSV ("),
        ('id,text\n1,a\n2,"never closed\nmore\n', "line 3: not a row of CSV ("),
        (
            "id;text\n1;a\n",
            ": none of the columns text, contents, body, content, passage, caption, captions",
        ),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, text: str, said: str) -> None:
    for name in ("a.csv", "a.tsv"):
        separated = text.replace(",", "\t") if name == "a.tsv" else text
        with pytest.raises(InputError) as raised:
            of_text(tmp_path / name, separated)
        expected = said.replace("CSV", "TSV") if name == "a.tsv" else said
        assert str(raised.value).startswith((f"{name}, {expected}", f"{name}{expected}"))


def test_a_wrong_row_at_the_end_is_told_before_the_first_document(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n" + "1,a\n" * 500 + "2\n")
    source = iter(open_source(tmp_path / "a.csv"))
    with pytest.raises(InputError, match=r"a.csv, line 502: 1 values"):
        next(source)


def test_csv_without_ids_and_names(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    assert of_text(path, ',text\n0,"a\nb"\n1,c\n') == [
        Document("a.csv:2", "a\nb", uri=str(path), place="line 2", metadata={"column 1": 0}),
        Document("a.csv:4", "c", uri=str(path), place="line 4", metadata={"column 1": 1}),
    ]


def test_long_values_are_read(tmp_path: Path) -> None:
    (document,) = of_text(tmp_path / "a.csv", "id,text\n1," + "x" * 1_000_000 + "\n")
    assert document.text is not None and len(document.text) == 1_000_000


# Lines, stdin, BEIR


def test_lines_are_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    assert of_text(path, "one \r\n\n  two\nthree", format="lines") == [
        Document("a.txt:1", "one ", uri=str(path), place="line 1"),
        Document("a.txt:3", "  two", uri=str(path), place="line 3"),
        Document("a.txt:4", "three", uri=str(path), place="line 4"),
    ]
    with pytest.raises(InputError, match="one text per line, cannot be read with id='x'"):
        read(path, format="lines", id="x")


def test_a_format_can_be_said(tmp_path: Path) -> None:
    (document,) = of_text(tmp_path / "a.json", '{"id": "1", "text": "x"}', format="jsonl")
    assert document.id == "1"
    (document,) = of_text(tmp_path / "a.jsonl", "# no json", format="files")
    assert document.id == "a.jsonl"


def test_stdin_finds_out_what_it_is() -> None:
    assert of_stdin(b'\n\n{"id": 1, "text": "x"}\n') == [Document("1", "x")]
    assert of_stdin(b'{"text": "x"}\n') == [Document("stdin:1", "x", place="line 1")]
    assert of_stdin(b"\n[1]\n{}\n") == [
        Document("stdin:2", "[1]", place="line 2"),
        Document("stdin:3", "{}", place="line 3"),
    ]
    assert of_stdin(b"id,text\n1,x\n", format="csv") == [Document("1", "x")]
    assert of_stdin(b"id\ttext\tn\n1\tx\t7\n", format="tsv") == [
        Document("1", "x", metadata={"n": "7"})
    ]
    assert of_stdin(b'{"id": 1}\n', format="lines")[0].text == '{"id": 1}'
    assert of_stdin(b"") == of_stdin(b"\n \n") == []


def test_stdin_names_what_is_wrong() -> None:
    with pytest.raises(InputError, match=r"^stdin, line 3: not a JSON object"):
        of_stdin(b'{"id": 1, "text": "x"}\n\n{"id": \n')
    with pytest.raises(InputError, match=r"^stdin, line 2: not UTF-8"):
        of_stdin(b"one\ncaf\xe9\n")
    with pytest.raises(InputError, match="stdin cannot be read as parquet"):
        of_stdin(b"PAR1", format="parquet")
    with pytest.raises(InputError, match="stdin, one text per line, cannot be read with id='x'"):
        of_stdin(b"text\n", id="x")
    source = Stdin(io.BufferedReader(io.BytesIO(b"a\n")), SourceOptions())  # type: ignore[arg-type]
    assert (source.name, source.total, len(list(source))) == (None, None, 1)
    with pytest.raises(InputError, match="stdin can be read only once"):
        list(source)


def test_a_dash_is_stdin() -> None:
    code = (
        "from retr.retrieval.sources import open_source\n"
        "for document in open_source('-'): print(document.id, document.text)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input="one\ntwo\n", capture_output=True, text=True, check=True
    )
    assert done.stdout == "stdin:1 one\nstdin:2 two\n"


def test_a_beir_folder(tmp_path: Path) -> None:
    records = [
        {"_id": "1", "title": "T", "text": "x", "metadata": {"url": "u", "title": "other"}},
        {"_id": "2", "title": "", "text": "x"},
        {"_id": "3", "title": "", "text": ""},
    ]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "corpus.jsonl").write_text(lines)
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "not a document"}\n')
    assert read(tmp_path) == [
        Document("1", "T x", metadata={"title": "T", "url": "u"}),
        Document("2", "x", metadata={"title": ""}),
        Document("3", "", metadata={"title": ""}),
    ]
    assert open_source(tmp_path).name == str(tmp_path)
    assert not [d for d in open_source(tmp_path, SourceOptions(format="files"))  # type: ignore[arg-type]
                if isinstance(d, Document)]  # fmt: skip
    (tmp_path / "corpus.jsonl").write_text(lines + "{")
    with pytest.raises(InputError, match=r"^corpus.jsonl, line 4: not a JSON object"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "count"), [("scifact", 5183), ("cran", 1400), ("npl", 11429), ("cosqa", 6267)]
)
def test_real_beir_folders(data: Path, name: str, count: int) -> None:
    folder = data / "beir" / name
    documents = read(folder)
    assert len({d.id for d in documents}) == len(documents) == count
    lines = (folder / "corpus.jsonl").read_text(encoding="utf-8").split("\n")
    records = [json.loads(line) for line in lines if line]
    # BEIR's own way to a document's text.
    assert [d.text for d in documents] == [
        (record["title"] + " " + record["text"]).strip() for record in records
    ]
