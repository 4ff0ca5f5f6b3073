"""Recall of an index against exact search, ties included, against an oracle by definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retr.benchmarks.beir.index_loss import recall, recalls

# Few values, so that ties are many.
SCORES = st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5]), min_size=1, max_size=30)


def ranked(scores: dict[str, float]) -> dict[str, float]:
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


@given(SCORES, st.integers(1, 12), st.randoms(use_true_random=False))
def test_a_hit_is_right_if_it_is_as_near_as_the_exact_kth(values, k, random):
    everything = {f"d{i}": value for i, value in enumerate(values)}
    names = list(everything)
    random.shuffle(names)
    exact = ranked({name: everything[name] for name in names})
    depth = min(len(exact), k + random.randrange(4))
    found = ranked(
        {name: everything[name] for name in random.sample(names, random.randrange(len(names) + 1))}
    )
    cut = dict(list(exact.items())[:depth])

    kth = sorted(everything.values(), reverse=True)[: min(k, len(everything))][-1]
    right = sum(score >= kth for score in list(found.values())[:k])
    expected = min(right, min(k, len(everything))) / min(k, len(everything))
    if any(name in cut for name in found):
        assert recall(cut, found, k) == pytest.approx(expected)
    else:
        # Nothing tells whether its scores are exact, so they are not believed.
        assert recall(cut, found, k) == 0


def test_an_index_whose_scores_are_not_exact_is_not_believed():
    exact = {"a": 0.9, "b": 0.8, "c": 0.7}
    assert recall(exact, {"a": 0.9, "x": 0.95, "y": 0.9}, 3) == 1.0
    assert recall(exact, {"a": 0.99, "x": 0.95, "y": 0.9}, 3) == pytest.approx(1 / 3)


def test_rounding_does_not_cost_recall():
    exact = {"a": 0.9, "b": 0.8}
    assert recall(exact, {"a": 0.9 - 1e-7, "x": 0.8 - 1e-7}, 2) == 1.0
    assert recall(exact, {"a": 0.9, "x": 0.79}, 2) == 0.5


def test_distances_are_negative_scores():
    exact = {"a": -1.0, "b": -100.0}
    assert recall(exact, {"a": -1.0, "x": -100.0}, 2) == 1.0
    assert recall(exact, {"a": -1.0, "x": -101.0}, 2) == 0.5


def test_where_there_is_nothing_to_find():
    assert recall({}, {}, 10) == 1.0
    assert recall({"a": 1.0}, {}, 10) == 0.0
    with pytest.raises(ValueError, match="k is 0"):
        recall({"a": 1.0}, {"a": 1.0}, 0)


def test_a_query_that_the_index_did_not_answer_counts_0():
    assert recalls({"q": {"a": 1.0}, "r": {"a": 1.0}}, {"q": {"a": 1.0}}, 1) == {"q": 1.0, "r": 0.0}
