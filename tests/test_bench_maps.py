"""Maps that no upgrade chooses from: what the closed forms recover, and what a dilation keeps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retr.benchmarks.upgrades.maps import LowRank, ResidualMlp, dilate, low_rank
from retr.retrieval.bridges.maps import Linear, Map, unit_rows
from retr.retrieval.upgrade.fits import Ridge

from .test_upgrade_maps import normal, rotation


def test_a_low_rank_map_of_full_rank_is_the_ridge() -> None:
    x, y = normal(0, 200, 12), normal(1, 200, 9)
    ridge = Ridge(x, y)
    probe = normal(2, 50, 12)
    whole = low_rank(ridge.map(0.1), x, y, 9)
    assert whole.apply(probe) == pytest.approx(ridge.map(0.1).apply(probe), abs=1e-5)
    assert low_rank(ridge.map(0.1), x, y, 3).left.shape == (12, 3)


def test_a_low_rank_map_recovers_one_of_that_rank() -> None:
    x = normal(0, 400, 12)
    y = x @ normal(1, 12, 2) @ normal(2, 2, 9) + 0.5
    assert low_rank(Ridge(x, y).map(1e-9), x, y, 2).apply(x) == pytest.approx(y, abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(
    new=st.integers(2, 40),
    old=st.integers(2, 40),
    size=st.floats(0.01, 30),
    seed=st.integers(0, 1000),
)
def test_a_dilation_keeps_new_with_new_and_carries_new_to_old(
    new: int, old: int, size: float, seed: int
) -> None:
    linear = Linear(normal(seed, new, old) * np.float32(size), np.zeros(old, np.float32))
    dilation = dilate(linear)
    x, y = unit_rows(normal(seed + 1, 30, new)), unit_rows(normal(seed + 2, 30, old))
    assert dilation.basis @ dilation.basis.T == pytest.approx(np.eye(new), abs=1e-5)
    assert dilation.phi(x) @ dilation.phi(x).T == pytest.approx(x @ x.T, abs=1e-5)
    carried = dilation.phi(x) @ dilation.psi(y).T
    assert carried * dilation.norm == pytest.approx(linear.apply(x) @ y.T, abs=1e-4 * size * new)
    assert carried == pytest.approx(dilation.apply(x) @ y.T, abs=1e-5)


def test_an_orthogonal_map_needs_no_more_dimensions() -> None:
    assert dilate(Linear(rotation(9), np.zeros(9, np.float32))).extra == 0


@pytest.mark.parametrize(
    "map",
    [
        LowRank(normal(2, 8, 2), normal(3, 2, 6), normal(4, 6)),
        ResidualMlp(
            normal(5, 8, 6), normal(6, 6), normal(7, 8, 11), normal(8, 11), normal(9, 11, 6), True
        ),
        dilate(Linear(normal(0, 8, 6), normal(1, 6))),
    ],
    ids=lambda map: type(map).__name__,
)
def test_a_vector_is_mapped_alike_alone_and_among_others(map: Map) -> None:
    x = normal(1, 23, 8)
    before = x.copy()
    whole = map.apply(x)
    alone = np.concatenate([map.apply(row[None]) for row in x])
    assert whole.shape == (23, map.target_dim) and whole.dtype == np.float32
    assert alone == pytest.approx(whole, abs=1e-5)
    assert np.array_equal(x, before)
