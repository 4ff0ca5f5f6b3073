"""The benchmark of images and captions: the protocol against an independent computation, the data
against what servers and disks do to it, the whole against open_clip's own outputs.
"""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import threading
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from retr.benchmarks.beir.download import DownloadError
from retr.benchmarks.images import suite as coco
from retr.benchmarks.images.crossmodal import (
    CUTOFFS,
    Recalls,
    folds,
    found_by_matrix,
    mean,
    recalls,
)
from retr.benchmarks.images.data import COCO, FLICKR30K, PUBLISHED, fetch, read
from retr.benchmarks.images.published import published
from retr.cli import app
from retr.retrieval.encoders import EncoderOptions, ImageEncoder, Space
from retr.retrieval.encoders.clip_preparation import Preparation
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.images import open_image

# ---------------------------------------------------------------- the protocol


def oracle(scores: NDArray[np.float32], image_of: NDArray[np.int64]) -> Recalls:
    """Work the recalls out of a similarity matrix [captions, images] by ranks, query by query."""
    to_image, to_text = [], []
    for caption, image in enumerate(image_of):
        to_image.append(sum(scores[caption, other] > scores[caption, image]
                            for other in range(scores.shape[1])))  # fmt: skip
    for image in range(scores.shape[1]):
        column = sorted(scores[:, image], reverse=True)
        own = [scores[caption, image] for caption in np.flatnonzero(image_of == image)]
        to_text.append(min(column.index(score) for score in own))
    return Recalls(
        {k: sum(rank < k for rank in to_image) / len(to_image) for k in CUTOFFS},
        {k: sum(rank < k for rank in to_text) / len(to_text) for k in CUTOFFS},
    )


def some_captions(rng: np.random.Generator, images: int, least: int = 1) -> NDArray[np.int64]:
    """Return the image of each caption: one to seven captions an image, ascending."""
    return np.repeat(np.arange(images), rng.integers(least, 8, images)).astype(np.int64)


def close(one: Recalls, other: Recalls) -> bool:
    return all(
        abs(a[k] - b[k]) < 1e-12
        for a, b in (
            (one.text_to_image, other.text_to_image),
            (one.image_to_text, other.image_to_text),
        )
        for k in CUTOFFS
    )


@settings(max_examples=60, deadline=None)
@given(seed=some.integers(0, 10_000), images=some.integers(2, 60), lift=some.floats(0, 2))
def test_recalls_of_random_similarities(seed: int, images: int, lift: float) -> None:
    rng = np.random.default_rng(seed)
    image_of = some_captions(rng, images)
    scores = rng.standard_normal((len(image_of), images)).astype(np.float32)
    scores[np.arange(len(image_of)), image_of] += np.float32(lift)
    found = found_by_scores(scores, 10), found_by_scores(scores.T, 10)
    assert close(recalls(*found, image_of), oracle(scores, image_of))


def found_by_scores(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    found = np.full((len(scores), k), -1, np.int64)
    order = np.argsort(-scores, axis=1)[:, :k]
    found[:, : order.shape[1]] = order
    return found


def test_what_was_not_found_is_not_right() -> None:
    """-1 must not be read as the last caption or image."""
    nothing = np.full((2, 10), -1, np.int64)
    found = recalls(nothing, nothing, np.array([0, 1]))
    assert set(found.text_to_image.values()) == set(found.image_to_text.values()) == {0.0}


def test_any_caption_of_an_image_is_right_and_counts_once() -> None:
    image_of = np.array([0, 0, 0, 1])
    to_images = np.array([[0, 1], [1, 0], [1, 0], [1, 0]])
    to_captions = np.array([[3, 2, 1, 0], [0, 1, 2, 3]])
    found = recalls(to_images, to_captions, image_of)
    assert found.text_to_image == {1: 0.5, 5: 1.0, 10: 1.0}
    assert found.image_to_text == {1: 0.0, 5: 1.0, 10: 1.0}


def test_folds_are_runs_of_images_with_all_their_captions() -> None:
    image_of = some_captions(np.random.default_rng(0), 50)
    parts = list(folds(image_of, 50, 20))
    assert [inside.tolist() for inside, _ in parts] == [list(range(20)), list(range(20, 40))]
    for inside, said in parts:
        assert set(image_of[said]) == set(inside)
        assert np.array_equal(said, np.arange(said[0], said[-1] + 1))
        assert len(said) == np.isin(image_of, inside).sum()
    two = [Recalls({1: 0.2, 5: 0.4, 10: 0.6}, {1: 1, 5: 1, 10: 1}) for _ in range(1)]
    two.append(Recalls({1: 0.4, 5: 0.6, 10: 1.0}, {1: 0, 5: 0, 10: 1}))
    assert close(mean(two), Recalls({1: 0.3, 5: 0.5, 10: 0.8}, {1: 0.5, 5: 0.5, 10: 1}))


# ---------------------------------------------------------------- through collections


class Given(ImageEncoder):
    """Has a vector for each picture, told by its colour, and for each caption, by its number."""

    family = "given"
    prepare = Preparation(1, 1)

    def __init__(self, images: NDArray[np.float32], captions: NDArray[np.float32]) -> None:
        self.name = "given:1"
        self.space = Space(self.name, "given", "1", images.shape[1], True, "cosine")
        self.images, self.captions = images, captions

    @classmethod
    def open(cls, name: str, options: EncoderOptions) -> Given:
        raise NotImplementedError

    def encode_queries(self, items: Sequence[str]) -> NDArray[np.float32]:
        return self.captions[[int(text.split()[-1]) for text in items]]

    encode_documents = encode_queries

    def encode_prepared(self, arrays: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.images[[int(a[0, 0, 0]) * 256 + int(a[0, 0, 1]) for a in arrays]]


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def write_karpathy(
    folder: Path, pictures: Sequence[Image.Image], captions: Sequence[Sequence[str]]
) -> Path:
    (folder / "images").mkdir(parents=True)
    listed = []
    for number, (picture, said) in enumerate(zip(pictures, captions, strict=True)):
        picture.save(folder / "images" / f"{number:04}.png")
        sentences = [{"raw": text} for text in said]
        listed.append(
            {"filename": f"{number:04}.png", "filepath": "images", "split": "test",
             "sentences": sentences}
        )  # fmt: skip
    (folder / "dataset_own.json").write_text(json.dumps({"dataset": "own", "images": listed}))
    return folder


def test_the_protocol_through_collections_and_indexes(tmp_path: Path) -> None:
    """All recalls, both directions, and folds, of random vectors: as worked out independently."""
    rng = np.random.default_rng(7)
    image_of = some_captions(rng, 66)
    vectors = unit(rng.standard_normal((66, 12)))
    read_as = unit(vectors[image_of] + 0.55 * rng.standard_normal((len(image_of), 12)))
    pictures = [Image.new("RGB", (2, 2), (n // 256, n % 256, 0)) for n in range(66)]
    captions = [[f"caption {c}" for c in np.flatnonzero(image_of == n)] for n in range(66)]
    folder = write_karpathy(tmp_path / "own", pictures, captions)
    encoder = Given(vectors, read_as)
    result = coco.run(
        str(folder), tmp_path / "out", encoder=encoder, spec="flat", fold=20,
        cache=tmp_path / "cache", progress=False,
    )  # fmt: skip
    scores = read_as @ vectors.T
    whole, folded, indexed = result["rows"]
    expected = oracle(scores, image_of)
    assert 0.2 < expected.text_to_image[1] < expected.text_to_image[10] < 1
    assert expected.image_to_text[1] < 0.99
    assert close(Recalls(**whole["recalls"]), expected)
    parts = []
    for first in (0, 20, 40):
        said = np.flatnonzero((image_of >= first) & (image_of < first + 20))
        parts.append(oracle(scores[said][:, first : first + 20], image_of[said] - first))
    assert folded["variant"] == "20 x 3"
    for k in CUTOFFS:
        for way in ("text_to_image", "image_to_text"):
            expected_mean = sum(getattr(part, way)[k] for part in parts) / 3
            assert folded["recalls"][way][k] == pytest.approx(expected_mean, abs=1e-12)
    assert indexed["recalls"] == whole["recalls"]
    assert indexed["nearest"] == {"text_to_image": 1.0, "image_to_text": 1.0}
    assert result["published"] is None
    # What is there is not encoded again, and the results are kept.
    again = coco.run(
        str(folder), tmp_path / "out", encoder=encoder, cache=tmp_path / "cache", progress=False
    )
    assert again["rows"] == [whole]
    assert again["made"]["images"]["encoded"] == again["made"]["captions"]["encoded"] == 0
    (kept,) = (tmp_path / "out").iterdir()
    assert json.loads(kept.read_text())["dataset"]["captions"] == len(image_of)


def test_what_an_index_loses_is_told_apart_by_direction(tmp_path: Path) -> None:
    """An index that searches by one sign bit a dimension loses; its loss is not the encoder's."""
    rng = np.random.default_rng(3)
    image_of = np.repeat(np.arange(300), 2)
    vectors = unit(rng.standard_normal((300, 16)))
    read_as = unit(vectors[image_of] + 0.4 * rng.standard_normal((600, 16)))
    pictures = [Image.new("RGB", (2, 2), (n // 256, n % 256, 0)) for n in range(300)]
    captions = [[f"caption {2 * n}", f"caption {2 * n + 1}"] for n in range(300)]
    folder = write_karpathy(tmp_path / "own", pictures, captions)
    result = coco.run(
        str(folder), tmp_path / "out", encoder=Given(vectors, read_as), spec="flat@2",
        cache=tmp_path / "cache", progress=False,
    )  # fmt: skip
    exact, indexed = result["rows"]
    assert exact["nearest"] is None
    for way in ("text_to_image", "image_to_text"):
        assert 0 < indexed["nearest"][way] <= 1
        assert indexed["recalls"][way][10] <= exact["recalls"][way][10] + 1e-9
    text = coco.table(result).text()
    assert "of the exact ten nearest" in text and "flat@2" in text


@pytest.fixture(scope="module")
def shapes(
    tmp_path_factory: pytest.TempPathFactory, pictures: tuple[Path, dict[str, str]]
) -> tuple[Path, list[str], list[list[str]]]:
    """Return the drawn pictures as a data set, with three captions each; names, captions."""
    names = sorted(pictures[1])
    said = [
        [pictures[1][n], pictures[1][n].removeprefix("a "), f"{pictures[1][n]} ground"]
        for n in names
    ]
    folder = tmp_path_factory.mktemp("shapes") / "shapes"
    images = [open_image(pictures[0] / name) for name in names]
    return write_karpathy(folder, images, said), names, said


def test_the_command_agrees_with_open_clips_own_outputs(
    shapes: tuple[Path, list[str], list[list[str]]], trained_clip: Path, tmp_path: Path
) -> None:
    open_clip, torch = pytest.importorskip("open_clip"), pytest.importorskip("torch")
    folder, names, said = shapes
    ran = CliRunner().invoke(
        app,
        [
            *("bench", "coco", str(folder), "--encoder", f"clip:{trained_clip}", "--spec", "hnsw"),
            *("--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out"), "--json", "-q"),
        ],
    )
    assert ran.exit_code == 0, ran.output
    exact, indexed = (json.loads(line) for line in ran.stdout.splitlines())
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{trained_clip}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{trained_clip}")
    model.eval()
    images = [open_image(folder / "images" / f"{n:04}.png") for n in range(len(names))]
    with torch.no_grad():
        seen = model.encode_image(torch.stack([transform(i) for i in images]), normalize=True)
        read_as = model.encode_text(tokenizer([t for each in said for t in each]), normalize=True)
    image_of = np.repeat(np.arange(len(names)), 3)
    seen, read_as = seen.numpy(), read_as.numpy()
    plain = recalls(
        found_by_matrix(read_as, seen, 10), found_by_matrix(seen, read_as, 10), image_of
    )
    assert close(plain, oracle(read_as @ seen.T, image_of))
    for row in (exact, indexed):
        for way in ("text_to_image", "image_to_text"):
            for k in CUTOFFS:
                ours = row["recalls"][way][str(k)]
                assert abs(ours - getattr(plain, way)[k]) <= 0.01
    assert exact["recalls"]["text_to_image"]["10"] >= 0.9


def test_what_cannot_be_run_is_one_line(
    shapes: tuple[Path, list[str], list[list[str]]], trained_clip: Path, tmp_path: Path
) -> None:
    folder = shapes[0]
    clip = f"clip:{trained_clip}"
    for arguments, said in (
        ([str(folder), "--encoder", "static"], "makes nothing of images"),
        ([str(folder), "--encoder", clip, "--fold", "5"], "fold is 5: give 10 to 72"),
        ([str(folder), "--encoder", clip, "--split", "val"], "has no split 'val'"),
        ([str(folder), "--encoder", clip, "--spec", "nothing"], "nothing"),
        (["imagenet", "--encoder", clip], "no folder 'imagenet'; known: coco, flickr30k"),
        (["flickr30k", "--encoder", clip], "given out on request only"),
    ):
        ran = CliRunner().invoke(
            app,
            ["bench", "coco", *arguments, "--data", str(tmp_path), "--out", str(tmp_path / "o"),
             "--cache", str(tmp_path / "c"), "-q"],
        )  # fmt: skip
        problem = str(ran.exception) if ran.exception else ran.output
        assert said in problem and "\n" not in problem


def test_an_image_that_cannot_be_read_stops_the_run(tmp_path: Path) -> None:
    vectors = unit(np.random.default_rng(0).standard_normal((12, 4)))
    pictures = [Image.new("RGB", (2, 2), (0, n, 0)) for n in range(12)]
    captions = [[f"caption {n}"] for n in range(12)]
    folder = write_karpathy(tmp_path / "own", pictures, captions)
    (folder / "images" / "0003.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1 of the images cannot be read.*0003\.png"):
        coco.run(
            str(folder), tmp_path / "out", encoder=Given(vectors, vectors),
            cache=tmp_path / "cache", progress=False,
        )  # fmt: skip


# ---------------------------------------------------------------- published figures


def test_published_figures_stand_beside_their_model() -> None:
    for name in ("clip:ViT-B-32/openai", "clip:ViT-B/32/openai", "clip:ViT-B-32-quickgelu/openai"):
        figures = published("coco", name)
        assert figures is not None
        assert figures.text_to_image == {1: 0.3044, 5: 0.5594, 10: 0.6687}
        assert figures.image_to_text == {1: 0.5012, 5: 0.75, 10: 0.8352}
        assert "openclip_retrieval_results.csv" in figures.source
    laion = published("coco", "clip:ViT-B-32/laion2b_s34b_b79k")
    assert laion is not None
    assert laion.text_to_image == {1: 0.3934, 5: 0.6543, 10: 0.7561}
    assert laion.image_to_text == {1: 0.5632, 5: 0.7984, 10: 0.8712}
    flickr = published("flickr30k", "clip:ViT-B-32/openai")
    assert flickr is not None
    assert flickr.text_to_image == {1: 0.5878, 5: 0.8356, 10: 0.9002}
    assert flickr.image_to_text == {1: 0.789, 5: 0.949, 10: 0.982}
    for dataset, name in (
        ("coco", "clip:ViT-B-32/nothing"),
        ("own", "clip:ViT-B-32/openai"),
        ("coco", "clip:/models/openai"),
        ("coco", "static"),
    ):
        assert published(dataset, name) is None


# ---------------------------------------------------------------- the data


@pytest.fixture
def served(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Serve a small COCO at two addresses; `asked` holds what was asked for."""
    images = {f"val2014/COCO_val2014_{n:012}.jpg": photo(n) for n in range(14)}
    listed = [
        {"image": name, "caption": [f"the {n}th", f"number {n}"]}
        for n, name in enumerate(list(images)[:12])
    ]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for name, data in images.items():
            opened.writestr(name, data)
    files = {
        "/coco_karpathy_test.json": json.dumps(listed).encode(),
        "/val2014.zip": archive.getvalue(),
    }
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = files[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        known = replace(
            COCO,
            images=12,
            captions=24,
            annotations=f"{address}/coco_karpathy_test.json",
            annotations_md5=hashlib.md5(files["/coco_karpathy_test.json"]).hexdigest(),
            archive=f"{address}/val2014.zip",
            archive_md5=hashlib.md5(files["/val2014.zip"]).hexdigest(),
        )
        yield {"known": known, "asked": asked, "files": files, "images": images}
        server.shutdown()


def photo(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (number * 10, 0, 0)).save(out, "JPEG")
    return out.getvalue()


def test_coco_is_fetched_once_and_checked(
    served: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PUBLISHED, "coco", served["known"])
    found = read("coco", tmp_path)
    assert served["asked"] == ["/coco_karpathy_test.json", "/val2014.zip"]
    assert (len(found.paths), len(found.captions), found.split) == (12, 24, "test")
    assert found.captions[2:4] == ("the 1th", "number 1")
    assert found.image_of.tolist() == [n // 2 for n in range(24)]
    assert found.published is served["known"]
    for path in found.paths:
        assert path.read_bytes() == served["images"][f"val2014/{path.name}"]
    kept = sorted(path.name for path in (tmp_path / "coco").rglob("*") if path.is_file())
    assert len(kept) == 13, "the list and the images it names, not the archive"
    assert read("coco", tmp_path).digest == found.digest
    assert len(served["asked"]) == 2
    # An image that is lost is fetched again; another number of them is no COCO.
    found.paths[3].unlink()
    assert read("coco", tmp_path).paths == found.paths
    monkeypatch.setitem(PUBLISHED, "coco", replace(served["known"], captions=25_010))
    with pytest.raises(InputError, match=r"has 12 images and 24 captions, but COCO"):
        read("coco", tmp_path)


@pytest.mark.parametrize("file", ["/coco_karpathy_test.json", "/val2014.zip"])
def test_what_is_not_what_was_published_is_not_kept(
    file: str, served: dict[str, Any], tmp_path: Path
) -> None:
    body = bytearray(served["files"][file])
    body[len(body) // 2] ^= 1
    served["files"][file] = bytes(body)
    with pytest.raises(DownloadError, match="its MD5 is"):
        fetch(served["known"], tmp_path / "coco")
    assert not list((tmp_path / "coco").rglob("*.jpg"))


def test_an_archive_without_an_image_is_refused(served: dict[str, Any], tmp_path: Path) -> None:
    listed = json.loads(served["files"]["/coco_karpathy_test.json"])
    for name, said in (("val2014/none.jpg", "lacks an image"), ("../../x.jpg", "leads out of")):
        listed[0]["image"] = name
        body = json.dumps(listed).encode()
        served["files"]["/coco_karpathy_test.json"] = body
        known = replace(served["known"], annotations_md5=hashlib.md5(body).hexdigest())
        with pytest.raises((DownloadError, InputError), match=said):
            fetch(known, tmp_path / name.replace("/", "-"))


def test_flickr30k_has_no_address(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Put them, and Karpathy's dataset_flickr30k\.json"):
        read("flickr30k", tmp_path)
    assert (FLICKR30K.images, FLICKR30K.captions) == (1_000, 5_000)


def test_the_published_sets_are_the_published_ones() -> None:
    assert (COCO.images, COCO.captions, COCO.fold) == (5_000, 25_010, 1_000)


def test_karpathys_file_of_real_photographs(data: Path) -> None:
    test = read(str(data / "flickr1k"), Path("nowhere"))
    assert (test.name, test.split, len(test.paths), len(test.captions)) == (
        "flickr1k",
        "test",
        200,
        1000,
    )
    train = read(str(data / "flickr1k" / "dataset_flickr1k.json"), Path("nowhere"), split="train")
    assert (len(train.paths), len(train.captions)) == (800, 4000)
    assert train.digest != test.digest
    assert not {*train.paths} & {*test.paths}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("{", "is no JSON"),
        ({"images": 3}, "has no list 'images'"),
        ([{"file": "a.jpg"}], "is no list of images with 'image' and 'caption'"),
        ([{"image": "a.jpg", "caption": ["x"]}], "are not there, such as"),
        ([{"image": "../a.jpg", "caption": ["x"]}], "leads out of the folder"),
        ([{"image": "a.jpg", "caption": []}], "has no caption"),
        ([{"image": "a.jpg", "caption": ["x"]}] * 2, "comes twice"),
        (
            {"images": [{"filename": "a.jpg", "split": "train", "sentences": [{"raw": "x"}]}]},
            r"has no split 'test'; there are train \(1\)",
        ),
        ({"images": [{"split": "test", "sentences": []}]}, "lacks 'filename'"),
    ],
)
def test_lists_that_are_none_are_one_line(values: Any, said: str, tmp_path: Path) -> None:
    text = values if isinstance(values, str) else json.dumps(values)
    (tmp_path / "own_test.json").write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        read(str(tmp_path), tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"has no dataset_\*\.json"):
        (tmp_path / "empty").mkdir()
        read(str(tmp_path / "empty"), tmp_path)
