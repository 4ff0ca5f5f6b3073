"""`retr eval`: TREC runs judged and compared; parse, call, print."""

from __future__ import annotations

from typing import Annotated

from . import console
from . import options as o
from .options import argument, flag, value


def evaluate(
    run: Annotated[str, argument("RUN", "A TREC run; may be gzipped.")],
    qrels: Annotated[
        str,
        argument("QRELS", "Judgments as TREC qrels or BEIR tsv."),
    ],
    against: Annotated[
        list[str] | None,
        value("--against", "RUN", "Compare with this run; may be repeated."),
    ] = None,
    measure: Annotated[
        list[str] | None,
        value(
            "--measure",
            "NAME",
            "A measure by its name in ir_measures, such as nDCG@10, R@100, AP, P(rel=2)@5; "
            "may be repeated.",
            "-m",
        ),
    ] = None,
    absent: Annotated[
        str,
        value(
            "--absent",
            "HOW",
            "How to count judged queries that the run lacks: zero, as trec_eval -c (default), or "
            "skip, as BEIR.",
        ),
    ] = "zero",
    drop_self: Annotated[
        bool, flag("--drop-self", "Drop the document whose id is the query's.")
    ] = False,
    moved: Annotated[
        int | None,
        value("--moved", "N", "Show the N queries whose score changed most."),
    ] = None,
    queries: Annotated[
        str | None, value("--queries", "FILE", "The texts of the queries, to show them.")
    ] = None,
    corpus: Annotated[
        str | None,
        value("--corpus", "SOURCE", "The texts of the documents, to show them."),
    ] = None,
    confidence: Annotated[
        float, value("--confidence", "P", "Confidence of the intervals (default: 0.95).")
    ] = 0.95,
    seed: Annotated[
        int, value("--seed", "N", "Random seed of bootstrap and tests (default: 0).")
    ] = 0,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Judge a TREC run, and compare others with it.

    Prints means with bootstrap intervals; with --against also the differences, their intervals
    and paired tests over queries (with Holm's correction for several runs).

    \b
    Example:
      retr eval run.trec qrels/test.tsv -m nDCG@10 -m R@100
      retr eval old.trec qrels.trec --against new.trec --moved 5 --queries queries.jsonl
    """
    console.listen(quiet, verbose)
    from ..retrieval.evaluation import DEFAULT_MEASURES
    from .judging import judge, records, text_of

    if moved is None:
        moved = 5 if queries is not None or corpus is not None else 0
    judgement = judge(
        run,
        qrels,
        against or [],
        measures=measure or DEFAULT_MEASURES,
        absent=absent,
        drop_self=drop_self,
        moved=moved,
        queries=queries,
        corpus=corpus,
        confidence=confidence,
        seed=seed,
    )
    if console.is_table(as_json):
        console.write_lines(text_of(judgement))
    else:
        for record in records(judgement):
            console.write(console.json_line(record))
