"""`retr bench`: benchmarks on published data sets or your own; parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import console
from . import options as o
from .bench_ann import ann, show
from .bench_coco import coco
from .bench_upgrades import upgrades
from .options import argument, value

app = typer.Typer(**o.SETTINGS)
app.command()(ann)
app.command()(coco)
app.command()(upgrades)


@app.callback()
def bench_root(context: typer.Context) -> None:
    """Measure retrieval on published data sets or your own.

    \b
    Example:
      retr bench beir scifact --encoder static
    """
    if context.invoked_subcommand is None:
        console.write(context.get_help())


@app.command()
def beir(
    dataset: Annotated[
        list[str],
        argument(
            "DATASET...",
            "Names of BEIR data sets (see: retr bench datasets), cqadupstack for its twelve "
            "forums, all, or folders in BEIR's layout.",
        ),
    ],
    encoder: Annotated[
        str,
        value("--encoder", "NAME", "What makes the vectors (default: static)."),
    ] = "static",
    spec: o.AlsoSpec = None,
    k: Annotated[int, value("-k", "N", "How many hits to judge (default: 100).")] = 100,
    limit: Annotated[
        int | None,
        value(
            "--limit",
            "N",
            "Run only the first N queries of each data set: a trial, not a figure to compare.",
        ),
    ] = None,
    data: o.Data = None,
    out: Annotated[
        Path,
        o.out("retr-beir"),
    ] = Path("retr-beir"),
    cache: o.Cache = None,
    split: Annotated[
        str | None,
        value("--split", "NAME", "Which judgments to use, such as dev (default: the published)."),
    ] = None,
    query_prompt: o.QueryPrompt = None,
    document_prompt: o.DocumentPrompt = None,
    max_length: o.MaxLength = None,
    revision: o.Revision = None,
    metric: o.Metric = None,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Encode, index, search and judge data sets in BEIR's layout.

    Each is searched by words and vectors together (hybrid, what users get), by words alone (BM25)
    and by vectors alone; a paired test compares the first two.

    --out gets the runs, the values of each query, the settings and a report (Markdown and HTML).
    Finished work and vectors are kept: if it is interrupted, run the same command to continue.

    \b
    Example:
      retr bench beir scifact nfcorpus --encoder static --out results
      retr bench beir ./my-data --encoder st:sentence-transformers/all-MiniLM-L6-v2 --spec flat
    """
    console.listen(quiet, verbose)
    from ..benchmarks.beir import suite as benchmark
    from ..retrieval.encoders.base import EncoderOptions

    options = EncoderOptions(query_prompt, document_prompt, max_length, revision, metric, device)
    with console.resumable():
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
    _report(out, as_json, quiet)


@app.command()
def report(
    out: Annotated[
        Path,
        argument("DIR", "The --out folder of a benchmark."),
    ],
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Write the report again from the results in DIR; nothing is run.

    \b
    Example:
      retr bench report results
    """
    console.listen(quiet, verbose)
    _report(out, as_json, quiet)


@app.command()
def datasets(as_json: o.Json = False, quiet: o.Quiet = False, verbose: o.Verbose = False) -> None:
    """List the BEIR data sets that can be named.

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
    console.write_lines(Table(["name", "split", "documents", "queries"], rows).text())


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
        console.write_lines(text_of(summary(made)))
        if not quiet:
            console.say(f"report: {out / 'report.html'}")
        return
    for record in records(made):
        console.write(console.json_line(record))
