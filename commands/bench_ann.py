"""`retr bench ann`; `bench.py` mounts it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from . import console
from . import options as o
from .options import argument, flag, value


def ann(
    data: Annotated[
        str,
        argument(
            "DATA",
            "minilm (the test data; default), an HDF5 file of ann-benchmarks, or a .npy, .fvecs or "
            ".bvecs file of base vectors.",
        ),
    ] = "minilm",
    query_vectors: Annotated[
        Path | None,
        value("--query-vectors", "FILE", "The query vectors, if DATA has none."),
    ] = None,
    neighbours: Annotated[
        Path | None,
        value("--neighbours", "FILE", "The nearest rows of each query: .ivecs or .npy."),
    ] = None,
    metric: o.Metric = None,
    rows: Annotated[
        int | None,
        value("--rows", "N", "Sample N rows, or grow the base to N rows."),
    ] = None,
    dim: Annotated[
        int | None,
        value("--dim", "N", "Lift all vectors to N dimensions."),
    ] = None,
    queries: Annotated[
        int, value("--queries", "N", "How many queries to search for (default: 1000).")
    ] = 1000,
    systems: Annotated[
        list[str] | None,
        value(
            "--systems",
            "NAMES",
            "What to compare, separated by commas: hnswlib, usearch, faiss_hnsw, faiss_ivf, scann, "
            "lancedb, qdrant, exact:faiss, exact:blas, retr:SPEC, retr:auto@RECALL, …; all if "
            "not given.",
        ),
    ] = None,
    k: Annotated[int, value("-k", "N", "How many neighbours to ask for (default: 10).")] = 10,
    threads: Annotated[
        int | None,
        value("--threads", "N", "Threads for a build and for a batch (default: all cores)."),
    ] = None,
    rounds: Annotated[
        int,
        value("--rounds", "N", "How many times to search each (default: 3)."),
    ] = 3,
    timeout: Annotated[
        float,
        value("--timeout", "S", "Seconds a process may take (default: 3600)."),
    ] = 3600.0,
    seed: Annotated[
        int, value("--seed", "N", "Random seed for sampling and growing (default: 0).")
    ] = 0,
    out: Annotated[Path, o.out("retr-ann")] = Path("retr-ann"),
    cache: o.Cache = None,
    build_only: Annotated[
        bool,
        flag("--build-only", "Build and keep the indexes; run again without it to search."),
    ] = False,
    keep: Annotated[
        bool, flag("--keep", "Keep the indexes after the last round, for more rounds.")
    ] = False,
    alone: Annotated[
        bool, flag("--alone", "Open one system at a time: less memory, less fair.")
    ] = False,
    fresh: Annotated[bool, flag("--fresh", "Redo work that is done already.")] = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Compare indexes with other systems over the same vectors.

    Each runs in its own processes with pinned threads, and its recall is computed from its
    answers. --out gets raw results, plots and a report (Markdown and HTML). Finished work is kept:
    if it is interrupted, run the same command to continue.

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
    with console.resumable():
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
        console.write_lines(text_of(made))
        if not quiet:
            console.say(f"report: {out / 'report.html'}")
        return
    for record in records(made):
        console.write(console.json_line(record))
