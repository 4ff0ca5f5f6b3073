"""Counts what the layout of the code promises, on the graph that import-linter uses.

    python tests/house.py

prints the circles, the imports that point up, the longest chains of imports inside retrieval/, and
the lines of each package. Imports inside functions and under TYPE_CHECKING count like any others.
`retr` has to be importable.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parent.parent
Graph = Mapping[str, frozenset[str]]


@cache
def imports() -> Graph:
    """Return the modules that each module imports."""
    graph = grimp.build_graph("retr", cache_dir=None)
    return {m: frozenset(graph.find_modules_directly_imported_by(m)) for m in graph.modules}


def within(graph: Graph, package: str) -> Graph:
    """Return the part of a graph that lies in a package, its own `__init__` left out."""
    inside = [m for m in graph if m.startswith(f"{package}.")]
    return {m: graph[m].intersection(inside) for m in inside}


def rooms(graph: Graph, package: str) -> Graph:
    """Return the imports between what lies directly in a package, whole packages taken as one."""
    depth = package.count(".") + 2
    out: dict[str, set[str]] = {}
    for module, targets in within(graph, package).items():
        room = ".".join(module.split(".")[:depth])
        own = out.setdefault(room, set())
        own.update(".".join(target.split(".")[:depth]) for target in targets)
        own.discard(room)
    return {room: frozenset(targets) for room, targets in out.items()}


def circle(graph: Graph) -> list[str]:
    """Return one circle of imports, empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def longest_chain(graph: Graph) -> list[str]:
    """Return the longest chain of imports in a graph without circles."""
    chains: dict[str, list[str]] = {}
    for module in TopologicalSorter(graph).static_order():
        below = max((chains[target] for target in sorted(graph[module])), key=len, default=[])
        chains[module] = [module, *below]
    return max(chains.values(), key=len)


def layers(contract: str) -> list[list[str]]:
    """Return the layers of one of pyproject's contracts, the highest first."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (found,) = [c for c in config["tool"]["importlinter"]["contracts"] if c["name"] == contract]
    return [[name.strip() for name in layer.split("|")] for layer in found["layers"]]


def lines() -> Counter[str]:
    """Return the lines of Python in each package, two levels deep."""
    count: Counter[str] = Counter()
    for top in ("cli.py", "commands", "benchmarks", "training", "retrieval", "indexes", "tests"):
        files: Iterable[Path] = [ROOT / top] if top.endswith(".py") else (ROOT / top).rglob("*.py")
        for file in files:
            parts = file.relative_to(ROOT).parts
            room = "/".join(parts[:2]) if len(parts) > 2 and top != "tests" else parts[0]
            count[room] += len(file.read_text("utf-8").splitlines())
    return count


def main() -> None:
    """Print it all."""
    graph = imports()
    print("circle of modules:", " → ".join(circle(graph)) or "none")
    for package in ("retr.retrieval", "retr.indexes", "retr.benchmarks"):
        print(f"circle of rooms in {package}:", " → ".join(circle(rooms(graph, package))) or "none")
    for what, part in (
        ("packages", rooms(graph, "retr.retrieval")),
        ("modules", within(graph, "retr.retrieval")),
    ):
        chain = longest_chain(part)
        print(f"longest chain of {what} in retrieval/: {len(chain)}")
        print("   ", " → ".join(name.removeprefix("retr.retrieval.") for name in chain))
    count = lines()
    for room in sorted(count):
        print(f"{count[room]:>7,}  {room}")
    for top in ("benchmarks", "retrieval", "indexes"):
        total = sum(n for room, n in count.items() if room.split("/")[0] == top)
        print(f"{total:>7,}  {top} in all")


if __name__ == "__main__":
    main()
