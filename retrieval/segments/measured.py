"""What was measured of an index, as it is told."""

from __future__ import annotations

from typing import Any

from ..store.manifest import IndexEntry


def summary(entry: IndexEntry) -> dict[str, Any]:
    """Return what was measured of an index at the point it is set to; empty where nothing was."""
    curve = entry.measured.get("curve")
    if not curve:
        return {}
    chosen = curve[entry.measured["default"]]
    return {
        "asked": entry.measured["asked"],
        "recall": chosen["recall"],
        "low": chosen["low"],
        "high": chosen["high"],
        "cpu_us": chosen["cpu_us"],
        "queries": entry.measured["queries"],
        "own_queries": entry.measured["own_queries"],
        **({"texts": True} if entry.measured.get("texts") else {}),
    }
