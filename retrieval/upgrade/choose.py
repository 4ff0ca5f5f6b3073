"""Which map, how strong a ridge, calibration or none: measured on pairs that were left out.

Every candidate is fitted on all folds but one and judged on that one: its documents, as queries in
the new space, rank the others of the fold by the bridged scores and by the new model's own, and the
two rankings are compared. Sample queries, where given, rank them too and count as queries do, for
they are what the collection will be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..evaluation.intervals import mean_interval
from ..evaluation.significance import Interval
from .bridge import Bridge
from .fits import Ridge, folds, procrustes
from .forward import Forward, fit_residuals
from .maps import Doubles, Floats, Identity
from .pairs import FEWEST, Pairs, similarities, stacked

STRENGTHS = tuple(float(10.0**e) for e in np.arange(-4.0, 1.01, 0.5))
"""Of the ridge, as multiples of the mean variance of a dimension: a grid wide enough that its best
lies inside it for a handful of pairs and for many thousands."""

FOLDS = 5
DEPTH = 10

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate and how it did on pairs left out.

    kind:      "procrustes", "ridge", …
    settings:  what else was tried of the kind: {"strength": 0.1}.
    agreement: the mean overlap of its best 10 with the new model's own best 10, 0 to 1.
    interval:  of that, over the queries.
    """

    kind: str
    settings: Mapping[str, float]
    agreement: float
    interval: Interval | None


@dataclass(frozen=True, slots=True, eq=False)
class Choice(Generic[T]):
    """What was chosen, and beside what.

    value:     fitted on all the pairs, as the best candidate was.
    best:      how that did.
    trials:    all candidates, the best first.
    values:    f64[q], its agreement for each query left out.
    old:       the agreement of the old model's own ranking with the new one's, f64[q].
    chance:    f64[q], that of the best candidate's kind fitted on pairs shuffled.
    held:      for each fold its pairs, and the best candidate fitted on the others.
    """

    value: T
    best: Trial
    trials: tuple[Trial, ...]
    values: Doubles
    old: Doubles
    chance: Doubles
    held: tuple[tuple[NDArray[np.int64], T], ...]

    @property
    def hopeless(self) -> bool:
        """Whether it does no better than what was learnt from shuffled pairs."""
        found = mean_interval(self.values - self.chance)
        return found is None or found.low <= 0


Fit = Callable[[Pairs], Iterator[tuple[str, Mapping[str, float], T]]]
"""Yields every candidate that can be fitted from some pairs."""


def choose_bridge(pairs: Pairs, *, seed: int = 0) -> Choice[Bridge]:
    """Choose how a query of the new space searches old vectors.

    Raises:
        InputError: there are too few pairs to measure anything.
    """
    return _choose(pairs, _bridges, bridged_scores, seed)


def choose_forward(pairs: Pairs, *, seed: int = 0) -> Choice[Forward]:
    """Choose how stored old vectors are mapped.

    Raises:
        InputError: there are too few pairs to measure anything.
    """
    found = _choose(pairs, _forwards, mapped_scores, seed)
    return replace(
        found,
        value=_with_residuals(found.value, pairs, found.held),
        held=tuple(
            (
                rows,
                _with_residuals(value, pairs, [each for each in found.held if each[0] is not rows]),
            )
            for rows, value in found.held
        ),
    )


def _with_residuals(
    forward: Forward, pairs: Pairs, held: Sequence[tuple[NDArray[np.int64], Forward]]
) -> Forward:
    """Fit what predicts residuals, on those of pairs that a map had not seen."""
    rows = np.concatenate([rows for rows, _ in held])
    errors = [_squared(pairs.new[rows] - value.apply(pairs.old[rows])) for rows, value in held]
    raw = forward.documents.raw()
    residuals = fit_residuals(raw, pairs.old[rows], np.concatenate(errors))
    return replace(forward, residuals=residuals)


def _bridges(pairs: Pairs) -> Iterator[tuple[str, Mapping[str, float], Bridge]]:
    yield "procrustes", {}, Bridge(procrustes(pairs.new, pairs.old), None, "procrustes")
    ridge = Ridge(pairs.new, pairs.old)
    for strength in STRENGTHS:
        yield "ridge", {"strength": strength}, Bridge(ridge.map(strength), None, "ridge")


def _forwards(pairs: Pairs) -> Iterator[tuple[str, Mapping[str, float], Forward]]:
    ridge = Ridge(pairs.old, pairs.new)
    dim = pairs.new.shape[1]
    for strength in STRENGTHS:
        documents = ridge.map(strength, unit=pairs.unit)
        bridge = Bridge(Identity(dim, dim), None, "identity")
        yield (
            "ridge",
            {"strength": strength},
            Forward(documents, bridge, pairs.new_metric),
        )


def _squared(vectors: Floats) -> Floats:
    found: Floats = np.einsum("ij,ij->i", vectors, vectors)
    return found


def bridged_scores(bridge: Bridge, queries: Floats, held: Pairs) -> Floats:
    """Return f32[q, n], what queries of the new space score the old vectors of some pairs."""
    carried = bridge.apply(queries)
    return carried.calibrated(similarities(carried.vectors, held.old, held.old_metric))


def mapped_scores(forward: Forward, queries: Floats, held: Pairs) -> Floats:
    """Return f32[q, n], what queries of the new space score the mapped vectors of some pairs."""
    carried = forward.bridge.apply(queries)
    mapped = forward.apply(held.old)
    return carried.calibrated(similarities(carried.vectors, mapped, forward.metric))


def _choose(
    pairs: Pairs, fit: Fit[T], score: Callable[[T, Floats, Pairs], Floats], seed: int
) -> Choice[T]:
    if len(pairs) < FEWEST:
        raise InputError(f"{len(pairs)} pairs: give at least {FEWEST}, some hundreds are better")
    found: dict[tuple[str, tuple[tuple[str, float], ...]], list[Doubles]] = {}
    old: list[Doubles] = []
    parts = folds(len(pairs), FOLDS, seed)
    for rows in parts:
        rest = _rest(parts, rows)
        held = pairs.take(rows)
        queries, own, truth = _asked(held)
        mine = similarities(stacked(held.old, held.old_queries), held.old, held.old_metric)
        old.append(agreement(mine, truth, own))
        for kind, settings, value in fit(pairs.take(rest)):
            values = agreement(score(value, queries, held), truth, own)
            found.setdefault((kind, tuple(settings.items())), []).append(values)
    every = {key: np.concatenate(values) for key, values in found.items()}
    trials = sorted(
        (
            Trial(kind, dict(settings), float(values.mean()), mean_interval(values, seed=seed))
            for (kind, settings), values in every.items()
        ),
        key=lambda trial: -trial.agreement,
    )
    best = trials[0]
    values = every[best.kind, tuple(best.settings.items())]
    return Choice(
        _fitted(pairs, fit, best),
        best,
        tuple(trials),
        values,
        np.concatenate(old),
        _chance(pairs, fit, score, best, parts, seed),
        tuple((rows, _fitted(pairs.take(_rest(parts, rows)), fit, best)) for rows in parts),
    )


def _rest(parts: Sequence[NDArray[np.int64]], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([part for part in parts if part is not rows])


def _asked(held: Pairs) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Return new queries, which row each is itself (-1: none), and the new model's scores."""
    queries = stacked(held.new, held.new_queries)
    own = np.append(np.arange(len(held)), np.full(held.queries, -1))
    return queries, own, similarities(queries, held.new, held.new_metric)


def _fitted(pairs: Pairs, fit: Fit[T], best: Trial) -> T:
    for kind, settings, value in fit(pairs):
        if kind == best.kind and settings == best.settings:
            return value
    raise AssertionError(f"{best} cannot be fitted on all the pairs")


def _chance(
    pairs: Pairs,
    fit: Fit[T],
    score: Callable[[T, Floats, Pairs], Floats],
    best: Trial,
    parts: Sequence[NDArray[np.int64]],
    seed: int,
) -> Doubles:
    """Return what the best candidate agrees when each old vector has another document's new one."""
    shuffle = np.random.default_rng(seed)
    out = []
    for rows in parts:
        rest = _rest(parts, rows)
        wrong = pairs.take(rest)
        wrong = Pairs(
            wrong.old,
            wrong.new[shuffle.permutation(len(rest))],
            old_metric=pairs.old_metric,
            new_metric=pairs.new_metric,
        )
        held = pairs.take(rows)
        queries, own, truth = _asked(held)
        out.append(agreement(score(_fitted(wrong, fit, best), queries, held), truth, own))
    return np.concatenate(out)


def agreement(
    scores: Floats, truth: Floats, own: NDArray[np.int64] | None = None, depth: int = DEPTH
) -> Doubles:
    """Return f64[q]: the share of the best `depth` rows by `truth` that are the best by `scores`.

    scores, truth: f32[q, n]; of few rows fewer are compared, a quarter of them at most.
    own:           i64[q], the row that is the query itself and does not count; -1 for none.
    """
    depth = max(1, min(depth, (scores.shape[1] - 1) // 4))
    both = _best(scores, own, depth) & _best(truth, own, depth)
    shared: Doubles = both.sum(axis=1) / depth
    return shared


def _best(scores: Floats, own: NDArray[np.int64] | None, depth: int) -> NDArray[np.bool_]:
    scores = scores.copy()
    if own is not None:
        there = np.flatnonzero(own >= 0)
        scores[there, own[there]] = -np.inf
    top = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
    out = np.zeros(scores.shape, bool)
    np.put_along_axis(out, top, True, axis=1)
    return out
