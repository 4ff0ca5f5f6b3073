"""Keeps the import path of retr 0.1 for `open_image`, which now lives in `values.images`."""

from __future__ import annotations

from .values.images import UnreadableImageError, open_image

__all__ = ["UnreadableImageError", "open_image"]
