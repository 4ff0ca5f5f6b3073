"""The command `retr bench upgrades`: parse, call, print. `commands.py` mounts it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..retrieval.values.shown import plain
from . import console


def _option(*names: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, show_default=False)


def upgrades(
    dataset: Annotated[
        list[str],
        typer.Argument(
            metavar="DATASET...",
            show_default=False,
            help="Names of BEIR's data sets, or folders in its layout.",
        ),
    ],
    to: Annotated[str, _option("--to", metavar="ENCODER", help="The new encoder.")],
    old: Annotated[
        list[str] | None,
        _option(
            "--from",
            metavar="ENCODER",
            help="The old encoder; may be repeated; lsa is fitted on each corpus. static if not "
            "given.",
        ),
    ] = None,
    pairs: Annotated[
        int, _option("--pairs", metavar="N", help="Documents in the sample; 1000 if not given.")
    ] = 1_000,
    order: Annotated[
        list[str] | None,
        _option(
            "--order",
            metavar="ORDER",
            help="Of backfill: residual, random; may be repeated; both if not given.",
        ),
    ] = None,
    seed: Annotated[int, _option("--seed", metavar="N", help="Draws the sample.")] = 0,
    data: Annotated[
        Path | None,
        _option(
            "--data",
            metavar="DIR",
            help="Where data sets lie or are downloaded to; else the user's cache folder.",
        ),
    ] = None,
    out: Annotated[
        Path, _option("--out", metavar="DIR", help="Where results go; retr-upgrades if not given.")
    ] = Path("retr-upgrades"),
    cache: Annotated[
        Path | None,
        _option(
            "--cache",
            metavar="DIR",
            help="Where collections and vectors are kept between runs; else the user's cache.",
        ),
    ] = None,
    as_json: Annotated[
        bool, _option("--json", help="Print JSON, one object a line, on a terminal too.")
    ] = False,
    quiet: Annotated[bool, _option("--quiet", "-q", help="Print results and errors only.")] = False,
    verbose: Annotated[bool, _option("--verbose", "-v", help="Say what is done.")] = False,
) -> None:
    """Measure what replacing an encoder is worth before, during and after backfill.

    Old with old, new with old and new with new vectors (BT²'s protocol), each map by itself, and
    the curve over backfill through real collections, by vectors alone and with words; with pairs
    from anywhere, and with pairs of which none is judged.

    \b
    Example:
      retr bench upgrades scifact --to st:sentence-transformers/all-MiniLM-L6-v2 --from static
    """
    console.listen(quiet, verbose)
    from ..benchmarks.upgrades import report as upgrades_report
    from ..benchmarks.upgrades import suite as benchmark

    try:
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
    except KeyboardInterrupt:
        console.say("interrupted: what is done is kept; run the same command again to go on")
        raise typer.Exit(130) from None
    upgrades_report.write(out)
    if not console.is_table(as_json):
        for each in made:
            console.write(console.json_line(each))
        return
    for line in upgrades_report.summary(made).text().split("\n"):
        console.write(plain(line))
