"""The bridges of a generation, opened: how its queries reach the vectors of its other spaces."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from ..store.manifest import BridgeEntry, Manifest, Maps
from .bridge import Bridge
from .codec import read_bridge, read_forward
from .fused import carrier
from .maps import Identity, Linear, Map


class Crossing:
    """How the vectors of another space are reached.

    bridge: takes queries there, and the scores found there back.
    metric: of the space there.
    files:  what it was read from.
    """

    def __init__(
        self, bridge: Bridge, back: Map | None, files: tuple[str, ...], metric: str
    ) -> None:
        self.bridge = bridge
        self.files = files
        self._back = back
        self.carry = carrier(bridge, metric)

    @cached_property
    def back(self) -> Map | None:
        """Takes vectors from there to the space of the queries; None where nothing does."""
        if self._back is not None:
            return self._back
        forth = self.bridge.map
        if isinstance(forth, Identity) and forth.source_dim == forth.target_dim:
            return forth
        if isinstance(forth, Linear) and forth.source_dim == forth.target_dim:
            inverse = np.linalg.pinv(forth.weight.astype(np.float64)).astype(np.float32)
            return Linear(inverse, -forth.bias @ inverse)
        return None


def open_bridges(
    folder: Path, manifest: Manifest, known: Mapping[str, Crossing]
) -> dict[str, Crossing]:
    """Return the crossings from the space of the queries to each other one, by its key.

    known: those of an earlier generation, which stay open if their files are the same.

    Raises:
        DamagedError: a file is no bridge.
        FileNotFoundError: it is gone.
    """
    found: dict[str, Crossing] = {}
    for entry in manifest.bridges:
        documents = entry.maps is Maps.DOCUMENTS
        key = entry.made if documents else entry.target
        if key is None or manifest.space != (entry.target if documents else entry.source):
            continue
        metric = str(manifest.spaces[key]["metric"])
        back = [other for other in manifest.bridges if _leads_back(other, entry)]
        files = (entry.file, *(other.file for other in back))
        there = known.get(key)
        if there is not None and there.files == files:
            found[key] = there
        elif documents:
            found[key] = Crossing(read_forward(folder / entry.file).bridge, None, files, metric)
        else:
            map_back = read_bridge(folder / back[0].file).map if back else None
            found[key] = Crossing(read_bridge(folder / entry.file), map_back, files, metric)
    return found


def _leads_back(entry: BridgeEntry, other: BridgeEntry) -> bool:
    """Return whether a bridge takes queries the other way than another one."""
    ends = (entry.source, entry.target) == (other.target, other.source)
    return ends and entry.maps is Maps.QUERIES and other.maps is Maps.QUERIES
