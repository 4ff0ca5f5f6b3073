"""Composed queries: what texts, images and the unwanted add up to, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import retr
from retr.retrieval.search.composing import compose
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.types import WITHOUT_WEIGHT, Document, Query

from .toy_images import COLOURS, ToyImageEncoder, data_of, picture, save
from .toys import ToyEncoder

ENCODER = ToyImageEncoder()


def of_text(text: str) -> np.ndarray:
    return ENCODER.encode_queries([text])[0].astype(np.float64)


def of_image(colour: str) -> np.ndarray:
    return ENCODER.encode_images([picture(colour)])[0].astype(np.float64)


def vector(query: Query) -> np.ndarray:
    return compose([query], ENCODER.space, lambda: ENCODER)[0]


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query("red"), of_text("red")),
        (Query(["red", "blue"]), of_text("red") + of_text("blue")),
        (Query(image=picture("red")), of_image("red")),
        (Query("blue", image=picture("red")), of_text("blue") + of_image("red")),
        (
            Query("blue", image=picture("red"), weights={"text": 0.25, "image": 2}),
            0.25 * of_text("blue") + 2 * of_image("red"),
        ),
        (
            Query(image=picture("red"), without="white"),
            of_image("red") - WITHOUT_WEIGHT * of_text("white"),
        ),
        (
            Query("red", without=["white", picture("black")], weights={"without": [0.25, 0.125]}),
            of_text("red") - 0.25 * of_text("white") - 0.125 * of_image("black"),
        ),
        (
            Query(image=[picture("red"), data_of(picture("green"))], weights={"image": (1, 3)}),
            of_image("red") + 3 * of_image("green"),
        ),
    ],
)
def test_parts_are_added_up_as_align_does(query: Query, expected: np.ndarray) -> None:
    assert np.allclose(vector(query), unit(expected), atol=1e-6)


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from([*COLOURS]), min_size=1, max_size=4),
    st.floats(0.05, 20),
    st.integers(0, 3),
)
def test_only_the_ratio_of_weights_counts(texts: list[str], factor: float, without: int) -> None:
    weights = np.linspace(0.5, 1, len(texts))
    left_out = [*COLOURS][:without]
    one, other = (
        vector(
            Query(
                texts,
                without=left_out,
                weights={"text": [*(f * weights)], "without": f * 0.1},
            )
        )
        for f in (1.0, factor)
    )
    if len(texts) > 1 or left_out:
        assert np.allclose(one, other, atol=1e-5)


def test_a_block_of_queries_is_encoded_at_once() -> None:
    queries = [Query("red"), Query(image=picture("blue"), without="red"), Query(["red", "white"])]
    together = compose(queries, ENCODER.space, lambda: ENCODER)
    for query, row in zip(queries, together, strict=True):
        assert np.allclose(vector(query), row, atol=1e-6)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> retr.Collection:
    folder = tmp_path_factory.mktemp("mixed")
    documents = [Document(f"i {c}", image=str(save(folder / f"{c}.png", c))) for c in COLOURS] + [
        Document(f"t {c}", f"a {c} thing") for c in COLOURS
    ]
    return retr.build(documents, folder / "c.retr", encoder=ToyImageEncoder(), progress=False)


def test_all_four_directions(mixed: retr.Collection, tmp_path: Path) -> None:
    texts, images = ([f"{kind} {c}" for c in COLOURS] for kind in "ti")
    for colour in COLOURS:
        by_image = Query(image=save(tmp_path / "query.png", colour, seed=5))
        for query in (Query(colour), by_image):
            assert mixed.search(query, k=1, ids=texts)[0].id == f"t {colour}"
            assert mixed.search(query, k=1, ids=images, mode="dense")[0].id == f"i {colour}"
        found = [hit.id for hit in mixed.search(by_image, k=4)]
        assert {f"i {colour}", f"t {colour}"} <= {*found}


def test_what_is_not_wanted_comes_last(mixed: retr.Collection) -> None:
    images = [f"i {c}" for c in COLOURS]
    asked = Query(image=picture("purple"), without="blue", weights={"without": 1})
    plain = [h.id for h in mixed.search(Query(image=picture("purple")), k=8, ids=images)]
    without = [h.id for h in mixed.search(asked, k=8, ids=images)]
    assert without.index("i blue") > plain.index("i blue")


def test_words_count_in_a_composed_query_only_where_that_is_chosen(mixed: retr.Collection) -> None:
    query = Query("a thing", image=picture("red"))
    assert mixed.search(query, k=1)[0].why is None
    why = mixed.search(query, k=1, explain=True)[0].why
    assert why is not None and why.dense is not None
    dense = [h.id for h in mixed.search(query, mode="dense")]
    assert [h.id for h in mixed.search(query)] == dense
    assert [h.id for h in mixed.search(query, mode="hybrid")] != dense
    several = mixed.search([Query("red"), query])
    assert [h.id for h in several[1]] == dense
    assert [h.id for h in several[0]] == [h.id for h in mixed.search("red")]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (lambda p: Query(without="red"), "asks for nothing"),
        (lambda p: Query("red", without="red", weights={"without": 1}), "cancel each other out"),
        (lambda p: Query("red", without=" "), "is empty"),
        (lambda p: Query(["red", ""]), "is empty"),
        (lambda p: Query(["red", 3]), "is a int"),
        (lambda p: Query("red", image=p / "gone.png"), "gone.png: there is no such file"),
        (lambda p: Query(image=p / "text.jpg"), "text.jpg: is not an image"),
        (lambda p: Query(image=b""), "empty"),
        (lambda p: Query(image=3), "not a int"),
        (lambda p: Query(image="https://example.org/a.jpg"), "address"),
        (lambda p: Query(image=p), "cannot be read"),
        (lambda p: Query(image=picture("red"), vector=np.ones(8)), "replaces the whole query"),
    ],
)
def test_what_cannot_be_asked(
    mixed: retr.Collection, tmp_path: Path, query: Any, message: str
) -> None:
    (tmp_path / "text.jpg").write_text("this is a text, whatever the name says")
    with pytest.raises(InputError, match=message):
        mixed.search(query(tmp_path))


@pytest.mark.parametrize(
    "weights",
    [
        {"txt": 1},
        {"text": 0},
        {"text": -1},
        {"text": "1"},
        {"text": [1, 2]},
        {"text": float("nan")},
    ],
)
def test_weights_that_are_none(weights: Any) -> None:
    with pytest.raises(InputError, match="weight"):
        Query("red", weights=weights)


def test_an_encoder_of_texts_says_what_to_do(tmp_path: Path) -> None:
    c = retr.build(["red", "blue"], tmp_path / "c.retr", encoder=ToyEncoder(), progress=False)
    with pytest.raises(InputError, match=r"toy:1 takes only texts.*clip:MODEL"):
        c.search(Query(image=picture("red")))
    # Texts alone can be composed in any space.
    assert c.search(Query("red", without="blue"), k=1)[0].text == "red"
    own = retr.build(np.eye(3), tmp_path / "v.retr", progress=False)
    with pytest.raises(InputError, match="your own vectors"):
        own.search(Query(image=picture("red")))
    with pytest.raises(InputError, match="searches by words only"):
        c.search(Query("red", without="blue"), mode="lexical")
