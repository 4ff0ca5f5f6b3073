"""The map of the code: what it names is there, and every package says what it may import."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [
    file
    for top in ("benchmarks", "commands", "training", "retrieval", "indexes")
    for file in sorted((ROOT / top).rglob("__init__.py"))
]


def test_every_path_it_names_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    # `serve/` (to come): a room that is planned says so right behind its name.
    named = re.findall(r"`([\w/.-]+(?:\.\w+|/))`(?! \(to come\))", text)
    assert len(named) > 40
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("file", PACKAGES, ids=lambda file: str(file.parent.relative_to(ROOT)))
def test_a_package_says_what_it_holds_and_may_import(file: Path) -> None:
    about = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    assert re.search(r"May import|Imports nothing", about), about
