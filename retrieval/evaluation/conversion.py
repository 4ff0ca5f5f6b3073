"""Converts whatever users have as a run or as qrels to one form.

Accepted are a file (TREC, BEIR tsv), a dict of dicts, a pandas, polars or pyarrow table, objects
of ir_measures or ir_datasets, tuples, and for runs the `Results` of searches.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..values.errors import InputError
from .trec import Qrels, grade, identifier, read_qrels, read_run, scores_of

# The names that ir_measures and ir_datasets, PyTerrier, and BEIR's files use.
_QUERY = ("query_id", "qid", "query-id")
_DOCUMENT = ("doc_id", "docno", "docid", "corpus-id")
_SCORE = ("score",)
_RELEVANCE = ("relevance", "label", "rel")


def as_run(value: Any) -> Mapping[str, Any]:
    """Return a run as query id -> hits, with hits in a form that `scores_of` takes.

    value: the path of a TREC run; a dict query id -> hits; a table with the columns query_id,
           doc_id and score (or qid and docno); an iterable of objects with these attributes
           (`ir_measures.ScoredDoc`), of such triples, or of pairs (query id, hits).

    Raises:
        InputError: it is none of these, or a query has a document twice.
    """
    if isinstance(value, (str, os.PathLike)):
        return read_run(value)
    if isinstance(value, Mapping):
        return _by_string(value)
    if _is_table(value):
        return _collected(_rows(value, "run", _SCORE))
    if isinstance(value, Iterable):
        return _collected(_pairs_and_triples(value))
    raise InputError(f"run: cannot read a {type(value).__name__} as a run")


def as_qrels(value: Any) -> Qrels:
    """Return query id -> document id -> relevance; queries without judgments are left out.

    value: the path of TREC qrels or of a BEIR tsv; a dict of dicts; a table with the columns
           query_id, doc_id and relevance (or qid, docno and label); an iterable of objects with
           these attributes (`ir_measures.Qrel`) or of such triples.

    Raises:
        InputError: it is none of these, a judgment is not a whole number from -10,000 to
            10,000, or a document has two different judgments.
    """
    if isinstance(value, (str, os.PathLike)):
        return read_qrels(value)
    triples: Iterable[tuple[Any, Any, Any]]
    if isinstance(value, Mapping):
        triples = _of_dicts(_by_string(value))
    elif _is_table(value):
        triples = _rows(value, "qrels", _RELEVANCE)
    elif isinstance(value, Iterable):
        triples = (_triple(item, "qrels", "relevance") for item in value)
    else:
        raise InputError(f"qrels: cannot read a {type(value).__name__} as qrels")
    qrels: Qrels = {}
    for query, document, relevance in triples:
        query, document = identifier(query, "query"), identifier(document, "document")
        try:
            relevance = grade(relevance)
        except (TypeError, ValueError):
            raise InputError(
                f"qrels: judgment {relevance!r} of query {query!r}, document {document!r} is not "
                "a whole number from -10000 to 10000"
            ) from None
        known = qrels.setdefault(query, {}).setdefault(document, relevance)
        if known != relevance:
            raise InputError(
                f"qrels: document {document!r} is judged {relevance} and {known} for query "
                f"{query!r}; keep one of them"
            )
    if not qrels:
        raise InputError("the qrels are empty")
    return qrels


def _by_string(value: Mapping[Any, Any]) -> dict[str, Any]:
    out = {identifier(query, "query"): item for query, item in value.items()}
    if len(out) != len(value):
        raise InputError("two query ids become the same string; give each query its own id")
    return out


def _of_dicts(value: Mapping[str, Any]) -> Iterator[tuple[Any, Any, Any]]:
    for query, judgments in value.items():
        if not isinstance(judgments, Mapping):
            raise InputError(
                f"qrels: query {query!r} has {type(judgments).__name__}; give a dict of "
                "relevance by document id"
            )
        for document, relevance in judgments.items():
            yield query, document, relevance


def _collected(items: Iterable[tuple[Any, ...]]) -> dict[str, dict[str, Any]]:
    """Collect pairs (query, hits) and triples (query, document, score)."""
    run: dict[str, dict[str, Any]] = {}
    paired: set[str] = set()
    for item in items:
        query = identifier(item[0], "query")
        if len(item) == 2 or query in paired:
            if query in run:
                raise InputError(f"run: query {query!r} occurs twice")
            paired.add(query)
            run[query] = scores_of(query, item[1])
            continue
        document = identifier(item[1], "document")
        scores = run.setdefault(query, {})
        if document in scores:
            raise InputError(f"run: document {document!r} occurs twice for query {query!r}")
        scores[document] = item[2]
    if not run:
        raise InputError("the run is empty")
    return run


def _pairs_and_triples(items: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    for item in items:
        if isinstance(item, tuple) and len(item) == 2:
            yield item
        else:
            yield _triple(item, "run", "score")


def _triple(item: Any, what: str, attribute: str) -> tuple[Any, Any, Any]:
    if hasattr(item, "query_id") and hasattr(item, "doc_id"):
        if not hasattr(item, attribute):
            raise InputError(
                f"{what}: a {type(item).__name__} has no {attribute}; are run and qrels swapped?"
            )
        return item.query_id, item.doc_id, getattr(item, attribute)
    if isinstance(item, tuple) and len(item) == 3:
        return item
    raise InputError(
        f"{what}: an item is {type(item).__name__}; give objects with query_id, doc_id and "
        f"{attribute}, or such triples"
    )


def _is_table(value: Any) -> bool:
    return hasattr(value, "columns") and hasattr(value, "__getitem__")


def _rows(table: Any, what: str, third: tuple[str, ...]) -> Iterator[tuple[Any, Any, Any]]:
    names = [str(name) for name in getattr(table, "column_names", table.columns)]
    if what == "qrels" and "corpus-id" in names:
        third = (*third, "score")  # BEIR's name for the relevance
    columns = []
    for accepted in (_QUERY, _DOCUMENT, third):
        found = next((name for name in accepted if name in names), None)
        if found is None:
            raise InputError(
                f"{what}: the table has no column {' or '.join(accepted)}; it has "
                f"{', '.join(names)}"
            )
        column = table[found]
        columns.append(column.to_pylist() if hasattr(column, "to_pylist") else column.to_list())
    yield from zip(*columns, strict=True)
