"""`retr bench coco`: images by captions and captions by images, by the protocol of papers.

Two collections are built, of the images and of the captions, and searched by `Collection.search`,
the one path that users have, by vectors alone. Exact search shows what the encoder loses. With an
index of the very same vectors beside it, what the index loses is told apart, in each direction.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...indexes.base import MissingFaissError
from ...retrieval.build import build
from ...retrieval.collection import Collection
from ...retrieval.encoders import resolve
from ...retrieval.encoders.base import Encoder, EncoderOptions, ImageEncoder
from ...retrieval.segments.opening import check_settings
from ...retrieval.segments.snapshot import Snapshot
from ...retrieval.store.disk import storage_errors
from ...retrieval.store.store import Store
from ...retrieval.values.errors import InputError, missing_extra
from ...retrieval.values.progress import choose_progress
from ...retrieval.values.report import IngestReport
from ...retrieval.values.settings import Settings, check_spec
from ...retrieval.values.types import Document, Query
from .. import environment
from ..beir.cache import share
from ..beir.datasets import cache_folder
from ..beir.index_loss import recall
from ..beir.systems import space_key
from ..files import write_json
from ..tables import Table
from .crossmodal import (
    CUTOFFS,
    RECALL_HEADINGS,
    WAYS,
    Numbers,
    Recalls,
    folds,
    mean,
    recalls,
    shares,
)
from .data import CaptionSet, read
from .published import published

log = logging.getLogger("retr.benchmarks")

DEFAULT_ENCODER = "clip:ViT-B-32/laion2b_s34b_b79k"
K = max(CUTOFFS)
_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Row:
    """R@k of one way to search.

    system:  "exact", or the spec of an index.
    variant: "all", or "1000 x 5" for the mean over five folds of a thousand images.
    nearest: what of the exact ten nearest the index finds, by direction; None for exact search.
    """

    system: str
    variant: str
    recalls: Recalls
    nearest: dict[str, float] | None = None


def run(
    dataset: str,
    out: Path,
    *,
    encoder: str | Encoder = DEFAULT_ENCODER,
    options: EncoderOptions | None = None,
    spec: str | None = None,
    fold: int | None = None,
    data: Path | None = None,
    cache: Path | None = None,
    split: str = "test",
    progress: bool | None = None,
) -> dict[str, Any]:
    """Run one data set with one encoder; return the results, which are also left in `out`.

    dataset: "coco", "flickr30k", or a folder or file, see `coco_data.read`.
    encoder: a name, or an `ImageEncoder`.
    spec:    also search with indexes of this spec, over the same vectors.
    fold:    also give the mean over folds of so many images; None as papers do, 1,000 for COCO.
    data, cache: where data sets and collections are kept; the user's cache folder.
    split:   the part of a Karpathy file.

    Raises:
        InputError: the data set, encoder or spec cannot be used, or an image cannot be read.
        DownloadError: the data set cannot be downloaded.
        StorageError: `out` or `cache` cannot be made, or the disk is full.
    """
    spec = None if spec is None else check_spec(spec)
    chosen = resolve(encoder, options or EncoderOptions())
    if not isinstance(chosen, ImageEncoder):
        raise InputError(
            f"encoder {chosen.name!r} makes nothing of images; use one such as {DEFAULT_ENCODER}"
        )
    if spec is not None:
        check_settings(chosen.space, Settings(spec=spec))
    cache = cache or cache_folder()
    with choose_progress(progress) as shown:
        found = read(dataset, data or cache_folder() / "datasets", split=split, progress=shown)
    if fold is None and found.published is not None:
        fold = found.published.fold
    if fold is not None and not K <= fold <= len(found.paths):
        raise InputError(f"fold is {fold}: give {K} to {len(found.paths):,}, the number of images")
    task = _Task(found, chosen, cache, progress)
    rows = task.rows(spec, fold)
    result = {
        "dataset": {
            "name": found.name,
            "title": found.title,
            "split": found.split,
            "images": len(found.paths),
            "captions": len(found.captions),
            "digest": found.digest,
        },
        "encoder": {
            "name": chosen.name,
            "options": chosen.options.to_json(),
            "space": chosen.space.to_json(),
        },
        "rows": [asdict(row) for row in rows],
        "published": _published(found, chosen),
        "made": task.made,
        "environment": environment.describe(),
    }
    write_json(result, out / f"{found.name}-{found.split}-{space_key(chosen.space)}.json")
    return result


def table(result: dict[str, Any]) -> Table:
    """Return the results, with published figures of the same model."""
    d, e = result["dataset"], result["encoder"]
    rows, notes = [], []
    for row in result["rows"]:
        variant = "" if row["variant"] == "all" else f", {row['variant']}"
        rows.append([f"{row['system']}{variant}", *shares(row["recalls"])])
        if row["nearest"] is not None:
            found = (f"{100 * row['nearest'][way]:.2f} {way.replace('_', ' ')}" for way in WAYS)
            notes.append(f"{row['system']} finds of the exact ten nearest: {', '.join(found)}.")
    if result["published"] is not None:
        rows.append(["published (open_clip)", *shares(result["published"])])
        notes.append(f"Published: {result['published']['source']}")
    title = (
        f"{d['title']}: {d['images']:,} images, {d['captions']:,} captions; {e['name']}; "
        "of images by captions and of captions by images, in per cent"
    )
    return Table(["", *RECALL_HEADINGS], rows, title, notes)


def records(result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row of the table at a time as JSON values."""
    about = {"dataset": result["dataset"]["name"], "encoder": result["encoder"]["name"]}
    for row in result["rows"]:
        yield {**about, **row}
    if result["published"] is not None:
        figures = dict(result["published"])
        source = figures.pop("source")
        yield {
            **about,
            "system": "published",
            "variant": "all",
            "recalls": figures,
            "source": source,
        }


@dataclass(slots=True)
class _Task:
    """One data set in one space."""

    data: CaptionSet
    encoder: ImageEncoder
    cache: Path
    progress: bool | None
    made: dict[str, Any]

    def __init__(
        self, data: CaptionSet, encoder: ImageEncoder, cache: Path, progress: bool | None
    ) -> None:
        self.data, self.encoder, self.cache, self.progress = data, encoder, cache, progress
        self.made = {}

    def rows(self, spec: str | None, fold: int | None) -> list[Row]:
        """Return the rows of the table."""
        images = self._built("images", self._images())
        captions = self._built("captions", self._captions())
        exact = self._searched(images, captions)
        rows = [Row("exact", "all", self._recalls(exact))]
        if fold is not None:
            rows.append(self._folded(images, captions, fold))
        if spec is not None:
            indexed = self._searched(self._indexed("images", spec), self._indexed("captions", spec))
            nearest = {
                direction: _nearest(exact[direction], indexed[direction]) for direction in WAYS
            }
            rows.append(Row(spec, "all", self._recalls(indexed), nearest))
        return rows

    def _folded(self, images: Collection, captions: Collection, fold: int) -> Row:
        each = []
        for inside, said in folds(self.data.image_of, len(self.data.paths), fold):
            found = self._searched(images, captions, inside, said)
            to_images = _numbers(found["text_to_image"]) - inside[0]
            to_captions = _numbers(found["image_to_text"])
            # Numbers count from the first image and caption of the fold.
            to_captions = np.where(to_captions >= 0, to_captions - said[0], -1)
            each.append(recalls(to_images, to_captions, self.data.image_of[said] - inside[0]))
        return Row("exact", f"{fold} x {len(each)}", mean(each))

    def _recalls(self, found: dict[str, list[dict[str, float]]]) -> Recalls:
        return recalls(
            _numbers(found["text_to_image"]),
            _numbers(found["image_to_text"]),
            self.data.image_of,
        )

    def _searched(
        self,
        images: Collection,
        captions: Collection,
        inside: Numbers | None = None,
        said: Numbers | None = None,
    ) -> dict[str, list[dict[str, float]]]:
        """Return the hits of every caption and of every image, by direction.

        inside, said: the images and captions of a fold, None for all.
        """
        texts = self.data.captions if said is None else [self.data.captions[i] for i in said]
        numbers = np.arange(len(self.data.paths)) if inside is None else inside
        vectors = _stored(Path(images.path), [str(number) for number in numbers])
        return {
            "text_to_image": self._search(images, [Query(text=text) for text in texts], inside),
            "image_to_text": self._search(captions, [Query(vector=v) for v in vectors], said),
        }

    def _search(
        self, collection: Collection, queries: Sequence[Query], among: Numbers | None
    ) -> list[dict[str, float]]:
        ids = None if among is None else [str(number) for number in among]
        runs: list[dict[str, float]] = []
        with choose_progress(self.progress) as shown:
            for start in range(0, len(queries), _BLOCK):
                block = queries[start : start + _BLOCK]
                for hits in collection.search(block, K, mode="dense", ids=ids):
                    runs.append({hit.id: hit.score for hit in hits})
                shown.update("searching", len(runs), len(runs), len(queries))
        return runs

    def _images(self) -> Iterator[Document]:
        for number, path in enumerate(self.data.paths):
            yield Document(str(number), image=path)

    def _captions(self) -> Iterator[Document]:
        for number, caption in enumerate(self.data.captions):
            yield Document(str(number), caption)

    def _built(self, what: str, documents: Iterator[Document]) -> Collection:
        """Return the collection of the images or captions; what is there is not encoded again."""
        path = self._folder() / f"{what}.retr"
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        collection = build(
            documents,
            path,
            encoder=self.encoder,
            passages=False,
            name=what,
            progress=self.progress,
        )
        _check_whole(collection.report, what)
        self.made[what] = {
            "encoded": collection.report.encoded,
            "seconds": round(time.monotonic() - start, 3),
        }
        return collection

    def _indexed(self, what: str, spec: str) -> Collection:
        """Return a collection of the same vectors with an index; made anew each time."""
        import shutil

        path = self._folder() / f"{what}-indexed.retr"
        with storage_errors(path):
            shutil.rmtree(path, ignore_errors=True)
            share(self._folder() / f"{what}.retr", path)
        collection = Collection(path, encoder=self.encoder)
        start = time.monotonic()
        try:
            collection.index(spec)
        except MissingFaissError:
            raise missing_extra(f"the index {spec}", "cpu") from None
        self.made[f"{what}, {spec}"] = {"seconds": round(time.monotonic() - start, 3)}
        return collection

    def _folder(self) -> Path:
        key = space_key(self.encoder.space)
        return self.cache / "images" / f"{self.data.name}-{self.data.digest[:12]}-{key}"


def _check_whole(report: IngestReport, what: str) -> None:
    if report.skipped:
        first = report.skips[0]
        raise InputError(
            f"{report.skipped:,} of the {what} cannot be read, so no figure would compare; the "
            f"first: {first.where}: {first.reason}"
        )


def _stored(path: Path, ids: list[str]) -> NDArray[np.float32]:
    """Return f32[n, dim], the vectors that a collection has of some documents."""
    store = Store(path)
    snapshot = Snapshot(store, store.read()[0])
    rows = np.array([found[0] for found in snapshot.rows_of(ids)], np.int64)
    order = np.argsort(rows)
    out: NDArray[np.float32] | None = None
    for segment in snapshot.dense:
        inside = np.isin(rows[order], segment.rows)
        places = order[inside]
        vectors = np.asarray(segment.matrix[segment.positions(rows[places])], np.float32)
        out = np.zeros((len(ids), vectors.shape[1]), np.float32) if out is None else out
        out[places] = vectors
    assert out is not None
    return out


def _numbers(runs: Sequence[dict[str, float]]) -> Numbers:
    """Return i64[n, K] of the ids found, which are numbers; -1 where there were fewer."""
    out = np.full((len(runs), K), -1, np.int64)
    for row, run in enumerate(runs):
        out[row, : len(run)] = [int(id) for id in run]
    return out


def _nearest(exact: Sequence[dict[str, float]], found: Sequence[dict[str, float]]) -> float:
    return float(np.mean([recall(*pair, K) for pair in zip(exact, found, strict=True)]))


def _published(found: CaptionSet, encoder: ImageEncoder) -> dict[str, Any] | None:
    if found.published is None or found.split != "test":
        return None
    figures = published(found.published.name, encoder.name)
    return None if figures is None else asdict(figures)
