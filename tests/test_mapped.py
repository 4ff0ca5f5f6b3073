"""How mapped vectors are read: an index picks single ones, a scan reads them all in order."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np
import pytest

import retr
from retr.indexes import arrays
from retr.indexes.arrays import ArraySource
from retr.indexes.base import Metric
from retr.indexes.tuning import tune

pytest.importorskip("faiss")


def flags(file: Path) -> set[str]:
    """Return the flags of the memory that a file is mapped to, as the kernel has them."""
    found: set[str] = set()
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.startswith("VmFlags:") and inside:
            found |= set(line.split()[1:])
        elif "-" in line.split(" ")[0]:
            inside = line.endswith(str(file))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_is_read_ahead_where_an_index_picks_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "_QUERIES", 50)
    rows = np.random.default_rng(0).standard_normal((4000, 64)).astype(np.float32)
    collection = retr.build(rows, tmp_path / "c.retr", progress=False)
    (file,) = (tmp_path / "c.retr" / "vectors").iterdir()
    assert flags(file)
    assert "rr" not in flags(file)
    collection.index("flat@32")
    del collection
    gc.collect()  # one mapping of the file is left, whose flags are looked at
    assert not flags(file)
    source = retr.open(tmp_path / "c.retr")._snapshot.dense[0].source
    assert "rr" in flags(file)
    blocks = source.blocks(1000)
    next(blocks)
    assert "rr" not in flags(file)
    held = list(blocks)
    assert sum(map(len, held)) == 3000
    assert "rr" in flags(file)


def test_advice_is_of_whole_pages_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, int, int]] = []
    monkeypatch.setattr(
        arrays, "_madvise", lambda: lambda *each: given.append(tuple(x.value for x in each))
    )
    page = arrays.mmap.PAGESIZE
    room = np.zeros(5 * page, np.uint8)
    start = -room.ctypes.data % page + 16  # just above the start of a page
    matrix = room[start : start + 3 * page].view(np.float32).reshape(-1, 4)
    source = ArraySource(matrix, Metric.L2)
    list(source.blocks(100))
    assert given == []
    source.read_at_random()
    first = matrix.ctypes.data - 16 + page
    assert given == [(first, 2 * page, 1)]
    list(source.blocks(100))
    assert [advice for *_, advice in given] == [1, 0, 1]
    given.clear()
    ArraySource(matrix[:2], Metric.L2).read_at_random()  # less than a page
    assert given == []
    monkeypatch.setattr(arrays, "_madvise", lambda: None)  # a system without it
    source.read_at_random()
    assert np.array_equal(np.concatenate(list(source.blocks(100))), matrix)
    assert given == []
