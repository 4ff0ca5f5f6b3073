"""Upgrades of collections with images: from their files, texts and images each for itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import retr
from retr.retrieval.encoders.base import Space
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.types import Document, ImageAt

from .toy_images import COLOURS, ToyImageEncoder, save
from .upgrades import assert_same_answers, new_encoder


class Turned(ToyImageEncoder):
    """The same model seen from another side, in more dimensions: a bridge can be perfect."""

    def __init__(self) -> None:
        super().__init__(dim=12)
        self.name = "toyimages:2"
        self.space = Space(self.name, self.family, "2", 12, True, "cosine")
        turn, _ = np.linalg.qr(np.random.default_rng(5).standard_normal((12, 12)))
        self._turn = turn.astype(np.float32)

    def _placed(self, colours, gap):  # type: ignore[no-untyped-def]
        return np.ascontiguousarray(super()._placed(colours, gap) @ self._turn)


def pictures(folder: Path, count: int) -> list[Document]:
    names = list(COLOURS)
    files = [save(folder / f"{i}.png", names[i % 8], i) for i in range(count)]
    return [Document(f"i{i}", image=ImageAt(str(file))) for i, file in enumerate(files)]


def captions(count: int) -> list[Document]:
    names = list(COLOURS)
    return [
        Document(f"t{i}", f"{names[i % 8]} and {names[(i * 3 + i // 8) % 8]}") for i in range(count)
    ]


@pytest.mark.parametrize("with_texts", [True, False])
def test_images_are_embedded_anew_from_their_files(tmp_path: Path, with_texts: bool) -> None:
    documents = pictures(tmp_path / "in", 48) + (captions(48) if with_texts else [])
    c = retr.build(documents, tmp_path / "c.retr", encoder=ToyImageEncoder(), progress=False)
    queries = [f"something {colour}" for colour in COLOURS]
    before = [c.search(query, k=3, mode="dense")[0].id for query in queries]
    new = Turned()
    report = c.upgrade(new, sample=40, queries=queries, progress=False)
    assert report["started"]
    assert new.images == (0 if with_texts else 40)
    everything = {document.id for document in documents}
    assert {hit.id for hit in c.search("red", k=200, mode="dense")} == everything
    c.map_upgrade(progress=False)
    assert {hit.id for hit in c.search("red", k=200, mode="dense")} == everything
    assert c.backfill(progress=False).left == 0
    assert new.images == 48
    c.finish_upgrade()
    fresh = retr.build(documents, tmp_path / "fresh.retr", encoder=Turned(), progress=False)
    assert_same_answers(c, fresh)
    # Turning changes no inner product, so it is what it was.
    assert [c.search(query, k=3, mode="dense")[0].id for query in queries] == before


def test_an_image_whose_file_is_gone_keeps_its_old_vector(tmp_path: Path) -> None:
    documents = pictures(tmp_path / "in", 40)
    c = retr.build(documents, tmp_path / "c.retr", encoder=ToyImageEncoder(), progress=False)
    c.upgrade(Turned(), sample=30, queries=list(COLOURS), force=True, progress=False)
    waiting = c.upgrade_status()["old"]
    (tmp_path / "in" / "7.png").unlink()
    (tmp_path / "in" / "9.png").write_bytes(b"no image")
    report = c.backfill(progress=False)
    assert report.cannot == report.left
    assert report.rows == waiting - report.left
    assert set(report.without) <= {"i7", "i9"}
    assert {hit.id for hit in c.search("red", k=100, mode="dense")} == {d.id for d in documents}


def test_a_text_encoder_embeds_no_images(tmp_path: Path) -> None:
    c = retr.build(
        pictures(tmp_path / "in", 30),
        tmp_path / "c.retr",
        encoder=ToyImageEncoder(),
        progress=False,
    )
    with pytest.raises(InputError, match="encodes no image, so it cannot re-embed"):
        c.upgrade(new_encoder(), sample=20, progress=False)
