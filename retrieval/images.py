"""`open_image`, where programs written for retr 0.1 find it; it lives in `values.images`."""

from __future__ import annotations

from .values.images import UnreadableImageError, open_image

__all__ = ["UnreadableImageError", "open_image"]
