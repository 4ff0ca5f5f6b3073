"""The spec grammar: what prints parses back, and what does not parse says where."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retr.indexes import IndexSpec, SpecError, kind, kinds

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
words = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,8}", fullmatch=True).filter(
    lambda word: word not in ("true", "false")
)
values = st.one_of(
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    words,
)
dims = st.sets(st.integers(1, 2**31 - 1), max_size=5).map(lambda chosen: tuple(sorted(chosen)))
specs = st.builds(
    IndexSpec, names, dims, st.dictionaries(names, values, max_size=4).map(lambda d: [*d.items()])
)


def typed(spec: IndexSpec) -> list[tuple[str, type, str]]:
    return [(name, type(value), repr(value)) for name, value in spec.params]


@given(specs)
def test_what_prints_parses_back_with_its_types(spec: IndexSpec) -> None:
    parsed = IndexSpec.parse(str(spec))
    assert parsed == spec
    assert hash(parsed) == hash(spec)
    assert (parsed.kind, parsed.dims) == (spec.kind, spec.dims)
    assert typed(parsed) == typed(spec)


@given(specs)
def test_what_parses_prints_the_same(spec: IndexSpec) -> None:
    text = str(spec)
    assert str(IndexSpec.parse(text)) == text
    assert not set(text) & set(" \t\n'\"`$&|;<>*?!#\\{}[]~")


@given(st.text(alphabet="aflt@/(),=0123456789.-+eE_ \n٣é", max_size=20))
def test_any_text_parses_to_a_spec_that_prints_and_parses_or_is_refused(text: str) -> None:
    try:
        spec = IndexSpec.parse(text)
    except SpecError as error:
        assert repr(text) in str(error)
        assert "\n" not in str(error)
    else:
        assert IndexSpec.parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "kind_", "dims_", "params"),
    [
        ("flat", "flat", (), ()),
        ("flat@64", "flat", (64,), ()),
        ("ivfpq@128/256", "ivfpq", (128, 256), ()),
        ("hnsw(m=32)", "hnsw", (), (("m", 32),)),
        (
            "ivfpq@64(rotate=true,codes=PQ96x4fs,keep=0.5,seed=-1)",
            "ivfpq",
            (64,),
            (("codes", "PQ96x4fs"), ("keep", 0.5), ("rotate", True), ("seed", -1)),
        ),
        ("x(a=1e3)", "x", (), (("a", 1000.0),)),
    ],
)
def test_examples_of_the_grammar(
    text: str, kind_: str, dims_: tuple[int, ...], params: tuple[tuple[str, object], ...]
) -> None:
    spec = IndexSpec.parse(text)
    assert (spec.kind, spec.dims, spec.params) == (kind_, dims_, params)
    assert [type(value) for _, value in spec.params] == [type(value) for _, value in params]


@pytest.mark.parametrize(
    ("text", "character", "what"),
    [
        ("", 1, "a kind"),
        ("Flat", 1, "a kind"),
        ("@64", 1, "a kind"),
        ("flat ", 5, "the end"),
        ("flat@", 6, "a number of dimensions"),
        ("flat@0", 6, "not 0"),
        ("flat@-1", 6, "a number of dimensions"),
        ("flat@64/", 9, "a number of dimensions"),
        ("flat@64/64", 9, "64 follows 64"),
        ("flat@256/128", 10, "128 follows 256"),
        ("flat@99999999999", 6, "99999999999"),
        ("flat@64@128", 8, "the end"),
        ("flat@٣", 6, "a number of dimensions"),
        ("hnsw(", 6, "the name of a parameter"),
        ("hnsw()", 6, "the name of a parameter"),
        ("hnsw(m)", 7, "'='"),
        ("hnsw(m=)", 8, "''"),
        ("hnsw(m=1", 9, "',' or ')'"),
        ("hnsw(m=1)x", 10, "the end"),
        ("hnsw(m=1,m=2)", 10, "m is given twice"),
        ("hnsw(m=01)", 8, "'01'"),
        ("hnsw(m=+1)", 8, "'+1'"),
        ("hnsw(m=.5)", 8, "'.5'"),
        ("hnsw(m=nan!)", 8, "'nan!'"),
        ("hnsw(m=1e999)", 8, "'1e999'"),
        ("hnsw(m=9223372036854775808)", 8, "63 bits"),
        ("hnsw(m=" + "9" * 5000 + ")", 8, "63 bits"),
        ("hnsw(m=1)@64", 10, "the end"),
    ],
)
def test_errors_name_the_text_and_the_character(text: str, character: int, what: str) -> None:
    with pytest.raises(SpecError) as caught:
        IndexSpec.parse(text)
    assert str(caught.value).startswith(f"index spec {text!r}, character {character}: ")
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("kind_", "dims_", "params"),
    [
        ("", (), ()),
        ("a b", (), ()),
        ("flat", (0,), ()),
        ("flat", (64, 64), ()),
        ("flat", (True,), ()),
        ("flat", (1.5,), ()),
        ("flat", (2**31,), ()),
        ("flat", (), (("m", float("nan")),)),
        ("flat", (), (("m", float("inf")),)),
        ("flat", (), (("m", 2**63),)),
        ("flat", (), (("m", "true"),)),
        ("flat", (), (("m", "1"),)),
        ("flat", (), (("m", "a,b"),)),
        ("flat", (), (("m", None),)),
        ("flat", (), (("M", 1),)),
        ("flat", (), (("m", 1), ("m", 2))),
    ],
)
def test_a_spec_that_could_not_print_cannot_be_made(
    kind_: str, dims_: object, params: object
) -> None:
    with pytest.raises(SpecError):
        IndexSpec(kind_, dims_, params)  # type: ignore[arg-type]


def test_specs_are_values_whose_parameters_have_no_order() -> None:
    spec = IndexSpec.parse("hnsw(b=1,a=2)")
    assert spec == IndexSpec("hnsw", params={"a": 2, "b": 1})  # type: ignore[arg-type]
    assert str(spec) == "hnsw(a=2,b=1)"
    assert (spec.get("a"), spec.get("c"), spec.get("c", 7)) == (2, None, 7)
    different = [IndexSpec("x", params=(("a", value),)) for value in (1, 1.0, True)]
    assert len(set(different)) == 3
    with pytest.raises(AttributeError):
        spec.kind = "flat"  # type: ignore[misc]


def test_an_unknown_kind_is_answered_with_those_there_are() -> None:
    for name in ("nosuch", "base", "exact", "_faiss", "", "../flat", "spec"):
        with pytest.raises(SpecError, match="flat"):
            kind(name)


def test_every_kind_is_the_name_of_its_file() -> None:
    assert "flat" in kinds()
    assert kinds() == sorted(set(kinds()))
    for name in kinds():
        assert kind(name).kind == name
        assert kind(name).__module__ == f"retr.indexes.kinds.{name}"
        assert str(IndexSpec.parse(name)) == name


def test_parsing_a_spec_imports_nothing_heavy() -> None:
    code = (
        "import sys; from retr.indexes import IndexSpec; IndexSpec.parse('flat@64');"
        "print([m for m in ('numpy', 'faiss', 'pyarrow') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_listing_the_kinds_imports_no_index_library() -> None:
    code = "import sys, retr.indexes as i; i.kinds(); print('faiss' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
