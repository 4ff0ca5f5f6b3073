"""The measurements of an index, as they are reported."""

from __future__ import annotations

from typing import Any

from ..store.manifest import IndexEntry


def summary(entry: IndexEntry) -> dict[str, Any]:
    """Return the measurements of an index at its present setting; empty if there are none."""
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
