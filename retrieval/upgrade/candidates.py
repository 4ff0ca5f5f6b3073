"""The candidates that an upgrade chooses from, and how to compute their scores.

There are two families of candidates, both fitted from pairs: bridges, which carry queries to the
old vectors, and forward maps, which turn old vectors into mapped ones. `choose.py` measures which
candidate of a family to use.
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
"""Strengths of the ridge, as multiples of the mean variance of a dimension. The grid is wide enough
that the best lies inside it, for a handful of pairs as for many thousands."""

FLOORS = (1.0, 0.25, 0.1)
"""Floors of the whitening, see `fits.Whitening`; this grid is wide enough, too."""

ANCHORS, NEAREST, POWER = 1_000, 3, 0.25
"""The correction for hubs, see `maps.Hubless`; whether to use it is measured."""

Made = TypeVar("Made", covariant=True)
Settings = Mapping[str, float]

PREFIX = "prefix"
"""The kind of bridge that cuts a query to the old space's dimensions."""

KEPT = "kept"
"""The kind of forward map that keeps old vectors unchanged; the bridge finds them."""


class Fits(Protocol[Made]):
    """All candidates of a family that can be fitted from some pairs, each made on request.

    sure: the kind that is exact and needs no measuring; None if there is none.
    """

    sure: str | None

    def keys(self) -> Sequence[tuple[str, Settings]]:
        """Return the kinds and settings of all candidates, simpler ones first."""
        ...

    def make(self, kind: str, settings: Settings) -> Made:
        """Return one candidate."""
        ...

    def calibration(self, kind: str) -> str | None:
        """Return the calibration of a kind if it is fixed, None if it has to be measured."""
        ...

    def fitted(self, kind: str) -> bool:
        """Return whether a kind is fitted on the pairs."""
        ...


class BridgeFits:
    """Bridges: maps of a query to the old space.

    The vectors there have unit length whatever they are about, so "procrustes" and "white" have no
    bias, which would only favour rows near the mean. "ridge" has an intercept nevertheless, because
    it is chosen only if it finds more.

    If the old model's vectors are a prefix of the new model's, one bridge is exact and needs no
    fit: the first dimensions of the query.

    "white" compares vectors halfway to a full whitening of the old space, so that the few
    directions in which all old vectors vary do not outweigh those that tell documents apart. The
    whitening is applied to the query, which has the same effect as applying it to stored vectors.
    """

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._ridge = Ridge(pairs.new, pairs.old)
        self._whitening = Whitening(pairs.old)
        self.sure = PREFIX if is_prefix(pairs) else None

    def keys(self) -> Sequence[tuple[str, Settings]]:
        """Return the kinds and settings of all candidates."""
        white = [("white", {"floor": floor}) for floor in FLOORS]
        ridge = [("ridge", {"strength": strength}) for strength in STRENGTHS]
        fitted = [("procrustes", {}), *white, *ridge]
        return fitted if self.sure is None else [(PREFIX, {}), *fitted]

    def make(self, kind: str, settings: Settings) -> Bridge:
        """Return one candidate."""
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
        """Return "best" for the exact bridge, None for others; see `ForwardFits.calibration`."""
        return "best" if kind == self.sure else None

    def fitted(self, kind: str) -> bool:
        """Return whether a kind is fitted on the pairs."""
        return kind != PREFIX


def prefix(pairs: Pairs) -> Linear:
    """Return the map that keeps the first dimensions of a query."""
    new, old = pairs.new.shape[1], pairs.old.shape[1]
    unit = pairs.old_metric == "cosine"
    return Linear(np.eye(new, old, dtype=np.float32), np.zeros(old, np.float32), unit)


def is_prefix(pairs: Pairs) -> bool:
    """Return whether the old vectors are prefixes of the new ones, to 16-bit precision."""
    if pairs.old.shape[1] > pairs.new.shape[1]:
        return False
    apart = prefix(pairs).apply(pairs.new) - pairs.old
    lengths = np.linalg.norm(pairs.old, axis=1)
    return bool((np.linalg.norm(apart, axis=1) <= _SAME * lengths + _TINY).all())


class ForwardFits:
    """Forward maps: maps of old vectors to the vectors that queries are compared with.

    A ridge shrinks the directions that old vectors say little about, and then the few directions in
    which all new vectors vary outweigh the many that tell documents apart. Comparing under a
    whitening of the new space corrects that. ("ridge" does without.)

    If the old vectors are prefixes of the new ones, the penalty applies to the difference from the
    map that puts a prefix back in place, so even a strong penalty leaves the vectors as good as
    before.

    kept: the kind, settings and calibration of the best bridge. With it, keeping the old vectors
          unchanged and searching them through that bridge is a candidate, too.
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
        # What candidates share is made once; it is most of the work of a choice.
        self._plain: dict[float, Linear] = {}
        self._white: dict[float, tuple[Bridge, Floats]] = {}

    def keys(self) -> Sequence[tuple[str, Settings]]:
        """Return the kinds and settings of all candidates."""
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
        """Return one candidate."""
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
        """Return the bridge's calibration for `KEPT`, "best" for prefixes, otherwise None.

        If the old vectors are prefixes of the new ones, their scores are those of the new model
        with a larger spread; on every data set, "best" did better than the calibration chosen on
        held-out pairs.
        """
        if kind == KEPT and self._kept is not None:
            return self._kept[2]
        return None if self._put_back is None else "best"

    def fitted(self, kind: str) -> bool:
        """Return whether a kind is fitted on the pairs."""
        return kind != KEPT or self._kept is None or self._kept[0] != PREFIX

    def _whitened(self, floor: float) -> tuple[Bridge, Floats]:
        """Return the bridge that whitens queries, and the whitened anchors."""
        if floor not in self._white:
            white = self._whitening.root(floor)
            queries = Linear(white, np.zeros(len(white), np.float32), unit=True)
            self._white[floor] = Bridge(queries, None, "white"), queries.apply(self._anchors)
        return self._white[floor]


def _put_back(pairs: Pairs) -> Floats | None:
    """Return the matrix that puts prefixes back in place, f32[o, d]; None if they are none."""
    if not is_prefix(pairs):
        return None
    old, new = pairs.old.shape[1], pairs.new.shape[1]
    length = np.linalg.norm(pairs.new[:, :old], axis=1).mean()
    whole = np.linalg.norm(pairs.old, axis=1).mean()
    out: Floats = np.eye(old, new, dtype=np.float32) * np.float32(length / (whole or 1.0))
    return out


def bridged_scores(bridge: Bridge, queries: Floats, held: Pairs) -> Floats:
    """Return the scores of the pairs' old vectors for queries of the new space, f32[q, n]."""
    carried = bridge.apply(queries)
    return carried.calibrated(similarities(carried.vectors, held.old, held.old_metric))


def mapped_scores(forward: Forward, queries: Floats, held: Pairs) -> Floats:
    """Return the scores of the pairs' mapped vectors for queries of the new space, f32[q, n]."""
    return _scored(forward, forward.bridge.apply(queries), held)


class MappedScores:
    """Computes `mapped_scores`, carrying the same queries over the same bridge only once.

    The candidates of a fold share their bridges, and carrying queries is most of their cost.

    folds: the number of folds.
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
