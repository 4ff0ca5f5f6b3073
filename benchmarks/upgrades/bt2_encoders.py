"""The encoders of BT²'s protocol: trained here, on the processor, to name the classes of images.

Digits get two dense layers; all other images a small convolutional network. What an image is
embedded as is what the last layer before the names sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...retrieval.bridges.maps import unit_rows
from ...retrieval.values.errors import missing_extra
from .bt2_data import Images, Labels

Floats = NDArray[np.float32]
Encode = Callable[[Images], Floats]

_BATCH = 64
_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a training is made of.

    width:  of the hidden layer, or of the first convolution; the next ones have twice and four
            times as many channels.
    dim:    of the embedding.
    images: how many are looked at, over all epochs.
    """

    width: int
    dim: int
    images: int
    rate: float = 3e-3


DENSE = Recipe(32, 16, 9_000), Recipe(128, 32, 54_000)
CONVOLUTIONAL = Recipe(16, 32, 30_000), Recipe(24, 64, 60_000)
"""Of the old and of the new encoder."""


def recipes(images: Images) -> tuple[Recipe, Recipe]:
    """Return how the old and the new encoder are trained."""
    return DENSE if images.shape[-1] == 1 else CONVOLUTIONAL


def trained(images: Images, labels: Labels, recipe: Recipe, seed: int) -> Encode:
    """Train a network to name the classes; return what takes images to unit vectors.

    images: u8[n, h, w, channels].
    labels: i64[n], any numbers.

    Raises:
        MissingExtraError: torch is not installed.
    """
    torch = _torch()
    torch.manual_seed(seed)
    kinds, numbers = np.unique(labels, return_inverse=True)
    height, channels = images.shape[1], images.shape[3]
    body = _dense(height, recipe) if channels == 1 else _convolutional(channels, recipe)
    head = torch.nn.Linear(recipe.dim, len(kinds))
    steps = max(1, recipe.images // min(_BATCH, len(images)))
    optimiser = torch.optim.AdamW([*body.parameters(), *head.parameters()], lr=recipe.rate)
    slower = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps)
    x, y = _ready(images), torch.from_numpy(numbers)
    random = np.random.default_rng(seed)
    for _ in range(steps):
        rows = torch.from_numpy(random.choice(len(x), min(_BATCH, len(x)), replace=False))
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(head(body(x[rows])), y[rows]).backward()
        optimiser.step()
        slower.step()
    body.eval()

    def encode(some: Images) -> Floats:
        with torch.no_grad():
            parts = [
                body(_ready(some[start : start + _AT_ONCE])).numpy()
                for start in range(0, len(some), _AT_ONCE)
            ]
        return unit_rows(np.concatenate(parts))

    return encode


def _ready(images: Images) -> Any:
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return _torch().from_numpy(planes).float() / 255 - 0.5


def _dense(side: int, recipe: Recipe) -> Any:
    nn = _torch().nn
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(side * side, recipe.width),
        nn.ReLU(),
        nn.Linear(recipe.width, recipe.dim),
    )


def _convolutional(channels: int, recipe: Recipe) -> Any:
    nn = _torch().nn
    layers: list[Any] = []
    wide = recipe.width
    for before, after in ((channels, wide), (wide, 2 * wide), (2 * wide, 4 * wide)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    pooled = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16 * wide, recipe.dim)]
    return nn.Sequential(*layers, *pooled)


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise missing_extra("training an encoder", "st") from None
    return torch
