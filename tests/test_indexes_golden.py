"""Index files that an earlier version wrote open, and answer as they did then."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from retr.indexes import IndexSpec, kind, kinds
from retr.indexes.arrays import ArraySource
from retr.indexes.base import Metric
from retr.indexes.exact import scan
from retr.indexes.points import OperatingPoint

GOLDEN = Path(__file__).with_name("golden")
EXPECTED = json.loads((GOLDEN / "index_expected.json").read_text())


def made() -> ModuleType:
    spec = importlib.util.spec_from_file_location("index_make", GOLDEN / "index_make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_is_one_of_every_kind() -> None:
    assert {IndexSpec.parse(text).kind for text in EXPECTED} == set(kinds())


@pytest.mark.parametrize("text", EXPECTED)
def test_it_opens_and_answers_as_it_did(text: str) -> None:
    make = made()
    base = make.vectors()
    source = ArraySource(base[: make.N], Metric.COSINE)
    spec = IndexSpec.parse(text)
    points = [OperatingPoint.from_json(point) for point in EXPECTED[text]["points"]]
    index = kind(spec.kind).load(make.file_of(text), source, spec, points=points, default_effort=0)
    hits = index.search(base[make.N :], make.K)
    np.testing.assert_array_equal(hits.positions, EXPECTED[text]["positions"])

    # Of random bytes codes tell the least, and a shortlist of a dozen among 300 misses a third;
    # the last point is thorough enough to find all.
    wanted = scan(source, base[make.N :], make.K).positions
    shares = []
    for effort in range(len(index.points)):
        found = index.search(base[make.N :], make.K, effort=effort).positions
        shares.append(float((found[:, :, None] == wanted[:, None, :]).any(axis=2).mean()))
    # A funnel here starts with 8 values.
    assert shares[0] >= (0.3 if "/" in text or text == "ivfpq@16" else 0.6)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
