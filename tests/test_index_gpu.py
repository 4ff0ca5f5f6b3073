"""GPUs: no test machine has one, so a stand-in shows what is asked of FAISS, and of which GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import retr
from retr.indexes import IndexSpec, _gpu, kind
from retr.indexes._gpu import gpu_number, on_device
from retr.indexes.arrays import ArraySource
from retr.indexes.base import Metric

faiss = pytest.importorskip("faiss")


class Resources:
    pass


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Stand in for a faiss with two GPUs; return what was moved to which."""
    calls: list[tuple[int, str]] = []

    def index_cpu_to_gpu(resources: Any, device: int, index: Any) -> Any:
        assert isinstance(resources, Resources)
        calls.append((device, type(index).__name__))
        return index

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2)
    monkeypatch.setattr(faiss, "StandardGpuResources", Resources, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", index_cpu_to_gpu, raising=False)
    _gpu._resources.cache_clear()
    return calls


def source() -> ArraySource:
    made = np.random.default_rng(0).standard_normal((2000, 32)).astype(np.float32)
    return ArraySource(made, Metric.L2)


def built(device: str | None) -> Any:
    with on_device(device):
        return kind("ivfpq").build(source(), IndexSpec.parse("ivfpq"))


@pytest.mark.skipif(hasattr(faiss, "StandardGpuResources"), reason="this faiss has GPUs")
def test_a_faiss_without_gpus_uses_none() -> None:
    assert [gpu_number(device) for device in (None, "cuda", "cuda:1", "cpu")] == [None] * 4


@pytest.mark.parametrize(
    ("device", "number"),
    [(None, 0), ("cuda", 0), ("cuda:1", 1), ("cuda:2", None), ("cpu", None), ("mps", None)],
)
def test_which_gpu_is_meant(
    moved: list[tuple[int, str]], device: str | None, number: int | None
) -> None:
    assert gpu_number(device) == number
    index = built(device)
    assert moved == ([] if number is None else [(number, "IndexFlat")])
    wanted = built("cpu").search(source().take(np.arange(20)), 5)
    found = index.search(source().take(np.arange(20)), 5)
    np.testing.assert_array_equal(found.positions, wanted.positions)


def test_a_gpu_that_cannot_be_used_is_said(
    moved: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("Error: 'err == cudaSuccess' failed: out of memory")

    monkeypatch.setattr(faiss, "index_cpu_to_gpu", fails)
    assert built(None).search(source().take(np.arange(3)), 1).positions.tolist() == [[0], [1], [2]]
    assert "clustering on the CPU" in caplog.text
    assert "out of memory" in caplog.text


def test_the_device_of_a_collection_reaches_the_build(
    moved: list[tuple[int, str]], tmp_path: Path
) -> None:
    from retr.retrieval.encoders.base import EncoderOptions

    rows = source().vectors
    for device, number in (("cuda:1", [1]), ("cpu", [])):
        moved.clear()
        path = tmp_path / f"{device}.retr".replace(":", "")
        options = EncoderOptions(device=device)
        retr.build(rows, path, spec="ivfpq", encoder_options=options, progress=False)
        assert [each for each, _ in moved] == number
