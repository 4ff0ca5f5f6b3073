"""Records and their columns, JSON lines, packed files; what is wrong is named by its line."""

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retr.retrieval.sources import SourceOptions, open_source
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.types import Document


def read(source: object, **options: Any) -> list[Document]:
    opened = open_source(source, SourceOptions(**options))
    found = list(opened)
    assert opened.done == opened.total
    documents = [item for item in found if isinstance(item, Document)]
    assert len(documents) == len(found)
    return documents


def of_lines(path: Path, *records: object, **options: Any) -> list[Document]:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="")
    return read(path, **options)


def of_text(path: Path, text: str, **options: Any) -> list[Document]:
    path.write_text(text, encoding="utf-8", newline="")
    return read(path, **options)


# The columns


def test_columns_are_found_by_their_names(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    record = {"id": "1", "title": "Title", "text": "text", "year": 2020, "tags": ["a", None]}
    assert of_lines(path, record) == [
        Document("1", "Title text", metadata={"title": "Title", "year": 2020, "tags": ["a", None]})
    ]
    assert of_lines(path, {"_id": "1", "id": "2", "contents": "x"}) == [
        Document("1", "x", metadata={"id": "2"})
    ]
    assert of_lines(path, {"docno": 7, "body": "b", "content": "c"}) == [
        Document("7", "b", metadata={"content": "c"})
    ]
    assert open_source(path).name == str(path)


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    record = {"key": "k", "headline": "H", "lead": "L", "text": "T", "title": "X"}
    (document,) = of_lines(path, record, id="key", text=("headline", "lead"))
    assert document == Document("k", "H L", metadata={"text": "T", "title": "X"})
    (document,) = of_lines(path, record, id="key", text="lead", title="headline")
    assert document == Document("k", "H L", metadata={"headline": "H", "text": "T", "title": "X"})
    (document,) = of_lines(path, record, id="key", text=("text", "title"))
    assert document == Document("k", "T X", metadata={"headline": "H", "lead": "L", "title": "X"})


@pytest.mark.parametrize("option", ["id", "text", "title", "vector"])
def test_a_named_column_that_is_absent_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(InputError) as raised:
        of_lines(tmp_path / "a.jsonl", {"id": "1", "text": "x"}, **{option: "nope"})
    assert str(raised.value) == (
        f"a.jsonl: no column 'nope' for {option}; the columns are 'id', 'text'"
    )


def test_records_without_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"none of the columns text, .*; the columns are 'id', 'x'"
    ):
        of_lines(tmp_path / "a.jsonl", {"id": "1", "x": "y"})


def test_what_leaves_out_nulls_is_read_all_the_same(tmp_path: Path) -> None:
    documents = of_lines(
        tmp_path / "a.jsonl", {"id": "1"}, {"id": "2", "title": "T"}, {"id": "3", "text": "x"}
    )
    assert [d.text for d in documents] == ["", "T", "x"]


def test_records_without_ids_are_known_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    documents = of_lines(path, {"text": "x"}, "", {"text": "y", "n": 1})
    assert documents == [
        Document("a.jsonl:1", "x", uri=str(path), place="line 1"),
        Document("a.jsonl:3", "y", uri=str(path), place="line 3", metadata={"n": 1}),
    ]
    many = [{"text": "x"}] * 200
    with pytest.raises(InputError, match=r"a.jsonl, line 201: has 'id', which the records before"):
        of_lines(path, *many, {"id": "1", "text": "y"})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3.0, "is 3.0 (float); an id is a string or an integer"),
        (True, "is True (bool)"),
        (None, "is null (NoneType)"),
        ("", "is empty; an id needs at least one character"),
        (["a"], "is ['a'] (list)"),
        ({"a": 1}, "is {'a': 1} (dict)"),
    ],
)
def test_what_is_no_id_is_refused(tmp_path: Path, value: object, said: str) -> None:
    with pytest.raises(InputError) as raised:
        of_lines(tmp_path / "a.jsonl", {"id": "1", "text": "x"}, "", {"id": value, "text": "x"})
    assert str(raised.value).startswith(f"a.jsonl, line 3: 'id' {said}")


def test_a_missing_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^a.jsonl, line 2: has no 'id', the column of ids$"):
        of_lines(tmp_path / "a.jsonl", {"id": "1", "text": "x"}, {"text": "x"})


@pytest.mark.parametrize("value", [3, True, ["x"], {"a": 1}, 2.5])
def test_what_is_no_text_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(InputError, match=r"^a.jsonl, line 2: 'text' is .*, not a text$"):
        of_lines(tmp_path / "a.jsonl", {"id": "1", "text": "x"}, {"id": "2", "text": value})


def test_null_and_nan_are_the_empty_text(tmp_path: Path) -> None:
    documents = of_lines(
        tmp_path / "a.jsonl",
        '{"id": "1", "text": null, "title": "T"}',
        '{"id": "2", "text": NaN, "n": NaN, "m": [Infinity]}',
    )
    assert [d.text for d in documents] == ["T", ""]
    assert documents[1].metadata == {"n": None, "m": [None]}


def test_lone_surrogates_are_replaced_in_texts_and_refused_in_ids(tmp_path: Path) -> None:
    (document,) = of_lines(
        tmp_path / "a.jsonl",
        '{"id": "1", "text": "a\\ud800b", "x": ["\\udc00"], "\\ud83d\\ude00": 1}',
    )
    assert document.text == "a\ufffdb"
    assert document.metadata == {"x": ["\ufffd"], "😀": 1}
    with pytest.raises(InputError, match=r"line 1: 'id' is .*not valid Unicode"):
        of_lines(tmp_path / "a.jsonl", '{"id": "\\ud800", "text": "a"}')


def test_vectors_may_lie_in_records(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    records = [{"id": "1", "v": [1, 2.5], "n": 1}, {"id": "2", "v": [3, 4]}]
    first, second = of_lines(path, *records, vector="v")
    assert first.text is None
    assert first.metadata == {"n": 1}
    assert first.vector is not None and first.vector.dtype == "float32"
    assert first.vector.tolist() == [1.0, 2.5]
    assert second.vector is not None and second.vector.tolist() == [3.0, 4.0]
    for bad, said in [
        ([1], r"line 2 \(id '2'\): the vector has 1 dimensions, but those before it have 2"),
        ([1, float("nan")], r"line 2 \(id '2'\): the vector holds nan at dimension 1"),
        ([1, 1e60], "the vector holds inf at dimension 1"),
        ([1, None], "is not a list of numbers"),
        ([1, [2]], "is not a list of numbers"),
        (["1", "2"], "is not a list of numbers"),
        ([], "is not a list of numbers"),
        (3, "is not a list of numbers"),
        ([True, False], "is not a list of numbers"),
        (None, "has no vector"),
    ]:
        with pytest.raises(InputError, match=said):
            of_lines(path, records[0], {"id": "2", "v": bad}, vector="v")


# JSON lines


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "1"', "not a JSON object (Expecting ',' delimiter at column 11)"),
        ("[1]", "not a JSON object (a list); write one object per line"),
        ('"x"', "not a JSON object (a str); write one object per line"),
        ("null", "not a JSON object (a NoneType)"),
        ("x", "not a JSON object (Expecting value at column 1)"),
        ("{'id': 1}", "not a JSON object (Expecting property name"),
        ('{"id": "1", "text": "a\x01b"}', "not a JSON object (Invalid control character"),
        ("[" * 100_000, "nested too deeply"),
        ('{"id": 1' + "0" * 5000 + ', "text": "x"}', "not a JSON object (Exceeds the limit"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    good = '{"id": "1", "text": "x"}\n'
    path = tmp_path / "corpus.jsonl"
    for before in (1, 150):
        path.write_text(good * before + "\n" + line + "\n" + good)
        with pytest.raises(InputError) as raised:
            read(path)
        assert str(raised.value).startswith(f"corpus.jsonl, line {before + 2}: {said}")


@pytest.mark.parametrize("text", ['[\n{"id": "1"}\n]', '[{"id": "1"', '{\n"id": "1"\n}'])
def test_json_over_many_lines_is_recognised(tmp_path: Path, text: str) -> None:
    with pytest.raises(
        InputError, match=r"line 1: .*; write one object per line, not one over several"
    ):
        of_text(tmp_path / "a.jsonl", text)


def test_values_nested_too_deeply_to_keep_are_refused(tmp_path: Path) -> None:
    deep = '{"id": "1", "text": "x", "n": ' + "[" * 900 + "]" * 900 + "}"
    with pytest.raises(InputError, match=r"line 1: .*nested too deeply"):
        of_text(tmp_path / "a.jsonl", deep)


def test_bytes_that_are_no_utf8_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id": "1", "text": "x"}\n{"id": "2", "text": "caf\xe9"}\n')
    with pytest.raises(InputError, match=r"^a.jsonl, line 2: not UTF-8 \(byte 0xe9 at 24\)"):
        read(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_marked_encodings_are_read(tmp_path: Path, encoding: str, end: str) -> None:
    # U+0A0A: its bytes are two line ends, and are none.
    text = "".join(f'{{"id": "{n}", "text": "\u0a0a漢"}}{end}' for n in range(3))
    for suffix, data in (
        ("", text.encode(encoding)),
        (".gz", gzip.compress(text.encode(encoding))),
    ):
        path = tmp_path / f"a.jsonl{suffix}"
        path.write_bytes(data)
        assert [(d.id, d.text) for d in read(path)] == [(str(n), "\u0a0a漢") for n in range(3)]
    path = tmp_path / "a.csv"
    path.write_bytes(f"id,text{end}1,\u0a0a漢{end}".encode(encoding))
    assert [(d.id, d.text) for d in read(path)] == [("1", "\u0a0a漢")]


def test_a_cut_short_wide_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"id": "1", "text": "x"}\n'.encode("utf-16") * 2 + b"\x41")
    with pytest.raises(InputError, match=r"a.jsonl"):
        read(path)


def test_a_line_has_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.truncate(70 * 1024 * 1024)
    with pytest.raises(InputError, match=r"a.jsonl, line 1: longer than 64 MB; put one record"):
        read(path)


def test_packed_files(tmp_path: Path) -> None:
    lines = b"".join(b'{"id": "%d", "text": "x"}\n' % n for n in range(50_000))
    packed = gzip.compress(lines)
    for data in (packed, gzip.compress(lines[:25]) + gzip.compress(lines[25:])):
        (tmp_path / "a.jsonl.gz").write_bytes(data)
        assert len(read(tmp_path / "a.jsonl.gz")) == 50_000
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"id,text\n1,x\n"))
    assert [d.id for d in read(tmp_path / "a.csv.gz")] == ["1"]
    (tmp_path / "a.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(
        InputError, match=r"a.jsonl.gz: cannot be read after line \d{4,} \(.*truncated"
    ):
        read(tmp_path / "a.jsonl.gz")
    broken = bytearray(packed)
    broken[len(packed) // 2] ^= 0xFF
    for bad in (bytes(broken), b"no gzip", b"\x1f\x8b"):
        (tmp_path / "a.jsonl.gz").write_bytes(bad)
        with pytest.raises(InputError, match=r"^a.jsonl.gz"):
            read(tmp_path / "a.jsonl.gz")


def test_files_packed_with_zstd(tmp_path: Path) -> None:
    import pyarrow as pa

    lines = b"".join(b'{"id": "%d", "text": "x"}\n' % n for n in range(50_000))
    packed = pa.compress(lines, codec="zstd", asbytes=True)
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(packed)
    assert len(read(path)) == 50_000
    for bad in (packed[: len(packed) // 2], b"no zstd at all"):
        path.write_bytes(bad)
        with pytest.raises(InputError, match=r"^a.jsonl.zst: cannot be read after line \d+"):
            read(path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.jsonl.gz"])
def test_an_empty_file_holds_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith(".gz") else b"")
    assert not list(open_source(tmp_path / name))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abé"), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@settings(max_examples=100, deadline=None)
@given(
    records=st.lists(
        st.tuples(TEXT.filter(bool), TEXT, st.dictionaries(st.text("xyz", min_size=1), JSON)),
        max_size=5,
    ),
    ascii_=st.booleans(),
)
def test_json_lines_come_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any], ascii_: bool
) -> None:
    path = tmp_path_factory.mktemp("json") / "a.jsonl"
    lines = (
        json.dumps({**metadata, "id": id_, "text": text}, ensure_ascii=ascii_)
        for id_, text, metadata in records
    )
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="")
    assert [(d.id, d.text, d.metadata) for d in read(path)] == [
        (id_, text.strip(), metadata) for id_, text, metadata in records
    ]


# Options and memory


@pytest.mark.parametrize("options", [{"ids": ["1"]}, {"include": "*.md"}, {"exclude": "*.md"}])
def test_what_has_no_meaning_for_records_is_refused(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=f"cannot be read with {next(iter(options))}="):
        of_lines(tmp_path / "a.jsonl", {"id": "1", "text": "x"}, **options)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.jsonl.gz"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    line = (
        '{"id": "%d", "text": "' + "x" * 500 + '"}\n'
        if "json" in name
        else "%d," + "x" * 500 + "\n"
    )
    opened: Any = gzip.open if name.endswith(".gz") else open
    with opened(path, "wt") as file:
        file.write("" if "json" in name else "id,text\n")
        file.writelines(line % number for number in range(20_000))
    tracemalloc.start()
    try:
        assert sum(1 for _ in open_source(path)) == 20_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000  # of ten million bytes
