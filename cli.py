"""The command line: parse, call, print.

Results go to stdout, as a table on a terminal and else one JSON object a line; everything else
goes to stderr. What the user can put right is one line there and exit code 2. Nothing heavy is
imported before a command needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from .commands import console
from .commands import options as o
from .commands.bench import app as measuring
from .commands.index import app as indexing
from .commands.options import DEFAULT_INDEX, OptionalText, argument, flag, value
from .commands.parsing import without_pydantic
from .commands.upgrade import app as upgrading
from .retrieval.values.errors import InputError

if TYPE_CHECKING:
    from .commands.runs import SearchOptions

# Usage errors are click's: its package to older releases of typer, a copy inside to newer ones.
_ClickError = cast(type[Exception], typer.BadParameter.__mro__[2])

app = typer.Typer(name="retr", **o.SETTINGS)
app.add_typer(indexing, name="index")
app.add_typer(upgrading, name="upgrade")
app.add_typer(measuring)


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[bool, flag("--version", "Print the version and exit.")] = False,
) -> None:
    """Search your documents by meaning and by words.

    \b
    Example:
      retr index build docs
      retr search "how do I delete a document?"
    """
    if version:
        from .retrieval.values.version import __version__

        console.write(f"retr {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        console.write(context.get_help())


@app.command()
def search(
    query: Annotated[OptionalText, argument("QUERY", "What to look for, in words.")] = None,
    index: o.Index = DEFAULT_INDEX,
    k: Annotated[int, value("-k", "N", "How many hits; 10 if not given.")] = 10,
    passages: Annotated[
        bool, flag("--passages", "Let several passages of one document be hits.")
    ] = False,
    mode: Annotated[
        OptionalText,
        value("--mode", "MODE", "hybrid, by meaning and by words, the default; dense; lexical."),
    ] = None,
    explain: Annotated[bool, flag("--explain", "Say of each hit why it was found.")] = False,
    rerank: Annotated[
        OptionalText,
        value("--rerank", "NAME", "Order the first hits anew by this cross-encoder."),
    ] = None,
    rerank_depth: Annotated[
        int, value("--rerank-depth", "N", "How many hits are reranked; 50 if not given.")
    ] = 50,
    where: Annotated[
        OptionalText,
        value(
            "--where", "SQL", "Search only documents like this: \"year >= 2020 and lang = 'en'\"."
        ),
    ] = None,
    recall: Annotated[
        OptionalText, value("--recall", "R", "What of the best the index finds, or exact.")
    ] = None,
    ids: Annotated[
        OptionalText, value("--ids", "FILE", "Search only the documents whose ids FILE lists.")
    ] = None,
    queries: Annotated[
        OptionalText,
        value(
            "--queries",
            "FILE",
            'Many queries; a line is {"_id": …, "text": …}, or an id, a tab and a text.',
        ),
    ] = None,
    run: Annotated[
        OptionalText, value("--run", "FILE", "Write the hits of --queries as a TREC run.")
    ] = None,
    tag: Annotated[str, value("--tag", "TAG", "The run's name; retr if not given.")] = "retr",
    vector: Annotated[
        OptionalText, value("--vector", "FILE", "The query as a vector, in a .npy file.")
    ] = None,
    image: Annotated[
        o.Texts, value("--image", "FILE", "An image to look for, beside words or alone.")
    ] = None,
    without: Annotated[
        o.Texts, value("--without", "TEXT", "What is not wanted, beside words or an image.")
    ] = None,
    weight: Annotated[
        o.Texts,
        value(
            "--weight",
            "PART=W",
            "How much text, image or without count: 1, 1 and 0.5 if not given.",
        ),
    ] = None,
    html: Annotated[
        OptionalText, value("--html", "FILE", "Write the hits as a page with their images.")
    ] = None,
    thumbnails: Annotated[
        bool | None,
        flag(
            "--thumbnails/--no-thumbnails",
            "Show images among the hits; else where the terminal is known to.",
        ),
    ] = None,
    encoder: Annotated[
        OptionalText, value("--encoder", "NAME", "Where the model is now, if it has moved.")
    ] = None,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Search a collection.

    A document is found once, by its best passage, unless --passages is given. Each FILE but the
    vector's can be - for standard input, or output.

    \b
    Example:
      retr search "how do I delete a document?" --index docs.retr -k 5
      retr search "cold start" --json | jq -r .uri
      retr search --queries queries.jsonl --run out.trec -k 1000 --index papers.retr
      retr search "cold start" --rerank cross-encoder/ms-marco-MiniLM-L6-v2
      retr search "at night" --image beach.jpg --without people --html hits.html
    """
    console.listen(quiet, verbose)
    from .commands import inputs, rendering, runs

    inputs.check_run(run, queries, passages)
    if html is not None and run is not None:
        raise InputError("--html and --run are two ways to write hits: give one of them")
    parts = (image or (), without or (), weight or ())
    asked = inputs.choose_queries(query, queries, vector, *parts)
    only = None if ids is None else inputs.choose_ids([], ids)
    from .retrieval.collection import open

    how: SearchOptions = {"mode": mode, "where": where, "recall": recall, "ids": only}
    if rerank is not None:
        how |= {"rerank": rerank, "rerank_depth": rerank_depth}
    with open(index, encoder=encoder, device=device) as collection:
        if run is None:
            how |= {"passages": passages, "explain": explain}
            answers = runs.answers(collection, asked, k, **how)
            if html is not None:
                rendering.write_gallery(answers, html, quiet)
                return
            table = console.is_table(as_json)
            rendering.print_results(
                answers,
                len(collection),
                table=table,
                quiet=quiet,
                passages=collection.has_passages,
                thumbnails=rendering.choose_thumbnails(thumbnails, table),
            )
            return
        report = runs.write_run(collection, asked, k, run, tag, **how)
    if not quiet:
        console.say(rendering.run_text(report, run))


def main() -> None:
    """Run the command line and exit."""
    sys.exit(console.exit_code(lambda: run_command(sys.argv[1:])))


def run_command(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code.

    Raises:
        InputError: the command line is wrong.
        RetrError: the command cannot do what it says, for a reason that the user can put right.
    """
    try:
        command = without_pydantic(typer.main.get_command(app))
        with command.make_context("retr", list(arguments)) as context:
            command.invoke(context)
    except typer.Exit as end:
        return int(end.exit_code)
    except _ClickError as error:
        raise InputError(_usage(error)) from error
    return 0


def _usage(error: Any) -> str:
    """Return what is wrong with a command line, with the way to its help."""
    message = str(error.format_message()).strip().rstrip(".")
    context = getattr(error, "ctx", None)
    return message if context is None else f"{message}; see: {context.command_path} --help"
