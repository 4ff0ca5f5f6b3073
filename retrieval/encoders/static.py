"""The encoder that ships with retr: a vector per token, summed; needs no model download, no torch.

`static` means the newest version, `static:2`; a collection that was built with `static:1` goes on
with that, because the manifest stores the versioned name and the files of a version never change.
A text's vector is the sum of the vectors of its tokens, made unit length; the tokens' vectors were
distilled from a transformer and carry their frequency weights already. The folder `static_N`
holds version N and its model card; `distill_static.py` made the first, `train_static.py` the
second.

How a text becomes tokens is part of the version too: it is split at white space, each run goes
through the model's `tokenizer.json`, and a run longer than 8192 characters is cut there first.
Splitting first gives the tokens that the whole text would give (but for the few control
characters, such as the form feed, that Python takes for white space and BERT deletes), and lets
the tokens of a run be remembered, which is several times faster than tokenizing every text anew.
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
"""The versions there are, each with its number of dimensions."""
DEFAULT_VERSION = "2"

_METRICS = ("cosine", "ip")
_BLOCK_TOKENS = 4096  # 4 MB of float32 rows: bounds the memory that a long text takes
_RUN_CHARACTERS = 8192
_REMEMBERED_CHARACTERS = 64
_REMEMBERED_RUNS = 100_000  # about 25 MB when full


class StaticEncoder(Encoder):
    """A static token-embedding model: `static`, `static:2`, `static@128`.

    Vectors are unit length; a text without any known token has the zero vector. A prompt is put
    before the text as it is, so where there is one an empty text has the prompt's vector. The
    first dimensions carry the most, so `@DIM` keeps those and makes them unit length again. Safe
    from many threads.
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
        """Return the encoder `name`; its files are read at the first text, not here.

        The device is ignored: there is nothing to move to one.

        Raises:
            InputError: no such version, more dimensions than it has, or an option without meaning.
        """
        head, cut = cut_of(name)
        version = DEFAULT_VERSION if head == cls.family else head.removeprefix(f"{cls.family}:")
        if version not in DIMENSIONS:
            known = ", ".join(f"{cls.family}:{v}" for v in DIMENSIONS)
            raise InputError(f"encoder {name!r}: there is no such version; there is {known}")
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
    """The token vectors of a version and what turns a text into tokens.

    tokens_of: the token ids of a run of characters without white space.
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
    """Token ids by run of characters without white space; those not yet known are tokenized.

    `encode` and not `encode_batch`: that starts the tokenizer's own threads, which a process
    forked afterwards does not have and can wait for without end.
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
        # A plain view of the map: indexing np.memmap itself costs microseconds each time.
        codes=np.asarray(np.load(folder / "codes.npy", mmap_mode="r")),
        scales=np.asarray(np.load(folder / "scales.npy", mmap_mode="r")),
    )


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return f32[n, dim] with rows of unit length; zero rows stay zero."""
    import numpy as np

    lengths: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    lengths[lengths == 0] = 1
    return vectors / lengths[:, None]


def _check(name: str, options: EncoderOptions) -> None:
    """Raise InputError for an option that has no meaning here."""
    if options.revision is not None:
        raise InputError(
            f"encoder {name!r}: revision {options.revision!r} has no meaning here; "
            "the version is in the name, as in static:2"
        )
    if options.metric is not None and options.metric not in _METRICS:
        raise InputError(
            f"encoder {name!r}: metric {options.metric!r} is not offered; its vectors have unit "
            f"length, for which {' or '.join(_METRICS)} ranks as l2 would"
        )
