"""The benchmark of GPUs: what it says without one, its queries and texts, and its kept figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from retr.benchmarks.studies import gpu
from retr.benchmarks.studies.gpu import encodings, main, table
from retr.indexes.gpu import devices

KEPT = Path(__file__).parents[1] / "benchmarks" / "results" / "gpu.json"


def test_without_a_gpu_it_says_what_to_install(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    if devices.gpu() is not None:
        pytest.skip("FAISS has a GPU here")
    rows = np.eye(8, dtype=np.float16)
    np.save(tmp_path / "rows.npy", rows)
    with pytest.raises(SystemExit, match=r"FAISS has no GPU here.*retr\[gpu\]"):
        main([str(tmp_path / "rows.npy")] * 2)


def test_queries_that_are_lacking_are_others_moved() -> None:
    real = np.random.default_rng(0).standard_normal((50, 384)).astype(np.float32)
    real /= np.linalg.norm(real, axis=1, keepdims=True)
    made = gpu._queries(real, 200)
    np.testing.assert_allclose(made[:50], real, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-6)
    nearest = (made[50:] @ real.T).max(axis=1)
    assert nearest.min() > 0.9 and nearest.max() < 0.999
    assert len(gpu._queries(real, 20)) == 20


def test_an_encoder_is_as_like_itself_on_either_device() -> None:
    measured = encodings("static", ["bees on flowers", "a red car", "cold start"] * 5, "cuda")
    assert measured["least_cosine"] > 0.999999
    assert measured["cpu"]["texts_per_second"] > 0 and measured["cuda"]["seconds"] > 0


def test_the_kept_figures_are_of_a_gpu_with_the_cpus_answers() -> None:
    kept = json.loads(KEPT.read_text())
    assert all(each["same"] for each in (*kept["search"], *kept["filtered"]))
    assert kept["build"]["cuda"]["recall"] >= kept["build"]["cpu"]["recall"] - 0.002
    shown = table(kept).splitlines()
    assert "H100" in shown[0]
    assert len(shown) == 2 + len(kept["search"]) + len(kept["filtered"]) + 2
