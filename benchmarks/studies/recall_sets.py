"""The collections that `recalls.py` holds the tuner to: unlike each other, and queries apart.

All are made of real embeddings, but for the clusters: paragraphs (the test data's MiniLM vectors,
as they are, grown, lifted to more dimensions or cut to fewer), documents and queries of BEIR sets
encoded by the built-in encoder, and texts as another modality sees them. A set has queries that
the tuner may be given, and others that it never sees.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...indexes.base import Floats, Metric
from ..ann.data import data_folder, minilm
from ..ann.grow import grow, lifted, unit_rows

KEPT: Final = 1000
"""At most this many queries are kept from the tuner, and no more than it is given."""
_BEIR: Final = ("scifact", "cran", "npl", "cosqa")


@dataclass(frozen=True, slots=True, eq=False)
class RecallSet:
    """Vectors, and queries.

    base:    f32[n, dim].
    given:   f32[g, dim], of the kind that is asked, for the tuner if it is given any.
    queries: f32[q, dim], which the tuner never sees.
    """

    base: Floats
    given: Floats
    queries: Floats
    metric: Metric = Metric.COSINE


def sets() -> dict[str, tuple[str, Callable[[Path], RecallSet]]]:
    """Return what each set is, and how it is made, in a folder that keeps what takes long."""
    return {
        "few": ("1,000 paragraphs", lambda _: _paragraphs(1_000)),
        "paragraphs": ("55,344 paragraphs", lambda _: _paragraphs(None)),
        "documents": ("24,279 documents, their data sets' queries, static:2", _documents),
        "grown": ("paragraphs, grown to 200,000", lambda work: _grown(work, 200_000)),
        "million": ("paragraphs, grown to 1,000,000", lambda work: _grown(work, 1_000_000)),
        "cut": ("paragraphs in 64 principal dimensions", lambda _: _cut(64)),
        "lifted": ("30,000 paragraphs in 1,024 dimensions", lambda _: _lifted(1024, 30_000)),
        "clusters": ("80,000 of 2,000 clusters and outliers, L2", lambda _: _clusters(80_000)),
        "duplicates": ("9,000 paragraphs, 1 to 40 copies of each", lambda _: _duplicates(9_000)),
        "lengths": ("paragraphs of several lengths, inner product", lambda _: _lengths()),
        "modalities": ("60,000 in one modality, queries in another", lambda _: _modalities()),
    }


def paragraphs() -> tuple[Floats, Floats]:
    """Return the test data's rows and held-out queries, f32[n, 384], unit length."""
    found = minilm()
    return unit_rows(found.base.astype(np.float32)), unit_rows(found.queries.astype(np.float32))


def _split(base: Floats, queries: Floats, metric: Metric = Metric.COSINE) -> RecallSet:
    """Keep up to `KEPT` of the queries, at most half, from the tuner."""
    order = np.random.default_rng(7).permutation(len(queries))
    kept = min(KEPT, len(queries) // 2)
    given = np.ascontiguousarray(queries[order[kept:]])
    return RecallSet(base, given, np.ascontiguousarray(queries[order[:kept]]), metric)


def _paragraphs(rows: int | None) -> RecallSet:
    base, queries = paragraphs()
    return _split(base[:rows], queries)


def grown(work: Path, rows: int) -> Floats:
    """Return the paragraphs grown to many, f32[rows, 384], mapped from a file that stays."""
    path = work / f"grown-{rows}.npy"
    if not path.exists():
        grow(paragraphs()[0], rows, path, seed=0)
    made: Floats = np.load(path, mmap_mode="r").view(np.ndarray)
    return made


def _grown(work: Path, rows: int) -> RecallSet:
    return _split(grown(work, rows), paragraphs()[1])


def _documents(work: Path) -> RecallSet:
    """Real queries are shorter than the documents they look for, and not like them."""
    from ...retrieval.encoders import resolve

    path = work / "documents.npz"
    if not path.exists():
        encoder = resolve("static:2")
        documents, queries = (
            [
                " ".join(filter(None, (record.get("title"), record["text"])))
                for name in _BEIR
                for record in _records(data_folder() / "beir" / name / f"{part}.jsonl")
            ]
            for part in ("corpus", "queries")
        )
        base, asked = encoder.encode_documents(documents), encoder.encode_queries(queries)
        np.savez(path, base=base, queries=asked)
    with np.load(path) as found:
        return _split(found["base"], found["queries"])


def _records(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _cut(dim: int) -> RecallSet:
    base, queries = paragraphs()
    _, vectors = np.linalg.eigh(base.T @ base)
    leading = np.ascontiguousarray(vectors[:, ::-1][:, :dim])
    return _split(unit_rows(base @ leading), unit_rows(queries @ leading))


def _lifted(dim: int, rows: int) -> RecallSet:
    base, queries = paragraphs()
    return _split(lifted(base[:rows], dim, 0), lifted(queries, dim, 0))


def _clusters(rows: int) -> RecallSet:
    """Clusters of all sizes and widths, and a twentieth that belongs to none, rows and queries."""
    random = np.random.default_rng(11)
    dim, count, total = 128, 2_000, rows + 2 * KEPT
    centres = 6 * random.standard_normal((count, dim)) / np.sqrt(1 + np.arange(dim) / 8)
    widths = random.lognormal(0, 0.5, count)
    shares = 1 / np.arange(1, count + 1)
    which = random.choice(count, total, p=shares / shares.sum())
    noise = random.standard_normal((total, dim)) / np.sqrt(1 + np.arange(dim) / 16)
    made = centres[which] + widths[which, None] * noise
    outliers = random.random(total) < 0.05
    made[outliers] = 12 * random.standard_normal((int(outliers.sum()), dim))
    rows32 = made.astype(np.float32)
    return _split(rows32[: -2 * KEPT], rows32[-2 * KEPT :], Metric.L2)


def _duplicates(rows: int) -> RecallSet:
    """As crawls have them: copies to the last bit, and copies that are nearly the same."""
    random = np.random.default_rng(12)
    base, queries = paragraphs()
    copies = np.minimum(random.zipf(1.6, rows), 40)
    made = np.repeat(base[:rows], copies, axis=0)
    near = random.random(len(made)) < 0.3
    noise = random.standard_normal((int(near.sum()), base.shape[1])).astype(np.float32)
    made[near] += 0.002 * noise
    return _split(unit_rows(random.permutation(made)), queries)


def _lengths() -> RecallSet:
    random = np.random.default_rng(13)
    base, queries = paragraphs()
    made = base * random.lognormal(0, 0.25, (len(base), 1)).astype(np.float32)
    return _split(made, queries, Metric.IP)


def _modalities() -> RecallSet:
    """Texts that look for images, as a two-tower encoder has them: out of the rows' distribution.

    Rows and queries lie in two cones a right angle apart (Liang et al., Mind the Gap, 2022), and
    a part of each says what the other has no words for.
    """
    random = np.random.default_rng(14)
    base, queries = paragraphs()
    dim = base.shape[1]
    axes, _ = np.linalg.qr(random.standard_normal((dim, dim)))

    def seen(texts: Floats, cone: int, own: slice, share: float) -> NDArray[np.float32]:
        noise = random.standard_normal((len(texts), own.stop - own.start)) @ axes[own]
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        meant = unit_rows((texts + share * noise).astype(np.float32))
        return unit_rows((0.6 * axes[cone] + 0.8 * meant).astype(np.float32))

    many = np.concatenate([base, base[: 60_000 - len(base)]])
    return _split(seen(many, 0, slice(2, 130), 0.7), seen(queries, 1, slice(200, 280), 0.9))
