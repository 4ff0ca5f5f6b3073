"""The approximate kinds at a size at which they do not just compare everything.

The vectors are float32, which is re-ranked from where it lies; the contract suite has float16.
"""

from __future__ import annotations

import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from retr.indexes import IndexSpec, SpecError, kind
from retr.indexes.arrays import ArraySource
from retr.indexes.base import Floats, Hits, Index, IndexFileError, Metric, VectorSource
from retr.indexes.exact import scan
from retr.indexes.points import OperatingPoint

N, DIM, QUERIES = 6000, 64, 200
SPECS = (
    "binary",
    "binary@32",
    "flat@16",
    "flat@32/48",
    "hnsw",
    "hnsw(codes=fp16)",
    "hnsw@32",
    "hnsw@32/48",
    "ivfpq",
    "ivfpq@32",
    "ivfpq@32/48(lists=20)",
)
METRICS = tuple(Metric)


@cache
def data(metric: Metric) -> tuple[ArraySource, Floats]:
    """Return vectors whose variance falls off, rotated so that no dimension stands out."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.standard_normal((DIM, DIM)))
    centres = rng.standard_normal((60, DIM))
    made = centres[rng.integers(0, 60, N + QUERIES)] + 0.8 * rng.standard_normal((N + QUERIES, DIM))
    made = (made * np.linspace(2, 0.1, DIM) ** 2) @ turn + 0.2
    lengths = np.linalg.norm(made, axis=1, keepdims=True)
    made /= lengths if metric is Metric.COSINE else lengths.max()
    vectors = made.astype(np.float32)
    return ArraySource(vectors[:N], metric), vectors[N:]


@cache
def built(text: str, metric: Metric) -> Index:
    spec = IndexSpec.parse(text)
    return kind(spec.kind).build(data(metric)[0], spec)


def recall(hits: Hits, wanted: Hits) -> float:
    counts = (wanted.positions >= 0).sum(axis=1)
    bars = np.array([s[c - 1] if c else np.inf for s, c in zip(wanted.scores, counts, strict=True)])
    good = (hits.scores >= bars[:, None] - 1e-6).sum(axis=1)
    return float(np.minimum(good, counts).sum()) / max(1, int(counts.sum()))


def assert_same(one: Hits, other: Hits) -> None:
    np.testing.assert_array_equal(one.positions, other.positions)
    np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("text", SPECS)
def test_effort_buys_recall(text: str, metric: Metric) -> None:
    index = built(text, metric)
    source, queries = data(metric)
    wanted = scan(source, queries, 10)
    found = [recall(index.search(queries, 10, effort=e), wanted) for e in range(len(index.points))]
    assert found[index.default_effort] >= 0.9
    assert found[-1] >= 0.95
    assert found[0] < found[-1] + 1e-9
    assert all(later >= earlier - 0.01 for earlier, later in pairwise(found))


@pytest.mark.parametrize("text", SPECS)
def test_a_large_batch_answers_as_its_queries_do_one_by_one(text: str) -> None:
    index = built(text, Metric.COSINE)
    _, queries = data(Metric.COSINE)
    batch = index.search(queries, 10, effort=0)
    for row in range(0, QUERIES, 9):
        alone = index.search(queries[row : row + 1], 10, effort=0)
        assert_same(alone, Hits(batch.scores[row : row + 1], batch.positions[row : row + 1]))


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.L2])
@pytest.mark.parametrize("text", SPECS)
def test_a_score_is_that_of_the_exact_scan(text: str, metric: Metric) -> None:
    source, queries = data(metric)
    hits = built(text, metric).search(queries, 10)
    everything = scan(source, queries, N)
    for row in range(0, QUERIES, 7):
        exact = dict(zip(everything.positions[row].tolist(), everything.scores[row], strict=True))
        assert [exact[p] for p in hits.positions[row].tolist()] == hits.scores[row].tolist()


@pytest.mark.parametrize("share", [0.7, 0.4, 0.1, 0.01, 0.001])
@pytest.mark.parametrize("text", SPECS)
def test_filters_leak_nothing_and_cost_no_recall(text: str, share: float) -> None:
    index = built(text, Metric.COSINE)
    source, queries = data(Metric.COSINE)
    scores = source.vectors @ queries[0]
    for allowed in (
        np.random.default_rng(1).random(N) < share,
        np.argsort(np.argsort(scores)) < share * N,  # the worst for the first query
        np.argsort(np.argsort(scores)) >= (1 - share) * N,  # the best for it
    ):
        bitmap = np.packbits(allowed, bitorder="little")
        wanted = scan(source, queries, 10, allowed=bitmap)
        hits = index.search(queries, 10, allowed=bitmap)
        found = hits.positions >= 0
        assert allowed[hits.positions[found]].all()
        assert found.sum() == (wanted.positions >= 0).sum()
        assert recall(hits, wanted) >= 0.9
        # The query for which it is hardest, of its own.
        assert (
            recall(
                index.search(queries[:1], 10, allowed=bitmap),
                scan(source, queries[:1], 10, allowed=bitmap),
            )
            >= 0.7
        )


@pytest.mark.parametrize("text", SPECS)
def test_points_are_given_back_to_a_loaded_index(text: str, tmp_path: Path) -> None:
    index = built(text, Metric.IP)
    source, queries = data(Metric.IP)
    chosen = index.with_points(index.points[1:4], 1)
    assert index.points != chosen.points
    assert_same(chosen.search(queries, 10), index.search(queries, 10, effort=2))
    index.save(tmp_path / "index.faiss")
    stored = [OperatingPoint.from_json(point.to_json()) for point in chosen.points]
    loaded = kind(index.spec.kind).load(
        tmp_path / "index.faiss", source, index.spec, points=stored, default_effort=1
    )
    assert (loaded.points, loaded.default_effort) == (chosen.points, 1)
    assert_same(loaded.search(queries, 10), chosen.search(queries, 10))
    with pytest.raises(ValueError, match="effort 3: give 0 to 2"):
        loaded.search(queries, 10, effort=3)
    with pytest.raises(ValueError, match="must set exactly the knobs"):
        index.with_points([OperatingPoint.of(no_such_knob=3)])


@pytest.mark.parametrize("text", ["hnsw@32", "ivfpq@32", "binary"])
def test_threads_that_ask_one_by_one_do_not_disturb_each_other(text: str) -> None:
    index = built(text, Metric.COSINE)
    _, queries = data(Metric.COSINE)

    def asked(row: int) -> Hits:
        return index.search(queries[row : row + 1], 10, effort=row % 3)

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(asked, [*range(60)] * 3))
    for row, hits in zip([*range(60)] * 3, together, strict=True):
        assert_same(hits, asked(row))


@pytest.mark.parametrize("length", [1e-18, 1e-9, 1e9, 1e18])
@pytest.mark.parametrize("text", ["hnsw@32", "ivfpq@32"])
def test_queries_of_any_length_find_as_much(text: str, length: float) -> None:
    source, queries = data(Metric.IP)
    some = queries[:60] * np.float32(length)
    wanted = scan(source, some, 10).positions
    index = built(text, Metric.IP)
    for found in (
        index.search(some, 10).positions,
        np.concatenate([index.search(query[None], 10).positions for query in some]),
    ):
        assert (found[:, :, None] == wanted[:, None, :]).any(axis=2).mean() >= 0.9


def test_an_index_that_has_answered_holds_no_circle() -> None:
    source, queries = data(Metric.COSINE)
    for text in ("ivfpq@32", "hnsw@32", "binary"):
        spec = IndexSpec.parse(text)
        index = kind(spec.kind).build(ArraySource(source.vectors[:2000], Metric.COSINE), spec)
        index.search(queries[:1], 10)
        index.search(queries[:1], 10)
        gone = weakref.ref(index)
        del index
        assert gone() is None, text  # its file is let go of at once


def test_the_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    source, _ = data(Metric.IP)
    path = tmp_path / "index.faiss"
    built("hnsw@32", Metric.IP).save(path)
    for other in ("ivfpq@32", "binary@32", "flat@32", "flat"):
        spec = IndexSpec.parse(other)
        with pytest.raises(IndexFileError, match="index\\.faiss"):
            kind(spec.kind).load(path, source, spec)


# Runs in a process of its own: what must not happen is that it dies.
DAMAGE = """
import sys
from pathlib import Path
import numpy as np
from retr.indexes import IndexSpec, kind
from retr.indexes.arrays import ArraySource
from retr.indexes.base import IndexFileError, Metric

folder, spec = Path(sys.argv[1]), IndexSpec.parse(sys.argv[2])
source = ArraySource(np.load(folder / "vectors.npy"), Metric.IP)
queries, n = source.vectors[:40], len(source)
whole = (folder / "whole.faiss").read_bytes()
allowed = np.packbits(np.arange(n) % 2, bitorder="little")
rng = np.random.default_rng(0)
for case in range(20):
    damaged = bytearray(whole)
    at, length = int(rng.integers(1 << 16, len(whole) - 500)), int(rng.choice([1, 8, 400]))
    damaged[at : at + length] = rng.bytes(length)
    path = folder / f"{case}.faiss"
    path.write_bytes(damaged)
    try:
        index = kind(spec.kind).load(path, source, spec)
    except IndexFileError:
        continue
    for some in (queries, queries[:1]):
        for bitmap in (None, allowed):
            positions = index.search(some, 10, effort=0, allowed=bitmap).positions
            assert ((positions >= 0) & (positions < n)).all(), case
            assert bitmap is None or (positions % 2 == 1).all(), case
"""


@pytest.mark.parametrize("text", ["binary", "flat@32", "hnsw@32", "ivfpq@32", "ivfpq@32/48"])
def test_damage_beyond_the_header_is_no_crash(text: str, tmp_path: Path) -> None:
    source, _ = data(Metric.IP)
    vectors = np.concatenate((source.vectors, -source.vectors))
    np.save(tmp_path / "vectors.npy", vectors)
    spec = IndexSpec.parse(text)
    whole = kind(spec.kind).build(ArraySource(vectors, Metric.IP), spec)
    whole.save(tmp_path / "whole.faiss")
    ran = subprocess.run(
        [sys.executable, "-c", DAMAGE, str(tmp_path), text], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-2000:]


@pytest.mark.parametrize("text", ["flat@16", "hnsw@32", "ivfpq@32"])
def test_plain_faiss_searches_the_prefixes(text: str, tmp_path: Path) -> None:
    import faiss

    path = tmp_path / "index.faiss"
    built(text, Metric.COSINE).save(path)
    source, queries = data(Metric.COSINE)
    index = faiss.read_index(str(path), faiss.IO_FLAG_ONDISK_SAME_DIR | faiss.IO_FLAG_READ_ONLY)
    _, found = index.search(queries, 100)
    wanted = scan(source, queries, 1).positions
    assert (found == wanted).any(axis=1).mean() > 0.8


def test_neighbours_lie_together_in_a_graph(tmp_path: Path) -> None:
    import faiss

    path = tmp_path / "index.faiss"
    built("hnsw@32", Metric.COSINE).save(path)
    index = faiss.read_index(str(path))  # held, for it owns the next
    order = faiss.vector_to_array(faiss.downcast_index(index.index).id_map)
    assert sorted(order) == list(range(N))
    vectors = data(Metric.COSINE)[0].vectors

    def closeness(rows: NDArray[Any]) -> float:
        return float(np.vecdot(rows[:-1], rows[1:]).mean())

    assert closeness(vectors[order]) > closeness(vectors) + 0.2


def test_points_from_before_there_was_a_gap_scan_as_many_lists() -> None:
    index = built("ivfpq@32", Metric.COSINE)
    _, queries = data(Metric.COSINE)
    old = index.with_points([OperatingPoint.of(probes=p, shortlist=60) for p in (2, 40)])
    few, many = (old.search(queries, 10, effort=effort) for effort in (0, 1))
    assert many.scores.sum() > few.scores.sum()
    new = index.with_points([OperatingPoint.of(probes=40, gap=1, shortlist=60)])
    one_list = index.with_points([OperatingPoint.of(probes=1, gap=4000, shortlist=60)])
    same = new.search(queries, 10).positions == one_list.search(queries, 10).positions
    assert same.all(axis=1).mean() > 0.95  # but where a second list is as close


class InterruptedBuildError(Exception):
    pass


@pytest.mark.parametrize("text", ["flat", "flat@16", "hnsw", "ivfpq", "binary"])
def test_building_says_how_far_it_is_and_can_be_stopped(text: str) -> None:
    source = Short(data(Metric.L2)[0].vectors[:2000], Metric.L2)
    spec = IndexSpec.parse(text)
    seen: list[tuple[int, int]] = []
    kind(spec.kind).build(source, spec, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (2000, 2000)
    assert len(seen) > 3
    assert seen == sorted(seen)

    def stop(done: int, total: int) -> None:
        raise InterruptedBuildError

    with pytest.raises(InterruptedBuildError):
        kind(spec.kind).build(source, spec, progress=stop)


class Short(ArraySource):
    """A source whose blocks are short."""

    def blocks(self, size: int) -> Any:
        return super().blocks(min(size, 300))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hnsw(m=3)", "m must be an integer from 4 to 128"),
        ("hnsw(m=true)", "m must be an integer"),
        ("hnsw(codes=int4)", "codes must be int8 or fp16"),
        ("ivfpq(rotation=1)", "rotation must be true or false"),
        ("flat@16/32(rotation=true)", "several prefixes re-rank"),
        ("binary@64", "shorter than all 64 dimensions"),
        ("flat@100", "shorter than all 64 dimensions"),
        ("flat(rotation=true)", "takes no parameters"),
    ],
)
def test_specs_that_mean_nothing_are_refused(text: str, message: str) -> None:
    spec = IndexSpec.parse(text)
    source: VectorSource = data(Metric.IP)[0]
    with pytest.raises(SpecError, match=message):
        kind(spec.kind).build(source, spec)


knobs = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True), st.integers(1, 2**31), max_size=4
)


@given(knobs)
def test_a_point_survives_json(given_knobs: dict[str, int]) -> None:
    point = OperatingPoint.of(**given_knobs)
    assert OperatingPoint.from_json(point.to_json()) == point
    assert dict(point) == given_knobs
    assert hash(point) == hash(OperatingPoint.of(**dict(reversed(given_knobs.items()))))


@pytest.mark.parametrize("value", [None, [], {"ef": 0}, {"ef": 1.5}, {"ef": True}, {"ef": "9"}])
def test_what_is_no_point_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="operating point"):
        OperatingPoint.from_json(value)


def test_rotation_is_chosen_where_it_measures_better() -> None:
    from retr.indexes.kinds import matryoshka

    source, _ = data(Metric.IP)
    sample: Floats = source.vectors.view(np.float32)

    def fit(vectors: Floats, rotation: bool | None) -> NDArray[Any]:
        return matryoshka.fit(vectors, Metric.IP, 16, rotation, int8=True, step=16).matrix

    np.testing.assert_array_equal(fit(sample, None), fit(sample, True))
    whole = matryoshka.principal(sample, DIM)
    np.testing.assert_allclose(
        (sample @ whole.T) @ (sample[:50] @ whole.T).T, sample @ sample[:50].T, atol=1e-6
    )
    # What an encoder trained for prefixes gives: what matters comes first.
    _, basis = np.linalg.eigh((sample.T @ sample).astype(np.float64))
    ordered = np.ascontiguousarray(sample @ basis[:, ::-1], np.float32)
    np.testing.assert_array_equal(fit(ordered, None), np.eye(16, DIM))
