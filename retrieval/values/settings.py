"""What a user wants of the indexes, and what one was measured to give."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    from ..store.manifest import IndexEntry

AUTO = "auto"


def check_spec(text: str) -> str:
    """Return the spec in its canonical form; `auto` stays as it is.

    Raises:
        InputError: it does not parse, or there is no such kind.
    """
    from ...indexes import kind
    from ...indexes.spec import IndexSpec, SpecError

    if text == AUTO:
        return AUTO
    try:
        spec = IndexSpec.parse(text)
        kind(spec.kind).check(spec)
    except (SpecError, KeyError) as error:
        raise InputError(f"spec {text!r}: {error.args[0]}") from error
    return str(spec)


def check_recall(recall: float | str) -> float:
    """Return the recall as a number above 0 and up to 1; "exact" is 1.

    Raises:
        InputError: it is something else.
    """
    try:
        value = 1.0 if recall == "exact" else float(recall)
    except (TypeError, ValueError):
        value = 0.0
    if not 0 < value <= 1:
        hint = f"; {value / 100:g}, perhaps" if 1 < value <= 100 else ""
        raise InputError(f"recall {recall!r}: give a number above 0 and up to 1, or 'exact'{hint}")
    return value


def check_memory(memory: int | str) -> int:
    """Return a number of bytes; texts may end in kB, MB, GB or TB, in powers of 1000.

    Raises:
        InputError: it is something else.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)b?\s*", str(memory), re.IGNORECASE)
    power = 0 if found is None else " kmgt".index(found[2].lower() or " ")
    value = 0 if found is None else round(float(found[1]) * 1000**power)
    if value < 1:
        raise InputError(f"memory {memory!r}: give a size such as 500MB or 2GB")
    return value


@dataclass(frozen=True, slots=True)
class IndexWish:
    """What the user wants of the indexes.

    spec:   an index spec, or `auto`.
    recall: what searches are to find of the true best; None or 1 is all of it.
    memory: bytes that an index may take; None does not limit it.
    """

    spec: str = AUTO
    recall: float | None = None
    memory: int | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> IndexWish:
        """Return what a collection's settings say."""
        return cls(str(settings.get("spec", AUTO)), settings.get("recall"), settings.get("memory"))

    @property
    def is_open(self) -> bool:
        """Whether neither an index nor a recall was asked for: what is there stays."""
        return self.spec == AUTO and self.recall is None


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
