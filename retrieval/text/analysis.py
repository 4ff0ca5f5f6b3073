"""Turns a text into the terms of a lexical segment.

A chunk of a text is a run of word characters, including what joins them: hyphens, underscores,
apostrophes, the points of a number. A chunk's terms depend on nothing around it, so each distinct
chunk is analysed once and cached; the rest is a regular expression and a dictionary look-up.

- Words are folded (NFKC, case), stemmed by Snowball, and lose their accents.
- Parts of compounds and identifiers (`state-of-the-art`, `getUserName`, `user_name`) are terms,
  and so is the whole without its joints, so that `e-mail` finds `email`.
- Scripts without spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) and Korean,
  whose words carry their particles, become overlapping pairs of characters, as in Lucene's
  CJKBigramFilter; a single character is a term by itself, and as a query it finds the pairs that
  contain it.
- Stop words are terms too, so that everything in a text can be found; a query drops them if it
  has other words.

Collections store the name of their analyser with its version. A version's terms are frozen: any
change here makes a new version, and the old one stays. Stems come from PyStemmer, whose releases
differ: `stemming` says whether the installed one stems as the version means.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import chain, pairwise
from typing import TYPE_CHECKING, TypeVar

from ..values.errors import InputError
from .stemming import changed_stems, stemmer, stemmer_mark
from .stop_words import STOP_WORDS
from .word_breaks import (
    ACRONYM,
    CLUSTERED,
    CLUSTERS,
    IGNORED,
    PARTS,
    POSSESSIVE,
    RUNS,
    SKIN_TONES,
    THOUSANDS,
    chunk_pattern,
    humps,
    is_one_word,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VERSION = 1

# Name and ISO 639-1 code of each language that Snowball stems.
_CODES = {
    "arabic": "ar",
    "armenian": "hy",
    "basque": "eu",
    "catalan": "ca",
    "danish": "da",
    "dutch": "nl",
    "english": "en",
    "finnish": "fi",
    "french": "fr",
    "german": "de",
    "greek": "el",
    "hindi": "hi",
    "hungarian": "hu",
    "indonesian": "id",
    "irish": "ga",
    "italian": "it",
    "lithuanian": "lt",
    "nepali": "ne",
    "norwegian": "no",
    "portuguese": "pt",
    "romanian": "ro",
    "russian": "ru",
    "serbian": "sr",
    "spanish": "es",
    "swedish": "sv",
    "tamil": "ta",
    "turkish": "tr",
    "yiddish": "yi",
}
LANGUAGES = ("none", *_CODES)
_NAMES = {code: name for name, code in _CODES.items()} | {"nb": "norwegian", "nn": "norwegian"}

T = TypeVar("T")
Span = tuple[int, int, tuple[str, ...]]

# Vowel points of Arabic and Hebrew, tatweel, enclosing marks, variation selectors.
_DROPPED = re.compile(
    rf"[\u0640\u064b-\u065f\u0670\u0591-\u05c7\u20d0-\u20f0\ufe00-\ufe0f\U000e0100-\U000e01ef"
    rf"{IGNORED}{SKIN_TONES}]"
)
# The accents of European scripts; the vowel signs of India's are letters.
_ACCENTS = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\ufe20-\ufe2f]")
# Letters without a decomposition, and the one Cyrillic letter that has two spellings.
_PLAIN = {"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "ħ": "h", "ı": "i", "ё": "е"}
# Letters in their own right in the language, not accented ones.
_OWN_LETTERS = {
    "danish": "æøå",
    "finnish": "åäö",
    "norwegian": "æøå",
    "spanish": "ñ",
    "swedish": "åäö",
    "turkish": "ıçğöşü",
}

# A longer word is data, not language: the rest is dropped, in texts as in queries.
_LONGEST = 128
# The number of cached chunks and the length of the longest: together some 40 MB.
_KEPT = 1 << 17
_KEPT_LENGTH = 64


@dataclass(frozen=True)
class Analyzer:
    """Turns texts into terms; made by `analyzer`. Safe to use from many threads.

    language: one of `LANGUAGES`.
    version:  fixes the terms of every text.
    """

    language: str
    version: int = VERSION
    _words: _Words = field(init=False, repr=False, compare=False)
    _terms: _Kept[str] = field(init=False, repr=False, compare=False)
    _spans: _Kept[Span] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        words = _Words(self.language)
        object.__setattr__(self, "_words", words)
        object.__setattr__(self, "_terms", _Kept(words.terms))
        object.__setattr__(self, "_spans", _Kept(words.spans))

    @property
    def name(self) -> str:
        """What a collection stores: `analyzer(name)` gives this one again.

        The language and the version; then a plus sign and the mark of the installed PyStemmer if
        its stems are not those of the version (`stemmer_mark`).
        """
        mark = stemmer_mark(self.language)
        return f"{self.language}:{self.version}" + (f"+{mark}" if mark else "")

    @property
    def stop_words(self) -> frozenset[str]:
        """The terms that say little about the subject of a text."""
        return self._words.stop_words

    def terms(self, text: str) -> list[str]:
        """Return the terms of a text in order, including repeats and stop words."""
        return list(
            chain.from_iterable(map(self._terms.__getitem__, chunk_pattern(text).findall(text)))
        )

    def query_terms(self, text: str) -> list[str]:
        """Return the terms of a query, without stop words unless there are no others."""
        terms = self.terms(text)
        return [term for term in terms if term not in self.stop_words] or terms

    def spans(self, text: str) -> Iterator[Span]:
        """Yield start, end and terms of each word of the text; the terms are those of `terms`.

        A compound or an identifier is yielded whole, then in parts; characters of scripts without
        spaces are yielded in pairs. So spans may overlap.
        """
        for match in chunk_pattern(text).finditer(text):
            at = match.start()
            for start, end, terms in self._spans[match[0]]:
                yield at + start, at + end, terms

    def vocabulary(self) -> Vocabulary:
        """Return an empty vocabulary, to number the terms of many texts."""
        return Vocabulary(self)


class Vocabulary:
    """The distinct terms of many texts, numbered in order of first occurrence. For one thread.

    terms: each term once; its index is its number.
    """

    def __init__(self, analyzer: Analyzer) -> None:
        self.terms: list[str] = []
        self._numbers: dict[str, int] = {}
        self._analyzer = analyzer
        self._known = _Kept(self._numbered)
        self._pieces = _Kept(self._numbered_piece)

    def add(self, texts: Iterable[str]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the term numbers of all texts, one text after the other, and each text's length.

        Shapes: i32[sum of lengths], i32[texts]. New terms are added to `terms`.
        """
        import numpy as np

        # A chunk contains no space, so whole pieces between spaces can be cached. A cached piece
        # skips the pattern, which takes longer than all the rest.
        known = self._pieces.__getitem__
        found = [list(chain.from_iterable(map(known, text.split()))) for text in texts]
        lengths = np.fromiter(map(len, found), np.int32, len(found))
        flat = np.fromiter(chain.from_iterable(found), np.int32, int(lengths.sum()))
        return flat, lengths

    def _numbered_piece(self, piece: str) -> tuple[int, ...]:
        chunks = chunk_pattern(piece).findall(piece)
        return tuple(chain.from_iterable(map(self._known.__getitem__, chunks)))

    def _numbered(self, chunk: str) -> tuple[int, ...]:
        numbers = []
        for term in self._analyzer._words.terms(chunk):
            number = self._numbers.setdefault(term, len(self.terms))
            if number == len(self.terms):
                self.terms.append(term)
            numbers.append(number)
        return tuple(numbers)


def analyzer(language: str = "english") -> Analyzer:
    """Return the analyser for a language's name or ISO code, or for a name a collection stores.

    Examples: "english", "en", "none" (no stemming, no stop words), "english:1".

    Raises:
        InputError: there is no such language, or no such version of it, or the installed
            PyStemmer does not stem as the one that the stored name was made with.
    """
    name, _, stored = language.strip().lower().partition(":")
    version, _, mark = stored.partition("+")
    name = _NAMES.get(name, name)
    if name not in LANGUAGES:
        raise InputError(
            f"there is no analyser for the language {language!r}; use {', '.join(LANGUAGES)}"
        )
    if version not in ("", str(VERSION)):
        raise InputError(
            f"there is no version {version!r} of the analyser for {name}: this release of retr has "
            f"version {VERSION}; install the release that made the collection, or a newer one"
        )
    if version and mark != stemmer_mark(name):
        raise InputError(_other_stems(name, mark))
    return _made(name)


def _other_stems(language: str, mark: str) -> str:
    """Return what to say of a collection whose words another PyStemmer has stemmed."""
    from importlib.metadata import version

    changed = "" if mark else changed_stems(language)
    return (
        f"PyStemmer {version('PyStemmer')}, which is installed, does not stem {language} as the "
        "release that this collection's words were indexed with"
        + (f" ({changed})" if changed else "")
        + f"; install {'that release' if mark else 'PyStemmer 3.1'}, or build a new collection "
        "from the same source; search by meaning alone (dense) works as it is"
    )


@cache
def _made(name: str) -> Analyzer:
    return Analyzer(name)


class _Kept(dict[str, tuple[T, ...]]):
    """A cache of what each recent chunk becomes."""

    def __init__(self, become: Callable[[str], tuple[T, ...]]) -> None:
        super().__init__()
        self._become = become

    def __missing__(self, chunk: str) -> tuple[T, ...]:
        found = self._become(chunk)
        if len(chunk) <= _KEPT_LENGTH:
            if len(self) >= _KEPT:
                self.clear()
            self[chunk] = found
        return found


class _Words:
    """Analyses the chunks of texts in one language."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._own_letters = _OWN_LETTERS.get(language, "")
        self._stemmer = None if language == "none" else stemmer(language)
        # A stemmer of Snowball is for one thread at a time.
        self._lock = threading.Lock()
        self._stops = frozenset(map(self._folded, STOP_WORDS.get(language, "").split()))
        self.stop_words = frozenset(map(self._unaccented, self._stops))

    def terms(self, chunk: str) -> tuple[str, ...]:
        if is_one_word(chunk):
            return (self._term(chunk),)
        return tuple(chain.from_iterable(terms for _, _, terms in self.spans(chunk)))

    def spans(self, chunk: str) -> tuple[Span, ...]:
        """Return start, end and terms of each piece of a chunk that has terms."""
        if chunk.isascii():
            return tuple(self._compound(chunk, 0))
        spans: list[Span] = []
        for run in RUNS.finditer(chunk):
            if run[1]:
                spans += self._pairs(run[0], run.start())
            elif run[2]:
                spans.append((*run.span(), (run[0],)))
            else:
                spans += self._compound(run[0], run.start())
        return tuple(spans)

    def _compound(self, text: str, at: int) -> Iterator[Span]:
        """Yield a word; for one made of several, the whole and then each part."""
        if is_one_word(text):
            yield at, at + len(text), (self._term(text),)
            return
        if self._language == "english":
            text = POSSESSIVE.sub("", text)
        if ACRONYM.fullmatch(text):
            yield at, at + len(text), (self._term(text.replace(".", "")),)
            return
        parts = [
            (part.start() + start, part.start() + end)
            for part in PARTS.finditer(text)
            for start, end in humps(part[0])
        ]
        if len(parts) > 1:
            start, end = parts[0][0], parts[-1][1]
            contraction = self._folded(text)
            if contraction in self._stops:
                yield at + start, at + end, (contraction,)
                return
            # Outside English an apostrophe joins two words: l'avion, dell'arte.
            if self._language == "english" or "'" not in contraction:
                whole = self._term("".join(text[start:end] for start, end in parts))
                if whole:
                    yield at + start, at + end, (whole,)
        for start, end in parts:
            yield from self._word(text[start:end], at + start)

    def _word(self, text: str, at: int) -> Iterator[Span]:
        if THOUSANDS.fullmatch(text):
            yield at, at + len(text), (self._term(text.replace(",", "")),)
            return
        for part in text.split(","):
            if term := self._term(part):
                yield at, at + len(part), (term,)
            at += len(part) + 1

    def _pairs(self, text: str, at: int) -> Iterator[Span]:
        """Yield each pair of neighbouring characters; a single character is yielded alone."""
        if len(text) > 1 and not CLUSTERED.search(text) and self._folded(text) == text:
            for start in range(len(text) - 1):
                yield at + start, at + start + 2, (text[start : start + 2],)
            return
        found = [
            (at + cluster.start(), at + cluster.end(), folded)
            for cluster in CLUSTERS.finditer(text)
            if (folded := self._folded(cluster[0]))
        ]
        if len(found) == 1:
            start, end, one = found[0]
            yield start, end, (one,)
        for (start, _, one), (_, end, other) in pairwise(found):
            yield start, end, (one + other,)

    def _term(self, text: str) -> str:
        """Return the term of a word; "" if nothing of it is left."""
        word = self._folded(text)[:_LONGEST]
        if word in self._stops or not word:
            return self._unaccented(word)
        if self._language == "english":
            # Its stemmer ignores accents: it would cut the e of resume but not the é of résumé.
            return self._stemmed(self._unaccented(word))
        return self._unaccented(self._stemmed(word))

    def _stemmed(self, word: str) -> str:
        if self._stemmer is None:
            return word
        with self._lock:
            stem: str = self._stemmer.stemWord(word)
        # A word that is nothing but an ending would leave nothing.
        return stem or word

    def _folded(self, text: str) -> str:
        """Return a text without case, width, and characters without meaning."""
        if self._language == "turkish":
            text = unicodedata.normalize("NFC", text).replace("İ", "i").replace("I", "ı")
        if text.isascii():
            return text.lower()
        text = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
        text = _DROPPED.sub("", unicodedata.normalize("NFKC", text))
        return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)

    def _unaccented(self, word: str) -> str:
        if word.isascii():
            return word
        return "".join(c if c in self._own_letters else _plain(c) for c in word)


@lru_cache(maxsize=4096)
def _plain(character: str) -> str:
    """Return a character without accents, except Cyrillic letters, which accents make others."""
    if character in _PLAIN or "\u0400" <= character <= "\u04ff":
        return _PLAIN.get(character, character)
    letters = _ACCENTS.sub("", unicodedata.normalize("NFD", character))
    return unicodedata.normalize("NFC", letters)
