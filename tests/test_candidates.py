"""Which indexes are proposed: they can be built, fit the memory, and take what was reckoned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retr.indexes import IndexSpec, kind
from retr.indexes.arrays import ArraySource
from retr.indexes.base import Metric
from retr.indexes.tuning.candidates import bytes_of, candidates

sizes = st.integers(1, 10**8)
dims = st.integers(1, 4096)
recalls = st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999])
metrics = st.sampled_from(list(Metric))


@given(sizes, dims, metrics, recalls, st.none() | st.integers(1, 10**12))
def test_what_is_proposed_can_be_built_and_fits(
    n: int, dim: int, metric: Metric, recall: float, memory: int | None
) -> None:
    specs = candidates(n, dim, metric, recall, memory)
    assert 1 <= len(specs) <= 3
    assert len(set(specs)) == len(specs)
    for spec in specs:
        kind(spec.kind).check(spec)
        assert all(prefix < dim for prefix in spec.dims)
    if memory is not None and specs != [IndexSpec("flat")]:
        fitting = [bytes_of(spec, n, dim) <= memory for spec in specs]
        smallest = bytes_of(IndexSpec("binary"), n, dim)
        assert all(fitting) or (len(specs) == 1 and bytes_of(specs[0], n, dim) <= smallest)


@given(sizes, dims, metrics)
def test_exact_is_flat(n: int, dim: int, metric: Metric) -> None:
    assert candidates(n, dim, metric, 1.0) == [IndexSpec("flat")]


def test_less_memory_means_shorter_codes() -> None:
    def kinds(memory: int | None) -> list[str]:
        found = candidates(1_000_000, 384, Metric.COSINE, 0.95, memory)
        return [spec.kind for spec in found]

    assert candidates(1000, 384, Metric.COSINE, 0.95) == [IndexSpec("flat")]
    for memory in (None, 2 << 30):
        assert kinds(memory) == ["ivfpq", "hnsw"]
    assert kinds(100 << 20) == ["ivfpq", "binary"]
    for memory in (50 << 20, 1 << 20):
        assert kinds(memory) == ["binary"]


@pytest.mark.parametrize("text", ["binary", "flat", "flat@64", "hnsw", "hnsw@64", "ivfpq@64"])
def test_the_bytes_reckoned_are_those_of_the_file(text: str, tmp_path: Path) -> None:
    n, dim = 8000, 96
    rng = np.random.default_rng(0)
    made = rng.standard_normal((30, dim))[rng.integers(0, 30, n)] + rng.standard_normal((n, dim))
    source = ArraySource(made.astype(np.float32), Metric.IP)
    spec, path = IndexSpec.parse(text), tmp_path / "index.faiss"
    kind(spec.kind).build(source, spec).save(path)
    # The projections, which do not grow with the vectors, are not reckoned.
    fixed = 0 if text == "flat" else 8 * dim * dim
    assert abs(path.stat().st_size - fixed - bytes_of(spec, n, dim)) < 0.35 * bytes_of(spec, n, dim)
