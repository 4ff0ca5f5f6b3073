"""The code in docs/evaluation.md runs, and the defaults are those that it names."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from retr.retrieval.evaluation import compare, evaluate, read_run
from retr.retrieval.evaluation.trec import MAX_GRADE

DOC = Path(__file__).parents[1] / "docs" / "evaluation.md"


def test_the_example_runs(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    assert len(blocks) == 1
    names: dict[str, object] = {}
    exec(blocks[0], names)
    assert read_run(tmp_path / "dense.run.gz") == names["dense"]
    printed = capsys.readouterr().out
    assert "bm25" in printed
    assert "win/loss/tie" in printed


def test_the_defaults_are_as_documented() -> None:
    text = " ".join(DOC.read_text().split())
    assert inspect.signature(evaluate).parameters["absent"].default == "zero"
    options = inspect.signature(compare).parameters
    assert f"{options['resamples'].default:,} resamples" in text
    assert f"{options['confidence'].default * 100:g} % by default" in text
    assert f"{MAX_GRADE:,}" in text
