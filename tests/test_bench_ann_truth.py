"""Recall as the harness works it out: against definitions, with ties, and with answers that lie."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retr.benchmarks.ann import truth
from retr.benchmarks.ann.truth import nearest, scored
from retr.indexes.base import Metric

METRICS = st.sampled_from(list(Metric))


def judge(base, queries, metric, kth, answers):
    return truth.judge(answers, scored(base, queries, metric, answers), kth, len(base))


def exact_scores(base, query, metric):
    """Scores by definition, in Python's own integers."""
    rows = [[int(v) for v in row] for row in base]
    asked = [int(v) for v in query]
    if metric is Metric.L2:
        return [-sum((a - b) ** 2 for a, b in zip(row, asked, strict=True)) for row in rows]
    return [sum(a * b for a, b in zip(row, asked, strict=True)) for row in rows]


@settings(deadline=None, max_examples=60)
@given(METRICS, st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_ties_count_as_found_and_nothing_else_does(metric, k, seed):
    rng = np.random.default_rng(seed)
    # Few values, so that many rows are equally near and some are the same.
    base = rng.integers(-1, 2, (30, 4)).astype(np.float32)
    queries = rng.integers(-1, 2, (5, 4)).astype(np.float32)
    answers = np.stack([rng.permutation(30)[:k] for _ in queries])

    rows, scores = nearest(base, queries, metric, k)
    share = 0
    for i, query in enumerate(queries):
        every = exact_scores(base, query, metric)
        best = sorted(every, reverse=True)[:k]
        assert scores[i].tolist() == best
        assert [every[row] for row in rows[i]] == best
        share += sum(every[row] >= best[-1] for row in answers[i])
    judged = judge(base, queries, metric, scores[:, -1], answers)
    assert judged.recall == pytest.approx(share / (k * len(queries)))
    assert judge(base, queries, metric, scores[:, -1], rows).recall == 1.0


def test_duplicates_of_real_rows_find_as_much_as_the_rows(data):
    base = np.load(data / "vectors/minilm55k.base.f16.npy")[:2000].astype(np.float32)
    queries = np.load(data / "vectors/minilm55k.queries.f16.npy")[:50].astype(np.float32)
    twice = np.concatenate((base, base))
    rows, scores = nearest(twice, queries, Metric.COSINE, 10)
    # Each of five rows and its copy: any mix of the two is as good.
    assert np.allclose(scores[:, ::2], scores[:, 1::2], atol=0)
    distinct = np.sort(rows % 2000, axis=1)[:, ::2]
    mixed = np.concatenate((distinct, distinct + 2000), axis=1)
    assert judge(twice, queries, Metric.COSINE, scores[:, -1], mixed).recall == 1.0


def test_a_number_that_is_no_row_or_stands_twice_finds_nothing():
    base = np.eye(6, dtype=np.float32)
    query = np.array([[6, 5, 4, 3, 2, 1]], np.float32)
    kth = nearest(base, query, Metric.IP, 4)[1][:, -1]

    def judged(*numbers):
        return judge(base, query, Metric.IP, kth, np.array([numbers]))

    assert judged(0, 1, 2, 3).recall == 1.0
    assert judged(0, 0, 0, 0) == type(judged(0, 1, 2, 3))(0.25, 0, 0, 3)
    assert judged(0, 1, 6, -7) == type(judged(0, 1, 2, 3))(0.5, 0, 2, 0)
    assert judged(0, -1, -1, -1) == type(judged(0, 1, 2, 3))(0.25, 3, 0, 0)
    assert judged(0, 1, 2, 4).recall == 0.75


def test_truth_does_not_depend_on_how_the_base_is_cut(data, monkeypatch):
    base = np.load(data / "vectors/minilm55k.base.f16.npy")[:3000].astype(np.float32)
    queries = np.load(data / "vectors/minilm55k.queries.f16.npy")[:20].astype(np.float32)
    whole = nearest(base, queries, Metric.L2, 10)[1]
    monkeypatch.setattr("retr.benchmarks.ann.truth._BLOCK", 20 * 97)
    assert np.array_equal(nearest(base, queries, Metric.L2, 10)[1], whole)
    distances = ((queries[:, None].astype(np.float64) - base[None]) ** 2).sum(axis=2)
    assert np.allclose(np.sort(distances, axis=1)[:, :10], -whole, rtol=1e-12)
