"""What a GPU gives: exact search, the training of `ivfpq`, an encoder, each beside the CPU.

    python -m retr.benchmarks.studies.gpu base.npy queries.npy --out gpu.json
    python -m retr.benchmarks.studies.gpu base.npy queries.npy --rows 10000 100000 --no-build
    python -m retr.benchmarks.studies.gpu base.npy queries.npy --encoder st:NAME --texts FILE

Figures are wall time, for that is what a GPU is for; the CPU has all its cores (set
`OMP_NUM_THREADS` for fewer). Searches by the GPU are timed three ways: `begun`, the very first,
which starts CUDA; `brought`, the vectors have to be copied there; `there`, they lie there already,
the median of five. The run fails if one position or score differs from the CPU's. What
`retr.indexes.scanning` takes for worth a GPU is read off these figures.

`base.npy` holds the vectors (of unit length, or compared by inner product), of which the first
`--rows` are searched; `python -m retr.benchmarks.ann.grow` makes many of few. If there are fewer
queries than asked for, some are taken again, moved a little.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from ...indexes import IndexSpec, exact, kind
from ...indexes.arrays import ArraySource
from ...indexes.base import Bitmap, Floats, Hits, Metric, Positions
from ...indexes.gpu import devices
from ...indexes.gpu.devices import on_device
from ...indexes.tuning.curve import K
from ...retrieval.encoders import EncoderOptions, resolve
from ...retrieval.encoders.base import Encoder
from ..ann.grow import unit_rows
from ..study import Result, Study
from ..tables import Table, number

ROWS: Final = (10_000, 100_000, 1_000_000)
BATCHES: Final = (1, 16, 128, 1024, 10_000)
SHARES: Final = (0.99, 0.7, 0.3, 0.03)
SPEC: Final = "ivfpq"
TEXTS: Final = 2000
_AGAIN: Final = 5
_LONG: Final = 3.0  # seconds after which the CPU is not timed again


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the vectors, the texts, and what is measured of them."""
    parser.add_argument("base", type=Path, help="the vectors, a .npy file of float16 or float32")
    parser.add_argument("queries", type=Path, help="a .npy file, too")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--no-build", action="store_true", help=f"build no {SPEC}")
    parser.add_argument("--encoder", help="st:MODEL or another, to encode texts with")
    parser.add_argument("--texts", type=Path, help='lines of {"text": …}')
    parser.add_argument("--device", default="cuda")


def measure(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield what is known so far; the run ends with an error if answers differ."""
    base = np.load(given.base, mmap_mode="r")
    asked = _queries(np.load(given.queries).astype(np.float32), max(given.batches))
    found: dict[str, Any] = {"dim": base.shape[1], "k": K, "search": [], "filtered": []}
    with on_device(given.device):
        found |= {"begun_seconds": _begin(), "card": _card()}
        for rows in given.rows:
            source = ArraySource(np.ascontiguousarray(base[:rows]), Metric.COSINE)
            found["search"] += [searched(source, asked[:batch]) for batch in given.batches]
            yield found
        found["filtered"] = filtered(source, asked[:1024])
        yield found
        if not given.no_build:
            found["build"] = builds(source, asked[:1000], given.device)
            yield found
    if given.encoder and given.texts:
        encoders = {where: _encoder(given.encoder, where) for where in ("cpu", given.device)}
        made = encodings(encoders, _texts(given.texts))
        found["encoder"] = {"encoder": given.encoder.rpartition("/")[2], **made}
        yield found


def filtered(source: ArraySource, queries: Floats) -> list[dict[str, Any]]:
    """Return what searches take if a random share of the vectors is allowed."""
    rng, out = np.random.default_rng(0), []
    for share in SHARES:
        bits = np.packbits(rng.random(len(source)) < share, bitorder="little")
        out.append({"share": share} | searched(source, queries, bits, most=1))
    return out


def searched(
    source: ArraySource, queries: Floats, allowed: Bitmap | None = None, *, most: int = 3
) -> dict[str, Any]:
    """Return the seconds of a search on the CPU, timed up to `most` times, and on the GPU."""
    cpu, wanted = _timed(lambda: exact.scan(source, queries, K, allowed=allowed), most=most)
    there = devices.gpu()
    assert there is not None
    there.vectors.clear()

    def run() -> Hits:
        found = there.vectors.scan(source, queries, K, allowed)
        if found is None:
            raise SystemExit("the GPU could not be used; the log says why")
        return found

    brought, found = _timed(run, most=1)
    again, _ = _timed(run, most=_AGAIN)
    _, unsure = there.vectors.search(source, queries, K, allowed)
    same = np.array_equal(found.positions, wanted.positions)
    if not same or not np.array_equal(found.scores, wanted.scores):
        raise SystemExit(f"{len(source):,} rows, {len(queries):,} queries: the answers differ")
    return {
        "rows": len(source),
        "queries": len(queries),
        "cpu_seconds": cpu,
        "brought_seconds": brought,
        "there_seconds": again,
        "scanned": int(unsure.sum()),
        "same": same,
    }


def builds(source: ArraySource, queries: Floats, device: str) -> dict[str, Any]:
    """Return what building takes with the clustering on either, and what each index finds."""
    truth = exact.scan(source, queries, K)
    spec = IndexSpec.parse(SPEC)
    out: dict[str, Any] = {"spec": SPEC, "rows": len(source)}
    for name in ("cpu", device):
        ends: list[float] = []
        with on_device(name):
            begin = time.perf_counter()
            index = kind(spec.kind).build(
                source, spec, progress=lambda *_, e=ends: e.append(time.perf_counter())
            )
            seconds = time.perf_counter() - begin
            found = index.search(queries, K)
        out[name] = {
            "seconds": seconds,
            "first_block_seconds": ends[0] - begin,  # trained, and the first vectors are in it
            "recall": float((found.scores >= truth.scores[:, -1:]).mean()),
        }
    return out


def encodings(encoders: Mapping[str, Encoder], texts: list[str]) -> dict[str, Any]:
    """Return the texts a second on each device, and the least cosine of a text's two vectors.

    encoders: one and the same encoder on two devices, by their names.
    """
    out: dict[str, Any] = {"texts": len(texts)}
    made: list[Floats] = []
    for where, encoder in encoders.items():
        encoder.encode_documents(texts[:64])  # warms up
        seconds, vectors = _timed(partial(encoder.encode_documents, texts), most=1)
        made.append(unit_rows(vectors))
        out[where] = {"seconds": seconds, "texts_per_second": len(texts) / seconds}
    out["least_cosine"] = float(np.einsum("ij,ij->i", *made).min())
    return out


def _encoder(name: str, device: str) -> Encoder:
    encoder = resolve(name, EncoderOptions(device=device))
    assert isinstance(encoder, Encoder)
    return encoder


def _timed(run: Callable[[], Any], *, most: int) -> tuple[float, Any]:
    """Return the median of the seconds that something takes, and what it returned at last."""
    times: list[float] = []
    while len(times) < most and sum(times) < _LONG:
        begin = time.perf_counter()
        value = run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times), value


def _begin() -> float:
    begin = time.perf_counter()
    there = devices.gpu()
    if there is None:
        raise SystemExit("FAISS has no GPU here; it can use one with: pip install 'retr[gpu]'")
    small = ArraySource(np.eye(64, dtype=np.float32), Metric.COSINE)
    there.vectors.scan(small, small.take(np.arange(2)), 1, None)
    return time.perf_counter() - begin


def _card() -> str:
    asked = "--query-gpu=name,driver_version,memory.total"
    command = ["nvidia-smi", asked, "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _queries(real: Floats, count: int) -> Floats:
    rng = np.random.default_rng(0)
    more: Positions = rng.integers(0, len(real), max(0, count - len(real)))
    spread = np.float32(0.3 / np.sqrt(real.shape[1]))
    moved = real[more] + spread * rng.standard_normal((len(more), real.shape[1]), np.float32)
    return unit_rows(np.concatenate([real, moved]))[:count]


def _texts(file: Path) -> list[str]:
    lines = file.read_text("utf-8").splitlines()
    texts = [str(json.loads(line)["text"]) for line in lines]
    return (texts * (TEXTS // len(texts) + 1))[:TEXTS]


def tables(result: Result) -> Iterable[Table]:
    """Yield the searches, the builds and the encoding."""
    begun = f"{result['card']}; begun in {result['begun_seconds']:.2f} s"
    head = ["rows", "queries", "allowed", "CPU s", "brought s", "there s", "scanned"]
    names = ("cpu_seconds", "brought_seconds", "there_seconds")
    rows = [
        [number(each["rows"]), number(each["queries"]), f"{each.get('share', 1):.0%}",
         *(number(each[name], 4) for name in names), number(each["scanned"])]
        for each in (*result["search"], *result["filtered"])
    ]  # fmt: skip
    yield Table(head, rows, f"Exact search, {result['dim']} dimensions, top {result['k']}", [begun])
    if made := result.get("build"):
        rows = [
            [name, number(each["seconds"], 1), number(each["first_block_seconds"], 1),
             number(each["recall"], 4)]
            for name, each in made.items()
            if isinstance(each, Mapping)
        ]  # fmt: skip
        head = ["device", "build s", "until trained s", "recall"]
        yield Table(head, rows, f"Building {made['spec']} over {made['rows']:,}")
    if made := result.get("encoder"):
        rows = [
            [name, number(each["texts_per_second"])]
            for name, each in made.items()
            if isinstance(each, Mapping)
        ]
        alike = f"The vectors are alike to {1 - made['least_cosine']:.1g} in cosine."
        title = f"Encoding {made['texts']:,} texts, {made['encoder']}"
        yield Table(["device", "texts a second"], rows, title, [alike])


STUDY = Study("studies.gpu", __doc__, arguments, measure, tables)

if __name__ == "__main__":
    STUDY.main()
