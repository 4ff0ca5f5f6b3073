"""The queries that changed most between two runs, with their texts and documents.

A mean says that something changed; reading these queries shows what.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .conversion import as_qrels, as_run
from .measures import ranking
from .significance import Comparison


@dataclass(frozen=True, slots=True)
class FoundDocument:
    """A document that is relevant to a query, or that one of the runs ranked high.

    relevance:             its judgment; None if it was not judged.
    base_rank, other_rank: its rank from 1 in each run; None if the run lacks it.
    text:                  its text, if texts were given.
    """

    id: str
    relevance: int | None
    base_rank: int | None
    other_rank: int | None
    text: str | None


@dataclass(frozen=True, slots=True)
class MovedQuery:
    """A query, its values in both runs, and the documents that explain them.

    documents: the relevant documents and the first ones of either run, by descending relevance
               and then by the better of the two ranks.
    """

    query: str
    text: str | None
    measure: str
    base: float
    other: float
    documents: tuple[FoundDocument, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


def moved_queries(
    comparison: Comparison,
    base_run: Any,
    other_run: Any,
    qrels: Any,
    *,
    measure: str | None = None,
    queries: Mapping[str, str] | None = None,
    documents: Mapping[str, str] | None = None,
    depth: int = 5,
    drop_self: bool = False,
) -> tuple[MovedQuery, ...]:
    """Return the queries that changed most in a comparison, in its order.

    base_run, other_run, qrels: those that were evaluated, in any form that `evaluate` takes.
    measure:   the measure to go by; None is the comparison's first.
    queries:   query id -> text, as far as available.
    documents: document id -> text, as far as available.
    depth:     how many of the first documents of each run to include.
    drop_self: as in the evaluations.

    Raises:
        InputError: the measure was not compared, or a run or the qrels cannot be used.
    """
    difference = comparison.differences[0] if measure is None else comparison[measure]
    base, other, judged = as_run(base_run), as_run(other_run), as_qrels(qrels)
    out = []
    for move in difference.moved:
        first = ranking(move.query, base.get(move.query, {}), drop_self)
        second = ranking(move.query, other.get(move.query, {}), drop_self)
        out.append(
            MovedQuery(
                query=move.query,
                text=(queries or {}).get(move.query),
                measure=difference.measure,
                base=move.base,
                other=move.other,
                documents=_documents(
                    first, second, judged.get(move.query, {}), documents or {}, depth
                ),
            )
        )
    return tuple(out)


def _documents(
    first: list[str],
    second: list[str],
    judgments: Mapping[str, int],
    texts: Mapping[str, str],
    depth: int,
) -> tuple[FoundDocument, ...]:
    base = {document: rank for rank, document in enumerate(first, start=1)}
    other = {document: rank for rank, document in enumerate(second, start=1)}
    relevant = [document for document, relevance in judgments.items() if relevance > 0]
    shown = dict.fromkeys([*relevant, *first[:depth], *second[:depth]])
    found = [
        FoundDocument(d, judgments.get(d), base.get(d), other.get(d), texts.get(d)) for d in shown
    ]
    last = len(first) + len(second) + 1
    found.sort(key=lambda d: (-(d.relevance or 0), min(d.base_rank or last, d.other_rank or last)))
    return tuple(found)
