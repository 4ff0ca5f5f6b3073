"""The command `retr bench ann`: parse, call, print. `commands.py` mounts it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..retrieval.values.shown import plain
from . import console


def _option(*names: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, show_default=False)


def ann(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            show_default=False,
            help="minilm (the test data, if not given), an HDF5 file of ann-benchmarks, or a "
            ".npy, .fvecs or .bvecs file of base vectors.",
        ),
    ] = "minilm",
    query_vectors: Annotated[
        Path | None,
        _option("--query-vectors", metavar="FILE", help="The queries, where DATA has none."),
    ] = None,
    neighbours: Annotated[
        Path | None,
        _option("--neighbours", metavar="FILE", help="Their nearest rows: .ivecs or .npy."),
    ] = None,
    metric: Annotated[
        str | None,
        _option("--metric", metavar="METRIC", help="cosine, ip or l2; else as DATA says."),
    ] = None,
    rows: Annotated[
        int | None,
        _option("--rows", metavar="N", help="Draw so many rows, or grow the base to so many."),
    ] = None,
    dim: Annotated[
        int | None,
        _option("--dim", metavar="N", help="Lift all vectors to so many dimensions."),
    ] = None,
    queries: Annotated[
        int, _option("--queries", metavar="N", help="Search for so many; 1000 if not given.")
    ] = 1000,
    systems: Annotated[
        list[str] | None,
        _option(
            "--systems",
            metavar="NAMES",
            help="What to compare, with commas: hnswlib, usearch, faiss_hnsw, faiss_ivf, scann, "
            "lancedb, qdrant, exact:faiss, exact:blas, retr:SPEC, retr:auto@RECALL, …; all if "
            "not given.",
        ),
    ] = None,
    k: Annotated[
        int, _option("-k", metavar="N", help="How many are asked for; 10 if not given.")
    ] = 10,
    threads: Annotated[
        int | None,
        _option("--threads", metavar="N", help="Of a build and a batch; else the cores there are."),
    ] = None,
    rounds: Annotated[
        int,
        _option("--rounds", metavar="N", help="How often each is searched; 3 if not given."),
    ] = 3,
    timeout: Annotated[
        float,
        _option("--timeout", metavar="S", help="Seconds a process may take; 3600 if not given."),
    ] = 3600.0,
    seed: Annotated[
        int, _option("--seed", metavar="N", help="For drawing and growing; 0 if not given.")
    ] = 0,
    out: Annotated[
        Path, _option("--out", metavar="DIR", help="Where results go; retr-ann if not given.")
    ] = Path("retr-ann"),
    cache: Annotated[
        Path | None,
        _option("--cache", metavar="DIR", help="Where vectors are kept; else the user's cache."),
    ] = None,
    build_only: Annotated[
        bool,
        _option("--build-only", help="Build and keep the indexes; the same without it searches."),
    ] = False,
    keep: Annotated[
        bool, _option("--keep", help="Keep the indexes when all rounds are done, for more rounds.")
    ] = False,
    alone: Annotated[
        bool, _option("--alone", help="Open one system at a time: less memory, less fair.")
    ] = False,
    fresh: Annotated[bool, _option("--fresh", help="Run again what is there already.")] = False,
    as_json: Annotated[
        bool, _option("--json", help="Print JSON, one object a line, on a terminal too.")
    ] = False,
    quiet: Annotated[bool, _option("--quiet", "-q", help="Print results and errors only.")] = False,
    verbose: Annotated[bool, _option("--verbose", "-v", help="Say what is done.")] = False,
) -> None:
    """Compare indexes with other systems over the same vectors.

    Each runs in processes of its own with pinned threads; recall is worked out from its answers.
    Leaves raw results, plots and a report (Markdown and HTML) in --out. What is done is not done
    again, so the same command goes on where an interrupted one stopped.

    \b
    Example:
      retr bench ann --rows 200000 --systems hnswlib,usearch,retr:hnsw,retr:auto@0.95
      retr bench ann glove-100-angular.hdf5 --out results
    """
    console.listen(quiet, verbose)
    from ..benchmarks.ann import data as ann_data
    from ..benchmarks.ann import suite as benchmark
    from ..benchmarks.ann.peers import default_systems, peer
    from ..benchmarks.beir.datasets import cache_folder

    chosen = benchmark.split(systems or [])
    for system in chosen:
        peer(system)
    place = (cache or cache_folder()) / "ann"
    try:
        vectors = ann_data.read(data, query_vectors, metric, neighbours)
        prepared = ann_data.prepare(
            vectors, place, rows=rows, queries=min(queries, len(vectors.queries)), dim=dim,
            seed=seed, note=lambda text: None if quiet else console.say(text),
        )  # fmt: skip
        settings = benchmark.Settings(
            k,
            threads or benchmark.usable_cores(),
            rounds,
            timeout,
            fresh=fresh,
            searches=not build_only,
            keeps=keep,
            **({"together": 1} if alone else {}),
        )
        chosen = chosen or default_systems(prepared.about["dim"])
        benchmark.run(prepared, out, place, chosen, settings)
    except KeyboardInterrupt:
        console.say("interrupted: what is done is kept; run the same command again to go on")
        raise typer.Exit(130) from None
    if not build_only:
        show(out, as_json, quiet)


def show(out: Path, as_json: bool, quiet: bool) -> None:
    """Derive the report of a folder from its raw results, write it there and print it.

    Raises:
        InputError: there are no results.
        DamagedError: a file of them cannot be read.
    """
    from ..benchmarks.ann.report import text_of, write
    from ..benchmarks.ann.text import records

    made = write(out)
    if console.is_table(as_json):
        for line in text_of(made).split("\n"):
            # Labels hold what a user typed: nothing of it may command the terminal.
            console.write(plain(line))
        if not quiet:
            console.say(f"report: {out / 'report.html'}")
        return
    for record in records(made):
        console.write(console.json_line(record))
