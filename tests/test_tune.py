"""Indexes set to a recall: what is measured is what searches have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import retr
from retr.indexes import kind
from retr.indexes.arrays import ArraySource
from retr.indexes.base import Hits, Metric
from retr.indexes.exact import scan
from retr.indexes.points import OperatingPoint, aimed
from retr.indexes.spec import IndexSpec
from retr.indexes.tuning import tune as tuning
from retr.indexes.tuning.curve import K, Measured, batches_in_turns, recalls, turns
from retr.indexes.tuning.tune import Tuned, made_queries, measure, tune
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.settings import check_memory, check_recall

pytest.importorskip("faiss")

DIM = 384


@cache
def clustered() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return 6,000 unit vectors and 300 held out of the same clusters, with a falling spectrum."""
    random = np.random.default_rng(0)
    scale = 1 / np.sqrt(1 + np.arange(DIM))
    centres = random.standard_normal((150, DIM)) * scale
    members = centres[random.integers(0, len(centres), 6300)]
    out = members + 0.5 * random.standard_normal((6300, DIM)) * scale
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    out[5000:5050] = out[:50]  # duplicates, as texts have them
    return out[:6000].astype(np.float32), out[6000:].astype(np.float32)


def found(collection: retr.Collection, recall: float | str | None) -> list[set[int]]:
    _, held = clustered()
    hits = collection.search(vector=held, k=K, recall=recall)
    return [{hit.row for hit in each} for each in hits]


def share(exact: Sequence[set[int]], got: Sequence[set[int]]) -> float:
    return float(np.mean([len(a & b) / K for a, b in zip(exact, got, strict=True)]))


def test_equal_scores_count_as_found() -> None:
    truth = Hits(np.array([[3, 2, 2]], np.float32), np.array([[7, 1, 4]]))
    other = Hits(np.array([[3, 2, 2]], np.float32), np.array([[7, 9, 8]]))
    short = Hits(np.array([[3, 2, -np.inf]], np.float32), np.array([[7, 9, -1]]))
    worse = Hits(np.array([[3, 1, 0]], np.float32), np.array([[7, 5, 6]]))
    assert recalls(truth, other).tolist() == [1.0]
    assert recalls(truth, short).tolist() == pytest.approx([2 / 3])
    assert recalls(truth, worse).tolist() == pytest.approx([1 / 3])


@pytest.mark.parametrize("metric", list(Metric))
def test_made_queries(metric: Metric) -> None:
    rows, _ = clustered()
    source = ArraySource(rows[:2000], metric)
    index = measure_of(source).index
    assert index is not None
    made = made_queries(source, index, 0)
    assert made.shape == (2000, DIM)
    assert np.isfinite(made).all()
    assert (made == made_queries(source, index, 0)).all()
    if metric is Metric.COSINE:
        assert np.linalg.norm(made, axis=1) == pytest.approx(1, abs=1e-5)
    # As far from the nearest row as rows are from each other, most of them: none is a row.
    nearest = scan(ArraySource(rows[:2000], Metric.L2), made, 1).scores[:, 0]
    between = scan(ArraySource(rows[:2000], Metric.L2), rows[:2000], 2).scores[:, 1]
    assert np.median(nearest) < 0.5 * np.median(between)


def test_copies_are_no_neighbours_of_a_made_query() -> None:
    """Where every row is there ten times, nearly, queries are as far from the rows as ever."""
    rows, _ = clustered()
    random = np.random.default_rng(1)
    many = np.repeat(rows[:300], 10, axis=0)
    many += (0.001 * random.standard_normal(many.shape)).astype(np.float32)
    many /= np.linalg.norm(many, axis=1, keepdims=True)
    source = ArraySource(many, Metric.COSINE)
    index = kind("flat").build(source, IndexSpec.parse("flat@96"))
    made = made_queries(source, index, 0)
    alike = ArraySource(rows[:300], Metric.COSINE)
    own = made_queries(alike, kind("flat").build(alike, IndexSpec.parse("flat@96")), 0)
    nearest = [np.median(scan(s, q, 1).scores) for s, q in ((source, made), (alike, own))]
    assert nearest[0] == pytest.approx(nearest[1], abs=0.08)
    # Copies alone: they are asked for as they are.
    alone = ArraySource(np.repeat(rows[:1], 100, axis=0), Metric.COSINE)
    same = made_queries(alone, kind("flat").build(alone, IndexSpec.parse("flat@96")), 0)
    assert np.isfinite(same).all()
    assert same.shape == (100, DIM)


def test_with_made_queries_more_is_aimed_for() -> None:
    assert aimed(0.9, own=True) == 0.9
    assert aimed(0.9, own=False) == pytest.approx(0.95)
    assert aimed(1.0, own=False) == 1.0
    rows, held = clustered()
    source = ArraySource(rows, Metric.COSINE)
    index = kind("flat").build(source, IndexSpec.parse("flat@96"))
    made, own = (measure(index, source, queries, 0.9) for queries in (None, held))
    assert made.recall >= 0.93
    assert made.recall > own.recall
    assert made.is_met
    assert own.is_met
    # What is measured has to be what was aimed for, to be called met.
    assert not replace(made, asked=2 * made.chosen.high - 1 + 0.001).is_met  # type: ignore[union-attr]
    assert replace(made, asked=2 * made.chosen.high - 1 + 0.001, own=True).is_met  # type: ignore[union-attr]


def measure_of(source: ArraySource):  # type: ignore[no-untyped-def]
    return tune(source, IndexSpec.parse("hnsw@96"), None, 0.9)


@pytest.mark.parametrize("recall", [0.9, 0.98])
def test_what_was_measured_is_what_unseen_queries_find(recall: float) -> None:
    rows, held = clustered()
    source = ArraySource(rows, Metric.COSINE)
    tuned = tune(source, None, None, recall)
    assert tuned.index is not None
    assert tuned.chosen is not None
    assert tuned.is_met
    assert tuned.chosen.low <= tuned.recall <= tuned.chosen.high
    truth = scan(source, held, K)
    assert recalls(truth, tuned.index.search(held, K)).mean() >= recall - 0.03
    curve = [each.recall for each in tuned.curve]
    assert curve == sorted(curve)
    # Measured with those very queries it is met by them.
    again = measure(tuned.index, source, held, recall)
    assert again.own
    assert again.queries == len(held)
    assert recalls(truth, again.index.search(held, K)).mean() >= recall - 0.01  # type: ignore[union-attr]


def test_a_recall_that_cannot_be_had_is_said() -> None:
    rows, _ = clustered()
    source = ArraySource(rows, Metric.COSINE)
    tuned = tune(source, IndexSpec.parse("binary"), None, 0.5)
    assert tuned.index is not None
    fastest = tuned.index.with_points(tuned.index.points[:1])
    again = measure(fastest, source, None, 0.999)
    assert again.recall < 0.999
    assert not again.is_met
    assert len(again.curve) == 1


@pytest.mark.parametrize(
    ("alone", "many", "share"),
    [((85.0, 100.0), (1.6, 1.0), 1.166), ((85.0, 100.0), (0.8, 1.0), 0.825), ((1, 1), (1, 1), 1)],
)
def test_a_query_alone_and_one_in_a_batch_count_alike(
    monkeypatch: pytest.MonkeyPatch,
    alone: tuple[float, float],
    many: tuple[float, float],
    share: float,
) -> None:
    source = ArraySource(clustered()[0][:500], Metric.COSINE)
    index = kind("flat").build(source, IndexSpec("flat"))
    one = Tuned(index, (), 0.9, 10, True, 0.0, 0.0)
    monkeypatch.setattr(tuning, "in_turns", lambda *_: list(alone))
    monkeypatch.setattr(tuning, "batches_in_turns", lambda *_: list(many))
    queries = clustered()[1]
    assert tuning._share(one, one, queries) == pytest.approx(share, abs=1e-3)
    assert tuning._share(one, replace(one, index=None), queries) is None


def test_batches_of_both_are_timed() -> None:
    source = ArraySource(clustered()[0], Metric.COSINE)
    flat = kind("flat").build(source, IndexSpec("flat"))
    lists = kind("ivfpq").build(source, IndexSpec.parse("ivfpq@192"))
    times = batches_in_turns([flat, lists], clustered()[1])
    assert len(times) == 2 and min(times) > 0


@pytest.mark.parametrize("count", [1, 2, 3, 8, 13])
@pytest.mark.parametrize("blocks", [5, 8, 10])
def test_turns_are_of_each_block_once_and_never_of_the_one_just_asked(
    count: int, blocks: int
) -> None:
    order = list(turns(count, blocks))
    assert sorted(order) == [(each, block) for each in range(count) for block in range(blocks)]
    asked = [block for _, block in order]
    assert all(len({*asked[i : i + 2]}) == 2 for i in range(len(asked) - 1))


def test_few_vectors_are_compared_one_by_one() -> None:
    rows, _ = clustered()
    tuned = tune(ArraySource(rows[:1000], Metric.COSINE), None, None, 0.9)
    assert (tuned.index, tuned.recall, tuned.is_met) == (None, 1.0, True)


def test_a_collection_keeps_what_was_measured(tmp_path: Path) -> None:
    rows, _ = clustered()
    path = tmp_path / "a.retr"
    collection = retr.build(rows, path, recall=0.9, progress=False)
    exact = found(collection, "exact")
    assert share(exact, found(collection, None)) >= 0.87
    assert share(exact, found(collection, 0.99)) >= share(exact, found(collection, None))
    (dense,) = [s for s in collection.info()["segments"] if s["role"] == "dense"]
    assert dense["measured"]["asked"] == 0.9
    assert dense["measured"]["low"] <= dense["measured"]["recall"] <= dense["measured"]["high"]
    assert found(retr.open(path), None) == found(collection, None)
    # Built again it stays, and so it does when a few rows come.
    again = retr.build(rows, path, recall=0.9, progress=False)
    again.add(np.ascontiguousarray(rows[:3] + 0.01), progress=False, ids=None)
    (kept,) = [s for s in again.info()["segments"] if s["index"]]
    assert kept["id"] == dense["id"]
    report = again.tune(recall=0.98)
    assert report["indexes"][0]["asked"] == 0.98
    assert share(found(again, "exact"), found(again, None)) >= 0.95
    assert again.tune(recall="exact") == {"indexes": [], "fusion": None}
    assert found(again, None) == found(again, "exact")
    # So does a build that is to find all, over one that was not.
    approximate = retr.build(rows, path, recall=0.9, progress=False)
    assert any(s["index"] for s in approximate.info()["segments"])
    exactly = retr.build(rows, path, recall="exact", progress=False)
    assert not any(s["index"] for s in exactly.info()["segments"])
    with pytest.raises(InputError, match="nothing to tune"):
        again.tune()
    assert again.verify() == []


def test_a_memory_that_no_index_fits_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_QUERIES", 100)
    rows, _ = clustered()
    retr.build(rows, tmp_path / "a.retr", recall=0.9, memory="1MB", progress=False)
    assert "memory" not in caplog.text
    retr.build(rows, tmp_path / "b.retr", recall=0.9, memory="10kB", progress=False)
    assert "no index fits in the 10,000 bytes of memory asked for: binary" in caplog.text


@pytest.mark.parametrize(
    ("text", "size"), [("2GB", 2 * 10**9), ("500 mb", 5 * 10**8), ("1.5k", 1500), (7, 7)]
)
def test_sizes(text: str | int, size: int) -> None:
    assert check_memory(text) == size


@pytest.mark.parametrize(
    ("text", "message"),
    [("95", "or 'exact'; 0.95, perhaps"), ("0", "up to 1"), ("nan", "up to 1"), ("x", "up to 1")],
)
def test_wrong_recalls(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_recall(text)
    assert check_recall("exact") == check_recall(1) == 1.0


@pytest.mark.parametrize("text", ["", "0", "-1", "2 GiB", "x", "nan"])
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(InputError, match="give a size"):
        check_memory(text)


@pytest.mark.parametrize(
    ("one", "other", "better"),
    [
        ((0.95, 20.0), (0.96, 30.0), True),  # both have it: the faster one
        ((0.96, 30.0), (0.95, 20.0), False),
        ((0.95, 90.0), (0.80, 20.0), True),  # one has it
        ((0.80, 20.0), (0.95, 90.0), False),
        ((0.80, 20.0), (0.70, 10.0), True),  # none has it: the one that has more
    ],
)
def test_which_index_is_taken(
    one: tuple[float, float], other: tuple[float, float], better: bool
) -> None:
    index = kind("flat").build(
        ArraySource(np.eye(4, dtype=np.float32), Metric.IP), IndexSpec("flat")
    )

    def tuned(recall: float, cpu_us: float) -> Tuned:
        curve = (Measured(OperatingPoint(), recall, recall, recall, cpu_us),)
        return Tuned(index, curve, 0.95, 10, True, 0.0, 0.0)

    assert tuned(*one).is_better(tuned(*other)) is better
