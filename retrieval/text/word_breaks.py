"""Where words begin and end: which characters make words in each script, and what joins them.

These patterns belong to an analyser (`analysis.py`) and are frozen with its version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

# Marks occur inside words, but `\w` does not match them. Each range holds every mark of its block
# and only marks, letters and digits.
_MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1-\u05c2\u05c4-\u05c5\u05c7\u0610-\u061a"
    "\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u0711-\u07f3\u0816-\u082d"
    "\u0859-\u085b\u0898-\u08e1\u08e3-\u0963\u0981-\u09e3\u09fe-\u0a75\u0a81-\u0ae3"
    "\u0afa-\u0b63\u0b82-\u0bd7\u0c00-\u0c63\u0c81-\u0c83\u0cbc-\u0d4d\u0d57-\u0d63"
    "\u0d81-\u0df3\u0e31-\u0e3a\u0e47-\u0e4e\u0eb1-\u0ecd\u0f18-\u0f19\u0f35\u0f37\u0f39"
    "\u0f3e-\u0f84\u0f86-\u0fbc\u102b-\u103e\u1056-\u109d\u135d-\u135f\u1712-\u1734"
    "\u1752-\u17d3\u17dd\u180b-\u180d\u1a17-\u1a1b\u1a55-\u1a7f\u1ab0-\u1b44\u1b6b-\u1b73"
    "\u1b80-\u1bf3\u1c24-\u1c37\u1cd0-\u1cd2\u1cd4-\u1dff\u20d0-\u20f0\u302a-\u302f"
    "\u3099-\u309a\ua802-\ua827\ua880-\ua8c5\ua8e0-\ua8f1\ua926-\ua92d\ua947-\ua953"
    "\ua980-\ua9c0\uaa29-\uaa4d\uaa7b-\uaac1\uabe3-\uabea\uabec-\uabed\ufb1e\ufe00-\ufe0f"
    "\ufe20-\ufe2f\U000e0100-\U000e01ef"
)
# Soft hyphen, zero-width joiners, word joiner, byte order mark: without meaning inside a word.
IGNORED = "\u00ad\u200c\u200d\u2060\ufeff"
# Thai, Lao, Myanmar, Hangul jamo, Khmer, kana, ideographs, Hangul, compatibility, beyond the BMP;
# and the letters whose pairs are flags.
_PAIRED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005\u302a-\u302f\u3040-\u30ff"
    "\u3105-\u318f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\uff66-\uff9f\U0001f1e6-\U0001f1ff\U00020000-\U0003ffff"
)
_EMOJI = "\u2600-\u26ff\u2764\U0001f300-\U0001f3fa\U0001f400-\U0001faff"
SKIN_TONES = "\U0001f3fb-\U0001f3ff"
_INSIDE = rf"\w{_MARKS}{IGNORED}{_EMOJI}{SKIN_TONES}\U0001f1e6-\U0001f1ff"
_DASHES = "\u2010\u2011-"
_APOSTROPHES = "'\u2019"


# A chunk ends once it is longer than in any language, so that its time is bounded.
_RUN = "{1,1024}+"
_JOINED = "{0,31}+"


class LatePattern:
    """A pattern that is compiled on first use; the large ones together take 20 ms."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __getattr__(self, name: str) -> Any:
        found = getattr(re.compile(self._text), name)
        setattr(self, name, found)
        return found


def _pattern(inside: str, joints: str) -> str:
    # Joints, points inside numbers and between single letters; and names such as C++ and C#.
    letter = rf"(?<=(?<![{inside}])[A-Za-z])"
    return (
        rf"[{inside}]{_RUN}"
        rf"(?:(?:[{joints}]|(?<=\d)[.,](?=\d)|{letter}\.(?=[A-Za-z](?![{inside}])))"
        rf"[{inside}]{_RUN}){_JOINED}"
        rf"(?:{letter}(?:\+\+|\#))?"
    )


_ASCII_CHUNKS = LatePattern(_pattern("A-Za-z0-9_", "'-"))
_CHUNKS = LatePattern(_pattern(_INSIDE, _APOSTROPHES + _DASHES))
# Marks stay with the letter they follow, in any script, because normalising reorders them.
RUNS = LatePattern(
    rf"([{_PAIRED}]+)|([{_EMOJI}])|[^{_PAIRED}{_EMOJI}](?:[^{_PAIRED}{_EMOJI}]|[{_MARKS}])*"
)
# A character and what belongs to it: marks, the rest of a Hangul syllable, half-width voicing.
CLUSTERS = LatePattern(
    rf"(?:[^{_MARKS}{IGNORED}]|^)[{_MARKS}{IGNORED}\u1160-\u11ff\ud7b0-\ud7fb\uff9e\uff9f]*"
)
CLUSTERED = LatePattern(rf"[{_MARKS}{IGNORED}\u1160-\u11ff\ud7b0-\ud7fb\uff9e\uff9f]")
_ONE_OF_PAIR = LatePattern(rf"[{_PAIRED}][{_MARKS}\u1160-\u11ff\ud7b0-\ud7fb]*")
PARTS = re.compile(rf"[^_{_APOSTROPHES}{_DASHES}]+")
# getUserName, HTTPServer, sha256; but not mRNA, ESCs, p53, IL6.
_HUMP = re.compile(
    r"(?<=[a-z][a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z][a-z])|(?<=[A-Za-z]{3})(?=[0-9])"
)
THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
ACRONYM = re.compile(r"[A-Za-z](?:\.[A-Za-z])+")
POSSESSIVE = re.compile(rf"[{_APOSTROPHES}][sS]$")


def chunk_pattern(text: str) -> LatePattern:
    """Return the pattern that finds the chunks of a text."""
    return _ASCII_CHUNKS if text.isascii() else _CHUNKS


def stands_in_pairs(term: str) -> bool:
    """Return whether a term is a single character of a script that is indexed in pairs."""
    return not term.isascii() and _ONE_OF_PAIR.fullmatch(term) is not None


def is_one_word(text: str) -> bool:
    """Return whether a text is plain letters and digits, and not a compound."""
    if not (text.isascii() and text.isalnum()):
        return False
    one_case = text.isalpha() and (text.islower() or text.istitle() or text.isupper())
    return one_case or not _HUMP.search(text)


def humps(part: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each word of an identifier such as getUserName."""
    start = 0
    if part.isascii():
        for hump in _HUMP.finditer(part):
            yield start, hump.start()
            start = hump.start()
    yield start, len(part)
