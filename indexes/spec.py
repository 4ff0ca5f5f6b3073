"""An index written as a short string: `KIND[@DIM[/DIM...]][(name=value,...)]`.

    flat                exact search
    flat@64             a shortlist on the first 64 dimensions, re-ranked on all
    ivfpq@128/256       128 dimensions, then 256, then all
    hnsw(m=32)          a parameter of the kind, for experts

A spec is a value that parses back from its printed form. Only when an index is built does its kind
decide which prefixes and parameters it takes. Imports nothing heavy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

Value = int | float | bool | str

_VALUES: Final = "an integer, a number, true, false or a word"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_DIM = re.compile(r"[0-9]+")
_INT = re.compile(r"-?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?[0-9]+(?:\.[0-9]+(?:e[+-]?[0-9]+)?|e[+-]?[0-9]+)")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_BOOLS: Final = {"true": True, "false": False}
_LARGEST_DIM: Final = 2**31 - 1
_LARGEST_INT: Final = 2**63 - 1


class SpecError(ValueError):
    """An index spec that cannot be read, or that the kind it names does not take."""


@dataclass(frozen=True, slots=True, eq=False)
class IndexSpec:
    """Which index to build.

    kind:   the name of the kind, `[a-z][a-z0-9_]*`.
    dims:   the prefix dimensions, strictly ascending, above 0; the full vector is implied last.
    params: pairs of a name and a value (int, float, bool or word), stored in order of the names;
            accepts a mapping, or the pairs in any order.

    Two specs are equal if they print the same, so `1`, `1.0` and `true` differ.

    Raises:
        SpecError: a field is not as above.
    """

    kind: str
    dims: tuple[int, ...] = ()
    params: tuple[tuple[str, Value], ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.kind):
            raise SpecError(f"index kind {self.kind!r}: give lower-case letters, digits and _")
        object.__setattr__(self, "dims", tuple(self.dims))
        for before, dim in zip((0, *self.dims), self.dims, strict=False):
            if isinstance(dim, bool) or not isinstance(dim, int) or not before < dim:
                raise SpecError(
                    f"index prefixes {self.dims}: give integers above 0, each above the one before"
                )
            if dim > _LARGEST_DIM:
                raise SpecError(f"index prefix {dim}: give at most {_LARGEST_DIM}")
        object.__setattr__(self, "params", _sorted_params(self.params))

    def get(self, name: str, default: Value | None = None) -> Value | None:
        """Return the value of the parameter called `name`, or `default` if it is not given."""
        for given, value in self.params:
            if given == name:
                return value
        return default

    @classmethod
    def parse(cls, text: str) -> IndexSpec:
        """Return the spec written in `text`.

        Raises:
            SpecError: `text` is not a spec; the message names it and the position, from 1.
        """
        return _Parser(text).spec()

    def __str__(self) -> str:
        dims = "@" + "/".join(map(str, self.dims)) if self.dims else ""
        pairs = ",".join(f"{name}={_print(value)}" for name, value in self.params)
        return f"{self.kind}{dims}({pairs})" if pairs else f"{self.kind}{dims}"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, IndexSpec):
            return str(self) == str(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))


class _Parser:
    """Reads a text from left to right; `at` is the index of the next character, from 0."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def spec(self) -> IndexSpec:
        kind = self.match(_NAME, "a kind such as flat")
        dims = self.dims() if self.accept("@") else ()
        params = self.params() if self.accept("(") else {}
        if self.at < len(self.text):
            raise self.error("expected the end")
        return IndexSpec(kind, dims, tuple(params.items()))

    def dims(self) -> tuple[int, ...]:
        dims: list[int] = []
        while True:
            start = self.at
            digits = self.match(_DIM, "a number of dimensions")
            if len(digits) > 10 or not 0 < int(digits) <= _LARGEST_DIM:
                raise self.error(
                    f"a prefix has 1 to {_LARGEST_DIM} dimensions, not {digits}", start
                )
            if dims and int(digits) <= dims[-1]:
                raise self.error(f"prefixes must ascend, but {digits} follows {dims[-1]}", start)
            dims.append(int(digits))
            if not self.accept("/"):
                return tuple(dims)

    def params(self) -> dict[str, Value]:
        params: dict[str, Value] = {}
        while True:
            start = self.at
            name = self.match(_NAME, "the name of a parameter")
            if name in params:
                raise self.error(f"the parameter {name} is given twice", start)
            self.expect("=")
            params[name] = self.value()
            if self.accept(")"):
                return params
            self.expect(",", "',' or ')'")

    def value(self) -> Value:
        start = self.at
        end = start
        while end < len(self.text) and self.text[end] not in ",()=":
            end += 1
        token = self.text[start:end]
        self.at = end
        if token in _BOOLS:
            return _BOOLS[token]
        if _INT.fullmatch(token):
            if len(token) > 20 or abs(int(token)) > _LARGEST_INT:
                raise self.error("an integer has at most 63 bits", start)
            return int(token)
        if _FLOAT.fullmatch(token) and math.isfinite(float(token)):
            return float(token)
        if _is_word(token):
            return token
        raise self.error(f"expected {_VALUES}, not {token!r}", start)

    def match(self, pattern: re.Pattern[str], wanted: str) -> str:
        found = pattern.match(self.text, self.at)
        if not found:
            raise self.error(f"expected {wanted}")
        self.at = found.end()
        return found.group()

    def accept(self, char: str) -> bool:
        if self.text.startswith(char, self.at):
            self.at += 1
            return True
        return False

    def expect(self, char: str, wanted: str | None = None) -> None:
        if not self.accept(char):
            raise self.error(f"expected {wanted or repr(char)}")

    def error(self, what: str, at: int | None = None) -> SpecError:
        place = self.at if at is None else at
        return SpecError(f"index spec {self.text!r}, character {place + 1}: {what}")


def _sorted_params(
    params: Mapping[str, Value] | Iterable[tuple[str, Value]],
) -> tuple[tuple[str, Value], ...]:
    pairs = tuple(params.items()) if isinstance(params, Mapping) else tuple(params)
    for name, value in pairs:
        if not _NAME.fullmatch(name):
            raise SpecError(f"index parameter {name!r}: give lower-case letters, digits and _")
        if not _can_print(value):
            raise SpecError(f"index parameter {name}={value!r}: give {_VALUES}")
    if len({name for name, _ in pairs}) < len(pairs):
        raise SpecError(f"index parameters {pairs}: one of them is given twice")
    return tuple(sorted(pairs, key=lambda pair: pair[0]))


def _can_print(value: object) -> bool:
    match value:
        case bool():
            return True
        case int():
            return abs(value) <= _LARGEST_INT
        case float():
            return math.isfinite(value)
        case str():
            return _is_word(value)
    return False


def _is_word(text: str) -> bool:
    return bool(_WORD.fullmatch(text)) and text not in _BOOLS


def _print(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)
