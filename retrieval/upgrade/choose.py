"""Which map, how strong a ridge, calibration or none: measured on pairs that were left out.

Every candidate is fitted on all folds but one and maps, or searches, the rows of that one, so that
no row is judged by a fit that has seen it. What is measured is whether a search finds a known row:
a query is a document's new vector with another document's blended in, as a query says part of what
a document says, and the value is one over the rank of the row that the new model puts first. Sample
queries, where given, are asked as well. How well the new model's own ten best are reproduced is
reported beside it and decides no map: on judged collections it went up while the search got worse
(docs/decisions/0009-upgrade-maps.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..evaluation.intervals import mean_interval
from ..evaluation.significance import Interval
from .bridge import Bridge, Carried
from .calibration import calibrations
from .fits import Ridge, Whitening, folds, procrustes
from .forward import Forward, fit_residuals
from .maps import Doubles, Floats, Hubless, Identity, Linear
from .pairs import FEWEST, Pairs, similarities
from .task import Score, Task

STRENGTHS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 4.0, 10.0)
"""Of the ridge, as multiples of the mean variance of a dimension: a grid wide enough that its best
lies inside it for a handful of pairs and for many thousands."""

FLOORS = (1.0, 0.25, 0.1)
"""Of the whitening, see `fits.Whitening`; another grid that is wide enough."""

ANCHORS, NEAREST, POWER = 1_000, 3, 0.25
"""Of the correction for hubs, see `maps.Hubless`; whether there is one is measured."""

FOLDS = 5

T = TypeVar("T")
Made = TypeVar("Made", covariant=True)
Settings = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate and how it did on pairs left out.

    kind:        "procrustes", "ridge", …
    settings:    what else was tried of the kind: {"strength": 0.1}.
    found:       the mean reciprocal rank of the row that the new model puts first, 0 to 1.
    interval:    of that, over the queries; None where it was not asked for.
    calibration: what was chosen for the best one: "none", "moments", …
    """

    kind: str
    settings: Settings
    found: float
    interval: Interval | None = None
    calibration: str = "none"


@dataclass(frozen=True, slots=True, eq=False)
class Choice(Generic[T]):
    """What was chosen, and beside what.

    value:     fitted on all the pairs, as the best candidate was.
    best:      how that did.
    trials:    all candidates, the best first; kinds that were out of the running come last.
    agreement: f64[q], the share of the new model's own ten best that it has among its ten, for
               rows left out as queries and for sample queries.
    old:       f64[q], the same of the old model's own ranking.
    found:     f64[q], what `best.found` is the mean of.
    chance:    f64[q], the same of the candidate fitted on pairs shuffled.
    held:      for each fold its pairs, and the best candidate fitted on the others.
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
        """Whether it finds nothing that what was learnt from shuffled pairs does not find.

        The best of many candidates is a little better by chance alone, hence the wide interval.
        """
        gained = mean_interval(self.found - self.chance, confidence=0.999)
        return gained is None or gained.low <= 0


def choose_bridge(pairs: Pairs, *, seed: int = 0) -> Choice[Bridge]:
    """Choose how a query of the new space searches old vectors.

    Raises:
        InputError: there are too few pairs to measure anything.
    """
    return _choose(pairs, BridgeFits, bridged_scores, calibrated_bridge, seed)


def choose_forward(pairs: Pairs, *, seed: int = 0) -> Choice[Forward]:
    """Choose how stored old vectors are mapped.

    Raises:
        InputError: there are too few pairs to measure anything.
    """
    found = _choose(pairs, ForwardFits, _MappedScores(), calibrated_forward, seed)
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


class Fits(Protocol[Made]):
    """All candidates that can be fitted from some pairs, each made when it is asked for."""

    def __init__(self, pairs: Pairs) -> None: ...

    def keys(self) -> Sequence[tuple[str, Settings]]:
        """Return kinds and settings, simpler ones first."""
        ...

    def make(self, kind: str, settings: Settings) -> Made:
        """Return one of them."""
        ...


class BridgeFits:
    """Maps of a query to the old space.

    What a query is compared with there has unit length whatever it is about, so a bias would only
    favour rows near the mean: the maps have none.
    """

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._ridge = Ridge(pairs.new, pairs.old)

    def keys(self) -> Sequence[tuple[str, Settings]]:
        """Return kinds and settings."""
        return [("procrustes", {}), *(("ridge", {"strength": s}) for s in STRENGTHS)]

    def make(self, kind: str, settings: Settings) -> Bridge:
        """Return one of them."""
        if kind == "procrustes":
            return Bridge(procrustes(self._pairs.new, self._pairs.old), None, kind)
        return Bridge(self._ridge.map(settings["strength"]), None, kind)


class ForwardFits:
    """Maps of old vectors to where queries look for them.

    A ridge shrinks what old vectors say little of, and the few directions in which all new vectors
    vary then outweigh the many that tell one document from another. Comparing under a whitening of
    the new space gives those their share back. ("ridge" does without.)
    """

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._ridge = Ridge(pairs.old, pairs.new)
        self._whitening = Whitening(pairs.new)
        chosen = np.random.default_rng(0).permutation(len(pairs))[:ANCHORS]
        self._anchors = pairs.new[chosen]
        # What candidates have in common is made once: most of the work of a choice.
        self._plain: dict[float, Linear] = {}
        self._white: dict[float, tuple[Bridge, Floats]] = {}

    def keys(self) -> Sequence[tuple[str, Settings]]:
        """Return kinds and settings."""
        plain = [("ridge", {"strength": strength}) for strength in STRENGTHS]
        white = [
            (kind, {"strength": strength, "floor": floor})
            for floor in FLOORS
            for kind in ("white", "hubless")
            for strength in STRENGTHS
        ]
        return [*plain, *white]

    def make(self, kind: str, settings: Settings) -> Forward:
        """Return one of them."""
        pairs = self._pairs
        strength = settings["strength"]
        if strength not in self._plain:
            self._plain[strength] = self._ridge.map(strength, unit=pairs.unit)
        plain = self._plain[strength]
        dim = plain.target_dim
        if kind == "ridge":
            bridge = Bridge(Identity(dim, dim), None, "identity")
            return Forward(plain, bridge, pairs.new_metric, kind)
        bridge, anchors = self._whitened(settings["floor"])
        assert isinstance(bridge.map, Linear)
        white = bridge.map.weight
        documents = Linear(plain.weight @ white, plain.bias @ white, unit=True)
        if kind == "white":
            return Forward(documents, bridge, "cosine", kind)
        nearest = min(NEAREST, len(anchors))
        return Forward(Hubless(documents, anchors, nearest, POWER), bridge, "ip", kind)

    def _whitened(self, floor: float) -> tuple[Bridge, Floats]:
        """Return what takes queries under a whitening, and anchors that are there already."""
        if floor not in self._white:
            white = self._whitening.root(floor)
            queries = Linear(white, np.zeros(len(white), np.float32), unit=True)
            self._white[floor] = Bridge(queries, None, "white"), queries.apply(self._anchors)
        return self._white[floor]


def with_residuals(
    forward: Forward, pairs: Pairs, held: Sequence[tuple[NDArray[np.int64], Forward]]
) -> Forward:
    """Fit what predicts residuals, on those of pairs that a map had not seen."""
    rows = np.concatenate([rows for rows, _ in held])
    errors = []
    for some, value in held:
        there = value.bridge.map.apply(pairs.new[some])
        errors.append(_squared(there - value.apply(pairs.old[some])))
    residuals = fit_residuals(forward.documents.raw(), pairs.old[rows], np.concatenate(errors))
    return replace(forward, residuals=residuals)


def bridged_scores(bridge: Bridge, queries: Floats, held: Pairs) -> Floats:
    """Return f32[q, n], what queries of the new space score the old vectors of some pairs."""
    carried = bridge.apply(queries)
    return carried.calibrated(similarities(carried.vectors, held.old, held.old_metric))


def mapped_scores(forward: Forward, queries: Floats, held: Pairs) -> Floats:
    """Return f32[q, n], what queries of the new space score the mapped vectors of some pairs."""
    return _scored(forward, forward.bridge.apply(queries), held)


class _MappedScores:
    """`mapped_scores` that carries the same queries over the same bridge once.

    The candidates of a fold share their bridges, and carrying queries is most of what one costs.
    """

    def __init__(self) -> None:
        self._known: list[tuple[Bridge, Floats, Carried]] = []

    def __call__(self, forward: Forward, queries: Floats, held: Pairs) -> Floats:
        for bridge, asked, carried in self._known:
            if bridge is forward.bridge and asked is queries:
                return _scored(forward, carried, held)
        carried = forward.bridge.apply(queries)
        self._known = [*self._known[1 - FOLDS :], (forward.bridge, queries, carried)]
        return _scored(forward, carried, held)


def _scored(forward: Forward, carried: Carried, held: Pairs) -> Floats:
    mapped = forward.apply(held.old)
    return carried.calibrated(similarities(carried.vectors, mapped, forward.metric))


def calibrated_bridge(bridge: Bridge, pairs: Pairs) -> dict[str, Bridge]:
    """Return a bridge with every calibration, the simplest first."""
    carried = bridge.map.apply(pairs.new)
    return {
        name: replace(bridge, calibration=each)
        for name, each in calibrations(pairs, carried, pairs.old, pairs.old_metric).items()
    }


def calibrated_forward(forward: Forward, pairs: Pairs) -> dict[str, Forward]:
    """Return a forward map with every calibration, the simplest first."""
    carried, mapped = forward.bridge.map.apply(pairs.new), forward.apply(pairs.old)
    return {
        name: replace(forward, bridge=replace(forward.bridge, calibration=each))
        for name, each in calibrations(pairs, carried, mapped, forward.metric).items()
    }


def _choose(
    pairs: Pairs,
    family: type[Fits[T]],
    score: Score[T],
    calibrated: Callable[[T, Pairs], dict[str, T]],
    seed: int,
) -> Choice[T]:
    if len(pairs) < FEWEST:
        raise InputError(f"{len(pairs)} pairs: give at least {FEWEST}, some hundreds are better")
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
        key=lambda trial: -trial.found,  # stable: of equal ones the simpler
    )
    running = _running(within)
    trials.sort(key=lambda trial: trial.kind not in running)
    best = _strongest(trials, every)
    made = [each.make(best.kind, best.settings) for each in fits]
    values = every[best.kind, tuple(best.settings.items())]
    shuffled = _shuffled(pairs, parts, family, best, seed)
    name, made = _calibration(made, rest, task, score, calibrated, seed)
    best = replace(best, interval=mean_interval(values, seed=seed), calibration=name)
    return Choice(
        calibrated(family(pairs).make(best.kind, best.settings), pairs)[name],
        best,
        tuple(best if _same(each, best) else each for each in trials),
        task.agreement(made, score),
        task.old_agreement(),
        values,
        task.found(task.scores(shuffled, score)),
        tuple(zip(parts, made, strict=True)),
    )


def _running(within: Mapping[str, Doubles]) -> set[str]:
    """Return the kinds within one standard error of the best, where one fit has scored all rows.

    Maps of few pairs differ from fold to fold, and more so under a whitening. Across folds that
    speaks against it, though no collection is ever mapped by several.
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
    """Return the strongest ridge that is within one standard error of the best of its kind.

    (Breiman et al., "Classification and Regression Trees", 1984, chapter 3.) Real queries are less
    like documents than those made here, which makes a little more of a penalty right.
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
    family: type[Fits[T]],
    best: Trial,
    seed: int,
) -> list[T]:
    """Return the best candidate of each fold, fitted on old vectors beside others' new ones."""
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


def _calibration(
    made: Sequence[T],
    rest: Sequence[Pairs],
    task: Task,
    score: Score[T],
    calibrated: Callable[[T, Pairs], dict[str, T]],
    seed: int,
) -> tuple[str, list[T]]:
    """Choose a calibration where half of the rows, at random, have their new vectors already.

    What lifts old rows finds more of them and pushes the new model's own best out of sight, and
    what lowers them does the reverse; so being found and agreement count alike.
    """
    both = [calibrated(value, pairs) for value, pairs in zip(made, rest, strict=True)]
    done = np.random.default_rng(seed).permutation(len(task.rows))[::2]
    worth = {}
    for name in both[0]:
        values = [each[name] for each in both]
        found = task.found(task.scores(values, score, done=done))
        worth[name] = found.mean() + task.agreement(values, score, done=done).mean()
    name = max(worth, key=lambda name: worth[name])  # of equal ones the first, the simplest
    return name, [each[name] for each in both]


def _others(parts: Sequence[NDArray[np.int64]], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([part for part in parts if part is not rows])


def _squared(vectors: Floats) -> Floats:
    found: Floats = np.einsum("ij,ij->i", vectors, vectors)
    return found
