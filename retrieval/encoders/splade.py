"""Family `splade`: any sparse encoder of sentence-transformers, `splade:NAME-OR-PATH`.

SPLADE (Formal et al., "SPLADE v2: Sparse Lexical and Expansion Model for Information Retrieval",
2021) and similar models give a text a weight for each word of a vocabulary, most of them 0. The
weights are stored as postings and searched by inner product. Queries and documents may have
different models; a query's may be a table of weights. Code from the hub is never run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from ..values.errors import InputError
from ._checks import checked_texts, existing_folder
from ._fingerprint import fingerprint
from .base import EncoderOptions, Space, SparseEncoder, Weights, cut_of
from .splade_loading import SPARSE, find, load
from .st import DOCUMENT_PROMPTS, QUERY_PROMPTS, check_room, length_limit, prompt_of, set_max_length

log = logging.getLogger("retr.encoders.splade")


class SpladeEncoder(SparseEncoder):
    """A sparse encoder of sentence-transformers.

    Its terms are the tokens of the model's tokenizer. A text without tokens has no weights.

    query_prompt: the text put before a query; the one for documents is in `space`.
    """

    family = "splade"
    query_prompt: str
    # While the model computes, each token has a value for every word of the vocabulary.
    batch_size = 16

    def __init__(self, model: Any, name: str, options: EncoderOptions) -> None:
        self.name = name
        self.options = options
        self._model = model
        # A tokenizer stores its padding and truncation, and may refuse two threads at once.
        self._lock = threading.Lock()

        _check_similarity(model, name, options.metric)
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
        ways = (model.encode_query, model.encode_document)
        dims = {self._run(encode, ["retr"]).shape[1] for encode in ways}
        if len(dims) > 1:
            raise InputError(
                f"encoder {name!r}: its queries and documents have vocabularies of different "
                f"sizes, {' and '.join(map(str, sorted(dims)))}"
            )
        (dim,) = dims
        self._terms = _terms(model, dim)
        self.space = Space(
            encoder=name,
            family=self.family,
            revision=revision,
            dim=dim,
            normalised=False,
            metric="ip",
            document_prompt=document_prompt,
            max_length=max_length,
            pooling="+".join(_pooling(model)),
            sparse=True,
        )

    @classmethod
    def open(cls, name: str, options: EncoderOptions) -> SpladeEncoder:
        """Load the model, from a folder, the hub's cache, or the hub.

        Raises:
            InputError: there is no such model, it is not a sparse encoder, it cannot be reached,
                it needs its own code, or an option cannot be used with it.
            MissingExtraError: sentence-transformers is not installed.
        """
        who, target = f"encoder {name!r}", name.removeprefix("splade:")
        if not name.startswith("splade:") or not target:
            raise InputError(f"{who}: write splade:NAME-OR-PATH with the model's name")
        _, cut = cut_of(target)
        if cut is not None and existing_folder(target) is None:
            raise InputError(
                f"{who}: a vocabulary has no order in which to cut it; leave out @{cut}"
            )
        if options.metric not in (None, "ip"):
            raise InputError(
                f"{who}: word weights are compared by inner product, not by {options.metric}; "
                "leave the metric out"
            )
        folder = find(who, target, options.revision)
        if folder is not None:
            name = f"splade:{folder}"
        model, missing = load(SPARSE, who, target, folder, options)
        _check_kind(model, name, missing)
        return cls(model, name, options)

    def encode_queries(self, items: Sequence[str]) -> list[Weights]:  # type: ignore[override]
        """Return the weights of each query, with the query prompt."""
        return self._encode(self._model.encode_query, items, self.query_prompt)

    def encode_documents(self, items: Sequence[str]) -> list[Weights]:  # type: ignore[override]
        """Return the weights of each document, with the document prompt."""
        return self._encode(self._model.encode_document, items, self.space.document_prompt)

    def _encode(self, encode: Any, items: Sequence[str], prompt: str) -> list[Weights]:
        import numpy as np

        texts = checked_texts(items, f"encoder {self.name!r}")
        out: list[Weights] = [{} for _ in texts]
        rows = [row for row, text in enumerate(texts) if prompt or self._has_token(text)]
        if not rows:
            return out
        found = self._run(encode, [texts[row] for row in rows]).coalesce()
        owners, terms = (each.numpy() for each in found.indices())
        weights = found.values().float().numpy()
        wrong = ~np.isfinite(weights) | (weights < 0)
        if wrong.any():
            at = int(wrong.argmax())
            text = texts[rows[int(owners[at])]][:60]
            raise InputError(
                f"encoder {self.name!r} returned the weight {weights[at]} for the text {text!r}; "
                "a weight must be finite and not below 0"
            )
        there = weights > 0
        owners, terms, weights = owners[there], terms[there], weights[there]
        bounds = np.searchsorted(owners, np.arange(len(rows) + 1))
        names = [self._terms[term] for term in terms.tolist()]
        values = weights.tolist()
        for number, row in enumerate(rows):
            own = slice(bounds[number], bounds[number + 1])
            out[row] = dict(zip(names[own], values[own], strict=True))
        return out

    def _has_token(self, text: str) -> bool:
        """Return whether a text has any token; without one, a model may fail."""
        if any(map(str.isalnum, text)):
            return True
        if not text.strip():
            return False
        with self._lock:
            return bool(_tokenizer(self._model)(text, add_special_tokens=False)["input_ids"])

    def _run(self, encode: Any, texts: list[str]) -> Any:
        """Return the model's sparse tensor [len(texts), size of the vocabulary]."""
        with self._lock:
            return encode(
                texts,
                batch_size=self.batch_size,
                show_progress_bar=False,
                convert_to_sparse_tensor=True,
                save_to_cpu=True,
            )


def _check_similarity(model: Any, name: str, asked: str | None) -> None:
    if asked is None and model.similarity_fn_name not in (None, "dot"):
        raise InputError(
            f"encoder {name!r} is made for {model.similarity_fn_name} similarity, but word weights "
            "are compared by inner product; set the metric to ip to use it anyway"
        )


def _check_kind(model: Any, name: str, missing: Sequence[str]) -> None:
    """Refuse a model of another kind, to which the library has added steps of its own."""
    added = len(model.module_kwargs or {}) < len(list(model.children()))
    if added and (missing or "autoencoder" in " ".join(_pooling(model))):
        raise InputError(
            f"encoder {name!r}: the model is not a sparse encoder and returns no word weights; if "
            f"it returns vectors, write 'st:{name.removeprefix('splade:')}'"
        )
    if missing:
        log.warning(
            "%s: its files lack some weights, which were initialised at random (%s), so its word "
            "weights may be meaningless",
            name,
            ", ".join(missing),
        )
    elif added:
        log.warning(
            "%s has no modules.json, so it is not a complete sparse encoder: its masked language "
            "model is pooled as it is, which works for search only if it was trained for that",
            name,
        )


def _pooling(model: Any) -> Iterator[str]:
    """Yield each of the model's ways of turning a text's tokens into weights."""
    for part in model.modules():
        match type(part).__name__:
            case "SpladePooling":
                yield f"splade {part.pooling_strategy} {part.activation_function}"
            case "SparseAutoEncoder":
                yield f"autoencoder {part.k}"
            case "SparseStaticEmbedding":
                yield "table"
    if model.max_active_dims is not None:
        yield f"the largest {model.max_active_dims}"


def _terms(model: Any, dim: int) -> list[str]:
    """Return a unique name for each dimension: its token, or else its number."""
    numbers = [f"#{number}" for number in range(dim)]
    if any(type(part).__name__ == "SparseAutoEncoder" for part in model.modules()):
        return numbers  # its dimensions are not words
    tokenizer = _tokenizer(model)
    known = min(dim, len(tokenizer))
    tokens = [*tokenizer.convert_ids_to_tokens(list(range(known))), *numbers[known:]]
    seen: set[str] = set()
    for number, token in enumerate(tokens):
        if token is None or token in seen:
            tokens[number] = numbers[number]
        seen.add(tokens[number])
    return tokens


def _tokenizer(model: Any) -> Any:
    tokenizer = model.tokenizer
    return getattr(tokenizer, "tokenizer", tokenizer)  # a processor wraps it
