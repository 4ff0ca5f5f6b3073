"""`retr index`: build a collection, change it, maintain it; parse, call, print."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import console
from . import options as o
from .options import DEFAULT_INDEX, OptionalText, argument, value

if TYPE_CHECKING:
    from ..retrieval.collection import Collection

app = typer.Typer(**o.SETTINGS)


@app.callback()
def index(context: typer.Context) -> None:
    """Build a collection, change it, maintain it.

    \b
    Example:
      retr index build docs --index docs.retr
    """
    if context.invoked_subcommand is None:
        console.write(context.get_help())


@app.command()
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
    """Build a collection from SOURCE, or bring it up to date.

    Unchanged documents are not encoded again; documents that have vanished from SOURCE are
    deleted. If it is interrupted, run the same command again to continue.

    \b
    Example:
      retr index build docs --index docs.retr
      retr index build papers.jsonl --id doi --text title --text abstract
      retr index build . --include '*.md' --exclude drafts/
      retr index build docs --encoder st:sentence-transformers/all-MiniLM-L6-v2
    """
    console.listen(quiet, verbose)
    from ..retrieval.build import build
    from ..retrieval.encoders.base import EncoderOptions

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


@app.command()
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
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Add the documents of SOURCE, replacing those with the same id.

    Unlike build, it deletes nothing, and the collection must exist.

    \b
    Example:
      retr index add notes.md --index docs.retr
      echo '{"id": "n1", "text": "a note"}' | retr index add - --index docs.retr
    """
    console.listen(quiet, verbose)
    from ..retrieval.collection import open

    options = o.source_options(
        id, text, title, vector, image, images, ids, include, exclude, format
    )
    with _resumable(index), open(index, device=device) as collection:
        collection.add(
            source, options=options, passages=passages, size=passage_size, progress=not quiet
        )
    _report(collection, index, as_json, quiet, verbose)


@app.command()
def delete(
    id: Annotated[o.Texts, argument("ID...", "The ids of the documents to delete.")] = None,
    ids: Annotated[
        OptionalText, value("--ids", "FILE", "A file with one id a line; - for standard input.")
    ] = None,
    index: o.Index = DEFAULT_INDEX,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Delete documents by their ids.

    Unknown ids are counted and skipped.

    \b
    Example:
      retr index delete docs/old.md docs/older.md --index docs.retr
      retr index delete --ids gone.txt
    """
    console.listen(quiet, verbose)
    from ..retrieval.collection import open
    from . import inputs, rendering

    wanted = inputs.choose_ids(id or [], ids)
    with open(index) as collection:
        deleted = collection.delete(wanted)
    record = {"deleted": deleted, "unknown": len(set(wanted)) - deleted}
    console.show(record, rendering.deleted_text(**record), as_json)


@app.command()
def info(
    index: o.Index = DEFAULT_INDEX,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Show what a collection holds: counts, sizes, encoder, settings and segments.

    \b
    Example:
      retr index info --index docs.retr
    """
    console.listen(quiet, verbose)
    from ..retrieval.collection import open
    from . import rendering

    with open(index) as collection:
        known = collection.info()
    console.show(known, rendering.info_text(known), as_json)


@app.command()
def verify(
    index: o.Index = DEFAULT_INDEX,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Check every file against its checksum.

    The exit code is 1 if a file is not what was written.

    \b
    Example:
      retr index verify --index docs.retr
    """
    console.listen(quiet, verbose)
    from ..retrieval.store.store import Store
    from . import rendering

    # Not through the collection: one that cannot be opened has to be verified too.
    store = Store(Path(index))
    problems = store.verify() if store.path.is_dir() else []
    files = 0 if problems else len(store.read()[0].files)
    record = {"path": index, "files": files, "problems": problems}
    console.show(record, rendering.verify_text(files, problems), as_json)
    if problems:
        raise typer.Exit(1)


@app.command()
def repair(
    index: o.Index = DEFAULT_INDEX,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Recover from a damaged manifest: continue from the newest whole generation.

    A collection whose newest manifest is damaged is read-only until then.

    \b
    Example:
      retr index repair --index docs.retr
    """
    console.listen(quiet, verbose)
    from ..retrieval.store.store import Store

    store = Store(Path(index))
    whole = store.read()[0].generation
    repaired = store.repair().generation
    record = {"path": index, "generation": repaired, "from": whole}
    console.show(record, f"generation {whole} continues as generation {repaired}", as_json)


@app.command()
def tune(
    index: o.Index = DEFAULT_INDEX,
    queries: Annotated[
        OptionalText,
        value("--queries", "FILE", 'Queries to measure with; a line is {"_id": …, "text": …}.'),
    ] = None,
    qrels: Annotated[
        OptionalText,
        value("--qrels", "FILE", "Judgments of these queries, to weigh vectors against words."),
    ] = None,
    recall: o.Recall = None,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Re-measure the indexes, and weigh vectors against words on judged queries.

    Useful when documents have changed, or when you have queries like the ones users ask.

    \b
    Example:
      retr index tune --recall 0.98 --index docs.retr
      retr index tune --queries queries.jsonl --qrels qrels/test.tsv --index docs.retr
    """
    console.listen(quiet, verbose)
    from ..retrieval.collection import open
    from . import inputs, rendering

    asked = None if queries is None else inputs.choose_queries(None, queries, None)
    judged = None
    if qrels is not None:
        from ..retrieval.evaluation import read_qrels

        judged = read_qrels(qrels)
    with open(index, device=device) as collection:
        report = collection.tune(asked, judged, recall=recall)
    console.show(report, rendering.tune_text(report), as_json)


@app.command()
def compact(
    index: o.Index = DEFAULT_INDEX,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Merge segments and drop deleted rows.

    \b
    Example:
      retr index compact --index docs.retr
    """
    console.listen(quiet, verbose)
    from ..retrieval.collection import open
    from . import rendering

    with open(index, device=device) as collection:
        before = collection.info()
        collection.compact()
        after = collection.info()
    record = rendering.compact_record(before, after)
    console.show(record, rendering.compact_text(record), as_json)


@app.command()
def vacuum(
    index: o.Index = DEFAULT_INDEX,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Remove files that are no longer needed.

    The files of the last two generations stay.

    \b
    Example:
      retr index vacuum --index docs.retr
    """
    console.listen(quiet, verbose)
    from ..retrieval.collection import open
    from . import rendering

    with open(index) as collection:
        removed = collection.vacuum()
    console.show({"removed": removed}, rendering.vacuum_text(removed), as_json)


def _resumable(index: str) -> contextlib.AbstractContextManager[None]:
    def kept() -> str:
        from ..retrieval.store.store import Store

        return "what was encoded is kept" if Store(Path(index)).exists() else "nothing is kept yet"

    return console.resumable(kept)


def _report(collection: Collection, index: str, as_json: bool, quiet: bool, verbose: bool) -> None:
    from . import rendering

    report, info = collection.report, collection.info()
    if not quiet:
        for line in rendering.skips_lines(report, listed=verbose):
            console.say(line)
    console.show(rendering.build_record(report, info), rendering.build_text(report, info), as_json)
    if not quiet and console.is_table(as_json):
        console.write(f"search it with: {rendering.next_command(index, DEFAULT_INDEX)}")
