"""Passages with the word statistics of real text, as many as are wanted.

Uniform random words say nothing about an inverted index: in real text a few words stand in every
passage, half of all words stand in one, and a word that has been used comes again. So:

- Words that the real texts hold come as often as there, so that real queries meet words as rare
  and as frequent as they were.
- New words never stop to come. A word is new with the probability of Good and Turing, the share
  of the words seen once (Good, "The population frequencies of species and the estimation of
  population parameters", 1953), and has a rank beyond the known ones by a law of Zipf and
  Mandelbrot, f(r) ~ (r + q)^-s. The vocabulary then grows as Heaps' law says, as n^(1/s); 1/s is
  the share of the vocabulary that was seen once, as in any text that follows that law.
- A word repeats an earlier one of its passage as often as the real ones do (Simon, "On a class of
  skew distribution functions", 1955).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

_WORDS = re.compile(r"[^\W_]+")
_BLOCK = 4096
_SYLLABLES = ["".join(pair) for pair in product("bdfgklmnprstvz", "aeiou")]
_LAST = 2**40  # what is rarer than this rank is drawn once in no text


@dataclass(frozen=True, slots=True, eq=False)
class Law:
    """How often words come, fitted on real texts.

    words:    the real words, the most frequent first.
    bounds:   f64[len(words)], the share of all words that are one of these or of those before.
    exponent: s of the words beyond.
    shift:    q of the words beyond, more than -len(words).
    repeats:  the share of words that repeat an earlier one of their passage, beyond what chance
              does.
    tokens:   how many words of real text it was fitted on.
    """

    words: list[str]
    bounds: NDArray[np.float64]
    exponent: float
    shift: float
    repeats: float
    tokens: int

    def ranks(self, uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the ranks, from 0, that uniform numbers in [0, 1) draw."""
        drawn = np.searchsorted(self.bounds, uniform, side="right")
        new = np.flatnonzero(drawn == len(self.words))
        left = (1 - uniform[new]) / (1 - self.bounds[-1])
        beyond = (len(self.words) + self.shift) * left ** (-1 / (self.exponent - 1)) - self.shift
        drawn[new] = np.minimum(beyond, _LAST)
        return drawn


def fit(texts: Iterable[str]) -> Law:
    """Fit the law on real texts, thousands of words at least.

    The law of the words beyond begins with the share that words seen once truly have, by Good and
    Turing: 2 n2 / n1 of a word, where n1 and n2 are the numbers of words seen once and twice.
    """
    counts: Counter[str] = Counter()
    distinct = 0
    sizes = []
    for text in texts:
        words = _WORDS.findall(text.lower())
        counts.update(words)
        distinct += len(set(words))
        sizes.append(len(words))
    total = sum(sizes)
    ordered, times = zip(*counts.most_common(), strict=True)
    once, twice = times.count(1), max(times.count(2), 1)
    exponent = len(ordered) / once
    known = np.cumsum(times) / total * (1 - once / total)
    begins = once * (exponent - 1) / (2 * twice / once)
    law = Law(list(ordered), known, exponent, begins - len(ordered), 0.0, total)
    return replace(law, repeats=_repeats(law, np.array(sizes), distinct / total))


def _repeats(law: Law, sizes: NDArray[np.int64], wanted: float) -> float:
    """Return the share of repeats that gives passages as many distinct words as are wanted."""
    few = np.random.default_rng(0).choice(sizes, 1000)
    low, high = 0.0, 0.9
    for _ in range(12):
        middle = (low + high) / 2
        drawn = _drawn(replace(law, repeats=middle), few, np.random.default_rng(1))
        share = sum(len(set(ranks.tolist())) for ranks in drawn) / int(few.sum())
        low, high = (middle, high) if share > wanted else (low, middle)
    return round((low + high) / 2, 4)


def passages(law: Law, rows: int, *, tokens: int = 60, seed: int = 0) -> Iterator[str]:
    """Yield passages of about so many words; the first ones are the same whatever `rows` is.

    Their lengths have a log-normal law with the mean `tokens`.
    """
    for block in range((rows + _BLOCK - 1) // _BLOCK):
        rng = np.random.default_rng((seed, block))
        lengths = np.maximum(rng.lognormal(np.log(tokens) - 0.125, 0.5, _BLOCK), 3)
        drawn = _drawn(law, lengths.astype(np.int64), rng)
        for ranks in drawn[: rows - block * _BLOCK]:
            yield " ".join([word(law, rank) for rank in ranks.tolist()])


def word(law: Law, rank: int) -> str:
    """Return the word of a rank: a real one while there are any, then syllables, each once."""
    if rank < len(law.words):
        return law.words[rank]
    made = ["x"]  # a letter that no syllable has, so that hardly any made-up word is a real one
    while rank:
        rank, syllable = divmod(rank, len(_SYLLABLES))
        made.append(_SYLLABLES[syllable])
    return "".join(made)


def _drawn(
    law: Law, lengths: NDArray[np.int64], rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Return the ranks of the words of passages."""
    total = int(lengths.sum())
    ends = np.cumsum(lengths)
    starts = np.repeat(ends - lengths, lengths)
    places = np.arange(total)
    earlier = starts + (rng.random(total) * (places - starts)).astype(np.int64)
    from_ = np.where(rng.random(total) < law.repeats, earlier, places)
    while (from_ != from_[from_]).any():
        from_ = from_[from_]
    ranks = law.ranks(rng.random(total))[from_]
    return np.split(ranks, ends[:-1])
