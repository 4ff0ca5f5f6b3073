"""Conditions: the rows an oracle in Python finds, and nothing but conditions gets through."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import retr
from retr.retrieval.filters import engine as filter_engine
from retr.retrieval.filters.rows import rows_where
from retr.retrieval.segments.documents import DocumentSegment
from retr.retrieval.store.documents import BATCH_ROWS, StoredRow, write_documents
from retr.retrieval.store.manifest import Role, SegmentEntry
from retr.retrieval.store.store import Store
from retr.retrieval.values.errors import DamagedError, InputError, MissingExtraError
from retr.retrieval.values.types import Document

pytest.importorskip("duckdb")

Record = dict[str, Any]
VECTORS = np.eye(4, dtype=np.float32)


@dataclass(eq=False)
class Documents:
    """What `rows_where` looks at of a snapshot, without vectors and manifests."""

    documents: list[DocumentSegment] = field(default_factory=list)
    deleted: Any = field(default_factory=lambda: np.empty(0, np.int64))


def row(id: str, metadata: Record, **plain: Any) -> StoredRow:
    given_ = {"part": 0, "text": f"text of {id}", "uri": None, "place": None, "source": None}
    return StoredRow(id=id, digest=bytes(16), metadata=metadata, **{**given_, **plain})


def snapshot_of(
    folder: Path, shards: Sequence[Sequence[StoredRow]], deleted: Sequence[int] = ()
) -> Any:
    """Write shards, with a gap between the numbers of their rows, and open them."""
    made = Documents(deleted=np.array(deleted, np.int64))
    first = 0
    with Store(folder / "c.retr").staging() as staging:
        for number, rows in enumerate(shards):
            names = [shutil.copy(staging.find(n), folder) for n in write_documents(staging, rows)]
            data, ids = (Path(name).name for name in names)
            last = first + len(rows) - 1
            entry = SegmentEntry(f"s{number}", Role.DOCUMENTS, len(rows), first, last, data, ids)
            made.documents.append(DocumentSegment(folder, entry))
            first = last + 4
    return made


@pytest.fixture
def library(tmp_path: Path) -> Any:
    """Return two shards whose columns differ in their types."""
    day = dt.date(2020, 1, 31)
    moment = dt.datetime(2020, 1, 31, 12, tzinfo=dt.UTC)
    return snapshot_of(
        tmp_path,
        [
            [
                row(
                    "a",
                    {
                        "year": 2020,
                        "lang": "en",
                        "tags": ["x", "y"],
                        "mixed": 5,
                        "ok": True,
                        "flag": True,
                    },
                ),
                row("b", {"year": 2021, "lang": "de", "tags": [], "mixed": "red", "ok": False}),
                row(
                    "c",
                    {"author": {"name": "Ann", "age": 30, "a/b~": [1]}, "day": day, "flag": False},
                ),
                row("d", {"flag": "unsure"}, uri="u/1", source="web", place="line 1", text=None),
            ],
            [
                row("e", {"year": 2019.5, "lang": "EN", "tags": [], "mixed": "7", "author": "Al"}),
                row("f", {"my col": 1, "select": 2, 'q"uo': 3, "Wide": 4, "wide": 5, "é": 6}),
                row("g", {"moment": moment, "id": "own", "source": "own", "a.b": 1, "ok": True}),
                row("h", {"items": [1, None], "mixed": 2.5}, source="file", text="the text"),
            ],
        ],
    )


def ids(snapshot: Any, condition: str) -> str:
    names = "abcd   efgh"
    return "".join(names[r] for r in rows_where(snapshot, condition))


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("year >= 2020 and lang = 'en'", "a"),
        ("year = 2019.5 or year = 2021", "be"),
        ("year is null", "cdfgh"),
        ("true", "abcdefgh"),
        ("null", ""),
        ("ok", "ag"),
        ("not ok", "b"),
        ("not null or ok and true", "ag"),
        ("not (year > 2020) or not coalesce(ok, true)", "abe"),
        ("case when ok then year > 2000 else ok end", "a"),
        ("not flag", "c"),
        ("flag", "a"),
        ("list_contains(tags, 'x') and nullif(ok, false)", "a"),
        ("YEAR > 2020 -- the last", "b"),
        ("lang ilike 'en' and lang not like 'E%'", "a"),
        ("lang in ('en', 'de')", "ab"),
        ("year between 2019 and 2020", "ae"),
        ("coalesce(lang, 'none') = 'none'", "cdfgh"),
        ("case when year > 2020 then ok is false end", "b"),
        # Texts, places, and names of both kinds.
        ("id > 'f'", "gh"),
        ("id = 'own'", ""),
        ("metadata.id = 'own' and metadata.source = 'own'", "g"),
        ("text like 'the %' or uri = 'u/1'", "dh"),
        ("text is null and place = 'line 1'", "d"),
        ("source in ('web', 'file')", "dh"),
        ('"my col" = 1 and "select" = 2 and "q""uo" = 3 and "Wide" = 4 and wide = 5', "f"),
        ("é = 6", "f"),
        ('"a.b" = 1', "g"),
        # Dates and times.
        ("day = '2020-01-31' and day >= date '2020-01-01' and year(day) = 2020", "c"),
        ("day < current_date and moment < now()", ""),
        ("moment > '2020-01-31 11:59:59' and moment - interval '1 day' < '2020-01-31'", "g"),
        # Columns of several types: texts, or numbers where numbers are compared.
        ("mixed = 'red' or mixed = '5'", "ab"),
        ("mixed > 2.4", "aeh"),
        ("mixed in (7, 2.5)", "eh"),
        ("mixed between 6 and 8", "e"),
        ("author = 'Al'", "e"),
        ("author.name = 'Ann' and author.age > 29.5", "c"),
        ('author."a/b~" = \'[1]\' and json_array_length(author."a/b~") = 1', "c"),
        ("author->>'name' = 'Ann'", "c"),
        ("json_extract_string(author, '$.name') = 'Ann'", "c"),
        # Lists, empty ones in one shard only, and one with a null in it.
        ("list_contains(tags, 'x')", "a"),
        ("len(tags) = 0", "be"),
        ("tags[2] = 'y'", "a"),
        ("list_contains(items, '1')", "h"),
    ],
)
def test_conditions(library: Any, condition: str, found: str) -> None:
    assert ids(library, condition) == found
    rows = rows_where(library, condition)
    assert rows.dtype == np.int64
    assert not rows.flags.writeable
    without = Documents(library.documents, np.array([0, 9], np.int64))
    assert ids(without, condition) == re.sub("[ag]", "", found)


# DuckDB 1 counts characters from another place than 2, and says less of JSON.
REFUSED = [
    # Another statement, or another query.
    ("1=1; DROP TABLE retr_rows", "without other statements"),
    ("1=1; SELECT 1", "nothing after it|other statements"),
    ("1=1) UNION SELECT (1", "at character 4"),
    ("true UNION ALL SELECT 1", "nothing after it"),
    ("1=1) or (1=1", "at character 4"),
    ("true limit 1", "nothing after it"),
    ("true order by 1", "nothing after it"),
    ("true group by all", "nothing after it"),
    ("true having true", "nothing after it|syntax"),
    ("true qualify true", "nothing after it|window"),
    ("true using sample 1", "nothing after it|syntax"),
    ("select 1", "syntax error"),
    ("PRAGMA version", "syntax error"),
    # Other tables and files.
    ("year in (select 1)", "a subquery .* at character"),
    ("exists (from read_csv('/etc/passwd'))", "a subquery"),
    ("(select content from read_text('/etc/passwd')) = 'x'", "a subquery"),
    ("year = any(tags)", "a subquery"),
    ("read_csv('/etc/passwd')", "cannot use the function read_csv"),
    ("read_text('/etc/passwd') = 'x'", "cannot use the function read_text"),
    ("glob('*') = 'x'", "cannot use the function glob"),
    ("retr_shard.retr_0 = 1", "there is no column"),
    # Functions that reach out of the row, or make much of little.
    ("getenv('HOME') = 'x'", "cannot use the function getenv"),
    ("current_setting('threads') = 1", "cannot use the function current_setting"),
    ("getvariable('x') = 1", "cannot use the function getvariable"),
    ("nextval('x') = 1", "cannot use the function nextval"),
    ("system.main.current_setting('threads') = 1", "cannot use the function current_setting"),
    ("temp.lower('x') = 'x'", "cannot use the function lower|syntax"),
    ("json_serialize_sql('select 1') = 'x'", "cannot use the function json_serialize_sql"),
    ("pg_sleep(1) = 1", "cannot use the function pg_sleep"),
    ("write_log('x') = 'x'", "cannot use the function write_log"),
    ("repeat('x', 1000000000) = 'x'", "cannot use the function repeat"),
    ("len(range(1000000000)) = 1", "cannot use the function range"),
    ("random() < 0.5", "cannot use the function random"),
    ("sum(year) > 1", "cannot use the function sum"),
    ("count(*) > 1", "cannot use the function count_star"),
    ("list_contains(list_transform(tags, lambda t: getenv(t)), 'x')", "getenv|DuckDB 2"),
    ("unnest(tags) = 'x'", "unnest"),
    ("row_number() over () = 1", "a window function"),
    ("columns('year') > 1", "a star"),
    ("* = 1", "a star|syntax"),
    ("year = ?", "a parameter"),
    ("year = $1", "a parameter"),
    # What cannot be compared, with the column and its type.
    ("year >= 'abc'", "'abc' to DOUBLE; year is DOUBLE"),
    ("lang > 5", r"VARCHAR .*INTEGER_LITERAL.*single quotes.*lang is VARCHAR"),
    ("day > 5", "DATE .*day is DATE"),
    ("day = 'today-ish'", "day is DATE"),
    ("ok = 'perhaps'", "ok is BOOLEAN"),
    ("cast(lang as int) = 1", "'.*' to INT32.*lang is VARCHAR"),
    ("list_contains(tags, 5)", r"tags is VARCHAR\[\]"),
    ("year", "is DOUBLE, not true or false"),
    ("'x'", "the constant is a number or a text, not true or false"),
    ("not year", "year is DOUBLE, not true or false: compare it"),
    ("ok and not (lang = 'en' or year)", "year is DOUBLE, not true or false"),
    ("case when year then ok end", "year is DOUBLE, not true or false"),
    ('ok or "my col"', '"my col" is BIGINT, not true or false'),
    ("not 1", "the constant is a number or a text, not true or false: .* at character 5"),
    ("year - 2020", "expression at character 6 is DOUBLE, not true or false"),
    (
        "ok and not coalesce(year, 1)",
        r"expression at character (12|29) is DOUBLE, not true or false",
    ),
    ("ok or case when ok then lang end", "is VARCHAR, not true or false"),
    ("not len(tags)", "is BIGINT, not true or false"),
    # Values of several types, none of which is what they are compared with.
    (
        "author > 3",
        'author is JSON and holds objects and texts, but no number: write author."a/b~"',
    ),
    (
        "ok or author in (1, 2)",
        "author is JSON and holds objects and texts, but no num",
    ),
    (
        "author.name between 1 and 2",
        "author.name is JSON and holds texts, but no .* author.name = 't",
    ),
    ('author."a/b~" < 1', "holds lists, but no number: write json_extract_string"),
    ("author = true", "author is JSON"),
    ("not author", "author is JSON"),
    ("author.age", "holds numbers, but neither true nor false: write author.age > 0"),
    ("year.x = 1", "year is DOUBLE, so there is no x in it"),
    ("lang = en", "there is no column en; put a text in single quotes, 'en'"),
    ("lang in (en, de)", "put a text in single quotes, 'en'"),
    ("nothing = 'x'", "there is no column nothing; the columns are id"),
    ("author.nobody = 'x'", 'no nobody in author; the names are "a/b~", age, name'),
    ("author.nobody is null", "there is no nobody in author"),
    ("metadata.author.nam = 'x'", "no nam in author: did you mean name"),
    ("author.name.first = 'x'", "there is no first in author.name; its values have no names"),
    ("json_array_length(author.c) = 1", "there is no c in author"),
    ("mixed.k = 1", "there is no k in mixed; its values have no names"),
    ("author['name'] = 'x'", r"author is JSON and does not support \[...\]: write author.name"),
    ("author->'name' = 'x'", "-> is not allowed"),
    # Columns that there are not.
    (
        "yaer > 5",
        r"no column yaer: did you mean year\?; the columns are id, text, .* year DOUBLE, ",
    ),
    ('lang = "en"', "no column en; put a text in single quotes, 'en'"),
    ("WIDE = 1", 'WIDE may mean "Wide" and "wide"'),
    ("retr_position = 1", "there is no column retr_position"),
    # What is no SQL.
    ("", "is empty"),
    ("  \n", "is empty"),
    ("-- nothing", "it is empty|at its end"),
    ("year >", "syntax error"),
    ("é = 6 and year > > 1", "at character 1[78]: ' ?> 1'"),
    ("lang = 'en", "unterminated"),
    ("year > 1)", "at character 9"),
    ("year = 1\0", "NUL"),
    ("lang = '\ud800'", "surrogates"),
    ("lang = '" + "x" * 100_000 + "'", "at most 100,000 characters"),
    ("year > " + "(" * 40_000, "nested too deeply"),
    ("year > " + "1+" * 5_000 + "1", "deep"),
    ("[" * 800 + "]" * 800 + " = 1", "nested too deeply"),
]


@pytest.mark.parametrize(("condition", "why"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_is_no_condition(library: Any, condition: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as error:
        rows_where(library, condition)
    message = str(error.value)
    assert "\n" not in message
    assert "retr_" in condition or "retr_" not in message  # no names of our own
    assert len(message) < 1500
    assert ids(library, "year > 2020") == "b"  # the engine goes on


def test_the_engine_is_locked(tmp_path: Path) -> None:
    """What gets past the check would still find nothing to open."""
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    table = {"a": [1]}  # noqa: F841 - Python's variables are no tables
    frame = pa.table({"a": [1]})  # noqa: F841
    connection = filter_engine.shared_engine()._connection
    for sql in [
        f"SELECT * FROM read_csv('{secret}')",
        f"SELECT * FROM '{secret}'",
        f"SELECT * FROM read_text('{secret}')",
        f"SELECT * FROM glob('{tmp_path}/*')",
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        f"ATTACH '{tmp_path}/out.db'",
        f"EXPORT DATABASE '{tmp_path}/out'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM read_csv('https://example.org/x.csv')",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
        "RESET lock_configuration",
        "SELECT * FROM frame",
        "SELECT getenv('HOME')",
    ]:
        with connection.cursor() as cursor, pytest.raises(Exception) as error:
            cursor.execute(sql).fetchall()
        assert type(error.value).__module__ in ("_duckdb", "duckdb"), sql
    assert [p.name for p in tmp_path.iterdir()] == ["secret.csv"]


# --- an oracle in Python: three truths, values of several types

Truth = bool | None
Oracle = Callable[[Record], Truth]

NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**53 + 1, 2**53, -(2**62)]),
)
FLOATS = st.sampled_from([-1.5, 0.0, 0.5, 1.0, 2.5, 1e20, 1e-7])
TEXTS = st.sampled_from(["", "a", "ab", "b", "B", "é", "a%", "_b", "it's", "5"])
MIXED = st.one_of(st.integers(-3, 7), st.sampled_from(["5", "red", "", "-1", "it's"]), FLOATS)
COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "n": NUMBERS,
    "f": FLOATS,
    "t": TEXTS,
    "b": st.booleans(),
    "m": MIXED,
    "l": st.lists(TEXTS, max_size=3),
    "d": st.dates(dt.date(2019, 12, 30), dt.date(2020, 1, 3)),
}
# So that every column is there, and of its type, whatever is drawn.
ANCHORS: list[Record] = [
    {"n": 1, "f": 0.5, "t": "a", "b": True, "m": "red", "l": ["a"], "d": dt.date(2020, 1, 1)},
    {"m": 5, "f": 2},
]


def literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, dt.date):
        return f"date '{value}'"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def reading(value: Any, like: Any) -> Any:
    """Return a value of the mixed column as it is read beside a constant."""
    if value is None or isinstance(like, str):
        return None if value is None else str(value)
    try:
        return float(value)
    except ValueError:
        return None


def unread(value: Any, like: Any) -> Any:
    return value


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
}


def like(pattern: str, value: str) -> bool:
    parts = (".*" if c == "%" else "." if c == "_" else re.escape(c) for c in pattern)
    return re.fullmatch("".join(parts), value, re.DOTALL) is not None


@st.composite
def leaf(draw: st.DrawFn) -> tuple[str, Oracle]:
    name = draw(st.sampled_from(sorted(COLUMNS)))
    kind = draw(st.sampled_from(["compare", "null", "in", "between", "like", "list"]))
    if kind == "null":
        negated = draw(st.booleans())
        return f"{name} is {'not ' * negated}null", lambda r: (r.get(name) is None) != negated
    if name == "l" or kind == "list":
        item = draw(TEXTS)

        def contains(r: Record) -> Truth:
            return None if r.get("l") is None else item in r["l"]

        return f"list_contains(l, {literal(item)})", contains
    if name == "m":
        # Texts that only Python and DuckDB would have to spell alike are left out.
        constants = st.sampled_from(["5", "red", "-1", "it's"]) if draw(st.booleans()) else FLOATS
        value = reading
    else:
        constants = COLUMNS[name] if name != "f" else st.one_of(FLOATS, st.integers(-2, 2))
        value = unread
    if kind == "like" and name == "t":
        pattern = draw(st.sampled_from(["a%", "%b", "_", "%", "", "a_", "%'%"]))
        negated = draw(st.booleans())
        return (
            f"t {'not ' * negated}like {literal(pattern)}",
            lambda r: None if r.get("t") is None else like(pattern, r["t"]) != negated,
        )
    if kind == "in":
        several = draw(st.lists(constants, min_size=1, max_size=3))
        negated = draw(st.booleans())

        def within(r: Record) -> Truth:
            own = value(r.get(name), several[0])
            return None if own is None else (own in several) != negated

        listed = ", ".join(map(literal, several))
        return f"{name} {'not ' * negated}in ({listed})", within
    if kind == "between":
        low, high = draw(constants), draw(constants)

        def inside(r: Record) -> Truth:
            own = value(r.get(name), low)
            return None if own is None else bool(low <= own <= high)

        return f"{name} between {literal(low)} and {literal(high)}", inside
    operator = draw(st.sampled_from(sorted(COMPARE)))
    constant = draw(constants)

    def compared(r: Record) -> Truth:
        own = value(r.get(name), constant)
        return None if own is None else COMPARE[operator](own, constant)

    return f"{name} {operator} {literal(constant)}", compared


def both(one: tuple[str, Oracle], other: tuple[str, Oracle], word: str) -> tuple[str, Oracle]:
    ends = word == "or"  # what one side alone decides

    def oracle(r: Record) -> Truth:
        truths = (one[1](r), other[1](r))
        return ends if ends in truths else None if None in truths else not ends

    return f"({one[0]} {word} {other[0]})", oracle


def negate(part: tuple[str, Oracle]) -> tuple[str, Oracle]:
    def oracle(r: Record) -> Truth:
        truth = part[1](r)
        return None if truth is None else not truth

    return f"not ({part[0]})", oracle


CONDITIONS = st.recursive(
    leaf(),
    lambda inner: st.one_of(
        st.builds(both, inner, inner, st.sampled_from(["and", "or"])), st.builds(negate, inner)
    ),
    max_leaves=5,
)


@st.composite
def records(draw: st.DrawFn) -> list[list[Record]]:
    """Draw the metadata of some shards; in each a column may be missing, or of one type only."""
    shards = []
    for number in range(draw(st.integers(1, 4))):
        columns = draw(st.lists(st.sampled_from(sorted(COLUMNS)), unique=True))
        kinds = {
            name: draw(st.sampled_from([COLUMNS[name], st.integers(-3, 3)]))
            if name in ("f", "m")
            else COLUMNS[name]
            for name in columns
        }
        own = [
            {name: draw(st.one_of(st.none(), kind)) for name, kind in kinds.items()}
            for _ in range(draw(st.integers(1, 5)))
        ]
        shard = [ANCHORS[number], *own] if number < 2 else own
        if {type(r["m"]) for r in shard if r.get("m") is not None} == {int, float}:
            # A column of numbers is one of floats, and -1 becomes -1.0.
            shard = [
                {k: float(v) if k == "m" and v is not None else v for k, v in r.items()}
                for r in shard
            ]
        shards.append(shard)
    if len(shards) == 1:
        shards.append([ANCHORS[1]])
    return shards


@settings(max_examples=40, deadline=None)
@given(records(), st.lists(CONDITIONS, min_size=3, max_size=6), st.data())
def test_rows_are_those_of_the_oracle(
    shards: list[list[Record]], conditions: list[tuple[str, Oracle]], data: st.DataObject
) -> None:
    count = sum(map(len, shards))
    deleted = data.draw(st.lists(st.integers(0, count - 1), unique=True, max_size=4).map(sorted))
    with TemporaryDirectory() as folder:
        rows = [[row(f"d{i}", r) for i, r in enumerate(own)] for own in shards]
        snapshot = snapshot_of(Path(folder), rows)
        numbers = np.concatenate([segment.rows for segment in snapshot.documents])
        snapshot.deleted = numbers[deleted]
        everything = [r for own in shards for r in own]
        for condition, oracle in conditions:
            expected = [
                int(numbers[i])
                for i, record in enumerate(everything)
                if i not in deleted and oracle(record) is True
            ]
            assert rows_where(snapshot, condition).tolist() == expected, condition


# --- collections: generations, merges, threads, damage


def documents(ids_: range, kind: Callable[[int], Record]) -> list[Document]:
    return [Document(f"d{i}", f"text {i}", metadata=kind(i), vector=VECTORS[i % 4]) for i in ids_]


@pytest.fixture
def collection(tmp_path: Path) -> retr.Collection:
    made = retr.build(
        documents(range(50), lambda i: {"n": i, "m": i, "f": i, "tags": []}), tmp_path / "c.retr"
    )
    made.add(documents(range(50, 60), lambda i: {"n": i, "m": f"x{i}", "f": i / 4, "tags": ["a"]}))
    made.add(documents(range(60, 65), lambda i: {"m": {"k": i}, "f": None}))
    return made


def found(collection: retr.Collection, condition: str) -> list[str]:
    snapshot = collection._snapshot
    return snapshot.ids(rows_where(snapshot, condition))


def test_a_condition_means_the_same_after_every_merge(collection: retr.Collection) -> None:
    conditions = [
        "n >= 45 and f < 13",
        "m < 5",
        "m = 'x55' or m = '7'",
        "m.k = 62 or m is null",
        "list_contains(tags, 'a')",
        "len(tags) = 0",
        "tags is null",
        "id in ('d1', 'd63', 'd99')",
    ]
    collection.delete(["d1", "d55"])
    before = [found(collection, condition) for condition in conditions]
    assert before[0] == ["d50", "d51"]
    assert before[2] == ["d7"]
    assert before[3] == ["d62"]
    assert before[7] == ["d63"]
    collection.compact()
    assert len(collection._snapshot.documents) == 1
    assert [found(collection, condition) for condition in conditions] == before


def test_what_was_found_is_kept(
    collection: retr.Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    find = filter_engine.Engine.find

    def spy(self: Any, segment: DocumentSegment, condition: Any) -> Iterator[Any]:
        asked.append(segment.entry.id)
        return find(self, segment, condition)

    monkeypatch.setattr(filter_engine.Engine, "find", spy)
    snapshot = collection._snapshot
    first = rows_where(snapshot, "n > 40")
    assert asked == [s.entry.id for s in snapshot.documents]
    assert rows_where(snapshot, "n > 40") is first
    # A delete makes a generation, and no segment.
    collection.delete("d45")
    kept = {s.entry.id for s in snapshot.documents}
    asked.clear()
    assert "d45" not in found(collection, "n > 40")
    assert not kept & set(asked)
    # What depends on the clock is never kept.
    asked.clear()
    for _ in range(2):
        found(collection, "current_date > date '2020-01-01' and n > 40")
    assert len(asked) == 2 * len(collection._snapshot.documents)


def test_from_many_threads(collection: retr.Collection) -> None:
    conditions = [f"n > {i} and m <> '{i}' and id like 'd%'" for i in range(12)]
    expected = {c: found(collection, c) for c in conditions}
    fresh = retr.open(collection.path)
    wrong: list[str] = []

    def look(start: int) -> None:
        for i in range(len(conditions)):
            condition = conditions[(start + i) % len(conditions)]
            if found(fresh, condition) != expected[condition]:
                wrong.append(condition)

    threads = [threading.Thread(target=look, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_over_several_batches(tmp_path: Path) -> None:
    count = 2 * BATCH_ROWS + 100
    rows = [row(f"d{i}", {"n": i if i % 3 else None}, text=None) for i in range(count)]
    snapshot = snapshot_of(tmp_path, [rows], deleted=[BATCH_ROWS])
    expected = [i for i in range(count) if i % 3 and i % 7 == 2 and i != BATCH_ROWS]
    assert rows_where(snapshot, "n % 7 = 2").tolist() == expected


def test_damage_is_named_and_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    names = [f"name {i}" for i in range(40)]
    texts = [f"the text {'x' * i}" for i in range(40)]
    rows = [row(f"d{i}", {"n": i, "t": names[i]}, text=texts[i]) for i in range(40)]
    snapshot = snapshot_of(tmp_path, [rows])
    path = tmp_path / snapshot.documents[0].entry.data
    whole = path.read_bytes()

    def opened(data: bytes) -> Any:
        path.write_bytes(data)
        return Documents([DocumentSegment(tmp_path, snapshot.documents[0].entry)])

    def offsets(values: list[str]) -> bytes:
        return np.cumsum([0, *map(len, values)]).astype(np.int64).tobytes()

    for values, named, other in [(names, "t", "text"), (texts, "text", "t")]:
        good = offsets(values)
        assert whole.count(good) == 1
        for at, wrong in [(20, 2**40), (20, -1), (39, 0)]:
            bad = bytearray(good)
            bad[8 * at : 8 * at + 8] = wrong.to_bytes(8, "little", signed=True)
            spoiled = opened(whole.replace(good, bytes(bad)))
            with pytest.raises(DamagedError, match=re.escape(str(path))):
                rows_where(spoiled, f"{named} = 'x'")
            # The other columns are not looked at.
            assert len(rows_where(spoiled, f"{other} like '%t%' or n < 40")) == 40
    # A text that is none.
    spoiled = opened(whole.replace(b"name 7", b"name \xff"))
    with pytest.raises(DamagedError, match="is damaged"):
        rows_where(spoiled, "t = 'name 1'")
    assert len(rows_where(opened(whole), "t = 'name 7'")) == 1


def test_an_empty_collection_has_no_rows(tmp_path: Path) -> None:
    nothing: Any = Documents()
    assert rows_where(nothing, "id = 'x'").tolist() == []
    with pytest.raises(InputError, match="there is no column year; the columns are id, text, uri"):
        rows_where(nothing, "year > 1")


def test_duckdb_is_loaded_when_it_is_needed(monkeypatch: pytest.MonkeyPatch, library: Any) -> None:
    code = (
        "import json, sys, retr.retrieval.filters.rows; print(json.dumps('duckdb' in sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) is False
    monkeypatch.setattr(filter_engine, "_shared", None)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'retr\[filter\]'"):
        rows_where(library, "year > 1")
