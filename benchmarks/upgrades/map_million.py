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
import tempfile
from collections.abc import Callable, Iterator
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
from ...retrieval.values.types import Document
from ..ann import data as ann_data
from ..ann.grow import lifted
from ..ann.process import Sampler, Spent, measured
from ..study import Result, Study
from ..tables import Table, number

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
        "build": asdict(built),
        "start": asdict(begun),
        "collection": asdict(through),
        "array": over_array(forward, base),
    }


def tables(result: Result) -> Iterator[Table]:
    """Yield a row for each piece of work."""
    old, new = result["dims"]
    work = {
        f"upgrade start, a sample of {result['sample']:,}": result["start"],
        "upgrade map, through the collection": result["collection"],
        **{f"over the array, {name}": took for name, took in result["array"].items()},
    }
    rows = [
        [name, number(took["cpu"], 1), number(took["wall"], 1),
         "" if took["anonymous"] is None else number(took["anonymous"] / 1e6)]
        for name, took in work.items()
    ]  # fmt: skip
    title = (
        f"{result['mapped']:,} vectors, {old} to {new} dimensions; the map chosen: {result['map']}"
    )
    yield Table(["", "CPU s", "wall s", "memory MB"], rows, title)


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
    spent = Spent()
    with Sampler() as memory, measured(spent):
        found = work()
    more = None if memory.before is None else (memory.most or 0) - memory.before
    return found, Took(round(spent.cpu, 2), round(spent.wall, 2), more)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="keeps vectors")
    parser.add_argument("--rows", type=int, default=ROWS)


STUDY = Study(
    "upgrades.map_million", __doc__, _arguments, lambda given: run(given.work, given.rows), tables
)

if __name__ == "__main__":
    STUDY.main()
