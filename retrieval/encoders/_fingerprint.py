"""The fingerprint of a sentence-transformers model: the same digits for the same vectors.

A collection must open forever, so the fingerprint covers only what outlives new releases of the
libraries:

- the values and shapes of the weights as float32, without their names, which the libraries
  change. It leaves out integers (position counters, which come and go) and, if token vectors are
  pooled, a transformer's own unused "pooler", which is random if a checkpoint lacks it;
- the order of the steps that hold no weights: pooling, activations, normalisation;
- the token ids of a few fixed texts, which stand for the tokenizer.

It does not cover settings of the transformer itself, such as its activation, if the weights are
the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

# Mixed case, accents, digits, other scripts and white space, which tokenizers treat differently.
_PROBES = (
    "The quick brown Fox, 3.14 naïve cafés!",
    "Über den Wolken: straße, ﬁn de siècle",
    "速い茶色の狐 · быстрая лиса · ثعلب",
    "def f(x):\n\treturn  x_1 <= 2 # e-mail@host",
)


def fingerprint(model: Any) -> str:
    """Return 16 hex digits that identify a `SentenceTransformer`."""
    import torch

    order = steps(model)
    pooled = any(step.startswith("Pooling") for step in order)
    digests = set()  # a set, because tied weights are listed once or twice
    for name, tensor in model.state_dict().items():
        if tensor.dtype == torch.int64 or (pooled and ".pooler." in name):
            continue
        values = tensor.detach().cpu().contiguous()
        if values.is_floating_point():
            values = values.float()  # exact; the same weights may be loaded as float16
        digest = hashlib.blake2b(repr(tuple(values.shape)).encode(), digest_size=16)
        digest.update(values.reshape(-1).view(torch.uint8).numpy())
        digests.add(digest.digest())
    if order[-1:] == ["Normalize"]:
        del order[-1]  # the space records it as `normalised`, and it changes nothing under cosine
    whole = hashlib.blake2b(b"".join(sorted(digests)), digest_size=8)
    whole.update(repr((order, tokens(model, list(_PROBES)))).encode())
    return whole.hexdigest()


def steps(model: Any) -> list[str]:
    """Return the steps that change the vectors but hold no weights, in order."""
    return list(_steps(model))


def pooling(model: Any) -> str | None:
    """Return how token vectors become one, such as "mean" or "cls+mean"; None if they do not."""
    modes = [_mode(part) for part in model.modules() if type(part).__name__ == "Pooling"]
    return "+".join(dict.fromkeys(modes)) or None


def tokens(model: Any, texts: list[str]) -> list[list[int]] | None:
    """Return the token ids of each text, uncut; None if the model has no tokenizer."""
    tokenizer: Any = getattr(model, "tokenizer", None)
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # a processor wraps it
    if callable(tokenizer):
        return [list(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]]
    if hasattr(tokenizer, "encode_batch"):
        batch = tokenizer.encode_batch(texts, add_special_tokens=False)
        return [list(encoding.ids) for encoding in batch]
    return None


def _steps(module: Any) -> Iterator[str]:
    for child in module.children():
        kind = type(child).__name__
        if kind in ("Router", "Asym", "Sequential", "ModuleDict"):
            yield from _steps(child)
        elif kind == "Pooling":
            yield f"Pooling({_mode(child)}, {child.include_prompt})"
        elif kind == "Dense":
            yield f"Dense({type(child.activation_function).__name__})"
        elif kind == "Normalize":
            yield kind


def _mode(part: Any) -> str:
    mode = getattr(part, "pooling_mode", None)
    if mode is None:  # older releases keep a flag for each mode
        return str(part.get_pooling_mode_str())
    return mode if isinstance(mode, str) else "+".join(mode)
