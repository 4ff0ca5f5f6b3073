"""Index files that an earlier version wrote open, and answer as they did then."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from retr.indexes import IndexSpec, kind, kinds
from retr.indexes.arrays import ArraySource
from retr.indexes.base import Metric
from retr.indexes.exact import scan
from retr.indexes.points import OperatingPoint

GOLDEN = Path(__file__).with_name("golden")
EXPECTED = json.loads((GOLDEN / "index_expected.json").read_text())


def made() -> ModuleType:
    spec = importlib.util.spec_from_file_location("index_make", GOLDEN / "index_make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_is_one_of_every_kind() -> None:
    assert {IndexSpec.parse(text).kind for text in EXPECTED} == set(kinds())


@pytest.mark.parametrize("text", EXPECTED)
def test_it_opens_and_answers_as_it_did(text: str) -> None:
    make = made()
    base = make.vectors()
    source = ArraySource(base[: make.N], Metric.COSINE)
    spec = IndexSpec.parse(text)
    points = [OperatingPoint.from_json(point) for point in EXPECTED[text]["points"]]
    index = kind(spec.kind).load(make.file_of(text), source, spec, points=points, default_effort=0)
    hits = index.search(base[make.N :], make.K)
    np.testing.assert_array_equal(hits.positions, EXPECTED[text]["positions"])

    # Of random bytes codes tell the least, and a shortlist of a dozen among 300 misses a third;
    # the last point is thorough enough to find all.
    wanted = scan(source, base[make.N :], make.K).positions
    shares = []
    for effort in range(len(index.points)):
        found = index.search(base[make.N :], make.K, effort=effort).positions
        shares.append(float((found[:, :, None] == wanted[:, None, :]).any(axis=2).mean()))
    assert shares[0] >= (0.3 if "/" in text else 0.6)  # a funnel here starts with 8 values
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


# Runs in a process of its own: what must not happen is that it dies.
FLIPS = """
import json, random, sys
from pathlib import Path
import numpy as np
from retr.indexes import IndexSpec, _faiss, kind
from retr.indexes.arrays import ArraySource
from retr.indexes.base import IndexFileError, Metric

_faiss._HEAD = 64  # what follows has no checksum that loading compares
vectors = np.random.default_rng(0).standard_normal((1200, 32)).astype(np.float32)
source, folder, drawn = ArraySource(vectors, Metric.L2), Path(sys.argv[1]), random.Random(1)
for text in sys.argv[2:]:
    spec = IndexSpec.parse(text)
    kind(spec.kind).build(source, spec).save(folder / "whole.faiss")
    whole = (folder / "whole.faiss").read_bytes()
    refused = 0
    for _ in range(60):
        flipped = bytearray(whole)
        at = drawn.randrange(64, len(whole) - 20)
        flipped[at] ^= 1 << drawn.randrange(8)
        path = folder / "flipped.faiss"
        path.unlink(missing_ok=True)
        path.write_bytes(flipped)
        print(json.dumps([text, at]), flush=True)
        try:
            index = kind(spec.kind).load(path, source, spec)
        except IndexFileError:
            refused += 1
            continue
        for queries in (vectors[:8], vectors[:1]):
            hits = index.search(queries, 5, effort=len(index.points) - 1)
            assert ((hits.positions >= -1) & (hits.positions < len(vectors))).all()
            found = hits.positions >= 0
            true = -((vectors[hits.positions] - queries[:, None]) ** 2).sum(axis=2)
            assert np.allclose(hits.scores[found], true[found], rtol=1e-4)
    print(json.dumps([text, "refused", refused]), flush=True)
"""


def test_a_bit_that_flipped_anywhere_is_no_crash_and_no_wrong_score(tmp_path: Path) -> None:
    """Codes, links and lists are not compared with a checksum on opening: `verify` does that."""
    specs = ["hnsw@16", "ivfpq@8/16", "flat@8/16", "binary"]
    ran = subprocess.run(
        [sys.executable, "-c", FLIPS, str(tmp_path), *specs],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == 0, (lines[-1:], ran.stderr[-2000:])
    refused = {line[0]: line[2] for line in lines if line[1] == "refused"}
    assert list(refused) == specs
    assert refused["hnsw@16"] > 20  # links are looked at
