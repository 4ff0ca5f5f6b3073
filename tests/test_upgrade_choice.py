"""What is chosen on pairs left out, and what the gate says of it; on made spaces and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from retr.retrieval.bridges.bridge import Bridge
from retr.retrieval.bridges.calibration import Matched
from retr.retrieval.bridges.forward import Forward
from retr.retrieval.bridges.maps import Hubless, similarities, unit_rows
from retr.retrieval.upgrade.calibrating import matched
from retr.retrieval.upgrade.candidates import (
    KEPT,
    BridgeFits,
    ForwardFits,
    bridged_scores,
    calibrated_bridge,
    mapped_scores,
)
from retr.retrieval.upgrade.choose import (
    MEASURED,
    Choice,
    choose_bridge,
    choose_forward,
    with_residuals,
)
from retr.retrieval.upgrade.gate import Judged, measure_gate, mixed, ndcg, quality
from retr.retrieval.upgrade.pairs import Pairs
from retr.retrieval.upgrade.task import Task, agreement
from retr.retrieval.values.errors import InputError

Floats = NDArray[np.float32]


def spaces(
    n: int, old: int, new: int, noise: float = 0.3, seed: int = 0, unit: bool = True
) -> tuple[Floats, Floats]:
    """Return two embeddings of n things: linear looks, off the origin, at what they have alike.

    The things are spread in few directions mostly, as texts are.
    """
    random = np.random.default_rng(seed)
    latent = random.standard_normal((n, 24)) * np.linspace(2, 0.3, 24)
    out = []
    for dim in (old, new):
        look = np.random.default_rng(dim).standard_normal((24, dim)) / 5
        vectors = latent @ look + noise * random.standard_normal((n, dim)) / 3 + 0.3
        vectors = vectors.astype(np.float32)
        out.append(unit_rows(vectors) if unit else vectors * 3)
    return out[0], out[1]


@pytest.fixture(scope="module")
def chosen() -> tuple[Pairs, Choice[Forward]]:
    old, new = spaces(600, 32, 48)
    pairs = Pairs(old, new)
    return pairs, choose_forward(pairs)


@pytest.mark.parametrize(("old", "new"), [(32, 48), (48, 32)])
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_rows_nobody_saw_are_found_through_either_step(old: int, new: int, metric: str) -> None:
    y, x = spaces(900, old, new, unit=metric == "cosine")
    pairs = Pairs(y[:300], x[:300], old_metric=metric, new_metric=metric)
    bridge, forward = choose_bridge(pairs), choose_forward(pairs)
    assert not bridge.hopeless and not forward.hopeless
    rest, queries = y[300:], x[300:400]
    truth = similarities(queries, x[300:], metric)
    own = np.arange(100)
    carried = bridge.value.apply(queries)
    bridged = similarities(carried.vectors, rest, metric)
    mapped = forward.value.apply(rest)
    forwarded = similarities(
        forward.value.bridge.apply(queries).vectors, mapped, forward.value.metric
    )
    assert mapped.shape[1] == forward.value.bridge.map.target_dim
    knowing_nothing = 10 / 600
    assert agreement(bridged, truth, own).mean() > 15 * knowing_nothing
    assert agreement(forwarded, truth, own).mean() > 15 * knowing_nothing


@pytest.mark.parametrize("choose", [choose_bridge, choose_forward])
def test_few_pairs_do_worse_and_are_not_hopeless(choose: type) -> None:
    old, new = spaces(500, 32, 48)
    few, many = choose(Pairs(old[:60], new[:60])), choose(Pairs(old, new))
    assert not few.hopeless
    assert few.best.interval.high - few.best.interval.low > (
        many.best.interval.high - many.best.interval.low
    )


@pytest.mark.parametrize("choose", [choose_bridge, choose_forward])
def test_models_that_have_nothing_in_common_are_hopeless(choose: type) -> None:
    old, _ = spaces(400, 32, 48, seed=1)
    _, new = spaces(400, 32, 48, seed=2)
    assert choose(Pairs(old, new)).hopeless


def test_too_few_pairs_are_refused() -> None:
    old, new = spaces(12, 8, 8)
    with pytest.raises(InputError, match="12 pairs"):
        choose_bridge(Pairs(old, new))
    with pytest.raises(InputError, match="12 old and 11 new"):
        Pairs(old, new[1:])


def test_the_same_seed_chooses_the_same(chosen: tuple[Pairs, Choice[Forward]]) -> None:
    pairs, first = chosen
    again = choose_forward(pairs)
    assert again.best == first.best
    assert np.array_equal(again.value.apply(pairs.old), first.value.apply(pairs.old))


def test_rows_far_from_their_new_vectors_are_predicted() -> None:
    random = np.random.default_rng(3)
    old, new = spaces(1500, 32, 48, noise=0.1)
    # What is unlike the rest is mapped worse, and can be known to be without its new vector.
    odd = random.random(1500) < 0.2
    old[odd] = unit_rows(old[odd] + random.standard_normal((odd.sum(), 32)).astype(np.float32) / 3)
    forward = choose_forward(Pairs(old[:500], new[:500])).value
    expected = forward.predicted_residuals(old[500:])
    there = forward.bridge.map.apply(new[500:])
    true = np.square(there - forward.apply(old[500:])).sum(axis=1)
    assert np.corrcoef(expected, true)[0, 1] > 0.3


def test_what_is_misplaced_among_others_is_more_useful_than_what_is_so_alone() -> None:
    old, new = spaces(900, 32, 48, noise=0.3)
    pairs = Pairs(old[:500], new[:500])
    forward = ForwardFits(pairs).make("hubless", {"strength": 0.1, "floor": 1.0})
    with pytest.raises(ValueError, match="no residuals"):
        forward.usefulness(old)
    held = np.arange(500)
    forward = with_residuals(forward, pairs, [(held, forward)])
    assert isinstance(forward.documents, Hubless)
    useful = forward.usefulness(old[500:], size=123)
    near = forward.documents.neighbour_scores(old[500:])
    moved = np.sqrt(forward.predicted_residuals(old[500:]))
    assert useful == pytest.approx(moved * near**2, rel=1e-3)
    # Of rows that are expected to move alike, those with company come first.
    same = np.abs(moved - np.median(moved)) < moved.std() / 10
    assert same.sum() > 10
    assert np.corrcoef(useful[same], near[same])[0, 1] > 0.9
    # A map that does not use its neighbours' scores knows them all the same.
    white = ForwardFits(pairs).make("white", {"strength": 0.1, "floor": 1.0})
    white = with_residuals(white, pairs, [(held, white)])
    missed = np.sqrt(white.predicted_residuals(old[500:]))
    assert white.usefulness(old[500:]) == pytest.approx(missed * near**2, rel=1e-3)
    # And a map that knows no neighbours goes by the distance alone.
    plain = replace(forward, documents=forward.documents.inner)
    assert plain.usefulness(old[500:]) == pytest.approx(moved, rel=1e-3)


def test_calibrated_scores_mix_with_those_of_new_vectors() -> None:
    old, new = spaces(2000, 32, 48, noise=0.5)
    forward = choose_forward(Pairs(old[:700], new[:700])).value
    queries = new[1900:]
    carried = forward.bridge.apply(queries)
    scores = carried.calibrated(carried.vectors @ forward.apply(old[700:1900]).T)
    truth = queries @ new[700:1900].T
    assert scores.mean() == pytest.approx(truth.mean(), abs=0.05)


def test_kinds_are_compared_where_one_fit_scored_all_rows() -> None:
    old, new = spaces(20, 8, 8)
    parts = [np.arange(0, 20, 2), np.arange(1, 20, 2)]
    task = Task.of(Pairs(old, new), parts, 0)
    fold = np.arange(20) % 2
    # Right within each fold, while the second's scores are all above the first's.
    apart = task.queries @ new.T + 9 * fold.astype(np.float32)
    assert task.found_within(apart) == pytest.approx(np.ones(len(task.first)))
    first = fold[task.first] == 0
    assert task.found(apart)[first].max() <= 1 / 11
    assert task.found(apart)[~first] == pytest.approx(np.ones((~first).sum()))
    # All the same: ten rows of the fold share their ranks.
    assert task.found_within(np.zeros_like(apart)) == pytest.approx(np.full(len(apart), 1 / 5.5))


def test_ndcg_by_hand() -> None:
    scores = np.array([[0.9, 0.8, 0.7, 0.1], [0.1, 0.2, 0.3, 0.4]], np.float32)
    gains = [{0: 1.0, 2: 2.0, 3: 0.0}, {}]
    ideal = 2 + 1 / np.log2(3)
    assert ndcg(scores, gains) == pytest.approx([(1 + 2 / np.log2(4)) / ideal, 0.0])
    assert ndcg(scores, gains, depth=1) == pytest.approx([0.5, 0.0])


def test_quality_by_hand() -> None:
    old_old = np.array([0.2, 0.4, 0.0, 0.6])
    new_old = np.array([0.5, 0.3, 0.2, 0.6])
    new_new = np.array([0.8, 0.6, 0.2, 0.4])
    found = quality(old_old, new_old, new_new)
    assert found.old_old.mean == pytest.approx(0.3)
    assert found.difference.mean == pytest.approx(0.1)
    assert found.gain == pytest.approx(0.5)
    assert (found.flips, found.better, found.queries) == (1, 2, 4)
    assert found.compatible is None  # four queries say nothing for certain
    assert quality(np.tile(old_old, 20), np.tile(old_old + 0.1, 20), np.ones(80)).compatible is True
    assert (
        quality(np.tile(old_old + 0.1, 20), np.tile(old_old, 20), np.ones(80)).compatible is False
    )
    assert quality(new_new, new_old, old_old).gain is None  # the new model is no better


def test_agreement_by_hand() -> None:
    truth = np.arange(41, dtype=np.float32)[None]
    assert agreement(truth, truth) == pytest.approx([1.0])
    assert agreement(-truth, truth) == pytest.approx([0.0])
    half = truth.copy()
    half[0, 31:36] = -1
    assert agreement(half, truth) == pytest.approx([0.5])
    # The row that is the query itself is nobody's best.
    assert agreement(truth, truth, np.array([40])) == pytest.approx([1.0])


def test_mixed_scores_take_the_first_of_the_order() -> None:
    mapped, new = np.zeros((2, 10), np.float32), np.ones((2, 10), np.float32)
    order = np.arange(10)[::-1].copy()
    assert mixed(mapped, new, order, 0.2).sum(axis=0).tolist() == [0] * 8 + [2, 2]
    assert mapped.sum() == 0


def test_the_gate_without_judgments_says_agreement_alone(
    chosen: tuple[Pairs, Choice[Forward]],
) -> None:
    pairs, forward = chosen
    gate = measure_gate(pairs, choose_bridge(pairs), forward)
    assert gate.forward_quality is None and gate.curve[0].quality is None
    assert not gate.hopeless
    assert gate.curve[-1].agreement == 1.0
    assert 0.05 < gate.curve[0].agreement < 1.0


def test_the_gate_with_judgments_says_quality(chosen: tuple[Pairs, Choice[Forward]]) -> None:
    pairs, forward = chosen
    some = np.arange(0, 600, 6)
    random = np.random.default_rng(0)
    # The old model sees queries less well than the new one.
    blur = random.standard_normal((100, 32)).astype(np.float32) / 8
    judged = Judged(
        unit_rows(pairs.old[some] + blur), pairs.new[some], [{int(row): 1.0} for row in some]
    )
    gate = measure_gate(pairs, choose_bridge(pairs), forward, judged)
    found = gate.forward_quality
    assert found is not None and found.queries == 100
    assert found.new_new.mean == pytest.approx(1.0)
    assert gate.curve[-1].quality == pytest.approx(found.new_new.mean)
    assert gate.curve[0].quality == pytest.approx(found.new_old.mean)
    assert found.gain == pytest.approx(
        (found.new_old.mean - found.old_old.mean) / (found.new_new.mean - found.old_old.mean)
    )
    assert gate.to_json()["forward_quality"]["flips"] == found.flips


def test_sample_queries_are_asked_too() -> None:
    old, new = spaces(400, 32, 48)
    plain = Pairs(old[:300], new[:300])
    asked = Pairs(old[:300], new[:300], old[300:], new[300:])
    without, with_ = choose_bridge(plain), choose_bridge(asked)
    assert len(with_.agreement) == len(without.agreement) + 100
    assert len(with_.old) == len(without.old) + 100


def test_vectors_that_are_cut_short_are_searched_as_before() -> None:
    _, new = spaces(900, 24, 48)
    old = unit_rows(new[:, :16])
    pairs = Pairs(old[:300].astype(np.float16).astype(np.float32), new[:300])
    chosen = choose_bridge(pairs)
    assert (chosen.best.kind, chosen.best.calibration) == ("prefix", "best")
    assert not chosen.hopeless
    carried = chosen.value.apply(new[300:])
    assert carried.vectors == pytest.approx(old[300:], abs=1e-6)
    assert (carried.scale > 0).all()  # so the order of old vectors is what it was


def test_a_map_of_vectors_that_are_cut_short_is_no_worse_than_leaving_them() -> None:
    _, new = spaces(1500, 24, 48, noise=0.5)
    old = unit_rows(new[:, :16])
    few = np.arange(60)
    for pairs in (Pairs(old[few], new[few]), Pairs(old[:600], new[:600])):
        bridge = choose_bridge(pairs)
        forward = choose_forward(pairs, bridge)
        assert not forward.hopeless
        lost = bridge.found - forward.found
        assert lost.mean() <= 2 * lost.std() / np.sqrt(len(lost))
        queries, truth = new[600:700], new[600:700] @ new[700:].T
        mapped = forward.value.bridge.apply(queries).vectors @ forward.value.apply(old[700:]).T
        kept = old[600:700] @ old[700:].T
        assert agreement(mapped, truth).mean() > agreement(kept, truth).mean() - 0.02


def test_what_is_almost_a_prefix_is_measured_like_the_others() -> None:
    random = np.random.default_rng(5)
    _, new = spaces(500, 24, 48)
    moved = new[:, :16] + 0.02 * random.standard_normal((500, 16))
    chosen = choose_bridge(Pairs(unit_rows(moved.astype(np.float32)), new))
    assert {trial.kind for trial in chosen.trials} == {"procrustes", "white", "ridge"}
    assert chosen.best.kind == chosen.trials[0].kind
    assert chosen.best.calibration in MEASURED


def test_old_vectors_may_be_left_to_the_bridge() -> None:
    old, new = spaces(500, 32, 48)
    pairs = Pairs(old, new)
    forward = ForwardFits(pairs, ("procrustes", {}, "mean")).make(KEPT, {})
    assert forward.apply(old) == pytest.approx(old)
    bridge = BridgeFits(pairs).make("procrustes", {})
    assert mapped_scores(forward, new[:50], pairs) == pytest.approx(
        bridged_scores(bridge, new[:50], pairs)
    )


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_scores_of_both_encoders_are_matched_at_their_mean_and_their_best(metric: str) -> None:
    old, new = spaces(900, 32, 48, unit=metric == "cosine")
    pairs = Pairs(old[:500], new[:500], old_metric=metric, new_metric="ip")
    calibration = matched(pairs)
    assert calibration.best == 5
    scale, shift = calibration.affine(new[500:], old[500:])
    mine = similarities(old[500:], old[:500], metric) * scale[:, None] + shift[:, None]
    theirs = new[500:] @ new[:500].T
    assert mine.mean(axis=1) == pytest.approx(theirs.mean(axis=1), rel=1e-3, abs=1e-3)
    best = [np.sort(scores, axis=1)[:, -5:].mean(axis=1) for scores in (mine, theirs)]
    assert best[0] == pytest.approx(best[1], rel=1e-3, abs=1e-3)
    # A query that all rows answer alike says nothing of a scale.
    same = Matched(np.ones((9, 4), np.float32), new[:9], 2, "ip", "ip")
    scale, _ = same.affine(new[:3], np.ones((3, 4), np.float32))
    assert scale.tolist() == [1, 1, 1]


@pytest.mark.parametrize(("metric", "new_metric"), [("l2", "l2"), ("l2", "ip"), ("ip", "l2")])
def test_means_are_matched_where_scores_are_distances(metric: str, new_metric: str) -> None:
    old, new = spaces(700, 32, 48, unit=False)
    pairs = Pairs(old, new, old_metric=metric, new_metric=new_metric)
    bridge = calibrated_bridge(BridgeFits(pairs).make("ridge", {"strength": 0.1}), pairs)
    assert set(bridge) == {"none", "mean", "best"}
    scores = bridged_scores(bridge["mean"], new[:100], pairs)
    theirs = similarities(new[:100], new, new_metric)
    assert scores.mean(axis=1) == pytest.approx(theirs.mean(axis=1), rel=1e-3)


def test_a_bridge_is_whitened_where_few_directions_outweigh_the_rest() -> None:
    random = np.random.default_rng(3)
    plain = random.standard_normal((700, 48))
    noisy = plain + random.standard_normal(plain.shape)
    scale = np.arange(1, 49) ** -0.7
    turn = np.linalg.qr(random.standard_normal((48, 48)))[0]
    old, new = ((each * scale).astype(np.float32) for each in (noisy, plain))
    pairs = Pairs(unit_rows(old @ turn.astype(np.float32)), unit_rows(new))
    seen, held = pairs.take(np.arange(500)), pairs.take(np.arange(500, 700))
    chosen = choose_bridge(seen)
    found = {trial.kind: trial.found for trial in reversed(chosen.trials)}
    assert chosen.best.kind == "white"
    assert found["white"] > found["procrustes"] + 0.05
    # And so it is for documents that no fit has seen, asked for by a part of what they say.
    queries = unit_rows(0.6 * held.new + 0.4 * np.roll(held.new, 1, axis=0))

    def first(bridge: Bridge) -> float:
        scores = bridged_scores(bridge, queries, held)
        return float((1 / (1 + (scores > scores.diagonal()[:, None]).sum(axis=1))).mean())

    assert first(chosen.value) > first(BridgeFits(seen).make("procrustes", {})) + 0.05
