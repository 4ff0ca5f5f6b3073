"""Makes the golden index files, one of each kind: they have to open, and answer alike, for ever.

    python tests/golden/index_make.py

What is there stays as it is; what must be found stands in `index_expected.json`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from retr.indexes import IndexSpec, kind
from retr.indexes.arrays import ArraySource
from retr.indexes.base import Floats, Metric

HERE = Path(__file__).parent
EXPECTED = HERE / "index_expected.json"
N, DIM, QUERIES, K = 300, 32, 5, 5
SPECS = (
    "binary", "flat", "flat@16", "flat@8/16", "hnsw@16", "hnsw@8/16", "ivfpq", "ivfpq@16",
    "ivfpq@8/16",
)  # fmt: skip


def vectors() -> Floats:
    """Return unit vectors that depend on no library, f32[N + QUERIES, DIM]."""
    drawn = hashlib.shake_256(b"golden index").digest((N + QUERIES) * DIM)
    made = np.frombuffer(drawn, np.uint8).reshape(-1, DIM).astype(np.float64) - 127.5
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def file_of(spec: str) -> Path:
    return HERE / f"index_{spec.replace('@', '_').replace('/', '_')}.faiss"


def main() -> None:
    base = vectors()
    source = ArraySource(base[:N], Metric.COSINE)
    expected = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    for text in SPECS:
        spec, path = IndexSpec.parse(text), file_of(text)
        if path.exists():
            continue
        index = kind(spec.kind).build(source, spec)
        index.save(path)
        expected[text] = {
            "points": [point.to_json() for point in index.points],
            "positions": index.search(base[N:], K, effort=0).positions.tolist(),
        }
    EXPECTED.write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
