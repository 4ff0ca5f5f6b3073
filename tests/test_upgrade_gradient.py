"""Maps fitted by gradient, and BT²'s measures by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from retr.benchmarks.upgrades.bt2 import retrieval
from retr.benchmarks.upgrades.gradient import fit_mlp, refine
from retr.benchmarks.upgrades.maps import dilate
from retr.retrieval.bridges.maps import Linear, unit_rows
from retr.retrieval.upgrade.fits import procrustes

pytest.importorskip("torch")
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def pairs() -> tuple[Floats, Floats]:
    """Return new vectors, and old ones that are no linear look at them."""
    random = np.random.default_rng(0)
    x = unit_rows(random.standard_normal((900, 16)).astype(np.float32))
    mix = random.standard_normal((16, 8)).astype(np.float32)
    return x, unit_rows(np.abs(x @ mix) + 0.3 * (x @ mix))


def cosine(a: Floats, b: Floats) -> float:
    return float((unit_rows(a) * unit_rows(b)).sum(axis=1).mean())


def test_a_refined_basis_keeps_new_with_new_and_comes_nearer(pairs: tuple[Floats, Floats]) -> None:
    x, y = pairs
    random = np.random.default_rng(2).standard_normal((8, 8)).astype(np.float32)
    off = np.linalg.qr(np.eye(8, dtype=np.float32) + random / 5)[0]
    weight = procrustes(x[:200], y[:200]).weight @ off
    closed = dilate(Linear(weight, np.zeros(8, np.float32)))
    refined = refine(closed, x[:200], y[:200])
    phi = refined.phi(x)
    assert phi @ phi.T == pytest.approx(x @ x.T, abs=1e-5)
    assert refined.extra == closed.extra
    before = cosine(closed.apply(x[400:]), y[400:])
    after = cosine(refined.apply(x[400:]), y[400:])
    assert after > before + 0.05


def test_a_hidden_layer_learns_what_no_linear_map_can(pairs: tuple[Floats, Floats]) -> None:
    x, y = pairs
    base = procrustes(x[:600], y[:600])
    corrected = fit_mlp(x[:600], y[:600], Linear(base.weight, base.bias, unit=True), hidden=64)
    assert cosine(corrected.apply(x[600:]), y[600:]) > cosine(base.apply(x[600:]), y[600:]) + 0.02
    assert np.linalg.norm(corrected.apply(x), axis=1) == pytest.approx(1, abs=1e-5)


def test_the_same_seed_gives_the_same_map(pairs: tuple[Floats, Floats]) -> None:
    x, y = pairs[0][:200], pairs[1][:200]
    closed = dilate(procrustes(x, y))
    assert np.array_equal(refine(closed, x, y).basis, refine(closed, x, y).basis)


def test_what_nothing_improves_stays_the_closed_form() -> None:
    x = unit_rows(np.random.default_rng(1).standard_normal((300, 6)).astype(np.float32))
    closed = dilate(procrustes(x, x))
    assert refine(closed, x, x).apply(x) == pytest.approx(x, abs=0.05)


def test_cmc_and_map_by_hand() -> None:
    labels = np.array([0, 0, 1, 1, 0])
    # Of query 0 the others come in the order 1, 2, 4, 3; its own image, the first, is left out.
    scores = np.array(
        [
            [9, 4, 3, 1, 2],
            [4, 9, 3, 1, 2],
            [4, 3, 9, 2, 1],
            [1, 2, 3, 9, 0],
            [1, 2, 4, 3, 9],
        ],
        np.float32,
    )
    cmc1, cmc5, average = retrieval(scores, labels)
    assert cmc1 == pytest.approx(100 * 3 / 5)
    assert cmc5 == pytest.approx(100)
    each = [(1 + 2 / 3) / 2, (1 + 2 / 3) / 2, 1 / 3, 1, (1 / 3 + 2 / 4) / 2]
    assert average == pytest.approx(100 * np.mean(each))
