"""Texts for open_clip's text towers: counting tokens, and handling texts that are too long.

A CLIP model reads 77 tokens, some 50 words, and drops the rest. Three ways to keep it:

- "chunk": the text is split between words into windows, and its vector is the mean of theirs;
- "chunk-max": the same, with the maximum of each dimension;
- "stretch": the position embeddings are interpolated to cover more tokens (Long-CLIP,
  arXiv:2403.15378, section 3.1: the first 20 positions are trained best and stay as they are).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from typing import Any

from ..values.errors import InputError

# A run without a space. Byte-pair encoding takes quadratic time in a word's length, and no model
# reads that much of one.
_LONGEST_WORD = re.compile(r"(\S{512})\S+")
_CACHED_WORDS = 1 << 20

KEPT = 20  # Long-CLIP: positions that stay
FACTOR = 4  # Long-CLIP: how much the others are stretched, 77 to 248


class Tokens:
    """A model's own tokenizer, which also counts the tokens of a text before it is cut.

    length: the number of tokens that the model reads, including its start and end tokens.
    """

    def __init__(self, tokenizer: Any, length: int) -> None:
        self.length = length
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._marks = [w for w, kept in getattr(tokenizer, "cache", {}).items() if w == kept]
        # open_clip's own tokenizer can return uncut ids, so one pass both counts and encodes.
        self._simple = (
            hasattr(tokenizer, "encode") and getattr(tokenizer, "reduction_fn", None) is None
        )

    def rows(self, texts: Sequence[str]) -> tuple[Any, list[int]]:
        """Return the tokenizer's i64[n, length], and how many tokens each text has uncut."""
        texts = _without_long_words(texts)
        with self._lock:
            if self._simple:
                return self._simple_rows(texts)
            return self._tokenizer(texts, context_length=self.length), self._counts(texts)

    def _simple_rows(self, texts: list[str]) -> tuple[Any, list[int]]:
        import torch

        start, end = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
        rows = torch.zeros(len(texts), self.length, dtype=torch.long)
        counts = []
        for row, text in enumerate(texts):
            numbers = [start, *self._tokenizer.encode(text), end]
            counts.append(len(numbers))
            if len(numbers) > self.length:
                numbers = [*numbers[: self.length - 1], end]
            rows[row, : len(numbers)] = torch.tensor(numbers)
        known = getattr(self._tokenizer, "cache", {})
        if len(known) > _CACHED_WORDS:  # it holds every word ever seen
            known.clear()
            known.update((mark, mark) for mark in self._marks)
        return rows, counts

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, uncut, including the start and end tokens."""
        with self._lock:
            return self._counts(_without_long_words(texts))

    def _counts(self, texts: list[str]) -> list[int]:
        if hasattr(self._tokenizer, "encode"):
            return [len(self._tokenizer.encode(text)) + 2 for text in texts]
        inner = self._tokenizer.tokenizer
        clean = getattr(self._tokenizer, "clean_fn", str)
        listed = inner([clean(text) for text in texts], truncation=False, verbose=False)
        # In the mode "clips" a class token follows at the end, besides the other two.
        marks = 1 if getattr(self._tokenizer, "tokenizer_mode", "") == "clips" else 0
        return [len(numbers) + marks for numbers in listed["input_ids"]]

    def probe(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of some texts, possibly cut, which stand for the tokenizer."""
        rows: list[list[int]] = self.rows(texts)[0].tolist()
        return rows

    def windows(self, text: str) -> list[str]:
        """Split a text between words into one or more parts that the model can read whole."""
        words = text.split()
        marks = self.counts([""])[0]
        room = self.length - marks
        windows: list[str] = []
        window: list[str] = []
        taken = 0
        for word, count in zip(words, self.counts(words) if words else [], strict=True):
            if window and taken + count - marks > room:
                windows += self._fitting(" ".join(window))
                window, taken = [], 0
            window.append(word)
            taken += count - marks
        return windows + self._fitting(" ".join(window)) if window or not windows else windows

    def _fitting(self, part: str) -> list[str]:
        """Return a part as it is if the model reads all of it, otherwise split into halves."""
        if self.counts([part])[0] <= self.length or len(part) < 2:
            return [part]
        middle = part.rfind(" ", 1, len(part) // 2 + 1)
        if middle < 0:
            middle = len(part) // 2
        halves = [half for half in (part[:middle].strip(), part[middle:].strip()) if half]
        return [each for half in halves for each in self._fitting(half)] or [""]


def _without_long_words(texts: Sequence[str]) -> list[str]:
    return [_LONGEST_WORD.sub(r"\1", text) if len(text) > 512 else text for text in texts]


def stretch(model: Any, length: int | None, who: str) -> int:
    """Stretch an open_clip text tower's positions to more tokens; return how many it now reads.

    length: the new number; None stretches as Long-CLIP does, all but the first 20 by four.

    Raises:
        InputError: the tower is of another library, or `length` is not above what it reads.
    """
    import torch

    tower = getattr(model, "text", model)
    positions = getattr(tower, "positional_embedding", None)
    if not isinstance(positions, torch.nn.Parameter):
        raise InputError(
            f"{who}: its text tower is not open_clip's own, so its positions cannot be stretched; "
            "use chunk"
        )
    old = int(tower.context_length)
    new = KEPT + FACTOR * (old - KEPT) if length is None else length
    if old <= KEPT + 1 or new <= old:
        raise InputError(
            f"{who}: the model reads {old} tokens, which cannot be stretched to {new}; "
            f"give a max length above {max(old, KEPT + 1)}, or leave out stretch"
        )
    values = positions.detach()
    # A class token, if there is one, has the last position and keeps it.
    stretched = torch.cat([stretched_positions(values[:old], new), values[old:]])
    tower.positional_embedding = torch.nn.Parameter(stretched, requires_grad=False)
    tower.context_length = new
    if hasattr(tower, "num_pos"):
        tower.num_pos = len(stretched)
    if getattr(tower, "attn_mask", None) is not None:
        mask = torch.full((len(stretched), len(stretched)), float("-inf")).triu_(1)
        tower.attn_mask = mask.to(tower.attn_mask)
    return new


def stretched_positions(positions: Any, new: int) -> Any:
    """Stretch f32[old, width] to f32[new, width]: keep the first 20, interpolate the rest.

    Beyond the last position it extrapolates from the last two, as Long-CLIP's code does.
    """
    import torch

    old = len(positions)
    places = torch.arange(new - KEPT, dtype=torch.float64) * ((old - KEPT) / (new - KEPT)) + KEPT
    left = places.floor().long().clamp(max=old - 2)
    share = (places - left).to(positions.dtype)[:, None]
    between = positions[left] * (1 - share) + positions[left + 1] * share
    return torch.cat([positions[:KEPT], between])
