"""What people have of images: folders, tables, tars, Karpathy's splits, clip-retrieval's output."""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import retr
from retr.retrieval.sources import Format, Skipped, SourceOptions, open_source
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.images import bytes_at, open_image
from retr.retrieval.values.types import Document, ImageAt

from .broken_images import bad, good, write_all
from .toy_images import COLOURS, ToyImageEncoder, data_of, picture, save
from .toys import ToyEncoder


def read(source: object, *, wanted: bool = True, **how: Any) -> list[Document | Skipped]:
    opened = open_source(source, SourceOptions(**how))
    opened.images = wanted
    return list(opened)


def documents(source: object, **how: Any) -> dict[str, Document]:
    found = read(source, **how)
    assert all(isinstance(each, Document) for each in found), found
    by_id = {each.id: each for each in found if isinstance(each, Document)}
    assert len(by_id) == len(found)
    return by_id


def skips(found: Sequence[Document | Skipped]) -> list[Skipped]:
    return [each for each in found if isinstance(each, Skipped)]


# --- folders


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    save(folder / "red.png", "red")
    save(folder / "trip" / "blue.JPG", "blue")
    save(folder / "trip" / "captioned.png", "green")
    (folder / "trip" / "captioned.txt").write_text("a green hill\n")
    (folder / "trip" / "captioned.json").write_text('{"year": 1999, "status": "success"}')
    (folder / "notes.md").write_text("# Notes\n\nabout yellow things")
    (folder / ".gitignore").write_text("secret\n*.bmp\n")
    save(folder / "secret" / "black.png", "black")
    save(folder / "left out.bmp", "white")
    return folder


def test_a_folder_of_images_and_texts(photos: Path) -> None:
    found = documents(str(photos))
    assert list(found) == [
        *("photos/notes.md", "photos/red.png", "photos/trip/blue.JPG", "photos/trip/captioned.png")
    ]
    hill = found["photos/trip/captioned.png"]
    assert (hill.text, hill.metadata) == ("a green hill", {"year": 1999})
    path = photos / "trip" / "captioned.png"
    assert hill.image == ImageAt(str(path), size=path.stat().st_size)
    assert found["photos/notes.md"].image is None and found["photos/red.png"].text is None


def test_for_texts_alone_a_folder_is_as_it_was(photos: Path) -> None:
    found = read(str(photos), wanted=False)
    texts = [each.id for each in found if isinstance(each, Document)]
    assert texts == ["photos/notes.md", "photos/trip/captioned.txt"]
    reasons = {s.reason for s in skips(found) if Path(s.where).suffix != ".json"}
    assert reasons == {"an image, but the encoder takes only texts; clip:MODEL takes both"}


def test_links_do_not_lead_out_of_the_folder(photos: Path, tmp_path: Path) -> None:
    outside = save(tmp_path / "elsewhere" / "private.png", "black")
    (outside.parent / "private.txt").write_text("a secret")
    (photos / "link.png").symlink_to(outside)
    (photos / "red.txt").symlink_to(outside.with_suffix(".txt"))
    (photos / "folder").symlink_to(outside.parent)
    (photos / "round.png").symlink_to(photos / "round.png")
    (photos / "inside.png").symlink_to(photos / "red.png")
    found = read(str(photos))
    assert sorted(Path(s.where).name for s in skips(found)) == ["link.png", "round.png"]
    ids = {each.id: each for each in found if isinstance(each, Document)}
    assert "photos/inside.png" in ids and ids["photos/red.png"].text is None
    assert "secret" not in str(found) or "a secret" not in str(found)


def test_one_image_is_a_source(photos: Path) -> None:
    (found,) = documents(str(photos / "red.png")).values()
    assert found.id == "red.png" and isinstance(found.image, ImageAt)


def test_a_folder_of_every_kind_of_broken_image_builds(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    kept, broken = write_all(folder)
    os.mkfifo(folder / "pipe.jpg")
    c = retr.build(folder, tmp_path / "c.retr", encoder=ToyImageEncoder(), progress=False)
    assert len(c) == len(kept) == len(good())
    assert {Path(s.where).name for s in c.report.skips} == {p.name for p in broken}
    reasons = {Path(s.where).name: s.reason for s in c.report.skips}
    assert all(bad()[name][1] in reason for name, reason in reasons.items())
    again = ToyImageEncoder()
    c = retr.build(folder, tmp_path / "c.retr", encoder=again, progress=False)
    assert (again.images, c.report.unchanged, len(c)) == (0, len(kept), len(kept))
    # What cannot be read any more has not vanished.
    kept[0].write_bytes(b"")
    c = retr.build(folder, tmp_path / "c.retr", encoder=again, progress=False)
    assert len(c) == len(kept) and c.report.deleted == 0
    kept[1].unlink()
    c = retr.build(folder, tmp_path / "c.retr", encoder=again, progress=False)
    assert len(c) == len(kept) - 1 and c.report.deleted == 1


# --- tables


def test_a_table_of_paths_and_captions(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", "red")
    rows = [["file_name", "caption", "year"], ["images/a.png", "a red one", "1999"]]
    rows.append(["images/gone.png", "not there", "2000"])
    path = tmp_path / "captions.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    found = documents(str(path))
    assert list(found) == ["images/a.png", "images/gone.png"]
    first = found["images/a.png"]
    where = str(tmp_path / "images" / "a.png")
    assert (first.text, first.uri, first.metadata) == ("a red one", where, {"year": 1999})
    assert isinstance(first.image, ImageAt) and first.image.path == where
    records = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, records)))
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "c.parquet")
    for name in ("c.jsonl", "c.parquet"):
        assert list(documents(str(tmp_path / name))) == list(found)
    c = retr.build(path, tmp_path / "c.retr", encoder=ToyImageEncoder(), progress=False)
    assert len(c) == 2 and [s.reason for s in c.report.skips] == [
        "without its image: there is no such file"
    ]


def test_rows_of_one_image_are_its_captions(tmp_path: Path) -> None:
    names = ["a.png", "a.png", "b.png", "a.png"]
    lines = ["image,caption", *(f"{name},caption {i}" for i, name in enumerate(names))]
    (tmp_path / "captions.csv").write_text("\n".join(lines))
    found = documents(str(tmp_path / "captions.csv"))
    assert {id: (d.text, d.kind) for id, d in found.items()} == {
        "a.png": ("caption 0\ncaption 1", "captions"),
        "b.png": ("caption 2", None),
        "a.png#2": ("caption 3", None),
    }


def test_images_inside_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    images = [data_of(picture(c)) for c in ("red", "green", "blue")]
    table = pa.table(
        {
            "image": [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(images)],
            "sentences": [["one", "two"], [], ["three"]],
            "label": [1, 2, 3],
        }
    )
    pq.write_table(table, path, row_group_size=2)
    found = documents(str(path))
    assert [(d.text, d.kind) for d in found.values()] == [
        *(("one\ntwo", "captions"), (None, None), ("three", None))
    ]
    c = retr.build(path, tmp_path / "c.retr", encoder=ToyImageEncoder(), progress=False)
    (hit,) = c.search("blue", k=1, mode="dense")
    assert hit.id == "set.parquet:2" and hit.metadata == {"label": 3}
    assert hit.image == ImageAt(str(path), "image", 2, len(images[2]))
    assert bytes_at(hit.image) == images[2] and open_image(hit.image).size == (24, 16)


def test_columns_are_named_by_option_where_they_are_called_otherwise(tmp_path: Path) -> None:
    save(tmp_path / "pictures" / "x.png", "red")
    (tmp_path / "t.csv").write_text("shot,said,image\nx.png,a thing,none of these\n")
    how: dict[str, Any] = {"image": "shot", "text": "said", "images": str(tmp_path / "pictures")}
    (found,) = documents(str(tmp_path / "t.csv"), **how).values()
    assert isinstance(found.image, ImageAt) and Path(found.image.path).is_file()
    assert found.metadata == {"image": "none of these"}
    (found,) = documents(str(tmp_path / "t.csv"), image="", text="said").values()
    assert found.image is None
    with pytest.raises(InputError, match="no column 'photo' for image; the columns are 'shot'"):
        read(str(tmp_path / "t.csv"), image="photo")


@pytest.mark.parametrize("way", ["../outside.png", "link.png", "x/../../outside.png"])
def test_a_path_in_a_table_does_not_leave_its_folder(tmp_path: Path, way: str) -> None:
    save(tmp_path / "outside.png", "red")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "t.csv").write_text(f"image,caption\n{way},a thing\n")
    (skip,) = skips(read(str(folder / "t.csv")))
    assert "leads out of" in skip.reason and "--images" in skip.reason


@pytest.mark.parametrize(
    "record",
    [
        {"image": "https://example.org/a.jpg", "caption": "x"},
        {"url": "http://example.org/a.jpg?size=2", "caption": "x"},
        {"image_url": "https://example.org/12", "caption": "x"},
        {"image": "s3://bucket/a.jpg"},
    ],
)
def test_addresses_are_refused_and_img2dataset_is_named(
    tmp_path: Path, record: Mapping[str, str]
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(record))
    pq.write_table(pa.Table.from_pylist([record]), tmp_path / "t.parquet")
    for source in (str(path), str(tmp_path / "t.parquet"), [record]):
        with pytest.raises(InputError, match="img2dataset"):
            read(source)
    if "caption" in record:  # an encoder of texts has no use for images
        assert [d.text for d in read(str(path), wanted=False) if isinstance(d, Document)] == ["x"]
    with pytest.raises(InputError, match="img2dataset"):
        read([Document("a", image="https://example.org/a.jpg")])


def test_python_records_with_pictures(tmp_path: Path) -> None:
    save(tmp_path / "a.png", "red")
    records = [
        {"id": "path", "image": str(tmp_path / "a.png"), "caption": "x"},
        {"id": "bytes", "image": data_of(picture("red")), "caption": ""},
        {"id": "pil", "image": picture("red")},
        {"id": "array", "image": np.asarray(picture("red"))},
        {"id": "none", "image": None, "caption": "no picture"},
        {"id": "nothing", "image": None, "caption": None},
    ]
    encoder = ToyImageEncoder()
    c = retr.build(records, tmp_path / "c.retr", encoder=encoder, progress=False)
    assert (len(c), encoder.images, encoder.texts) == (5, 4, 2)
    assert [s.reason for s in c.report.skips] == ["has neither an image nor a text"]
    again = ToyImageEncoder()
    c = retr.build(records, tmp_path / "c.retr", encoder=again, progress=False)
    assert (again.images, c.report.unchanged) == (0, 5)
    with pytest.raises(InputError, match=r"item 0: 'image' is of type int"):
        read([{"image": 3}])


# --- tars


def tar(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as out:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
    return path


def img2dataset(folder: Path) -> Path:
    """Lay down what img2dataset does: two tars, of which one has a download that failed."""
    folder.mkdir()
    for shard, colours in enumerate((["red", "green"], ["blue", "yellow"])):
        files: dict[str, bytes] = {}
        rows = []
        for number, colour in enumerate(colours):
            key = f"{shard:05d}{number:04d}"
            row = {
                "url": f"https://example.org/{colour}.png",
                "caption": f"a {colour} wall",
                "key": key,
                "status": "success",
                "error_message": None,
                "width": 24,
            }
            rows.append(row)
            files[f"{key}.png"] = data_of(picture(colour))
            files[f"{key}.txt"] = str(row["caption"]).encode()
            files[f"{key}.json"] = json.dumps(row).encode()
        failed = {"key": f"{shard:05d}9999", "status": "failed_to_download"}
        rows.append({**rows[0], **failed, "error_message": "HTTP Error 404"})
        tar(folder / f"{shard:05d}.tar", files)
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{shard:05d}.parquet")
        (folder / f"{shard:05d}_stats.json").write_text("{}")
    return folder


def test_what_img2dataset_wrote(tmp_path: Path) -> None:
    folder = img2dataset(tmp_path / "laion")
    found = read(str(folder))
    ids = [each.id for each in found if isinstance(each, Document)]
    assert ids == [f"laion/0000{s}.tar/0000{s}000{n}.png" for s in (0, 1) for n in (0, 1)]
    assert [s.reason for s in skips(found)] == ["was not downloaded (HTTP Error 404)"] * 2
    c = retr.build(folder, tmp_path / "c.retr", encoder=ToyImageEncoder(), progress=False)
    (hit,) = c.search("blue", k=1, mode="dense", where="width = 24")
    assert (hit.id, hit.text, hit.uri) == (ids[2], "a blue wall", "https://example.org/blue.png")
    assert hit.metadata == {"url": hit.uri, "width": 24}
    assert hit.image is not None and bytes_at(hit.image) == data_of(picture("blue"))
    assert str(hit.image) == f"{folder}/00001.tar/000010000.png"
    again = ToyImageEncoder()
    retr.build(folder, tmp_path / "c.retr", encoder=again, progress=False)
    assert (again.images, again.texts) == (0, 0)


def test_samples_whose_json_says_they_failed_are_left_out(tmp_path: Path) -> None:
    image = data_of(picture("red"))
    path = tar(
        tmp_path / "x.tar",
        {
            "a/1.png": image,
            "a/1.json": b'{"status": "success", "caption": "a wall"}',
            "a/2.png": image,
            "a/2.json": b'{"status": "failed_to_resize"}',
            "a/3.txt": b"words alone",
            "a/4.cls": b"7",
            "a/5.png": image,
            "a/5.json": b"{broken",
            "../../6.png": image,
        },
    )
    found = read(str(path))
    texts = {d.id: d.text for d in found if isinstance(d, Document)}
    assert texts == {
        "x.tar/a/1.png": "a wall",
        "x.tar/a/3": "words alone",
        "x.tar/../../6.png": None,
    }
    assert [s.id for s in skips(found)] == ["x.tar/a/5.png"]


def test_a_tar_that_is_cut_short_gives_what_it_has(tmp_path: Path) -> None:
    folder = img2dataset(tmp_path / "laion")
    c = retr.build(folder, tmp_path / "c.retr", encoder=ToyImageEncoder(), progress=False)
    assert len(c) == 4
    whole = (folder / "00001.tar").read_bytes()
    header = 512 * (whole.index(b"000010001.png") // 512)
    for damaged in (
        whole[: header + 600],
        whole[:header] + b"\xff" * 512 + whole[header + 512 :],
        b"no tar at all" * 100,
    ):
        (folder / "00001.tar").write_bytes(damaged)
        found = read(str(folder))
        (skip,) = [s for s in skips(found) if "damaged or truncated" in s.reason]
        assert skip.id == "laion/00001.tar/"
        # Its documents cannot be seen, which does not say that they have vanished.
        c = retr.build(folder, tmp_path / "c.retr", encoder=ToyImageEncoder(), progress=False)
        assert len(c) == 4 and c.report.deleted == 0


def test_packed_tars_are_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(InputError, match="unpack it first"):
        read(str(tmp_path / "x.tar.gz"))


# --- Karpathy's splits, clip-retrieval


def test_karpathys_splits(data: Path, tmp_path: Path) -> None:
    found = documents(str(data / "flickr1k"))
    assert len(found) == 1000
    first = next(iter(found.values()))
    assert first.kind == "captions" and first.text is not None and first.text.count("\n") == 4
    assert first.metadata == {"split": "train", "imgid": 0}
    assert isinstance(first.image, ImageAt) and Path(first.image.path).is_file()
    assert first.id == Path(first.image.path).name
    (tmp_path / "dataset_x.json").write_text('{"images": [{"sentences": 3, "filename": "a"}]}')
    with pytest.raises(InputError, match="'sentences' is not a list"):
        read(str(tmp_path))
    with pytest.raises(InputError, match="no list 'images'"):
        (tmp_path / "y.json").write_text("{}")
        read(str(tmp_path / "y.json"), format=Format.KARPATHY)


def clip_retrieval(folder: Path, parts: int = 2, rows: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    made = {}
    for kind in ("img_emb", "text_emb"):
        (folder / kind).mkdir(parents=True)
        vectors = rng.standard_normal((parts * rows, 8))
        made[kind] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    (folder / "metadata").mkdir()
    for part in range(parts):
        here = slice(part * rows, (part + 1) * rows)
        for kind, vectors in made.items():
            np.save(folder / kind / f"{kind}_{part}.npy", vectors[here])
        table = pa.table(
            {
                "image_path": [f"/photos/{i}.jpg" for i in range(here.start, here.stop)],
                "caption": [f"caption {i}" for i in range(here.start, here.stop)],
                "similarity": [0.25] * rows,
            }
        )
        pq.write_table(table, folder / "metadata" / f"metadata_{part}.parquet")
    return made


def test_what_clip_retrieval_wrote(tmp_path: Path) -> None:
    made = clip_retrieval(tmp_path / "emb")
    c = retr.build(tmp_path / "emb", tmp_path / "c.retr", progress=False)
    assert c.space.dim == 8 and c.space.family == "vectors" and len(c) == 6
    for number in range(6):
        for kind in ("img_emb", "text_emb"):
            (hit,) = c.search(vector=made[kind][number].astype(np.float32), k=1)
            assert (hit.id, hit.text) == (str(number), f"caption {number}")
    assert hit.image == ImageAt("/photos/5.jpg") and hit.metadata == {"similarity": 0.25}
    assert c.search("caption 4", mode="lexical", k=1)[0].id == "4"
    # With the model that made them, texts and images can be asked for, and nothing is encoded.
    encoder = ToyImageEncoder()
    c = retr.build(tmp_path / "emb", tmp_path / "d.retr", encoder=encoder, progress=False)
    assert (encoder.texts, encoder.images) == (0, 0)
    assert len(c.search("red", mode="dense")) == 6
    (tmp_path / "emb" / "metadata" / "metadata_1.parquet").unlink()
    with pytest.raises(InputError, match=r"metadata_1.parquet is missing"):
        read(str(tmp_path / "emb"))


def test_files_of_clip_retrieval_that_do_not_fit_are_named(tmp_path: Path) -> None:
    clip_retrieval(tmp_path / "emb")
    np.save(tmp_path / "emb" / "text_emb" / "text_emb_1.npy", np.zeros((2, 8), np.float16))
    with pytest.raises(InputError, match=r"img_emb_1.npy 3, text_emb_1.npy 2, metadata_1"):
        read(str(tmp_path / "emb"))


def test_an_encoder_of_texts_takes_the_captions_of_any(tmp_path: Path) -> None:
    folder = img2dataset(tmp_path / "laion")
    c = retr.build(folder, tmp_path / "c.retr", encoder=ToyEncoder(), progress=False)
    assert len(c) == 4
    (hit,) = c.search("a blue wall", k=1)
    assert hit.image is not None and open_image(hit.image).size == picture("blue").size
    assert len(COLOURS) == 8
