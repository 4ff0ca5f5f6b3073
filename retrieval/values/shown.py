"""How single values are shown to people."""

from __future__ import annotations

import os


def score_text(score: float) -> str:
    """Return a score in few characters."""
    return f"{score:.4f}" if abs(score) < 1000 else f"{score:.6g}"


def shorter_path(path: str) -> str:
    """Return a path relative to the current folder where that is shorter."""
    if not path.startswith("/"):
        return path
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):  # the current folder is gone
        return path
    return relative if len(relative) < len(path) else path
