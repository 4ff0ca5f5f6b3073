"""Splitting into passages: nothing lost, places that are right, time that grows with the text."""

import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retr.retrieval.text.passages import KINDS, SIZE, Passage, split
from retr.retrieval.values.errors import InputError

LINES = ("text", "code", "markdown")

# What documents are made of, so that every kind finds the breaks it looks for.
PIECES = st.sampled_from(
    [
        "word", "another", " ", "  ", "\n", "\n\n", "\n\n\n", "\t", "    ", ". ", "é", "漢字", "😀",
        "\n# Heading\n", "\n## Sub heading\n\n", "\n### A third\n", "\n# \n", "#", "# # # ",
        "\n- item\n", "\n```\n", "\n    code\n", "\f", "|", "a" * 60, "\r\n", "\u2028", "\x0b",
        "def f(x):\n    return x\n", "*emphasis*", "[link](https://example.org/a)", "\ud800",
    ]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=80).map("".join)
SIZES = st.sampled_from([1, 5, 20, 60, 200, SIZE])


def letters(text: str) -> str:
    return re.sub(r"\s+", "", text.encode("utf-8", "replace").decode())


@settings(max_examples=300)
@given(TEXTS, st.sampled_from(KINDS), SIZES)
def test_nothing_but_white_space_is_lost(text: str, kind: str, size: int) -> None:
    passages = split(text, kind, size)
    assert letters("".join(p.text for p in passages)) == letters(text)
    for passage in passages:
        assert passage.text.strip()
        assert len(passage.text) <= size
        assert passage.text == passage.text.rstrip()
        passage.text.encode()


@settings(max_examples=300)
@given(TEXTS.filter(lambda t: not re.search("[\r\f\v\u2028\ud800]", t)), SIZES)
@pytest.mark.parametrize("kind", LINES)
def test_lines_are_those_of_the_text(kind: str, text: str, size: int) -> None:
    passages = split(text, kind, size)
    if len(passages) == 1:
        assert passages[0].place is None
        return
    lines = text.splitlines()
    last_before = 1
    for passage in passages:
        assert passage.place is not None
        match = re.fullmatch(r"line (\d+)|lines (\d+)-(\d+)", passage.place)
        assert match is not None
        first = int(match[1] or match[2])
        last = int(match[1] or match[3])
        assert last_before <= first <= last
        last_before = last
        inside = passage.text.splitlines()
        there = lines[first - 1 : last]
        assert len(inside) == len(there)
        if first == last:
            assert inside[0] in there[0]
        else:
            assert there[0].endswith(inside[0])
            assert there[1:-1] == inside[1:-1]
            assert there[-1].startswith(inside[-1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", " ", "\n\n\t\n", "\f\f", "\u2003\u00a0"])
def test_white_space_has_no_passages(text: str, kind: str) -> None:
    assert split(text, kind) == []


@given(TEXTS)
def test_no_kind_keeps_the_text_as_it_is(text: str) -> None:
    assert split(text, None) == [Passage(text, None)]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "captions"])
def test_a_text_that_fits_is_one_passage_without_a_place(kind: str) -> None:
    assert split("\n\n  A short text.\n\nOf two paragraphs.  \n", kind) == [
        Passage("  A short text.\n\nOf two paragraphs.", None)
    ]
    assert [p.place for p in split("# A title\n\nand a text", kind)] == [None]


def test_captions_are_a_passage_each() -> None:
    assert split(" a dog \n\na cat\r\n", "captions") == [
        Passage("a dog", None),
        Passage("a cat", None),
    ]


def test_paragraphs_and_indentation_stay_whole() -> None:
    code = "import this\n\n\ndef first():\n    return 1\n\n\n    def second():\n        return 2\n"
    assert split(code, "code", 36) == [
        Passage("import this", "line 1"),
        Passage("def first():\n    return 1", "lines 4-5"),
        Passage("    def second():\n        return 2", "lines 8-9"),
    ]


def test_markdown_is_cut_at_sections_and_headings_stay_with_their_text() -> None:
    text = "# Guide\n\n## Install\n\nRun the installer now.\n\n## Use\n\nCall it by its name.\n"
    assert split(text, "markdown", 50) == [
        Passage("# Guide\n\n## Install\n\nRun the installer now.", "lines 1-5"),
        Passage("## Use\n\nCall it by its name.", "lines 7-9"),
    ]


def test_sections_are_named_by_the_heading_above() -> None:
    long = "word " * 30
    text = f"Before all.\n\n{long}\n\n# Install\n\n{long}\n\n    # note\n\n## Use it ##\n\n{long}"
    assert [p.place for p in split(text, "html", 180)] == [
        "passage 1",
        'section "Install"',
        'section "Use it"',
    ]
    place = split(f"# {'long ' * 40}\n\n{long}\n\n{long}", "html", 300)[0].place
    assert place is not None and len(place) < 100 and place.endswith('…"')


def test_pages_are_numbered_and_never_run_together() -> None:
    text = "First page.\f\fThird page, " + "which is long " * 10 + "\fFourth."
    passages = split(text, "pages", 80)
    assert [p.place for p in passages] == ["page 1", "page 3", "page 3", "page 4"]
    assert split("\f\fOnly here.\f", "pages") == [Passage("Only here.", "page 3")]
    assert split("Only here.", "pages") == [Passage("Only here.", None)]


def test_small_cells_go_together() -> None:
    cells = ["# Title", "import numpy", "", "x = 1\n" * 30, "print(x)", "print(y)"]
    passages = split("\f".join(cells), "cells", 100)
    assert [p.place for p in passages] == ["cells 1-2", "cell 4", "cell 4", "cells 5-6"]
    assert passages[0].text == "# Title\n\nimport numpy"


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="passage size 0"):
        split("text", "text", 0)
    with pytest.raises(ValueError, match="there is no kind of text 'prose'"):
        split("text", "prose")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("text", "a" * 3_000_000),
        ("markdown", "word " * 600_000),
        ("html", "# # # # " * 100_000 + "x"),
        ("code", "2024-01-01 INFO something happened\n" * 200_000),
        ("pages", "\f" * 1_000_000),
        ("cells", "x\f" * 300_000),
    ],
)
def test_long_texts_end(kind: str, text: str) -> None:
    # Cut by the splitter alone, each of the first two takes more than a minute.
    passages = split(text, kind)
    assert sum(len(letters(p.text)) for p in passages) == len(letters(text))


def test_the_splitter_is_imported_only_where_it_cuts() -> None:
    code = (
        "import sys; from retr.retrieval.text.passages import split; split('text', None);"
        "sys.exit('semantic_text_splitter' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
