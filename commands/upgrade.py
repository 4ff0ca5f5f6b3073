"""`retr upgrade`: another encoder for a live collection; parse, call, print."""

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
        int, value("--sample", "N", "How many rows are embedded to begin with; 5,000 if not given.")
    ] = 5_000,
    queries: Annotated[
        OptionalText,
        value("--queries", "FILE", 'Queries like those asked; a line is {"_id": …, "text": …}.'),
    ] = None,
    qrels: Annotated[
        OptionalText, value("--qrels", "FILE", "Their judgments: then quality is measured.")
    ] = None,
    dry_run: Annotated[bool, flag("--dry-run", "Measure and show, and change nothing.")] = False,
    yes: Annotated[bool, flag("--yes", "Begin without asking.", "-y")] = False,
    force: Annotated[
        bool, flag("--force", "Begin although the two encoders have nothing in common.")
    ] = False,
    both: Annotated[
        bool | None,
        typer.Option(
            "--both/--no-both",
            help="Have the old encoder encode queries as well, for the old vectors; if not given, "
            "where judged queries say that a bridge is worse than that.",
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
    """Go over to another encoder.

    A sample is embedded by it, what the change would do is measured and shown, and where you
    agree, queries are the new encoder's at once: a bridge takes them to the vectors that are
    there. No other vector is touched; until finish, rollback goes back.

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
            "there is no terminal to ask on: give --yes to begin, or --dry-run to see what it "
            "would do"
        )
    asked = None if queries is None else inputs.choose_queries(None, queries, None)
    judged = None
    if qrels is not None:
        from ..retrieval.evaluation import read_qrels

        judged = read_qrels(qrels)

    def confirm(report: Mapping[str, Any]) -> bool:
        console.say(reports.gate_text(report))
        return typer.confirm("begin?", err=True)

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

    No encoder is called, so it takes minutes where a backfill takes days. The rows still await
    their new vectors. Run it again to go on where an interrupted one stopped.

    \b
    Example:
      retr upgrade map --index docs.retr
    """
    console.listen(quiet, verbose)
    from ..retrieval.collection import open
    from . import reports
    from .rendering import counted

    with open(index) as collection:
        mapped = collection.map_upgrade(progress=not quiet)
        status = collection.upgrade_status()
    text = f"mapped {counted(mapped, 'row')}\n{reports.status_text(status, index)}"
    _show({"mapped": mapped, "left": status["rows"] - status["new"]}, text, as_json)


@app.command()
def status(
    index: o.Index = DEFAULT_INDEX,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Say where an upgrade stands.

    What share is turned over, how good it is now and will be, and how long the rest takes.

    \b
    Example:
      retr upgrade status --index docs.retr
    """
    console.listen(quiet, verbose)
    from ..retrieval.collection import open
    from . import reports

    with open(index) as collection:
        found = collection.upgrade_status()
    _show(found, reports.status_text(found, index), as_json)


@app.command()
def backfill(
    index: o.Index = DEFAULT_INDEX,
    rows: Annotated[OptionalNumber, value("--rows", "N", "Stop after so many rows.")] = None,
    time: Annotated[
        OptionalText, value("--time", "TIME", "Stop after so long, such as 30m or 2h.")
    ] = None,
    order: Annotated[
        OptionalText,
        value(
            "--order",
            "ORDER",
            "Which rows come first: clicks; residual, those the map misses by most; random.",
        ),
    ] = None,
    clicks: Annotated[
        OptionalText,
        value(
            "--clicks", "FILE", "How often documents are opened; a line is an id, a tab, a number."
        ),
    ] = None,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Embed rows anew, the most useful first.

    Each batch is kept at once and found at once; run it again to go on where it stopped, however
    it did. After a rollback it embeds with the old encoder what came since.

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
        raise InputError(f"--rows {rows}: give a number above 0")
    try:
        with open(index, device=device) as collection:
            record = collection.backfill(
                rows, seconds=seconds, order=order, clicks=counts, progress=not quiet
            ).to_json()
    except KeyboardInterrupt:
        console.say("interrupted: what was embedded is kept; run the same command again to go on")
        raise typer.Exit(console.INTERRUPTED) from None
    _show(record, reports.backfill_text(record, index), as_json)


@app.command()
def finish(
    index: o.Index = DEFAULT_INDEX,
    keep_mapped: Annotated[
        bool, flag("--keep-mapped", "Although rows have mapped vectors only.")
    ] = False,
    drop_rest: Annotated[
        bool,
        flag("--drop-rest", "Although rows have no other vector; their words still find them."),
    ] = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Drop the old vectors; from then on there is no way back.

    It is refused while rows await their new vectors.

    \b
    Example:
      retr upgrade finish --index docs.retr
    """
    console.listen(quiet, verbose)
    from ..retrieval.collection import open
    from .rendering import size

    with open(index) as collection:
        before = collection.info()["bytes"]
        collection.finish_upgrade(keep_mapped=keep_mapped, drop_rest=drop_rest)
        after, encoder = collection.info()["bytes"], collection.space.encoder
    record = {"finished": True, "encoder": encoder, "bytes_before": before, "bytes": after}
    text = f"finished: {plain(encoder)}; {size(before)} became {size(after)}"
    _show(record, text, as_json)


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
    """Go back to the old encoder, at once.

    What was added or changed since stays to be found; backfill embeds it with the old encoder.

    \b
    Example:
      retr upgrade rollback --index docs.retr
    """
    console.listen(quiet, verbose)
    from ..retrieval.collection import open
    from . import reports
    from .rendering import counted

    with open(index) as collection:
        left = collection.rollback_upgrade(encoder=encoder)
        back = collection.space.encoder
    text = f"queries are encoded by {plain(back)} again"
    if left:
        text += (
            f"; {counted(left, 'row')} came since and can be embedded by it: "
            f"retr upgrade backfill{reports.where_text(index)}"
        )
    _show({"encoder": back, "left": left}, text, as_json)


def _show(record: Mapping[str, Any], text: str, as_json: bool) -> None:
    console.write(text if console.is_table(as_json) else console.json_line(record))
