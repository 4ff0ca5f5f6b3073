"""The description of a collection: counts, sizes, segments, spaces, an upgrade."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .segments.measured import summary
from .segments.snapshot import Snapshot


def overview(snapshot: Snapshot, path: Path) -> dict[str, Any]:
    """Return the description of a collection as JSON values."""
    manifest = snapshot.manifest
    return {
        "path": str(path),
        "generation": manifest.generation,
        "created": manifest.created,
        "format": manifest.format,
        "written_by": f"retr {manifest.writer}",
        "documents": snapshot.count_documents(),
        "rows": len(snapshot),
        "deleted_rows_stored": len(snapshot.deleted),
        "bytes": sum(entry.size for entry in manifest.files.values()),
        "encoder": dict(manifest.encoder),
        "space": snapshot.space.to_json(),
        "settings": dict(manifest.settings),
        "upgrade": _upgrade(snapshot),
        "segments": [
            {
                "id": s.id,
                "role": str(s.role),
                "modality": s.modality,
                "space": None if s.space is None else snapshot.spaces[s.space].encoder,
                "rows": s.rows,
                "index": s.index.spec if s.index else None,
                "measured": summary(s.index) if s.index else {},
                "bytes": sum(manifest.files[name].size for name in s.files),
            }
            for s in manifest.segments
        ],
    }


def _upgrade(snapshot: Snapshot) -> dict[str, Any] | None:
    """Return the state of an upgrade, None if all vectors are of one space."""
    if not snapshot.crossings:
        return None
    from .upgrade.status import status

    found = status(snapshot)
    return {name: found[name] for name in ("state", "from", "to", "share")}
