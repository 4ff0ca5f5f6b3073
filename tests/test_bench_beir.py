"""The run of a benchmark on small folders in BEIR's layout, end to end."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from retr.benchmarks.beir import suite as beir
from retr.benchmarks.beir import systems
from retr.benchmarks.beir.cache import exact_collection, indexed_collection, share
from retr.benchmarks.beir.folders import Prepared, prepare
from retr.benchmarks.beir.results import RUN, Entry, load
from retr.benchmarks.beir.systems import space_key
from retr.retrieval import build as building
from retr.retrieval.collection import Collection
from retr.retrieval.encoders.base import Encoder, EncoderOptions, Space, SparseEncoder
from retr.retrieval.evaluation import evaluate, read_run
from retr.retrieval.sources import open_source
from retr.retrieval.values import fusion
from retr.retrieval.values.errors import InputError, StorageError
from retr.retrieval.values.types import Document

from .toys import ToyEncoder, build_without_words

WORDS = ["red", "green", "blue", "round", "square", "heavy", "light", "old", "new", "slow", "cold"]


def write_folder(
    folder: Path,
    documents: dict[str, str],
    queries: dict[str, str],
    qrels: list[tuple[str, str, int]],
) -> Path:
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": i, "title": "", "text": t} for i, t in documents.items()]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(d) + "\n" for d in corpus))
    asked = [{"_id": i, "text": t} for i, t in queries.items()]
    (folder / "queries.jsonl").write_text("".join(json.dumps(q) + "\n" for q in asked))
    lines = ["query-id\tcorpus-id\tscore\n", *(f"{q}\t{d}\t{g}\n" for q, d, g in qrels)]
    (folder / "qrels" / "test.tsv").write_text("".join(lines))
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    documents = {f"d{i}": " ".join(rng.choice(WORDS, 5)) for i in range(200)}
    queries = {f"q{i}": " ".join(rng.choice(WORDS, 2)) for i in range(12)}
    qrels = [
        (f"q{i}", f"d{j}", int(rng.integers(0, 3))) for i in range(12) for j in range(i, 200, 17)
    ]
    return write_folder(tmp_path / "toy", documents, queries, qrels)


def run(folder: Path, **more):
    base = folder.parent
    options = {"encoder": ToyEncoder(), "cache": base / "cache", "progress": False, **more}
    return beir.run([str(folder)], base / "out", **options)


def of(entries: list[Entry], row: str = "dense", *, indexed: bool = False) -> Entry:
    """Return the entry of a kind of system."""
    found = [e for e in entries if e.system["row"] == row and bool(e.system["spec"]) == indexed]
    assert len(found) == 1, [entry.system["label"] for entry in entries]
    return found[0]


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def exact_run(folder: Path, encoder: ToyEncoder) -> dict[str, list[str]]:
    """Rank by brute force, in double precision."""
    documents, queries = read_lines(folder / "corpus.jsonl"), read_lines(folder / "queries.jsonl")
    matrix = encoder.encode_documents([d["text"] for d in documents]).astype(np.float64)
    asked = encoder.encode_queries([q["text"] for q in queries]).astype(np.float64)
    scores = asked @ matrix.T
    return {
        q["_id"]: [documents[j]["_id"] for j in np.argsort(-row, kind="stable")]
        for q, row in zip(queries, scores, strict=True)
    }


def ndcg(ranking: list[str], grades: dict[str, int], k: int = 10) -> float:
    """nDCG with linear gains, from its definition (Järvelin and Kekäläinen 2002, trec_eval)."""
    gains = [grades.get(d, 0) for d in ranking[:k]]
    best = sorted((g for g in grades.values() if g > 0), reverse=True)[:k]
    dcg = sum(g / math.log2(i + 2) for i, g in enumerate(gains))
    return dcg / sum(g / math.log2(i + 2) for i, g in enumerate(best))


def judgments(folder: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        found.setdefault(query, {})[document] = int(grade)
    return found


def distinct_texts(folder: Path) -> None:
    """Give every document a word of its own, so that no two have the same score."""
    lines = read_lines(folder / "corpus.jsonl")
    for document in lines:
        document["text"] += f" word{document['_id']}"
    (folder / "corpus.jsonl").write_text("".join(json.dumps(d) + "\n" for d in lines))


def test_figures_equal_brute_force(folder):
    distinct_texts(folder)
    entry = of(run(folder))
    rankings, qrels = exact_run(folder, ToyEncoder()), judgments(folder)
    values = entry.values()
    for query, grades in qrels.items():
        assert values["nDCG@10"][query] == pytest.approx(ndcg(rankings[query], grades), abs=1e-9)
        relevant = {d for d, g in grades.items() if g > 0}
        found = relevant & set(rankings[query][:100])
        assert values["R@100"][query] == pytest.approx(len(found) / len(relevant), abs=1e-9)
    mean = sum(values["nDCG@10"].values()) / len(qrels)
    assert entry.evaluation["means"]["nDCG@10"] == pytest.approx(mean, abs=1e-12)


class ToySparse(SparseEncoder):
    """Weighs every word of a text by its length."""

    family = "toysparse"

    def __init__(self) -> None:
        self.name = "toysparse:1"
        self.space = Space(self.name, self.family, "1", len(WORDS), False, "ip", sparse=True)

    @classmethod
    def open(cls, name: str, options: EncoderOptions) -> ToySparse:
        return cls()

    def encode_queries(self, items):
        return [{word: float(len(word)) for word in text.split()} for text in items]

    encode_documents = encode_queries


def collection_of(folder: Path, encoder: Encoder) -> Collection:
    """Return the collection that a run has left in the cache."""
    found = folder.parent / "cache" / "collections"
    [path] = found.glob(f"*-{space_key(encoder.space)}/exact.retr")
    return Collection(path, encoder=encoder)


def hits_of(entry: Entry) -> dict[str, dict[str, float]]:
    return {query: dict(hits) for query, hits in read_run(entry.run_path).items()}


def test_the_rows_are_what_users_get_and_each_side_of_it(folder):
    entries = run(folder)
    assert [e.system["row"] for e in entries] == ["hybrid", "lexical", "dense"]
    collection = collection_of(folder, ToyEncoder())
    texts = {q["_id"]: q["text"] for q in read_lines(folder / "queries.jsonl")}
    for entry, mode in zip(entries, (None, "lexical", "dense"), strict=True):
        for query, hits in hits_of(entry).items():
            found = collection.search(texts[query], 100, mode=mode)
            assert hits == pytest.approx({hit.id: hit.score for hit in found})
    runs = [hits_of(entry) for entry in entries]
    assert runs[0] != runs[1] != runs[2] != runs[0]


def test_words_alone_are_not_judged_again_for_another_encoder(folder):
    first, second = run(folder), run(folder, encoder=ToyEncoder(revision="2"))
    assert of(second, "lexical").folder == of(first, "lexical").folder
    assert of(second, "lexical") == of(first, "lexical")
    assert of(first, "lexical").encoder is None
    assert of(second, "hybrid").folder != of(first, "hybrid").folder
    assert len(list((folder.parent / "out" / "toy").iterdir())) == 5


def test_a_sparse_encoder_has_a_row_of_its_own_and_no_index(folder):
    entries = run(folder, encoder=ToySparse())
    assert [e.system["row"] for e in entries] == ["hybrid", "lexical", "sparse"]
    documents, queries = read_lines(folder / "corpus.jsonl"), read_lines(folder / "queries.jsonl")
    found = hits_of(of(entries, "sparse"))
    for query in queries:
        asked = set(query["text"].split())
        scores = {d["_id"]: sum(len(w) ** 2 for w in asked & set(d["text"].split()))
                  for d in documents}  # fmt: skip
        best = sorted(scores.values(), reverse=True)[:100]
        hits = found[query["_id"]]
        assert list(hits.values()) == pytest.approx([each for each in best if each][: len(hits)])
        assert all(scores[id] == pytest.approx(score) for id, score in hits.items())
    with pytest.raises(InputError, match="spec 'flat' has no meaning"):
        run(folder, encoder=ToySparse(), spec="flat")


def test_another_weight_is_another_result_over_the_same_vectors(folder, monkeypatch):
    before = run(folder)
    monkeypatch.setitem(fusion._DEFAULTS, "toy", fusion.Fusion(0.9))
    encoder = ToyEncoder()
    after = run(folder, encoder=encoder)
    assert encoder.seen == [], "the collection is brought up to date, its vectors kept"
    assert of(after, "hybrid").fusion["weight"] == 0.9
    assert of(after, "hybrid").key != of(before, "hybrid").key
    assert of(after, "hybrid").folder != of(before, "hybrid").folder
    assert hits_of(of(after, "hybrid")) != hits_of(of(before, "hybrid"))
    assert of(after, "lexical") == of(before, "lexical")
    assert of(after) == of(before)
    fresh = run(folder, cache=folder.parent / "other", encoder=ToyEncoder())
    assert of(fresh, "hybrid") == of(after, "hybrid")


def without_their_words(folder: Path, data: Prepared, cache: Path) -> Path:
    """Leave in the cache what was made of a data set before words were kept."""
    encoder = ToyEncoder()
    collection, _ = exact_collection(data, encoder, cache, progress=False)
    shutil.rmtree(collection.path)
    documents = [each for each in open_source(str(folder)) if isinstance(each, Document)]
    return build_without_words(documents, collection.path, encoder).path


@pytest.mark.parametrize("language", ["english", "none"])
def test_a_cached_collection_with_other_words_is_brought_up_to_date(
    folder, tmp_path, monkeypatch, language
):
    data, cache = prepare(folder, tmp_path), folder.parent / "cache"
    path = without_their_words(folder, data, cache)
    assert "lexical" not in Collection(path).settings
    if language == "none":
        exact_collection(data, ToyEncoder(), cache, progress=False)
        for module in (systems, building):
            monkeypatch.setattr(module, "DEFAULT_LANGUAGE", language)
    encoder = ToyEncoder()
    entries = run(folder, encoder=encoder)
    assert encoder.seen == [], "the vectors are kept"
    collection = collection_of(folder, ToyEncoder())
    assert collection.settings["lexical"]["analyzer"] == f"{language}:1"
    assert collection.verify() == []
    fresh = tmp_path / "fresh"
    again = beir.run([str(folder)], fresh, encoder=ToyEncoder(), cache=fresh, progress=False)
    for row in ("hybrid", "lexical", "dense"):
        assert hits_of(of(entries, row)) == hits_of(of(again, row))
        assert of(entries, row).key == of(again, row).key


def test_an_index_from_before_words_were_kept_is_brought_up_to_date(folder, tmp_path):
    pytest.importorskip("faiss")
    data, cache = prepare(folder, tmp_path), folder.parent / "cache"
    without_their_words(folder, data, cache)
    exact = Collection(next(cache.rglob("exact.retr")), encoder=ToyEncoder())
    share(exact.path, exact.path.with_name("flat.retr"))
    Collection(exact.path.with_name("flat.retr"), encoder=ToyEncoder()).index("flat")
    (exact.path.parent / "flat.json").write_text('{"index": ["flat"], "seconds": 0, "bytes": 1}')
    encoder = ToyEncoder()
    entries = run(folder, encoder=encoder, spec="flat")
    assert encoder.seen == []
    assert of(entries, indexed=True).made["index"]["bytes"] > 1
    indexed = of(entries, "hybrid", indexed=True)
    assert indexed.evaluation["means"] == of(entries, "hybrid").evaluation["means"]


def test_any_figure_can_be_derived_from_the_files_again(folder):
    entry = of(run(folder))
    again = evaluate(entry.run_path, entry.folder / "qrels.trec", list(entry.evaluation["means"]))
    assert dict(again.means) == pytest.approx(dict(entry.evaluation["means"]), abs=1e-12)
    assert {m: dict(v) for m, v in again.per_query.items()} == entry.values()
    assert entry.judged().means == entry.evaluation["means"]


def test_what_is_written(folder):
    entry = of(run(folder))
    assert {p.name for p in entry.folder.iterdir()} == {
        "run.trec.gz",
        "qrels.trec",
        "values.parquet",
        "entry.json",
    }
    assert (folder.parent / "out" / "environment.json").is_file()
    assert entry == load(entry.folder)
    assert entry.environment["retr"]
    assert entry.encoder["space"]["dim"] == 24
    assert entry.dataset["documents"] == 200


def test_a_second_run_encodes_nothing_and_gives_the_same(folder):
    first = run(folder)
    encoder = ToyEncoder()
    second = run(folder, encoder=encoder)
    assert second == first
    assert encoder.seen == []


def test_another_k_searches_again_and_encodes_no_document(folder):
    run(folder)
    encoder = ToyEncoder()
    entry = of(run(folder, encoder=encoder, k=150))
    assert encoder.seen == []
    assert entry.k == 150
    assert "R@150" in entry.evaluation["means"]
    assert max(map(len, read_run(entry.run_path).values())) == 150


@pytest.mark.parametrize("change", ["corpus", "queries", "judgments"])
def test_a_changed_data_set_is_refused_in_one_output_and_run_in_another(folder, change):
    before = of(run(folder))
    if change == "corpus":
        with (folder / "corpus.jsonl").open("a") as file:
            file.write('{"_id": "new", "text": "red green"}\n')
    elif change == "queries":
        text = (folder / "queries.jsonl").read_text()
        (folder / "queries.jsonl").write_text(text.replace('"text": "', '"text": "cold '))
    else:
        with (folder / "qrels" / "test.tsv").open("a") as file:
            file.write("q0\td1\t1\n")
    with pytest.raises(InputError, match="another data set called toy") as raised:
        run(folder)
    assert "\n" not in str(raised.value)
    assert load(before.folder) == before, "nothing was replaced"
    shutil.rmtree(folder.parent / "out")
    encoder = ToyEncoder()
    after = of(run(folder, encoder=encoder))
    assert after.key != before.key
    assert bool(encoder.seen) == (change == "corpus")


def test_a_run_that_was_killed_goes_on(folder):
    stopped = ToyEncoder(fail_at=150)
    stopped.batch_size = 1  # so that there are several windows of documents
    with pytest.raises(KeyboardInterrupt):
        run(folder, encoder=stopped)
    assert all(load(each) is None for each in (folder.parent / "out" / "toy").iterdir())
    encoder = ToyEncoder()
    entry = of(run(folder, encoder=encoder))
    assert 0 < len(encoder.seen) < 200, "what was encoded before the end is kept"
    fresh = run(folder, cache=folder.parent / "cache2", encoder=ToyEncoder())
    assert entry.evaluation == of(fresh).evaluation


def test_an_entry_that_lost_its_run_is_made_again(folder):
    entry = of(run(folder))
    entry.run_path.unlink()
    again = of(run(folder))
    assert again.run_path.is_file()
    assert again.evaluation == entry.evaluation


def test_an_entry_that_is_damaged_is_made_again(folder):
    entry = of(run(folder))
    (entry.folder / "entry.json").write_text('{"format": 1, "key"')
    assert of(run(folder)).evaluation == entry.evaluation


def test_a_collection_that_was_removed_is_made_again(folder):
    entry = of(run(folder))
    shutil.rmtree(next((folder.parent / "cache" / "collections").iterdir()) / "exact.retr")
    shutil.rmtree(folder.parent / "out")
    assert of(run(folder)).evaluation == entry.evaluation


def test_an_index_is_compared_with_exact_search_over_the_same_vectors(folder):
    pytest.importorskip("faiss")
    encoder = ToyEncoder()
    entries = run(folder, spec="flat", encoder=encoder)
    exact, indexed = of(entries), of(entries, indexed=True)
    assert len(encoder.seen) == 200, "documents are encoded once for both"
    assert indexed.base == exact.folder.name
    assert indexed.ann == {"10": 1.0, "100": 1.0}
    assert indexed.made["index"]["index"] == ["flat"]
    assert exact.ann is None
    values = indexed.values()
    assert set(values["ann_recall@10"].values()) == {1.0}
    assert list(values["ann_recall@10"]) == list(judgments(folder))
    hybrid = of(entries, "hybrid", indexed=True)
    assert hybrid.base == of(entries, "hybrid").folder.name
    assert hybrid.ann is None, "what is found of the nearest is asked of vectors alone"
    assert hybrid.evaluation["means"] == of(entries, "hybrid").evaluation["means"]


def test_the_exact_collection_stays_exact_beside_the_indexed_one(folder, tmp_path):
    pytest.importorskip("faiss")
    encoder, dataset = ToyEncoder(), prepare(folder, tmp_path)
    exact_collection(dataset, encoder, tmp_path, progress=False)
    indexed, made = indexed_collection(dataset, encoder, tmp_path, "flat")
    assert made["index"] == ["flat"]
    exact, _ = exact_collection(dataset, encoder, tmp_path, progress=False)
    assert {s["index"] for s in exact.info()["segments"]} == {None}
    assert "flat" in {s["index"] for s in indexed.info()["segments"]}
    assert exact.verify() == [] == indexed.verify()
    again, remade = indexed_collection(dataset, encoder, tmp_path, "flat")
    assert remade == made
    assert again.generation == indexed.generation


def test_a_shared_collection_may_be_changed_without_the_other_knowing(folder, tmp_path):
    encoder, dataset = ToyEncoder(), prepare(folder, tmp_path)
    collection, _ = exact_collection(dataset, encoder, tmp_path, progress=False)
    share(collection.path, tmp_path / "second.retr")
    second = Collection(tmp_path / "second.retr", encoder=encoder)
    second.delete(["d0", "d1"])
    second.add([{"id": "other", "text": "warm"}], progress=False)
    second.compact()
    collection.refresh()
    assert len(collection) == 200
    assert len(second) == 199
    assert collection.verify() == [] == second.verify()


def test_a_limit_keeps_the_first_queries_and_says_so(folder):
    entry = of(run(folder, limit=5))
    assert list(entry.values()["nDCG@10"]) == [f"q{i}" for i in range(5)]
    assert entry.limit == 5
    assert set(read_run(entry.run_path)) == {f"q{i}" for i in range(5)}
    whole = of(run(folder))
    assert whole.limit is None
    assert len(whole.values()["nDCG@10"]) == 12
    assert load(entry.folder) == entry, "a trial and the whole do not overwrite each other"


def test_a_limit_above_the_number_of_queries_is_no_error(folder):
    entry = of(run(folder, limit=1000))
    assert len(entry.values()["nDCG@10"]) == 12


def test_empty_documents_and_queries_count_and_are_told(tmp_path):
    folder = write_folder(
        tmp_path / "toy",
        {"d0": "", "d1": "red", "d2": "blue"},
        {"q0": "red", "q1": "   "},
        [("q0", "d1", 1), ("q1", "d2", 1), ("q0", "gone", 1)],
    )
    entry = of(run(folder))
    assert entry.missing["empty_queries"] == 1
    assert entry.missing["relevant_not_in_corpus"] == 1
    assert entry.values()["R@10"] == {"q0": 0.5, "q1": 0.0}
    assert entry.evaluation["missing"] == ["q1"]


def test_a_querys_own_document_is_dropped_where_the_data_set_needs_it(tmp_path):
    documents = {f"d{i}": f"thing{i} other{i} {WORDS[i % 3]}" for i in range(20)}
    documents["d1"] = documents["d0"] + " reply"
    folder = write_folder(
        tmp_path / "arguana",
        documents,
        {"d0": documents["d0"], "d1": documents["d1"]},
        [("d0", "d1", 1), ("d1", "d0", 1)],
    )
    entry = of(run(folder, k=12))
    assert entry.evaluation["drop_self"]
    found = read_run(entry.run_path)["d0"]
    assert len(found) == 13, "one more is searched than counts"
    assert "d0" in found
    # Its own document would be first, so the other's rank is one better without it.
    own_first = evaluate(entry.run_path, entry.folder / "qrels.trec", ["RR@10"])
    without = evaluate(entry.run_path, entry.folder / "qrels.trec", ["RR@10"], drop_self=True)
    assert (own_first["RR@10"], without["RR@10"]) == (0.5, 1.0)
    assert entry.values()["RR@10"] == without.per_query["RR@10"]


def test_a_folder_that_only_has_the_name_is_not_taken_for_the_published_set(folder, caplog):
    renamed = folder.rename(folder.parent / "scifact")
    entry = of(run(renamed))
    assert not entry.dataset["registered"]
    assert "not taken for the published set" in caplog.text


def test_capped_recall_is_there_where_recall_is_capped(tmp_path):
    documents = {f"d{i}": f"red {i}" for i in range(150)}
    qrels = [("q0", f"d{i}", 1) for i in range(150)]
    entry = of(run(write_folder(tmp_path / "toy", documents, {"q0": "red"}, qrels)))
    assert entry.evaluation["means"]["R@100"] == pytest.approx(100 / 150)
    assert entry.evaluation["means"]["R_cap@100"] == 1.0


def test_measures_follow_k():
    qrels = {"q": {"d": 1}}
    assert beir.measures(20, qrels)[:3] == ["nDCG@10", "RR@10", "AP@20"]
    assert beir.curve(20) == [1, 2, 5, 10, 20]
    assert beir.curve(30) == [1, 2, 5, 10, 20, 30]
    assert "R_cap@100" not in beir.measures(1000, qrels)


def test_settings_that_change_the_figures_have_folders_of_their_own(folder):
    first = of(run(folder))
    second = of(run(folder, encoder=ToyEncoder(revision="2")))
    assert first.folder != second.folder
    assert space_key(ToyEncoder().space) != space_key(ToyEncoder(revision="2").space)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 9}, "k is 9"),
        ({"k": 100_000}, "k is 100000"),
        ({"limit": 0}, "limit is 0"),
        ({"spec": "nonsense("}, "spec 'nonsense('"),
        ({"split": "dev"}, "no judgments 'dev'; there are test"),
        ({"encoder": "nope:1"}, "nope"),
        ({"encoder": ToyEncoder(), "options": EncoderOptions(max_length=3)}, "already exists"),
    ],
)
def test_options_that_cannot_be_used(folder, options, said):
    with pytest.raises(InputError, match=re.escape(said)):
        run(folder, **options)


def test_output_that_is_a_file(folder):
    (folder.parent / "out").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        run(folder)


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda f: (f / "corpus.jsonl").unlink(), "no corpus.jsonl"),
        (lambda f: (f / "queries.jsonl").unlink(), "no queries.jsonl"),
        (lambda f: shutil.rmtree(f / "qrels"), "no judgments"),
        (lambda f: (f / "qrels" / "test.tsv").write_text("a\tb\tscore\nq0\td0\n"), "test.tsv:2"),
        (lambda f: (f / "qrels" / "test.tsv").write_text("q\td\tscore\nx\td0\t1\n"), "'x'"),
        (lambda f: (f / "queries.jsonl").write_text('{"_id": "q0"}\n'), "queries.jsonl:1"),
        (lambda f: (f / "queries.jsonl").write_text("[1]\n"), "queries.jsonl, line 1"),
        (
            lambda f: (f / "queries.jsonl").write_text('{"_id": "q0", "text": "a"}\n' * 2),
            "'q0' comes twice",
        ),
        (lambda f: (f / "corpus.jsonl").write_text('{"_id": "1"}\n{'), "corpus.jsonl"),
    ],
)  # fmt: skip
def test_a_broken_folder_is_said_in_one_line(folder, break_it, said):
    break_it(folder)
    with pytest.raises(InputError, match=re.escape(said)) as raised:
        run(folder)
    assert "\n" not in str(raised.value)


def test_two_folders_of_one_name_do_not_overwrite_each_other(folder, tmp_path):
    twin = shutil.copytree(folder, tmp_path / "elsewhere" / "toy")
    with pytest.raises(InputError, match="are both called toy"):
        beir.run(
            [str(folder), str(twin)],
            tmp_path / "out",
            encoder=ToyEncoder(),
            cache=tmp_path / "cache",
            progress=False,
        )


def test_other_splits_are_chosen_by_name(folder):
    shutil.copy(folder / "qrels" / "test.tsv", folder / "qrels" / "dev.tsv")
    assert of(run(folder)).dataset["split"] == "test"
    dev = of(run(folder, split="dev"))
    assert dev.dataset["split"] == "dev"
    assert dev.folder.parent.name == "toy-dev", "splits do not overwrite each other"
    (folder / "qrels" / "test.tsv").rename(folder / "qrels" / "train.tsv")
    with pytest.raises(InputError, match=r"choose with --split: dev, train"):
        run(folder)


def test_packed_folders_are_read(folder):
    import gzip

    for name in ("corpus.jsonl", "queries.jsonl"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
    plain = of(run(folder))
    for name in ("corpus.jsonl", "queries.jsonl"):
        (folder / name).unlink()
    shutil.rmtree(folder.parent / "out")
    packed = of(run(folder))
    assert packed.dataset["documents"] == 200
    assert packed.evaluation["means"] == plain.evaluation["means"]


def test_scifact_with_the_built_in_encoder(data, tmp_path):
    entries = beir.run(
        [str(data / "beir" / "scifact")],
        tmp_path / "out",
        encoder="static:1",
        cache=tmp_path / "cache",
        progress=False,
    )
    entry = of(entries)
    assert entry.dataset["registered"]
    assert entry.evaluation["means"]["nDCG@10"] == pytest.approx(0.39, abs=0.01)
    # As bm25s says over the same terms. Pyserini's 0.6789 is of another analysis: over plain
    # words, stemmed by Porter, with its constants bm25s says 0.6765.
    assert of(entries, "lexical").evaluation["means"]["nDCG@10"] == pytest.approx(0.7058, abs=2e-3)
    assert (entry.folder / RUN).is_file()


def flip(path: Path) -> None:
    """Change one byte in the middle of a file."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.chmod(0o644)
    path.write_bytes(raw)


def largest(collection: Path) -> Path:
    files = [p for p in collection.rglob("*") if p.is_file() and p.parent != collection]
    return max(files, key=lambda p: p.stat().st_size)


def test_a_cached_collection_with_a_damaged_byte_is_made_again(folder, caplog):
    entry = of(run(folder))
    path = next((folder.parent / "cache" / "collections").iterdir()) / "exact.retr"
    flip(largest(path))
    shutil.rmtree(folder.parent / "out")
    encoder = ToyEncoder()
    again = of(run(folder, encoder=encoder))
    assert again.evaluation == entry.evaluation
    assert len(encoder.seen) == 200, "made again, not trusted"
    assert Collection(path, encoder=ToyEncoder()).verify() == []
    [said] = [r.getMessage() for r in caplog.records if "damaged" in r.getMessage()]
    assert "exact.retr" in said
    assert "\n" not in said


def test_a_damaged_index_is_made_again(folder, tmp_path, caplog):
    pytest.importorskip("faiss")
    encoder, dataset = ToyEncoder(), prepare(folder, tmp_path)
    exact, _ = exact_collection(dataset, encoder, tmp_path, progress=False)
    indexed, _ = indexed_collection(dataset, encoder, tmp_path, "flat")
    shared = {p.stat().st_ino for p in exact.path.rglob("*")}
    own = [
        p
        for p in indexed.path.rglob("*")
        if p.is_file() and p.stat().st_ino not in shared and "manifests" not in p.parts
    ]
    flip(max(own, key=lambda p: p.stat().st_size))
    again, _ = indexed_collection(dataset, encoder, tmp_path, "flat")
    assert again.verify() == []
    assert "damaged" in caplog.text


def test_a_collection_is_compared_once_in_a_run(folder, tmp_path, caplog):
    encoder, dataset, checked = ToyEncoder(), prepare(folder, tmp_path), set()
    collection, _ = exact_collection(dataset, encoder, tmp_path, progress=False, checked=checked)
    assert checked == {collection.path}
    flip(largest(collection.path))
    exact_collection(dataset, encoder, tmp_path, progress=False, checked=checked)
    assert caplog.text.count("is damaged") == 0
    exact_collection(dataset, encoder, tmp_path, progress=False, checked=set())
    assert caplog.text.count("is damaged") == 1


def several(folders: list[str], base: Path, **more):
    options = {"encoder": ToyEncoder(), "cache": base / "cache", "progress": False, **more}
    return beir.run(folders, base / "out", **options)


@pytest.mark.parametrize("lost", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_every_folder_is_looked_at_before_anything_is_run(folder, tmp_path, lost):
    second = shutil.copytree(folder, tmp_path / "second")
    (second / lost).unlink()
    encoder = ToyEncoder()
    with pytest.raises(InputError, match="second"):
        several([str(folder), str(second)], tmp_path, encoder=encoder)
    assert encoder.seen == []
    assert not (tmp_path / "out").exists()


def test_names_are_compared_before_anything_is_run(folder, tmp_path):
    twin = shutil.copytree(folder, tmp_path / "elsewhere" / "toy")
    encoder = ToyEncoder()
    with pytest.raises(InputError, match="are both called toy"):
        several([str(folder), str(twin)], tmp_path, encoder=encoder)
    with pytest.raises(InputError, match="no data set"):
        several([str(folder), "scifcat"], tmp_path, encoder=encoder)
    with pytest.raises(InputError, match="name is empty"):
        several([str(folder), ""], tmp_path, encoder=encoder)
    assert encoder.seen == []


def test_what_is_done_before_an_error_is_reported(folder, tmp_path):
    second = shutil.copytree(folder, tmp_path / "second")
    with (second / "corpus.jsonl").open("a") as file:
        file.write("{\n")
    with pytest.raises(InputError, match="second") as raised:
        several([str(folder), str(second)], tmp_path)
    assert "\n" not in str(raised.value)
    known = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {row["dataset"] for row in known["rows"]} == {"toy"}


@pytest.mark.parametrize("option", ["out", "cache"])
def test_folders_that_cannot_be_made(folder, tmp_path, option):
    (tmp_path / "file").write_text("x")
    places = {"out": tmp_path / "out", "cache": tmp_path / "cache"}
    places[option] = tmp_path / "file" / "below"
    with pytest.raises(StorageError, match=f"cannot be made .*--{option}") as raised:
        beir.run(
            [str(folder)], places["out"], encoder=ToyEncoder(), cache=places["cache"],
            progress=False,
        )  # fmt: skip
    assert "\n" not in str(raised.value)


def test_a_download_that_cannot_be_is_told_after_the_report(folder, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="--data"):
        several([str(folder), "scifact"], tmp_path, data=tmp_path / "file" / "below")
    assert "toy" in (tmp_path / "out" / "report.md").read_text()
