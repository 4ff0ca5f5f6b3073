"""Indexes: arrays in, arrays out; they know nothing of documents.

`kinds/` has the kinds, `tuning/` chooses one and where to run it, `gpu/` is what a GPU does.
Imports nothing else of retr.
"""

from __future__ import annotations

from .kinds import kind, kinds
from .spec import IndexSpec, SpecError

__all__ = ["IndexSpec", "SpecError", "kind", "kinds"]
