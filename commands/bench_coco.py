"""The command `retr bench coco`: parse, call, print. `commands.py` mounts it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..retrieval.values.shown import plain
from . import console


def _option(*names: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, show_default=False)


def coco(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET",
            show_default=False,
            help="coco (downloaded if it is not there, if not given), flickr30k, or a folder with "
            "images and Karpathy's dataset_*.json.",
        ),
    ] = "coco",
    encoder: Annotated[
        str | None,
        _option(
            "--encoder",
            metavar="NAME",
            help="What makes the vectors; clip:ViT-B-32/laion2b_s34b_b79k if not given.",
        ),
    ] = None,
    spec: Annotated[
        str | None,
        _option("--spec", metavar="SPEC", help="Also search with this index; say what it loses."),
    ] = None,
    fold: Annotated[
        int | None,
        _option(
            "--fold",
            metavar="N",
            help="Also give the mean over folds of N images; 1000 for coco if not given.",
        ),
    ] = None,
    split: Annotated[
        str, _option("--split", metavar="NAME", help="The part of the data; test if not given.")
    ] = "test",
    data: Annotated[
        Path | None,
        _option(
            "--data",
            metavar="DIR",
            help="Where data sets lie or are downloaded to; else the user's cache folder.",
        ),
    ] = None,
    out: Annotated[
        Path, _option("--out", metavar="DIR", help="Where results go; retr-coco if not given.")
    ] = Path("retr-coco"),
    cache: Annotated[
        Path | None,
        _option(
            "--cache",
            metavar="DIR",
            help="Where collections are kept between runs; else the user's cache folder.",
        ),
    ] = None,
    query_prompt: Annotated[
        str | None, _option("--query-prompt", metavar="TEXT", help="Put before each caption.")
    ] = None,
    revision: Annotated[
        str | None, _option("--revision", metavar="REV", help="The model's branch, tag or commit.")
    ] = None,
    device: Annotated[
        str | None, _option("--device", metavar="DEVICE", help="Where to encode: cpu, cuda, ….")
    ] = None,
    as_json: Annotated[
        bool, _option("--json", help="Print JSON, one object a line, on a terminal too.")
    ] = False,
    quiet: Annotated[bool, _option("--quiet", "-q", help="Print results and errors only.")] = False,
    verbose: Annotated[bool, _option("--verbose", "-v", help="Say what is done.")] = False,
) -> None:
    """Find images by captions and captions by images, by the protocol of COCO and Flickr30k.

    R@1, R@5 and R@10 in both directions through collections of the images and of the captions,
    with published figures of the same model beside. The vectors are kept, so the same command
    goes on where an interrupted one stopped.

    \b
    Example:
      retr bench coco --encoder clip:ViT-B-32/openai --spec hnsw
      retr bench coco ./flickr8k --encoder clip:./my-model --split val
    """
    console.listen(quiet, verbose)
    from ..benchmarks.images import suite as benchmark
    from ..retrieval.encoders.base import EncoderOptions

    options = EncoderOptions(
        query_prompt=query_prompt,
        document_prompt=query_prompt,
        revision=revision,
        device=device,
    )
    try:
        result = benchmark.run(
            dataset,
            out,
            encoder=encoder or benchmark.DEFAULT_ENCODER,
            options=options,
            spec=spec,
            fold=fold,
            data=data,
            cache=cache,
            split=split,
            progress=not quiet,
        )
    except KeyboardInterrupt:
        console.say("interrupted: what is done is kept; run the same command again to go on")
        raise typer.Exit(130) from None
    if not console.is_table(as_json):
        for record in benchmark.records(result):
            console.write(console.json_line(record))
        return
    for line in benchmark.table(result).split("\n"):
        # Names are anyone's: nothing of them may command the terminal.
        console.write(plain(line))
