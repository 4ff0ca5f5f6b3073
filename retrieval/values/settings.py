"""What a user asks of a collection's indexes and of its search by words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .errors import InputError

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
    """Return a number of bytes; a string may end in kB, MB, GB or TB, in powers of 1000.

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
    """What the user asks of the indexes.

    spec:   an index spec, or `auto`.
    recall: the share of the true best hits that a search should find; None or 1 is all of them.
    memory: the most bytes that an index may take; None sets no limit.
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
        """Whether the user asked for neither an index nor a recall: existing indexes stay."""
        return self.spec == AUTO and self.recall is None


@dataclass(frozen=True, slots=True)
class Bm25:
    """The two constants of BM25.

    k1: how quickly repetitions of a term stop adding to the score.
    b:  how much long rows are penalised, from 0 to 1.
    """

    k1: float
    b: float


DEFAULT_LANGUAGE = "english"
DEFAULT_BM25 = Bm25(k1=1.2, b=0.75)


@dataclass(frozen=True, slots=True)
class TermSettings:
    """How a collection's texts become terms and how terms are scored; fixed when it is built.

    analyzer: the name of an `Analyzer`, with its version.
    """

    analyzer: str
    k1: float = DEFAULT_BM25.k1
    b: float = DEFAULT_BM25.b

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> TermSettings | None:
        """Return the settings of a collection; None if it does not search by words."""
        stored = settings.get("lexical")
        return None if stored is None else cls(**stored)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @property
    def bm25(self) -> Bm25:
        """The constants of BM25."""
        return Bm25(self.k1, self.b)
