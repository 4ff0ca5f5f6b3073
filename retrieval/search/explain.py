"""Why a hit was found: its score by the encoder and by words, and the words it shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..values.types import Explanation
from .plan import Mode, SearchPlan


def explain(plan: SearchPlan, number: int, rows: Sequence[int]) -> list[Explanation]:
    """Return why one query of a plan found each of these rows.

    number: the query's number in the plan.
    """
    query, numbers = plan.queries[number], np.array(rows, np.int64)
    dense: list[float | None] = [None] * len(rows)
    lexical: list[float | None] = [None] * len(rows)
    words: list[tuple[str, ...]] = [()] * len(rows)
    tokens: list[tuple[str, ...]] = [()] * len(rows)
    by: list[str | None] = [None] * len(rows)
    if plan.mode is not Mode.LEXICAL and plan.has_vector(query):
        dense = [float(score) for score in plan.dense.scores(number, numbers)]
        tokens = [_shared(plan, number, row) for row in rows]
        by = plan.dense.found_by(number, numbers)
    if query.text and plan.keeps_words:
        lexical = [float(score) for score in plan.words.scores(number, numbers)]
        words = [_held(plan, number, row) for row in rows]
    reasons = zip(dense, lexical, words, tokens, by, strict=True)
    return [Explanation(*each[:4], by=each[4]) for each in reasons]


def _shared(plan: SearchPlan, number: int, row: int) -> tuple[str, ...]:
    """Return the words that a sparse encoder weights in both the query and the row."""
    shared = plan.dense.held(number, row)
    return tuple(sorted(shared, key=lambda term: -plan.weights[number][term]))


def _held(plan: SearchPlan, number: int, row: int) -> tuple[str, ...]:
    """Return the words of the query that the row contains, spelled as in the query."""
    held = set(plan.words.held(number, row))
    text = plan.queries[number].text or ""
    spans = plan.analyzer.spans(text)
    found = [text[start:end] for start, end, terms in spans if held.intersection(terms)]
    return tuple(dict.fromkeys(found))
