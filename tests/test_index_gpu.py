"""GPUs: which one is meant and when it is worth it; on a GPU, that its answers are the CPU's.

Where FAISS has no GPU the tests that need one are skipped, saying so.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import retr
from retr.indexes import IndexSpec, exact, kind
from retr.indexes.arrays import ArraySource
from retr.indexes.base import Metric
from retr.indexes.gpu import devices
from retr.indexes.gpu.devices import gpu_number, on_device
from retr.indexes.gpu.vectors import GpuVectors
from retr.indexes.scanning import is_worth, scan

from .test_exact_scan import assert_same, packed

faiss = pytest.importorskip("faiss")

needs_gpu = pytest.mark.skipif(devices.gpu() is None, reason="FAISS has no GPU here")


@pytest.mark.parametrize(
    ("device", "number"),
    [(None, 0), ("cuda", 0), ("cuda:1", 1), ("cuda:2", None), ("cpu", None), ("mps", None)],
)
def test_which_gpu_is_meant(device: str | None, number: int | None) -> None:
    assert gpu_number(device, 2) == number
    assert gpu_number(device, 0) is None


def test_the_cpu_is_no_gpu() -> None:
    with on_device("cpu"):
        assert devices.gpu() is None


def test_a_gpu_is_for_as_much_as_makes_up_for_it() -> None:
    """What is worth bringing vectors there is worth it when they are there, and so on."""
    for rows in (100, 100_000, 10_000_000):
        for queries in (1, 50, 1000, 100_000):
            ways = [is_worth(rows, 384, queries, *way) for way in ((0, 0), (1, 0), (1, 1))]
            assert ways == sorted(ways)
    assert not is_worth(5000, 384, 300, False, False)
    assert is_worth(1_000_000, 384, 10_000, False, False)
    assert not is_worth(1_000_000, 384, 1, True, False)
    assert is_worth(1_000_000, 384, 1, True, True)


def test_a_collection_searches_on_its_device(tmp_path: Path) -> None:
    seen: list[str | None] = []

    def note(query: str, texts: list[str]) -> list[float]:
        seen.append(devices._DEVICE.get())
        return [0.0] * len(texts)

    path, options = tmp_path / "mine.retr", retr.EncoderOptions(device="cpu")
    texts = [{"id": "a", "text": "bees"}, {"id": "b", "text": "flowers"}]
    opened = [
        retr.build(texts, path, encoder="static", encoder_options=options, progress=False),
        retr.open(path, options=options),
        retr.open(path, device="cpu"),
        retr.open(path, device="cuda:1"),  # the built-in encoder computes on the CPU anyway
        retr.open(path),
    ]
    for collection in opened:
        collection.search("bees", rerank=note)
    assert seen == ["cpu", "cpu", "cpu", "cuda:1", None]


def source(rows: int = 20_000, dim: int = 96, metric: Metric = Metric.COSINE) -> ArraySource:
    rng = np.random.default_rng(rows + dim)
    centres = rng.standard_normal((rows // 50, dim))
    made = centres[rng.integers(0, len(centres), rows)] + 0.5 * rng.standard_normal((rows, dim))
    if metric is Metric.COSINE:
        made /= np.linalg.norm(made, axis=1, keepdims=True)
    made[500:700] = made[3]
    return ArraySource(made.astype(np.float32), metric)


def gpu_vectors() -> Any:
    there = devices.gpu()
    assert there is not None
    return there.vectors


@needs_gpu
@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("dim", [1, 5, 384])
def test_a_gpu_answers_as_a_scan_does(metric: Metric, dtype: type[np.floating], dim: int) -> None:
    rows = ArraySource(source(9000, dim, metric).vectors.astype(dtype), metric)
    rng = np.random.default_rng(dim)
    queries = rows.take(rng.integers(0, len(rows), 200))
    queries[::2] += (0.1 * rng.standard_normal(queries[::2].shape)).astype(np.float32)
    queries[0] = 0
    for share in (None, 0.99, 0.6, 0.2, 0.001):
        bits = None if share is None else packed(rng.random(len(rows)) < share)
        for k in (1, 10, 500):
            got = gpu_vectors().scan(rows, queries, k, bits)
            assert got is not None
            assert_same(got, exact.scan(rows, queries, k, allowed=bits))


@needs_gpu
def test_a_scan_takes_the_gpu_by_itself() -> None:
    gpu_vectors().clear()
    rows = source(200_000)
    queries = rows.take(np.arange(3000)) + np.float32(0.01)
    with on_device("cpu"):
        wanted = scan(rows, queries, 10)
    assert gpu_vectors().held == 0
    assert_same(scan(rows, queries, 10), wanted)
    assert gpu_vectors().held == 4 * len(rows) * (rows.dim + 1)
    del rows
    gc.collect()
    assert gpu_vectors().held == 0


@needs_gpu
def test_many_threads_ask_one_gpu() -> None:
    one, two = source(20_000), source(30_000)
    asked = [(rows, rows.take(np.arange(i, i + 40))) for i in range(12) for rows in (one, two)]
    wanted = [exact.scan(rows, queries, 5) for rows, queries in asked]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            found = list(pool.map(lambda each: gpu_vectors().scan(*each, 5, None), asked))
            for got, want in zip(found, wanted, strict=True):
                assert_same(got, want)


@needs_gpu
def test_an_index_trained_on_a_gpu_finds_as_much() -> None:
    rows = source(50_000)
    queries = rows.take(np.arange(500)) + np.float32(0.02)
    truth = exact.scan(rows, queries, 10)
    found = {}
    for device in ("cpu", "cuda"):
        with on_device(device):
            hits = kind("ivfpq").build(rows, IndexSpec.parse("ivfpq")).search(queries, 10)
        found[device] = float((hits.scores >= truth.scores[:, -1:]).mean())
    assert abs(found["cuda"] - found["cpu"]) < 0.01


@needs_gpu
def test_a_collection_answers_alike_on_either(tmp_path: Path) -> None:
    rows = source(150_000)
    path = tmp_path / "mine.retr"
    built = retr.build(rows.vectors, path, recall="exact", progress=False)
    built.delete([str(i) for i in range(3, 2000)])
    queries = rows.take(np.arange(2000)) + np.float32(0.01)
    gpu_vectors().clear()
    with retr.open(path, device="cpu") as collection:
        wanted = collection.search(vector=queries, k=5)
    assert gpu_vectors().held == 0
    with retr.open(path) as collection:
        found = collection.search(vector=queries, k=5)
    assert gpu_vectors().held > 0
    assert [[(h.id, h.score) for h in r] for r in found] == [
        [(h.id, h.score) for h in r] for r in wanted
    ]


@needs_gpu
def test_memory_that_others_have_is_said(caplog: pytest.LogCaptureFixture) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch has no GPU here, to take its memory with")
    rows = source(200_000, 256)
    other = GpuVectors(gpu_vectors()._make, 1 << 40)
    gpu_vectors().clear()
    taken = torch.empty(
        torch.cuda.mem_get_info()[0] - (100 << 20), dtype=torch.uint8, device="cuda"
    )
    assert other.scan(rows, rows.take(np.arange(100)), 10, None) is None
    (record,) = caplog.records
    assert "searching on the CPU: the GPU cannot be used" in record.getMessage()
    del taken
    torch.cuda.empty_cache()
    other = GpuVectors(gpu_vectors()._make, 1 << 40)
    queries = rows.take(np.arange(100))
    got = other.scan(rows, queries, 10, None)
    assert got is not None
    assert_same(got, exact.scan(rows, queries, 10))


FORK = """
import os, sys
import numpy as np
from retr.indexes.gpu import devices
from retr.indexes.arrays import ArraySource
from retr.indexes.base import Metric
from retr.indexes.scanning import scan

rows = ArraySource(np.random.default_rng(0).standard_normal((1000, 8)).astype("f4"), Metric.IP)
there = devices.gpu()
there.vectors.scan(rows, rows.take(np.arange(9)), 3, None)
child = os.fork()
if child == 0:
    assert devices.gpu() is None
    scan(rows, rows.take(np.arange(9)), 3)
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert there.vectors.scan(rows, rows.take(np.arange(9)), 3, None) is not None
"""


@needs_gpu
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
def test_a_forked_process_uses_the_cpu_and_ends_well() -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
