"""Other families of maps measured beside those of an upgrade, and the cost of mapping many."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from retr.benchmarks.upgrades import map_million, more_maps
from retr.benchmarks.upgrades.bridge_families import MoreBridges, MoreForwards, held_out
from retr.benchmarks.upgrades.steps import Arrays
from retr.retrieval.bridges.maps import unit_rows
from retr.retrieval.upgrade.candidates import BridgeFits, ForwardFits, bridged_scores
from retr.retrieval.upgrade.pairs import Pairs

DATA = Path(os.environ.get("RETR_TEST_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    random = np.random.default_rng(0)
    new = unit_rows(random.standard_normal((260, 12)).astype(np.float32))
    mix = random.standard_normal((12, 8)).astype(np.float32)
    return Pairs(unit_rows(new @ mix + 0.2 * np.abs(new @ mix)), new)


def test_a_low_rank_map_of_full_rank_is_the_ridge(pairs: Pairs) -> None:
    low = MoreBridges(pairs).make("low rank", {"strength": 0.1, "rank": 8.0})
    full = BridgeFits(pairs).make("ridge", {"strength": 0.1})
    assert low.map.apply(pairs.new) == pytest.approx(full.map.apply(pairs.new), abs=1e-4)
    cut = MoreBridges(pairs).make("low rank", {"strength": 0.1, "rank": 3.0})
    assert np.linalg.matrix_rank(cut.map.apply(pairs.new) - cut.map.bias, tol=1e-3) == 3  # type: ignore[attr-defined]


def test_so_is_a_forward_one_with_its_whitening_and_hubs(pairs: Pairs) -> None:
    settings = {"strength": 0.1, "floor": 1.0}
    low = MoreForwards(pairs).make("low rank", {**settings, "rank": 12.0})
    full = ForwardFits(pairs).make("hubless", settings)
    assert low.apply(pairs.old) == pytest.approx(full.apply(pairs.old), abs=1e-3)
    assert low.metric == full.metric


def test_every_candidate_is_measured_on_pairs_it_has_not_seen(pairs: Pairs) -> None:
    for each in held_out(pairs, MoreBridges, bridged_scores, kinds=("low rank",)):
        rows = np.sort(np.concatenate([rows for rows, _ in each.made]))
        assert np.array_equal(rows, np.arange(len(pairs)))
        first, fit = each.made[0]
        again = MoreBridges(pairs.take(np.setdiff1d(np.arange(len(pairs)), first)))
        made = again.make(each.kind, each.settings)
        assert np.array_equal(made.map.apply(pairs.new), fit.map.apply(pairs.new))


def test_all_kinds_are_tried_in_both_steps(pairs: Pairs) -> None:
    pytest.importorskip("torch")
    random = np.random.default_rng(1)
    asked = unit_rows(pairs.new[:9] + 0.1 * random.standard_normal((9, 12)).astype(np.float32))
    whole = Pairs(pairs.old, pairs.new, pairs.old[:9], asked)
    data = Arrays(whole, [{row: 1.0} for row in range(9)])
    found = list(more_maps.tried(data, 100, True, 0))
    kinds = {(each.step, each.kind) for each in found}
    assert {("bridge", "low rank"), ("forward", "residual MLP"), ("forward", "hubless")} <= kinds
    assert all(0 < each.found <= 1 and 0 <= each.value <= 1 for each in found)
    drawn = {"toy": {"unjudged": [asdict(each) for each in found]}}
    (table,) = more_maps.STUDY.tables({"pairs": 100, "found": drawn})
    assert table.title == "toy, 100 pairs, none judged"
    assert {(row[0], row[1]) for row in table.rows} == kinds


def test_the_million_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (DATA / "vectors").is_dir():
        pytest.skip("there are no test vectors: set RETR_TEST_DATA")
    monkeypatch.setenv("RETR_TEST_DATA", str(DATA))
    result = map_million.run(tmp_path, rows=3_000, sample=400, note=lambda _: None)
    assert result["mapped"] == 2_600
    assert result["dims"] == [256, 384]
    assert set(result["array"]) == {"hubs corrected", "not corrected"}
    (table,) = map_million.STUDY.tables(result)
    assert table.title.startswith("2,600 vectors, 256 to 384 dimensions")
    assert [row[0] for row in table.rows][1] == "upgrade map, through the collection"
    assert {path.name for path in tmp_path.iterdir()} == {
        path.name for path in tmp_path.glob("minilm-3k-*")
    }  # the collection is gone
