"""Comparisons: against closed forms, exhaustive enumeration, and coverage under simulation."""

from __future__ import annotations

import itertools
import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retr.retrieval.evaluation import (
    Absent,
    Evaluation,
    compare,
    compare_all,
    evaluate,
    interval,
    moved_queries,
)
from retr.retrieval.evaluation.significance import holm
from retr.retrieval.values.errors import InputError


def evaluation(values, name: str = "run", measure: str = "AP", first: int = 0) -> Evaluation:
    by_query = {f"q{i}": float(v) for i, v in enumerate(values, start=first)}
    mean = sum(by_query.values()) / len(by_query)
    return Evaluation(
        name, Absent.ZERO, False, {measure: mean}, {measure: by_query}, (), 0, {measure: "test"}
    )


def two(differences, level: float = 0.5) -> tuple[Evaluation, Evaluation]:
    base = [level] * len(differences)
    return evaluation(base, "base"), evaluation([level + d for d in differences], "other")


def enumerated(d: list[float]) -> float:
    """Two-sided: the share of sign assignments whose mean is at least as far from 0."""
    seen = abs(sum(d)) - 1e-9
    sums = [abs(sum(s * x for s, x in zip(signs, d, strict=True))) for signs in signs_of(len(d))]
    return sum(x >= seen for x in sums) / len(sums)


def signs_of(n: int):
    return itertools.product((-1, 1), repeat=n)


steps = st.sampled_from([-0.5, -1 / 3, -0.25, -0.1, 0.0, 0.05, 0.3, 1 / 3, 0.4])


@settings(deadline=None)
@given(st.lists(steps, min_size=1, max_size=9))
def test_the_randomisation_test_is_exact_for_few_queries(d) -> None:
    result = compare(*two(d), resamples=1000)["AP"]
    assert result.exact
    assert result.randomisation.p == pytest.approx(enumerated(d))


def test_a_sampled_randomisation_test_is_near_the_exact_one_and_never_zero() -> None:
    d = list(np.random.default_rng(3).normal(0.15, 0.3, 12))
    sampled = compare(*two(d), resamples=4000)["AP"]
    assert not sampled.exact
    exact = enumerated(d)
    assert sampled.randomisation.p == pytest.approx(exact, abs=4 * math.sqrt(exact / 4000) + 1e-3)
    sure = compare(*two([0.1] * 40), resamples=999)["AP"]
    assert 0 < sure.randomisation.p <= 2 / 1000


def test_queries_without_a_difference_do_not_change_the_randomisation_test() -> None:
    d = [0.3, -0.1, 0.2, 0.4, 0.1]
    with_zeros = compare(*two([*d, *[0.0] * 50]))["AP"]
    assert with_zeros.exact
    assert with_zeros.randomisation.p == compare(*two(d))["AP"].randomisation.p == enumerated(d)


def test_the_t_test_is_student_s() -> None:
    from scipy.stats import t as student

    rng = np.random.default_rng(1)
    a, b = rng.random(30), rng.random(30)
    result = compare(evaluation(a, "base"), evaluation(b, "other"))["AP"]
    d = b - a
    t = d.mean() / (d.std(ddof=1) / math.sqrt(30))
    assert result.t_test.p == pytest.approx(2 * student.sf(abs(t), 29))
    assert result.difference == pytest.approx(d.mean())
    assert (result.base, result.other) == pytest.approx((a.mean(), b.mean()))


@pytest.mark.parametrize("d", [[0.0], [0.0] * 30, [0.25], [0.25] * 30, [-0.1] * 2, [1e-17] * 3])
def test_equal_differences_give_numbers_and_no_warning(d) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = compare(*two(d), resamples=200)["AP"]
    same = max(map(abs, d)) < 1e-12
    assert 0 < result.randomisation.p <= 1
    assert (result.randomisation.p == 1.0) == (same or len(d) == 1)
    assert result.t_test.p == (1.0 if same else None)
    if len(d) == 1:
        assert result.interval is None
    else:
        assert result.interval is not None
        assert result.interval.low == result.interval.high == pytest.approx(d[0], abs=1e-12)
    assert result.ties == (len(d) if same else 0)
    json.dumps(result.difference, allow_nan=False)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(*[st.sampled_from([0.0, 1 / 3, 0.1 + 0.2, 0.3, 0.5, 1.0])] * 2),
        min_size=1,
        max_size=30,
    )
)
def test_a_comparison_is_always_finite_and_coherent(pairs) -> None:
    base = evaluation([a for a, _ in pairs], "base")
    other = evaluation([b for _, b in pairs], "other")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        there = compare(base, other, resamples=200)
        back = compare(other, base, resamples=200)
    json.dumps(there.to_dict(), allow_nan=False)
    a, b = there["AP"], back["AP"]
    assert a.wins + a.losses + a.ties == len(pairs)
    assert (a.wins, a.losses) == (b.losses, b.wins)
    assert a.difference == pytest.approx(-b.difference)
    assert a.t_test.p is None or a.t_test.p == pytest.approx(b.t_test.p)
    if a.interval is not None:
        d = [y - x for x, y in pairs]
        assert min(d) - 1e-9 <= a.interval.low <= a.interval.high <= max(d) + 1e-9


def test_wins_losses_ties_and_moves_are_counted_by_query() -> None:
    base = evaluation([0.1, 0.2, 0.3, 0.4, 0.1 + 0.2], "base")
    other = evaluation([0.1, 0.9, 0.1, 0.5, 0.3], "other")
    result = compare(base, other, moved=2)["AP"]
    assert (result.wins, result.losses, result.ties) == (2, 1, 2)
    assert [move.query for move in result.moved] == ["q1", "q2"]
    assert (result.moved[0].base, result.moved[0].other) == (0.2, 0.9)
    assert len(compare(base, other)["AP"].moved) == 3


def test_only_queries_that_both_count_are_compared() -> None:
    base = evaluation([1.0, 0.5, 0.5], "base")
    other = evaluation([0.5, 1.0, 0.0], "other", first=1)
    result = compare(base, other)
    assert (result.queries, result.left_out) == (2, 2)
    assert result["AP"].difference == pytest.approx(0.25)
    with pytest.raises(InputError, match="no query in common"):
        compare(base, evaluation([1.0], "other", first=9))


def test_holm_is_the_step_down_of_the_paper() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8, None, 0.01]) == [1.0, 1.0, None, pytest.approx(0.03)]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_the_closed_form_rejects(p) -> None:
    """Holm at level a rejects the smallest p while p(i) <= a / (m - i + 1)."""
    adjusted = holm(p)
    order = sorted(range(len(p)), key=p.__getitem__)
    for level in (0.01, 0.05, 0.2):
        going = True
        for rank, i in enumerate(order):
            bound = p[i] * (len(p) - rank)
            going = going and bound <= level
            if abs(bound - level) > 1e-9:
                assert (adjusted[i] <= level) == going


def test_several_runs_are_corrected_within_each_measure() -> None:
    rng = np.random.default_rng(0)
    base = evaluation(rng.random(25), "base")
    others = [
        evaluation(base.values("AP") + rng.normal(s, 0.2, 25), f"r{s}") for s in (0, 0.1, 0.2)
    ]
    together = compare_all(base, others)
    alone = [compare(base, other)["AP"] for other in others]
    assert [c["AP"].randomisation.p for c in together] == [d.randomisation.p for d in alone]
    assert [c["AP"].randomisation.holm for c in together] == holm(
        [d.randomisation.p for d in alone]
    )
    assert [c["AP"].t_test.holm for c in together] == holm([d.t_test.p for d in alone])
    assert all(d.randomisation.holm == d.randomisation.p for d in alone)
    assert {c.systems for c in together} == {3}


def test_the_same_seed_gives_the_same_figures_whatever_else_is_asked() -> None:
    rng = np.random.default_rng(0)
    qrels = {f"q{i}": {f"d{j}": int(rng.integers(0, 2)) for j in range(8)} for i in range(40)}
    runs = [{q: {f"d{j}": float(rng.random()) for j in range(8)} for q in qrels} for _ in range(2)]
    base, other = (
        evaluate(run, qrels, ["AP", "nDCG@3"], name=str(i)) for i, run in enumerate(runs)
    )
    both = compare(base, other, resamples=500, seed=7)
    assert compare(base, other, resamples=500, seed=7) == both
    assert compare(base, other, measures="MAP", resamples=500, seed=7)["AP"] == both["AP"]
    assert compare(base, other, resamples=500, seed=8) != both
    assert interval(base, "MAP", seed=1) == interval(base, "AP", seed=1)


def test_the_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    # Skewed values, as reciprocal ranks are: mostly 0, some 1. 400 samples of 60 queries.
    rng = np.random.default_rng(0)
    levels, shares = np.array([0.0, 0.2, 0.5, 1.0]), np.array([0.45, 0.15, 0.15, 0.25])
    true = float(levels @ shares)
    held = 0
    for _ in range(400):
        found = interval(evaluation(rng.choice(levels, 60, p=shares)), "AP", resamples=400)
        assert found is not None
        held += found.low <= true <= found.high
    # 380 expected; five standard deviations, and one point for what BCa lacks at 60 queries
    assert 380 - 4 - 5 * math.sqrt(400 * 0.95 * 0.05) <= held <= 400


def test_the_tests_reject_a_true_null_hypothesis_as_seldom_as_they_say() -> None:
    rng = np.random.default_rng(1)
    rejected = [0, 0]
    for _ in range(300):
        result = compare(
            *two(list(rng.exponential(0.2, 40) * rng.choice([-1, 1], 40))), resamples=300
        )
        rejected[0] += result["AP"].randomisation.p <= 0.05
        rejected[1] += result["AP"].t_test.p <= 0.05
    assert max(rejected) <= 15 + 4 * math.sqrt(300 * 0.05 * 0.95)
    assert min(rejected) > 0


def test_the_interval_is_that_of_scipy_s_bca() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(5).random(50) ** 3
    expected = bootstrap(
        (values,), np.mean, n_resamples=2000, method="BCa", rng=np.random.default_rng(4)
    ).confidence_interval
    found = interval(evaluation(values), "AP", resamples=2000, seed=4)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("options", [{"confidence": 95}, {"confidence": 0}, {"resamples": 10}])
def test_options_out_of_range_are_refused(options) -> None:
    with pytest.raises(InputError, match="give"):
        compare(*two([0.1, 0.2]), **options)
    with pytest.raises(InputError, match="give"):
        interval(evaluation([0.1, 0.2]), "AP", **options)


def test_measures_that_are_not_there_are_named() -> None:
    base, other = two([0.1, 0.2])
    with pytest.raises(InputError, match="nDCG@10 was not evaluated for base"):
        compare(base, other, measures=["nDCG@10"])
    with pytest.raises(InputError, match="no measure in common"):
        compare(base, evaluation([0.1, 0.2], measure="RR"))
    with pytest.raises(InputError, match="R@5 was not compared"):
        compare(base, other)["R@5"]
    with pytest.raises(InputError, match="no run"):
        compare_all(base, [])


def test_the_table_says_what_was_found() -> None:
    lines = compare(*two([0.1] * 20 + [-0.1] * 2)).table().splitlines()
    assert lines[0].split()[:5] == ["run", "measure", "base", "other", "diff"]
    cells = lines[1].split()
    assert cells[:5] == ["other", "AP", "0.5000", "0.5818", "+0.0818"]
    assert cells[-1] == "20/2/0"
    assert float(cells[-3]) < 0.001


def test_moved_queries_come_with_text_ranks_and_judgments() -> None:
    qrels = {"1": {"a": 2, "b": 1, "x": 0}, "2": {"c": 1}, "3": {"c": 1}}
    base = {"1": {"a": 1.0, "x": 1.0, "1": 9.0}, "2": {"c": 1.0}, "3": {"d": 2.0, "c": 1.0}}
    other = {"1": {"x": 1.0}, "2": {"c": 1.0}, "3": {"c": 2.0, "e": 1.0}}
    first = evaluate(base, qrels, ["RR", "AP"], drop_self=True, name="base")
    second = evaluate(other, qrels, ["RR", "AP"], drop_self=True, name="other")
    moved = moved_queries(
        compare(first, second),
        base,
        other,
        qrels,
        queries={"1": "what lifts a wing"},
        documents={"a": "the text of a"},
        depth=1,
        drop_self=True,
    )
    assert [(m.query, m.base, m.other, m.text) for m in moved] == [
        ("1", 0.5, 0.0, "what lifts a wing"),
        ("3", 0.5, 1.0, None),
    ]
    assert [(d.id, d.relevance, d.base_rank, d.other_rank, d.text) for d in moved[0].documents] == [
        ("a", 2, 2, None, "the text of a"),
        ("b", 1, None, None, None),
        ("x", 0, 1, 1, None),
    ]
    assert [(d.id, d.base_rank, d.other_rank) for d in moved[1].documents] == [
        ("c", 2, 1),
        ("d", 1, None),
    ]
    json.dumps([m.to_dict() for m in moved])
    with pytest.raises(InputError, match="P@5 was not compared"):
        moved_queries(compare(first, second), base, other, qrels, measure="P@5")


def test_sums_are_neither_compared_nor_given_intervals():
    qrels = {"q1": {"a": 1}, "q2": {"b": 1}, "q3": {"c": 1}}
    base = evaluate({"q1": {"a": 1.0}, "q2": {"x": 1.0}}, qrels, ["AP", "NumRet", "NumQ"])
    other = evaluate({"q1": {"x": 1.0}, "q3": {"c": 1.0}}, qrels, ["AP", "NumRet", "NumQ"])
    assert base["NumRet"] == 2
    assert [d.measure for d in compare(base, other).differences] == ["AP"]
    with pytest.raises(InputError, match="NumRet is a sum"):
        compare(base, other, measures=["AP", "NumRet"])
    with pytest.raises(InputError, match="NumQ is a sum"):
        interval(base, "NumQ")


def test_a_seed_below_0_is_refused():
    base, other = two([0.1, 0.2, -0.1])
    for call in (lambda: compare(base, other, seed=-1), lambda: interval(base, "AP", seed=-1)):
        with pytest.raises(InputError, match="seed -1"):
            call()
