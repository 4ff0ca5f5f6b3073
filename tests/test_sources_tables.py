"""Parquet files, Arrow tables, pandas and polars frames."""

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retr.retrieval.sources import SourceOptions, open_source
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.types import Document

ROWS = {"id": ["a", "b"], "title": ["T", None], "text": ["x", "y"], "year": [2020, None]}
EXPECTED = [
    Document("a", "T x", metadata={"title": "T", "year": 2020}),
    Document("b", "y", metadata={"title": None, "year": None}),
]


def read(source: object, **options: Any) -> list[Document]:
    opened = open_source(source, SourceOptions(**options))
    found = list(opened)
    assert opened.done == len(found)
    assert opened.total in (None, len(found))
    documents = [item for item in found if isinstance(item, Document)]
    assert len(documents) == len(found)
    return documents


def parquet(path: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, path, **options)
    return path


def vectors(documents: list[Document]) -> list[Any]:
    for document in documents:
        assert document.vector is not None
        assert document.vector.dtype == np.float32
        assert document.vector.flags.c_contiguous
    return [document.vector.tolist() for document in documents if document.vector is not None]


# Tables


def test_the_same_rows_from_everything_that_holds_tables(tmp_path: Path) -> None:
    table = pa.table(ROWS)
    frame = pd.DataFrame({**ROWS, "year": pd.array([2020, None], dtype="Int64")})
    for source in (
        table,
        table.to_batches()[0],
        table.to_reader(),
        parquet(tmp_path / "a.parquet", table),
        pl.DataFrame(ROWS),
        pl.LazyFrame(ROWS),
        frame,
        frame.set_index("id"),
        [dict(zip(ROWS, row, strict=True)) for row in zip(*ROWS.values(), strict=True)],
        pa.Table.from_pandas(frame).replace_schema_metadata(None),
    ):
        assert read(source) == EXPECTED, type(source)


def test_names(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", pa.table(ROWS))
    assert open_source(path).name == str(path)
    assert open_source(pa.table(ROWS)).name is None
    assert open_source(pa.table(ROWS), SourceOptions(name="mine")).name == "mine"


def test_rows_without_ids_are_known_by_their_number(tmp_path: Path) -> None:
    table = pa.table({"text": ["x"] * 3000})
    path = parquet(tmp_path / "a.parquet", table)
    documents = read(path)
    assert documents[2999] == Document("a.parquet:2999", "x", uri=str(path), place="row 2999")
    assert read(table)[2999] == Document("2999", "x")
    assert read(pd.DataFrame({"text": list("abc")})[1:])[0] == Document("0", "b")


def test_a_reader_comes_once() -> None:
    source = open_source(pa.table(ROWS).to_reader())
    assert len(list(source)) == 2
    with pytest.raises(InputError, match="can be read only once"):
        list(source)
    table = open_source(pa.table(ROWS))
    first = list(table)
    assert len(first) == 2
    assert list(table) == first


def test_metadata_is_what_json_knows() -> None:
    day = datetime.datetime(2020, 1, 2, 3, 4, 5, 678901)
    table = pa.table(
        {
            "id": pa.array([1], pa.uint16()),
            "text": pa.array(["x"]).dictionary_encode(),
            "ns": pa.array([1577934245678901234], pa.timestamp("ns", "UTC")),
            "us": pa.array([day]),
            "day": pa.array([day.date()]),
            "time": pa.array([3600 * 10**9 + 1], pa.time64("ns")),
            "long": pa.array([10**9 + 1], pa.duration("ns")),
            "cost": pa.array([decimal.Decimal("1.50")]),
            "half": pa.array([np.float16(1.5)], pa.float16()),
            "nan": [float("nan")],
            "tags": pa.array([["a", None]], pa.large_list(pa.string())),
            "struct": [{"a": 1, "image": b"raw"}],
            "image": [b"raw"],
            "fixed": pa.array([b"raw"], pa.binary(3)),
            "kind": pa.array(["k"]).dictionary_encode(),
            "null": pa.nulls(1),
            "vector": [[1.5, 2.5]],
            "vector3": pa.array([[1, 2, 3]], pa.list_(pa.float32(), 3)),
            "numbers": [[1, 2]],
        }
    )
    (document,) = read(table)
    assert (document.id, document.text) == ("1", "x")
    assert document.metadata == {
        "ns": "2020-01-02T03:04:05.678901+00:00",
        "us": "2020-01-02T03:04:05.678901",
        "day": "2020-01-02",
        "time": "01:00:00",
        "long": "0:00:01",
        "cost": 1.5,
        "half": 1.5,
        "nan": None,
        "tags": ["a", None],
        "struct": {"a": 1},
        "kind": "k",
        "null": None,
        "numbers": [1, 2],
    }


@pytest.mark.parametrize(
    ("columns", "options", "said"),
    [
        ({"id": [1.5], "text": ["x"]}, {}, "column 'id' is double; ids are strings or integers"),
        ({"id": [True], "text": ["x"]}, {}, "column 'id' is bool; ids"),
        ({"id": [b"x"], "text": ["x"]}, {}, "column 'id' is binary; ids"),
        ({"id": ["x"], "text": [1]}, {}, "column 'text' is int64, not text"),
        ({"id": ["x"], "text": [["x"]]}, {}, "column 'text' is list<.*>, not text"),
        ({"id": ["x"], "x": ["x"]}, {}, "none of the columns text, .* are 'id', 'x'"),
        ({"id": ["x"], "text": ["x"]}, {"text": "y"}, "no column 'y' for text; the columns are"),
        ({"id": ["x"], "v": ["x"]}, {"vector": "v"}, "column 'v' is string, not lists of numbers"),
        ({"id": ["x"], "v": [["x"]]}, {"vector": "v"}, "column 'v' is list<.*>, not lists"),
        ({"id": ["x", None], "text": ["x", "y"]}, {}, "row 1: 'id' is null"),
        ({"id": ["x", ""], "text": ["x", "y"]}, {}, "row 1: 'id' is empty"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, columns: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    table = pa.table(columns)
    with pytest.raises(InputError, match=f"^the Arrow table.*{said}"):
        read(table, **options)
    path = parquet(tmp_path / "a.parquet", table)
    with pytest.raises(InputError, match=f"^a.parquet.*{said}"):
        read(path, **options)


def test_two_columns_of_one_name_are_refused() -> None:
    table = pa.Table.from_arrays([pa.array(["x"])] * 2, names=["text", "text"])
    with pytest.raises(InputError, match="two columns are called 'text'; rename one"):
        read(table)
    frame = pd.DataFrame([["a", "b"]], columns=["text", "text"])
    with pytest.raises(InputError, match=r"the pandas frame .*[Dd]uplicate"):
        read(frame)


def test_frames_with_mixed_columns_are_refused() -> None:
    with pytest.raises(InputError, match="the pandas frame cannot be read"):
        read(pd.DataFrame({"id": ["a", 1], "text": ["x", "y"]}))
    with pytest.raises(InputError, match="the polars frame cannot be read: column 'o' holds"):
        read(pl.DataFrame({"text": ["x"], "o": pl.Series([object()], dtype=pl.Object)}))
    with pytest.raises(InputError, match="the polars frame cannot be read: "):
        read(pl.LazyFrame({"text": ["x"]}).select("missing"))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all", b"PAR1" + b"\0" * 50])
def test_what_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"^a.parquet: cannot be read \("):
        read(tmp_path / "a.parquet")


def test_a_damaged_parquet_is_refused(tmp_path: Path) -> None:
    table = pa.table({"id": [str(n) for n in range(5000)], "text": ["some text"] * 5000})
    path = parquet(tmp_path / "a.parquet", table, compression="gzip", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[500:1500] = bytes(1000)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"^a.parquet, from row 0: cannot be read \("):
        read(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"^a.parquet: cannot be read \("):
        read(path)


def test_texts_that_are_no_utf8_are_refused() -> None:
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xe9")]
    )
    with pytest.raises(InputError, match="the Arrow table, from row 0: cannot be read"):
        read(pa.table({"text": broken}))


def test_a_row_group_is_not_read_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = pa.array([rng.bytes(5000).hex() for _ in range(4000)])
    path = parquet(
        tmp_path / "a.parquet", pa.table({"text": texts}), use_dictionary=False, compression="none"
    )
    before = pa.total_allocated_bytes()
    largest = 0
    for _ in open_source(path):
        largest = max(largest, pa.total_allocated_bytes() - before)
    assert path.stat().st_size > 40_000_000
    assert largest < 25_000_000


# Vectors in columns

LISTS = [
    pa.list_(pa.float32()),
    pa.list_(pa.float64()),
    pa.list_(pa.float16()),
    pa.list_(pa.int8()),
    pa.large_list(pa.float32()),
    pa.list_(pa.float32(), 3),
    pa.list_(pa.float16(), 3),
]
ROWS_OF_3 = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0], [-1.0, 0.0, 0.0]]


@pytest.mark.parametrize("kind", LISTS, ids=str)
def test_list_columns_are_vectors(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.array(ROWS_OF_3).cast(pa.list_(kind.value_type)).cast(kind)
    table = pa.table({"id": list("abcd"), "v": column, "text": list("wxyz"), "n": range(4)})
    path = parquet(tmp_path / "a.parquet", table)
    for source in (table, path, pl.DataFrame(table), table.slice(0, 4)):
        documents = read(source, vector="v")
        assert vectors(documents) == ROWS_OF_3
        assert documents[1].text == "x"
        assert documents[1].metadata == {"n": 1}
    assert vectors(read(table.slice(1, 2), vector="v")) == ROWS_OF_3[1:3]
    assert [d.id for d in read(table.slice(2), vector="v")] == ["c", "d"]


def test_vectors_need_no_text() -> None:
    (document,) = read(pa.table({"id": ["a"], "v": [[1.0]], "x": [1]}), vector="v")
    assert document.text is None
    assert document.metadata == {"x": 1}


def test_pandas_columns_of_arrays_are_vectors() -> None:
    frame = pd.DataFrame({"id": [1, 2], "v": [np.ones(2, np.float32), np.zeros(2, np.float32)]})
    assert vectors(read(frame, vector="v")) == [[1.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ([[1.0, 2.0], [1.0]], "the vector has 1 dimensions, but those before it have 2"),
        ([[1.0, 2.0], None], "has no vector"),
        ([[1.0, 2.0], [1.0, None]], "the vector holds nan at dimension 1"),
        ([[1.0, 2.0], [float("inf"), 0.0]], "the vector holds inf at dimension 0"),
        ([[1.0, 2.0], [0.0, 1e300]], "the vector holds inf at dimension 1"),
        ([[1.0, 2.0], []], "the vector is not a list of numbers"),
    ],
)
def test_wrong_vectors_are_named_by_row_and_id(column: list[Any], said: str) -> None:
    table = pa.table({"id": ["a", "b"], "v": pa.array(column, pa.list_(pa.float64()))})
    with pytest.raises(InputError) as raised:
        read(table, vector="v")
    assert str(raised.value).startswith(f"the Arrow table, row 1 (id 'b'): {said}")
