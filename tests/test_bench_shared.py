"""What all benchmarks share: files that are whole, tables, plots, the environment, the frame."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retr.benchmarks import environment, page, study
from retr.benchmarks.files import json_text, whole, write_json
from retr.benchmarks.plot import Axis, Bar, Bars, Line, Panel, Reference, Scale, draw, draw_bars
from retr.benchmarks.tables import Table, number, spread
from retr.retrieval.values.errors import InputError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    max_leaves=60,
)


@given(VALUES)
def test_json_is_read_back_as_it_was(value):
    assert json.loads(json_text(value)) == value


def test_long_lists_fill_lines_and_small_things_stand_on_one():
    value = {"times": [1.25] * 60, "settings": {"m": 16, "ef": [10, 20]}, "none": []}
    lines = json_text(value).splitlines()
    assert max(map(len, lines)) <= 100
    assert ' "settings": {"m": 16, "ef": [10, 20]},' in lines
    assert len(lines) < 12, "times are not one a line"


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "new" / "result.json"
    write_json({"a": 1}, path)
    with pytest.raises(RuntimeError), whole(path) as part:
        part.write_text("half of it")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(path.parent.iterdir()) == [path]


TABLE = Table(
    ["system", "µs", "note", "ratio"],
    [["ours | x", "1,234 (12 to 15)", "", "0.5"], ["mean", "–", "a text", "+1.25 [1.0, 1.5]"]],
    "Speed",
    ["See https://example.org/a?b=1&c=2."],
    frozenset({1}),
)


def test_a_table_is_printed_in_three_ways():
    assert TABLE.text().splitlines() == [
        "Speed",
        "system                  µs  note               ratio",
        "ours | x  1,234 (12 to 15)                       0.5",
        "mean                     –  a text  +1.25 [1.0, 1.5]",
        "See https://example.org/a?b=1&c=2.",
    ]
    assert TABLE.markdown().splitlines()[2:6] == [
        "| system | µs | note | ratio |",
        "| --- | ---: | --- | ---: |",
        r"| ours \| x | 1,234 (12 to 15) |  | 0.5 |",
        "| **mean** | **–** | **a text** | **+1.25 [1.0, 1.5]** |",
    ]
    html = TABLE.html()
    assert '<tr class="strong"><td>mean</td><td class="n">–</td>' in html
    assert '<a href="https://example.org/a?b=1&amp;c=2">' in html


def test_a_row_of_another_length_is_an_error():
    with pytest.raises(ValueError, match="2 headings"):
        Table(["a", "b"], [["1"]])


def test_numbers_are_printed():
    assert [number(1234.5, 1), number(None), number(0.5, 2, signed=True)] == [
        "1,234.5",
        "",
        "+0.50",
    ]
    assert spread([3.0, 1.0, 2.0], 1) == "2.0 (1.0 to 3.0)"


def test_blocks_are_rendered_in_three_ways():
    blocks = [
        page.Heading("Title <1>", 1),
        page.Text("It is so."),
        page.Text("retr bench", code=True),
        page.Figure("<svg></svg>", "a.svg", "a plot"),
        page.Figure("<svg></svg>"),
        TABLE,
    ]
    markdown = page.markdown_of(blocks)
    assert markdown.startswith("# Title <1>\n\nIt is so.\n\n    retr bench\n\n![a plot](a.svg)\n")
    assert TABLE.markdown() in markdown
    assert TABLE.text() in page.text_of(blocks)
    html = page.html_of(blocks)
    assert "<title>Title &lt;1&gt;</title>" in html
    assert html.count("<svg>") == 2


def tags(svg: str, name: str) -> list[dict[str, str]]:
    """Return the attributes of the elements of a name; the element has to be well-formed."""
    root = ElementTree.fromstring(svg)
    return [each.attrib for each in root.iter("{http://www.w3.org/2000/svg}" + name)]


@pytest.mark.parametrize("scale", list(Scale))
def test_a_curve_stands_where_its_values_are(scale):
    lines = [Line("one", [(0.5, 1), (0.9, 10), (0.99, 100)]), Line("two", [(0.7, 5)])]
    svg = draw([Panel(lines, Axis("recall", scale), Axis("µs", Scale.LOG), title="t & <t>")])
    [curve] = tags(svg, "polyline")
    places = [tuple(map(float, each.split(","))) for each in curve["points"].split()]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    # Tenfold twice: the same distance on a logarithmic axis.
    assert places[0][1] - places[1][1] == pytest.approx(places[1][1] - places[2][1], abs=0.2)
    first, second = (places[n + 1][0] - places[n][0] for n in (0, 1))
    wanted = {"linear": 0.4 / 0.09, "log": 6.167, "nines": 0.699}[scale]
    assert first / second == pytest.approx(wanted, rel=0.02)


def test_ticks_are_round_and_inside():
    svg = draw([Panel([Line("a", [(0, 0.513), (100, 0.697)])], Axis(), Axis())], legend=False)
    texts = re.findall(r">([\d.,]+)</text>", svg)
    assert texts == ["0.50", "0.55", "0.60", "0.65", "0.70", "0", "20", "40", "60", "80", "100"]


def test_what_has_no_place_on_a_logarithmic_axis_is_an_error():
    with pytest.raises(ValueError, match="µs"):
        draw([Panel([Line("a", [(0, 0), (1, 2)])], y=Axis("µs", Scale.LOG))])


def test_panels_share_colours_and_a_legend():
    def panel(*names: str) -> Panel:
        lines = [Line(name, [(0, 1), (1, 2)], band=[(0, 2), (1, 3)]) for name in names]
        return Panel(lines, references=[Reference(1.5, "b")])

    svg = draw([panel("a", "b"), panel("b")], title="both")
    strokes = [each["stroke"] for each in tags(svg, "polyline")]
    assert strokes[1] == strokes[2] != strokes[0]
    dashed = [each["stroke"] for each in tags(svg, "line") if "stroke-dasharray" in each]
    assert dashed == [strokes[1]] * 2, "a reference has the colour of its line"
    assert svg.count(">b</text>") == 1 + 2


def test_bars_begin_at_zero_and_are_as_long_as_their_values():
    svg = draw_bars([Bars("set", [Bar("a", 0.4, 0.3, 0.5), Bar("b", 0.2)])], mark="published")
    first, second = (each for each in tags(svg, "rect") if "height" in each and "x" in each)
    assert first["x"] == second["x"]
    assert float(first["width"]) == pytest.approx(2 * float(second["width"]), abs=0.2)


def test_the_environment_says_which_code_was_measured():
    described = environment.describe()
    assert json.loads(json.dumps(described)) == described
    root = Path(environment.__file__).resolve().parents[1]
    if (root / ".git").exists():
        head = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert described["commit"] == head.stdout.strip()
        assert isinstance(described["dirty"], bool)
    else:
        assert (described["commit"], described["dirty"]) == (None, None)
    assert str(described["commit"]) in environment.line(described) or not described["commit"]
    old = {**described, "commit": None, "recorded_in": "abc123"}
    assert "recorded in abc123" in environment.line(old)


def toy() -> study.Study:
    def measure(given) -> dict:
        if given.rows < 0:
            raise InputError("rows is below 0")
        return {"rows": given.rows, "times": [1.0, 2.0]}

    def tables(result) -> list[Table]:
        return [Table(["rows", "s"], [[str(result["rows"]), spread(result["times"])]])]

    def arguments(parser) -> None:
        parser.add_argument("rows", type=int)

    return study.Study("studies.toy", "What it is.\n\nMore.", arguments, measure, tables)


def test_a_study_keeps_its_result_and_shows_it_again(tmp_path, capsys):
    kept = tmp_path / "toy.json"
    toy().main(["7", "--out", str(kept)])
    printed = capsys.readouterr().out
    assert "7     2 (1 to 2)" in printed
    result = study.read(kept)
    assert (result["study"], result["rows"], result["times"]) == ("studies.toy", 7, [1.0, 2.0])
    assert result["environment"]["retr"]
    toy().main(["--show", str(kept)])
    assert capsys.readouterr().out == printed
    assert study.markdown_of(toy(), result).startswith("| rows | s |")


def test_what_a_study_cannot_use_is_one_line(tmp_path, capsys):
    for argv in (["-1"], ["--show", str(tmp_path / "none.json")]):
        with pytest.raises(SystemExit) as ended:
            toy().main(argv)
        assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert "none.json: cannot be read" in errors
    with pytest.raises(InputError, match="no study"):
        study.study_of({"study": "studies.toy"})
