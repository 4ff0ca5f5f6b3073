"""Inverted lists that stay in the file: they are mapped, and a file that is wrong says so."""

from __future__ import annotations

import resource
import shutil
import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retr.indexes import IndexSpec, kind
from retr.indexes.arrays import ArraySource
from retr.indexes.base import Floats, Index, IndexFileError, Metric, MissingFaissError
from retr.indexes.faiss import load_faiss

N, DIM = 4000, 32
SPEC = IndexSpec.parse("ivfpq@16(lists=40)")
HEAD = 1 << 16


@cache
def data() -> tuple[ArraySource, Floats]:
    """Return clustered vectors, and queries."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((60, DIM))
    made = centres[rng.integers(0, 60, N + 50)] + 0.5 * rng.standard_normal((N + 50, DIM))
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    vectors = made.astype(np.float32)
    return ArraySource(vectors[:N], Metric.COSINE), vectors[N:]


@cache
def built() -> Index:
    return kind("ivfpq").build(data()[0], SPEC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "index.faiss"
    built().save(path)
    return path


def opened(path: Path) -> Index:
    return kind("ivfpq").load(path, data()[0], SPEC)


def answers(index: Index) -> NDArray[np.int64]:
    return index.search(data()[1], 10).positions


def sealed(path: Path, content: bytes) -> None:
    """Write a file whose trailer is right."""
    trailer = struct.pack("<8sQI", b"retridx1", len(content), zlib.crc32(content[:HEAD]))
    path.write_bytes(content + trailer)


def sizes() -> list[int]:
    lists = built()._structure.invlists  # type: ignore[attr-defined]
    return [lists.list_size(number) for number in range(40)]


def test_lists_without_vectors(tmp_path: Path) -> None:
    source = ArraySource(np.tile(data()[0].vectors[:1], (400, 1)), Metric.COSINE)
    index = kind("ivfpq").build(source, SPEC)
    index.save(tmp_path / "index.faiss")
    again = kind("ivfpq").load(tmp_path / "index.faiss", source, SPEC)
    lists = again._structure.invlists  # type: ignore[attr-defined]
    assert sorted(lists.list_size(number) for number in range(40))[-2:] == [0, 400]
    found = again.search(data()[1], 10).positions
    np.testing.assert_array_equal(found, index.search(data()[1], 10).positions)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_lists_are_mapped_and_not_read(file: Path) -> None:
    index = opened(file)
    np.testing.assert_array_equal(answers(index), answers(built()))
    there = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(file) in line]
    assert any("r--s" in line for line in there)  # shared with other processes, written to by none


def test_a_file_that_was_moved_opens(file: Path) -> None:
    index = opened(file)
    moved = file.rename(file.parent / "of another name.faiss")
    np.testing.assert_array_equal(answers(opened(moved)), answers(built()))
    moved.unlink()
    np.testing.assert_array_equal(answers(index), answers(built()))  # what is open stays so


def test_a_file_of_before_opens_and_is_saved_as_one_of_now(tmp_path: Path, file: Path) -> None:
    from retr.indexes.faiss import write_index

    old, again = tmp_path / "old.faiss", tmp_path / "again" / file.name
    write_index(built()._index, old)  # type: ignore[attr-defined]
    index = opened(old)
    np.testing.assert_array_equal(answers(index), answers(built()))
    again.parent.mkdir()
    index.save(again)
    assert again.read_bytes() == file.read_bytes()


def test_every_wrong_number_in_the_table_is_found(file: Path) -> None:
    content = file.read_bytes()[:-20]
    first = next(size for size in sizes() if size)
    at = content.index(struct.pack("<QQ", first, -(-first // 32) * 32))
    size, room, place = struct.unpack_from("<QQQ", content, at)
    for field, value in enumerate((size, room, place)):
        for wrong in (2**63, 2**64 - 1, 2**40, len(content), value + 2**32):
            spoiled = bytearray(content)
            struct.pack_into("<Q", spoiled, at + 8 * field, wrong)
            sealed(file, bytes(spoiled))
            with pytest.raises(IndexFileError, match="some of its lists are missing"):
                opened(file)


def test_a_file_that_lacks_its_last_lists_is_found(file: Path) -> None:
    content = file.read_bytes()[:-20]
    sealed(file, content[:-200])
    with pytest.raises(IndexFileError, match="some of its lists are missing"):
        opened(file)


@pytest.mark.parametrize("missing", [40, 20_000, 10**9])  # in the trailer, the lists, the index
def test_a_file_that_cannot_grow_is_said(file: Path, missing: int) -> None:
    room = max(100, file.stat().st_size - missing)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(OSError, match=r"File too large|cannot write the index"):
            built().save(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(IndexFileError, match="damaged"):
        opened(file)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot write the index"):
        built().save(tmp_path / "nowhere" / "index.faiss")


def test_plain_faiss_finds_the_lists_beside_the_file(file: Path) -> None:
    import faiss

    moved = file.parent / "elsewhere" / file.name
    moved.parent.mkdir()
    shutil.move(file, moved)
    index = faiss.read_index(str(moved), faiss.IO_FLAG_ONDISK_SAME_DIR | faiss.IO_FLAG_READ_ONLY)
    faiss.extract_index_ivf(index).nprobe = 40
    _, found = index.search(data()[1], 60)
    first = answers(built())[:, :1]
    assert (found == first).any(axis=1).mean() > 0.95


def test_a_faiss_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss

    load_faiss.cache_clear()
    monkeypatch.setattr(faiss, "__version__", "1.13.2")
    with pytest.raises(MissingFaissError, match=r"FAISS 1\.14 or later, but 1\.13\.2 is"):
        load_faiss()
    monkeypatch.setattr(faiss, "__version__", "1.14.0+cuda")
    assert load_faiss() is faiss
    load_faiss.cache_clear()
