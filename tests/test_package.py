"""The package as it is installed: what importing it costs, and what it does not collide with."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import retr

HEAVY = ("numpy", "faiss", "pyarrow", "torch", "tokenizers", "rich", "sentence_transformers")


def python(code: str, cwd: Path) -> str:
    # -P: the working directory is not on the path unless the code puts it there.
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_beside_decoys(tmp_path: Path) -> None:
    for folder in ("indexes", "benchmarks", "commands", "retrieval", "tests", "training"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("raise RuntimeError('the decoy')")
    (tmp_path / "cli.py").write_text("raise RuntimeError('the decoy')")
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "import retr, retr.indexes.base, retr.retrieval.collection, retr.benchmarks\n"
        "c = retr.build([{'id': 'a', 'text': 'a bee on a flower'}], 'x.retr')\n"
        "print(c.search('bee')[0].id)"
    )
    assert python(code, tmp_path).strip() == "a"


@pytest.mark.parametrize(
    "path", ["evaluation.evaluate", "encoders.resolve", "images.open_image", "sources.open_source"]
)
def test_import_paths_of_before_keep_working(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert callable(getattr(importlib.import_module(f"retr.retrieval.{module}"), name))


def test_nothing_generic_is_installed() -> None:
    code = (
        "import importlib.util as u, json\n"
        "names = 'indexes benchmarks commands retrieval training cli tests'.split()\n"
        "print(json.dumps([n for n in names if u.find_spec(n)]))"
    )
    root = Path(retr.__file__).resolve().parent
    if root.name != "retr":
        pytest.skip("retr is installed from the checkout, whose folder has another name")
    assert json.loads(python(code, Path("/"))) == []


@pytest.mark.parametrize("code", ["import retr", "import retr.cli"])
def test_importing_is_light(code: str, tmp_path: Path) -> None:
    code += f"\nimport sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert python(code, tmp_path).strip() == "[]"


def test_searching_loads_what_it_needs_and_no_more(tmp_path: Path) -> None:
    retr.build([{"id": "a", "text": "a bee on a flower"}], tmp_path / "x.retr")
    code = (
        "import retr, sys\n"
        "assert retr.open('x.retr').search('bee')[0].id == 'a'\n"
        "unwanted = ('torch', 'faiss', 'pandas', 'scipy', 'bs4', 'rich')\n"
        "print([m for m in unwanted if m in sys.modules])"
    )
    assert python(code, tmp_path).strip() == "[]"


def test_public_names_are_there() -> None:
    for name in retr.__all__:
        assert getattr(retr, name) is not None
    assert set(retr.__all__) <= set(dir(retr))
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        retr.serach  # noqa: B018
