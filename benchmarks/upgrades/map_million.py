"""What mapping a million stored vectors takes: the processor and the memory of `retr upgrade map`.

    python -m retr.benchmarks.upgrades.map_million --work DIR [--rows 1000000] [--out FILE]

The vectors are real ones of MiniLM, grown to so many (`grow.py`): the new encoder's, of 384
dimensions. The old encoder's are 256 random Fourier features of them (`grow.lifted`), which no
linear map takes back. A document is the number of its row, by which both find its vector. A
collection of the old vectors is built, an upgrade begins with a sample, and its map goes over all
rows: through the collection, files written and committed; and over the array alone, with the
correction for hubs and without. Seconds are those of the processor, over all threads; memory is
that of the process itself, without mapped files.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...retrieval.bridges.codec import read_forward
from ...retrieval.bridges.forward import Forward
from ...retrieval.bridges.maps import BLOCK, Hubless, Map
from ...retrieval.build import build
from ...retrieval.collection import Collection
from ...retrieval.encoders.base import Encoder
from ...retrieval.encoders.functions import from_functions
from ...retrieval.store.manifest import Maps
from ...retrieval.values.errors import RetrError
from ...retrieval.values.types import Document
from .. import environment
from ..ann import data as ann_data
from ..ann.grow import lifted
from ..files import write_json

ROWS, OLD_DIM, SAMPLE = 1_000_000, 256, 5_000
ANCHORS, NEAREST, POWER = 1_000, 3, 0.25
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Took:
    """What a piece of work took.

    cpu, wall: seconds.
    anonymous: bytes of memory at the peak above those before; None off Linux.
    """

    cpu: float
    wall: float
    anonymous: int | None


def run(
    work: Path, rows: int = ROWS, sample: int = SAMPLE, note: Callable[[str], None] = print
) -> dict[str, Any]:
    """Measure in a folder, where the grown vectors are kept; return plain values.

    Raises:
        InputError: there are no test vectors, or too few rows.
    """
    prepared = ann_data.prepare(ann_data.read(ann_data.MINILM), work, rows=rows, note=note)
    base = prepared.base()
    old, new = _encoders(base)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        path = Path(folder) / "c.retr"
        found, built = _measured(lambda: build(_documents(rows), path, encoder=old, progress=False))
        note(f"built: {built}")
        _, begun = _measured(lambda: found.upgrade(new, sample=sample, progress=False))
        note(f"begun: {begun}")
        forward = _forward(found, path)
        mapped, through = _measured(lambda: found.map_upgrade(progress=False))
        note(f"mapped {mapped:,}: {through}")
    return {
        "rows": rows,
        "real_rows": prepared.about["real"],
        "dims": [OLD_DIM, base.shape[1]],
        "sample": sample,
        "mapped": mapped,
        "map": forward.kind,
        "environment": environment.describe(),
        "build": asdict(built),
        "start": asdict(begun),
        "collection": asdict(through),
        "array": over_array(forward, base),
    }


def table(result: Mapping[str, Any]) -> str:
    """Return a line for each piece of work."""
    old, new = result["dims"]
    lines = [
        f"{result['mapped']:,} vectors, {old} to {new} dimensions; the map: {result['map']}",
        f"  {'':<44}{'CPU s':>8}{'wall s':>8}{'memory MB':>11}",
    ]
    work = {
        f"upgrade start, a sample of {result['sample']:,}": result["start"],
        "upgrade map, through the collection": result["collection"],
        **{f"over the array, {name}": took for name, took in result["array"].items()},
    }
    for name, took in work.items():
        more = "" if took["anonymous"] is None else f"{took['anonymous'] / 1e6:,.0f}"
        lines.append(f"  {name:<44}{took['cpu']:8.1f}{took['wall']:8.1f}{more:>11}")
    return "\n".join(lines)


def _encoders(base: NDArray[np.floating]) -> tuple[Encoder, Encoder]:
    def features(texts: list[str]) -> Floats:
        return lifted(np.ascontiguousarray(base[np.array(texts, np.int64)]), OLD_DIM, 0)

    def whole(texts: list[str]) -> Floats:
        return np.ascontiguousarray(base[np.array(texts, np.int64)])

    width = int(base.shape[1])
    return from_functions("features", features, dim=OLD_DIM), from_functions(
        "all", whole, dim=width
    )


def _documents(rows: int) -> Iterator[Document]:
    return (Document(str(row), str(row)) for row in range(rows))


def _forward(found: Collection, path: Path) -> Forward:
    (entry,) = [each for each in found._snapshot.manifest.bridges if each.maps is Maps.DOCUMENTS]
    return read_forward(path / entry.file)


def over_array(forward: Forward, base: NDArray[np.floating]) -> dict[str, Any]:
    """Return what a map takes over an array, with hubs corrected and without.

    Where it was chosen without the correction, one of the usual size is put behind it.

    base: f32[n, d], of the new encoder.
    """
    documents = forward.documents
    plain = documents.inner if isinstance(documents, Hubless) else documents
    if not isinstance(documents, Hubless):
        chosen = np.random.default_rng(0).permutation(len(base))[:ANCHORS]
        anchors = forward.bridge.map.apply(np.ascontiguousarray(base[np.sort(chosen)]))
        documents = Hubless(plain, anchors, NEAREST, POWER)
    old = np.concatenate(
        [lifted(base[at : at + BLOCK], OLD_DIM, 0) for at in range(0, len(base), BLOCK)]
    )
    maps: dict[str, Map] = {"hubs corrected": documents, "not corrected": plain}
    found = {}
    for name, each in maps.items():

        def work(each: Map = each) -> None:
            for start in range(0, len(old), BLOCK):
                each.apply(old[start : start + BLOCK])

        found[name] = asdict(_measured(work)[1])
    return found


def _measured(work: Callable[[], Any]) -> tuple[Any, Took]:
    before, seen, ended = _anonymous(), [], threading.Event()

    def sample() -> None:
        while not ended.wait(0.05):
            seen.append(_anonymous())

    thread = threading.Thread(target=sample, daemon=True)
    cpu, wall = time.process_time(), time.monotonic()
    thread.start()
    found = work()
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    ended.set()
    thread.join()
    known = [each for each in (*seen, _anonymous()) if each is not None]
    more = None if before is None else max(known) - before
    return found, Took(round(cpu, 2), round(wall, 2), more)


def _anonymous() -> int | None:
    """Return the bytes of memory that are the process's own; cheap enough to ask all the time."""
    try:
        text = Path("/proc/self/status").read_text("ascii", "replace")
    except OSError:
        return None
    lines = [line for line in text.splitlines() if line.startswith("RssAnon:")]
    return int(lines[0].split()[1]) * 1024 if lines else None


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print its table; `--out` keeps what was measured as JSON."""
    parser = argparse.ArgumentParser(prog="python -m retr.benchmarks.upgrades.map_million")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--out", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    try:
        result = run(given.work, given.rows)
    except RetrError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(table(result))
    if given.out is not None:
        write_json(result, given.out)


if __name__ == "__main__":
    main()
