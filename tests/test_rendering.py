"""What is printed: harmless to the terminal, valid JSON, and no line wider than the screen."""

from __future__ import annotations

import json
import math
import unicodedata
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from retr.commands import console, hits, rendering
from retr.retrieval.results.results import Results
from retr.retrieval.values import shown
from retr.retrieval.values.errors import DamagedError, InputError, StorageError
from retr.retrieval.values.report import IngestReport, Skipped
from retr.retrieval.values.shown import one_line, plain, shorter_path
from retr.retrieval.values.types import Hit, Query

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=200)
NASTY = st.text(
    st.sampled_from(
        "\x00\x07\x1b[]m31;\x7f\x85\x9b\u202e\u2066\u2028\ufeff\udc80\U000e0041a 東e\u0301\n\t"
    ),
    max_size=60,
)
OVERRIDES = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def hit(id: str = "a", text: str | None = None, **more: Any) -> Hit:
    fields = {"score": 0.5, "uri": None, "place": None, "metadata": {}, "row": 0} | more
    return Hit(id=id, text=text, **fields)


# --- texts on a terminal


@given(ANY_TEXT | NASTY)
def test_a_terminal_obeys_nothing_in_a_text(text: str) -> None:
    shown = plain(text)
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert not set(shown) & OVERRIDES
    shown.encode()  # without surrogates it can be written


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs", "M"))))
def test_a_harmless_text_is_shown_as_it_is(text: str) -> None:
    assert plain(text) == text


@given(ANY_TEXT, st.sampled_from(["ascii", "latin-1", "cp1252", "utf-8"]))
def test_a_text_fits_the_encoding_of_the_terminal(text: str, encoding: str) -> None:
    plain(text, encoding).encode(encoding)


@given(ANY_TEXT | NASTY)
def test_an_error_is_one_line(text: str) -> None:
    assert len(one_line(text).splitlines()) <= 1


# --- JSON

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | NASTY,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(), values, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=5), st.sampled_from(["utf-8", "ascii"]))
def test_a_json_line_holds_the_value_and_no_control_character(
    values: dict[str, Any], encoding: str
) -> None:
    line = console.json_line(values, encoding)
    assert json.loads(line) == values
    assert not {unicodedata.category(char) for char in line} & {"Cc", "Zl", "Zp"}
    assert not set(line) & OVERRIDES
    if encoding == "ascii":
        line.encode("ascii")


def test_a_json_line_has_plain_values_for_what_json_lacks() -> None:
    values = {
        "nan": math.nan,
        "deep": [{"inf": -math.inf, "two": 2.5}],
        "day": date(2024, 2, 29),
        "time": datetime(2024, 1, 2, 3, 4, tzinfo=UTC),
        "bytes": b"\x00\xff",
        "path": Path("a/b"),
    }
    assert json.loads(console.json_line(values)) == {
        "nan": None,
        "deep": [{"inf": None, "two": 2.5}],
        "day": "2024-02-29",
        "time": "2024-01-02T03:04:00+00:00",
        "bytes": "AP8=",
        "path": "a/b",
    }


def test_a_hit_is_written_with_its_rank_and_every_digit_of_its_score() -> None:
    results = Results(Query("q", id="q7"), [hit("a", score=0.1 + 0.2), hit("b", "t", row=4)], 1)
    records = [json.loads(console.json_line(r)) for r in hits.hit_records(results)]
    assert records == [
        {"query": "q7", "rank": 1, "id": "a", "score": 0.1 + 0.2, "metadata": {}, "row": 0},
        {"query": "q7", "rank": 2, "id": "b", "score": 0.5, "text": "t", "metadata": {}, "row": 4},
    ]


# --- the table


def printed(capsys: pytest.CaptureFixture[str], results: Results) -> list[str]:
    hits.print_hits(results)
    return capsys.readouterr().out.splitlines()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=300)
    | st.lists(st.sampled_from(["東京大学", "e\u0301a", "👩‍👩‍👧", "x" * 70, "delete"])).map(
        " ".join
    ),
    NASTY,
    st.sampled_from([40, 60, 80, 120, 200]),
)
def test_no_line_is_wider_than_the_terminal(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    id: str,
    width: int,
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    results = Results(Query("delete 東京 e\u0301a"), [hit(id, text, place="lines 1-2")] * 11, 1)
    lines = printed(capsys, results)
    assert max(map(cell_len, lines)) <= width
    assert "11  0.5000" in "\n".join(lines)


def test_the_table_says_where_a_hit_is_and_shows_its_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.chdir(tmp_path)
    uri = str(tmp_path / "docs" / "guide.md")
    text = "filler " * 100 + "to delete a document name its id " + "filler " * 100
    lines = printed(
        capsys,
        Results(
            Query("delete document"),
            [hit("docs/guide.md", text, uri=uri, place="lines 3-9", score=0.91234)],
            1,
        ),
    )
    assert lines[0] == "1  0.9123  docs/guide.md  lines 3-9"
    assert "delete a document" in " ".join(line.strip() for line in lines[1:])
    assert all(line.startswith(" " * 11) for line in lines[1:])
    assert len(lines) <= 5


def test_markup_and_emoji_names_in_a_text_are_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = "[bold]not bold[/bold] :smile: [/] [link=file:///x]y[/link] \\[z]"
    lines = printed(capsys, Results(Query("q"), [hit("[red]id", text)], 1))
    assert lines == ["1  0.5000  [red]id", "           " + text]


def test_a_record_shows_its_id_and_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert hits.where(hit("d1", uri=str(tmp_path / "a.jsonl"))) == "d1  a.jsonl"
    assert hits.where(hit("d1")) == "d1"
    assert hits.where(hit("x/a.md", uri="/other/x/a.md")) == "/other/x/a.md"
    assert hits.where(hit("http://h/a", uri="http://h/a")) == "http://h/a"


def test_a_path_is_relative_where_that_is_shorter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert shorter_path(str(tmp_path / "f")) == "../../f"
    assert shorter_path("/f") == "/f"
    inside.rmdir()
    assert shorter_path(str(tmp_path / "f")) == str(tmp_path / "f")


def test_several_queries_are_counted_together(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    answers = [Results(Query("one", id="q1"), [hit()], 1), Results(Query("two", id="q2"), [], 1)]
    hits.print_results(iter(answers), 1234, table=True, quiet=False)
    out = capsys.readouterr().out.splitlines()
    assert out[:3] == ["q1  one", "1  0.5000  a", "q2  two"]
    assert out[3].startswith("2 queries, 1 of 1,234 documents in ")
    hits.print_results(iter(answers), 1234, table=True, quiet=False, passages=True)
    assert " of 1,234 passages in " in capsys.readouterr().out


def test_no_hits_are_said_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    for table in (True, False):
        hits.print_results([Results(Query("q"), [], 1)], 0, table=table, quiet=False)
        assert capsys.readouterr() == ("", "no hits\n")
    hits.print_results([Results(Query("q"), [], 1)], 0, table=False, quiet=True)
    assert capsys.readouterr() == ("", "")


# --- reports


def test_the_first_things_skipped_are_listed_and_the_rest_counted() -> None:
    skips = [Skipped(f"f{i}\x1b", "broken\nfile") for i in range(12)]
    report = IngestReport(added=1, skipped=1012, skips=skips)
    lines = list(rendering.skips_lines(report, listed=False))
    assert lines[0] == "skipped: 1,012"
    assert lines[1] == "  f0␛: broken file"
    assert len(lines) == 12
    assert lines[-1] == "  and 1,002 more: see them with --verbose"
    assert list(rendering.skips_lines(report, listed=True)) == lines[:1]
    assert list(rendering.skips_lines(IngestReport(), listed=False)) == []


def test_the_next_command_can_be_typed_as_it_stands() -> None:
    assert rendering.next_command(".retr", ".retr") == 'retr search "…"'
    assert rendering.next_command("my docs.retr", ".retr") == (
        "retr search \"…\" --index 'my docs.retr'"
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (35614, "35.6 kB"), (999_949, "1 MB"),
     (3_237_022, "3.24 MB"), (10**15, "1e+03 TB")],
)  # fmt: skip
def test_sizes(count: int, text: str) -> None:
    assert shown.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1 ms"), (0.0124, "12 ms"), (0.99949, "999 ms"), (0.9996, "1 s"), (3.44, "3.4 s"),
     (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"),
     (7260, "2 h 01 min")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert shown.duration(seconds) == text


# --- how a command ends


def test_an_error_of_the_users_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command() -> int:
        console.write("before")
        raise InputError("two\nlines\x1b[2J")

    assert console.exit_code(command) == 2
    assert capsys.readouterr() == ("before\n", "error: two lines␛[2J\n")


def test_an_interrupt_is_one_line_and_exit_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise KeyboardInterrupt

    assert console.exit_code(command) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("error", [ZeroDivisionError, BrokenPipeError, OSError, AssertionError])
def test_what_is_not_the_users_keeps_its_traceback(error: type[Exception]) -> None:
    def command() -> int:
        raise error

    with pytest.raises(error):
        console.exit_code(command)


@pytest.mark.parametrize("error", [StorageError, DamagedError])
def test_every_retr_error_is_the_users(error: type[Exception]) -> None:
    def command() -> int:
        raise error("what and where")

    assert console.exit_code(command) == 2


def test_quiet_and_verbose_contradict() -> None:
    with pytest.raises(InputError, match="--quiet and --verbose"):
        console.listen(quiet=True, verbose=True)
