"""Family `clip`: images and texts in one space, by any model of open_clip.

    clip:ARCH/PRETRAINED    an architecture and a tag of open_clip's: clip:ViT-B-32/openai
    clip:hf-hub:ORG/NAME    a model on the hub: clip:hf-hub:timm/ViT-B-16-SigLIP
    clip:FOLDER             a folder with open_clip_config.json and weights, as open_clip saves it
    clip:ARCH/FILE          a file of weights, such as a checkpoint of open_clip's training

`@DIM` at the end keeps the first dimensions. The model's own image preparation and tokenizer are
used; captions get no prompt unless the options give one.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..values.errors import InputError
from ._checks import checked_texts, existing_folder
from ._clip_texts import Tokens, stretch
from ._st_loading import first_line
from .base import EncoderOptions, ImageEncoder, Space, cut_of
from .clip_finding import HUB
from .clip_loading import Loaded, load
from .clip_preparation import Preparation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger("retr.encoders.clip")

# Texts on which tokenizers differ; their ids stand for the tokenizer in the space's revision.
_PROBES = ("A photo of 2 naïve Cats, at 3:14!", "速い茶色の狐 · быстрая лиса", "", "x " * 300)
_CPU_BATCH = 32  # larger batches are no faster there
_GPU_BATCH = 512
# The memory that a model's activations take, in multiples of its input as floats: measured 10 for
# ViT-B-16, estimated 35 for ViT-L-14-336 with attention matrices and RN50x64.
_ACTIVATIONS = 64


class ClipEncoder(ImageEncoder):
    """A model of open_clip; its vectors have unit length under "cosine".

    image_batch_size: how many images to encode at once, chosen by the device's free memory and
                      halved for good whenever that proves too little.
    """

    family = "clip"
    long_text_ways = ("chunk", "chunk-max", "stretch")

    def __init__(
        self,
        loaded: Loaded,
        name: str,
        cut: int | None = None,
        options: EncoderOptions | None = None,
    ) -> None:
        import torch

        self.name = name
        self.options = options = options or EncoderOptions()
        self._device = _device(name, options.device)
        self._model = loaded.model
        self._lock = threading.Lock()
        self._prepare, self._mean, self._std = _preparation(name, loaded)
        length = self._length(loaded, options)
        self._tokens = Tokens(loaded.tokenizer, length)
        self._model.to(self._device)
        self._mean, self._std = self._mean.to(self._device), self._std.to(self._device)
        # LayerNorm and softmax stay in float32 under autocast, so the vectors lose little.
        self._precision: torch.dtype | None = None
        if self._device.type == "cuda":
            half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
            self._precision = half
        self.image_batch_size = batch_for(
            4 * 3 * self._prepare.height * self._prepare.width * _ACTIVATIONS,
            _free_memory(self._device),
            _CPU_BATCH if self._device.type == "cpu" else _GPU_BATCH,
        )
        self.batch_size = 64 if self._device.type == "cpu" else 256
        self.query_prompt = options.query_prompt or ""
        metric = options.metric or "cosine"
        self._unit = metric == "cosine"
        native = self._texts(["retr"]).shape[1]
        if cut is not None and cut > native:
            raise InputError(
                f"encoder {name!r}: the model has {native} dimensions, so {cut} cannot be kept"
            )
        self.space = Space(
            encoder=name,
            family=self.family,
            revision=self._revision(loaded),
            dim=cut or native,
            normalised=self._unit,
            metric=metric,
            document_prompt=options.document_prompt or "",
            max_length=length,
            pooling=options.long_text if self._in_chunks() else None,
        )

    @classmethod
    def open(cls, name: str, options: EncoderOptions) -> ClipEncoder:
        """Load the model, from a file, a folder, the hub's cache, or the hub.

        Raises:
            InputError: there is no such model, it cannot be reached, it needs its own code,
                or an option cannot be used with it.
            MissingExtraError: open_clip is not installed.
        """
        uncut = existing_folder(name.removeprefix("clip:")) is not None
        whole, cut = (name, None) if uncut else cut_of(name)
        target = whole.removeprefix("clip:")
        if not whole.startswith("clip:") or not target or target == HUB:
            raise InputError(
                f"encoder {name!r}: write clip:ARCH/PRETRAINED, such as clip:ViT-B-32/openai, "
                f"clip:{HUB}NAME, clip:FOLDER or clip:ARCH/FILE"
            )
        loaded = load(name, target, options)
        found = f"clip:{loaded.name}"
        return cls(loaded, found if cut is None else f"{found}@{cut}", cut, options)

    @property
    def prepare(self) -> Preparation:
        """The function that turns an upright RGB image into u8[height, width, 3]."""
        return self._prepare

    def encode_queries(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Return f32[n, dim], with the query prompt."""
        texts = checked_texts(items, f"encoder {self.name!r}")
        return self._finished(self._all_texts([self.query_prompt + text for text in texts])[0])

    def encode_documents(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Return f32[n, dim], with the document prompt; counts the texts that are too long."""
        texts = checked_texts(items, f"encoder {self.name!r}")
        vectors, long = self._all_texts([self.space.document_prompt + text for text in texts])
        self.long_texts += long
        return self._finished(vectors)

    def encode_prepared(self, arrays: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return f32[n, dim] for u8[n, height, width, 3], the arrays that `prepare` made."""
        import numpy as np
        import torch

        shape = (self._prepare.height, self._prepare.width, 3)
        if arrays.ndim != 4 or arrays.shape[1:] != shape or arrays.dtype != np.uint8:
            raise InputError(
                f"encoder {self.name!r}: the prepared images are "
                f"{arrays.dtype}{list(arrays.shape)}; give uint8[n, {shape[0]}, {shape[1]}, 3]"
            )
        parts = [np.zeros((0, self.space.dim), np.float32)]
        start = 0
        while start < len(arrays):
            batch = arrays[start : start + self.image_batch_size]
            try:
                parts.append(self._images(batch))
                start += len(batch)
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                self.image_batch_size = len(batch) // 2
                log.info(
                    "%s: encoding %d images at once from now on", self.name, self.image_batch_size
                )
                torch.cuda.empty_cache()
        return self._finished(np.concatenate([part[:, : self.space.dim] for part in parts]))

    def _images(self, arrays: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        with self._lock, torch.inference_mode(), self._autocast():
            pixels = torch.from_numpy(arrays).to(self._device).permute(0, 3, 1, 2)
            values = (pixels.float().div(255) - self._mean) / self._std
            return self._numpy(self._model.encode_image(values.contiguous()))

    def _texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the model's f32[n, native dim]; texts that are too long are cut."""
        return self._rows(self._tokens.rows(texts)[0])

    def _rows(self, rows: Any) -> NDArray[np.float32]:
        import torch

        with self._lock, torch.inference_mode(), self._autocast():
            return self._numpy(self._model.encode_text(rows.to(self._device)))

    def _all_texts(self, texts: list[str]) -> tuple[NDArray[np.float32], int]:
        """Return f32[n, dim], and how many texts are longer than the model reads."""
        import numpy as np

        parts = [np.zeros((0, self.space.dim), np.float32)]
        long = 0
        for start in range(0, len(texts), self.batch_size):
            batch = texts[start : start + self.batch_size]
            rows, counts = self._tokens.rows(batch)
            vectors = self._rows(rows)[:, : self.space.dim]
            exceeding = [row for row, count in enumerate(counts) if count > self._tokens.length]
            long += len(exceeding)
            if self._in_chunks():
                for row in exceeding:
                    vectors[row] = self._pooled(batch[row])
            parts.append(vectors)
        return np.concatenate(parts), long

    def _pooled(self, text: str) -> NDArray[np.float32]:
        """Return f32[dim], the vector of a text longer than the model reads, from its windows."""
        import numpy as np

        windows = self._tokens.windows(text)
        vectors = np.concatenate(
            [
                self._texts(windows[start : start + self.batch_size])
                for start in range(0, len(windows), self.batch_size)
            ]
        )[:, : self.space.dim]
        if self._unit:  # every window counts equally
            vectors = _unit(vectors)
        if self.options.long_text == "chunk-max":
            return np.asarray(vectors.max(axis=0), np.float32)
        return np.asarray(vectors.mean(axis=0), np.float32)

    def _finished(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        import numpy as np

        if not np.isfinite(vectors).all():
            row = int(np.isfinite(vectors).all(axis=1).argmin())
            raise InputError(
                f"encoder {self.name!r}: the vector of item {row} of {len(vectors)} is not finite"
            )
        return np.ascontiguousarray(_unit(vectors) if self._unit else vectors)

    def _length(self, loaded: Loaded, options: EncoderOptions) -> int:
        """Return how many tokens the model reads, stretching it if the options ask for that."""
        who = f"encoder {self.name!r}"
        if options.long_text == "stretch":
            return stretch(loaded.model, options.max_length, who)
        length = int(
            getattr(loaded.tokenizer, "context_length", None) or loaded.model.context_length
        )
        if options.max_length not in (None, length):
            raise InputError(
                f"{who}: the model reads {length} tokens, so a max length of "
                f"{options.max_length} needs long_text 'stretch'"
            )
        return length

    def _in_chunks(self) -> bool:
        return self.options.long_text in ("chunk", "chunk-max")

    def _revision(self, loaded: Loaded) -> str:
        """Return 16 hex digits that identify weights, tokenizer and image preparation."""
        parts = (
            loaded.digest,
            repr(self._prepare).encode(),
            repr(
                [round(float(x), 6) for x in (*self._mean.flatten(), *self._std.flatten())]
            ).encode(),
            repr(Tokens(loaded.tokenizer, self._tokens.length).probe(_PROBES)).encode(),
        )
        whole = hashlib.blake2b(digest_size=8)
        for part in parts:
            whole.update(hashlib.blake2b(part, digest_size=16).digest())
        return whole.hexdigest()

    def _autocast(self) -> Any:
        import torch

        return torch.autocast(
            self._device.type, dtype=self._precision, enabled=self._precision is not None
        )

    def _numpy(self, features: Any) -> NDArray[np.float32]:
        import numpy as np

        return np.array(features.float().cpu().numpy(), np.float32)


def batch_for(item: int, free: int, most: int) -> int:
    """Return how many items fit in memory at once: a power of two from 1 to `most`.

    item: the bytes that one item takes.
    free: the free bytes, half of which are used.
    """
    fit = min(most, max(1, free // 2 // max(item, 1)))
    return 1 << (fit.bit_length() - 1)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    import numpy as np

    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    out = np.zeros_like(vectors)
    np.divide(vectors, norms, out=out, where=norms > 0)
    return out


def _device(name: str, asked: str | None) -> Any:
    import torch

    if asked is None:
        asked = "cuda" if torch.cuda.is_available() else "cpu"
        if asked == "cpu" and torch.backends.mps.is_available():
            asked = "mps"
    try:
        torch.empty(1, device=asked)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"encoder {name!r}: the device {asked!r} cannot be used here: {first_line(error)}"
        ) from error
    return torch.device(asked)


def _preparation(name: str, loaded: Loaded) -> tuple[Preparation, Any, Any]:
    """Return the image preparation, and mean and deviation as [1, 3, 1, 1] on the CPU."""
    import torch

    given = loaded.preparation
    size = given.get("size")
    if not isinstance(size, int) and not (isinstance(size, list | tuple) and len(size) == 2):
        raise InputError(f"encoder {name!r}: retr needs images of a fixed size, not {size!r}")
    height, width = (size, size) if isinstance(size, int) else size
    prepare = Preparation(
        int(height),
        int(width),
        str(given.get("resize_mode") or "shortest"),
        "bilinear" if given.get("interpolation") == "bilinear" else "bicubic",
        int(given.get("fill_color") or 0),
    )
    mean, std = (
        torch.tensor(given[key], dtype=torch.float32).reshape(1, -1, 1, 1).expand(1, 3, 1, 1)
        for key in ("mean", "std")
    )
    return prepare, mean, std


def _free_memory(device: Any) -> int:
    """Return the free bytes of the memory that a device uses."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except (OSError, ValueError):  # not Linux
        pass
    return 4 << 30
