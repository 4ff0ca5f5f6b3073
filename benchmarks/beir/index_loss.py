"""How much of exact search an index finds, so that its losses are not taken for the encoder's.

The recall of an approximate search at k is the part of the exact k nearest rows that it returns.
Where several rows are equally near as the k-th, any of them is as right (tie-aware, as in
ann-benchmarks): distances decide, not ids.
"""

from __future__ import annotations

from collections.abc import Mapping

Scores = Mapping[str, float]  # document id -> score, best first

# How much two computations of the same score differ, relative to it: f32 sums in another order.
TOLERANCE = 1e-5


def recall(exact: Scores, found: Scores, k: int) -> float:
    """Return the recall of one query, 1 if there was nothing to find.

    exact: the exact hits, at least k of them or all there are, best first.
    found: the hits of the index, best first.
    """
    if k < 1:
        raise ValueError(f"k is {k}")
    best = list(exact.items())[:k]
    if not best:
        return 1.0
    last = best[-1][1]
    slack = TOLERANCE * max(1.0, abs(last))
    right = {document for document, _ in best}
    # The index's own scores count for rows below the exact k-th only if they are exact, too.
    errors = [
        abs(score - exact[document]) / max(1.0, abs(score))
        for document, score in found.items()
        if document in exact
    ]
    trusted = bool(errors) and max(errors) <= TOLERANCE
    hits = 0
    for document, score in list(found.items())[:k]:
        if document in right:
            hits += 1
        elif document in exact:
            hits += exact[document] >= last - slack
        else:
            hits += trusted and score >= last - slack
    return min(hits, len(best)) / len(best)


def recalls(exact: Mapping[str, Scores], found: Mapping[str, Scores], k: int) -> dict[str, float]:
    """Return the recall of each query of the exact run; 0 for one that the index's run lacks."""
    return {query: recall(hits, found.get(query, {}), k) for query, hits in exact.items()}
