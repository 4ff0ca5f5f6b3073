"""Python objects as sources: dicts, texts, documents, and what else is at hand."""

import datetime
import enum
import subprocess
import sys
import uuid
from collections import OrderedDict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from retr.retrieval.sources import SourceOptions, open_source
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.types import Document


def read(source: object, **options: Any) -> list[Document]:
    opened = open_source(source, SourceOptions(**options))
    found = list(opened)
    assert opened.done == len(found)
    assert opened.total in (None, len(found))
    documents = [item for item in found if isinstance(item, Document)]
    assert len(documents) == len(found)
    return documents


def test_texts_are_known_by_their_number() -> None:
    expected = [Document("0", "one"), Document("1", ""), Document("2", "three")]
    texts = ["one", "", "three"]
    for source in (
        texts, tuple(texts), deque(texts), iter(texts), (text for text in texts), pd.Series(texts),
        pl.Series(texts), np.array(texts), np.array(texts, dtype=object), pa.array(texts),
        pa.chunked_array([texts]), dict.fromkeys(texts).keys(),
    ):  # fmt: skip
        assert read(source) == expected, type(source)
    assert open_source(texts).name is None
    assert open_source(texts, SourceOptions(name="mine")).name == "mine"
    assert read([]) == read(iter(())) == []


def test_dicts_follow_the_rules_of_records() -> None:
    records = [
        {"id": 1, "title": "T", "text": "x", "n": 1},
        OrderedDict(id="2", text=None, m=[1, (2,), {3}]),
    ]
    assert read(records) == [
        Document("1", "T x", metadata={"title": "T", "n": 1}),
        Document("2", "", metadata={"m": [1, [2], [3]]}),
    ]
    assert read([{"text": "x"}, {"text": "y"}]) == [Document("0", "x"), Document("1", "y")]
    assert read([{"k": 1, "a": "x", "b": "y"}], id="k", text=("a", "b")) == [Document("1", "x y")]
    with pytest.raises(InputError, match="item 0: no column 'z' for text; the columns are 'id'"):
        read([{"id": 1}], text="z")
    with pytest.raises(InputError, match="item 1: has no 'id'"):
        read([{"id": 1, "text": "x"}, {"text": "x"}])
    assert records[0] == {"id": 1, "title": "T", "text": "x", "n": 1}


def test_numpy_values_are_python_values() -> None:
    (document,) = read(
        [{"id": np.int64(7), "text": np.str_("x"), "n": np.float32(1.5), "v": np.arange(2)}]
    )
    assert document == Document("7", "x", metadata={"n": 1.5, "v": [0, 1]})
    assert type(document.id) is str
    assert type(document.metadata["n"]) is float


class Colour(enum.Enum):
    RED = "red"


def test_metadata_is_made_json() -> None:
    key = uuid.uuid4()
    values = {
        "date": datetime.date(2020, 1, 2), "colour": Colour.RED, "uuid": key, "nat": pd.NaT,
        "na": pd.NA, "nan": float("nan"), "path": Path("a/b"), "bytes": b"raw", 5: True,
        "big": 10**30, "bad": "\ud800", "deep": {"x": np.nan, 1: [b"raw", 2]},
    }  # fmt: skip
    (document,) = read([{"id": "1", "text": "x", **values}])
    assert document.metadata == {
        "date": "2020-01-02", "colour": "red", "uuid": str(key), "nat": None, "na": None,
        "nan": None, "path": "a/b", "5": True, "big": 10**30, "bad": "\ufffd",
        "deep": {"x": None, "1": [2]},
    }  # fmt: skip
    with pytest.raises(InputError, match=r"item 0: <object .* \(object\) cannot be stored as meta"):
        read([{"id": "1", "text": "x", "o": object()}])
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InputError, match="item 0: values are nested too deeply"):
        read([{"id": "1", "text": "x", "o": loop}])


def test_documents_are_taken_as_they_are() -> None:
    given = Document("a", "text", uri="u", metadata={"n": 1}, kind="markdown", place="line 1")
    assert read([given]) == [given]
    (document,) = read([Document("a", vector=[1, 2])])  # type: ignore[arg-type]
    assert document.vector is not None and document.vector.dtype == np.float32
    assert document.vector.tolist() == [1.0, 2.0]
    (document,) = read([Document("a", "\ud800", metadata={"n": np.int64(1)})])
    assert (document.text, document.metadata) == ("\ufffd", {"n": 1})
    assert type(document.metadata["n"]) is int


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (Document(""), "item 1: the id is empty"),
        (Document(3.5), r"item 1: the id is 3.5 \(float\)"),  # type: ignore[arg-type]
        (Document("b", 3), r"item 1: the text is 3 \(int\), not a text"),  # type: ignore[arg-type]
        (
            Document("b", "x", kind="prose"),
            "item 1: there is no kind 'prose'; use one of text, markdown",
        ),
        (Document("b", vector=np.array([1.0])), r"item 1 \(id 'b'\): the vector has 1 dimensions"),
        (Document("b", vector=np.array([1, np.nan])), r"item 1 \(id 'b'\): the vector holds nan"),
    ],
)
def test_wrong_documents_are_refused(document: Document, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read([Document("a", vector=np.zeros(2, np.float32)), document])


def test_items_may_be_of_several_kinds() -> None:
    assert read(["x", {"id": "a", "text": "y"}, Document("b", "z")]) == [
        Document("0", "x"), Document("a", "y"), Document("b", "z"),
    ]  # fmt: skip
    late = ["x"] * 150 + [{"id": "a", "body": "y"}]
    assert read(late)[150] == Document("a", "y")


def test_a_generator_is_consumed_once_and_lazily() -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield f"text {taken}"

    source = open_source(endless())
    assert taken == 0
    documents = iter(source)
    assert [next(documents).id for _ in range(1000)] == [str(n) for n in range(1000)]  # type: ignore[union-attr]
    assert 1000 <= taken <= 1100
    with pytest.raises(InputError, match="the generator can be read only once; make a list"):
        next(iter(source))
    again = open_source(["a", "b"])
    assert [[d.text for d in again] for _ in range(2)] == [["a", "b"]] * 2


def test_what_a_generator_raises_comes_through() -> None:
    def broken() -> Iterator[str]:
        yield "one"
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        read(broken())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"id": ["a"], "text": ["x"]},
            "a dict is not a source; put a single record in a list, or make",
        ),
        ({"a", "b"}, "a set has no order; give a list"),
        (b"docs", "bytes is not a source; give a path, an iterable of dicts, texts"),
        (3, "int is not a source; give"),
        (None, "NoneType is not a source; give"),
        (len, "builtin_function_or_method is not a source"),
        ([3], "item 0 is of type int; give dicts, texts or Documents"),
        (["x", None], "item 1 is of type NoneType"),
        ([["a", "b"]], "item 0 is of type list"),
        ([np.zeros(3)], "item 0 is of type ndarray"),
        ([Path("a.txt")], "item 0 is of type PosixPath"),
    ],
)
def test_what_is_no_source_is_refused(given: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(given)


@pytest.mark.parametrize("option", ["ids", "include", "exclude", "format"])
def test_what_has_no_meaning_for_items_is_refused(option: str) -> None:
    value = "csv" if option == "format" else ("x",)
    for source in (["x"], pa.table({"text": ["x"]})):
        with pytest.raises(InputError, match=f"cannot be read with {option}="):
            read(source, **{option: value})


def test_what_is_refused_is_shown_in_short() -> None:
    with pytest.raises(InputError) as raised:
        read(["x"], ids=np.arange(10_000))
    assert "ids=array([" in str(raised.value) and len(str(raised.value)) < 200


def test_a_path_may_be_any_path_like(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")

    class Like:
        def __fspath__(self) -> str:
            return str(tmp_path / "a.txt")

    assert read(Like())[0].text == "x"


def test_nothing_is_imported_to_find_out_what_something_is() -> None:
    heavy = ["numpy", "pyarrow", "pandas", "polars", "torch"]
    code = (
        "import sys; from retr.retrieval.sources import open_source\n"
        "print([d.id for d in open_source([{'id': 'a', 'text': 'x', 'n': [1.5]}, 'y'])])\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['a', '1']\n[]\n"
