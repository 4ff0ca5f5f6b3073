"""Collections with images: what is stored, found again, encoded once, and skipped."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import retr
from retr.retrieval.segments.means import decode_mean
from retr.retrieval.segments.snapshot import Snapshot
from retr.retrieval.store.manifest import Role
from retr.retrieval.store.store import Store
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.types import Document, ImageAt

from .broken_images import bad
from .toy_images import COLOURS, ToyImageEncoder, picture, save
from .toys import ToyEncoder


def test_an_image_and_its_caption_are_one_hit(tmp_path: Path) -> None:
    where = save(tmp_path / "photos" / "a.png", "blue")
    documents = [
        Document("both", "a red car", image=ImageAt(str(where))),
        *[Document(f"t {c}", f"something {c}") for c in COLOURS],
    ]
    c = retr.build(documents, tmp_path / "c.retr", encoder=ToyImageEncoder(), progress=False)
    roles = {(s.role, s.modality, s.rows) for s in Store(c.path).read()[0].segments}
    assert {(Role.DENSE, "text", 9), (Role.DENSE, "image", 1)} <= roles
    for query in ("red", "blue"):  # by its caption, by its image
        hits = c.search(query, k=9, mode="dense")
        assert [h.id for h in hits].count("both") == 1
        assert hits[0].id in ("both", f"t {query}")
    hit = next(h for h in c.search("car", mode="lexical"))
    assert (hit.id, hit.text, hit.image) == ("both", "a red car", ImageAt(str(where)))
    assert hit.to_dict()["image"] == str(where)


def test_every_broken_image_is_listed_and_none_is_fatal(tmp_path: Path) -> None:
    broken = {name: data for name, (data, _) in bad().items()}
    documents = [Document(f"good {c}", image=picture(c)) for c in COLOURS] + [
        Document(name, image=data) for name, data in broken.items()
    ]
    first = next(iter(broken))
    documents.append(Document("captioned", "a green tree", image=broken[first]))
    encoder = ToyImageEncoder()
    c = retr.build(documents, tmp_path / "c.retr", encoder=encoder, progress=False)
    assert c.report.skipped == len(broken) + 1
    assert {s.where for s in c.report.skips} == {*broken, "captioned"}
    assert c.report.added == len(c) == len(COLOURS) + 1
    assert c.report.images == encoder.images == len(COLOURS)
    assert c.search("green tree", k=1, mode="lexical")[0].id == "captioned"


def test_what_is_committed_is_not_encoded_again(tmp_path: Path) -> None:
    files = [save(tmp_path / "in" / f"{i}.png", c, i) for i, c in enumerate([*COLOURS] * 5)]
    documents = [Document(f.name, image=ImageAt(str(f))) for f in files]
    path = tmp_path / "c.retr"
    stopped = ToyImageEncoder(fail_at=20)
    with pytest.raises(KeyboardInterrupt):
        retr.build(documents, path, encoder=stopped, name="in", progress=False)
    there = len(retr.open(path, encoder=ToyImageEncoder()))
    again = ToyImageEncoder()
    assert there == stopped.images >= 20
    c = retr.build(documents, path, encoder=again, name="in", progress=False)
    assert len(c) == len(files)
    assert again.images == len(files) - there
    last = ToyImageEncoder()
    save(files[3], "white", 99)
    c = retr.build(documents, path, encoder=last, name="in", progress=False)
    assert (last.images, c.report.updated, c.report.unchanged) == (1, 1, len(files) - 1)


def test_a_text_encoder_lists_images_and_takes_captions(tmp_path: Path) -> None:
    documents = [
        Document("alone", image=picture("red")),
        Document("captioned", "a red thing", image=picture("red")),
    ]
    c = retr.build(documents, tmp_path / "c.retr", encoder=ToyEncoder(), progress=False)
    assert [(s.where, "clip:" in s.reason) for s in c.report.skips] == [("alone", True)]
    assert len(c) == 1 and c.search("red")[0].id == "captioned"


def _means(c: retr.Collection) -> dict[str | None, np.ndarray]:
    manifest = Store(c.path).read()[0]
    snapshot = Snapshot(Store(c.path), manifest)
    return {modality: usual.mean for (_, modality), usual in snapshot.score_statistics.items()}


def test_means_belong_to_the_space_whatever_the_segments(tmp_path: Path) -> None:
    encoder = ToyImageEncoder()
    path = tmp_path / "c.retr"
    documents = [Document(f"i {c}", image=picture(c)) for c in COLOURS]
    documents += [Document(f"t {c}", f"a {c} thing") for c in COLOURS]
    c = retr.build(documents[:11], path, encoder=encoder, progress=False)
    for document in documents[11:]:
        c.add([document], progress=False)
    images = encoder.encode_images([picture(c) for c in COLOURS]).mean(axis=0)
    texts = encoder.encode_queries([f"a {c} thing" for c in COLOURS]).mean(axis=0)
    assert np.allclose(_means(c)["image"], images, atol=1e-6)
    assert np.allclose(_means(c)["text"], texts, atol=1e-6)
    before = [(h.id, round(h.score, 5)) for h in c.search("red", mode="dense", k=16)]
    c.delete("i red")
    c.compact()
    left = encoder.encode_images([picture(c) for c in COLOURS if c != "red"]).mean(axis=0)
    assert np.allclose(_means(c)["image"], left, atol=1e-6)
    segments = Store(path).read()[0].of_role(Role.DENSE)
    assert [len(decode_mean(s.mean or "")) for s in segments] == [8, 8]
    assert before[0][0] in ("i red", "t red")


def test_in_a_mixed_collection_images_and_texts_are_found_side_by_side(tmp_path: Path) -> None:
    documents = [Document(f"i {c}", image=picture(c)) for c in COLOURS]
    documents += [Document(f"t {c}", f"a {c} thing") for c in COLOURS]
    encoder = ToyImageEncoder()
    c = retr.build(documents, tmp_path / "c.retr", encoder=encoder, progress=False)
    both = [{h.id for h in c.search(colour, k=2, mode="dense")} for colour in COLOURS]
    assert sum(found == {f"i {x}", f"t {x}"} for found, x in zip(both, COLOURS, strict=True)) >= 7
    # One modality alone is ranked as it is without the other, and scored by plain cosine.
    images = retr.build(documents[:8], tmp_path / "i.retr", encoder=encoder, progress=False)
    for colour in COLOURS:
        alone = images.search(colour, k=8, mode="dense")
        mixed = c.search(colour, k=16, mode="dense")
        assert [h.id for h in mixed if h.id.startswith("i")] == [h.id for h in alone]
        plain = encoder.encode_queries([colour]) @ encoder.encode_images([picture(colour)]).T
        found = next(h for h in alone if h.id == f"i {colour}")
        assert found.score == pytest.approx(float(plain[0, 0]), abs=1e-5)


def test_in_a_mixed_collection_words_do_not_put_texts_above_images(tmp_path: Path) -> None:
    documents = [Document(f"i {c}", image=picture(c)) for c in COLOURS]
    documents += [Document(f"t {c}", f"a {c} thing") for c in COLOURS]
    c = retr.build(documents, tmp_path / "c.retr", encoder=ToyImageEncoder(), progress=False)
    for colour in COLOURS:
        found = [h.id for h in c.search(colour, k=4)]
        assert {f"t {colour}", f"i {colour}"} <= {*found}
    # A caption without the words is not an image without a caption.
    (why,) = [h.why for h in c.search("red", k=16, explain=True) if h.id == "t green"]
    assert why is not None and why.lexical == 0


def test_a_collection_without_images_is_as_it_was(tmp_path: Path) -> None:
    c = retr.build(["a", "b"], tmp_path / "c.retr", encoder=ToyEncoder(), progress=False)
    manifest = json.loads(next((c.path / "manifests").iterdir()).read_text())
    assert all(s["mean"] is None for s in manifest["segments"])
    assert "image" not in c.search("a")[0].to_dict()


def test_own_vectors_of_images_and_texts(tmp_path: Path) -> None:
    vector = np.eye(4, dtype=np.float32)
    documents = [
        Document("a", "one", vector=vector[0], image_vector=vector[1]),
        Document("b", image_vector=2 * vector[2]),
    ]
    c = retr.build(documents, tmp_path / "c.retr", progress=False)
    assert c.space.family == "vectors"
    assert c.search(vector=vector[2], k=1)[0].id == "b"
    assert c.search(vector=vector[1], k=1)[0].id == "a"
    with pytest.raises(InputError, match="4 dimensions"):
        c.add([Document("c", image_vector=np.ones(3, np.float32))], progress=False)


def test_a_killed_build_encodes_only_what_was_in_flight_again(tmp_path: Path) -> None:
    folder, log, path = tmp_path / "in", tmp_path / "log", tmp_path / "c.retr"
    for number, colour in enumerate([*COLOURS] * 25):
        save(folder / f"{number:03d}.png", colour, number)
    worker = Path(__file__).parent / "image_worker.py"
    command = [sys.executable, str(worker), str(folder), str(path), str(log)]
    with subprocess.Popen(command) as process:
        end = time.monotonic() + 60
        while len(_generations(path)) < 4 and process.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        assert process.poll() is None, "it has ended before it was killed"
        process.kill()
    committed = len(retr.open(path, encoder=ToyImageEncoder()))
    batches = [int(line) for line in log.read_text().split()]
    assert 0 < committed < 200
    # All but the batch that was encoded last, and the one that was being committed.
    assert sum(batches) - committed <= sum(batches[-2:])
    again = ToyImageEncoder()
    c = retr.build(folder, path, encoder=again, progress=False)
    assert (again.images, len(c), c.verify()) == (200 - committed, 200, [])


def _generations(path: Path) -> list[Path]:
    return list((path / "manifests").glob("*.json"))


def test_scores_of_two_modalities_are_brought_to_one_scale(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)

    def cone(at: int, spread: float) -> np.ndarray:
        return (4 * np.eye(16)[at] + spread * rng.standard_normal((400, 16))).astype(np.float32)

    texts, images = cone(0, 0.3), cone(1, 1.2)
    documents = [Document(f"t{i}", vector=v) for i, v in enumerate(texts)]
    documents += [Document(f"i{i}", image_vector=v) for i, v in enumerate(images)]
    c = retr.build(documents, tmp_path / "c.retr", progress=False)
    plain = [*texts, *images]
    for query in cone(0, 0.3)[:5]:
        hits = c.search(vector=query, k=800)
        scores = {m: np.array([h.score for h in hits if h.id[0] == m]) for m in "ti"}
        assert abs(scores["t"].mean()) < 0.01 and abs(scores["i"].mean()) < 0.01
        assert scores["t"].std() == pytest.approx(scores["i"].std(), rel=0.1)
        top = [h.id[0] for h in hits[:50]]
        assert 10 <= top.count("i") <= 40
        cosines = [float(v @ query / np.linalg.norm(v)) for v in plain]
        assert {
            d.id[0]
            for _, d in sorted(zip(cosines, documents, strict=True), key=lambda p: -p[0])[:50]
        } == {"t"}
        for modality, vectors in (("t", texts), ("i", images)):
            own = np.argsort([-float(v @ query / np.linalg.norm(v)) for v in vectors])[:20]
            assert [h.id for h in hits if h.id[0] == modality][:20] == [
                f"{modality}{i}" for i in own
            ]
