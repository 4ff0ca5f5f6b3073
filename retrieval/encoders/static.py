"""The encoder that ships with retr: sums a vector per token; needs no model download and no torch.

`static` means the newest version, `static:2`; a collection built with `static:1` keeps using it,
because the manifest stores the versioned name and the files of a version never change. A text's
vector is the sum of its tokens' vectors, scaled to unit length; the token vectors were distilled
from a transformer and already include their frequency weights. The folder `static_N` holds
version N and its model card; `training/distill_static.py` made the first and
`training/train_static.py` the second.

Tokenization is part of the version too: a text is split at white space, and each run goes through
the model's `tokenizer.json`; a run longer than 8192 characters is cut into parts first. Splitting
first gives the same tokens as the whole text (except for the few control characters, such as the
form feed, that Python counts as white space and BERT deletes), and allows a run's tokens to be
cached, which is several times faster than tokenizing every text again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..values.errors import InputError
from ._checks import checked_texts
from .base import Encoder, EncoderOptions, Space, cut_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIMENSIONS = {"1": 256, "2": 256}
"""The available versions, each with its number of dimensions."""
DEFAULT_VERSION = "2"

_METRICS = ("cosine", "ip")
_BLOCK_TOKENS = 4096  # 4 MB of float32 rows; bounds the memory that a long text takes
_RUN_CHARACTERS = 8192
_REMEMBERED_CHARACTERS = 64
_REMEMBERED_RUNS = 100_000  # about 25 MB when full


class StaticEncoder(Encoder):
    """A static token-embedding model: `static`, `static:2`, `static@128`.

    Vectors have unit length; a text without a known token has the zero vector. A prompt is put
    before the text as it is, so with a prompt an empty text has the prompt's vector. The first
    dimensions carry the most information, so `@DIM` keeps those and scales them to unit length
    again. Safe to call from many threads.
    """

    family: ClassVar[str] = "static"
    batch_size = 1024

    def __init__(self, version: str, dim: int, options: EncoderOptions) -> None:
        cut = "" if dim == DIMENSIONS[version] else f"@{dim}"
        self.name = f"{self.family}:{version}{cut}"
        self.options = options
        self.space = Space(
            encoder=self.name,
            family=self.family,
            revision=version,
            dim=dim,
            normalised=True,
            metric=options.metric or "cosine",
            document_prompt=options.document_prompt or "",
            max_length=options.max_length,
            pooling="mean",
        )

    @classmethod
    def open(cls, name: str, options: EncoderOptions) -> StaticEncoder:
        """Return the encoder `name`; its files are read when it encodes the first text.

        The device is ignored, because nothing runs on one.

        Raises:
            InputError: no such version, too many dimensions, or an option that does not apply.
        """
        head, cut = cut_of(name)
        version = DEFAULT_VERSION if head == cls.family else head.removeprefix(f"{cls.family}:")
        if version not in DIMENSIONS:
            known = ", ".join(f"{cls.family}:{v}" for v in DIMENSIONS)
            raise InputError(f"encoder {name!r}: there is no such version; use {known}")
        dim = DIMENSIONS[version]
        if cut is not None and cut > dim:
            raise InputError(f"encoder {name!r}: it has {dim} dimensions, so give at most @{dim}")
        _check(name, options)
        return cls(version, dim if cut is None else cut, options)

    def encode_queries(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Return f32[n, dim], one vector per query text, with the query prompt.

        Raises:
            InputError: an item is not a str.
        """
        return self._encode(items, self.options.query_prompt or "")

    def encode_documents(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Return f32[n, dim], one vector per document text, with the document prompt.

        Raises:
            InputError: an item is not a str.
        """
        return self._encode(items, self.options.document_prompt or "")

    def _encode(self, items: Sequence[str], prompt: str) -> NDArray[np.float32]:
        who = f"encoder {self.name!r}"
        texts = checked_texts(items, who)
        if prompt:
            texts = checked_texts([prompt + text for text in texts], who)
        model = load(self.space.revision)
        return unit_length(model.sums(texts, self.space.dim, self.options.max_length))


@dataclass(frozen=True)
class StaticModel:
    """The token vectors of a version, and its tokenizer.

    tokens_of: returns the token ids of a run of characters without white space.
    codes:     i8[vocabulary, dim].
    scales:    f32[vocabulary]; the vector of token t is `codes[t] * scales[t]`.
    """

    tokens_of: Callable[[str], Sequence[int]]
    codes: NDArray[np.int8]
    scales: NDArray[np.float32]

    def sums(
        self, texts: Sequence[str], dim: int, max_length: int | None = None
    ) -> NDArray[np.float32]:
        """Return f32[n, dim]: for each text the sum of its first `max_length` token vectors."""
        import numpy as np

        out = np.zeros((len(texts), dim), np.float32)
        for position, text in enumerate(texts):
            tokens = chain.from_iterable(map(self.tokens_of, text.split()))
            ids = np.fromiter(islice(tokens, max_length), np.intp)
            for start in range(0, len(ids), _BLOCK_TOKENS):
                block = ids[start : start + _BLOCK_TOKENS]
                # One dot product scales and sums; numpy's reduceat over the texts of a batch
                # measured six times slower.
                out[position] += self.scales[block] @ self.codes[block, :dim].astype(np.float32)
        return out


class Runs(dict[str, Sequence[int]]):
    """A cache of token ids by run of characters without white space; tokenizes runs it lacks.

    It calls `encode`, not `encode_batch`, which starts the tokenizer's own threads: a process
    forked afterwards does not have them and can wait for them for ever.
    """

    def __init__(self, tokenizer_file: Path) -> None:
        from tokenizers import Tokenizer

        super().__init__()
        self._tokenizer = Tokenizer.from_file(str(tokenizer_file))

    def __missing__(self, run: str) -> Sequence[int]:
        ids: list[int] = []
        for start in range(0, len(run), _RUN_CHARACTERS):
            part = run[start : start + _RUN_CHARACTERS]
            ids += self._tokenizer.encode(part, add_special_tokens=False).ids
        if len(run) <= _REMEMBERED_CHARACTERS:
            if len(self) >= _REMEMBERED_RUNS:
                self.clear()
            self[run] = ids
        return ids


@cache
def load(version: str) -> StaticModel:
    """Return the model of a version: maps its weights, reads its tokenizer."""
    return load_folder(Path(__file__).with_name(f"static_{version}"))


def load_folder(folder: Path) -> StaticModel:
    """Return the model in a folder with `codes.npy`, `scales.npy` and `tokenizer.json`."""
    import numpy as np

    return StaticModel(
        tokens_of=Runs(folder / "tokenizer.json").__getitem__,
        # A plain view of the map, because indexing np.memmap itself costs microseconds each time.
        codes=np.asarray(np.load(folder / "codes.npy", mmap_mode="r")),
        scales=np.asarray(np.load(folder / "scales.npy", mmap_mode="r")),
    )


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return f32[n, dim] with rows scaled to unit length; zero rows stay zero."""
    import numpy as np

    lengths: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    lengths[lengths == 0] = 1
    return vectors / lengths[:, None]


def _check(name: str, options: EncoderOptions) -> None:
    """Raise InputError for an option that does not apply here."""
    if options.revision is not None:
        raise InputError(
            f"encoder {name!r}: the revision {options.revision!r} does not apply; "
            "give the version in the name, as in static:2"
        )
    if options.metric is not None and options.metric not in _METRICS:
        raise InputError(
            f"encoder {name!r}: metric {options.metric!r} is not supported; its vectors have unit "
            f"length, for which {' or '.join(_METRICS)} ranks as l2 would"
        )
