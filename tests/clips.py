"""Small CLIPs for tests: with random weights, as files of every kind, and one that was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

COLOURS = {
    "red": (214, 40, 40),
    "green": (46, 160, 67),
    "blue": (40, 80, 200),
    "yellow": (240, 200, 40),
    "black": (20, 20, 20),
    "purple": (130, 60, 170),
}
GROUNDS = {"white": (250, 250, 250), "grey": (150, 150, 150), "pink": (250, 190, 200)}
SHAPES = ("circle", "square", "triangle", "cross")

TINY: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {
        "image_size": 32,
        "layers": 2,
        "width": 32,
        "head_width": 16,
        "patch_size": 8,
    },
    "text_cfg": {
        "context_length": 40,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 2,
    },
}
OPENAI = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def picture(shape: str, colour: str, ground: str, size: int = 48) -> Image.Image:
    """Return a picture of one thing, such as a red circle on white."""
    image = Image.new("RGB", (size, size), GROUNDS[ground])
    draw, low, high = ImageDraw.Draw(image), size // 5, size - size // 5
    middle, fill = size // 2, COLOURS[colour]
    if shape == "circle":
        draw.ellipse((low, low, high, high), fill=fill)
    elif shape == "square":
        draw.rectangle((low, low, high, high), fill=fill)
    elif shape == "triangle":
        draw.polygon(((middle, low), (high, high), (low, high)), fill=fill)
    else:
        draw.line((middle, low, middle, high), fill=fill, width=size // 8)
        draw.line((low, middle, high, middle), fill=fill, width=size // 8)
    return image


def write_pictures(folder: Path) -> dict[str, str]:
    """Write a picture of each shape, colour and ground; return the caption of each file's name."""
    folder.mkdir(parents=True, exist_ok=True)
    captions = {}
    for shape in SHAPES:
        for colour in COLOURS:
            for ground in GROUNDS:
                caption = f"a {colour} {shape} on {ground}"
                picture(shape, colour, ground).save(folder / f"{caption}.png")
                captions[f"{caption}.png"] = caption
    return captions


def tiny_model(seed: int = 0, quick_gelu: bool = False, **parts: Any) -> tuple[Any, dict[str, Any]]:
    """Return a model of open_clip's with random weights, and its `model_cfg`."""
    import open_clip
    import torch

    config = {**TINY, **parts}
    if quick_gelu:
        config["quick_gelu"] = True
    torch.manual_seed(seed)
    model = open_clip.CLIP(**config)
    with torch.no_grad():  # as large as trained ones, or the activation would hardly matter
        for name, value in model.named_parameters():
            if value.ndim > 1:
                value.mul_(3 if "embedding" not in name else 10)
    return model.eval(), config


def write_folder(
    folder: Path, seed: int = 0, preparation: dict[str, Any] | None = None, **parts: Any
) -> Path:
    """Write a tiny model as open_clip keeps one on the hub."""
    from safetensors.torch import save_file

    model, config = tiny_model(seed, **parts)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    written = {"model_cfg": config, "preprocess_cfg": preparation or OPENAI}
    (folder / "open_clip_config.json").write_text(json.dumps(written))
    return folder
