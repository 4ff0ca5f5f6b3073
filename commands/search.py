"""`retr search`: the hits for a query, or for many; parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from ..retrieval.values.errors import InputError
from . import console
from . import options as o
from .options import DEFAULT_INDEX, OptionalText, argument, flag, value

if TYPE_CHECKING:
    from ..retrieval.search.options import SearchOptions


def search(
    query: Annotated[OptionalText, argument("QUERY", "What to look for, in words.")] = None,
    index: o.Index = DEFAULT_INDEX,
    k: Annotated[int, value("-k", "N", "How many hits (default: 10).")] = 10,
    passages: Annotated[
        bool, flag("--passages", "Allow several passages of one document among the hits.")
    ] = False,
    mode: Annotated[
        OptionalText,
        value(
            "--mode",
            "MODE",
            "hybrid: by meaning and by words (default); dense: by meaning; lexical: by words.",
        ),
    ] = None,
    explain: Annotated[bool, flag("--explain", "Show why each hit was found.")] = False,
    rerank: Annotated[
        OptionalText,
        value("--rerank", "NAME", "Reorder the first hits with this cross-encoder."),
    ] = None,
    rerank_depth: Annotated[
        int, value("--rerank-depth", "N", "How many hits to rerank (default: 50).")
    ] = 50,
    where: Annotated[
        OptionalText,
        value(
            "--where",
            "SQL",
            "Search only documents that match, such as \"year >= 2020 and lang = 'en'\".",
        ),
    ] = None,
    recall: o.Recall = None,
    ids: Annotated[
        OptionalText, value("--ids", "FILE", "Search only the documents whose ids are in FILE.")
    ] = None,
    queries: Annotated[
        OptionalText,
        value(
            "--queries",
            "FILE",
            'A file of queries; a line is {"_id": …, "text": …}, or an id, a tab and a text.',
        ),
    ] = None,
    run: Annotated[
        OptionalText, value("--run", "FILE", "Write the hits for --queries as a TREC run.")
    ] = None,
    tag: Annotated[str, value("--tag", "TAG", "The name of the run (default: retr).")] = "retr",
    vector: Annotated[
        OptionalText, value("--vector", "FILE", "The query as a vector, in a .npy file.")
    ] = None,
    image: Annotated[
        o.Texts, value("--image", "FILE", "An image to look for, with words or alone.")
    ] = None,
    without: Annotated[
        o.Texts, value("--without", "TEXT", "What to avoid; goes with words or an image.")
    ] = None,
    weight: Annotated[
        o.Texts,
        value(
            "--weight",
            "PART=W",
            "Weight of text, image or without (default: 1, 1 and 0.5).",
        ),
    ] = None,
    html: Annotated[
        OptionalText, value("--html", "FILE", "Write the hits as a web page with their images.")
    ] = None,
    thumbnails: Annotated[
        bool | None,
        flag(
            "--thumbnails/--no-thumbnails",
            "Show images among the hits (default: if the terminal can).",
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

    A document is one hit, by its best passage, unless --passages is given. FILE can be - for
    standard input or output, except with --vector.

    \b
    Example:
      retr search "how do I delete a document?" --index docs.retr -k 5
      retr search "cold start" --json | jq -r .uri
      retr search --queries queries.jsonl --run out.trec -k 1000 --index papers.retr
      retr search "cold start" --rerank cross-encoder/ms-marco-MiniLM-L6-v2
      retr search "at night" --image beach.jpg --without people --html hits.html
    """
    console.listen(quiet, verbose)
    from . import hits, inputs, runs

    inputs.check_run(run, queries, passages)
    if html is not None and run is not None:
        raise InputError("--html and --run are two ways to write the hits: give only one of them")
    parts = (image or (), without or (), weight or ())
    asked = inputs.choose_queries(query, queries, vector, *parts)
    only = None if ids is None else inputs.choose_ids([], ids)
    from ..retrieval.collection import open

    how: SearchOptions = {"mode": mode, "where": where, "recall": recall, "ids": only}
    if rerank is not None:
        how |= {"rerank": rerank, "rerank_depth": rerank_depth}
    with open(index, encoder=encoder, device=device) as collection:
        if run is None:
            how |= {"passages": passages, "explain": explain}
            answers = runs.answers(collection, asked, k, **how)
            if html is not None:
                hits.write_gallery(answers, html, quiet)
                return
            table = console.is_table(as_json)
            hits.print_results(
                answers,
                len(collection),
                table=table,
                quiet=quiet,
                passages=collection.has_passages,
                thumbnails=hits.choose_thumbnails(thumbnails, table),
            )
            return
        report = runs.write_run(collection, asked, k, run, tag, **how)
    if not quiet:
        from . import rendering

        console.say(rendering.run_text(report, run))
