"""Chooses the map, the strength of its ridge and its calibration by measuring on held-out pairs.

Every candidate is fitted on all folds but one, and maps or searches the rows of that fold, so that
no row is judged by a fit that has seen it. The measure is whether a search finds a known row. A
query is a document's new vector with another document's blended in, because a real query says only
part of what a document says; the value is one over the rank of the row that the new model puts
first. Sample queries, if given, are asked, too. How well the new model's own ten best are
reproduced is reported as agreement but does not choose a map: on judged collections it rose while
the search got worse (docs/decisions/0009-upgrade-maps.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..bridges.bridge import Bridge
from ..bridges.forward import Forward, fit_residuals
from ..bridges.maps import Doubles, Floats
from ..evaluation.intervals import mean_interval
from ..evaluation.significance import Interval
from ..values.errors import InputError
from .candidates import (
    BridgeFits,
    Fits,
    ForwardFits,
    MappedScores,
    Settings,
    bridged_scores,
    calibrated_bridge,
    calibrated_forward,
)
from .fits import folds
from .pairs import FEWEST, Pairs
from .task import Score, Task

FOLDS = 5

MEASURED = ("none", "mean", "moments")
"""The calibrations to choose from, unless `Fits.calibration` fixes one."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate and its result on held-out pairs.

    kind:        "procrustes", "ridge", …
    settings:    the settings of this trial, such as {"strength": 0.1}.
    found:       the mean reciprocal rank of the row that the new model puts first, 0 to 1.
    interval:    its confidence interval over the queries; None except for the best candidate.
    calibration: the calibration chosen for the best candidate: "none", "moments", …
    """

    kind: str
    settings: Settings
    found: float
    interval: Interval | None = None
    calibration: str = "none"


@dataclass(frozen=True, slots=True, eq=False)
class Choice(Generic[T]):
    """What was chosen, and how it compares.

    value:     the best candidate, fitted on all the pairs.
    best:      its result.
    trials:    the results of all candidates, best first; kinds that were ruled out come last.
    agreement: f64[q], the share of the new model's own ten best that are among the candidate's
               ten best, for held-out rows as queries and for sample queries.
    old:       f64[q], the same for the old model's own ranking.
    found:     f64[q], the values whose mean is `best.found`.
    chance:    f64[q], the same for the candidate fitted on shuffled pairs; if it is not fitted,
               for a search of shuffled rows.
    held:      for each fold, its pairs and the best candidate fitted on the others.
    """

    value: T
    best: Trial
    trials: tuple[Trial, ...]
    agreement: Doubles
    old: Doubles
    found: Doubles
    chance: Doubles
    held: tuple[tuple[NDArray[np.int64], T], ...]

    @property
    def hopeless(self) -> bool:
        """Whether the candidate does no better than one fitted on shuffled pairs.

        The best of many candidates looks slightly better by chance, hence the wide interval.
        """
        gained = mean_interval(self.found - self.chance, confidence=0.999)
        return gained is None or gained.low <= 0


def choose_bridge(pairs: Pairs, *, seed: int = 0) -> Choice[Bridge]:
    """Choose how a query of the new space searches old vectors.

    Raises:
        InputError: there are too few pairs to measure anything.
    """
    return _choose(pairs, BridgeFits, bridged_scores, calibrated_bridge, seed)


def choose_forward(
    pairs: Pairs, bridge: Choice[Bridge] | None = None, *, seed: int = 0
) -> Choice[Forward]:
    """Choose how stored old vectors are mapped.

    bridge: the bridge chosen from the same pairs; with it, keeping the old vectors unchanged and
            searching them through it is a candidate.

    Raises:
        InputError: there are too few pairs to measure anything.
    """
    kept = None
    if bridge is not None:
        kept = bridge.best.kind, bridge.best.settings, bridge.best.calibration
    found = _choose(
        pairs,
        lambda some: ForwardFits(some, kept),
        MappedScores(FOLDS),
        calibrated_forward,
        seed,
    )
    return replace(
        found,
        value=with_residuals(found.value, pairs, found.held),
        held=tuple(
            (
                rows,
                with_residuals(value, pairs, [part for part in found.held if part[0] is not rows]),
            )
            for rows, value in found.held
        ),
    )


def with_residuals(
    forward: Forward, pairs: Pairs, held: Sequence[tuple[NDArray[np.int64], Forward]]
) -> Forward:
    """Fit the prediction of residuals on the residuals of held-out pairs."""
    rows = np.concatenate([rows for rows, _ in held])
    errors = []
    for some, value in held:
        there = value.bridge.map.apply(pairs.new[some])
        errors.append(_squared(there - value.apply(pairs.old[some])))
    residuals = fit_residuals(forward.documents.raw(), pairs.old[rows], np.concatenate(errors))
    return replace(forward, residuals=residuals)


def _choose(
    pairs: Pairs,
    family: Callable[[Pairs], Fits[T]],
    score: Score[T],
    calibrated: Callable[[T, Pairs], dict[str, T]],
    seed: int,
) -> Choice[T]:
    if len(pairs) < FEWEST:
        raise InputError(
            f"{len(pairs)} pairs are too few; give at least {FEWEST}, better a few hundred"
        )
    parts = folds(len(pairs), FOLDS, seed)
    rest = [pairs.take(_others(parts, rows)) for rows in parts]
    fits = [family(each) for each in rest]
    task = Task.of(pairs, parts, seed)
    every: dict[tuple[str, tuple[tuple[str, float], ...]], Doubles] = {}
    within: dict[str, Doubles] = {}
    for kind, settings in fits[0].keys():  # noqa: SIM118
        made = [each.make(kind, settings) for each in fits]
        scores = task.scores(made, score)
        every[kind, tuple(settings.items())] = task.found(scores)
        inside = task.found_within(scores)
        if kind not in within or inside.mean() > within[kind].mean():
            within[kind] = inside
    trials = sorted(
        (
            Trial(kind, dict(settings), float(values.mean()))
            for (kind, settings), values in every.items()
        ),
        key=lambda trial: -trial.found,  # stable: among equals, the simpler comes first
    )
    sure = fits[0].sure if all(each.sure == fits[0].sure for each in fits) else None
    running = _running(within) if sure is None else {sure}
    trials.sort(key=lambda trial: trial.kind not in running)
    best = _strongest(trials, every)
    made = [each.make(best.kind, best.settings) for each in fits]
    values = every[best.kind, tuple(best.settings.items())]
    if fits[0].fitted(best.kind):
        chance = task.scores(_shuffled(pairs, parts, family, best, seed), score)
    else:
        chance = task.shuffled(task.scores(made, score), seed)
    both = [calibrated(value, some) for value, some in zip(made, rest, strict=True)]
    name = fits[0].calibration(best.kind) or _calibration(both, task, score, seed)
    made = [each[name] for each in both]
    best = replace(best, interval=mean_interval(values, seed=seed), calibration=name)
    return Choice(
        calibrated(family(pairs).make(best.kind, best.settings), pairs)[name],
        best,
        tuple(best if _same(each, best) else each for each in trials),
        task.agreement(made, score),
        task.old_agreement(),
        values,
        task.found(chance),
        tuple(zip(parts, made, strict=True)),
    )


def _running(within: Mapping[str, Doubles]) -> set[str]:
    """Return the kinds within one standard error of the best, measured within each fold.

    Maps fitted on few pairs differ from fold to fold, and more so under a whitening. Comparing
    across folds would count that against them, but a real collection is mapped by one map only.
    """
    best = max(within.values(), key=lambda values: values.mean())
    return {
        kind
        for kind, values in within.items()
        if (best - values).mean() <= (best - values).std() / np.sqrt(len(best))
    }


def _strongest(
    trials: Sequence[Trial], every: Mapping[tuple[str, tuple[tuple[str, float], ...]], Doubles]
) -> Trial:
    """Return the strongest ridge within one standard error of the best of its kind.

    (Breiman et al., "Classification and Regression Trees", 1984, chapter 3.) Real queries resemble
    documents less than those made here, so a slightly stronger penalty is right.
    """
    best = trials[0]
    values = every[best.kind, tuple(best.settings.items())]
    near = [best]
    for trial in trials:
        same = {**trial.settings, "strength": 0} == {**best.settings, "strength": 0}
        if trial.kind == best.kind and same:
            loss = values - every[trial.kind, tuple(trial.settings.items())]
            if loss.mean() <= loss.std() / np.sqrt(len(loss)):
                near.append(trial)
    return max(near, key=lambda trial: trial.settings.get("strength", 0.0))


def _same(trial: Trial, other: Trial) -> bool:
    return (trial.kind, trial.settings) == (other.kind, other.settings)


def _shuffled(
    pairs: Pairs,
    parts: Sequence[NDArray[np.int64]],
    family: Callable[[Pairs], Fits[T]],
    best: Trial,
    seed: int,
) -> list[T]:
    """Return the best candidate of each fold, fitted on old vectors paired with wrong new ones."""
    random = np.random.default_rng(seed)
    out = []
    for rows in parts:
        others = _others(parts, rows)
        wrong = replace(
            pairs.take(others),
            new=pairs.new[random.permutation(others)],
            old_queries=None,
            new_queries=None,
        )
        out.append(family(wrong).make(best.kind, best.settings))
    return out


def _calibration(both: Sequence[Mapping[str, T]], task: Task, score: Score[T], seed: int) -> str:
    """Choose a calibration with a random half of the rows already on their new vectors.

    A calibration that lifts old rows finds more of them but pushes down the new model's own best;
    one that lowers them does the reverse. So being found and agreement count equally.
    """
    done = np.random.default_rng(seed).permutation(len(task.rows))[::2]
    worth = {}
    for name in MEASURED:
        if name not in both[0]:
            continue
        values = [each[name] for each in both]
        found = task.found(task.scores(values, score, done=done))
        worth[name] = found.mean() + task.agreement(values, score, done=done).mean()
    return max(worth, key=lambda name: worth[name])  # among equals, the first is the simplest


def _others(parts: Sequence[NDArray[np.int64]], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([part for part in parts if part is not rows])


def _squared(vectors: Floats) -> Floats:
    found: Floats = np.einsum("ij,ij->i", vectors, vectors)
    return found
