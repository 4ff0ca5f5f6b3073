"""The vectors of `retr bench ann`: files as people have them, and bases grown and lifted."""

import numpy as np
import pytest

from retr.benchmarks.ann import grow as growing
from retr.benchmarks.ann.data import prepare, read
from retr.benchmarks.ann.grow import grow, lifted
from retr.indexes.base import Metric
from retr.retrieval.values.errors import DamagedError, InputError

RNG = np.random.default_rng(5)


def vecs(path, rows, dtype):
    with path.open("wb") as file:
        for row in rows:
            file.write(np.int32(len(row)).tobytes() + np.asarray(row, dtype).tobytes())
    return path


@pytest.fixture
def real(data):
    return np.load(data / "vectors/minilm55k.base.f16.npy")[:600].astype(np.float32)


def test_texmex_files_are_read_as_they_are_written(tmp_path):
    floats = RNG.normal(size=(7, 5)).astype(np.float32)
    asked = RNG.normal(size=(3, 5)).astype(np.float32)
    base, queries = (
        vecs(tmp_path / "b.fvecs", floats, "<f4"),
        vecs(tmp_path / "q.fvecs", asked, "<f4"),
    )
    found = read(str(base), queries, "l2")
    assert np.array_equal(found.base, floats)
    assert np.array_equal(found.queries, asked)
    octets = RNG.integers(0, 256, (4, 9))
    found = read(str(vecs(tmp_path / "b.bvecs", octets, "u1")), tmp_path / "b.bvecs", "l2")
    assert np.array_equal(found.base, octets)
    with base.open("r+b") as file:
        file.truncate(base.stat().st_size - 1)
    with pytest.raises(DamagedError, match="cut short"):
        read(str(base), queries)


def test_neighbours_of_texmex_are_compared_with_ours(tmp_path):
    floats = RNG.normal(size=(50, 5)).astype(np.float32)
    asked = RNG.normal(size=(4, 5)).astype(np.float32)
    distances = ((floats[None] - asked[:, None]) ** 2).sum(axis=2)
    near = np.argsort(distances, axis=1)[:, :10]
    base, queries, truth = (
        vecs(tmp_path / name, rows, dtype)
        for name, rows, dtype in (
            ("b.fvecs", floats, "<f4"),
            ("q.fvecs", asked, "<f4"),
            ("t.ivecs", near, "<i4"),
        )
    )
    vectors = read(str(base), queries, "l2", truth)
    assert np.array_equal(vectors.neighbours, near)
    assert prepare(vectors, tmp_path, queries=4).about["agreement"] == 1.0
    # Those of other rows say so.
    wrong = vecs(tmp_path / "w.ivecs", np.argsort(-distances, axis=1)[:, :10], "<i4")
    far = read(str(base), queries, "l2", wrong)
    assert prepare(far, tmp_path / "far", queries=4).about["agreement"] == 0.0
    for rows in (near[:3], near + 50):
        other = vecs(tmp_path / "o.ivecs", rows, "<i4")
        with pytest.raises(InputError, match="not the nearest of 50 rows to each of 4 queries"):
            read(str(base), queries, "l2", other)


def test_hdf5_of_ann_benchmarks(tmp_path, real):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "tiny-angular.hdf5"
    # Not of unit length, as theirs are not; angular distance does not see it.
    lengths = RNG.uniform(0.5, 2, (500, 1)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file.attrs["distance"] = "angular"
        file["train"], file["test"] = real[:500] * lengths, real[500:]
        near = np.argsort(-(real[500:] @ real[:500].T), axis=1)[:, :10]
        file["neighbors"] = near
    vectors = read(str(path))
    assert vectors.metric is Metric.COSINE
    prepared = prepare(vectors, tmp_path, queries=60)
    assert np.allclose(np.linalg.norm(prepared.base(), axis=1), 1, atol=1e-6)
    assert np.allclose(prepared.base(), real[:500], atol=1e-3)
    assert prepared.about["agreement"] == pytest.approx(1.0, abs=0.005)
    assert prepared.about["tuning"] == 40
    tuning = np.load(prepared.folder / "tuning.npy")
    assert not (tuning[:, None] == prepared.queries()[None]).all(axis=2).any()
    with h5py.File(tmp_path / "half.hdf5", "w") as file:
        file["train"] = real
    with pytest.raises(InputError, match="has no data set 'test'"):
        read(str(tmp_path / "half.hdf5"))


def test_files_that_do_not_fit_are_refused(tmp_path):
    np.save(tmp_path / "b.npy", np.ones((4, 3), np.float32))
    np.save(tmp_path / "q.npy", np.ones((2, 5), np.float32))
    for data, queries, words in (
        ("nowhere.npy", None, "there is no file"),
        (str(tmp_path / "b.npy"), None, "--query-vectors"),
        (str(tmp_path / "b.npy"), tmp_path / "q.npy", "one dimension"),
    ):
        with pytest.raises(InputError, match=words):
            read(data, queries)


def test_a_subset_is_drawn_of_the_base_and_kept(tmp_path, real):
    np.save(tmp_path / "b.npy", real)
    vectors = read(str(tmp_path / "b.npy"), tmp_path / "b.npy")
    made = prepare(vectors, tmp_path, rows=200, queries=10)
    unit = real / np.linalg.norm(real, axis=1, keepdims=True)
    drawn = made.base() @ unit.T
    assert made.base().shape == (200, 384)
    assert np.allclose(drawn.max(axis=1), 1, atol=1e-5)
    before = (made.folder / "base.npy").stat().st_mtime_ns
    again = prepare(vectors, tmp_path, rows=200, queries=10)
    assert (again.folder / "base.npy").stat().st_mtime_ns == before
    assert again.about == made.about


def test_a_grown_base_is_near_real_rows_and_the_same_for_a_seed(tmp_path, real, monkeypatch):
    monkeypatch.setattr(growing, "_ROWS", 256)
    grow(real, 2000, tmp_path / "whole.npy", seed=3)
    whole = np.load(tmp_path / "whole.npy")
    unit = growing.unit_rows(real)
    assert np.array_equal(whole[:600], unit)
    assert np.allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)
    # A grown row stays nearer to real ones than they are to strangers.
    assert np.median((whole[600:] @ unit.T).max(axis=1)) > np.median(unit @ unit.T) + 0.3

    grow(real, 2000, tmp_path / "again.npy", seed=3)
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    grow(real, 2500, tmp_path / "more.npy", seed=3)
    assert np.array_equal(np.load(tmp_path / "more.npy")[:1792], whole[:1792])  # in whole blocks
    assert len(list(tmp_path.iterdir())) == 3
    grow(real, 2000, tmp_path / "other.npy", seed=4)
    assert not np.array_equal(np.load(tmp_path / "other.npy")[600:], whole[600:])


def test_neighbours_are_the_nearest_and_never_oneself(real):
    real = real[:200]
    near = growing.neighbours(real, 12)
    distances = ((real[:, None].astype(np.float64) - real[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (near != np.arange(len(real))[:, None]).all()
    mine = np.take_along_axis(distances, near, axis=1)
    assert np.allclose(mine, np.sort(distances, axis=1)[:, :12], atol=1e-5)


def test_lifted_vectors_keep_neighbourhoods_and_fill_all_dimensions(real):
    unit = growing.unit_rows(real)
    more = lifted(unit, 768, seed=0)
    assert more.shape == (600, 768)
    assert np.allclose(np.linalg.norm(more, axis=1), 1, atol=1e-5)
    # The inner product approximates exp(-|x - y|^2).
    wanted = np.exp(-(2 - 2 * unit @ unit.T))
    assert np.abs(more @ more.T - wanted).mean() < 0.05
    assert np.linalg.matrix_rank(unit) <= 384 < 590 < np.linalg.matrix_rank(more)
    assert np.allclose(lifted(unit[5:9], 768, seed=0), more[5:9], atol=1e-6)
