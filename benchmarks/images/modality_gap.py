"""What the modality gap does to a search over images and texts together, and what mends it.

    python -m retr.benchmarks.images.modality_gap KARPATHY_FOLDER --encoder clip:MODEL --split train

Without an encoder a small one is trained first on that split: 20 epochs take some 15
seconds of one core and leave a wide gap, which more (`--epochs`) narrow.
The gallery is every image of a split, without captions, and all but the first of the captions, as
documents of their own. Asked are the first caption of each image, and each image (which is then
left out of the hits). Relevant are the image and the captions that belong to it.

Compared are plain cosines, scores less the mean of their modality, the same divided by how far
scores of the modality deviate for the query (what collections do), and vectors of both sides
centred and given unit length again (GR-CLIP: Li et al., "Closing the Modality Gap for Mixed
Modality Search", 2025). All are worked out here by matrix products; a collection is asked, too.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...retrieval.build import build
from ...retrieval.encoders import resolve
from ...retrieval.encoders.base import ImageEncoder
from ...retrieval.sources import SourceOptions, open_source
from ...retrieval.values.errors import InputError
from ...retrieval.values.fusion import default_fusion
from ...retrieval.values.settings import Settings
from ...retrieval.values.types import Document, ImageAt, Query
from ..study import Result, Study
from ..tables import Table, number
from .train_clip import Recipe, of_karpathy, train

K = 10
Vectors = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """What is searched: images first, then texts.

    vectors: f64[n, dim] of unit length.
    owner:   i64[n], the image that each belongs to.
    images:  how many of the first are images.
    """

    vectors: Vectors
    owner: NDArray[np.int64]
    images: int

    @property
    def is_image(self) -> Mask:
        """Whether each is an image, bool[n]."""
        return np.arange(len(self.owner)) < self.images


def plain(queries: Vectors, gallery: Gallery) -> Vectors:
    """Return the cosines f64[q, n]."""
    return queries @ gallery.vectors.T


def centred(queries: Vectors, gallery: Gallery) -> Vectors:
    """Return the cosines less what the mean of each modality scores."""
    out = plain(queries, gallery)
    for of in (gallery.is_image, ~gallery.is_image):
        out[:, of] -= (queries @ gallery.vectors[of].mean(axis=0))[:, None]
    return out


def standardised(queries: Vectors, gallery: Gallery) -> Vectors:
    """Return the same divided by the deviation of each modality's scores for the query."""
    out = centred(queries, gallery)
    for of in (gallery.is_image, ~gallery.is_image):
        out[:, of] /= out[:, of].std(axis=1, keepdims=True)
    return out


def renormalised(queries: Vectors, gallery: Gallery, mean: Vectors) -> Vectors:
    """Return cosines of centred vectors; `mean` f64[dim] is that of the queries' modality."""
    rows = gallery.vectors.copy()
    for of in (gallery.is_image, ~gallery.is_image):
        rows[of] -= rows[of].mean(axis=0)
    return _unit(queries - mean) @ _unit(rows).T


def judged(scores: Vectors, gallery: Gallery, owner: NDArray[np.int64]) -> dict[str, float]:
    """Return how good rankings are.

    scores: f64[q, n]; -inf for what is left out.
    owner:  i64[q], the image each query belongs to.
    """
    top = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    relevant = gallery.owner[top] == owner[:, None]
    image = gallery.is_image[top]
    there = (gallery.owner[None] == owner[:, None]) & np.isfinite(scores)
    gains = 1 / np.log2(np.arange(2, K + 2))
    ideal = np.array([gains[: min(K, int(n))].sum() for n in there.sum(axis=1)])
    return {
        "share of images in the top 10": float(image.mean()),
        "R@10 of its image": float((relevant & image).any(axis=1).mean()),
        "R@10 of a caption": float((relevant & ~image).any(axis=1).mean()),
        "nDCG@10": float(((relevant * gains).sum(axis=1) / ideal).mean()),
    }


def alone(scores: Vectors, gallery: Gallery, owner: NDArray[np.int64], of: Mask) -> float:
    """Return R@10 among one modality alone."""
    top = np.argsort(-scores[:, of], axis=1, kind="stable")[:, :K]
    return float((gallery.owner[of][top] == owner[:, None]).any(axis=1).mean())


def run(folder: Path, encoder_name: str, split: str, most: int) -> dict[str, Any]:
    """Encode a split, rank it in every way, and return the figures."""
    encoder = resolve(encoder_name)
    if not isinstance(encoder, ImageEncoder):
        raise InputError(f"{encoder_name} makes nothing of images")
    pairs = _pairs(folder, split, most)
    texts = [caption for _, captions in pairs for caption in captions[1:]]
    owners = np.array([i for i, (_, captions) in enumerate(pairs) for _ in captions[1:]], np.int64)
    images = _unit(encoder.encode_images([path for path, _ in pairs]).astype(np.float64))
    said = _unit(encoder.encode_documents(texts).astype(np.float64))
    asked = _unit(encoder.encode_queries([c[0] for _, c in pairs]).astype(np.float64))
    own = np.arange(len(pairs))
    gallery = Gallery(np.concatenate([images, said]), np.concatenate([own, owners]), len(pairs))
    itself = np.zeros((len(pairs), len(gallery.owner)), bool)
    itself[own, own] = True
    means = said.mean(axis=0), images.mean(axis=0)
    ways = {
        "plain cosine": (plain(asked, gallery), plain(images, gallery)),
        "less the mean": (centred(asked, gallery), centred(images, gallery)),
        "and divided by the deviation (collections)": (
            standardised(asked, gallery),
            standardised(images, gallery),
        ),
        "centred and renormalised (GR-CLIP)": (
            renormalised(asked, gallery, means[0]),
            renormalised(images, gallery, means[1]),
        ),
    }
    result: dict[str, Any] = {"texts asked": {}, "images asked": {}, "one modality alone": {}}
    for name, (by_text, by_image) in ways.items():
        hidden = np.where(itself, -np.inf, by_image)
        result["texts asked"][name] = judged(by_text, gallery, own)
        result["images asked"][name] = judged(hidden, gallery, own)
        result["one modality alone"][name] = {
            "text to image": alone(by_text, gallery, own, gallery.is_image),
            "text to text": alone(by_text, gallery, own, ~gallery.is_image),
            "image to text": alone(by_image, gallery, own, ~gallery.is_image),
        }
    result["gap"] = float(np.linalg.norm(means[0] - means[1]))
    result |= _by_collection(encoder, pairs, texts, gallery, asked, own)
    return {"images": len(pairs), "captions": len(texts), **result}


def _by_collection(
    encoder: ImageEncoder,
    pairs: Sequence[tuple[Path, list[str]]],
    texts: Sequence[str],
    gallery: Gallery,
    asked: Vectors,
    own: NDArray[np.int64],
) -> dict[str, Any]:
    """Return what a collection of the same makes of it: the same by vectors; and with words."""
    documents = [Document(str(i), image=ImageAt(str(path))) for i, (path, _) in enumerate(pairs)]
    documents += [Document(str(len(pairs) + i), text) for i, text in enumerate(texts)]
    queries = [Query(captions[0]) for _, captions in pairs]
    with tempfile.TemporaryDirectory() as folder:
        c = build(documents, Path(folder) / "c.retr", encoder=encoder, progress=False)
        found = {mode: c.search(queries, k=K, mode=mode) for mode in ("dense", "hybrid")}
        weight = (Settings.of(c.settings).fusion or default_fusion(c.space.family)).weight
    expected = np.argsort(-standardised(asked, gallery), axis=1, kind="stable")[:, :K]
    out: dict[str, Any] = {"fusion weight": weight}
    for mode, answers in found.items():
        scores = np.full((len(queries), len(gallery.owner)), -np.inf)
        for asked_at, hits in enumerate(answers):
            for rank, hit in enumerate(hits):
                scores[asked_at, int(hit.id)] = -rank
        everything = np.where(np.isfinite(scores), scores, -1e9)
        out[f"collection, {mode}"] = judged(everything, gallery, own)
        if mode == "dense":
            top = np.argsort(-everything, axis=1, kind="stable")[:, :K]
            same = [
                len({*a} & {*b}) / K for a, b in zip(top.tolist(), expected.tolist(), strict=True)
            ]
            out["overlap of the collection with the matrix product"] = float(np.mean(same))
    return out


def _pairs(folder: Path, split: str, most: int) -> list[tuple[Path, list[str]]]:
    source = open_source(str(folder), SourceOptions(format=None))
    source.images = True
    pairs = []
    for found in source:
        if not isinstance(found, Document) or found.metadata.get("split") != split:
            continue
        captions = (found.text or "").splitlines()
        if isinstance(found.image, ImageAt) and len(captions) > 1:
            pairs.append((Path(found.image.path), captions))
    if not pairs:
        raise InputError(f"{folder}: has no images of the split {split!r} with several captions")
    return pairs[:most]


def _trained(folder: Path, split: str, epochs: int, out: Path) -> Path:
    """Train a small model on a split and return its folder."""
    small = Recipe(
        size=32,
        width=96,
        layers=2,
        text_width=64,
        text_layers=1,
        context=24,
        dim=64,
        epochs=epochs,
        rate=3e-3,
    )
    return train(of_karpathy(folder, split), out, small)


def _unit(vectors: Vectors) -> Vectors:
    out: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return out


def tables(result: Result) -> Iterator[Table]:
    """Yield how good the rankings are, asked by texts and by images, and among one modality."""
    about = f"{result['images']:,} images and {result['captions']:,} captions; {result['model']}"
    by_collection = {name: result[f"collection, {name}"] for name in ("dense", "hybrid")}
    for kind in ("texts asked", "images asked", "one modality alone"):
        found = dict(result[kind])
        if kind == "texts asked":
            found |= {f"a collection, {name}": each for name, each in by_collection.items()}
        measures = list(next(iter(found.values())))
        rows = [[name, *(number(each[m], 3) for m in measures)] for name, each in found.items()]
        title = kind if kind != "one modality alone" else f"R@10 among {kind}"
        yield Table(["", *measures], rows, f"{title}: {about}")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", help="clip:MODEL; a small one is trained if not given")
    parser.add_argument("--epochs", type=int, default=20, help="of training, without --encoder")
    parser.add_argument("--split", default="test")
    parser.add_argument("--most", type=int, default=5000, help="images, at most")


def _measure(given: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        encoder, model = given.encoder, given.encoder
        if encoder is None:
            encoder = f"clip:{_trained(given.folder, given.split, given.epochs, Path(folder))}"
            model = f"{given.epochs} epochs"
        found = run(given.folder, encoder, given.split, given.most)
    return {"model": model, **found, "split": given.split}


STUDY = Study(
    "images.modality_gap",
    __doc__,
    _arguments,
    _measure,
    tables,
    run=lambda result: str(result["model"]),
)

if __name__ == "__main__":
    STUDY.main()
