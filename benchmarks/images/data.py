"""Images with captions: COCO's Karpathy test set, Flickr30k's, or a folder of one's own.

COCO's images come from COCO's own address and the split from the file that BLIP and LAVIS were
evaluated with; both are checked by MD5. Flickr30k's images are given out on request only, so
they have to lie in a folder already.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...retrieval.store.disk import storage_errors
from ...retrieval.values.errors import InputError
from ...retrieval.values.progress import Progress
from ..beir.download import DownloadError, download
from ..files import whole

log = logging.getLogger("retr.benchmarks")


@dataclass(frozen=True, slots=True)
class Published:
    """A test set that papers report on.

    images, captions: how many it has; another number is another set, whose figures say nothing.
    fold:             how many images the smaller variant has, None where there is none.
    annotations, annotations_md5: where its images and captions are listed, None for nowhere.
    archive, archive_md5:         where its images are.
    """

    name: str
    title: str
    images: int
    captions: int
    fold: int | None = None
    annotations: str | None = None
    annotations_md5: str = ""
    archive: str | None = None
    archive_md5: str = ""


# The MD5 of the list is LAVIS' (lavis/configs/datasets/coco/defaults_cap.yaml), that of the images
# is in LAVIS' lavis/datasets/download_scripts/download_coco.py.
COCO = Published(
    name="coco",
    title="COCO, Karpathy's test split",
    images=5_000,
    captions=25_010,
    fold=1_000,
    annotations="https://storage.googleapis.com/sfr-vision-language-research/datasets/"
    "coco_karpathy_test.json",
    annotations_md5="3ff34b0ef2db02d01c37399f6a2a6cd1",
    archive="http://images.cocodataset.org/zips/val2014.zip",
    archive_md5="a3d79f5ed8d289b7a7554ce06a5782b3",
)
FLICKR30K = Published(
    name="flickr30k", title="Flickr30k, Karpathy's test split", images=1_000, captions=5_000
)
PUBLISHED = {each.name: each for each in (COCO, FLICKR30K)}


@dataclass(frozen=True, slots=True)
class CaptionSet:
    """Images and their captions, in the order of the data set.

    image_of: i64[captions], the number of each caption's image; ascending.
    digest:   stands for names, captions and their order; not for the images' bytes.
    """

    name: str
    title: str
    split: str
    paths: tuple[Path, ...]
    captions: tuple[str, ...]
    image_of: NDArray[np.int64]
    digest: str
    published: Published | None = None


def read(
    dataset: str, data: Path, *, split: str = "test", progress: Progress | None = None
) -> CaptionSet:
    """Return a data set, downloaded where it is COCO and not there yet.

    dataset: "coco", "flickr30k", or a folder or JSON file: Karpathy's `dataset_*.json`, or a list
             of `{"image": path, "caption": [...]}` as BLIP has it; images lie beside the file or
             in a folder beside it.
    data:    where the named ones lie, each in a folder of its name, or are downloaded to.
    split:   which part of Karpathy's file.

    Raises:
        InputError: there is no such data set, it has no such split, a file is not what it should
            be, an image is missing, or a published set has other numbers than it should.
        DownloadError, StorageError: it cannot be downloaded.
    """
    known = PUBLISHED.get(dataset)
    if known is None:
        place = Path(dataset).expanduser()
        if not place.exists():
            names = ", ".join(PUBLISHED)
            raise InputError(f"there is no data set and no folder {dataset!r}; known: {names}")
        return _listed(place, split, None)
    folder = data / known.name
    if _annotations_in(folder) is None or not _has_images(folder, split):
        fetch(known, folder, progress=progress)
    found = _listed(folder, split, known)
    if split == "test" and (len(found.paths), len(found.captions)) != (
        known.images,
        known.captions,
    ):
        raise InputError(
            f"{folder}: has {len(found.paths):,} images and {len(found.captions):,} captions, but "
            f"{known.title} has {known.images:,} and {known.captions:,}"
        )
    return found


def fetch(known: Published, folder: Path, *, progress: Progress | None = None) -> None:
    """Download a published set into `folder`: the list, and of the archive the images listed.

    Raises:
        InputError: it is not to be had by an address.
        DownloadError: the server fails, or what it has is not what was published.
        StorageError: the disk is full or the folder cannot be written.
    """
    if known.annotations is None or known.archive is None:
        raise InputError(
            f"{known.title}: its images are given out on request only. Put them, and Karpathy's "
            f"dataset_{known.name}.json beside them, into {folder}, or give the path of a folder"
        )
    listed = folder / known.annotations.rsplit("/", 1)[-1]
    download(known.annotations, listed, md5=known.annotations_md5, progress=progress)
    wanted = [str(image["image"]) for image in _of_blip(_json(listed), listed)]
    if all((folder / name).is_file() for name in wanted):
        return
    archive = folder / known.archive.rsplit("/", 1)[-1]
    download(known.archive, archive, md5=known.archive_md5, progress=progress)
    unpack(archive, folder, wanted)
    archive.unlink()


def unpack(archive: Path, folder: Path, wanted: Iterable[str]) -> None:
    """Take the files with these names out of a zip file; each is written whole or not at all.

    Raises:
        DownloadError: the archive is damaged, or lacks one of them.
        StorageError: the disk is full or the folder cannot be written.
    """
    try:
        with storage_errors(folder), zipfile.ZipFile(archive) as opened:
            for name in wanted:
                if not _stays_inside(name):
                    raise DownloadError(f"{archive}: {name!r} leads out of the folder")
                with whole(folder / name) as part:
                    part.write_bytes(opened.read(name))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DownloadError(
            f"{archive}: is no zip file that can be read ({error}); remove it and try again"
        ) from error
    except KeyError as error:
        raise DownloadError(f"{archive}: lacks an image ({error.args[0]})") from error


def _listed(place: Path, split: str, known: Published | None) -> CaptionSet:
    """Return what a file of annotations lists; the images have to be there."""
    file = place if place.is_file() else _annotations_in(place)
    if file is None:
        raise InputError(
            f"{place}: has no dataset_*.json as Karpathy's splits, and no *_{split}.json as BLIP's"
        )
    values = _json(file)
    if isinstance(values, list):
        listed = [(str(each["image"]), each["caption"]) for each in _of_blip(values, file)]
        found_split = file.stem.rpartition("_")[2]
    else:
        listed = _of_karpathy(values, file, split)
        found_split = split
    paths, captions, image_of = [], [], []
    for number, (name, said) in enumerate(listed):
        paths.append(_image(file.parent, name))
        captions += said
        image_of += [number] * len(said)
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(
            f"{file}: lists {len(paths):,} images, of which {len(missing):,} are not there, "
            f"such as {missing[0]}"
        )
    digest = hashlib.blake2b(json.dumps([file.stem, found_split, listed]).encode(), digest_size=16)
    name = known.name if known else file.stem.removeprefix("dataset_")
    return CaptionSet(
        name=name,
        title=known.title if known else f"{name}, {found_split}",
        split=found_split,
        paths=tuple(paths),
        captions=tuple(captions),
        image_of=np.array(image_of, np.int64),
        digest=digest.hexdigest(),
        published=known,
    )


def _of_karpathy(values: Any, file: Path, split: str) -> list[tuple[str, list[str]]]:
    """Return name and captions of each image; in COCO `restval` is a split of its own."""
    images = values.get("images") if isinstance(values, dict) else None
    if not isinstance(images, list):
        raise InputError(f"{file}: has no list 'images', as Karpathy's splits have")
    try:
        listed = [
            (
                "/".join(filter(None, (image.get("filepath"), image["filename"]))),
                [" ".join(str(sentence["raw"]).split()) for sentence in image["sentences"]],
            )
            for image in images
            if image["split"] == split
        ]
        splits = Counter(str(image["split"]) for image in images)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: an image lacks {error}, as Karpathy's splits have it") from error
    if not listed:
        there = ", ".join(f"{name} ({count:,})" for name, count in splits.most_common())
        raise InputError(f"{file}: has no split {split!r}; there are {there or 'none'}")
    return _captioned(listed, file)


def _of_blip(values: Any, file: Path) -> list[dict[str, Any]]:
    try:
        listed = [
            (str(each["image"]), [each["caption"]] if isinstance(each["caption"], str) else
             [str(said) for said in each["caption"]])
            for each in values
        ]  # fmt: skip
    except (KeyError, TypeError) as error:
        raise InputError(f"{file}: is no list of images with 'image' and 'caption'") from error
    return [{"image": name, "caption": said} for name, said in _captioned(listed, file)]


def _captioned(listed: list[tuple[str, list[str]]], file: Path) -> list[tuple[str, list[str]]]:
    for name, said in listed:
        if not said:
            raise InputError(f"{file}: the image {name!r} has no caption")
        if not _stays_inside(name):
            raise InputError(f"{file}: the image {name!r} leads out of the folder")
    twice = [name for name, count in Counter(name for name, _ in listed).items() if count > 1]
    if twice:
        raise InputError(f"{file}: the image {twice[0]!r} comes twice")
    return listed


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _image(folder: Path, name: str) -> Path:
    """Return where an image lies: as it is listed, or in a folder `images`, or beside the list."""
    places = [folder / name, folder / "images" / name, folder / Path(name).name]
    places.append(folder / "images" / Path(name).name)
    return next((place for place in places if place.is_file()), places[0])


def _annotations_in(folder: Path) -> Path | None:
    """Return the list of a folder: Karpathy's, else BLIP's; None where there is none."""
    for pattern in ("dataset_*.json", "*_karpathy_test.json", "*_test.json"):
        found = sorted(folder.glob(pattern)) if folder.is_dir() else []
        if len(found) > 1:
            raise InputError(f"{folder}: has several lists, name one: {found[0]}, {found[1]}")
        if found:
            return found[0]
    return None


def _has_images(folder: Path, split: str) -> bool:
    try:
        _listed(folder, split, None)
    except InputError as error:
        log.debug("%s", error)
        return False
    return True


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: is no JSON that can be read ({error})") from error
