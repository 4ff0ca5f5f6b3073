"""The figures of the README and the docs are those of the kept results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retr.benchmarks import figures
from retr.retrieval.values.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
assert RESULTS


@pytest.fixture(autouse=True)
def the_checkout(monkeypatch) -> None:
    """Read the pages and results of the checkout: an installed package has none."""
    monkeypatch.setattr(figures, "ROOT", ROOT)
    monkeypatch.setattr(figures, "RESULTS", ROOT / "benchmarks" / "results")


def test_no_figure_is_stale() -> None:
    seen = 0
    for page, text in figures.derived():
        assert page.read_text("utf-8") == text, f"{page}: run python -m retr.benchmarks.figures"
        seen += text.count("<!-- =") // 2
    assert seen > 0


def test_every_figure_is_used() -> None:
    text = "".join(page.read_text("utf-8") for page in figures.pages())
    assert [name for name in figures.FIGURES if f"<!-- ={name} -->" not in text] == []


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_says_what_it_was_measured_with(path) -> None:
    result = json.loads(path.read_bytes())
    assert result["study"]
    environments = list(_environments(result))
    assert environments
    for environment in environments:
        assert environment["packages"] and environment["processor"]
        # What was measured before results carried their commit says in which one it was kept.
        assert environment["commit"] or environment["recorded_in"]
        assert not environment.get("dirty")


def _environments(value):
    if isinstance(value, dict):
        if "processor" in value:
            yield value
        else:
            for each in value.values():
                yield from _environments(each)
    elif isinstance(value, list):
        for each in value:
            yield from _environments(each)


def test_a_figure_of_no_name_is_refused() -> None:
    with pytest.raises(InputError, match=r"no figure 'nothing\.of'"):
        figures.with_figures("a <!-- =nothing.of -->1<!-- = --> b")
    with pytest.raises(InputError, match="not closed"):
        figures.with_figures("a <!-- =nothing.of -->1 b")


def test_without_a_clone_it_says_so(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    with pytest.raises(SystemExit) as stop:
        figures.main(["--check"])
    assert stop.value.code == 2
    assert "in a clone" in capsys.readouterr().err
