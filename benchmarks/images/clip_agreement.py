"""A clip: encoder beside open_clip itself: the vectors, and the recalls of what is found.

    python -m retr.benchmarks.images.clip_agreement MODEL DATA [--spec hnsw] [--out FILE]

open_clip encodes one image after another by its own transforms and its own tokenizer, and a plain
matrix product ranks them; retr encodes through its processes, into collections, and searches those.
MODEL is a folder of open_clip's, and DATA a data set with Karpathy's `dataset_*.json`, or a folder
of images whose names are their captions.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...retrieval.encoders import resolve
from ...retrieval.encoders.base import ImageEncoder
from ...retrieval.values.images import open_image
from ...retrieval.writing.image_pipeline import Unreadable, encode_stream
from ..study import Result, Study
from ..tables import Table
from . import suite as coco
from .crossmodal import CUTOFFS, RECALL_HEADINGS, Recalls, found_by_matrix, recalls, shares
from .data import CaptionSet, read
from .train_clip import of_names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def compare(model: Path, dataset: str, split: str, spec: str | None, cache: Path) -> dict[str, Any]:
    """Return how far vectors and recalls of retr are from open_clip's own."""
    import numpy as np

    data = read(dataset, cache, split=split)
    encoder = resolve(f"clip:{model}")
    if not isinstance(encoder, ImageEncoder):
        raise TypeError(f"{model} gave {encoder}")
    seen, said = own_vectors(model, data)
    streamed = [made for _, made in encode_stream(encoder, enumerate(data.paths))]
    ours = np.stack([made for made in streamed if not isinstance(made, Unreadable)])
    texts = encoder.encode_queries(data.captions)
    plain = recalls(
        found_by_matrix(said, seen, coco.K), found_by_matrix(seen, said, coco.K), data.image_of
    )
    result = coco.run(
        dataset, cache / "out", encoder=encoder, spec=spec, cache=cache, split=split, progress=False
    )
    return {
        "data": {"name": data.name, "split": data.split, "images": len(data.paths),
                 "captions": len(data.captions)},
        "largest_difference": {
            "images": float(np.abs(ours - seen).max()),
            "texts": float(np.abs(texts - said).max()),
        },
        "open_clip": {"text_to_image": plain.text_to_image, "image_to_text": plain.image_to_text},
        "retr": [
            {"system": row["system"], **row["recalls"], "nearest": row["nearest"]}
            for row in result["rows"]
        ],
        "largest_difference_of_recall": max(
            _difference(Recalls(**row["recalls"]), plain) for row in result["rows"]
        ),
    }  # fmt: skip


def own_vectors(model: Path, data: CaptionSet) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return f32[images, dim] and f32[captions, dim] of unit length, by open_clip alone."""
    import open_clip
    import torch

    name = f"local-dir:{model}"
    own, _, transform = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name)
    own.eval()
    seen, said = [], []
    with torch.inference_mode():
        for start in range(0, len(data.paths), 32):
            images = [transform(open_image(path)) for path in data.paths[start : start + 32]]
            seen.append(own.encode_image(torch.stack(images), normalize=True))
        for start in range(0, len(data.captions), 64):
            tokens = tokenizer(list(data.captions[start : start + 64]))
            said.append(own.encode_text(tokens, normalize=True))
    return torch.cat(seen).numpy(), torch.cat(said).numpy()


def list_of_names(folder: Path, into: Path) -> Path:
    """Write a list of the images of a folder, with their names as captions; return its folder."""
    into.mkdir(parents=True)
    (into / "images").symlink_to(folder.resolve(), target_is_directory=True)
    pairs = of_names(folder)
    listed = [{"image": pair.image.name, "caption": list(pair.captions)} for pair in pairs]
    (into / f"{folder.parent.name}_test.json").write_text(json.dumps(listed))
    return into


def tables(result: Result) -> Iterator[Table]:
    """Yield the recalls of both, with the largest differences of vectors below."""
    data, vectors = result["data"], result["largest_difference"]
    rows = [
        ["open_clip, matrix product", *shares(result["open_clip"])],
        *([f"retr, {row['system']}", *shares(row)] for row in result["retr"]),
    ]
    title = (
        f"{data['name']}, {data['split']}: {data['images']:,} images, "
        f"{data['captions']:,} captions; of images by captions and of captions by images, in "
        "per cent"
    )
    note = f"Vectors: images within {vectors['images']:.1e}, texts within {vectors['texts']:.1e}."
    yield Table(["", *RECALL_HEADINGS], rows, title, [note])


def _difference(one: Recalls, other: Recalls) -> float:
    pairs = ((one.text_to_image, other.text_to_image), (one.image_to_text, other.image_to_text))
    return max(abs(a[k] - b[k]) for a, b in pairs for k in CUTOFFS)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--spec", help="also through indexes of this spec")


def _measure(given: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        listed = given.data.is_file() or any(given.data.glob("*.json"))
        data = given.data if listed else list_of_names(given.data, Path(temporary) / "data")
        cache = Path(temporary) / "cache"
        return compare(given.model, str(data), given.split, given.spec, cache)


STUDY = Study(
    "images.clip_agreement",
    __doc__,
    _arguments,
    _measure,
    tables,
    run=lambda result: f"{result['data']['name']}, {result['data']['split']}",
)

if __name__ == "__main__":
    STUDY.main()
