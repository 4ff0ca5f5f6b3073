"""Images a second: does the encoder ever wait for images to be decoded?

    python -m retr.benchmarks.images.throughput FOLDER [--images 512] [--out FILE]

The same images, the same processes and the same model, three ways in turn: decoding alone (the
pipeline with an encoder that does nothing), encoding alone (images that are decoded already), and
the pipeline as a build uses it. It can be no faster than the slower of the two; where both need
the same cores it is slower by what decoding takes of them. Processor time is kept beside, of this
process and of those that decode: on a machine that does other work, too, it says more. Run as
`python -m retr.benchmarks.images.throughput FOLDER`; random weights of a real architecture serve,
for speed does not depend on them.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ...retrieval.encoders import EncoderOptions, resolve
from ...retrieval.encoders.base import ImageEncoder, Space
from ...retrieval.encoders.clip import ClipEncoder
from ...retrieval.encoders.clip_loading import Loaded
from ...retrieval.values.errors import InputError
from ...retrieval.values.images import SUFFIXES, open_image
from ...retrieval.writing.image_pipeline import ImagePipeline
from ..study import Result, Study
from ..tables import Table, number, spread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Idle(ImageEncoder):
    """Prepares images as another encoder does, and makes nothing of them."""

    family = "idle"

    def __init__(self, of: ImageEncoder) -> None:
        self.name = "idle"
        self.space = Space(self.name, "idle", "1", 1, False, "ip")
        self.image_batch_size = of.image_batch_size
        self._prepare = of.prepare

    @classmethod
    def open(cls, name: str, options: EncoderOptions) -> Idle:
        """Refuse: it is made for another encoder."""
        raise InputError(f"encoder {name!r} has no name to be opened by")

    @property
    def prepare(self) -> Callable[[Any], NDArray[Any]]:
        """What prepares images for the other encoder."""
        return self._prepare

    def encode_queries(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Return f32[n, 1] of zeros."""
        import numpy as np

        return np.zeros((len(items), 1), np.float32)

    encode_documents = encode_queries

    def encode_prepared(self, arrays: NDArray[Any]) -> NDArray[np.float32]:
        """Return f32[n, 1] of zeros."""
        import numpy as np

        return np.zeros((len(arrays), 1), np.float32)


def random_weights(architecture: str, device: str | None = None) -> ClipEncoder:
    """Return a model of open_clip's with random weights."""
    import open_clip

    model = open_clip.create_model(architecture, load_weights=False, pretrained_text=False).eval()
    loaded = Loaded(
        f"{architecture}/random",
        model.requires_grad_(False),
        open_clip.get_tokenizer(architecture),
        dict(model.visual.preprocess_cfg),
        b"random",
    )
    return ClipEncoder(loaded, f"clip:{loaded.name}", None, EncoderOptions(device=device))


def measure(
    encoder: ImageEncoder, paths: Sequence[Path], rounds: int, workers: int | None
) -> dict[str, Any]:
    """Return images a second of each way, a figure a round, the ways in turn."""
    import numpy as np

    size = encoder.image_batch_size
    arrays = np.stack([encoder.prepare(open_image(path)) for path in paths[: 4 * size]])
    idle = Idle(encoder)

    def encode() -> None:
        for start in range(0, len(paths), size):
            first = start % len(arrays)
            encoder.encode_prepared(arrays[first : first + min(size, len(paths) - start)])

    waited: list[float] = []

    def through(chosen: ImageEncoder) -> None:
        with ImagePipeline[int](chosen, workers=workers) as pipeline:
            for place, path in enumerate(paths):
                pipeline.put(place, path)
            pipeline.drain()
            if chosen is encoder:
                waited.append(pipeline.report.waiting)

    ways: dict[str, Callable[[], None]] = {
        "decoding alone": lambda: through(idle),
        "encoding alone": encode,
        "pipeline": lambda: through(encoder),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            start, used = time.perf_counter(), _processor_seconds()
            way()
            if turn:  # the first round warms caches and the model
                rates[name].append(len(paths) / (time.perf_counter() - start))
                spent[name].append((_processor_seconds() - used) / len(paths))
    return {
        "images_per_second": rates,
        "processor_seconds_per_image": spent,
        "encoder_waited_seconds": waited[1:],
    }


def _processor_seconds() -> float:
    """Return the seconds of processor time of this process and of those that it has ended."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def tables(result: Result) -> Iterator[Table]:
    """Yield the medians, and what of the slower of the two alone the pipeline reaches."""
    rows = []
    for name, rates in result["images_per_second"].items():
        spent = 1000 * median(result["processor_seconds_per_image"][name])
        rows.append([name, spread(rates, 1), number(spent, 1)])
    device = f", {result['device']}" if result.get("device") else ""
    yield Table(
        ["", "images/s", "CPU ms an image"],
        rows,
        f"{result['encoder']}{device}, {result['images']:,} images, {result['workers']} processes",
        [f"The pipeline reaches {result['ratio']:.3f} of the slower of the two alone."],
    )


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="of images, searched with all that is below it")
    parser.add_argument("--architecture", default="ViT-B-32", help="with random weights")
    parser.add_argument("--encoder", help="a clip: encoder, in place of random weights")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, help="processes that decode; one a core else")
    parser.add_argument("--device", help="cpu, cuda, …")


def _measure(given: argparse.Namespace) -> dict[str, Any]:
    paths = [p for p in sorted(given.folder.rglob("*")) if p.suffix.lower() in SUFFIXES]
    if not paths:
        raise InputError(f"{given.folder}: has no images")
    # Few images are taken again, for a run has to be long enough to be measured.
    paths = (paths * (given.images // len(paths) + 1))[: given.images]
    if given.encoder:
        encoder = resolve(given.encoder, EncoderOptions(device=given.device))
    else:
        encoder = random_weights(given.architecture, given.device)
    if not isinstance(encoder, ImageEncoder):
        raise InputError(f"{given.encoder}: makes nothing of images")
    found = measure(encoder, paths, given.rounds, given.workers)
    return {
        "encoder": given.encoder or f"{given.architecture}, random weights",
        "images": len(paths),
        "device": given.device,
        "source": given.folder.name,
        "batch": encoder.image_batch_size,
        "workers": given.workers if given.workers is not None else "one a core",
        **found,
        "ratio": _ratio(found["images_per_second"]),
    }


def _ratio(rates: dict[str, list[float]]) -> float:
    """Return the median over rounds of the pipeline's rate by the smaller of the two alone."""
    each = [
        through / min(decoding, encoding)
        for decoding, encoding, through in zip(
            rates["decoding alone"], rates["encoding alone"], rates["pipeline"], strict=True
        )
    ]
    return round(median(each), 4)


def _run_name(result: Result) -> str:
    return f"{result['images']} images{', ' + result['device'] if result['device'] else ''}"


STUDY = Study("images.throughput", __doc__, _arguments, _measure, tables, run=_run_name)

if __name__ == "__main__":
    STUDY.main()
