"""What `retr eval` does: judge TREC runs, compare them, and show the queries that moved most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..retrieval.evaluation import (
    DEFAULT_MEASURES,
    Comparison,
    Evaluation,
    Interval,
    MovedQuery,
    compare_all,
    evaluate,
    interval,
    moved_queries,
    parse_measures,
    read_qrels,
    read_run,
)
from ..retrieval.evaluation.measures import text_table
from ..retrieval.evaluation.significance import check_options, comparison_table, refuse_sums
from ..retrieval.values.errors import InputError

TEXT_WIDTH = 96


@dataclass(frozen=True, slots=True)
class Judgement:
    """Runs judged and compared.

    evaluations: of the runs, the first the one that the others are compared with.
    intervals:   measure -> confidence interval of its mean, for each evaluation.
    comparisons: of each other run with the first.
    moved:       of each other run, the queries that moved most.
    """

    evaluations: tuple[Evaluation, ...]
    intervals: tuple[dict[str, Interval | None], ...]
    comparisons: tuple[Comparison, ...]
    moved: tuple[tuple[MovedQuery, ...], ...]


def judge(
    run: str,
    qrels: str,
    against: Sequence[str] = (),
    *,
    measures: Sequence[str] = DEFAULT_MEASURES,
    absent: str = "zero",
    drop_self: bool = False,
    moved: int = 0,
    queries: str | None = None,
    corpus: str | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Judgement:
    """Judge a run, and compare others with it.

    run, qrels, against: files.
    moved:   how many of the queries that moved most to return, by the first measure.
    queries: a file with the text of queries, jsonl or tsv.
    corpus:  the source with the texts of documents: anything that can be indexed.
    The rest is as `evaluate` and `compare_all` have it.

    Raises:
        InputError: a file or value cannot be used, or run and qrels have no query in common.
        MissingExtraError: ir_measures or scipy is not installed.
    """
    if (queries is not None or corpus is not None) and not against:
        raise InputError(
            "--queries and --corpus show queries that moved: give a second run, --against"
        )
    if moved < 0:
        raise InputError(f"--moved {moved}: give a number of queries, 0 or more")
    if moved and not against:
        raise InputError("--moved compares two runs: give a second one, --against")
    check_options(confidence, seed=seed)
    refuse_sums(measure.name for measure in parse_measures(measures))
    judged = read_qrels(qrels)
    names = _names([run, *against])
    runs = [read_run(path) for path in (run, *against)]
    evaluations = [
        evaluate(each, judged, measures, absent=absent, drop_self=drop_self, name=name)
        for each, name in zip(runs, names, strict=True)
    ]
    intervals = tuple(
        {m: interval(e, m, confidence=confidence, seed=seed) for m in e.measures}
        for e in evaluations
    )
    comparisons: tuple[Comparison, ...] = ()
    if against:
        comparisons = compare_all(
            evaluations[0], evaluations[1:], confidence=confidence, moved=moved, seed=seed
        )
    found: list[tuple[MovedQuery, ...]] = []
    texts = _query_texts(queries)
    for comparison, other in zip(comparisons, runs[1:], strict=True):
        if moved:
            found.append(
                moved_queries(
                    comparison, runs[0], other, judged, queries=texts, drop_self=drop_self
                )
            )
    if corpus is not None:
        found = _with_texts(found, corpus)
    return Judgement(tuple(evaluations), intervals, comparisons, tuple(found))


def records(judgement: Judgement) -> Iterator[dict[str, Any]]:
    """Yield a JSON object for each run, each comparison and each query that moved."""
    for evaluation, intervals in zip(judgement.evaluations, judgement.intervals, strict=True):
        yield {
            "run": evaluation.name,
            "queries": len(evaluation.queries),
            "absent": str(evaluation.absent),
            "missing": len(evaluation.missing),
            "unjudged": evaluation.unjudged,
            "drop_self": evaluation.drop_self,
            "measures": {
                name: {
                    "mean": mean,
                    "low": None if (bounds := intervals[name]) is None else bounds.low,
                    "high": None if bounds is None else bounds.high,
                }
                for name, mean in evaluation.means.items()
            },
        }
    for comparison in judgement.comparisons:
        yield {"comparison": comparison.to_dict()}
    for comparison, moved in zip(judgement.comparisons, judgement.moved, strict=False):
        for query in moved:
            yield {"base": comparison.base, "other": comparison.other, "moved": query.to_dict()}


def text_of(judgement: Judgement) -> str:
    """Return the judgement as plain text."""
    confidence = 0.95
    rows = []
    for evaluation, intervals in zip(judgement.evaluations, judgement.intervals, strict=True):
        for name, mean in evaluation.means.items():
            bounds = intervals[name]
            shown = f"{bounds.low:.4f} {bounds.high:.4f}" if bounds else ""
            confidence = bounds.confidence if bounds else confidence
            rows.append([evaluation.name, name, f"{mean:.4f}", shown, f"{len(evaluation.queries)}"])
    head = ["run", "measure", "mean", f"{100 * confidence:.10g}% interval", "queries"]
    parts = [text_table([head, *rows])]
    parts += [note for e in judgement.evaluations for note in _notes(e)]
    if judgement.comparisons:
        parts += ["", comparison_table(judgement.comparisons)]
        parts += [note for c in judgement.comparisons for note in _paired(c)]
        several = judgement.comparisons[0].systems > 1
        parts.append(
            "p: randomisation test over queries; p (t): paired t-test"
            + ("; both with Holm's correction" if several else "")
        )
    for comparison, moved in zip(judgement.comparisons, judgement.moved, strict=False):
        for query in moved:
            parts += ["", *_moved_text(comparison, query)]
    return "\n".join(parts)


def _notes(evaluation: Evaluation) -> Iterator[str]:
    missing, unjudged = len(evaluation.missing), evaluation.unjudged
    if missing:
        done = "count 0" if evaluation.absent == "zero" else "are left out"
        yield f"{evaluation.name}: {missing} judged queries are not in the run and {done}"
    if unjudged:
        yield f"{evaluation.name}: {unjudged} queries of the run have no judgments and do not count"


def _paired(comparison: Comparison) -> Iterator[str]:
    if comparison.left_out:
        yield (
            f"{comparison.base} and {comparison.other}: {comparison.queries} queries are paired, "
            f"{comparison.left_out} that only one of them has are left out"
        )


def _moved_text(comparison: Comparison, query: MovedQuery) -> Iterator[str]:
    change = query.other - query.base
    yield (
        f"{query.query}  {query.measure} {query.base:.4f} to {query.other:.4f} ({change:+.4f})  "
        f"{comparison.other}"
    )
    if query.text is not None:
        yield f"  {_short(query.text)}"
    for document in query.documents:
        grade = "?" if document.relevance is None else str(document.relevance)
        ranks = f"{_rank(document.base_rank)} to {_rank(document.other_rank)}"
        line = f"  relevance {grade:>2}  rank {ranks:<12}  {document.id}"
        yield line if document.text is None else f"{line}  {_short(document.text)}"


def _rank(rank: int | None) -> str:
    return "-" if rank is None else str(rank)


def _short(text: str) -> str:
    shown = " ".join(text.split())
    return shown if len(shown) <= TEXT_WIDTH else shown[: TEXT_WIDTH - 1] + "…"


def _names(paths: Sequence[str]) -> list[str]:
    """Return a name for each run: its file name, or the differing part of the path if equal."""
    names = [Path(path).name for path in paths]
    if len(set(names)) == len(names):
        return names
    parts = [Path(path).absolute().parts for path in paths]
    begin, end = _common(parts), _common([each[::-1] for each in parts])
    if len(set(parts)) < len(parts):
        raise InputError(f"a run is given twice: {', '.join(paths)}")
    return ["/".join(each[begin : len(each) - end]) or each[-1] for each in parts]


def _common(parts: Sequence[Sequence[str]]) -> int:
    """Return how many parts all begin with; one is always left over."""
    count = 0
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        count += 1
    return min(count, min(len(each) for each in parts) - 1)


def _query_texts(path: str | None) -> dict[str, str]:
    if path is None:
        return {}
    from ..retrieval.sources.queries import read_queries

    return {str(query.id): query.text or "" for query in read_queries(path)}


def _with_texts(
    found: Sequence[tuple[MovedQuery, ...]], corpus: str
) -> list[tuple[MovedQuery, ...]]:
    """Return the queries with the texts of their documents, read in one pass."""
    from ..retrieval.sources import open_source
    from ..retrieval.values.types import Document

    wanted = {d.id for queries in found for query in queries for d in query.documents}
    texts: dict[str, str] = {}
    for item in open_source(corpus):
        if len(texts) == len(wanted):
            break
        if isinstance(item, Document) and item.id in wanted:
            texts[item.id] = item.text or ""
    return [
        tuple(
            replace(
                query,
                documents=tuple(
                    replace(document, text=texts.get(document.id)) for document in query.documents
                ),
            )
            for query in queries
        )
        for queries in found
    ]
