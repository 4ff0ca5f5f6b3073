"""`retr bench coco`; `bench.py` mounts it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from . import console
from . import options as o
from .options import argument, value


def coco(
    dataset: Annotated[
        str,
        argument(
            "DATASET",
            "coco (default; downloaded if it is missing), flickr30k, or a folder with images and "
            "Karpathy's dataset_*.json.",
        ),
    ] = "coco",
    encoder: Annotated[
        str | None,
        value(
            "--encoder",
            "NAME",
            "What makes the vectors (default: clip:ViT-B-32/laion2b_s34b_b79k).",
        ),
    ] = None,
    spec: o.AlsoSpec = None,
    fold: Annotated[
        int | None,
        value(
            "--fold", "N", "Also report the mean over folds of N images (default: 1000 for coco)."
        ),
    ] = None,
    split: Annotated[
        str, value("--split", "NAME", "Which part of the data to use (default: test).")
    ] = "test",
    data: o.Data = None,
    out: Annotated[Path, o.out("retr-coco")] = Path("retr-coco"),
    cache: o.Cache = None,
    query_prompt: o.QueryPrompt = None,
    revision: o.Revision = None,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
) -> None:
    """Find images by captions and captions by images, by the protocol of COCO and Flickr30k.

    Reports R@1, R@5 and R@10 in both directions, beside published figures of the same model.
    Vectors are kept: if it is interrupted, run the same command to continue.

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
    with console.resumable():
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
    if not console.is_table(as_json):
        for record in benchmark.records(result):
            console.write(console.json_line(record))
        return
    console.write_lines(benchmark.table(result).text())
