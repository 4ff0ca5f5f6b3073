"""The status of an upgrade: shares, rate, and what the gate's measurements predict."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..segments.snapshot import Snapshot
from ..store.manifest import UpgradeEntry
from ..store.shards import merged_rows
from .rows import awaiting, found_in


def status(snapshot: Snapshot) -> dict[str, Any]:
    """Return the status of an upgrade as JSON values."""
    manifest = snapshot.manifest
    upgrade = manifest.upgrade
    rows = len(found_in(snapshot))
    waiting = merged_rows(awaiting(snapshot).values())
    old = 0 if upgrade is None else len(found_in(snapshot, upgrade.source))
    share = 1.0 if not rows else 1 - len(waiting) / rows
    rate = None if upgrade is None else upgrade.rate or upgrade.gate.get("rate")
    return {
        "state": _state(upgrade, len(waiting)),
        "from": None if upgrade is None else snapshot.spaces[upgrade.source].encoder,
        "to": snapshot.space.encoder,
        "started": None if upgrade is None else upgrade.started,
        "rows": rows,
        "new": rows - len(waiting),
        "mapped": len(waiting) - old,
        "old": old,
        "share": share,
        "rows_per_second": rate,
        "seconds_left": len(waiting) / rate if rate else None,
        "bridges": [
            {"maps": str(b.maps), "from": _encoder(snapshot, b.source), **b.measured}
            for b in manifest.bridges
        ],
        **_expected(upgrade, share, mapped=len(waiting) - old > old),
        "gate": {} if upgrade is None else dict(upgrade.gate),
    }


def _state(upgrade: UpgradeEntry | None, waiting: int) -> str:
    if upgrade is None:
        return "finished, mapped vectors kept" if waiting else "none"
    if upgrade.back:
        return "rolled back"
    return "under way" if waiting else "complete, to be finished"


def _encoder(snapshot: Snapshot, key: str) -> str | None:
    return snapshot.spaces[key].encoder if key in snapshot.spaces else None


def _expected(upgrade: UpgradeEntry | None, share: float, *, mapped: bool) -> dict[str, Any]:
    """Return what the gate's measurements predict for the present share and for the end."""
    if upgrade is None or upgrade.back or not upgrade.gate.get("curve"):
        return {}
    curve = upgrade.gate["curve"]
    shares = [point["share"] for point in curve]
    out: dict[str, Any] = {}
    judged = curve[0]["quality"] is not None
    what = "quality" if judged else "agreement"
    values = [point[what] for point in curve]
    now, end = float(np.interp(share, shares, values)), values[-1]
    if not mapped:
        # The curve starts with all rows mapped; with the bridge alone, it starts elsewhere.
        bridged = upgrade.gate["bridge"]["mean"]
        if judged:
            which = "old_old" if upgrade.gate.get("both") else "new_old"
            bridged = upgrade.gate["bridge_quality"][which]["mean"]
        now = bridged + (now - values[0]) / max(end - values[0], 1e-9) * (end - bridged)
    out["measure"] = "nDCG@10 over the sample" if judged else "agreement with the new model"
    out["now"], out["end"] = round(float(now), 4), round(float(end), 4)
    return out
