"""Snowball's stemmers, and whether the installed release stems as the one that wrote a collection.

Stems are part of what a collection stores: searched with others, a word would not be found, and
nothing would say so. Version 1 of the analyser means the stems of `golden_stems`. A release of
PyStemmer that gives other stems for a language has a mark there, which becomes part of the name
of the analyser that the collection stores, so that a collection is searched only with its own.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import TYPE_CHECKING

from .golden_stems import CHECKSUMS, GOLDEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    import Stemmer

# Checking takes less than half a millisecond for about as many words.
_PROBES = 600
_SHOWN = 3


def stemmer(language: str) -> Stemmer.Stemmer:
    """Return a new stemmer of a language, for one thread at a time."""
    import Stemmer

    # It need not keep words: the analyser keeps chunks.
    return Stemmer.Stemmer(language, 0)


@cache
def stemmer_mark(language: str) -> str:
    """Return "" if the installed PyStemmer stems as `GOLDEN` says, else eight hex digits.

    The digits are a checksum of the stems: two releases that stem alike have the same mark. A
    language that is not stemmed has no mark.
    """
    if language not in GOLDEN:
        return ""
    words = [word for word, _ in _golden(language)]
    stems = "\n".join(stemmer(language).stemWords(probes(words)))
    found = zlib.crc32(stems.encode())
    return "" if found == CHECKSUMS[language] else f"{found:08x}"


def changed_stems(language: str) -> str:
    """Return the first golden words that the installed PyStemmer stems differently, in words.

    "" if the differences are among the made-up words only.
    """
    now = stemmer(language)
    changed = [
        f"{word!r}: {then!r}, now {found!r}"
        for word, then in _golden(language)
        if (found := now.stemWord(word)) != then
    ]
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    return "; ".join(changed[:_SHOWN]) + more


def probes(words: Sequence[str]) -> list[str]:
    """Return the words, and the first half of some of them with every ending that one has.

    Most rules of Snowball are about endings: so many more of them are tried than the words have.
    """
    endings = sorted({word[-n:] for word in words for n in range(1, 6)})
    halves = [word[: (len(word) + 1) // 2] for word in words[: _PROBES // len(endings) + 1]]
    return [*words, *(half + ending for half in halves for ending in endings)]


def _golden(language: str) -> list[tuple[str, str]]:
    """Return each golden word of a language with its stem."""
    pairs = (item.partition("/") for item in GOLDEN[language].split())
    return [(word, stem if slash else word) for word, slash, stem in pairs]
