"""What a collection was told when it was built, and how such values are checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .errors import InputError
from .fusion import Fusion

AUTO = "auto"
DTYPES = ("float32", "float16")
"""How vectors may be stored; the first is the default."""
DEFAULT_LANGUAGE = "english"


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
class Bm25:
    """The two constants of BM25.

    k1: how quickly repetitions of a term stop adding to the score.
    b:  how much long rows are penalised, from 0 to 1.
    """

    k1: float
    b: float


DEFAULT_BM25 = Bm25(k1=1.2, b=0.75)


@dataclass(frozen=True, slots=True)
class TermSettings:
    """How a collection's texts become terms and how terms are scored; fixed when it is built.

    analyzer: the name of an `Analyzer`, with its version.
    """

    analyzer: str
    k1: float = DEFAULT_BM25.k1
    b: float = DEFAULT_BM25.b

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @property
    def bm25(self) -> Bm25:
        """The constants of BM25."""
        return Bm25(self.k1, self.b)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a collection was told, as its manifest keeps it.

    spec:   an index spec, or `auto`.
    recall: the share of the true best that searches are to find; None or 1 is all of it.
    memory: bytes that an index may take; None does not limit it.
    dtype:  how vectors are stored, one of `DTYPES`.
    terms:  how its texts are searched by words; None if it does not keep their words.
    fusion: how vectors are weighed against words; None is the default of the encoder's family.
    others: what a newer retr has added, kept as it is.
    """

    spec: str = AUTO
    recall: float | None = None
    memory: int | None = None
    dtype: str = DTYPES[0]
    terms: TermSettings | None = None
    fusion: Fusion | None = None
    others: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Settings:
        """Return the settings that a manifest holds."""
        others = dict(stored)
        plain = {name: others.pop(name) for name in _PLAIN if name in others}
        terms, fusion = others.pop(_TERMS, None), others.pop("fusion", None)
        return cls(
            **plain,
            terms=None if terms is None else TermSettings(**terms),
            fusion=None if fusion is None else Fusion(**fusion),
            others=others,
        )

    def to_json(self) -> dict[str, Any]:
        """Return what a manifest holds: what was chosen, without the defaults."""
        out = dict(self.others)
        if self.spec != AUTO or self.recall is not None:
            out["spec"] = self.spec
        if self.recall is not None:
            out["recall"] = self.recall
        if self.memory is not None:
            out["memory"] = self.memory
        if self.dtype != DTYPES[0]:
            out["dtype"] = self.dtype
        if self.terms is not None:
            out[_TERMS] = self.terms.to_json()
        if self.fusion is not None:
            out["fusion"] = self.fusion.to_json()
        return out

    @property
    def keeps_indexes(self) -> bool:
        """Whether neither an index nor a recall was asked for: the indexes that exist stay."""
        return self.spec == AUTO and self.recall is None


_PLAIN = ("spec", "recall", "memory", "dtype")
_TERMS = "lexical"
