"""The kinds of index, one file each, and what they share (the files with an underscore).

A kind is one file: `flat.py` is the kind `flat`, and the `Index` subclass in it says
`kind = "flat"`. There is no other registration.

May import the modules of `indexes` and `indexes.gpu`. No kind imports another; `_flat_prefix` is
part of `flat`.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from ..spec import SpecError

if TYPE_CHECKING:
    from ..base import Index

__all__ = ["kind", "kinds"]


def kinds() -> list[str]:
    """Return the names of all kinds, sorted. Imports numpy, but not FAISS."""
    return sorted(name for name in _modules() if _class_in(name) is not None)


def kind(name: str) -> type[Index]:
    """Return the class of the kind called `name`.

    Raises:
        SpecError: there is no such kind; the message lists the kinds.
    """
    found = _class_in(name) if name in _modules() else None
    if found is None:
        raise SpecError(f"there is no index kind {name!r}; use {', '.join(kinds())}")
    return found


def _modules() -> list[str]:
    return [m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")]


def _class_in(name: str) -> type[Index] | None:
    from ..base import Index

    module = importlib.import_module(f".{name}", __name__)
    for value in vars(module).values():
        if not isinstance(value, type) or not issubclass(value, Index) or value is Index:
            continue
        if value.__module__ == module.__name__ and getattr(value, "kind", None) == name:
            return value
    return None
