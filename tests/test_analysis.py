"""What texts become: golden terms per language, and what holds for any text."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retr.retrieval.text.analysis import LANGUAGES, analyzer
from retr.retrieval.text.stop_words import STOP_WORDS
from retr.retrieval.values.errors import InputError

english = analyzer()
LINES = (
    "state-of-the-art getUserName get_user_name HTTPServer2 sha256 mRNA p53 don't John's l'avion",
    "C++ C# .NET 3.14 1,000 1,2 v1.2.3 U.S.A. e-mail café re\u0301sume\u0301 Straße ΣΊΣΥΦΟΣ",
    "東京大学 東 ｶﾞｷﾞ トヨタ 한국어를 กรุงเทพ မြန်မာ हिन्दी كِتَاب שָׁלוֹם ＡＢＣ１２ ١٢٣ ABC東京2020年",
    "😀🍕 👍🏽 1️⃣ 🇫🇷 infor\u00admation \ud800 \0 _ -- the of İstanbul",
)
WORDS = [word for line in LINES for word in line.split(" ")]
TEXTS = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join),
    st.text(max_size=60),
    st.text(alphabet="aZé\u0301_-'’.,+#09 東ガ\uff76\uff9e한กุ😀\u200d\u00ad", max_size=40),
)
LANGUAGE = st.sampled_from(LANGUAGES)


@given(TEXTS, LANGUAGE)
def test_spans_say_where_the_terms_are(text: str, language: str) -> None:
    spans = list(analyzer(language).spans(text))
    assert [term for _, _, terms in spans for term in terms] == analyzer(language).terms(text)
    assert all(0 <= start < end <= len(text) and terms for start, end, terms in spans)
    assert all(one[0] <= other[0] for one, other in pairwise(spans))
    for start, end, terms in spans:
        assert set(terms) <= set(analyzer(language).terms(text[start:end]))


@given(TEXTS, TEXTS, LANGUAGE)
def test_words_do_not_look_beyond_a_space(one: str, other: str, language: str) -> None:
    terms = analyzer(language).terms
    assert terms(one + " " + other) == terms(one) + terms(other)


@given(TEXTS, LANGUAGE)
@example("\u00c0\u0e38\u1780", "none")  # decomposed, the Thai vowel comes before the accent
def test_the_form_of_normalisation_does_not_count(text: str, language: str) -> None:
    terms = analyzer(language).terms
    assert terms(unicodedata.normalize("NFD", text)) == terms(unicodedata.normalize("NFC", text))


@given(st.text(alphabet="abcéßøяδñ'-_ ", max_size=40))
def test_case_does_not_count(text: str) -> None:
    assert english.terms(text.upper()) == english.terms(text.lower())


@given(TEXTS, LANGUAGE)
def test_a_query_has_terms_where_its_text_has(text: str, language: str) -> None:
    found = analyzer(language).query_terms(text)
    terms = analyzer(language).terms(text)
    assert bool(found) == bool(terms)
    assert set(found) <= set(terms)


@given(st.lists(st.lists(TEXTS, max_size=3), max_size=3))
def test_a_vocabulary_numbers_the_same_terms(batches: list[list[str]]) -> None:
    vocabulary = english.vocabulary()
    for texts in batches:
        ids, lengths = vocabulary.add(texts)
        assert ids.dtype == lengths.dtype == np.int32
        assert [vocabulary.terms[number] for number in ids] == english.terms(" ".join(texts))
        assert lengths.tolist() == [len(english.terms(text)) for text in texts]
    assert len(set(vocabulary.terms)) == len(vocabulary.terms)


def test_more_words_than_are_kept_get_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retr.retrieval.text.analysis._KEPT", 3)
    vocabulary = english.vocabulary()
    words = [f"word{chr(97 + i)}" for i in range(10)]
    first, _ = vocabulary.add([" ".join(words)])
    again, _ = vocabulary.add([" ".join(words)])
    assert first.tolist() == again.tolist() == list(range(10))


@pytest.mark.parametrize(
    "text",
    [
        "a" * 300_000,
        "a-" * 150_000,
        "aB" * 150_000,
        "東" * 300_000,
        "\u0301" * 300_000,
        "1," * 99_999,
    ],
    ids=["word", "compound", "humps", "ideographs", "marks", "numbers"],
)
def test_words_without_end_are_cut(text: str) -> None:
    terms = english.terms(text)
    assert len(terms) <= len(text)
    assert max(map(len, terms), default=0) <= 128


# What version 1 makes of texts. Collections store the version: a change here breaks them.
GOLDEN = {
    "english": {
        "The children's e-mails were answered by 1,000 lawyers in the U.S.A.": (
            "the children email e mail were answer by 1000 lawyer in the usa"
        ),
        "Don't mix state-of-the-art C++ and C# at v1.2.3, 3.14 or [1,2]": (
            "don't mix stateoftheart state of the art c++ and c# at v1.2.3 3.14 or 1 2"
        ),
        "getUserNames get_user_name HTTPServer2 sha256 mRNA ESCs p53 __init__": (
            "getusernam get user name getusernam get user name httpserver2 http server 2 "
            "sha256 sha 256 mrna esc p53 init"
        ),
        "résumé Résume\u0301s naïve Café's O’Reilly internationally emergencies adding": (
            "resum resum naiv cafe oreilli o reilli internat emergenc add"
        ),
        "東京大学 東 ｶﾞｷﾞ 한국어 กรุงเทพ ABC東京2020年": (
            "東京 京大 大学 東 ガギ 한국 국어 กรุ รุง งเ เท ทพ abc 東京 2020 年"
        ),
        "😀🍕 👍🏽 1️⃣ 🇫🇷 infor\u00admation ＡＢＣ ١٢٣": "😀 🍕 👍 1 🇫🇷 inform abc 123",
    },
    "none": {"The résumés of Straße don't": "the resumes of strasse don t"},
    "arabic": {"المكتبات الكبيرة والكِتَابُ في المدينة": "مكتب كبير والكتاب في مدين"},
    "armenian": {"գրքերը գրադարաններում են": "գրքերը գրադար են"},
    "basque": {"etxeak eta liburuak ikusi ditugu": "etxe eta liburu ikusi ditugu"},
    "catalan": {"L'home i les ciències de l’educació": "l hom i les cienc de l educ"},
    "danish": {"husene på øen og børnenes bøger": "hus på øen og børn bøg"},
    "dutch": {"de kinderen lopen naar de bibliotheken": "de kinder loop naar de bibliotheek"},
    "finnish": {"taloissa on kirjoja ja järviä": "talo on kirj ja järv"},
    "french": {"L'été dernier, les généralités qu’il aimait": "l ete derni les general qu il aim"},
    "german": {
        "Die Häuser der Straßen waren größer als Bücher": "die haus der strass waren gross als buch"
    },
    "greek": {"τα βιβλία των παιδιών στις βιβλιοθήκες": "τα βιβλ τ πα στισ βιβλιοθηκ"},
    "hindi": {"लड़कियों की किताबें पुस्तकालयों में": "लड़क क किताब पुस्तकालय म"},
    "hungarian": {"a házakban könyveket olvasnak": "a haz konyv olvas"},
    "indonesian": {"perpustakaan membacakan buku-buku": "pustaka baca bukubu buku buku"},
    "irish": {"na leabhair sna leabharlanna": "na leabhair sna leabharlanna"},
    "italian": {"Dell'arte e le città dei bambini": "dell arte e le citt dei bambin"},
    "lithuanian": {"knygos bibliotekose yra naujos": "knyg bibliotek yr nauj"},
    "nepali": {"किताबहरू पुस्तकालयमा छन्": "किताब पुस्तकालय छन्"},
    "norwegian": {"husene på øya og bøkene til barna": "hus på øya og bøk til barn"},
    "portuguese": {"as informações não são das nações": "as inform nao sao das naco"},
    "romanian": {"informațiile și cărțile copiilor": "inform si cart cop"},
    "russian": {"Ещё в библиотеках йодные книги детей": "ещ в библиотек йодн книг дет"},
    "serbian": {"књиге у библиотекама": "knjig u bibliotek"},
    "spanish": {"Los estados y las informaciones del año": "los estad y las inform del año"},
    "swedish": {"husen på ön och böckerna": "hus på ön och böck"},
    "tamil": {"புத்தகங்கள் நூலகத்தில்": "புத்தகம் நூலகம்"},
    "turkish": {"İstanbul'daki kitapların IŞIKLARI": "istanbul daki kitap ışık"},
    "yiddish": {"די ביכער אין ביבליאטעקן": "די ביכ אינ ביבליאטעק"},
}


@pytest.mark.parametrize(
    ("language", "text"), [(language, text) for language in GOLDEN for text in GOLDEN[language]]
)
def test_what_version_1_makes_of_texts(language: str, text: str) -> None:
    assert " ".join(analyzer(f"{language}:1").terms(text)) == GOLDEN[language][text]


def test_every_language_is_in_the_table() -> None:
    assert sorted(GOLDEN) == sorted(LANGUAGES)


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("how do I turn off the lights", "turn off light"),
        ("to be or not to be", "not"),
        ("the who", "the who"),
        ("I'll", "i'll"),
        ("", ""),
        ("?! …", ""),
    ],
)
def test_stop_words_are_dropped_where_there_are_others(query: str, terms: str) -> None:
    assert " ".join(english.query_terms(query)) == terms


@pytest.mark.parametrize("language", STOP_WORDS)
def test_a_query_of_stop_words_and_another_keeps_the_other(language: str) -> None:
    found = analyzer(language).query_terms(STOP_WORDS[language] + " 東京")
    assert found == ["東京"]


def test_letters_that_a_language_has_of_its_own_stay() -> None:
    assert analyzer("sv").terms("hår Ångström") == ["hår", "ångström"]
    assert analyzer("en").terms("hår Ångström") == ["har", "angstrom"]
    assert analyzer("es").terms("año información") == analyzer("es").terms("AÑO informacion")
    assert analyzer("tr").terms("KIŞI") == analyzer("tr").terms("kışı") == ["kış"]


def test_an_analyser_is_found_by_name_code_and_what_collections_store() -> None:
    assert analyzer("english") is analyzer("EN") is analyzer("english:1") is analyzer()
    assert (english.language, english.version, english.name) == ("english", 1, "english:1")
    assert all(analyzer(analyzer(name).name).language == name for name in LANGUAGES)


def test_other_languages_and_versions_are_refused() -> None:
    with pytest.raises(InputError, match=r"'klingon'; use none, arabic, "):
        analyzer("klingon")
    with pytest.raises(InputError, match="version '2' of the analyser for english"):
        analyzer("english:2")
