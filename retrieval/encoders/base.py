"""What an encoder is, and how its name is read.

The prefix of a name is the family, and the family is a file: `static` is `static.py`, `st:…` is
`st.py`. Other packages add families through the entry-point group `retr.encoders`. To use an
encoder of your own, pass an `Encoder` instance or one or two functions (`from_functions`).
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ..values.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


TEXT = "text"
IMAGE = "image"
"""The modalities: what a vector is made from."""


@dataclass(frozen=True, slots=True)
class Space:
    """The identity of an embedding space; vectors of different spaces are never compared.

    Two spaces are the same if they are equal. Equality ignores `encoder`, so the same weights
    under another name or path are the same space.

    encoder:         the encoder's name, for people to read.
    family:          the prefix of the name: "static", "st", "vectors", …
    revision:        the fingerprint of the weights, or a version that stands for them.
    dim:             the number of dimensions.
    normalised:      True if every vector has unit length (zero vectors stay zero).
    metric:          "cosine", "ip" or "l2".
    document_prompt: the text put before a document's text.
    max_length:      the number of tokens after which a document is cut; None for no limit.
    pooling:         how token vectors become one: "mean", "cls", …; None if not applicable.
    sparse:          True if a vector is a set of word weights, see `SparseEncoder`.
    """

    encoder: str = field(compare=False)
    family: str
    revision: str
    dim: int
    normalised: bool
    metric: str
    document_prompt: str = ""
    max_length: int | None = None
    pooling: str | None = None
    sparse: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Space:
        """Return the space that `to_json` described."""
        return cls(**values)

    def __str__(self) -> str:
        parts = [self.encoder, f"{self.dim} dimensions", self.metric, f"revision {self.revision}"]
        if self.max_length is not None:
            parts.append(f"max length {self.max_length}")
        if self.document_prompt:
            parts.append(f"document prompt {self.document_prompt!r}")
        if self.pooling is not None:
            parts.append(f"pooling {self.pooling}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """What a user may set for an encoder besides its name; None leaves it to the encoder.

    query_prompt, document_prompt: the text put before each query or document.
    max_length: the number of tokens after which texts are cut.
    revision:   the hub's revision (branch, tag or commit).
    metric:     "cosine", "ip" or "l2"; None is the encoder's own.
    device:     "cpu", "cuda", …: where to compute; not stored.
    long_text:  how to handle texts longer than the model reads: "cut" is every encoder's
                default; `Encoder.long_text_ways` lists the others.
    """

    query_prompt: str | None = None
    document_prompt: str | None = None
    max_length: int | None = None
    revision: str | None = None
    metric: str | None = None
    device: str | None = None
    long_text: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the given options, except `device`, as JSON values."""
        values = asdict(self)
        del values["device"]
        return {name: value for name, value in values.items() if value is not None}


class Encoder(ABC):
    """Turns texts into vectors.

    A family's class lives in `retrieval/encoders/<family>.py`, sets `family`, and is made by
    `open`. `tests/test_encoder_contract.py` holds each to this contract:

    - vectors are f32[n, dim], finite, C-contiguous; of unit length if `space.normalised`;
    - a text's vector does not depend on the other texts in the batch (to 1e-5);
    - an empty text has a defined vector, possibly zero, never a NaN;
    - an empty list gives f32[0, dim].

    long_text_ways: the ways to handle texts longer than the encoder reads, besides cutting them.
    long_texts:     the number of document texts so far that were longer than the encoder reads;
                    counted only by encoders that have such ways.
    """

    family: ClassVar[str]
    long_text_ways: ClassVar[tuple[str, ...]] = ()
    space: Space
    name: str  # `resolve` opens the encoder by it; the manifest stores it
    options: EncoderOptions = EncoderOptions()
    modalities: frozenset[str] = frozenset({TEXT})
    batch_size: int = 64
    long_texts: int = 0

    @classmethod
    @abstractmethod
    def open(cls, name: str, options: EncoderOptions) -> Encoder:
        """Load the encoder called `name` (prefix included).

        Raises:
            InputError: there is no such model, or an option does not apply to this family.
            MissingExtraError: a library it needs is not installed.
        """

    @abstractmethod
    def encode_queries(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Return f32[n, dim], one vector per query text, each with the query prompt."""

    @abstractmethod
    def encode_documents(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Return f32[n, dim], one vector per document text, each with the document prompt."""


Weights = Mapping[str, float]
"""The weight of each word that a text contains or implies; a missing word weighs 0."""


class SparseEncoder(Encoder):
    """Turns texts into weights over the words of a vocabulary, as SPLADE does.

    Document weights are stored as postings, and a row's score is their inner product with the
    query's weights. In `space`, `dim` is the size of the vocabulary, `metric` is "ip" and
    `sparse` is True. The contract of `Encoder` applies to weights as follows:

    - a weight is finite and above 0;
    - a text's weights do not depend on the other texts in the batch (to 1e-5);
    - an empty text may have no weights;
    - an empty list gives an empty list.
    """

    # Not vectors, as an `Encoder` returns: over a whole vocabulary they would be mostly zeros.
    @abstractmethod
    def encode_queries(self, items: Sequence[str]) -> list[Weights]:  # type: ignore[override]
        """Return the weights of each query text, each with the query prompt."""

    @abstractmethod
    def encode_documents(self, items: Sequence[str]) -> list[Weights]:  # type: ignore[override]
        """Return the weights of each document text, each with the document prompt."""


class ImageEncoder(Encoder):
    """Turns texts and images into vectors of one space, as CLIP does.

    Encoding an image takes two steps, so that many processes can decode for one model: `prepare`
    is cheap to send to another process, where it turns an image into an array; `encode_prepared`
    turns arrays into vectors in this process. `retrieval.writing.image_pipeline` runs the two side
    by side; `encode_images` does both, for a few images such as a query's. The contract of
    `Encoder` for vectors of texts applies to vectors of images.

    image_batch_size: the best number of prepared images to encode at once.
    """

    modalities = frozenset({"text", "image"})
    image_batch_size: int = 64

    @property
    @abstractmethod
    def prepare(self) -> Callable[[Image.Image], NDArray[Any]]:
        """Return the function that turns an upright RGB image into an array.

        All arrays have one shape. The function can be pickled and needs no model: it is a frozen
        dataclass with `__call__`, or a module's function.
        """

    @abstractmethod
    def encode_prepared(self, arrays: NDArray[Any]) -> NDArray[np.float32]:
        """Return f32[n, dim], one vector for each of the n arrays that `prepare` made."""

    def encode_images(self, images: Sequence[Any]) -> NDArray[np.float32]:
        """Return f32[n, dim], one vector for each image.

        images: each a path, the bytes of a file, a PIL image, or an array, see
                `retrieval.images.open_image`.

        Raises:
            UnreadableImageError: one of them cannot be read; the message has its path or number.
            InputError: `images` is one image and not a list.
        """
        import numpy as np

        from ..values.images import UnreadableImageError, open_image

        if isinstance(images, str | bytes | os.PathLike) or not isinstance(images, Iterable):
            raise InputError(f"encoder {self.name!r}: give a list of images, not one")
        prepare, size = self.prepare, max(1, self.image_batch_size)
        out = np.zeros((len(images), self.space.dim), np.float32)
        for start in range(0, len(images), size):
            batch = []
            for number, image in enumerate(images[start : start + size], start=start):
                try:
                    batch.append(prepare(open_image(image)))
                except UnreadableImageError as error:
                    raise UnreadableImageError(error.reason, _named(image, number)) from error
            out[start : start + len(batch)] = self.encode_prepared(np.stack(batch))
        return out


def _named(image: Any, number: int) -> str:
    return os.fspath(image) if isinstance(image, str | os.PathLike) else f"image {number}"


def family_of(name: str) -> str:
    """Return the family of an encoder's name: the part before `:` or `@`."""
    for end, char in enumerate(name):
        if char in ":@":
            return name[:end]
    return name


def cut_of(name: str) -> tuple[str, int | None]:
    """Split `NAME@DIM` into the name and the number of dimensions kept, None for all.

    Raises:
        InputError: the part after the last `@` is a number, but not above 0.
    """
    head, at, tail = name.rpartition("@")
    if not at or re.fullmatch(r"-?[0-9]+", tail) is None:
        return name, None
    if int(tail) < 1:
        raise InputError(
            f"encoder {name!r}: cannot cut to {tail} dimensions; give a number above 0"
        )
    return head, int(tail)
