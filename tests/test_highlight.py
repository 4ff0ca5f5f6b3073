"""The part of a text that is shown, and the words marked in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retr.retrieval.text.highlight import Words, snippet

WORDS = ("delete", "Deleting", "documents,", "café.", "東京", "x", "the", "index_of", "運")
TEXTS = st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join)
QUERIES = st.sampled_from(
    [
        "delete documents",
        "the café 東京都",
        "index",
        "the",
        "",
        "東",
        "of x deletes",
        "nothing here",
    ]
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("document", "documents"),
        ("delete", "Deleting"),
        ("delete", "deleted"),
        ("delete", "DELETES"),
        ("search", "searches"),
        ("box", "boxes"),
        ("class", "classes"),
        ("query", "queries"),
        ("run", "running"),
        ("fall", "falling"),
        ("upgrade", "upgrading"),
        ("café", "CAFE"),
        ("café", "cafe\u0301"),
        ("Straße", "STRASSE"),
        ("файл", "ФАЙЛ"),
    ],
)
def test_forms_of_a_word_match(one: str, other: str) -> None:
    assert marked(other, one) == [other]
    assert marked(one, other) == [one]


@pytest.mark.parametrize(
    ("one", "other"),
    [("index", "indicator"), ("bus", "bu"), ("string", "str"), ("sing", "s"), ("v12s", "v12")],
)
def test_other_words_do_not(one: str, other: str) -> None:
    assert marked(other, one) == marked(one, other) == []


def marked(text: str, query: str) -> list[str]:
    return [text[start:end] for start, end in Words(query).spans(text)]


def test_the_words_of_the_query_are_marked_whole() -> None:
    text = "Deleting a document deletes its passages; undelete_me, redelete, Document's."
    assert marked(text, "how do I delete documents?") == [
        "Deleting",
        "document",
        "deletes",
        "Document",
    ]


def test_words_that_hold_a_sentence_together_count_only_where_there_are_no_others() -> None:
    assert marked("the who and the band", "the band") == ["band"]
    assert marked("the who and the band", "the who") == ["the", "who", "the"]


def test_parts_of_identifiers_and_compounds_match() -> None:
    text = "call getUserName, get_user_id or e-mail"
    assert marked(text, "user") == ["User", "user"]
    assert marked(text, "get_user_name email") == ["getUserName", "get", "user", "e-mail"]


def test_a_word_matches_as_the_language_has_it() -> None:
    def marks(language: str) -> list[str]:
        text = "die Häuser"
        return [text[start:end] for start, end in Words("Haus", language).spans(text)]

    assert (marks("german"), marks("english")) == (["Häuser"], [])


def test_scripts_without_spaces_match_by_pairs_of_characters() -> None:
    assert marked("私は東京大学で学ぶ", "東京大学") == ["東京大学"]
    assert marked("東京都の大学", "東京大学") == ["東京", "大学"]
    assert marked("한국어를 배운다", "한국어") == ["한국어"]
    assert marked("ABC東京def", "東京 abc") == ["ABC東京"]


def test_one_character_is_marked_among_others() -> None:
    assert marked("水曜日に水を飲む。香水", "水") == ["水", "水", "水"]
    assert marked("水曜日の海水浴", "水 海水") == ["水", "海水"]
    assert marked("火曜日", "水") == []


def test_a_mark_inside_a_word_does_not_split_it() -> None:
    assert marked("un re\u0301sume\u0301 court", "résumé") == ["re\u0301sume\u0301"]
    assert marked("यह हिन्दी है", "हिन्दी") == ["हिन्दी"]


def test_a_query_without_words_marks_nothing() -> None:
    assert marked("some text", "") == marked("some text", "?! …") == []


def test_the_part_with_most_words_of_the_query_is_shown() -> None:
    text = (
        "delete " * 50 + "filler " * 200 + "how to delete a document by its id " + "filler " * 200
    )
    found = snippet(text, "delete document", 80)
    assert "delete a document" in found.text
    assert found.before
    assert found.after


def test_a_text_without_a_match_is_shown_from_its_start() -> None:
    found = snippet("one two three four five six", "nothing", 15)
    assert found.text == "one two three"
    assert not found.before
    assert found.after
    assert found.matches == ()


def test_a_short_text_is_shown_whole_with_its_white_space_made_plain() -> None:
    found = snippet("  one\n\ttwo \u2028 three ", "two", 100)
    assert (found.text, found.matches) == ("one two three", ((4, 7),))
    assert not found.before
    assert not found.after


@given(TEXTS, QUERIES, st.integers(1, 120))
def test_a_snippet_is_a_part_of_the_text_with_its_matches_in_order(
    text: str, query: str, size: int
) -> None:
    flat = " ".join(text.split())
    found = snippet(text, query, size)
    assert len(found.text) <= size
    assert found.text in flat
    assert found.before or flat.startswith(found.text)
    assert found.after or flat.endswith(found.text)
    assert found.before + found.after or found.text == flat
    ends = [at for span in found.matches for at in span]
    assert ends == sorted(ends)
    assert all(0 <= start < end <= len(found.text) for start, end in found.matches)


@given(TEXTS, QUERIES, st.integers(12, 60))
def test_no_other_part_has_more_distinct_words(text: str, query: str, size: int) -> None:
    flat = " ".join(text.split())
    found = list(Words(query).find(flat))
    best = max(
        (
            len({word for first, last, word in found if first >= start and last <= start + size})
            for start in range(len(flat) + 1)
        ),
        default=0,
    )
    shown = snippet(text, query, size).text
    assert len({word for _, _, word in Words(query).find(shown)}) >= best
