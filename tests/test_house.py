"""The layout of the code: no circles, short chains, and a query's walk that only goes down."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import retr

from . import house

ROOT = Path(__file__).resolve().parent.parent


def test_no_import_goes_in_a_circle() -> None:
    graph = house.imports()
    assert house.circle(graph) == []
    packages = {module.rpartition(".")[0] for module in graph if module.count(".") > 1}
    assert {"retr.retrieval", "retr.retrieval.search", "retr.indexes.kinds"} <= packages
    for package in packages:
        assert house.circle(house.rooms(graph, package)) == [], package


def test_chains_of_imports_are_short() -> None:
    graph = house.imports()
    packages = house.longest_chain(house.rooms(graph, "retr.retrieval"))
    modules = house.longest_chain(house.within(graph, "retr.retrieval"))
    assert len(packages) <= 9, packages
    assert len(modules) <= 14, modules


def test_every_package_is_installed() -> None:
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    tops = ("benchmarks", "commands", "training", "retrieval", "indexes")
    found = {"retr"} | {
        "retr." + ".".join(file.parent.relative_to(ROOT).parts)
        for top in tops
        for file in (ROOT / top).rglob("__init__.py")
    }
    assert set(listed) == found


# --- a query's walk


@contextmanager
def traced(steps: list[tuple[str, str]]) -> Iterator[None]:
    """Record the calls from one module of retr to another: who calls, who is called."""

    def module_of(frame: FrameType | None) -> str | None:
        while frame is not None:  # a comprehension, a library between
            name = frame.f_globals.get("__name__", "")
            if name.startswith("retr."):
                return str(name)
            frame = frame.f_back
        return None

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event != "call":
            return
        callee = frame.f_globals.get("__name__", "")
        caller = module_of(frame.f_back)
        if callee.startswith("retr.") and caller not in (None, callee):
            steps.append((str(caller), callee))

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


def climbs(steps: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the calls that go up: to a module that imports the caller, directly or not."""
    above: dict[str, set[str]] = {}

    def importers(module: str) -> set[str]:
        if module not in above:
            found, left = set(), [module]
            while left:
                wanted = left.pop()
                new = [m for m, targets in house.imports().items() if wanted in targets]
                left += [m for m in new if m not in found]
                found.update(new)
            above[module] = found
        return above[module]

    return [(caller, callee) for caller, callee in steps if callee in importers(caller)]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> retr.Collection:
    texts = [f"the bee number {i} flies to flower {i % 7}" for i in range(60)]
    return retr.build(texts, tmp_path_factory.mktemp("walk") / "a.retr", progress=False)


def walk(steps: list[tuple[str, str]]) -> list[str]:
    """Return the modules in the order in which they are first entered."""
    return list(dict.fromkeys(callee for _, callee in steps))


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: c.search("bees and flowers", k=3),
        lambda c: c.search("bees and flowers", k=3, mode="lexical"),
        lambda c: c.search(vector=np.ones(256, np.float32), k=3),
        lambda c: c.search("bees", k=3, ids=[c.search("bees")[0].id]),
    ],
    ids=["hybrid", "words", "vector", "ids"],
)
def test_a_query_climbs_back_at_most_twice(
    collection: retr.Collection, ask: Callable[[retr.Collection], Any]
) -> None:
    """Only to have the encoder, and the old one during an upgrade, loaded by who holds them."""
    ask(collection)  # what is loaded once is no part of the walk
    steps: list[tuple[str, str]] = []
    with traced(steps):
        ask(collection)
    up = set(climbs(steps))
    assert len(up) <= 2, up
    assert {callee for _, callee in up} <= {"retr.retrieval.collection"}, up


def test_the_walk_is_written_down(collection: retr.Collection) -> None:
    """docs/architecture.md lists the modules of a hybrid query in the order of this trace."""
    collection.search("bees and flowers", k=3)
    steps: list[tuple[str, str]] = []
    with traced(steps):
        collection.search("bees and flowers", k=3)
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    written = text.partition("<!-- walk -->")[2].partition("<!-- /walk -->")[0]
    named = [part for part in written.split("`")[1::2] if part.endswith(".py")]
    expected = [module.removeprefix("retr.").replace(".", "/") + ".py" for module in walk(steps)]
    assert named == [name for name in expected if (ROOT / name).exists()]
