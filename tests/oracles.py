"""What a search must find, worked out the plain way."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence


def bm25(
    rows: Mapping[int, Sequence[str]], query: Sequence[str], k1: float = 1.2, b: float = 0.75
) -> dict[int, float]:
    """Return the score of each row that holds a term of the query, by dictionaries alone.

    Robertson and Zaragoza (2009), with Lucene's idf and without the constant factor k1 + 1.

    rows: the terms of every row that counts.
    """
    counts = {row: Counter(terms) for row, terms in rows.items()}
    found = Counter(term for terms in counts.values() for term in terms)
    mean = sum(len(terms) for terms in rows.values()) / max(len(rows), 1)
    scores: dict[int, float] = {}
    for row, terms in counts.items():
        score = 0.0
        for term, weight in Counter(query).items():
            if term in terms:
                idf = math.log(1 + (len(rows) - found[term] + 0.5) / (found[term] + 0.5))
                count = min(terms[term], 65_535)
                norm = k1 * (1 - b + b * len(rows[row]) / mean)
                score += weight * idf * count / (count + norm)
        if score:
            scores[row] = score
    return scores


def assert_best(
    found: Sequence[tuple[int, float]],
    scores: Mapping[int, float],
    k: int,
    tolerance: float = 1e-9,
) -> None:
    """Hold that `found` are k best of the rows scored; which of equal ones may differ."""
    expected = sorted(scores.values(), reverse=True)[:k]
    assert len(found) == len(expected)
    assert len({row for row, _ in found}) == len(found)
    for (row, score), at_rank in zip(found, expected, strict=True):
        assert abs(score - scores[row]) <= tolerance * max(1, abs(score))
        assert abs(score - at_rank) <= tolerance * max(1, abs(score))
    order = [(-score, row) for row, score in found]
    assert order == sorted(order)
