"""BT²'s protocol on labelled images: an old encoder of half the classes, a new one of all.

`python -m retr.benchmarks.bt2 [--out FILE]` runs it on scikit-learn's digits. Gallery and queries
are the images left out of training; a query's own image is removed; CMC-1 and CMC-5 (whether one of
the first 1 or 5 has the query's label) and mAP are means over the queries. "x/y": queries by x,
gallery by y. Both encoders are frozen, so new/new is that of independent training by construction;
what is asked is how much of it new/old has. The published table is of CIFAR-100 with encoders that
were trained together, so it stands beside, not against.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..retrieval.errors import InputError, missing_extra
from ..retrieval.evaluation.measures import text_table
from ..retrieval.upgrade.bridge import dilate
from ..retrieval.upgrade.choose import choose_forward, mapped_scores
from ..retrieval.upgrade.fits import procrustes
from ..retrieval.upgrade.gradient import fit_mlp, refine
from ..retrieval.upgrade.maps import Linear, unit_rows
from ..retrieval.upgrade.pairs import Pairs
from . import environment

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

PUBLISHED = {
    "old/old": (33.6, 55.4, 24.4),
    "BT², new/old": (38.7, 64.6, 27.7),
    "BT², new/new": (62.4, 75.1, 50.5),
    "independent, new/new": (62.7, 74.6, 49.9),
}
"""CMC-1, CMC-5 and mAP on CIFAR-100, in percent (Zhou et al., ICCV 2023)."""


def retrieval(scores: Floats, labels: Labels) -> tuple[float, float, float]:
    """Return CMC-1, CMC-5 and mAP of images that search each other, in percent.

    scores: f32[n, n], row i for query i; its own image is not counted.
    labels: i64[n]; a query whose label no other image has counts 0.
    """
    n = len(labels)
    scores = scores.copy()
    np.fill_diagonal(scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, : n - 1]
    right = labels[order] == labels[:, None]
    ranks = np.arange(1, n)
    precision = np.cumsum(right, axis=1) / ranks
    total = right.sum(axis=1)
    average = (precision * right).sum(axis=1) / np.maximum(total, 1)
    return (
        100 * float(right[:, 0].mean()),
        100 * float(right[:, :5].any(axis=1).mean()),
        100 * float(average.mean()),
    )


def run(seeds: int = 5) -> dict[str, Any]:
    """Train and measure on digits; return plain values: means and deviations over the seeds."""
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(seeds):
        for name, values in _once(seed).items():
            rows.setdefault(name, []).append(values)
    return {
        "dataset": "scikit-learn digits, 10 classes, 1,797 images, half of them left out",
        "environment": environment.describe(),
        "seeds": seeds,
        "rows": {
            name: {"mean": np.mean(v, axis=0).tolist(), "deviation": np.std(v, axis=0).tolist()}
            for name, v in rows.items()
        },
        "published": PUBLISHED,
    }


def table(result: Mapping[str, Any]) -> str:
    """Return the figures as plain text, the published ones below."""
    rows = [["", "CMC-1", "CMC-5", "mAP"]]
    for name, values in result["rows"].items():
        both = zip(values["mean"], values["deviation"], strict=True)
        rows.append([name, *(f"{mean:.1f} ± {deviation:.1f}" for mean, deviation in both)])
    rows.append(["published, CIFAR-100:", "", "", ""])
    rows += [[name, *map(str, values)] for name, values in result["published"].items()]
    return text_table(rows)


def _once(seed: int) -> dict[str, tuple[float, float, float]]:
    images, labels = _digits()
    order = np.random.default_rng(seed).permutation(len(labels))
    train, test = order[: len(order) // 2], order[len(order) // 2 :]
    seen = train[labels[train] < 5]
    old = _trained(images[seen], labels[seen], hidden=32, dim=16, epochs=20, seed=seed)
    new = _trained(images[train], labels[train], hidden=128, dim=32, epochs=60, seed=seed + 100)
    y, x, kinds = old(images[train]), new(images[train]), labels[train]
    gallery, queries, truth = old(images[test]), new(images[test]), labels[test]

    closed = procrustes(x, y)
    dilation = dilate(closed)
    refined = refine(dilation, x, y, seed=seed)
    labelled = refine(dilation, x, y, labels=kinds, seed=seed)
    corrected = fit_mlp(x, y, Linear(closed.weight, closed.bias, unit=True), seed=seed)
    forward = choose_forward(Pairs(y, x), seed=seed).value
    common = labelled.phi(queries)
    return {
        "old/old": retrieval(gallery @ gallery.T, truth),
        "new/old, dilation (closed form)": retrieval(dilation.apply(queries) @ gallery.T, truth),
        "new/old, refined": retrieval(refined.apply(queries) @ gallery.T, truth),
        "new/old, refined with labels": retrieval(labelled.apply(queries) @ gallery.T, truth),
        "new/old, residual MLP": retrieval(corrected.apply(queries) @ gallery.T, truth),
        "new/old, gallery mapped forward": retrieval(
            mapped_scores(forward, queries, Pairs(gallery, queries)), truth
        ),
        "new/new, in the common space": retrieval(common @ common.T, truth),
        "new/new, independent": retrieval(queries @ queries.T, truth),
    }


def _digits() -> tuple[Floats, Labels]:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise missing_extra("the digits of scikit-learn", "st") from None
    digits = load_digits()
    return (digits.data / 16).astype(np.float32), digits.target.astype(np.int64)


def _trained(
    images: Floats, labels: Labels, *, hidden: int, dim: int, epochs: int, seed: int
) -> Any:
    """Train a small network to name the classes; return what takes images to its embedding."""
    import torch

    torch.manual_seed(seed)
    body = torch.nn.Sequential(
        torch.nn.Linear(images.shape[1], hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, dim)
    )
    head = torch.nn.Linear(dim, int(labels.max()) + 1)
    optimiser = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=3e-3)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(head(body(x[rows])), y[rows]).backward()
            optimiser.step()

    def encode(some: Floats) -> Floats:
        with torch.no_grad():
            found: Floats = body(torch.from_numpy(some)).numpy()
        return unit_rows(found)

    return encode


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description="BT²'s protocol on labelled images.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.seeds < 1:
        raise InputError(f"--seeds {options.seeds}: give at least 1")
    result = run(options.seeds)
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
