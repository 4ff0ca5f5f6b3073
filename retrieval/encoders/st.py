"""Family `st`: any sentence-transformers model, `st:NAME-OR-PATH[@DIM]`.

The model is used as its authors set it up: with its own query and document prompts, similarity
and length limit. Options override each. Code from the hub is never run.

The weights identify the space, so a model moved to another path is still the same; see
`_fingerprint`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..values.errors import InputError
from ._checks import checked_texts, existing_folder
from ._fingerprint import fingerprint, pooling, steps, tokens
from ._st_loading import load
from .base import Encoder, EncoderOptions, Space, cut_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger("retr.encoders.st")

# The names under which a model keeps its prompts; the first that is not empty is used.
QUERY_PROMPTS = ("query",)
DOCUMENT_PROMPTS = ("document", "passage", "corpus")
_METRICS = {"cosine": "cosine", "dot": "ip", "euclidean": "l2"}
# Tokenizers without a limit say 1e30, and models without one say infinity.
_NO_LIMIT = 10**7


class STEncoder(Encoder):
    """A sentence-transformers model.

    Under "cosine" its vectors have unit length whether or not the model normalises. `@DIM`
    keeps the first dimensions and scales them to unit length again if the full vectors had it.

    query_prompt: the text put before a query; the one for documents is in `space`.
    """

    family = "st"
    query_prompt: str

    def __init__(self, model: Any, name: str, cut: int | None, options: EncoderOptions) -> None:
        self.name = name
        self.options = options
        self._model = model
        # A tokenizer stores its padding and truncation, and may refuse two threads at once.
        self._lock = threading.Lock()

        if model.device.type == "cpu":
            model.float()  # half precision is slower on a CPU, and less precise
        metric = options.metric or _own_metric(model, name)
        revision = fingerprint(model)
        if options.max_length is not None:
            set_max_length(model, name, options.max_length)
        max_length = length_limit(getattr(model, "max_seq_length", None))
        self.query_prompt = prompt_of(model, options.query_prompt, QUERY_PROMPTS)
        document_prompt = prompt_of(model, options.document_prompt, DOCUMENT_PROMPTS)
        for prompt in (self.query_prompt, document_prompt):
            check_room(model, name, max_length, prompt)
        # The library looks for these names first and falls back to its default if they are missing.
        model.prompts = {"query": self.query_prompt, "document": document_prompt}
        # Read, then switched off: this class cuts, in one place.
        own_cut, model.truncate_dim = model.truncate_dim, None
        self._empty_fails = tokens(model, [""]) == [[]]
        native = self._run(model.encode_document, ["retr"]).shape[1]
        if cut is not None and cut > native:
            raise InputError(
                f"encoder {name!r}: the model has {native} dimensions, so {cut} cannot be kept"
            )
        dim = cut or min(own_cut or native, native)
        self.space = Space(
            encoder=name,
            family=self.family,
            revision=revision,
            dim=dim,
            normalised=metric == "cosine" or steps(model)[-1:] == ["Normalize"],
            metric=metric,
            document_prompt=document_prompt,
            max_length=max_length,
            pooling=pooling(model),
        )

    @classmethod
    def open(cls, name: str, options: EncoderOptions) -> STEncoder:
        """Load the model, from a folder, the hub's cache, or the hub.

        Raises:
            InputError: there is no such model, it cannot be reached, it needs its own code,
                or an option cannot be used with it.
            MissingExtraError: sentence-transformers is not installed.
        """
        uncut = existing_folder(name.removeprefix("st:")) is not None
        whole, cut = (name, None) if uncut else cut_of(name)
        target = whole.removeprefix("st:")
        if not whole.startswith("st:") or not target:
            raise InputError(f"encoder {name!r}: write st:NAME-OR-PATH with the model's name")
        folder = existing_folder(target)
        if folder is not None:
            target = str(folder)
            name = f"st:{target}" if cut is None else f"st:{target}@{cut}"
            _check_folder(name, folder, options)
        elif target.startswith(("/", ".", "~")) or target.count("/") > 1:
            raise InputError(f"encoder {name!r}: there is no folder {target!r}")
        model = load(name, target, folder is not None, options)
        if not model.module_kwargs:
            log.warning(
                "%s has no modules.json, so it is not a complete sentence-transformers model: "
                "its token vectors are pooled as they are, which seldom works well for search",
                name,
            )
        return cls(model, name, cut, options)

    def encode_queries(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Return f32[n, dim], with the query prompt."""
        return self._encode(self._model.encode_query, items, self.query_prompt)

    def encode_documents(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Return f32[n, dim], with the document prompt."""
        return self._encode(self._model.encode_document, items, self.space.document_prompt)

    def _encode(self, encode: Any, items: Sequence[str], prompt: str) -> NDArray[np.float32]:
        import numpy as np

        texts = checked_texts(items, f"encoder {self.name!r}")
        out = np.zeros((len(texts), self.space.dim), np.float32)
        # If an empty text has no tokens at all, not even a special token, its vector is zero.
        rows = [
            row for row, text in enumerate(texts) if not self._empty_fails or prompt or text.strip()
        ]
        if not rows:
            return out
        vectors = self._run(encode, [texts[row] for row in rows])
        out[rows] = vectors[:, : self.space.dim]
        finite = np.isfinite(out).all(axis=1)
        if not finite.all():
            text = texts[int(finite.argmin())][:60]
            raise InputError(
                f"encoder {self.name!r}: the vector of the text {text!r} is not finite"
            )
        if self.space.normalised:
            norms = np.linalg.norm(out, axis=1, keepdims=True)
            np.divide(out, norms, out=out, where=norms > 0)
        return out

    def _run(self, encode: Any, texts: list[str]) -> NDArray[np.float32]:
        """Return the model's [len(texts), native dim]."""
        with self._lock:
            vectors: NDArray[np.float32] = encode(
                texts,
                batch_size=self.batch_size,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
        return vectors


def _check_folder(name: str, folder: Path, options: EncoderOptions) -> None:
    if not any((folder / file).is_file() for file in ("modules.json", "config.json")):
        raise InputError(
            f"encoder {name!r}: the folder has neither modules.json nor config.json, so no model"
        )
    if options.revision is not None:
        raise InputError(
            f"encoder {name!r} is a folder, so the revision {options.revision!r} does not apply; "
            "leave it out"
        )


def _own_metric(model: Any, name: str) -> str:
    similarity = str(model.similarity_fn_name)
    if similarity not in _METRICS:
        raise InputError(
            f"encoder {name!r} is made for {similarity} similarity, which no index supports; "
            "set the metric to cosine, ip or l2 to use it anyway"
        )
    return _METRICS[similarity]


def prompt_of(model: Any, given: str | None, names: tuple[str, ...]) -> str:
    """Return the prompt for queries or documents: as given, by its name, or the model's default.

    A side without a prompt uses the default one, unless its name assigns it to the other side.
    """
    if given is not None:
        return given
    prompts = {name: text for name, text in model.prompts.items() if text}
    for name in names:
        if name in prompts:
            return str(prompts[name])
    default = model.default_prompt_name or ""
    others = {*QUERY_PROMPTS, *DOCUMENT_PROMPTS} - {*names}
    if any(other in default.lower() for other in others):
        return ""
    return str(prompts.get(default, ""))


def length_limit(length: float | None) -> int | None:
    """Return a model's maximum length in tokens; None if it has none."""
    return None if length is None or length >= _NO_LIMIT else int(length)


def set_max_length(model: Any, name: str, length: int) -> None:
    """Set the number of tokens after which the model cuts its texts.

    Raises:
        InputError: the model reads fewer tokens, or has no limit to set.
    """
    longest = _longest(model)
    if longest is not None and length > longest:
        raise InputError(
            f"encoder {name!r}: the model reads at most {longest} tokens; give a max length up "
            f"to that, not {length}"
        )
    try:
        model.max_seq_length = length
    except AttributeError as error:
        raise InputError(
            f"encoder {name!r}: the model has no length limit, so max_length does not apply to "
            "it; leave it out"
        ) from error


def check_room(model: Any, name: str, length: int | None, prompt: str) -> None:
    """Refuse a length that special tokens and prompt fill: all texts would have one vector."""
    taken = len((tokens(model, [prompt]) or [[]])[0])
    if length is not None and taken >= length:
        raise InputError(
            f"encoder {name!r}: a max length of {length} leaves no room for text after the "
            f"{taken} special tokens and tokens of the prompt {prompt!r}; give a larger one"
        )


def _longest(model: Any) -> int | None:
    """Return the number of tokens that the model has positions for; None if it has no limit."""
    import torch

    for name, part in model.named_modules():
        if not isinstance(part, torch.nn.Embedding) or "vision" in name:
            continue
        if name.rpartition(".")[2] in ("position_embeddings", "position_embedding", "wpe"):
            # Models like RoBERTa start counting positions after the padding's id.
            taken = 0 if part.padding_idx is None else part.padding_idx + 1
            return int(part.num_embeddings) - taken
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    longest = getattr(config, "max_position_embeddings", None)
    return None if longest is None else int(longest)
