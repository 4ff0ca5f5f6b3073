"""The commands `retr eval` and `retr bench`: parse, call, print.

`cli.py` mounts `app` beside its own commands. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..retrieval.values.shown import plain
from . import console
from .bench_ann import ann, show
from .bench_coco import coco
from .bench_upgrades import upgrades

_settings: dict[str, Any] = {
    "rich_markup_mode": None,
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
app = typer.Typer(**_settings)
bench_app = typer.Typer(invoke_without_command=True, **_settings)
app.add_typer(bench_app, name="bench", short_help="Measure retrieval on published data sets.")
bench_app.command()(ann)
bench_app.command()(coco)
bench_app.command()(upgrades)


def _option(*names: str, help: str, metavar: str | None = None, **more: Any) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, show_default=False, **more)


Json = Annotated[bool, _option("--json", help="Print JSON, one object a line, on a terminal too.")]
Quiet = Annotated[bool, _option("--quiet", "-q", help="Print results and errors only.")]
Verbose = Annotated[bool, _option("--verbose", "-v", help="Say what is done.")]


@app.command("eval")
def evaluate(
    run: Annotated[
        str, typer.Argument(metavar="RUN", show_default=False, help="A TREC run, maybe gzipped.")
    ],
    qrels: Annotated[
        str,
        typer.Argument(
            metavar="QRELS", show_default=False, help="TREC judgments, or BEIR's tsv of them."
        ),
    ],
    against: Annotated[
        list[str] | None,
        _option("--against", metavar="RUN", help="Compare this run with RUN; may be repeated."),
    ] = None,
    measure: Annotated[
        list[str] | None,
        _option(
            "--measure",
            "-m",
            metavar="NAME",
            help="A measure by its name in ir_measures, such as nDCG@10, R@100, AP, P(rel=2)@5; "
            "may be repeated.",
        ),
    ] = None,
    absent: Annotated[
        str,
        _option(
            "--absent",
            metavar="HOW",
            help="What a judged query counts that the run lacks: zero (as trec_eval -c, if not "
            "given) or skip (as BEIR).",
        ),
    ] = "zero",
    drop_self: Annotated[
        bool, _option("--drop-self", help="Drop the document whose id is the query's.")
    ] = False,
    moved: Annotated[
        int | None,
        _option("--moved", metavar="N", help="Show the N queries that moved most."),
    ] = None,
    queries: Annotated[
        str | None, _option("--queries", metavar="FILE", help="The texts of queries, to show them.")
    ] = None,
    corpus: Annotated[
        str | None,
        _option("--corpus", metavar="SOURCE", help="The texts of documents, to show them."),
    ] = None,
    confidence: Annotated[
        float, _option("--confidence", metavar="P", help="Of the intervals; 0.95 if not given.")
    ] = 0.95,
    seed: Annotated[
        int, _option("--seed", metavar="N", help="For bootstrap and tests; 0 if not given.")
    ] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Judge a TREC run, and compare others with it.

    Means with bootstrap intervals; with --against also the differences, their intervals, and
    paired tests over queries (Holm's correction for several runs).

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
        _write_lines(text_of(judgement))
    else:
        for record in records(judgement):
            console.write(console.json_line(record))


@bench_app.callback()
def bench_root(context: typer.Context) -> None:
    """Measure retrieval on published data sets, or one's own.

    \b
    Example:
      retr bench beir scifact --encoder static
    """
    if context.invoked_subcommand is None:
        console.write(context.get_help())


@bench_app.command()
def beir(
    dataset: Annotated[
        list[str],
        typer.Argument(
            metavar="DATASET...",
            show_default=False,
            help="Names of BEIR's data sets (see: retr bench datasets), cqadupstack for its twelve "
            "forums, all, or folders in BEIR's layout.",
        ),
    ],
    encoder: Annotated[
        str,
        _option("--encoder", metavar="NAME", help="What makes the vectors; static if not given."),
    ] = "static",
    spec: Annotated[
        str | None,
        _option("--spec", metavar="SPEC", help="Also search with this index; say what it loses."),
    ] = None,
    k: Annotated[
        int, _option("-k", metavar="N", help="How many hits are judged; 100 if not given.")
    ] = 100,
    limit: Annotated[
        int | None,
        _option(
            "--limit",
            metavar="N",
            help="Run only the first N queries of each data set: a trial, no figure to compare.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        _option(
            "--data",
            metavar="DIR",
            help="Where data sets lie or are downloaded to; else the user's cache folder.",
        ),
    ] = None,
    out: Annotated[
        Path,
        _option("--out", metavar="DIR", help="Where results go; retr-beir if not given."),
    ] = Path("retr-beir"),
    cache: Annotated[
        Path | None,
        _option(
            "--cache",
            metavar="DIR",
            help="Where collections are kept between runs; else the user's cache folder.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        _option("--split", metavar="NAME", help="The judgments, such as dev; else the published."),
    ] = None,
    query_prompt: Annotated[
        str | None, _option("--query-prompt", metavar="TEXT", help="Put before each query.")
    ] = None,
    document_prompt: Annotated[
        str | None, _option("--document-prompt", metavar="TEXT", help="Put before each document.")
    ] = None,
    max_length: Annotated[
        int | None, _option("--max-length", metavar="N", help="The tokens read of a text.")
    ] = None,
    revision: Annotated[
        str | None, _option("--revision", metavar="REV", help="The model's branch, tag or commit.")
    ] = None,
    metric: Annotated[
        str | None, _option("--metric", metavar="METRIC", help="cosine, ip or l2.")
    ] = None,
    device: Annotated[
        str | None, _option("--device", metavar="DEVICE", help="Where to encode: cpu, cuda, ….")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Encode, index, search and judge data sets in BEIR's layout.

    Each is searched by words and vectors together (hybrid, what users get), by words alone (BM25)
    and by vectors alone, and the first two are compared by a paired test.

    Leaves runs, values of each query, settings and a report (Markdown and HTML) in --out. What is
    done is not done again, and the vectors are kept, so the same command goes on where an
    interrupted one stopped.

    \b
    Example:
      retr bench beir scifact nfcorpus --encoder static --out results
      retr bench beir ./my-data --encoder st:sentence-transformers/all-MiniLM-L6-v2 --spec flat
    """
    console.listen(quiet, verbose)
    from ..benchmarks.beir import suite as benchmark
    from ..retrieval.encoders.base import EncoderOptions

    options = EncoderOptions(query_prompt, document_prompt, max_length, revision, metric, device)
    try:
        benchmark.run(
            dataset,
            out,
            encoder=encoder,
            options=options,
            spec=spec,
            k=k,
            limit=limit,
            data=data,
            cache=cache,
            split=split,
            progress=not quiet,
        )
    except KeyboardInterrupt:
        console.say("interrupted: what is done is kept; run the same command again to go on")
        raise typer.Exit(130) from None
    _report(out, as_json, quiet)


@bench_app.command()
def report(
    out: Annotated[
        Path,
        typer.Argument(metavar="DIR", show_default=False, help="The --out of a benchmark."),
    ],
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Derive the report again from what the runs left; nothing is run.

    \b
    Example:
      retr bench report results
    """
    console.listen(quiet, verbose)
    _report(out, as_json, quiet)


@bench_app.command()
def datasets(as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """List the data sets of BEIR that can be named.

    \b
    Example:
      retr bench datasets
    """
    console.listen(quiet, verbose)
    from dataclasses import asdict

    from ..benchmarks.beir.datasets import DATASETS
    from ..benchmarks.tables import Table

    if not console.is_table(as_json):
        for each in DATASETS.values():
            console.write(console.json_line({**asdict(each), "url": each.url}))
        return
    rows = [[d.name, d.split, f"{d.documents:,}", f"{d.queries:,}"] for d in DATASETS.values()]
    _write_lines(Table(["name", "split", "documents", "queries"], rows).text())


def _report(out: Path, as_json: bool, quiet: bool) -> None:
    from ..benchmarks.ann.report import is_comparison
    from ..benchmarks.beir.blocks import records, summary
    from ..benchmarks.beir.report import write
    from ..benchmarks.page import text_of

    if is_comparison(out):
        show(out, as_json, quiet)
        return
    made = write(out)
    if console.is_table(as_json):
        _write_lines(text_of(summary(made)))
        if not quiet:
            console.say(f"report: {out / 'report.html'}")
        return
    for record in records(made):
        console.write(console.json_line(record))


def _write_lines(text: str) -> None:
    # Ids and texts are anyone's: nothing of them may command the terminal.
    for line in text.split("\n"):
        console.write(plain(line))
