"""Recall of images by captions and of captions by images, as published figures have it.

Karpathy and Fei-Fei, CVPR 2015: an image has several captions. Looking an image up by a caption
is right where that caption's image is among the first k; looking captions up by an image is right
where any of its captions is. R@k is the share of queries that are right. The 1k variant of COCO's
5k test set is the mean over its five thousands, each searched by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CUTOFFS = (1, 5, 10)
WAYS = ("text_to_image", "image_to_text")
RECALL_HEADINGS = ("image R@1", "R@5", "R@10", "caption R@1", "R@5", "R@10")
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Recalls:
    """R@k by k, in both directions, as shares.

    text_to_image: of the captions, those whose image was found.
    image_to_text: of the images, those of which a caption was found.
    """

    text_to_image: Mapping[int, float]
    image_to_text: Mapping[int, float]


def recalls(images_found: Numbers, captions_found: Numbers, image_of: Numbers) -> Recalls:
    """Return the recalls of what was found.

    images_found:   i64[captions, k >= 10], of each caption the images found, best first.
    captions_found: i64[images, k >= 10], of each image the captions found, best first.
    image_of:       i64[captions], the image of each caption.

    -1 stands for nothing found. Every image has a caption.
    """
    right = images_found == image_of[:, None]
    # -1 finds the last caption's image, so what was not found is masked out.
    of_found = np.where(captions_found >= 0, image_of[captions_found], -1)
    any_right = of_found == np.arange(len(captions_found))[:, None]
    return Recalls(_at_cutoffs(right), _at_cutoffs(any_right))


def mean(each: Sequence[Recalls]) -> Recalls:
    """Return the mean of the recalls of several folds, which all count alike."""
    return Recalls(
        {k: float(np.mean([one.text_to_image[k] for one in each])) for k in CUTOFFS},
        {k: float(np.mean([one.image_to_text[k] for one in each])) for k in CUTOFFS},
    )


def folds(image_of: Numbers, images: int, size: int) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield the numbers of the images and of the captions of each fold of `size` images.

    Folds are runs of images in the order of the data set; what is left over is in none.
    """
    for first in range(0, images - size + 1, size):
        inside = (image_of >= first) & (image_of < first + size)
        yield np.arange(first, first + size), np.flatnonzero(inside)


def found_by_matrix(queries: NDArray[np.float32], among: NDArray[np.float32], k: int) -> Numbers:
    """Return i64[queries, k], the k nearest by a plain matrix product, best first."""
    k = min(k, len(among))
    found = np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), 4096):
        scores = queries[start : start + 4096] @ among.T
        found[start : start + 4096] = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return found


def shares(figures: Mapping[str, Any]) -> list[str]:
    """Return the cells under `RECALL_HEADINGS`, in per cent.

    figures: way -> k -> R@k, where k is a number, or a text if the figures come from JSON.
    """
    by_way = [{int(k): value for k, value in figures[way].items()} for way in WAYS]
    return [f"{100 * each[k]:.2f}" for each in by_way for k in CUTOFFS]


def _at_cutoffs(right: NDArray[np.bool_]) -> dict[int, float]:
    return {k: float(right[:, :k].any(axis=1).mean()) for k in CUTOFFS}
