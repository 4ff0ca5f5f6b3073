"""The opened bridges of a generation, by which queries reach the vectors of other spaces."""

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
    """How queries reach the vectors of another space.

    bridge: carries queries to that space, and calibrates the scores found there.
    back:   maps vectors of that space to the space of the queries; None if no file holds such a
            map.
    files:  the files that the maps were read from.
    metric: of the other space.
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
        """Maps vectors of the other space to the space of the queries; None if there is no map.

        If no file holds a map, the inverse of the bridge's own map is used if it has one.
        """
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
    """Return the crossings from the space of the queries to each other space, by its key.

    known: the crossings of an earlier generation, reused if their files are the same.

    Raises:
        DamagedError: a file is not a bridge.
        FileNotFoundError: a file is gone.
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
    """Return whether a bridge carries queries in the opposite direction of another."""
    ends = (entry.source, entry.target) == (other.target, other.source)
    return ends and entry.maps is Maps.QUERIES and other.maps is Maps.QUERIES
