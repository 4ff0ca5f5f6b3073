"""The names of measures and their providers: ir_measures' own names, and `R_cap@k`.

`NAME`, `NAME@K`, `NAME(parameter=value)@K`: nDCG@10, R@100, AP, RR@10, P(rel=2)@5, Success@5.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..values.errors import InputError, missing_extra
from .trec import MAX_GRADE

DEFAULT_MEASURES = ("nDCG@10", "RR@10", "AP", "R@100")
CAPPED_RECALL = "R_cap"

_MAX_CUTOFF = 10**9


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure and its provider.

    name:     the canonical name, `nDCG@10`; MRR@10 and MAP are RR@10 and AP.
    provider: ir_measures' provider, "pytrec_eval" for trec_eval's own code; "retr" for R_cap.
    kind:     the name without parameters.
    params:   the parameters given, the cutoff among them.
    native:   ir_measures' measure; None for R_cap.
    """

    name: str
    provider: str
    kind: str
    params: dict[str, Any]
    native: Any


def parse_measures(measures: Any) -> tuple[Measure, ...]:
    """Return the measures named, in order, each once.

    measures: one or several names, measures of ir_measures, or `Measure` values.

    Raises:
        InputError: a name is unknown (the message suggests similar ones), a parameter cannot be
            used, or the provider is not installed (the message says how to install it).
        MissingExtraError: ir_measures is not installed.
    """
    # A measure of ir_measures supports [0] but is not iterable.
    several = isinstance(measures, Iterable) and not isinstance(measures, str)
    given = list(measures) if several else [measures]
    if not given:
        raise InputError("no measure was given; name one, such as nDCG@10")
    parsed = {measure.name: measure for measure in map(parse_measure, given)}
    return tuple(parsed.values())


def parse_measure(given: Any) -> Measure:
    """Return one measure; see `parse_measures`."""
    if isinstance(given, Measure):
        return given
    library = ir_measures()
    if isinstance(given, library.Measure):
        kind, params, native = given.NAME or str(given), dict(given.params), given
    elif isinstance(given, str):
        kind, at, params = _split(given)
        if kind == CAPPED_RECALL:
            return _capped_recall(given, params if at is None else {**params, "cutoff": at})
        native = library.measures.registry.get(kind)
        if native is None:
            raise InputError(_unknown(given, kind))
        if at is not None:
            params[native.AT_PARAM] = at
        native = native(**params)
        kind, params = native.NAME, dict(native.params)
    else:
        raise InputError(f"measure {given!r}: give a name such as 'nDCG@10'")
    try:
        native.validate_params()
    except AssertionError as error:
        if "cutoff" not in params and _needs_cutoff(native):
            raise InputError(f"measure {given} needs a cutoff, as in {kind}@10") from None
        raise InputError(f"measure {given}: {error}") from None
    _check_values(str(given), params)
    return Measure(str(native), _provider(native), kind, params, native)


def ir_measures() -> Any:
    """Return the module ir_measures.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import ir_measures as library
    except ImportError:
        raise missing_extra("evaluating a run", "eval") from None
    return library


def _split(text: str) -> tuple[str, Any, dict[str, Any]]:
    """Split `NAME(parameter=value, ...)@AT`; AT is None if it is missing."""
    # Not ir_measures' own parser, which uses parts of `ast` that Python 3.14 has removed.
    refusal = InputError(f"measure {text!r} cannot be read; write it as nDCG@10, P(rel=2)@5 or AP")
    at, params = None, {}
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            at, node = ast.literal_eval(node.right), node.left
        if isinstance(node, ast.Call):
            if node.args or any(word.arg is None for word in node.keywords):
                raise refusal
            params = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
            node = node.func
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise refusal from None
    if not isinstance(node, ast.Name):
        raise refusal
    return node.id, at, params


def _capped_recall(given: str, params: dict[str, Any]) -> Measure:
    unknown = sorted(set(params) - {"cutoff", "rel"})
    if unknown or "cutoff" not in params:
        raise InputError(f"measure {given}: write R_cap@K or R_cap(rel=N)@K")
    _check_values(given, params)
    rel = params.get("rel", 1)
    shown = "" if rel == 1 else f"(rel={rel})"
    name = f"{CAPPED_RECALL}{shown}@{params['cutoff']}"
    return Measure(name, "retr", CAPPED_RECALL, {"rel": rel, "cutoff": params["cutoff"]}, None)


def _check_values(given: str, params: dict[str, Any]) -> None:
    """Refuse values that crash trec_eval's code or that it would replace by others."""
    for name, low, high in (("cutoff", 1, _MAX_CUTOFF), ("rel", 1, MAX_GRADE)):
        value = params.get(name, low)
        if type(value) is not int or not low <= value <= high:
            raise InputError(f"measure {given}: {name} {value!r} is not a whole number from {low}")
    for gain in (params.get("gains") or {}).values():
        if type(gain) is not int or not 0 <= gain <= MAX_GRADE:
            raise InputError(
                f"measure {given}: gain {gain!r} is not a whole number from 0 to {MAX_GRADE}"
            )
    recall = params.get("recall", 0.0)
    if not 0 <= recall <= 1 or round(recall, 2) != recall:
        raise InputError(f"measure {given}: give a recall from 0 to 1 in hundredths, as IPrec@0.1")


def _needs_cutoff(native: Any) -> bool:
    info = native.SUPPORTED_PARAMS.get("cutoff")
    return bool(info and info.required)


def _provider(native: Any) -> str:
    library = ir_measures()
    registry = library.providers.registry
    if any(native.NAME == known.NAME for known in registry["pyndeval"].SUPPORTED_MEASURES):
        raise InputError(
            f"measure {native} needs judgments of subtopics, which retr does not read; "
            "use ir_measures itself"
        )
    if native.NAME == "Accuracy":
        # Its provider leaves queries out of the mean, and divides by zero if every document found
        # is relevant.
        raise InputError("measure Accuracy has no value for some queries; use ir_measures itself")
    able = [p for p in library.DefaultPipeline.providers if p.supports(native)]
    for provider in able:
        if provider.is_available():
            return str(provider.NAME)
    hints = [p.install_instructions() for p in able]
    shown = " or ".join(f"`{hint}`" for hint in hints if hint)
    if shown:
        raise InputError(f"measure {native} needs a library that is not installed: {shown}")
    raise InputError(
        f"measure {native}: no provider of ir_measures computes it with these parameters"
    )


def _unknown(given: str, kind: str) -> str:
    library = ir_measures()
    same = _of_trec_eval(given)
    if same:
        return f"measure {given!r} is trec_eval's name; write {same}"
    refused = {m.NAME for m in library.providers.registry["pyndeval"].SUPPORTED_MEASURES}
    registry = library.measures.registry
    known = {CAPPED_RECALL.lower(): CAPPED_RECALL}
    for name, measure in registry.items():
        if measure.NAME not in refused | {"Accuracy"}:
            known.setdefault(name.lower(), measure.NAME)  # MAP leads to AP
    near = difflib.get_close_matches(kind.lower(), known, n=3, cutoff=0.5)
    if near:
        names = dict.fromkeys(known[name] + given[len(kind) :] for name in near)
        return f"unknown measure {given!r}; similar: {', '.join(names)}"
    return f"unknown measure {given!r}; known: {', '.join(sorted(set(known.values())))}"


def _of_trec_eval(given: str) -> str | None:
    """Return the name of the measure that trec_eval calls `given`, such as ndcg_cut_10."""
    import pytrec_eval

    if given in pytrec_eval.supported_nicknames:  # each stands for several, such as "official"
        return None
    try:
        same = ir_measures().parse_trec_measure(given)
    except (ValueError, TypeError, KeyError):
        return None
    return str(same[0]) if len(same) == 1 else None
