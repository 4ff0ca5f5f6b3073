"""Maps between two spaces: what a fit recovers, what a file gives back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retr.retrieval.bridges.bridge import Bridge
from retr.retrieval.bridges.calibration import Calibration
from retr.retrieval.bridges.codec import read_bridge, read_forward, write_map
from retr.retrieval.bridges.forward import Forward
from retr.retrieval.bridges.fused import carrier
from retr.retrieval.bridges.maps import (
    Hubless,
    Identity,
    Linear,
    Map,
    unit_rows,
)
from retr.retrieval.upgrade.fits import Ridge, procrustes
from retr.retrieval.values.errors import DamagedError

Floats = NDArray[np.float32]


def normal(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def rotation(dim: int, seed: int = 0) -> Floats:
    return np.linalg.qr(normal(seed, dim, dim))[0]


def test_procrustes_recovers_a_rotation() -> None:
    turn = rotation(24)
    x = unit_rows(normal(1, 200, 24))
    assert procrustes(x, x @ turn).weight == pytest.approx(turn, abs=1e-5)


@pytest.mark.parametrize(("source", "target"), [(24, 16), (16, 24)])
def test_procrustes_between_dimensions_has_orthonormal_rows_or_columns(
    source: int, target: int
) -> None:
    weight = procrustes(normal(0, 100, source), normal(1, 100, target)).weight
    short = weight @ weight.T if source < target else weight.T @ weight
    assert short == pytest.approx(np.eye(min(source, target)), abs=1e-5)


@pytest.mark.parametrize("strength", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("pairs", [15, 300])
def test_ridge_equals_that_of_scikit_learn(strength: float, pairs: int) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = normal(0, pairs, 20) * 3 + 1, normal(1, pairs, 7)
    penalty = strength * np.square(x - x.mean(axis=0)).sum() / 20
    theirs = linear_model.Ridge(alpha=penalty).fit(x.astype(np.float64), y)
    ours = Ridge(x, y).map(strength)
    probe = normal(2, 50, 20)
    assert ours.apply(probe) == pytest.approx(theirs.predict(probe), abs=1e-4)


def test_weights_of_pairs_count_as_copies_of_them() -> None:
    x, y = normal(0, 40, 6), normal(1, 40, 5)
    counts = np.arange(40) % 3 + 1
    weighted = Ridge(x, y, counts).map(0.2)
    copied = Ridge(np.repeat(x, counts, axis=0), np.repeat(y, counts, axis=0)).map(0.2)
    assert weighted.weight == pytest.approx(copied.weight, abs=1e-5)
    assert weighted.bias == pytest.approx(copied.bias, abs=1e-5)


def every_map() -> list[Map]:
    first = Linear(normal(0, 8, 6), normal(1, 6), unit=True)
    return [
        Identity(8, 8),
        Identity(8, 3, unit=True),
        first,
        Hubless(first, unit_rows(normal(12, 40, 6)), 3, 0.25),
    ]


@pytest.mark.parametrize("map", every_map(), ids=lambda map: type(map).__name__)
def test_a_bridge_comes_back_from_its_file(map: Map, tmp_path: Path) -> None:
    o, d = map.target_dim, map.source_dim
    calibration = Calibration(normal(1, o), normal(2, d), normal(3, o, 2), normal(4, d, 5))
    bridge = Bridge(map, calibration, "some kind")
    path = tmp_path / "a.arrow"
    with path.open("wb") as file:
        write_map(file, bridge)
    found = read_bridge(path)
    assert (found.kind, found.map.dims()) == ("some kind", map.dims())
    x = normal(12, 7, 8)
    before, after = bridge.apply(x), found.apply(x)
    assert np.array_equal(before.vectors, after.vectors)
    assert np.array_equal(before.scale, after.scale)
    assert np.array_equal(before.shift, after.shift)
    with pytest.raises(DamagedError, match=r"a\.arrow"):
        read_forward(path)


@pytest.mark.parametrize("metric", ["cosine", "ip"])
@pytest.mark.parametrize("roots", [(2, 5), (0, 0), None])
@pytest.mark.parametrize("map", every_map(), ids=lambda map: type(map).__name__)
def test_a_query_is_carried_in_one_product_as_in_several(
    map: Map, roots: tuple[int, int] | None, metric: str
) -> None:
    o, d = map.target_dim, map.source_dim
    calibration = None
    if roots is not None:
        here, there = normal(3, o, roots[0]), normal(4, d, roots[1])
        calibration = Calibration(normal(1, o), normal(2, d), here, there, 0.7)
    bridge = Bridge(map, calibration, "some kind")
    x, documents = normal(12, 7, 8), normal(13, 20, o)
    if metric == "cosine":
        documents = unit_rows(documents)
    want = bridge.apply(x)
    expected = want.calibrated(want.vectors @ documents.T)
    carry = carrier(bridge, metric)
    got = carry(x)
    assert got.vectors.flags.c_contiguous and got.vectors.dtype == np.float32
    assert got.scale.dtype == got.shift.dtype == np.float64
    if metric == "cosine":
        assert np.linalg.norm(got.vectors, axis=1) == pytest.approx(np.ones(7), abs=1e-6)
    assert got.calibrated(got.vectors @ documents.T) == pytest.approx(expected, abs=1e-4, rel=1e-5)
    alone = [carry(x[i : i + 1]) for i in range(7)]
    assert np.concatenate([a.vectors for a in alone]) == pytest.approx(got.vectors, abs=1e-5)
    assert np.concatenate([a.scale for a in alone]) == pytest.approx(got.scale, rel=1e-5)
    assert np.concatenate([a.shift for a in alone]) == pytest.approx(got.shift, abs=1e-4)
    # Zeros are carried to something finite.
    nothing = carry(np.zeros((2, 8), np.float32))
    assert all(np.isfinite(part).all() for part in (nothing.vectors, nothing.scale, nothing.shift))


@pytest.mark.parametrize("map", every_map(), ids=lambda map: type(map).__name__)
def test_a_vector_is_mapped_the_same_alone_and_in_blocks(map: Map) -> None:
    x = normal(0, 23, 8)
    before = x.copy()
    whole = map.apply(x)
    alone = np.concatenate([map.apply(x[i : i + 1]) for i in range(23)])
    blocks = np.concatenate(list(map.blocks(x.astype(np.float16).astype(np.float64), 5)))
    assert whole.shape == (23, map.target_dim) and whole.dtype == np.float32
    assert alone == pytest.approx(whole, abs=1e-5)
    assert blocks == pytest.approx(whole, abs=2e-2)
    assert np.array_equal(x, before)


def test_a_damaged_bridge_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    with path.open("wb") as file:
        write_map(file, Bridge(every_map()[2]))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DamagedError):
        read_bridge(path)


def test_hubs_lose_length_and_keep_their_direction() -> None:
    inner = Identity(6, 6, unit=True)
    anchors = unit_rows(normal(0, 200, 6) + 1)
    x = normal(1, 5000, 6)
    found = Hubless(inner, anchors, 3, 0.5).apply(x)
    mapped = unit_rows(x)
    usual = np.sort(mapped @ anchors.T, axis=1)[:, -3:].mean(axis=1)
    assert unit_rows(found) == pytest.approx(mapped, abs=1e-5)
    lengths = np.linalg.norm(found, axis=1)
    assert lengths == pytest.approx(np.maximum(usual, 0.1) ** -0.5, rel=1e-4)


@pytest.mark.parametrize("unit", [False, True])
def test_a_mapped_vector_goes_back_to_be_a_query(unit: bool) -> None:
    white = Linear(normal(0, 6, 6) + 3 * np.eye(6, dtype=np.float32), np.zeros(6, np.float32), unit)
    forward = Forward(Identity(6, 6), Bridge(white), "ip")
    x = unit_rows(normal(1, 20, 6))
    back = forward.back()
    assert back is not None
    assert back.apply(white.apply(x)) == pytest.approx(x, abs=1e-4)
