"""Evaluates a run against qrels: one value per query and measure, and their means.

Every measure sees the same ranking, that of `trec.ranked`. Each of ir_measures' providers breaks
ties in its own way (trec_eval's code computes RR, with documents descending; MS MARCO's computes
RR@10, ascending), so they are given ranks as scores, which have no ties.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..values.errors import InputError
from .conversion import as_qrels, as_run
from .names import DEFAULT_MEASURES, Measure, ir_measures, parse_measure, parse_measures
from .trec import Qrels, ranked, scores_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BATCH = 256  # queries passed to a provider at once; bounds the memory of the copies
_log = logging.getLogger(__name__)


class Absent(StrEnum):
    """How to count a judged query that the run lacks."""

    ZERO = "zero"  # as 0: the mean is over every judged query (trec_eval -c)
    SKIP = "skip"  # not at all: the mean is over the queries of the run (BEIR)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The values of a run, by measure and query, and their means.

    name:      the run's name: its file's, or the given one.
    absent:    how queries that the run lacks were counted.
    drop_self: whether documents with the query's id were dropped.
    means:     measure -> mean over the queries; for NumQ, NumRel and NumRet the sum.
    per_query: measure -> query id -> value, in the order of the qrels.
    missing:   the judged queries that the run lacks.
    unjudged:  the number of queries in the run that have no judgments; they are not counted.
    providers: measure -> its provider; "pytrec_eval" is trec_eval's own code.
    """

    name: str
    absent: Absent
    drop_self: bool
    means: Mapping[str, float]
    per_query: Mapping[str, Mapping[str, float]]
    missing: tuple[str, ...]
    unjudged: int
    providers: Mapping[str, str]

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of the measures, in the requested order."""
        return tuple(self.means)

    @property
    def queries(self) -> tuple[str, ...]:
        """The queries that were counted, in the order of the qrels."""
        return tuple(next(iter(self.per_query.values())))

    def __getitem__(self, measure: str) -> float:
        """Return the mean of a measure, by any of its names."""
        return self.means[self.canonical(measure)]

    def values(self, measure: str) -> NDArray[np.float64]:
        """Return f64[n], the values of a measure in the order of `queries`."""
        import numpy as np

        values = self.per_query[self.canonical(measure)]
        return np.fromiter(values.values(), np.float64, len(values))

    def canonical(self, measure: str) -> str:
        """Return the canonical name of a measure that was evaluated.

        Raises:
            InputError: it was not evaluated.
        """
        if measure in self.means:
            return measure
        name = parse_measure(measure).name
        if name not in self.means:
            raise InputError(
                f"{name} was not evaluated for {self.name}; it has {', '.join(self.means)}"
            )
        return name

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; `from_dict` reads them back."""
        return {
            "name": self.name,
            "absent": str(self.absent),
            "drop_self": self.drop_self,
            "queries": len(self.queries),
            "means": dict(self.means),
            "per_query": {measure: dict(values) for measure, values in self.per_query.items()},
            "missing": list(self.missing),
            "unjudged": self.unjudged,
            "providers": dict(self.providers),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Evaluation:
        """Return the evaluation that `to_dict` described."""
        fields = {name: value for name, value in values.items() if name != "queries"}
        fields["absent"] = Absent(fields["absent"])
        fields["missing"] = tuple(fields["missing"])
        return cls(**fields)


def evaluate(
    run: Any,
    qrels: Any,
    measures: Any = DEFAULT_MEASURES,
    *,
    absent: Absent | str = Absent.ZERO,
    drop_self: bool = False,
    name: str | None = None,
) -> Evaluation:
    """Evaluate a run against qrels.

    run:       a path, or anything else that `conversion.as_run` takes.
    qrels:     a path, or anything else that `conversion.as_qrels` takes.
    measures:  one or several names such as "nDCG@10", "R_cap@100", or measures of ir_measures.
    absent:    "zero" or "skip", see `Absent`.
    drop_self: drop the document with the query's id before ranking and cutting (BEIR's
               `ignore_identical_ids`, Pyserini's `--remove-query`).

    As in trec_eval, judged queries without any relevant document count as 0. A query that is in
    the run, but without documents (or without any left), always counts as 0.

    Raises:
        InputError: a file or value cannot be used, a measure is unknown, or run and qrels have
            no query in common.
        MissingExtraError: ir_measures is not installed.
    """
    wanted = parse_measures(measures)
    try:
        policy = Absent(absent)
    except ValueError:
        raise InputError(f"absent={absent!r}: give 'zero' or 'skip'") from None
    judged = as_qrels(qrels)
    retrieved = as_run(run)
    shared = [query for query in judged if query in retrieved]
    if not shared:
        raise InputError(
            f"run and qrels have no query in common: the run has {_some(retrieved)}, the qrels "
            f"have {_some(judged)}"
        )
    counted = list(judged) if policy is Absent.ZERO else shared
    values: dict[str, dict[str, float]] = {
        m.name: {query: _without_documents(m, judged[query]) for query in counted} for m in wanted
    }
    groups = _groups(wanted)
    known = False
    for batch in _batches(shared):
        rankings = {q: _as_scores(ranking(q, retrieved[q], drop_self)) for q in batch}
        known = known or any(not judged[q].keys().isdisjoint(rankings[q]) for q in batch)
        found = {query: ranking for query, ranking in rankings.items() if ranking}
        for group in groups:
            for measure, query, value in _computed(group, found, judged):
                values[measure][query] = value
    if not known:
        _log.warning(
            "no document in the run is judged for its query; do the run and the qrels match?"
        )
    return Evaluation(
        name=name or (Path(run).name if isinstance(run, (str, os.PathLike)) else "run"),
        absent=policy,
        drop_self=drop_self,
        means={m.name: _mean(m, values[m.name]) for m in wanted},
        per_query=values,
        missing=tuple(query for query in judged if query not in retrieved),
        unjudged=sum(query not in judged for query in retrieved),
        providers={m.name: m.provider for m in wanted},
    )


def table(evaluations: Sequence[Evaluation]) -> str:
    """Return the means as plain text: one line per evaluation, one column per measure."""
    names = list(dict.fromkeys(measure for e in evaluations for measure in e.measures))
    rows = [["run", "queries", *names]]
    for evaluation in evaluations:
        cells = [
            _shown(name, evaluation.means[name]) if name in evaluation.means else ""
            for name in names
        ]
        rows.append([evaluation.name, str(len(evaluation.queries)), *cells])
    return text_table(rows)


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines of text: the first column is left-aligned, the others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def ranking(query: str, hits: Any, drop_self: bool = False) -> list[str]:
    """Return a query's documents in the order in which they are evaluated, best first."""
    scores = scores_of(query, hits)
    if drop_self and query in scores:
        scores = {document: score for document, score in scores.items() if document != query}
    return ranked(scores)


def _shown(measure: str, mean: float) -> str:
    return f"{mean:.0f}" if measure.startswith("Num") else f"{mean:.4f}"


def _as_scores(documents: Sequence[str]) -> dict[str, float]:
    """Return document -> a score that falls by one from rank to rank."""
    # Single precision holds whole numbers up to 2**24, more than any ranking has documents.
    return dict(zip(documents, map(float, range(len(documents), 0, -1)), strict=True))


def _groups(wanted: Sequence[Measure]) -> list[list[Measure]]:
    """Group the measures so that one call of a provider computes each group correctly.

    ir_measures' pytrec_eval provider computes nDCG, NumRet and NumQ together with whichever
    measure comes first, even if that one maps the gains or drops unjudged documents.
    """
    groups: dict[tuple[str, str, bool], list[Measure]] = {}
    for measure in wanted:
        gains = repr(sorted((measure.params.get("gains") or {}).items()))
        judged_only = bool(measure.params.get("judged_only", False))
        groups.setdefault((measure.provider, gains, judged_only), []).append(measure)
    return list(groups.values())


def _computed(
    group: Sequence[Measure], rankings: Mapping[str, dict[str, float]], qrels: Qrels
) -> Iterator[tuple[str, str, float]]:
    """Yield (measure, query, value) for every ranking that has documents."""
    if group[0].native is None:
        for measure in group:
            for query, ranking in rankings.items():
                yield measure.name, query, _capped_recall(measure, ranking, qrels[query])
        return
    provider = group[0].provider
    if provider == "gdeval":
        _check_gdeval(group, rankings, qrels)
    # gdeval reads the query as the digits after a dash; numbers suit every provider.
    numbered = {str(i): query for i, query in enumerate(rankings)}
    if provider == "runtime":
        numbered = {query: query for query in rankings}  # the user's own code may look at the ids
    names = {measure.native: measure.name for measure in group}
    judged = {number: qrels[query] for number, query in numbered.items()}
    if provider == "pytrec_eval":
        judged = {number: _with_a_grade(judgments) for number, judgments in judged.items()}
    run = {number: rankings[query] for number, query in numbered.items()}
    registry = ir_measures().providers.registry
    try:
        evaluator = registry[provider].evaluator(list(names), judged)
        for metric in evaluator.iter_calc(run):
            yield names[metric.measure], numbered[metric.query_id], float(metric.value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{', '.join(names.values())}: {provider} failed: {error}") from error


def _with_a_grade(judgments: dict[str, int]) -> dict[str, int]:
    """Return judgments of which at least one is not negative.

    trec_eval treats negative judgments as unjudged, and if a query has no other, it computes nDCG
    from the counters of the previous query, or never ends. Adding a document that is not relevant
    and that no run contains (its id is empty) changes no value.
    """
    return judgments if max(judgments.values()) >= 0 else {**judgments, "": 0}


def _capped_recall(
    measure: Measure, ranking: Mapping[str, float], judgments: Mapping[str, int]
) -> float:
    """Return the number of relevant documents in the first k over the maximum possible there.

    BEIR (Thakur et al. 2021), appendix G, Capped Recall@k; its `recall_cap`.
    """
    rel = int(measure.params["rel"])
    cutoff = int(measure.params["cutoff"])
    relevant = {document for document, relevance in judgments.items() if relevance >= rel}
    if not relevant:
        return 0.0
    hits = sum(document in relevant for document in islice(ranking, cutoff))
    return hits / min(len(relevant), cutoff)


def _without_documents(measure: Measure, judgments: Mapping[str, int]) -> float:
    """Return the value of a query without results."""
    if measure.kind == "NumQ":
        return 1.0
    if measure.kind == "NumRel":
        rel = measure.params.get("rel", 1)
        return float(sum(relevance >= rel for relevance in judgments.values()))
    return 0.0 if measure.native is None else float(measure.native.DEFAULT)


def _mean(measure: Measure, values: Mapping[str, float]) -> float:
    total = math.fsum(values.values())
    if measure.native is not None and isinstance(measure.native.aggregator(), ir_measures().SumAgg):
        return total
    return total / len(values)


def _check_gdeval(
    group: Sequence[Measure], rankings: Mapping[str, dict[str, float]], qrels: Qrels
) -> None:
    names = ", ".join(measure.name for measure in group)
    for query, ranking in rankings.items():
        highest = max(qrels[query].values())
        if highest > 4:
            raise InputError(
                f"{names}: gdeval takes judgments up to 4, but query {query!r} has {highest}"
            )
        for document in (*ranking, *qrels[query]):
            if len(document.split()) != 1:
                raise InputError(f"{names}: gdeval allows no white space in an id: {document!r}")


def _batches(queries: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(queries), _BATCH):
        yield queries[start : start + _BATCH]


def _some(queries: Iterable[str]) -> str:
    first = list(islice(queries, 3))
    return ", ".join(map(repr, first)) + (", …" if len(first) == 3 else "")
