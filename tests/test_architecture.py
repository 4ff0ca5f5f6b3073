"""The map of the code, docs/architecture.md, and what each package says that it may import."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parent.parent
MAP = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TO_COME = {"serve/", "integrations/", "cluster/"}
"""Rooms that the map names and that come with what they will hold."""

PACKAGES = sorted(
    file.parent.relative_to(ROOT).as_posix()
    for file in ROOT.rglob("__init__.py")
    if file.relative_to(ROOT).parts[0] not in {"tests", "build"}
    and not any(part.startswith(".") for part in file.relative_to(ROOT).parts)
)


def is_path(quoted: str) -> bool:
    """Whether what stands in backticks is a path of the repository, or a pattern of paths."""
    return re.fullmatch(r"[\w.*/-]+", quoted) is not None and (
        "/" in quoted or quoted.endswith((".py", ".md", ".toml"))
    )


def docstring(package: str) -> str:
    text = (ROOT / package / "__init__.py").read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(text)) or ""


def test_every_path_it_names_exists() -> None:
    named = {quoted for quoted in re.findall(r"`([^`\n]+)`", MAP) if is_path(quoted)}
    assert len(named) > 40
    missing = {path for path in named - TO_COME if not any(ROOT.glob(path.rstrip("/")))}
    assert not missing
    assert not [path for path in TO_COME if (ROOT / path).exists()]


def test_it_names_every_package() -> None:
    assert len(PACKAGES) > 20
    for package in PACKAGES:
        name = package.rsplit("/", 1)[-1]
        assert package == "." or re.search(rf"\b{name}\b", MAP), package


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_what_it_may_import(package: str) -> None:
    assert re.search(r"\bMay import\b|\bImports nothing else\b", docstring(package))


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("retr")


@pytest.mark.parametrize("package", [package for package in PACKAGES if package != "."])
def test_a_package_imports_no_other_than_it_says(package: str, graph: grimp.ImportGraph) -> None:
    """Each package of ours that a module directly in this one imports stands in its docstring."""
    name = "retr." + package.replace("/", ".")
    packages = {"retr." + other.replace("/", ".") for other in PACKAGES if other != "."}
    said = re.split(r"\bMay import\b|\bImports nothing else\b", docstring(package))[-1]
    if "everything" in said:
        return
    for module in [*sorted(graph.find_children(name) - packages), name]:
        for imported in graph.find_modules_directly_imported_by(module):
            holder = imported if imported in packages else imported.rpartition(".")[0]
            if holder == "retr" or f"{name}.".startswith(f"{holder}.") or holder.startswith(name):
                continue
            parts = holder.removeprefix("retr.").split(".")
            words = {parts[0]} if parts[0] != package.split("/")[0] else {parts[-1]}
            if parts[0] == "retrieval" and package.startswith("retrieval/"):
                words = set(parts[1:2])
            assert all(re.search(rf"\b{word}\b", said) for word in words), (module, imported)
