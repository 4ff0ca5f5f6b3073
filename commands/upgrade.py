"""`retr upgrade`: replace the encoder of a live collection; parse, call, print."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from ..retrieval.values.errors import InputError
from ..retrieval.values.shown import plain
from . import console
from . import options as o
from .options import DEFAULT_INDEX, OptionalNumber, OptionalText, flag, value

app = typer.Typer(**o.SETTINGS)


@app.callback()
def upgrade(context: typer.Context) -> None:
    """Replace the encoder of a live collection.

    \b
    Example:
      retr upgrade start --to st:sentence-transformers/all-MiniLM-L6-v2 --index docs.retr
    """
    if context.invoked_subcommand is None:
        console.write(context.get_help())


@app.command()
def start(
    to: Annotated[OptionalText, value("--to", "NAME", "The new encoder.")] = None,
    index: o.Index = DEFAULT_INDEX,
    sample: Annotated[
        int, value("--sample", "N", "How many rows to embed first (default: 5,000).")
    ] = 5_000,
    queries: Annotated[
        OptionalText,
        value(
            "--queries", "FILE", 'Queries like the ones users ask; a line is {"_id": …, "text": …}.'
        ),
    ] = None,
    qrels: Annotated[
        OptionalText,
        value("--qrels", "FILE", "Judgments of these queries, so that quality can be measured."),
    ] = None,
    dry_run: Annotated[bool, flag("--dry-run", "Measure and report; change nothing.")] = False,
    yes: Annotated[bool, flag("--yes", "Start without asking.", "-y")] = False,
    force: Annotated[
        bool, flag("--force", "Start even if the two encoders have nothing in common.")
    ] = False,
    both: Annotated[
        bool | None,
        flag(
            "--both/--no-both",
            "Also encode queries with the old encoder, for the old vectors (default: only if "
            "judged queries show that the bridge is worse than that).",
        ),
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
    """Switch to another encoder.

    retr embeds a sample with it, measures what the change would do and shows you. If you agree,
    the new encoder answers queries at once: a bridge takes them to the vectors that are there.
    No other vector is touched, and rollback undoes it all until you finish.

    \b
    Example:
      retr upgrade start --to static:2 --index docs.retr --dry-run
      retr upgrade start --to st:sentence-transformers/all-MiniLM-L6-v2 --yes
      retr upgrade start --to static:2 --queries queries.jsonl --qrels qrels/test.tsv
    """
    console.listen(quiet, verbose)
    from ..retrieval.collection import open
    from ..retrieval.encoders.base import EncoderOptions
    from . import inputs, reports

    if to is None:
        raise InputError("no encoder is given: name the new one with --to NAME")
    if not (yes or dry_run or sys.stdin.isatty()):
        raise InputError(
            "stdin is not a terminal, so retr cannot ask: give --yes to start, or --dry-run to see "
            "what it would do"
        )
    asked = None if queries is None else inputs.choose_queries(None, queries, None)
    judged = None
    if qrels is not None:
        from ..retrieval.evaluation import read_qrels

        judged = read_qrels(qrels)

    def confirm(report: Mapping[str, Any]) -> bool:
        console.say(reports.gate_text(report))
        return typer.confirm("start?", err=True)

    with open(index) as collection:
        report = collection.upgrade(
            to,
            options=EncoderOptions(
                query_prompt, document_prompt, max_length, revision, metric, device
            ),
            sample=sample,
            queries=asked,
            qrels=judged,
            dry_run=dry_run,
            force=force,
            both=both,
            confirm=None if yes or dry_run else confirm,
            progress=not quiet,
        )
    if not console.is_table(as_json):
        console.write(console.json_line(report))
        return
    if yes or dry_run:
        console.write(reports.gate_text(report))
    if report["started"]:
        console.write("\n" + reports.started_text(report, index))
    elif not dry_run:
        console.write("nothing was changed")


@app.command()
def map(
    index: o.Index = DEFAULT_INDEX,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Map the old vectors to where the new encoder's queries look for them.

    No encoder is called, so it takes minutes when a backfill takes days. The rows still await
    their new vectors. If it is interrupted, run it again to continue.

    \b
    Example:
      retr upgrade map --index docs.retr
    """
    console.listen(quiet, verbose)
    from ..retrieval.collection import open
    from ..retrieval.values.shown import counted
    from . import reports

    with open(index) as collection:
        mapped = collection.map_upgrade(progress=not quiet)
        status = collection.upgrade_status()
    text = f"mapped {counted(mapped, 'row')}\n{reports.status_text(status, index)}"
    console.show({"mapped": mapped, "left": status["rows"] - status["new"]}, text, as_json)


@app.command()
def status(
    index: o.Index = DEFAULT_INDEX,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Show how far an upgrade has come.

    How many rows have new vectors, how good search is now and will be, and the time left.

    \b
    Example:
      retr upgrade status --index docs.retr
    """
    console.listen(quiet, verbose)
    from ..retrieval.collection import open
    from . import reports

    with open(index) as collection:
        found = collection.upgrade_status()
    console.show(found, reports.status_text(found, index), as_json)


@app.command()
def backfill(
    index: o.Index = DEFAULT_INDEX,
    rows: Annotated[OptionalNumber, value("--rows", "N", "Stop after N rows.")] = None,
    time: Annotated[
        OptionalText, value("--time", "TIME", "Stop after this time, such as 30m or 2h.")
    ] = None,
    order: Annotated[
        OptionalText,
        value(
            "--order",
            "ORDER",
            "Which rows come first: clicks; residual, where the map is worst; or random.",
        ),
    ] = None,
    clicks: Annotated[
        OptionalText,
        value(
            "--clicks",
            "FILE",
            "How often documents are opened; a line is an id, a tab and a number.",
        ),
    ] = None,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Re-embed rows with the new encoder, the most useful first.

    Each batch is a commit and can be found at once. However it stopped, run it again to continue.
    After a rollback it embeds what was added since with the old encoder.

    \b
    Example:
      retr upgrade backfill --index docs.retr
      retr upgrade backfill --time 30m --order clicks --clicks clicks.tsv
    """
    console.listen(quiet, verbose)
    from ..retrieval.collection import open
    from . import inputs, reports

    seconds = None if time is None else inputs.read_seconds(time)
    counts = None if clicks is None else inputs.read_clicks(clicks)
    if rows is not None and rows < 1:
        raise InputError(f"--rows {rows}: give a number of rows, 1 or more")
    with (
        console.resumable(lambda: "what was embedded is kept"),
        open(index, device=device) as collection,
    ):
        record = collection.backfill(
            rows, seconds=seconds, order=order, clicks=counts, progress=not quiet
        ).to_json()
    console.show(record, reports.backfill_text(record, index), as_json)


@app.command()
def finish(
    index: o.Index = DEFAULT_INDEX,
    keep_mapped: Annotated[
        bool, flag("--keep-mapped", "Finish even if some rows have only mapped vectors.")
    ] = False,
    drop_rest: Annotated[
        bool,
        flag("--drop-rest", "Finish even if rows lose their only vector; words still find them."),
    ] = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Drop the old vectors; after this there is no way back.

    It is refused while rows await their new vectors.

    \b
    Example:
      retr upgrade finish --index docs.retr
    """
    console.listen(quiet, verbose)
    from ..retrieval.collection import open
    from ..retrieval.values.shown import size

    with open(index) as collection:
        before = collection.info()["bytes"]
        collection.finish_upgrade(keep_mapped=keep_mapped, drop_rest=drop_rest)
        after, encoder = collection.info()["bytes"], collection.space.encoder
    record = {"finished": True, "encoder": encoder, "bytes_before": before, "bytes": after}
    text = f"finished: {plain(encoder)}; {size(before)} became {size(after)}"
    console.show(record, text, as_json)


@app.command()
def rollback(
    index: o.Index = DEFAULT_INDEX,
    encoder: Annotated[
        OptionalText, value("--encoder", "NAME", "Where the old model is now, if it has moved.")
    ] = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Go back to the old encoder at once.

    Documents added or changed since can still be found; backfill embeds them with the old encoder.

    \b
    Example:
      retr upgrade rollback --index docs.retr
    """
    console.listen(quiet, verbose)
    from ..retrieval.collection import open
    from ..retrieval.values.shown import counted
    from . import reports

    with open(index) as collection:
        left = collection.rollback_upgrade(encoder=encoder)
        back = collection.space.encoder
    text = f"queries are encoded by {plain(back)} again"
    if left:
        text += (
            f"; {counted(left, 'row')} added since can be embedded with it: "
            f"retr upgrade backfill{reports.where_text(index)}"
        )
    console.show({"encoder": back, "left": left}, text, as_json)
