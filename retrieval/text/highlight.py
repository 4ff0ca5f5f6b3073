"""Which part of a text to show for a query, and which words in it match.

Words match if the analyser gives both the same term, as in lexical segments: forms of a word,
parts of identifiers, pairs of characters in scripts without spaces. Stop words do not count,
unless the query consists of nothing else.

This shows a reader why a text may be a hit; the ranking may take more into account.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from .analysis import analyzer
from .word_breaks import stands_in_pairs

Span = tuple[int, int]

# The maximum share of a snippet before the first match, which gives the match its context.
_LEAD = 0.3


@dataclass(frozen=True, slots=True)
class Snippet:
    """The part of a text to show.

    text:    the part, with each run of white space as one space.
    matches: the start and end of the query's words in `text`, ascending, not touching.
    before:  whether text was left out before it.
    after:   whether text was left out after it.
    """

    text: str
    matches: tuple[Span, ...]
    before: bool
    after: bool


def snippet(text: str, query: str, size: int, language: str = "english") -> Snippet:
    """Return the part of `text` with the most distinct words of `query`, at most `size` characters.

    Of several such parts, the one with the most matches wins, then the first. A text without a
    match is shown from its start.

    language: as `analyzer` takes it.
    """
    flat = " ".join(text.split())
    words = Words(query, language)
    if len(flat) <= size:
        return Snippet(flat, words.spans(flat), False, False)
    start, end = _window(flat, list(words.find(flat)), size)
    part = flat[start:end]
    return Snippet(part, words.spans(part), start > 0, end < len(flat))


class Words:
    """The words of a query, ready to be found in texts."""

    def __init__(self, query: str, language: str = "english") -> None:
        self._analyzer = analyzer(language)
        self._terms = frozenset(self._analyzer.query_terms(query))
        self._alone = frozenset(filter(stands_in_pairs, self._terms))

    def find(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Yield start, end and term of each word of the query in the text, in order of start.

        A match is not searched for further matches inside: `getUserName` matches itself once.
        """
        if not self._terms:
            return
        behind = 0
        for start, end, terms in self._analyzer.spans(text):
            matching = [term for term in terms if term in self._terms]
            for term in matching:
                if end > behind:
                    behind = end
                    yield start, end, term
            if self._alone and not matching:
                for place in range(max(start, behind), end):
                    if text[place] in self._alone:
                        behind = place + 1
                        yield place, behind, text[place]

    def spans(self, text: str) -> tuple[Span, ...]:
        """Return where the query's words are in the text; touching words are one span."""
        spans: list[Span] = []
        for start, end, _ in self.find(text):
            if spans and start <= spans[-1][1]:
                spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
            else:
                spans.append((start, end))
        return tuple(spans)


def _window(text: str, found: list[tuple[int, int, str]], size: int) -> Span:
    """Return start and end of the best part of a text that is longer than `size`."""
    if not found:
        return 0, _end_of_word(text, size, size * 2 // 3)
    first, last = _densest(found, size)
    # Show some text before the first match, as far as the last one leaves room.
    lead = min(int(size * _LEAD), size - (found[last][1] - found[first][0]))
    start = max(0, found[first][0] - max(lead, 0))
    start = min(start, len(text) - size)
    start = _start_of_word(text, start, found[first][0])
    return start, _end_of_word(text, start + size, max(found[last][1], start + size * 2 // 3))


def _densest(found: list[tuple[int, int, str]], size: int) -> tuple[int, int]:
    """Return the first and last match of the part with the most distinct words, then matches."""
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
    """Return the first start of a word from `start` to `before`; or `start`."""
    if start == 0 or text[start - 1] == " ":
        return start
    space = text.find(" ", start, before)
    return start if space < 0 else space + 1


def _end_of_word(text: str, end: int, after: int) -> int:
    """Return the last end of a word from `after` to `end`; or `end`."""
    if end >= len(text) or text[end] == " ":
        return min(end, len(text))
    space = text.rfind(" ", after, end)
    return end if space < 0 else space
