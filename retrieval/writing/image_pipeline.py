"""Encodes a stream of images: worker processes decode ahead while the encoder works.

    decode (process 1) ┐
    decode (process 2) ┼─ in order, in batches ─> encode (this process)
    decode (process …) ┘

The images in flight are bounded, in number and in bytes, so memory does not grow with the source;
the bound lets a whole batch be decoded while another is encoded. An unreadable image comes out in
its place with the reason, even if it kills the process that decodes it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..encoders.base import ImageEncoder
from ..values.errors import RetrError
from ..values.types import ImageAt
from .image_worker import READY, Decoded, decode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger("retr.images")

T = TypeVar("T")

CHUNK_IMAGES = 8
CHUNK_BYTES = 16 << 20
HELD_BYTES = 256 << 20  # of images given as bytes or pixels that wait for their vectors
MOST_WORKERS = 32


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An image that has no vector; the reason is one clause, without the image's name."""

    reason: str


@dataclass(slots=True)
class PipelineReport:
    """What a pipeline did.

    images:     how many images got a vector.
    unreadable: how many images could not be read.
    encoding:   seconds that the encoder worked.
    waiting:    seconds that the encoder waited for decoded images.
    crashes:    how many processes died while decoding.
    """

    images: int = 0
    unreadable: int = 0
    encoding: float = 0.0
    waiting: float = 0.0
    crashes: int = 0


def encode_stream(
    encoder: ImageEncoder, items: Iterable[tuple[T, Any]], *, workers: int | None = None
) -> Iterator[tuple[T, NDArray[np.float32] | Unreadable]]:
    """Yield each image's tag and its vector f32[dim], or why it has none, in the order given.

    items:   the caller's own tags and images, see `values.images.ImageInput`; consumed one by
             one, not far ahead of what is yielded.
    workers: number of processes that decode, see `ImagePipeline`.
    """
    with ImagePipeline[T](encoder, workers=workers) as pipeline:
        for tag, image in items:
            yield from pipeline.put(tag, image)
        yield from pipeline.drain()


class ImagePipeline(Generic[T]):
    """Encodes images that are put in one by one; use it in a `with` statement.

    Vectors come out later, in the order in which the images were put in.

    workers: number of processes that decode; None for one per core, 0 to decode in this process.
             They start when there are more than a handful of images to decode.
    report:  what was done so far.
    """

    def __init__(self, encoder: ImageEncoder, *, workers: int | None = None) -> None:
        self.report = PipelineReport()
        self._encoder = encoder
        self._prepare = encoder.prepare
        self._batch = max(1, encoder.image_batch_size)
        self._workers = _cores() if workers is None else workers
        # Enough to decode the next batch while one is encoded, and to keep every process busy.
        self._limit = 2 * self._batch + 2 * self._workers * CHUNK_IMAGES
        self._chunk: list[tuple[T, Any]] = []
        self._chunk_bytes = 0
        self._flying: deque[_Flight[T]] = deque()
        self._ready: list[tuple[T, NDArray[Any] | Unreadable]] = []
        self._made: list[tuple[T, NDArray[np.float32] | Unreadable]] = []
        self._pool: _Pool | None = None

    def put(self, tag: T, image: Any) -> list[tuple[T, NDArray[np.float32] | Unreadable]]:
        """Put in an image; return the results that are ready: tags, and vectors f32[dim].

        Waits if too much is in flight.
        """
        self._chunk.append((tag, image))
        self._chunk_bytes += _bytes_of(image)
        if len(self._chunk) >= CHUNK_IMAGES or self._chunk_bytes >= CHUNK_BYTES:
            self._send()
        while self._flying and (self._flying[0].future.done() or self._too_much()):
            self._made += self._land()
        return self.made()

    def drain(self) -> list[tuple[T, NDArray[np.float32] | Unreadable]]:
        """Wait for all images in flight and return their results; more may be put in after it."""
        if self._chunk:
            self._send(last=self._pool is None)
        while self._flying:
            self._made += self._land()
        self._made += self._encode()
        return self.made()

    def made(self) -> list[tuple[T, NDArray[np.float32] | Unreadable]]:
        """Return results that are ready but were not returned yet, as after an interruption."""
        made, self._made = self._made, []
        return made

    def close(self) -> None:
        """End the processes and drop the images in flight."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        self._flying.clear()
        self._chunk, self._ready = [], []

    def __enter__(self) -> ImagePipeline[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _too_much(self) -> bool:
        images = sum(len(flight.tags) for flight in self._flying)
        return images > self._limit or sum(flight.bytes for flight in self._flying) > HELD_BYTES

    def _send(self, *, last: bool = False) -> None:
        """Have a chunk decoded by a process, or here if it is all there is."""
        chunk, self._chunk = self._chunk, []
        size, self._chunk_bytes = self._chunk_bytes, 0
        images = [image for _, image in chunk]
        future: Future[Decoded]
        if self._workers < 1 or last:
            future = Future()
            start = time.perf_counter()
            future.set_result(decode(self._prepare, images))
            self.report.waiting += time.perf_counter() - start
        else:
            if self._pool is None:
                self._pool = _Pool(self._prepare, self._workers)
            future = self._pool.submit(images)
        self._flying.append(_Flight([tag for tag, _ in chunk], future, size))

    def _land(self) -> list[tuple[T, NDArray[np.float32] | Unreadable]]:
        """Wait for the first chunk, and encode if a batch is full."""
        flight = self._flying.popleft()
        start = time.perf_counter()
        decoded = flight.future.result()
        self.report.waiting += time.perf_counter() - start
        arrays = iter(() if decoded.arrays is None else decoded.arrays)
        for tag, reason in zip(flight.tags, decoded.reasons, strict=True):
            self._ready.append((tag, next(arrays) if reason is None else Unreadable(reason)))
        return self._encode() if len(self._ready) >= self._batch else []

    def _encode(self) -> list[tuple[T, NDArray[np.float32] | Unreadable]]:
        import numpy as np

        ready, self._ready = self._ready, []
        out: list[tuple[T, NDArray[np.float32] | Unreadable]] = []
        arrays = [array for _, array in ready if not isinstance(array, Unreadable)]
        start = time.perf_counter()
        vectors = iter(self._encoder.encode_prepared(np.stack(arrays)) if arrays else ())
        self.report.encoding += time.perf_counter() - start
        for tag, array in ready:
            out.append((tag, array if isinstance(array, Unreadable) else next(vectors)))
        self.report.images += len(arrays)
        self.report.unreadable += len(ready) - len(arrays)
        if self._pool is not None:
            self.report.crashes = self._pool.crashes
        return out


@dataclass(frozen=True, slots=True)
class _Flight(Generic[T]):
    """A chunk that is being decoded."""

    tags: list[T]
    future: Future[Decoded]
    bytes: int


class _Pool:
    """Threads that each hand one chunk after another to a process of their own."""

    def __init__(self, prepare: Callable[[Any], Any], workers: int) -> None:
        self.crashes = 0
        self._prepare = prepare
        self._here = False  # whether `prepare` cannot be sent to another process
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="retr-images")
        self._own = threading.local()
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def submit(self, images: list[Any]) -> Future[Decoded]:
        """Return a future of the decoded images."""
        return self._threads.submit(self._decode, images)

    def close(self) -> None:
        """End all processes at once."""
        with self._lock:
            self._closed = True
            processes = list(self._processes)
        for process in processes:
            process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in processes:
            _reap(process)

    def _decode(self, images: list[Any]) -> Decoded:
        try:
            return self._ask(images)
        except _DiedError as died:
            with self._lock:
                self.crashes += 1
            if len(images) == 1:
                return Decoded(None, [f"crashes the process that decodes it ({died})"])
        # One of the images crashed the process, so decode each by itself.
        import numpy as np

        single = [self._decode([image]) for image in images]
        arrays = [one.arrays for one in single if one.arrays is not None]
        reasons = [reason for one in single for reason in one.reasons]
        return Decoded(np.concatenate(arrays) if arrays else None, reasons)

    def _ask(self, images: list[Any]) -> Decoded:
        process = getattr(self._own, "process", None)
        if process is None and not self._here:
            process = self._own.process = self._start()
        message = None if process is None else _pickled(images)
        if process is None or message is None:
            return decode(self._prepare, images)
        try:
            answer = _exchange(process, message)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            self._own.process = None
            code = self._forget(process)
            raise _DiedError(f"signal {-code}" if code < 0 else f"exit code {code}") from error
        if not isinstance(answer, Decoded):
            raise RuntimeError(f"preparing an image for the encoder failed:\n{answer}")
        return answer

    def _start(self) -> subprocess.Popen[bytes] | None:
        """Return a process that is ready, or None if `prepare` cannot be sent to it."""
        try:
            message = pickle.dumps(self._prepare, protocol=pickle.HIGHEST_PROTOCOL)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            self._decode_here(error)
            return None
        with self._lock:
            if self._closed:
                raise CancelledError
            process = _spawn()
            self._processes.add(process)
        try:
            answer = _exchange(process, message)
        except (OSError, EOFError, pickle.UnpicklingError):
            answer = None
        if answer == READY:
            return process
        code = self._forget(process)
        if self._closed:
            raise CancelledError
        if answer is not None:
            self._decode_here(answer)
            return None
        raise WorkerError(
            f"a process that decodes images ended as it started (exit code {code}); is there "
            "enough memory?"
        )

    def _decode_here(self, why: object) -> None:
        if not self._here:
            log.info("threads decode the images: no other process can load %s", self._prepare)
            log.debug("%s", why)
        self._here = True

    def _forget(self, process: subprocess.Popen[bytes]) -> int:
        with self._lock:
            self._processes.discard(process)
        try:
            process.wait(timeout=5)  # it may be about to end, and its own code says why
        except subprocess.TimeoutExpired:
            process.kill()
        return _reap(process)


class WorkerError(RetrError):
    """The processes that decode images cannot be started."""


class _DiedError(Exception):
    """A process ended in the middle of its work."""


_COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from importlib import import_module; import_module(sys.argv[2]).main()"
)


def _spawn() -> subprocess.Popen[bytes]:
    path = json.dumps([entry or str(Path.cwd()) for entry in sys.path])
    module = f"{__package__}.image_worker"
    return subprocess.Popen(
        [sys.executable, "-c", _COMMAND, path, module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # The libraries for TIFF and others write warnings about files to stderr.
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )


def _exchange(process: subprocess.Popen[bytes], message: bytes) -> Any:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(message)
    process.stdin.flush()
    return pickle.load(process.stdout)


def _pickled(images: list[Any]) -> bytes | None:
    """Return images as a message, or None if one cannot be pickled.

    Pickling reads a PIL image that was opened but not read, and may find that it is damaged.
    """
    try:
        return pickle.dumps(images, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:  # whatever Pillow raises; opening the image will tell the cause
        return None


def _reap(process: subprocess.Popen[bytes]) -> int:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # buffered data has no reader any more
                pipe.close()
    return process.wait()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MOST_WORKERS)
    return min(os.cpu_count() or 1, MOST_WORKERS)


def _bytes_of(image: Any) -> int:
    """Return the approximate size in bytes of an image that waits."""
    image = image.data if isinstance(image, ImageAt) else image
    if isinstance(image, bytes | bytearray | memoryview):
        return len(image)
    if hasattr(image, "nbytes"):
        return int(image.nbytes)
    size = getattr(image, "size", None)  # a PIL image
    return 4 * size[0] * size[1] if isinstance(size, tuple) and len(size) == 2 else 0
