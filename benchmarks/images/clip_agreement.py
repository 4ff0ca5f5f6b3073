"""A clip: encoder beside open_clip itself: the vectors, and the recalls of what is found.

open_clip encodes one image after another by its own transforms and its own tokenizer, and a plain
matrix product ranks them; retr encodes through its processes, into collections, and searches those.
Run as `python -m retr.benchmarks.images.clip_agreement MODEL DATA`, where MODEL is a folder of
open_clip's and DATA a data set with Karpathy's `dataset_*.json`, or a folder of images with
captions as names.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...retrieval.encoders import resolve
from ...retrieval.encoders.base import ImageEncoder
from ...retrieval.values.images import open_image
from ...retrieval.writing.image_pipeline import Unreadable, encode_stream
from ..environment import describe
from . import suite as coco
from .crossmodal import CUTOFFS, Recalls, found_by_matrix, recalls
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
        "environment": describe(),
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


def table(result: dict[str, Any]) -> str:
    """Return what was compared as text."""
    data, vectors = result["data"], result["largest_difference"]
    numbers = f"{data['images']:,} images, {data['captions']:,} captions"
    lines = [
        f"{data['name']}, {data['split']}: {numbers}",
        f"vectors: images within {vectors['images']:.1e}, texts within {vectors['texts']:.1e}",
        f"{'':24}{'text to image':>24}{'image to text':>24}",
        f"{'R@k in per cent':24}" + "".join(f"{f'R@{k}':>8}" for k in CUTOFFS) * 2,
    ]
    for name, each in [
        ("open_clip, matrix", result["open_clip"]),
        *((f"retr, {row['system']}", row) for row in result["retr"]),
    ]:
        shares = [each[way][k] for way in ("text_to_image", "image_to_text") for k in CUTOFFS]
        lines.append(f"{name:24}" + "".join(f"{100 * share:8.2f}" for share in shares))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Compare and print; `--out` keeps the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m retr.benchmarks.images.clip_agreement")
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--spec", help="also through indexes of this spec")
    parser.add_argument("--out", type=Path, help="where to keep the figures")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        listed = given.data.is_file() or any(given.data.glob("*.json"))
        data = given.data if listed else list_of_names(given.data, Path(temporary) / "data")
        cache = Path(temporary) / "cache"
        result = compare(given.model, str(data), given.split, given.spec, cache)
    print(table(result))
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n")


def _difference(one: Recalls, other: Recalls) -> float:
    pairs = ((one.text_to_image, other.text_to_image), (one.image_to_text, other.image_to_text))
    return max(abs(a[k] - b[k]) for a, b in pairs for k in CUTOFFS)


if __name__ == "__main__":
    main()
