"""What a GPU gives: exact search, the training of `ivfpq`, an encoder, each beside the CPU.

    python -m retr.benchmarks.studies.gpu base.npy queries.npy --out gpu.json
    python -m retr.benchmarks.studies.gpu base.npy queries.npy --rows 10000 100000 --no-build
    python -m retr.benchmarks.studies.gpu base.npy queries.npy --encoder st:NAME --texts FILE

Figures are wall time, for that is what a GPU is for; the CPU has all its cores (set
`OMP_NUM_THREADS` for fewer). Searches by the GPU are timed three ways: `begun`, the very first,
which starts CUDA; `brought`, the vectors have to be copied there; `there`, they lie there already,
the median of five. The run fails where one position or score differs from the CPU's. What
`retr.indexes.scanning` takes for worth a GPU is read off these figures.

`base.npy` holds the vectors (of unit length, or compared by inner product), of which the first
`--rows` are searched; `python -m retr.benchmarks.ann.grow` makes many of few. Queries are taken
over again, moved a little, where there are fewer than asked for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
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
from ..environment import describe

ROWS: Final = (10_000, 100_000, 1_000_000)
BATCHES: Final = (1, 16, 128, 1024, 10_000)
SHARES: Final = (0.99, 0.7, 0.3, 0.03)
SPEC: Final = "ivfpq"
TEXTS: Final = 2000
_AGAIN: Final = 5
_LONG: Final = 3.0  # seconds after which the CPU is not timed again


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print its table; `--out` keeps what was measured as JSON."""
    parser = argparse.ArgumentParser(prog="python -m retr.benchmarks.studies.gpu")
    parser.add_argument("base", type=Path, help="the vectors, a .npy file of float16 or float32")
    parser.add_argument("queries", type=Path, help="a .npy file, too")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--no-build", action="store_true", help=f"build no {SPEC}")
    parser.add_argument("--encoder", help="st:MODEL or another, to encode texts with")
    parser.add_argument("--texts", type=Path, help='lines of {"text": …}')
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, help="where to keep what was measured")
    given = parser.parse_args(arguments)
    base = np.load(given.base, mmap_mode="r")
    asked = _queries(np.load(given.queries).astype(np.float32), max(given.batches))
    result: dict[str, Any] = {"dim": base.shape[1], "k": K, "search": [], "filtered": []}

    def keep(name: str, value: Any) -> None:
        result[name] = value
        if given.out:
            given.out.write_text(json.dumps(result, indent=1) + "\n")

    with on_device(given.device):
        keep("begun_seconds", _begin())
        keep("card", _card())
        for rows in given.rows:
            source = ArraySource(np.ascontiguousarray(base[:rows]), Metric.COSINE)
            keep("search", result["search"] + searches(source, asked, given.batches))
        keep("filtered", filtered(source, asked[:1024]))
        if not given.no_build:
            keep("build", builds(source, asked[:1000], given.device))
    if given.encoder and given.texts:
        keep("encoder", encodings(given.encoder, _texts(given.texts), given.device))
    keep("environment", describe())
    print(table(result))


def searches(source: ArraySource, asked: Floats, batches: list[int]) -> list[dict[str, Any]]:
    """Return the seconds of searches for so many queries at once, on the CPU and the GPU."""
    out = []
    for batch in batches:
        queries = asked[:batch]
        cpu, wanted = _timed(lambda q=queries: exact.scan(source, q, K), most=3)  # type: ignore[misc]
        out.append(_compared(source, queries, None, cpu, wanted))
    return out


def filtered(source: ArraySource, queries: Floats) -> list[dict[str, Any]]:
    """Return the same where a random share of the vectors is allowed."""
    rng, out = np.random.default_rng(0), []
    for share in SHARES:
        bits = np.packbits(rng.random(len(source)) < share, bitorder="little")
        cpu, wanted = _timed(lambda b=bits: exact.scan(source, queries, K, allowed=b), most=1)  # type: ignore[misc]
        out.append({"share": share} | _compared(source, queries, bits, cpu, wanted))
    return out


def _compared(
    source: ArraySource, queries: Floats, allowed: Bitmap | None, cpu: float, wanted: Hits
) -> dict[str, Any]:
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
            "first_block_seconds": ends[0] - begin,  # trained, and so many vectors are in it
            "recall": float((found.scores >= truth.scores[:, -1:]).mean()),
        }
    return out


def encodings(name: str, texts: list[str], device: str) -> dict[str, Any]:
    """Return the texts a second of an encoder on either, and how alike their vectors are."""
    out: dict[str, Any] = {"encoder": name.rpartition("/")[2], "texts": len(texts)}
    made: list[Floats] = []
    for where in ("cpu", device):
        encoder = resolve(name, EncoderOptions(device=where))
        assert isinstance(encoder, Encoder)
        encoder.encode_documents(texts[:64])  # warms up
        seconds, vectors = _timed(lambda e=encoder: e.encode_documents(texts), most=1)  # type: ignore[misc]
        made.append(unit_rows(vectors))
        out[where] = {"seconds": seconds, "texts_per_second": len(texts) / seconds}
    out["least_cosine"] = float(np.einsum("ij,ij->i", *made).min())
    return out


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
    command = [
        "nvidia-smi",
        "--query-gpu=name,driver_version,memory.total",
        "--format=csv,noheader",
    ]
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


def table(result: dict[str, Any]) -> str:
    """Return what was measured in lines of seconds."""
    lines = [f"{result['card']}; begun in {result['begun_seconds']:.2f} s"]
    head = ("rows", "queries", "CPU", "brought", "there", "scanned")
    lines.append("".join(f"{name:>12}" for name in head) + "  allowed")
    for each in (*result["search"], *result["filtered"]):
        seconds = (each["cpu_seconds"], each["brought_seconds"], each["there_seconds"])
        lines.append(
            f"{each['rows']:12,}{each['queries']:12,}"
            + "".join(f"{value:12.4f}" for value in seconds)
            + f"{each['scanned']:12,}  {each.get('share', 1):.0%}"
        )
    for part in ("build", "encoder"):
        if part in result:
            lines.append(f"{part}: {json.dumps(result[part])}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
