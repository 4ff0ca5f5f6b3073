"""The candidates that an upgrade chooses from, and how each one's scores are had.

A family of candidates is fitted from some pairs: bridges, which take queries to the old vectors,
or forward maps, which take old vectors to where queries look for them. Which of a family is taken,
`choose.py` measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

import numpy as np

from ..bridges.bridge import Bridge, Carried
from ..bridges.forward import Forward
from ..bridges.maps import Floats, Hubless, Identity, Linear, similarities
from .calibrating import calibrations
from .fits import Ridge, Whitening, procrustes
from .pairs import Pairs

STRENGTHS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 4.0, 10.0)
"""Of the ridge, as multiples of the mean variance of a dimension: a grid wide enough that its best
lies inside it for a handful of pairs and for many thousands."""

FLOORS = (1.0, 0.25, 0.1)
"""Of the whitening, see `fits.Whitening`; another grid that is wide enough."""

ANCHORS, NEAREST, POWER = 1_000, 3, 0.25
"""Of the correction for hubs, see `maps.Hubless`; whether there is one is measured."""

Made = TypeVar("Made", covariant=True)
Settings = Mapping[str, float]

PREFIX = "prefix"
"""The kind of bridge that cuts a query to the old space's dimensions."""

KEPT = "kept"
"""The kind of forward map that leaves old vectors as they are, to be found through the bridge."""


class Fits(Protocol[Made]):
    """All candidates that can be fitted from some pairs, each made when it is asked for.

    sure: the kind that is exact and needs no measuring; None for none.
    """

    sure: str | None

    def keys(self) -> Sequence[tuple[str, Settings]]:
        """Return kinds and settings, simpler ones first."""
        ...

    def make(self, kind: str, settings: Settings) -> Made:
        """Return one of them."""
        ...

    def calibration(self, kind: str) -> str | None:
        """Return the calibration of a kind where that is settled, None where it is measured."""
        ...

    def fitted(self, kind: str) -> bool:
        """Return whether a kind is fitted on the pairs."""
        ...


class BridgeFits:
    """Maps of a query to the old space.

    What a query is compared with there has unit length whatever it is about, so Procrustes and
    white maps have no bias, which would only favour rows near the mean. A ridge is fitted with its
    intercept all the same, for it is chosen only where it finds more.

    Where the old model is the new one cut short there is one that is exact and needs no fit: the
    first dimensions of the query.

    "white" compares under a whitening of the old space, half way, so that the few directions in
    which all old vectors vary do not outweigh those that tell documents apart. What that does to
    stored vectors can as well be done to the query.
    """

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._ridge = Ridge(pairs.new, pairs.old)
        self._whitening = Whitening(pairs.old)
        self.sure = PREFIX if is_prefix(pairs) else None

    def keys(self) -> Sequence[tuple[str, Settings]]:
        """Return kinds and settings."""
        white = [("white", {"floor": floor}) for floor in FLOORS]
        ridge = [("ridge", {"strength": strength}) for strength in STRENGTHS]
        fitted = [("procrustes", {}), *white, *ridge]
        return fitted if self.sure is None else [(PREFIX, {}), *fitted]

    def make(self, kind: str, settings: Settings) -> Bridge:
        """Return one of them."""
        if kind == PREFIX:
            return Bridge(prefix(self._pairs), None, kind)
        if kind == "procrustes":
            return Bridge(procrustes(self._pairs.new, self._pairs.old), None, kind)
        if kind == "white":
            turned = procrustes(self._pairs.new, self._pairs.old)
            weight = turned.weight @ self._whitening.root(settings["floor"])
            unit = self._pairs.old_metric == "cosine"
            return Bridge(Linear(weight, turned.bias, unit), None, kind)
        return Bridge(self._ridge.map(settings["strength"]), None, kind)

    def calibration(self, kind: str) -> str | None:
        """Return that of an exact bridge; see `ForwardFits.calibration`."""
        return "best" if kind == self.sure else None

    def fitted(self, kind: str) -> bool:
        """Return whether a kind is fitted on the pairs."""
        return kind != PREFIX


def prefix(pairs: Pairs) -> Linear:
    """Return what keeps the first dimensions of a query."""
    new, old = pairs.new.shape[1], pairs.old.shape[1]
    unit = pairs.old_metric == "cosine"
    return Linear(np.eye(new, old, dtype=np.float32), np.zeros(old, np.float32), unit)


def is_prefix(pairs: Pairs) -> bool:
    """Return whether old vectors are new ones cut short, to what 16 bits keep of them."""
    if pairs.old.shape[1] > pairs.new.shape[1]:
        return False
    apart = prefix(pairs).apply(pairs.new) - pairs.old
    lengths = np.linalg.norm(pairs.old, axis=1)
    return bool((np.linalg.norm(apart, axis=1) <= _SAME * lengths + _TINY).all())


class ForwardFits:
    """Maps of old vectors to where queries look for them.

    A ridge shrinks what old vectors say little of, and the few directions in which all new vectors
    vary then outweigh the many that tell one document from another. Comparing under a whitening of
    the new space gives those their share back. ("ridge" does without.)

    Where old vectors are new ones cut short, the penalty is on what a map does beside putting them
    back where they were: it may be as strong as it likes, and they are still as good as before.

    kept: the kind, settings and calibration of the bridge that is best; with it leaving the old
          vectors as they are, and searching them through it, is a candidate too.
    """

    sure: str | None = None

    def __init__(self, pairs: Pairs, kept: tuple[str, Settings, str] | None = None) -> None:
        self._pairs = pairs
        self._kept = kept
        self._put_back = _put_back(pairs)
        self._ridge = Ridge(pairs.old, pairs.new, towards=self._put_back)
        self._whitening = Whitening(pairs.new)
        chosen = np.random.default_rng(0).permutation(len(pairs))[:ANCHORS]
        self._anchors = pairs.new[chosen]
        # What candidates have in common is made once: most of the work of a choice.
        self._plain: dict[float, Linear] = {}
        self._white: dict[float, tuple[Bridge, Floats]] = {}

    def keys(self) -> Sequence[tuple[str, Settings]]:
        """Return kinds and settings."""
        kept = [] if self._kept is None else [(KEPT, self._kept[1])]
        plain = [("ridge", {"strength": strength}) for strength in STRENGTHS]
        white = [
            (kind, {"strength": strength, "floor": floor})
            for floor in FLOORS
            for kind in ("white", "hubless")
            for strength in STRENGTHS
        ]
        return [*kept, *plain, *white]

    def make(self, kind: str, settings: Settings) -> Forward:
        """Return one of them."""
        pairs = self._pairs
        if kind == KEPT:
            assert self._kept is not None  # or it would be no key
            dim = pairs.old.shape[1]
            bridge = BridgeFits(pairs).make(self._kept[0], settings)
            return Forward(Identity(dim, dim), bridge, pairs.old_metric, kind)
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
        hubless = Hubless(documents, anchors, min(NEAREST, len(anchors)), POWER)
        if kind == "white":
            return Forward(documents, bridge, "cosine", kind, near=hubless)
        return Forward(hubless, bridge, "ip", kind)

    def calibration(self, kind: str) -> str | None:
        """Return the bridge's where the vectors are left to it.

        Where old vectors are new ones cut short their scores are those of the new model, spread
        more; matching the best was better than what is measured on pairs left out, on every set.
        """
        if kind == KEPT and self._kept is not None:
            return self._kept[2]
        return None if self._put_back is None else "best"

    def fitted(self, kind: str) -> bool:
        """Return whether a kind is fitted on the pairs."""
        return kind != KEPT or self._kept is None or self._kept[0] != PREFIX

    def _whitened(self, floor: float) -> tuple[Bridge, Floats]:
        """Return what takes queries under a whitening, and anchors that are there already."""
        if floor not in self._white:
            white = self._whitening.root(floor)
            queries = Linear(white, np.zeros(len(white), np.float32), unit=True)
            self._white[floor] = Bridge(queries, None, "white"), queries.apply(self._anchors)
        return self._white[floor]


def _put_back(pairs: Pairs) -> Floats | None:
    """Return f32[o, d], what puts a prefix back where it was; None where it is none."""
    if not is_prefix(pairs):
        return None
    old, new = pairs.old.shape[1], pairs.new.shape[1]
    length = np.linalg.norm(pairs.new[:, :old], axis=1).mean()
    whole = np.linalg.norm(pairs.old, axis=1).mean()
    out: Floats = np.eye(old, new, dtype=np.float32) * np.float32(length / (whole or 1.0))
    return out


def bridged_scores(bridge: Bridge, queries: Floats, held: Pairs) -> Floats:
    """Return f32[q, n], what queries of the new space score the old vectors of some pairs."""
    carried = bridge.apply(queries)
    return carried.calibrated(similarities(carried.vectors, held.old, held.old_metric))


def mapped_scores(forward: Forward, queries: Floats, held: Pairs) -> Floats:
    """Return f32[q, n], what queries of the new space score the mapped vectors of some pairs."""
    return _scored(forward, forward.bridge.apply(queries), held)


class MappedScores:
    """`mapped_scores` that carries the same queries over the same bridge once.

    The candidates of a fold share their bridges, and carrying queries is most of what one costs.

    folds: how many there are.
    """

    def __init__(self, folds: int) -> None:
        self._most = folds
        self._known: list[tuple[Bridge, Floats, Carried]] = []

    def __call__(self, forward: Forward, queries: Floats, held: Pairs) -> Floats:
        """Return f32[q, n]."""
        for bridge, asked, carried in self._known:
            if bridge is forward.bridge and asked is queries:
                return _scored(forward, carried, held)
        carried = forward.bridge.apply(queries)
        self._known = [*self._known[1 - self._most :], (forward.bridge, queries, carried)]
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


_SAME, _TINY = 2e-3, 1e-6  # of the length of a vector
