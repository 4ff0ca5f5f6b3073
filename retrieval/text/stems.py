"""Which stems a collection was made with: they are stored in it, and change between releases.

Snowball's stemmers come with PyStemmer and improve now and then. A golden list of words for each
language, made up here, says whether the one that is installed stems as version 1 of the analyser
promises: its stems have the digest that is written below. A stemmer that differs gets a name of its
own, so that a collection is never searched with other stems than it was made with.
"""

from __future__ import annotations

import hashlib
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING

from .stop_words import STOP_WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator

KNOWN_RELEASE = "3.1.0"
"""A release of PyStemmer whose stems are those below, all of them; it need not be checked."""

_MADE_UP = 500
_ALPHABETS = {
    "arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهويةىأإ",
    "armenian": "աբգդեզէըթժիլխծկհձղճմյնշոչպջռսվտրցւփքօֆ",
    "greek": "αβγδεζηθικλμνξοπρστυφχψωςάέήίόύώ",
    "hindi": "कखगघचछजझटठडढणतथदधनपफबभमयरलवशषसहािीुूेैोौं",
    "nepali": "कखगघचछजझटठडढणतथदधनपफबभमयरलवशषसहािीुूेैोौं",
    "russian": "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "serbian": "абвгдђежзијклљмнњопрстћуфхцчџшčćđšž",
    "tamil": "அஆஇஈஉஊஎஏஐஒஓகஙசஞடணதநபமயரலவழளறனாிீுூெேைொோ்",
    "yiddish": "אבגדהוזחטיכלמנסעפצקרשתךםןףץ",
}
_LATIN = "abcdefghijklmnopqrstuvwxyzàáâãäåæçèéêëíîïñóôõöøúûüýăąćčđęėğįłńőřśşšţūůűźżžı"
_ENDINGS = {
    "english": "s es ed ing ly ment ance ence able ible ant ent ism ate iti ous ive ize sion tion "
    "ational enci anci entli izer ization aliti fulness ousness iveness biliti ogist ical ness "
    "eedly edly ingly"
}


@cache
def digest(language: str) -> str:
    """Return eight hexadecimal digits that stand for how a language is stemmed here."""
    import Stemmer

    stems = Stemmer.Stemmer(language, 0).stemWords(list(_golden_words(language)))
    return hashlib.blake2b("\n".join(stems).encode(), digest_size=4).hexdigest()


def difference(language: str) -> str:
    """Return "" if a language is stemmed as version 1 of the analyser promises, else the digest."""
    if language == "none":
        return ""
    import Stemmer

    if Stemmer.version() == KNOWN_RELEASE:
        return ""
    found = digest(language)
    return "" if found == _DIGESTS[language] else found


def _golden_words(language: str) -> Iterator[str]:
    """Yield words of a language: its stop words, and made-up ones with its endings."""
    known = STOP_WORDS.get(language, "").split()
    yield from known
    letters = _ALPHABETS.get(language, _LATIN)
    endings = _ENDINGS.get(language, "").split() or sorted({w[-3:] for w in known}) or [""]
    numbers = _numbers()
    for _ in range(_MADE_UP):
        stem = "".join(letters[n % len(letters)] for n in islice(numbers, 2 + next(numbers) % 6))
        yield stem + endings[next(numbers) % len(endings)]


def _numbers() -> Iterator[int]:
    """Yield the same pseudo-random numbers always (Knuth's MMIX generator)."""
    state = 1
    while True:
        state = (6364136223846793005 * state + 1442695040888963407) % 2**64
        yield state >> 33


_DIGESTS = {
    "arabic": "39d606ca",
    "armenian": "f24d36d8",
    "basque": "c7da7beb",
    "catalan": "0e1cfbce",
    "danish": "b0b05078",
    "dutch": "c063b4ae",
    "english": "23bea967",
    "finnish": "000da313",
    "french": "a08409d5",
    "german": "13a96edf",
    "greek": "3dcd979c",
    "hindi": "7ba7e8e3",
    "hungarian": "552794d1",
    "indonesian": "8ccf31e3",
    "irish": "2731433d",
    "italian": "8b5240af",
    "lithuanian": "1200bf05",
    "nepali": "da6ee092",
    "norwegian": "874bedf5",
    "portuguese": "e95c43b1",
    "romanian": "de9116cc",
    "russian": "423aa527",
    "serbian": "cd4ad300",
    "spanish": "cdf92535",
    "swedish": "7c99b541",
    "tamil": "d3c7664a",
    "turkish": "ce0cb224",
    "yiddish": "267bbfb5",
}
