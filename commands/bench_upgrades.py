"""`retr bench upgrades`; `bench.py` mounts it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from . import console
from . import options as o
from .options import argument, value


def upgrades(
    dataset: Annotated[
        list[str],
        argument("DATASET...", "Names of BEIR data sets, or folders in its layout."),
    ],
    to: Annotated[str, value("--to", "ENCODER", "The new encoder.")],
    old: Annotated[
        list[str] | None,
        value(
            "--from",
            "ENCODER",
            "The old encoder; may be repeated; lsa is fitted on each corpus (default: static).",
        ),
    ] = None,
    pairs: Annotated[
        int, value("--pairs", "N", "How many documents to embed first (default: 1000).")
    ] = 1_000,
    order: Annotated[
        list[str] | None,
        value(
            "--order",
            "ORDER",
            "Order of backfill, residual or random; may be repeated (default: both).",
        ),
    ] = None,
    seed: Annotated[int, value("--seed", "N", "Random seed of the sample (default: 0).")] = 0,
    data: o.Data = None,
    out: Annotated[Path, o.out("retr-upgrades")] = Path("retr-upgrades"),
    cache: o.Cache = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Measure what replacing an encoder is worth before, during and after backfill.

    Compares old with old, new with old and new with new vectors (BT²'s protocol), each map by
    itself, and the curve over backfill through real collections, by vectors alone and with words:
    with pairs from anywhere, and with pairs of which none is judged.

    \b
    Example:
      retr bench upgrades scifact --to st:sentence-transformers/all-MiniLM-L6-v2 --from static
    """
    console.listen(quiet, verbose)
    from ..benchmarks.upgrades import report as upgrades_report
    from ..benchmarks.upgrades import suite as benchmark

    with console.resumable():
        made = benchmark.run(
            dataset,
            out,
            old=old or ["static"],
            new=to,
            pairs=pairs,
            seed=seed,
            orders=order or benchmark.ORDERS,
            data=data,
            cache=cache,
            progress=not quiet,
        )
    upgrades_report.write(out)
    if not console.is_table(as_json):
        for each in made:
            console.write(console.json_line(each))
        return
    console.write_lines(upgrades_report.summary(made).text())
