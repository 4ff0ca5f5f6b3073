"""Indexes: arrays in, arrays out; they know nothing about documents.

`kinds/` holds the kinds of index, `tuning/` chooses a kind and its operating point, and `gpu/` does
what can be done on a GPU.

Imports nothing else of retr.
"""

from __future__ import annotations

from .kinds import kind, kinds
from .spec import IndexSpec, SpecError

__all__ = ["IndexSpec", "SpecError", "kind", "kinds"]
