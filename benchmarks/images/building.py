"""A folder of many images, built into a collection, killed in the middle and built again.

    python -m retr.benchmarks.images.building --images 20000 --out RESULT.json

Measured are the memory of the building process and of those that decode for it, sampled while
they run, and how much is encoded twice. The images are made here: JPEGs of smooth noise, as large
as `--width`. The encoder is a fixed random projection of 32 x 32 pixels, so that what is measured
is the way of the images and not a model.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...retrieval.encoders.base import EncoderOptions, ImageEncoder, Space
from ...retrieval.store.manifest import Role
from ...retrieval.store.store import Store
from ...retrieval.values.errors import CollectionNotFoundError
from ..study import Result, Study
from ..tables import Table, number

if TYPE_CHECKING:
    from PIL import Image

SIDE, DIM = 32, 256
PER_FOLDER = 1000
SAMPLE_SECONDS = 0.25


def shrink(image: Image.Image) -> NDArray[np.uint8]:
    """Return u8[32, 32, 3]: what the encoder reads of an image."""
    return np.asarray(image.resize((SIDE, SIDE)), np.uint8)


class Projection(ImageEncoder):
    """Multiplies pixels by a fixed random matrix; every batch is written down in `log`."""

    family = "projection"
    name = "projection:1"

    def __init__(self, log: Path) -> None:
        rng = np.random.default_rng(0)
        self._matrix = rng.standard_normal((SIDE * SIDE * 3, DIM), dtype=np.float32)
        self._log = log
        self.space = Space(self.name, self.family, "1", DIM, True, "cosine")

    @classmethod
    def open(cls, name: str, options: EncoderOptions) -> Projection:
        """Refuse: it needs a file to write to."""
        raise NotImplementedError

    @property
    def prepare(self) -> Callable[[Image.Image], NDArray[Any]]:
        """Return what shrinks an image."""
        return shrink

    def encode_prepared(self, arrays: NDArray[Any]) -> NDArray[np.float32]:
        """Return f32[n, 256]."""
        pixels = np.asarray(arrays, np.float32).reshape(len(arrays), -1) / 127.5 - 1
        vectors = (pixels @ self._matrix).astype(np.float64)
        with self._log.open("a") as file:
            file.write(f"{len(arrays)}\n")
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float32)

    def encode_queries(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Return zeros: there are no texts here."""
        return np.zeros((len(items), DIM), np.float32)

    encode_documents = encode_queries


def make(folder: Path, width: int, number: int) -> None:
    """Write one image: smooth noise, three quarters as high as wide."""
    from PIL import Image

    small = np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((width, width * 3 // 4), Image.Resampling.BICUBIC)
    path = folder / f"{number // PER_FOLDER:03d}" / f"{number:06d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=85)


def build(folder: Path, collection: Path, log: Path) -> None:
    """Build the collection in this process and print what was done as JSON."""
    import retr

    c = retr.build(folder, collection, encoder=Projection(log), progress=False)
    report = c.report
    values = {name: getattr(report, name) for name in ("added", "unchanged", "images", "skipped")}
    print(json.dumps({**values, "seconds": round(report.seconds, 2), "rows": len(c)}))


def committed(collection: Path) -> int:
    """Return how many rows are committed by now."""
    try:
        manifest = Store(collection).read()[0]
    except (CollectionNotFoundError, OSError):
        return 0
    return sum(segment.rows for segment in manifest.of_role(Role.DOCUMENTS))


def watch(
    process: subprocess.Popen[str], until: Callable[[], bool]
) -> tuple[dict[str, int], list[tuple[float, int]]]:
    """Sample memory until a process ends, or kill it when `until` says so.

    Returns the most of each kind in bytes, and seconds with the process's anonymous memory.
    """
    most = dict.fromkeys(_HELD, 0)
    course: list[tuple[float, int]] = []
    start = time.monotonic()
    while process.poll() is None:
        own = memory(process.pid)
        children = [memory(pid)["Anonymous"] for pid in children_of(process.pid)]
        most["own_anonymous"] = max(most["own_anonymous"], own["Anonymous"])
        most["own_resident"] = max(most["own_resident"], own["Rss"])
        most["decoders_anonymous"] = max(most["decoders_anonymous"], sum(children))
        course.append((round(time.monotonic() - start, 1), own["Anonymous"]))
        if until():
            process.send_signal(signal.SIGKILL)
            process.wait()
        time.sleep(SAMPLE_SECONDS)
    return most, course[:: max(1, len(course) // 20)]


def memory(pid: int) -> dict[str, int]:
    """Return the bytes of a process that are resident, and of those that no file backs."""
    found = {"Rss": 0, "Anonymous": 0}
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name] = int(value.split()[0]) * 1024
    except (OSError, ValueError):  # it has ended
        pass
    return found


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def run(work: Path, images: int, width: int) -> dict[str, Any]:
    """Make the images, build, kill, build again; return the figures."""
    folder = work / "images"
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(make, folder, width), range(images), chunksize=200))
    size = sum(path.stat().st_size for path in folder.rglob("*.jpg"))
    collection, log = work / "c.retr", work / "encoded.log"

    def start() -> subprocess.Popen[str]:
        log.write_text("")
        command = [sys.executable, "-m", __spec__.name, "--build", *map(str, (folder, collection))]
        return subprocess.Popen([*command, str(log)], stdout=subprocess.PIPE, text=True)

    def encoded() -> int:
        return sum(map(int, log.read_text().split()))

    first = start()
    most_first, _ = watch(first, lambda: committed(collection) >= images // 2)
    there, before = committed(collection), encoded()
    second = start()
    most, course = watch(second, lambda: False)
    report = json.loads((second.stdout or sys.stdin).read().splitlines()[-1])
    again = encoded()
    return {
        "images": images,
        "width": width,
        "bytes": size,
        "killed": {"committed": there, "encoded": before, "memory": most_first},
        "resumed": {**report, "encoded": again, "memory": most, "course": course},
        "encoded_twice": before + again - images,
    }


def tables(result: Result) -> Iterator[Table]:
    """Yield what the killed build and the one after it did, and the most memory of each."""
    killed, resumed = result["killed"], result["resumed"]
    rows = []
    for name, each, rows_there in (
        ("killed half way", killed, killed["committed"]),
        ("run again", resumed, resumed["rows"]),
    ):
        memory = each["memory"]
        held = (number(memory[kind] / 1e6) for kind in _HELD)
        rows.append([name, number(each["encoded"]), number(rows_there), *held])
    note = (
        f"Encoded twice: {result['encoded_twice']:,}. The second build took "
        f"{resumed['seconds']:.0f} s by the clock."
    )
    yield Table(
        ["build", "encoded", "rows after it", "own anonymous MB", "own resident MB",
         "decoders' anonymous MB"],
        rows,
        f"{result['images']:,} images of {result['bytes'] / 1e6:,.0f} MB, {result['width']} wide",
        [note],
    )  # fmt: skip


_HELD = ("own_anonymous", "own_resident", "decoders_anonymous")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=320)


def _measure(given: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), given.images, given.width)


STUDY = Study("images.building", __doc__, _arguments, _measure, tables)

if __name__ == "__main__":
    if sys.argv[1:2] == ["--build"]:  # the process that `run` watches
        build(*map(Path, sys.argv[2:]))
    else:
        STUDY.main()
