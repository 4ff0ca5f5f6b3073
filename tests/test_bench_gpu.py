"""The benchmark of GPUs: what it says without one, its queries, its texts, and its tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import retr
from retr.benchmarks.studies import gpu
from retr.benchmarks.studies.gpu import STUDY, encodings, tables
from retr.indexes.gpu import devices


def test_without_a_gpu_it_says_what_to_install(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    if devices.gpu() is not None:
        pytest.skip("FAISS has a GPU here")
    rows = np.eye(8, dtype=np.float16)
    np.save(tmp_path / "rows.npy", rows)
    with pytest.raises(SystemExit, match=r"FAISS has no GPU here.*retr\[gpu\]"):
        STUDY.main([str(tmp_path / "rows.npy")] * 2)


def test_queries_that_are_lacking_are_others_moved() -> None:
    real = np.random.default_rng(0).standard_normal((50, 384)).astype(np.float32)
    real /= np.linalg.norm(real, axis=1, keepdims=True)
    made = gpu._queries(real, 200)
    np.testing.assert_allclose(made[:50], real, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-6)
    nearest = (made[50:] @ real.T).max(axis=1)
    assert nearest.min() > 0.9 and nearest.max() < 0.999
    assert len(gpu._queries(real, 20)) == 20


def lengths(turned: float) -> retr.Encoder:
    """Return an encoder of two dimensions whose vector of the text "far" is turned by an angle."""

    def encode(texts: list[str]) -> NDArray[np.float32]:
        angles = np.array([turned if text == "far" else 0.3 for text in texts])
        return 3 * np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    return retr.from_functions("lengths", encode)


def test_vectors_of_two_devices_are_compared_text_by_text() -> None:
    texts = ["near", "far", "near"] * 30
    same = encodings({"cpu": lengths(1.0), "cuda": lengths(1.0)}, texts)
    assert same["least_cosine"] == pytest.approx(1, abs=1e-6)
    # One text differs by an angle whose cosine is 0.6: the least counts, not the mean.
    other = encodings({"cpu": lengths(1.0), "cuda": lengths(1.0 + np.arccos(0.6))}, texts)
    assert other["least_cosine"] == pytest.approx(0.6, abs=1e-6)
    assert list(other) == ["texts", "cpu", "cuda", "least_cosine"]


def test_the_tables_say_what_a_result_holds() -> None:
    searched = {"rows": 1000, "queries": 16, "cpu_seconds": 2.0, "brought_seconds": 0.25,
                "there_seconds": 0.125, "scanned": 3, "same": True}  # fmt: skip
    result = {
        "dim": 384, "k": 10, "card": "H999, 1", "begun_seconds": 1.5,
        "search": [searched], "filtered": [{**searched, "share": 0.3}],
        "build": {"spec": "ivfpq", "rows": 1000,
                  "cpu": {"seconds": 35.04, "first_block_seconds": 24.2, "recall": 0.9731},
                  "cuda": {"seconds": 14.2, "first_block_seconds": 2.5, "recall": 0.97}},
        "encoder": {"encoder": "e", "texts": 20, "least_cosine": 0.75,
                    "cpu": {"texts_per_second": 10.0}, "cuda": {"texts_per_second": 1234.5}},
    }  # fmt: skip
    search, build, encoder = tables(result)
    cells = ["1,000", "16", "100%", "2.0000", "0.2500", "0.1250", "3"]
    assert search.rows == [cells, [*cells[:2], "30%", *cells[3:]]]
    assert search.notes == ["H999, 1; begun in 1.50 s"]
    assert build.rows == [["cpu", "35.0", "24.2", "0.9731"], ["cuda", "14.2", "2.5", "0.9700"]]
    assert encoder.rows == [["cpu", "10"], ["cuda", "1,234"]]
    assert "alike to 0.2 in cosine" in encoder.notes[0]
    del result["build"], result["encoder"]
    assert len(list(tables(result))) == 1
