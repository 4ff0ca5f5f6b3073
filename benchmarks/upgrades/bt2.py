"""BT²'s protocol on labelled images: an old encoder of half the classes, a new one of all.

    python -m retr.benchmarks.upgrades.bt2 [--dataset NAME] [--images DIR] [--out FILE]

Gallery and queries are the images left out of training, and search each other; a query's own image
is removed. CMC-1 and CMC-5 (whether one of the first 1 or 5 has the query's label) and mAP are
means over the queries. "x/y": queries by x, gallery by y. For each seed the half of the classes,
the split and both encoders are new. The encoders are frozen and every map is fitted on the images
that they were trained on, so new/new is that of independent training by construction; what is asked
is how much of it new/old has. The published table is of CIFAR-100 with larger encoders, trained
together, so it stands beside, not against.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...retrieval.bridges.maps import Linear, Map, similarities
from ...retrieval.upgrade.candidates import BridgeFits, bridged_scores
from ...retrieval.upgrade.choose import choose_bridge, choose_forward
from ...retrieval.upgrade.fits import procrustes
from ...retrieval.upgrade.pairs import Pairs
from ...retrieval.values.errors import InputError
from ..study import Result, Study
from ..tables import Table
from . import bt2_data
from .bridge_families import MoreBridges, held_out
from .bt2_data import Labelled
from .bt2_encoders import Recipe, recipes, trained
from .gradient import fit_mlp, refine
from .maps import LowRank, dilate

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
Measures = tuple[float, float, float]

DATASETS = ("digits", "twemoji", "cifar100")
PUBLISHED = {
    "old/old": (33.6, 55.4, 24.4),
    "BT², new/old": (38.7, 64.6, 27.7),
    "BT², new/new": (62.4, 75.1, 50.5),
    "independent, new/new": (62.7, 74.6, 49.9),
}
"""CMC-1, CMC-5 and mAP on CIFAR-100, in percent (Zhou et al., ICCV 2023)."""

_BLOCK = 1_024


def retrieval(scores: Floats, labels: Labels) -> Measures:
    """Return CMC-1, CMC-5 and mAP of images that search each other, in percent.

    scores: f32[n, n], row i for query i; its own image is not counted.
    labels: i64[n]; a query whose label no other image has counts 0.
    """
    return _mean(_each(scores, labels, np.arange(len(labels))))


def searched(queries: Floats, gallery: Floats, labels: Labels, metric: str = "ip") -> Measures:
    """Return the same for vectors of the same images, whose scores need not all fit in memory.

    queries, gallery: f32[n, d], row i of both is image i.
    """
    parts = []
    for start in range(0, len(queries), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(queries)))
        parts.append(_each(similarities(queries[rows], gallery, metric), labels, rows))
    return _mean(np.concatenate(parts))


def _each(scores: Floats, labels: Labels, rows: Labels) -> NDArray[np.float64]:
    """Return the measures of the queries that are some rows, f64[q, 3]."""
    scores = scores.copy()
    scores[np.arange(len(rows)), rows] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :-1]
    right = labels[order] == labels[rows][:, None]
    precision = np.cumsum(right, axis=1) / np.arange(1, len(labels))
    average = (precision * right).sum(axis=1) / np.maximum(right.sum(axis=1), 1)
    return np.stack([right[:, 0], right[:, :5].any(axis=1), average], axis=1)


def _mean(each: NDArray[np.float64]) -> Measures:
    first, five, average = (100 * each.mean(axis=0)).tolist()
    return first, five, average


def run(
    data: Labelled, seeds: int = 5, trainings: tuple[Recipe, Recipe] | None = None
) -> dict[str, Any]:
    """Train and measure; return plain values: means and deviations over the seeds.

    trainings: of the old and the new encoder; None takes those for such images.
    """
    trainings = trainings or recipes(data.images)
    rows: dict[str, list[Measures]] = {}
    settings: dict[str, list[Any]] = {}
    for seed in range(seeds):
        found, chosen = _once(data, trainings, seed)
        for name, values in found.items():
            rows.setdefault(name, []).append(values)
        for name, value in chosen.items():
            settings.setdefault(name, []).append(value)
    spread = 1 if seeds > 1 else 0
    return {
        "name": data.name,
        "dataset": data.title,
        "classes": data.classes,
        "seeds": seeds,
        "rows": {
            name: {
                "mean": np.round(np.mean(values, axis=0), 2).tolist(),
                "deviation": np.round(np.std(values, axis=0, ddof=spread), 2).tolist(),
                "seeds": np.round(values, 2).tolist(),
            }
            for name, values in rows.items()
        },
        "chosen": settings,
    }


def _once(
    data: Labelled, trainings: tuple[Recipe, Recipe], seed: int
) -> tuple[dict[str, Measures], dict[str, Any]]:
    """Measure one seed; also return the settings that held-out pairs chose."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(data.labels))
    cut = len(order) // 2
    train, test = order[:cut], order[cut:]
    if data.split is not None:
        train, test = order[order < data.split], order[order >= data.split]
    half = random.permutation(data.classes)[: data.classes // 2]
    seen = train[np.isin(data.labels[train], half)]
    old = trained(data.images[seen], data.labels[seen], trainings[0], seed)
    new = trained(data.images[train], data.labels[train], trainings[1], seed + 100)
    y, x, kinds = old(data.images[train]), new(data.images[train]), data.labels[train]
    gallery, queries, truth = old(data.images[test]), new(data.images[test]), data.labels[test]
    pairs = Pairs(y, x)

    bridges, chosen = _bridges(pairs, seed)
    forward = choose_forward(pairs, seed=seed)
    turned = procrustes(x, y)
    closed = dilate(turned)
    ridge = bridges["ridge"]
    assert isinstance(ridge, Linear)
    corrected = fit_mlp(x, y, turned, seed=seed)
    refined = refine(closed, x, y, seed=seed)
    labelled = refine(closed, x, y, labels=kinds, seed=seed)

    def bridged(each: Map) -> Measures:
        return searched(each.apply(queries), gallery, truth)

    carried = forward.value.bridge.apply(queries).vectors
    common = labelled.phi(queries)
    dim = gallery.shape[1]
    rows = {
        "old/old": searched(gallery, gallery, truth),
        "new/old, no bridge": searched(queries[:, :dim], gallery, truth),
        "new/old, Procrustes, and its dilation (BT²'s form)": bridged(closed),
        "new/old, ridge with intercept": bridged(ridge),
        "new/old, low-rank affine": bridged(bridges["low rank"]),
        "new/old, residual MLP": bridged(corrected),
        "new/old, dilation of the ridge": bridged(dilate(ridge)),
        "new/old, dilation refined": bridged(refined),
        "new/old, dilation refined with labels": bridged(labelled),
        "new/old, as an upgrade chooses": bridged(choose_bridge(pairs, seed=seed).value.map),
        "new/old, gallery mapped forward": searched(
            carried, forward.value.apply(gallery), truth, forward.value.metric
        ),
        "new/new, in the common space": searched(common, common, truth),
        "new/new, independent": searched(queries, queries, truth),
    }
    return rows, {**chosen, "forward": [forward.best.kind, dict(forward.best.settings)]}


def _bridges(pairs: Pairs, seed: int) -> tuple[dict[str, Linear | LowRank], dict[str, Any]]:
    """Return the ridge and the low-rank map that are best on pairs left out, and their settings."""
    bridges: dict[str, Linear | LowRank] = {}
    chosen = {}
    for kind, family in (("ridge", BridgeFits), ("low rank", MoreBridges)):
        tried = held_out(pairs, family, bridged_scores, seed, kinds=(kind,))
        best = max(tried, key=lambda each: each.found.mean())
        made = family(pairs).make(kind, best.settings).map
        assert isinstance(made, Linear | LowRank)
        bridges[kind], chosen[kind] = made, dict(best.settings)
    return bridges, chosen


def tables(result: Result) -> Iterator[Table]:
    """Yield what was measured, and the published figures."""
    head = ["queries/gallery", "CMC-1", "CMC-5", "mAP"]
    rows = []
    for name, values in result["rows"].items():
        both = zip(values["mean"], values["deviation"], strict=True)
        rows.append([name, *(f"{mean:.1f} ± {deviation:.1f}" for mean, deviation in both)])
    seeds = f"{result['seeds']} seed{'s' if result['seeds'] > 1 else ''}"
    yield Table(head, rows, f"{result['dataset']}; {seeds}, mean ± deviation, percent", [_LEGEND])
    published = [[name, *map(str, values)] for name, values in PUBLISHED.items()]
    yield Table(
        head, published, "Published, of CIFAR-100, with encoders trained together", [_APART]
    )


_LEGEND = (
    "x/y: queries by x search a gallery by y; both are the images left out of training, and a "
    "query's own is removed. The old encoder was trained on half of the classes, the new one on "
    "all, each by itself; nothing is fitted after that but the maps, on the images that the "
    "encoders were trained on. No bridge: the new encoder's first dimensions as they are. In the "
    "common space: where BT²'s basis, refined with labels, has put new vectors, whose inner "
    "products stay as they were."
)
_APART = (
    "Of another data set, with larger encoders that were trained together: the figures say what "
    "kind of table this is, and nothing about the rows above."
)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", choices=DATASETS, default="digits")
    parser.add_argument("--images", type=Path, metavar="DIR", help="holds a folder for each class")
    parser.add_argument("--data", type=Path, metavar="DIR", help="of twemoji, or of cifar100")
    parser.add_argument("--seeds", type=int, default=5)


def _measure(given: argparse.Namespace) -> dict[str, Any]:
    if given.seeds < 1:
        raise InputError(f"--seeds {given.seeds}: give at least 1")
    return run(_labelled(given.dataset, given.images, given.data), given.seeds)


def _labelled(dataset: str, images: Path | None, data: Path | None) -> Labelled:
    if images is not None:
        return bt2_data.folder_of_classes(images)
    if dataset == "digits":
        return bt2_data.digits()
    if dataset == "twemoji":
        return bt2_data.twemoji(data)
    if data is None:
        raise InputError(
            "cifar100: give --data DIR, the folder of its binary version (cifar-100-binary)"
        )
    return bt2_data.cifar100(data)


STUDY = Study(
    "upgrades.bt2", __doc__, _arguments, _measure, tables, run=lambda result: str(result["name"])
)

if __name__ == "__main__":
    STUDY.main()
