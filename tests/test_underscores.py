"""An underscore before a module's name means: no other package imports it."""

from __future__ import annotations

import grimp
import pytest

from retr.indexes import kinds
from retr.retrieval.encoders import families


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("retr", cache_dir=None)


def package_of(module: str) -> str:
    return module.rpartition(".")[0]


def is_private(module: str) -> bool:
    name = module.rpartition(".")[2]
    return name.startswith("_") and not name.endswith("__")


def test_no_other_package_imports_a_module_with_an_underscore(graph: grimp.ImportGraph) -> None:
    private = {module for module in graph.modules if is_private(module)}
    assert "retr.indexes.kinds._shortlist" in private
    crossing = {
        (importer, module)
        for module in private
        for importer in graph.find_modules_that_directly_import(module)
        if package_of(importer) != package_of(module) and importer != package_of(module)
    }
    assert not crossing


def test_a_helper_without_an_underscore_is_neither_a_kind_nor_a_family() -> None:
    assert kinds() == ["binary", "flat", "hnsw", "ivfpq"]
    assert families() == ["clip", "functions", "splade", "st", "static", "vectors"]
