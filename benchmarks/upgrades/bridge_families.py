"""Families of maps beside those that an upgrade chooses from, on the same task, for comparison.

Reduced-rank regression and a residual MLP, each as a bridge (a query taken to the old space) and as
a forward map (old vectors taken to the whitened new space, where hubs lose length). They have the
form of those of a choice, and `held_out` measures any of them as a choice would.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...retrieval.bridges.bridge import Bridge
from ...retrieval.bridges.forward import Forward
from ...retrieval.bridges.maps import Doubles, Floats, Hubless, Linear, Map
from ...retrieval.upgrade.fits import Ridge, Whitening, folds, procrustes
from ...retrieval.upgrade.pairs import Pairs
from ...retrieval.upgrade.task import Score, Task
from .gradient import fit_mlp
from .maps import low_rank

Settings = Mapping[str, float]
Rows = NDArray[np.int64]
T = TypeVar("T")
Made = TypeVar("Made", covariant=True)

STRENGTHS = (0.02, 0.1, 0.4)
SHARES = (0.25, 0.5, 0.75)
"""Of the smaller of both dimensions, that a low rank is."""

BASE, DECAYS = 0.1, (0.01, 0.1)
"""Of a residual MLP: the strength of the ridge that it begins with, and of its own penalty."""

FOLDS = 5
ANCHORS, NEAREST, POWER = 1_000, 3, 0.25
"""Of the correction for hubs, as an upgrade has them."""


class Family(Protocol[Made]):
    """What candidates are fitted by, as those that an upgrade chooses from."""

    def __init__(self, pairs: Pairs) -> None: ...

    def keys(self) -> Sequence[tuple[str, Settings]]:
        """Return kinds and settings."""
        ...

    def make(self, kind: str, settings: Settings) -> Made:
        """Return one of them."""
        ...


class MoreBridges:
    """Maps of a query to the old space: of low rank, and by a hidden layer."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._ridge = Ridge(pairs.new, pairs.old)

    def keys(self) -> Sequence[tuple[str, Settings]]:
        """Return kinds and settings."""
        return _keys(self._pairs, {})

    def make(self, kind: str, settings: Settings) -> Bridge:
        """Return one of them."""
        pairs, strength = self._pairs, settings["strength"]
        if kind == "low rank":
            ridge = self._ridge.map(strength)
            cut = low_rank(ridge, pairs.new, pairs.old, int(settings["rank"]))
            return Bridge(cut, None, kind)
        base = self._ridge.map(strength) if strength else procrustes(pairs.new, pairs.old)
        return Bridge(fit_mlp(pairs.new, pairs.old, base, decay=settings["decay"]), None, kind)


class MoreForwards:
    """The same of old vectors, under a whitening of the new space and with hubs corrected."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._whitening = Whitening(pairs.new)
        self._chosen = np.random.default_rng(0).permutation(len(pairs))[:ANCHORS]
        self._white: dict[float, tuple[Linear, Floats, Ridge]] = {}

    def keys(self) -> Sequence[tuple[str, Settings]]:
        """Return kinds and settings."""
        return [each for floor in (1.0, 0.25) for each in _keys(self._pairs, {"floor": floor})]

    def make(self, kind: str, settings: Settings) -> Forward:
        """Return one of them."""
        queries, target, ridge = self._whitened(settings["floor"])
        there = queries.apply(self._pairs.new)
        base = ridge.map(settings["strength"], unit=True)
        documents: Map
        if kind == "low rank":
            documents = low_rank(base, self._pairs.old, target, int(settings["rank"]))
        else:
            documents = fit_mlp(self._pairs.old, there, base, decay=settings["decay"])
        anchors = there[self._chosen]
        hubless = Hubless(documents, anchors, min(NEAREST, len(anchors)), POWER)
        return Forward(hubless, Bridge(queries, None, "white"), "ip", kind)

    def _whitened(self, floor: float) -> tuple[Linear, Floats, Ridge]:
        """Return what whitens queries, the new vectors whitened, and the ridge to those."""
        if floor not in self._white:
            white = self._whitening.root(floor)
            queries = Linear(white, np.zeros(len(white), np.float32), unit=True)
            target = self._pairs.new @ white
            self._white[floor] = queries, target, Ridge(self._pairs.old, target)
        return self._white[floor]


def _keys(pairs: Pairs, more: Settings) -> list[tuple[str, Settings]]:
    most = min(pairs.old.shape[1], pairs.new.shape[1])
    ranks = [max(1, round(share * most)) for share in SHARES]
    low = [
        ("low rank", {**more, "strength": strength, "rank": float(rank)})
        for rank in ranks
        for strength in STRENGTHS
    ]
    bases = (BASE,) if more else (0.0, BASE)  # 0 is Procrustes, which a bridge may be
    deep = [
        ("residual MLP", {**more, "strength": strength, "decay": decay})
        for strength in bases
        for decay in DECAYS
    ]
    return [*low, *deep]


@dataclass(frozen=True, slots=True, eq=False)
class Held(Generic[T]):
    """A candidate on pairs left out.

    found: f64[q], one over the rank of the row that each query should find.
    made:  of each fold's pairs, those it has not seen and the fit.
    """

    kind: str
    settings: Settings
    found: Doubles
    made: Sequence[tuple[Rows, T]]


def held_out(
    pairs: Pairs,
    family: type[Family[T]],
    score: Score[T],
    seed: int = 0,
    *,
    kinds: Collection[str] | None = None,
) -> Iterator[Held[T]]:
    """Yield the candidates of a family, each measured as a choice measures its own.

    kinds: those wanted; None for all.
    """
    parts = folds(len(pairs), FOLDS, seed)
    rest = [pairs.take(np.setdiff1d(np.arange(len(pairs)), part)) for part in parts]
    fits = [family(each) for each in rest]
    task = Task.of(pairs, parts, seed)
    for kind, settings in fits[0].keys():  # noqa: SIM118
        if kinds is not None and kind not in kinds:
            continue
        made = [each.make(kind, settings) for each in fits]
        found = task.found(task.scores(made, score))
        yield Held(kind, settings, found, list(zip(parts, made, strict=True)))
