"""Which part of a text to show for a query, and which words in it match.

Words match when their light stems are equal: case and accents do not count, and neither do the
plain English endings (a plural, -ed, -ing, a final e), after step 1 of Porter's "An algorithm for
suffix stripping" (1980). Scripts without spaces between words (Chinese, Japanese, Thai, …) and
Korean, whose words carry their particles, match by pairs of characters. English words that only
hold a sentence together do not count, unless the query is made of nothing else.

This shows a reader why a hit may be one; the ranking is the encoder's and may see more.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

Span = tuple[int, int]

# Thai, Lao, Myanmar, Hangul jamo, Khmer, kana, ideographs, Hangul, compatibility, beyond the BMP
_PAIRED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005\u3040-\u30ff\u3130-\u318f"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff"
)
# Marks that stand in the middle of a word, which `\w` does not cover.
_MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc"
    "\u06df-\u06e8\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963\u0980-\u0983\u09bc-\u09d7"
    "\u0a01-\u0a03\u0a3c-\u0a51\u0a81-\u0a83\u0abc-\u0acd\u0b01-\u0b03\u0b3c-\u0b57"
    "\u0bbe-\u0bcd\u0c00-\u0c04\u0c3e-\u0c56\u0c81-\u0c83\u0cbc-\u0cd6\u0d00-\u0d03\u0d3e-\u0d4d"
    "\u1ab0-\u1aff\u1dc0-\u1dff\ufe20-\ufe2f"
)
_WORD = re.compile(rf"[^\W_{_PAIRED}](?:[^\W_{_PAIRED}]|[{_MARKS}])*")
_ASCII_WORD = re.compile(r"[A-Za-z0-9]+")
_PAIRED_RUN = re.compile(rf"[{_PAIRED}]+")

_LISTED = (
    "a about an and any are as at be been but by can could did do does for from had has have how i "
    "if in into is it its me my no not of on or our s should so such t than that the their them "
    "then there these they this those to was we were what when where which who why will with "
    "would you your"
)
_FUNCTION_WORDS = frozenset(_LISTED.split())

_VOWEL = re.compile(r"[aeiouy]")
# So much of a text is shown before the first match, at most, that its sense can be seen.
_LEAD = 0.3


@dataclass(frozen=True, slots=True)
class Snippet:
    """The part of a text that is worth showing.

    text:    with each run of white space as one space.
    matches: where words of the query stand in `text`: start and end, ascending, apart.
    before:  whether something of the text was left out before it.
    after:   whether something was left out behind it.
    """

    text: str
    matches: tuple[Span, ...]
    before: bool
    after: bool


def snippet(text: str, query: str, size: int) -> Snippet:
    """Return at most `size` characters of `text`: those with the most distinct words of `query`.

    Where several parts have as many, the one with more matches wins, then the first. A text
    without any match is shown from its start.
    """
    flat = " ".join(text.split())
    words = Words(query)
    if len(flat) <= size:
        return Snippet(flat, words.spans(flat), False, False)
    start, end = _window(flat, list(words.find(flat)), size)
    part = flat[start:end]
    return Snippet(part, words.spans(part), start > 0, end < len(flat))


class Words:
    """The words of a query, ready to be found in texts."""

    def __init__(self, query: str) -> None:
        words = {stem(m[0]) for m in _words(query)}
        self._stems = (words - _FUNCTION_WORDS or words) - {""}
        self._pairs = {pair for m in _PAIRED_RUN.finditer(query) for pair in _pairs(m[0])}

    def find(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Yield start, end and stem of each word of the query in the text, in order of start."""
        found: list[tuple[int, int, str]] = []
        if self._stems:
            known: dict[str, str] = {}
            for match in _words(text):
                word = match[0]
                if word not in known:
                    known[word] = stem(word)
                if known[word] in self._stems:
                    found.append((*match.span(), known[word]))
        if self._pairs and not text.isascii():
            for pair in self._pairs:
                at = text.find(pair)
                while at >= 0:
                    found.append((at, at + len(pair), pair))
                    at = text.find(pair, at + 1)
            found.sort()
        yield from found

    def spans(self, text: str) -> tuple[Span, ...]:
        """Return where words of the query stand in the text; those that touch are one span."""
        spans: list[Span] = []
        for start, end, _ in self.find(text):
            if spans and start <= spans[-1][1]:
                spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
            else:
                spans.append((start, end))
        return tuple(spans)


def stem(word: str) -> str:
    """Return what words that match have in common."""
    if word.isascii():
        word = word.lower()
    else:
        parts = unicodedata.normalize("NFKD", word).casefold()
        word = "".join(c for c in parts if not unicodedata.combining(c))
        if not word.isascii():
            return word
    if len(word) <= 3 or not word.isalpha():
        return word
    return _without_verb_ending(_singular(word))


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes", "zes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _without_verb_ending(word: str) -> str:
    for ending in ("ing", "ed"):
        rest = word.removesuffix(ending)
        if rest != word and len(rest) > 2 and _VOWEL.search(rest):
            if rest[-1] == rest[-2] and rest[-1] not in "lsz":
                rest = rest[:-1]
            word = rest
            break
    return word[:-1] if word.endswith("e") and len(word) > 4 else word


def _words(text: str) -> Iterator[re.Match[str]]:
    return (_ASCII_WORD if text.isascii() else _WORD).finditer(text)


def _pairs(run: str) -> Iterator[str]:
    if len(run) == 1:
        yield run
    for at in range(len(run) - 1):
        yield run[at : at + 2]


def _window(text: str, found: list[tuple[int, int, str]], size: int) -> Span:
    """Return start and end of the best part of a text that is longer than `size`."""
    if not found:
        return 0, _end_of_word(text, size, size * 2 // 3)
    first, last = _densest(found, size)
    # The first match is led up to, but for what the last one needs.
    lead = min(int(size * _LEAD), size - (found[last][1] - found[first][0]))
    start = max(0, found[first][0] - max(lead, 0))
    start = min(start, len(text) - size)
    start = _start_of_word(text, start, found[first][0])
    return start, _end_of_word(text, start + size, max(found[last][1], start + size * 2 // 3))


def _densest(found: list[tuple[int, int, str]], size: int) -> tuple[int, int]:
    """Return the first and last match of the part with most distinct words, then most matches."""
    best, best_score = (0, 0), (0, 0)
    within: Counter[str] = Counter()
    left = 0
    for right, (_, end, word) in enumerate(found):
        within[word] += 1
        while left < right and end - found[left][0] > size:
            gone = found[left][2]
            within[gone] -= 1
            if not within[gone]:
                del within[gone]
            left += 1
        score = (len(within), right - left + 1)
        if score > best_score:
            best, best_score = (left, right), score
    return best


def _start_of_word(text: str, start: int, before: int) -> int:
    """Return the start of a word at or behind `start`, at most `before`; or `start`."""
    if start == 0 or text[start - 1] == " ":
        return start
    space = text.find(" ", start, before)
    return start if space < 0 else space + 1


def _end_of_word(text: str, end: int, after: int) -> int:
    """Return the end of a word at or before `end`, at least `after`; or `end`."""
    if end >= len(text) or text[end] == " ":
        return min(end, len(text))
    space = text.rfind(" ", after, end)
    return end if space < 0 else space
