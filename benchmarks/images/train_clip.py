"""A small CLIP, trained here: weights for tests and benchmarks where none can be downloaded.

The model, the loss and the tokenizer are open_clip's own, and the folder that comes out is an
ordinary one of open_clip's: `clip:FOLDER` opens it, and so does
`open_clip.create_model("local-dir:FOLDER")`. It knows the pictures it was trained on and little
else. Run as `python -m retr.benchmarks.images.train_clip twemoji FOLDER --out MODEL`, where FOLDER
holds images whose names are their captions, or with `karpathy` for a data set in Karpathy's split
format, of which the part `train` is used.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...retrieval.encoders.clip_finding import CONFIG, WEIGHTS
from ...retrieval.encoders.clip_preparation import Preparation
from ...retrieval.values.errors import InputError
from ...retrieval.values.images import SUFFIXES, UnreadableImageError, open_image
from ..environment import describe

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI's


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and what is said of it; each time it is seen one of the captions is drawn."""

    image: Path
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a training is made of; with one number of threads its results are the same again.

    size:          of the images, in pixels a side.
    patch:         a patch's side, in pixels.
    width, layers: of the image tower; the heads are 32 wide.
    text_width, text_layers: of the text tower.
    context:       tokens that are read; a caption of Flickr8k has 40 at most, most have 15.
    dim:           of the vectors.
    flip:          whether to mirror half of the images each time they are seen.
    """

    size: int = 64
    patch: int = 16
    width: int = 128
    layers: int = 4
    text_width: int = 128
    text_layers: int = 2
    context: int = 40
    dim: int = 128
    epochs: int = 14
    batch: int = 256
    rate: float = 2e-3
    decay: float = 0.05
    flip: bool = False
    seed: int = 0

    def model(self) -> dict[str, Any]:
        """Return open_clip's `model_cfg`."""
        return {
            "embed_dim": self.dim,
            "vision_cfg": {
                "image_size": self.size,
                "layers": self.layers,
                "width": self.width,
                "head_width": 32,
                "patch_size": self.patch,
            },
            "text_cfg": {
                "context_length": self.context,
                "vocab_size": 49408,
                "width": self.text_width,
                "heads": max(1, self.text_width // 32),
                "layers": self.text_layers,
            },
        }


def of_names(folder: Path) -> list[Pair]:
    """Return the images of a folder, each with its name as the caption."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return [Pair(path, (path.stem.replace("_", " "),)) for path in paths]


def of_karpathy(folder: Path, split: str = "train") -> list[Pair]:
    """Return a part of a data set whose folder holds one `dataset*.json` and the images."""
    found = sorted(folder.glob("dataset*.json"))
    if len(found) != 1:
        raise InputError(f"{folder}: has {len(found)} files dataset*.json; it needs one")
    listed = json.loads(found[0].read_text("utf-8"))["images"]
    return [
        Pair(
            folder / image.get("filepath", "images") / image["filename"],
            tuple(sentence["raw"].strip() for sentence in image["sentences"]),
        )
        for image in listed
        if image["split"] == split
    ]


def train(
    pairs: Sequence[Pair],
    out: Path,
    recipe: Recipe = Recipe(),
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Train a model on pairs and save it; return `out`, the folder of the model.

    Images that cannot be read are left out.

    Raises:
        InputError: there are fewer than two pairs.
    """
    import numpy as np
    import open_clip
    import torch

    torch.manual_seed(recipe.seed)
    draw = random.Random(recipe.seed)
    images, captions = _read(pairs, Preparation(recipe.size, recipe.size))
    if len(images) < 2:
        raise InputError(f"there are {len(images)} images that can be read; train on more")
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(each).reshape(1, 3, 1, 1) for each in (MEAN, STD))
    tokenizer = open_clip.SimpleTokenizer(context_length=recipe.context)
    tokens = [tokenizer(list(each)) for each in captions]

    model = open_clip.CLIP(**recipe.model()).train()
    loss_of = open_clip.ClipLoss()
    steps = math.ceil(len(images) / recipe.batch)
    optimizer = torch.optim.AdamW(
        _groups(model, recipe.decay), lr=recipe.rate, betas=(0.9, 0.98), eps=1e-6
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=steps * recipe.epochs, pct_start=0.15
    )
    start = time.monotonic()
    for epoch in range(recipe.epochs):
        order = list(range(len(images)))
        draw.shuffle(order)
        losses = []
        for step in range(steps):
            chosen = order[step::steps]
            batch = (pixels[chosen].float().div_(255) - mean) / std
            if recipe.flip:
                mirrored = torch.tensor([draw.random() < 0.5 for _ in chosen])
                batch[mirrored] = batch[mirrored].flip(3)
            texts = torch.stack([draw.choice(tokens[one]) for one in chosen])
            seen, read, scale = model(batch, texts)[:3]
            loss = loss_of(seen, read, scale)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            with torch.no_grad():  # as in CLIP: a scale of at most 100
                model.logit_scale.clamp_(0, math.log(100))
            losses.append(loss.item())
        seconds = time.monotonic() - start
        say(f"epoch {epoch + 1}: loss {sum(losses) / len(losses):.3f}, {seconds:.0f} s")
    return save(model, recipe, out, {"images": len(images), "seconds": round(seconds, 1)})


def save(model: Any, recipe: Recipe, out: Path, made: dict[str, Any]) -> Path:
    """Write a model as open_clip does, and `training.json` with how it was made."""
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, out / WEIGHTS[0])
    preparation = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    config = {"model_cfg": recipe.model(), "preprocess_cfg": preparation}
    (out / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    training = {"recipe": asdict(recipe), **made, "environment": describe()}
    (out / "training.json").write_text(json.dumps(training, indent=2) + "\n")
    return out


def main(arguments: list[str] | None = None) -> None:
    """Train on the pairs that the command line names."""
    defaults = Recipe()
    parser = argparse.ArgumentParser(prog="python -m retr.benchmarks.images.train_clip")
    parser.add_argument("kind", choices=("twemoji", "karpathy"), help="what FOLDER holds")
    parser.add_argument("folder", type=Path, help="of the images, or of dataset*.json")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the model")
    parser.add_argument("--epochs", type=int, default=defaults.epochs)
    parser.add_argument("--batch", type=int, default=defaults.batch)
    parser.add_argument("--rate", type=float, default=defaults.rate)
    parser.add_argument("--patch", type=int, default=defaults.patch, help="pixels a side")
    parser.add_argument("--context", type=int, default=defaults.context, help="tokens read")
    parser.add_argument("--flip", action="store_true", help="mirror half of the images")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    given = parser.parse_args(arguments)
    pairs = of_names(given.folder) if given.kind == "twemoji" else of_karpathy(given.folder)
    recipe = Recipe(
        epochs=given.epochs,
        batch=given.batch,
        rate=given.rate,
        patch=given.patch,
        context=given.context,
        flip=given.flip,
        seed=given.seed,
    )
    train(pairs, given.out, recipe, lambda line: print(line, file=sys.stderr, flush=True))
    print(f"clip:{given.out.resolve()}")


def _read(pairs: Sequence[Pair], prepare: Preparation) -> tuple[list[Any], list[tuple[str, ...]]]:
    images, captions = [], []
    for pair in pairs:
        try:
            images.append(prepare(open_image(pair.image)))
        except UnreadableImageError as error:
            print(f"{pair.image}: {error.reason}", file=sys.stderr)
            continue
        captions.append(pair.captions)
    return images, captions


def _groups(model: Any, decay: float) -> list[dict[str, Any]]:
    """Return the parameters with and without weight decay, as open_clip's training has them."""
    parts = list(model.named_parameters())
    free = [p for n, p in parts if p.ndim < 2 or "bias" in n or "logit_scale" in n]
    bound = [p for n, p in parts if not (p.ndim < 2 or "bias" in n or "logit_scale" in n)]
    return [{"params": free, "weight_decay": 0.0}, {"params": bound, "weight_decay": decay}]


if __name__ == "__main__":
    main()
