"""The command line: parse, call, print.

Results go to stdout, as a table on a terminal and else one JSON object a line; everything else
goes to stderr. What the user can put right is one line there and exit code 2. Nothing heavy is
imported before a command needs it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from . import cli_options as o
from .benchmarks.commands import app as measuring
from .cli_options import DEFAULT_INDEX, OptionalText, argument, flag, value
from .cli_upgrade import app as upgrading
from .retrieval import console
from .retrieval.errors import InputError

if TYPE_CHECKING:
    from .retrieval.collection import Collection
    from .retrieval.runs import SearchOptions

# Usage errors are click's: its package to older releases of typer, a copy inside to newer ones.
_ClickError = cast(type[Exception], typer.BadParameter.__mro__[2])

_SETTINGS: dict[str, Any] = {
    "rich_markup_mode": None,
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "invoke_without_command": True,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
app = typer.Typer(name="retr", **_SETTINGS)
index_app = typer.Typer(**_SETTINGS)
app.add_typer(index_app, name="index")
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
        from .retrieval.version import __version__

        console.write(f"retr {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        console.write(context.get_help())


@index_app.callback()
def index(context: typer.Context) -> None:
    """Make a collection, change it, look after it.

    \b
    Example:
      retr index build docs --index docs.retr
    """
    if context.invoked_subcommand is None:
        console.write(context.get_help())


@index_app.command()
def build(
    source: o.Source,
    index: o.Index = DEFAULT_INDEX,
    encoder: o.Encoder = None,
    recall: o.Recall = None,
    memory: o.Memory = None,
    spec: o.Spec = None,
    dtype: o.Dtype = None,
    language: o.Language = None,
    id: o.Id = None,
    text: o.Text = None,
    title: o.Title = None,
    vector: o.Vector = None,
    image: o.ImageColumn = None,
    images: o.Images = None,
    ids: o.RowIds = None,
    include: o.Include = None,
    exclude: o.Exclude = None,
    format: o.Format = None,
    passages: o.Passages = None,
    passage_size: o.PassageSize = None,
    query_prompt: o.QueryPrompt = None,
    document_prompt: o.DocumentPrompt = None,
    max_length: o.MaxLength = None,
    long_text: o.LongText = None,
    revision: o.Revision = None,
    metric: o.Metric = None,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Build a collection over SOURCE, or bring it up to date.

    Documents that have not changed are not encoded again; those that have vanished from SOURCE
    are deleted. The same command goes on where an interrupted one stopped.

    \b
    Example:
      retr index build docs --index docs.retr
      retr index build papers.jsonl --id doi --text title --text abstract
      retr index build . --include '*.md' --exclude drafts/
      retr index build docs --encoder st:sentence-transformers/all-MiniLM-L6-v2
    """
    console.listen(quiet, verbose)
    from .retrieval.build import build
    from .retrieval.encoders.base import EncoderOptions

    asked = EncoderOptions(
        query_prompt, document_prompt, max_length, revision, metric, device, long_text
    )
    options = o.source_options(
        id, text, title, vector, image, images, ids, include, exclude, format
    )
    with _resumable(index):
        collection = build(
            source,
            index,
            encoder=encoder,
            encoder_options=None if asked == EncoderOptions() else asked,
            recall=recall,
            memory=memory,
            spec=spec,
            dtype=dtype,
            language=language,
            options=options,
            passages=passages,
            size=passage_size,
            progress=not quiet,
        )
    _report(collection, index, as_json, quiet, verbose)


@index_app.command()
def add(
    source: o.Source,
    index: o.Index = DEFAULT_INDEX,
    id: o.Id = None,
    text: o.Text = None,
    title: o.Title = None,
    vector: o.Vector = None,
    image: o.ImageColumn = None,
    images: o.Images = None,
    ids: o.RowIds = None,
    include: o.Include = None,
    exclude: o.Exclude = None,
    format: o.Format = None,
    passages: o.Passages = None,
    passage_size: o.PassageSize = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Add the documents of SOURCE; the same id again replaces.

    Unlike build it deletes nothing, and the collection has to be there.

    \b
    Example:
      retr index add notes.md --index docs.retr
      echo '{"id": "n1", "text": "a note"}' | retr index add - --index docs.retr
    """
    console.listen(quiet, verbose)
    from .retrieval.collection import open

    options = o.source_options(
        id, text, title, vector, image, images, ids, include, exclude, format
    )
    with _resumable(index), open(index) as collection:
        collection.add(
            source, options=options, passages=passages, size=passage_size, progress=not quiet
        )
    _report(collection, index, as_json, quiet, verbose)


@index_app.command()
def delete(
    id: Annotated[o.Texts, argument("ID", "The ids of documents.")] = None,
    ids: Annotated[
        OptionalText, value("--ids", "FILE", "A file with an id a line; - for standard input.")
    ] = None,
    index: o.Index = DEFAULT_INDEX,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Delete documents by their ids.

    Ids that are not there are counted and passed over.

    \b
    Example:
      retr index delete docs/old.md docs/older.md --index docs.retr
      retr index delete --ids gone.txt
    """
    console.listen(quiet, verbose)
    from .retrieval import inputs, rendering
    from .retrieval.collection import open

    wanted = inputs.choose_ids(id or [], ids)
    with open(index) as collection:
        deleted = collection.delete(wanted)
    record = {"deleted": deleted, "unknown": len(set(wanted)) - deleted}
    _show(record, rendering.deleted_text(**record), as_json)


@index_app.command()
def info(
    index: o.Index = DEFAULT_INDEX,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Say what a collection holds.

    Counts, sizes, encoder, settings and segments.

    \b
    Example:
      retr index info --index docs.retr
    """
    console.listen(quiet, verbose)
    from .retrieval import rendering
    from .retrieval.collection import open

    with open(index) as collection:
        known = collection.info()
    _show(known, rendering.info_text(known), as_json)


@index_app.command()
def verify(
    index: o.Index = DEFAULT_INDEX,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Compare every file with its checksum.

    The exit code is 1 where a file is not what was written.

    \b
    Example:
      retr index verify --index docs.retr
    """
    console.listen(quiet, verbose)
    from .retrieval import rendering
    from .retrieval.store.store import Store

    # Not through the collection: one that cannot be opened has to be verified too.
    store = Store(Path(index))
    problems = store.verify() if store.path.is_dir() else []
    files = 0 if problems else len(store.read()[0].files)
    record = {"path": index, "files": files, "problems": problems}
    _show(record, rendering.verify_text(files, problems), as_json)
    if problems:
        raise typer.Exit(1)


@index_app.command()
def repair(
    index: o.Index = DEFAULT_INDEX,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Go on from the newest whole generation.

    For a collection whose newest manifest is damaged, which is read-only until then.

    \b
    Example:
      retr index repair --index docs.retr
    """
    console.listen(quiet, verbose)
    from .retrieval.store.store import Store

    store = Store(Path(index))
    whole = store.read()[0].generation
    repaired = store.repair().generation
    record = {"path": index, "generation": repaired, "from": whole}
    _show(record, f"generation {whole} goes on as generation {repaired}", as_json)


@index_app.command()
def tune(
    index: o.Index = DEFAULT_INDEX,
    queries: Annotated[
        OptionalText,
        value("--queries", "FILE", 'Queries to measure with; a line is {"_id": …, "text": …}.'),
    ] = None,
    qrels: Annotated[
        OptionalText,
        value("--qrels", "FILE", "Their judgments, to weigh vectors against words."),
    ] = None,
    recall: o.Recall = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Measure the indexes again, and weigh vectors against words on judged queries.

    For a collection whose documents have changed, or whose queries are known.

    \b
    Example:
      retr index tune --recall 0.98 --index docs.retr
      retr index tune --queries queries.jsonl --qrels qrels/test.tsv --index docs.retr
    """
    console.listen(quiet, verbose)
    from .retrieval import inputs, rendering
    from .retrieval.collection import open

    asked = None if queries is None else inputs.read_queries(queries)
    judged = None
    if qrels is not None:
        from .retrieval.evaluation import read_qrels

        judged = read_qrels(qrels)
    with open(index) as collection:
        report = collection.tune(asked, judged, recall=recall)
    _show(report, rendering.tune_text(report), as_json)


@index_app.command()
def compact(
    index: o.Index = DEFAULT_INDEX,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Merge the segments and drop deleted rows.

    \b
    Example:
      retr index compact --index docs.retr
    """
    console.listen(quiet, verbose)
    from .retrieval import rendering
    from .retrieval.collection import open

    with open(index) as collection:
        before = collection.info()
        collection.compact()
        after = collection.info()
    record = rendering.compact_record(before, after)
    _show(record, rendering.compact_text(record), as_json)


@index_app.command()
def vacuum(
    index: o.Index = DEFAULT_INDEX,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Remove files that are no longer needed.

    The last two generations keep theirs.

    \b
    Example:
      retr index vacuum --index docs.retr
    """
    console.listen(quiet, verbose)
    from .retrieval import rendering
    from .retrieval.collection import open

    with open(index) as collection:
        removed = collection.vacuum()
    _show({"removed": removed}, rendering.vacuum_text(removed), as_json)


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
    from .retrieval import inputs, rendering, runs

    inputs.check_run(run, queries, passages)
    if html is not None and run is not None:
        raise InputError("--html and --run are two ways to write hits: give one of them")
    parts = (image or (), without or (), weight or ())
    asked = inputs.choose_queries(query, queries, vector, *parts)
    only = None if ids is None else inputs.read_ids(ids)
    from .retrieval.collection import open
    from .retrieval.encoders.base import EncoderOptions

    options = None if device is None else EncoderOptions(device=device)
    how: SearchOptions = {"mode": mode, "where": where, "recall": recall, "ids": only}
    if rerank is not None:
        how |= {"rerank": rerank, "rerank_depth": rerank_depth}
    with open(index, encoder=encoder, options=options) as collection:
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
        command = typer.main.get_command(app)
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


@contextlib.contextmanager
def _resumable(index: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        from .retrieval.store.store import Store

        kept = "what was encoded is kept" if Store(Path(index)).exists() else "nothing is kept yet"
        console.say(f"interrupted: {kept}; run the same command again to go on")
        raise typer.Exit(console.INTERRUPTED) from None


def _report(collection: Collection, index: str, as_json: bool, quiet: bool, verbose: bool) -> None:
    from .retrieval import rendering

    report, info = collection.report, collection.info()
    if not quiet:
        for line in rendering.skips_lines(report, listed=verbose):
            console.say(line)
    _show(rendering.build_record(report, info), rendering.build_text(report, info), as_json)
    if not quiet and console.is_table(as_json):
        console.write(f"search it with: {rendering.next_command(index, DEFAULT_INDEX)}")


def _show(record: Mapping[str, Any], text: str, as_json: bool) -> None:
    console.write(text if console.is_table(as_json) else console.json_line(record))
