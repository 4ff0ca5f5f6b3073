"""Reports: derived from what the runs left, figures beside the right rows, pages that are whole."""

from __future__ import annotations

import itertools
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from retr.benchmarks import page, study
from retr.benchmarks.beir import blocks, keep, report
from retr.benchmarks.beir.blocks import describe, records, setting_items
from retr.benchmarks.beir.datasets import DATASETS, FORUMS, PUBLIC
from retr.benchmarks.beir.pairs import over_sets
from retr.benchmarks.beir.results import Entry, load, save
from retr.retrieval.evaluation import evaluate, write_run
from retr.retrieval.values.errors import DamagedError, InputError

MINILM = {
    "encoder": "st:some/where",
    "family": "st",
    "revision": "2d10908b9582914e",
    "dim": 384,
    "normalised": True,
    "metric": "cosine",
    "document_prompt": "",
    "max_length": 256,
    "pooling": "mean",
}
WORDS = {"analyzer": "english:1", "k1": 1.2, "b": 0.75}
FUSION = {"weight": 0.3, "fitted": "default"}
OTHER = {**MINILM, "revision": "feedbeeffeedbeef", "encoder": "st:other"}
ENVIRONMENT = {
    "time": "2026-01-01T00:00:00+00:00",
    "command": ["retr"],
    "retr": "0",
    "python": "3",
    "packages": {"numpy": "2"},
    "system": "Linux",
    "processor": "a processor",
    "cores": 2,
    "cores_usable": 2,
    "memory_bytes": 2**34,
    "gpu": None,
    "variables": {},
}


def make_entry(
    out: Path,
    name: str,
    *,
    space: dict = MINILM,
    row: str = "dense",
    spec: str | None = None,
    level: float = 0.5,
    limit: int | None = None,
    queries: int = 30,
    prompt: str | None = None,
    k: int = 100,
    words: dict = WORDS,
) -> Entry:
    """Leave an entry as a run would, with values of its own for each query."""
    rng = np.random.default_rng([len(name), int(level * 1000)])
    known = DATASETS.get(name)
    qrels = {f"q{i}": {"a": 1, "b": 1} for i in range(queries)}
    run = {
        q: {d: float(s) for d, s in zip("abcd", rng.permutation(4) + level, strict=True)}
        for q in qrels
    }
    evaluation = evaluate(run, qrels, ["nDCG@10", "RR@10", f"AP@{k}", "R@1", "R@2", f"R@{k}"])
    encoder = {"name": space["encoder"], "options": {}, "query_prompt": prompt, "space": space}
    first = f"words{words['k1']:g}" if row == "lexical" else space["revision"][:4]
    system = f"{first}--{row}{'-' + spec if spec else ''}{limit or ''}"
    folder = out / name.replace("/", "-") / system
    folder.mkdir(parents=True, exist_ok=True)
    write_run(run, folder / "run.trec.gz")
    plain = evaluation.to_dict()
    values = plain.pop("per_query")
    entry = Entry(
        folder=folder,
        key="key",
        dataset={
            "name": name,
            "slug": name.replace("/", "-"),
            "title": known.title if known else name,
            "split": "test",
            "group": str(known.group) if known else "own",
            "registered": known is not None,
            "digest": "x",
            "corpus_digest": "x",
            "documents": known.documents if known else 4,
            "queries": queries * (1 if limit is None else 2),
        },
        system={
            "name": system,
            "label": f"{row}, {spec or 'exact'}",
            "row": row,
            "mode": row,
            "spec": spec,
        },
        encoder=None if row == "lexical" else encoder,
        k=k,
        limit=limit,
        evaluation=plain,
        base=f"{space['revision'][:4]}--{row}" if spec else None,
        ann={"10": 0.9, "100": 0.8} if spec and row == "dense" else None,
        missing={"empty_queries": 0, "relevant_not_in_corpus": 0, "skipped_documents": 0},
        made={"build": {}},
        environment=ENVIRONMENT,
        words=None if row == "dense" else words,
        fusion=FUSION if row == "hybrid" else None,
    )
    save(entry, values)
    return entry


def table_of(made: report.Report) -> str:
    return page.text_of(blocks.summary(made))


def markdown_of(made: report.Report) -> str:
    return page.markdown_of(blocks.page(made))


def html_of(made: report.Report) -> str:
    return page.html_of(blocks.page(made))


def row_of(made: report.Report, dataset: str, configuration: str = "A", spec: str | None = None):
    [row] = [
        r
        for r in made.rows
        if (r.dataset, r.configuration, r.spec) == (dataset, configuration, spec)
    ]
    return row


class Page(HTMLParser):
    """Collects what a page loads, links and says; fails on tags that do not match."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == [], "tags that were never closed"

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        given = dict(attrs)
        assert not {"src", "srcset", "data", "onload", "onclick"} & set(given)
        if tag == "a":
            self.links.append(given["href"])
        else:
            assert "href" not in given

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_an_entry_reads_back_as_it_was_saved(tmp_path):
    entry = make_entry(tmp_path, "scifact")
    assert load(entry.folder) == entry
    judged = entry.judged()
    assert dict(judged.means) == entry.evaluation["means"]
    assert judged.queries == tuple(f"q{i}" for i in range(30))


def test_a_published_figure_stands_beside_its_own_encoder(tmp_path):
    make_entry(tmp_path, "scifact")
    make_entry(tmp_path, "scifact", space=OTHER)
    made = report.collect(tmp_path)
    by_encoder = {c.encoder["name"]: c.letter for c in made.configurations}
    own = row_of(made, "scifact", by_encoder["st:some/where"])
    [beside] = own.published
    assert (beside.system, beside.value) == ("all-MiniLM-L6-v2 (MTEB)", 0.6451)
    assert beside.difference == pytest.approx(own.figures["nDCG@10"].value - 0.6451)
    assert row_of(made, "scifact", by_encoder["st:other"]).published == ()


def test_bm25_is_published_in_two_rows_and_stands_beside_lexical_ones_only(tmp_path):
    make_entry(tmp_path, "scifact")
    make_entry(tmp_path, "scifact", row="lexical")
    make_entry(tmp_path, "scifact", row="hybrid")
    made = report.collect(tmp_path)
    beside = {row.row: [b.system for b in row.published] for row in made.rows}
    assert beside == {
        "dense": ["all-MiniLM-L6-v2 (MTEB)"],
        "lexical": ["BM25 flat (Pyserini)", "BM25 multifield (Pyserini)"],
        "hybrid": [],
    }
    assert [r.system for r in made.references] == [
        "BM25 flat (Pyserini)",
        "BM25 multifield (Pyserini)",
        "all-MiniLM-L6-v2 (MTEB)",
    ]


@pytest.mark.parametrize("change", [{"limit": 5}, {"prompt": "query: "}, {"spec": "flat"}])
def test_another_setting_is_another_system_than_the_published(tmp_path, change):
    make_entry(tmp_path, "scifact", **change)
    assert report.collect(tmp_path).rows[0].published == ()


def test_a_limit_is_said_wherever_the_figures_are(tmp_path):
    make_entry(tmp_path, "scifact", limit=30)
    made = report.collect(tmp_path)
    for text in (table_of(made), markdown_of(made), html_of(made)):
        assert "30 of 60 queries: compares with no other figure" in text
    assert "warn" in html_of(made)


def test_sets_the_encoder_was_trained_on_are_marked_with_the_source(tmp_path):
    make_entry(tmp_path, "quora")
    make_entry(tmp_path, "scifact")
    made = report.collect(tmp_path)
    assert row_of(made, "quora").trained == "Quora question triplets"
    assert row_of(made, "scifact").trained is None
    text = table_of(made)
    assert "quora†" in text
    assert "scifact†" not in text
    assert "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2" in text


def test_the_forums_of_cqadupstack_count_once(tmp_path):
    entries = [make_entry(tmp_path, name, level=0.1 * i) for i, name in enumerate(FORUMS)]
    make_entry(tmp_path, "scifact")
    made = report.collect(tmp_path)
    row = row_of(made, "cqadupstack")
    values = [e.evaluation["means"]["nDCG@10"] for e in entries]
    assert row.figures["nDCG@10"].value == pytest.approx(sum(values) / 12)
    assert [b.value for b in row.published] == [0.413248]
    assert row.trained
    [mean] = made.means
    assert mean.over == ("scifact", "cqadupstack")
    assert mean.figures["nDCG@10"].value == pytest.approx(
        (row.figures["nDCG@10"].value + row_of(made, "scifact").figures["nDCG@10"].value) / 2
    )


def test_some_of_the_forums_make_no_cqadupstack(tmp_path):
    for name in FORUMS[:11]:
        make_entry(tmp_path, name)
    assert "cqadupstack" not in {row.dataset for row in report.collect(tmp_path).rows}


def test_the_means_say_what_they_are_over(tmp_path):
    for name in PUBLIC:
        make_entry(tmp_path, name)
    make_entry(tmp_path, "msmarco")
    made = report.collect(tmp_path)
    [mean] = made.means
    assert mean.name == "BEIR, the 13 public sets"
    assert mean.over == PUBLIC
    values = [row_of(made, name).figures["nDCG@10"].value for name in PUBLIC]
    assert mean.figures["nDCG@10"].value == pytest.approx(sum(values) / 13)
    for name in FORUMS:
        make_entry(tmp_path, name)
    names = {m.name: m.over for m in report.collect(tmp_path).means}
    assert names["BEIR, the 13 public sets and CQADupStack"] == (*PUBLIC, "cqadupstack")
    assert ", ".join(PUBLIC) in markdown_of(report.collect(tmp_path))


def test_own_sets_and_beirs_are_never_in_one_mean(tmp_path):
    for name in ("scifact", "nfcorpus", "mine", "yours"):
        make_entry(tmp_path, name)
    means = {m.name: m.over for m in report.collect(tmp_path).means}
    assert means == {
        "2 of BEIR's sets": ("nfcorpus", "scifact"),
        "2 other sets": ("mine", "yours"),
    }


def test_what_the_index_loses_is_told_apart_from_the_encoder(tmp_path):
    make_entry(tmp_path, "scifact", level=0.1)
    make_entry(tmp_path, "scifact", level=0.9, spec="ivfpq")
    made = report.collect(tmp_path)
    losses = {loss.measure: loss for loss in made.losses}
    assert set(losses) == {"nDCG@10", "R@100"}
    exact, indexed = row_of(made, "scifact"), row_of(made, "scifact", spec="ivfpq")
    loss = losses["nDCG@10"]
    assert loss.exact == pytest.approx(exact.figures["nDCG@10"].value)
    assert loss.difference.value == pytest.approx(
        indexed.figures["nDCG@10"].value - exact.figures["nDCG@10"].value
    )
    assert loss.difference.low <= loss.difference.value <= loss.difference.high
    assert loss.wins + loss.losses + loss.ties == 30
    assert loss.ann == {"10": 0.9, "100": 0.8}
    for text in (markdown_of(made), html_of(made)):
        assert "What the index loses" in text
        assert "0.9000@10 0.8000@100" in text


def test_an_index_is_compared_with_its_own_kind_of_search(tmp_path):
    for row, level in (("dense", 0.1), ("hybrid", 0.2)):
        make_entry(tmp_path, "scifact", row=row, level=level)
        make_entry(tmp_path, "scifact", row=row, level=level + 0.5, spec="ivfpq")
    made = report.collect(tmp_path)
    exact = {row.row: row.figures["nDCG@10"].value for row in made.rows if row.spec is None}
    found = {loss.system: loss for loss in made.losses if loss.measure == "nDCG@10"}
    assert found["dense, ivfpq"].exact == pytest.approx(exact["dense"])
    assert found["hybrid, ivfpq"].exact == pytest.approx(exact["hybrid"])
    assert found["hybrid, ivfpq"].ann == {}


def make_trio(out: Path, name: str, level: float = 0.4, **more) -> tuple[Entry, ...]:
    """Leave the entries of a run without an index: hybrid, words, vectors."""
    return tuple(
        make_entry(out, name, row=row, level=level + i / 8, **more)
        for i, row in enumerate(("hybrid", "lexical", "dense"))
    )


def values_of(entry: Entry, measure: str = "nDCG@10") -> np.ndarray:
    return np.array(list(entry.values()[measure].values()))


def test_what_the_vectors_add_is_paired_by_query(tmp_path):
    hybrid, words, _ = make_trio(tmp_path, "mine")
    made = report.collect(tmp_path)
    gain, recall = made.gains
    assert (gain.dataset, gain.measure, recall.measure) == ("mine", "nDCG@10", "R@100")
    changes = values_of(hybrid) - values_of(words)
    assert gain.words == pytest.approx(values_of(words).mean())
    assert gain.hybrid == pytest.approx(values_of(hybrid).mean())
    assert gain.difference.value == pytest.approx(changes.mean())
    assert gain.difference.low < changes.mean() < gain.difference.high
    counts = [int(each.sum()) for each in (changes > 0, changes < 0, changes == 0)]
    assert [gain.wins, gain.losses, gain.ties] == counts
    theirs = scipy.stats.permutation_test(
        (changes,), np.mean, permutation_type="samples", n_resamples=50_000, rng=1
    )
    assert gain.p == pytest.approx(theirs.pvalue, abs=0.02)
    for text in (markdown_of(made), Page(html_of(made)).text, table_of(made)):
        assert "What the vectors add to the words" in text
        assert f"{gain.difference.value:+.4f}" in text
        assert f"{gain.wins}/{gain.losses}/{gain.ties}" in text


def test_every_data_set_counts_the_same_in_the_mean_gain(tmp_path):
    trios = [make_trio(tmp_path, name, queries=n) for name, n in (("scifact", 40), ("mine", 8))]
    made = report.collect(tmp_path)
    mean = next(gain for gain in made.gains if gain.over and gain.measure == "nDCG@10")
    assert mean.over == ("scifact", "mine")
    changes = [values_of(hybrid) - values_of(words) for hybrid, words, _ in trios]
    assert mean.difference.value == pytest.approx(np.mean([each.mean() for each in changes]))
    assert mean.hybrid - mean.words == pytest.approx(mean.difference.value)
    assert mean.wins + mean.losses + mean.ties == 48
    assert "The mean of scifact, mine: each data set counts the same" in table_of(made)


def test_the_forums_count_once_in_the_mean_gain(tmp_path):
    trios = {n: make_trio(tmp_path, n, queries=5, level=0.02 * i) for i, n in enumerate(FORUMS)}
    trios["scifact"] = make_trio(tmp_path, "scifact")
    mean = next(g for g in report.collect(tmp_path).gains if g.over and g.measure == "nDCG@10")
    gains = {n: (values_of(h) - values_of(w)).mean() for n, (h, w, _) in trios.items()}
    forums = np.mean([gains[name] for name in FORUMS])
    assert mean.dataset == "mean of 2 sets"
    assert mean.difference.value == pytest.approx((forums + gains["scifact"]) / 2)


def test_the_test_of_the_mean_is_that_of_all_assignments_of_signs():
    rng = np.random.default_rng(5)
    changes = [rng.normal(0.2, 0.5, 5), rng.normal(0.1, 0.2, 7)]
    low, high, p = over_sets(changes, [0.5, 0.5])
    mean = sum(0.5 * each.mean() for each in changes)
    flips = np.array(list(itertools.product((-1, 1), repeat=12)))
    parts = np.concatenate([0.5 * each / len(each) for each in changes])
    assert p == pytest.approx(float(np.mean(np.abs(flips @ parts) >= abs(mean) - 1e-12)), abs=0.015)
    assert low < mean < high


def test_the_interval_of_the_mean_is_as_wide_as_its_standard_error_says():
    rng = np.random.default_rng(6)
    changes = [rng.normal(0.05, 0.4, 300), rng.normal(0.02, 0.1, 90)]
    low, high, p = over_sets(changes, [0.5, 0.5])
    error = math.sqrt(sum(0.25 * each.var() / len(each) for each in changes))
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.05)
    again = over_sets(changes, [0.5, 0.5])
    assert again == (low, high, p)
    none = over_sets([np.zeros(9), np.zeros(4)], [0.5, 0.5])
    assert none == (0.0, 0.0, 1.0)


def test_rows_stand_as_users_meet_them_and_one_run_is_one_configuration(tmp_path):
    make_trio(tmp_path, "scifact")
    made = report.collect(tmp_path)
    assert [row.row for row in made.rows] == ["hybrid", "lexical", "dense"]
    [configuration] = made.configurations
    items = dict(setting_items(configuration))
    assert items["analysis of words"] == "english:1"
    assert (items["BM25 k1"], items["BM25 b"]) == ("1.2", "0.75")
    assert items["weight of the vectors"] == "0.3"
    assert items["weight fitted on"] == "default of the family st"
    encoders = {record["row"]: record["encoder"] for record in records(made) if "row" in record}
    assert encoders == {"hybrid": "st:some/where", "lexical": None, "dense": "st:some/where"}
    assert [record for record in records(made) if "hybrid_gain" in record]
    for text in (markdown_of(made), Page(html_of(made)).text):
        assert "It is not Anserini's" in text
        assert "english:1" in text


def test_words_stand_once_beside_two_encoders(tmp_path):
    make_trio(tmp_path, "scifact")
    make_entry(tmp_path, "scifact", row="hybrid", space=OTHER, level=0.9)
    made = report.collect(tmp_path)
    assert [c.letter for c in made.configurations] == ["A", "B"]
    assert [row.row for row in made.rows].count("lexical") == 1
    assert [g.configuration for g in made.gains if g.measure == "nDCG@10"] == ["A", "B"]
    assert len({g.words for g in made.gains if g.measure == "nDCG@10"}) == 1
    assert "BM25 does not depend on the encoder" in table_of(made)


def test_hybrid_search_is_compared_with_the_words_that_it_has_itself(tmp_path, caplog):
    make_entry(tmp_path, "scifact", row="hybrid")
    make_entry(tmp_path, "scifact", row="lexical", words={**WORDS, "k1": 0.9})
    made = report.collect(tmp_path)
    assert made.gains == ()
    assert "no run of words alone" in caplog.text
    assert len(made.configurations) == 2
    assert "What the vectors add" not in markdown_of(made)


def test_words_alone_make_a_report(tmp_path):
    make_entry(tmp_path, "scifact", row="lexical")
    made = report.collect(tmp_path)
    assert describe(made.configurations[0]) == "words as english:1, BM25 k1=1.2 b=0.75, k=100"
    assert made.rows[0].published
    assert "analysis of words" in Page(html_of(made)).text


def test_an_entry_from_before_there_were_words_is_read(tmp_path):
    entry = make_entry(tmp_path, "scifact")
    path = entry.folder / "entry.json"
    known = json.loads(path.read_text())
    del known["words"], known["fusion"]
    path.write_text(json.dumps(known))
    assert load(entry.folder) == entry


def test_intervals_hold_their_means_and_are_the_same_each_time(tmp_path):
    make_entry(tmp_path, "scifact")
    figure = report.collect(tmp_path).rows[0].figures["nDCG@10"]
    assert figure.low < figure.value < figure.high
    assert report.collect(tmp_path).rows[0].figures["nDCG@10"] == figure


def test_with_few_hits_the_recall_shown_is_at_their_number(tmp_path):
    make_entry(tmp_path, "scifact", k=20)
    made = report.collect(tmp_path)
    assert made.measures == ["nDCG@10", "RR@10", "AP@20", "R@20"]
    assert made.rows[0].figures["R@20"].low is not None
    assert "R@20 [95%]" in markdown_of(made)
    assert made.rows[0].curve[-1][0] == 20


def test_the_report_is_derived_from_the_files_alone(tmp_path):
    make_entry(tmp_path, "scifact")
    report.write(tmp_path)
    names = ("results.json", "report.md", "report.html")
    first = [(tmp_path / name).read_bytes() for name in names]
    for name in names:
        (tmp_path / name).unlink()
    report.write(tmp_path)
    assert [(tmp_path / name).read_bytes() for name in names] == first
    known = json.loads((tmp_path / "results.json").read_text())
    assert known["rows"][0]["dataset"] == "scifact"


def test_settings_machine_and_seeds_are_printed(tmp_path):
    make_entry(tmp_path, "scifact", prompt="query: ")
    made = report.collect(tmp_path)
    for text in (markdown_of(made), Page(html_of(made)).text):
        for word in ("query: ", "256", "2d10908b9582914e", "a processor", "numpy", "k=100"):
            assert word in text
    assert "9,999 resamples, seed 0" in Page(html_of(made)).text


def test_the_page_needs_nothing_from_outside(tmp_path):
    make_entry(tmp_path, "scifact")
    make_entry(tmp_path, "quora", spec=None)
    make_entry(tmp_path, "scifact", spec="flat", level=0.7)
    text = html_of(report.collect(tmp_path))
    shown = Page(text)
    assert not {"script", "link", "img", "iframe", "object"} & set(shown.tags)
    assert "url(" not in text
    assert "@import" not in text
    assert shown.tags.count("svg") == 2, "bars and curves"
    assert all(link.startswith("https://") for link in shown.links)
    assert "prefers-color-scheme: dark" in text


def test_names_from_outside_cannot_write_the_page(tmp_path):
    make_entry(tmp_path, "<script>alert(1)</script>|x")
    made = report.collect(tmp_path)
    assert "script" not in Page(html_of(made)).tags
    assert "&lt;script&gt;" in html_of(made)
    lines = markdown_of(made).splitlines()
    rows = [line for line in lines if "alert" in line and line.startswith("|")]
    assert rows
    assert all(re.search(r"\\\|x", line) for line in rows)


def test_a_bar_stands_for_its_figure(tmp_path):
    make_entry(tmp_path, "scifact")
    made = report.collect(tmp_path)
    text = html_of(made)
    value = made.rows[0].figures["nDCG@10"].value
    [(begin, width)] = re.findall(r'<rect x="([\d.]+)"[^>]* width="([\d.]+)"', text)
    ticks = dict(re.findall(r'x="([\d.]+)"[^>]*>(0\.0|0\.2)</text>', text.split("Recall at k")[0]))
    zero, fifth = (float(x) for x in ticks)
    assert float(begin) == pytest.approx(zero, abs=0.1)
    assert float(width) == pytest.approx(value * 5 * (fifth - zero), abs=0.2)


def test_systems_run_on_two_versions_of_the_data_are_told(tmp_path, caplog):
    entry = make_entry(tmp_path, "mine")
    make_entry(tmp_path, "mine", spec="flat")
    path = entry.folder / "entry.json"
    known = json.loads(path.read_text())
    known["dataset"]["digest"] = "y"
    path.write_text(json.dumps(known))
    assert report.collect(tmp_path).losses == ()
    assert "2 versions of the data" in caplog.text


def test_machines_are_told_apart(tmp_path):
    entry = make_entry(tmp_path, "scifact")
    make_entry(tmp_path, "nfcorpus")
    assert len(report.collect(tmp_path).environments) == 1
    path = entry.folder / "entry.json"
    known = json.loads(path.read_text())
    known["environment"]["processor"] = "another"
    path.write_text(json.dumps(known))
    found = dict(report.collect(tmp_path).environments)
    assert {e["processor"] for e in found.values()} == {"another", "a processor"}
    assert "scifact/2d10--dense" in found


def test_an_output_without_results_is_an_error(tmp_path):
    with pytest.raises(InputError, match="holds no results"):
        report.collect(tmp_path)


def test_values_that_cannot_be_read_are_named(tmp_path):
    entry = make_entry(tmp_path, "scifact")
    (entry.folder / "values.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DamagedError, match=r"values\.parquet"):
        report.collect(tmp_path)


def test_means_of_configurations_over_other_sets_are_told_apart(tmp_path):
    for name in ("scifact", "nfcorpus"):
        make_entry(tmp_path, name)
    for name in ("scifact", "fiqa"):
        make_entry(tmp_path, name, space=OTHER, level=0.9)
    made = report.collect(tmp_path)
    letters = {c.encoder["name"]: c.letter for c in made.configurations}
    first, second = letters["st:some/where"], letters["st:other"]
    over = {mean.name: mean.over for mean in made.means}
    assert over == {
        f"2 of BEIR's sets ({first})": ("nfcorpus", "scifact"),
        f"2 of BEIR's sets ({second})": ("fiqa", "scifact"),
    }
    for name, sets in over.items():
        assert f"{name}: the unweighted mean of {', '.join(sets)}." in table_of(made)
        assert Page(html_of(made)).text.count(name) >= 2
    assert html_of(made).count('class="strong"') == 2


def test_means_of_configurations_over_the_same_sets_share_a_name(tmp_path):
    for space in (MINILM, OTHER):
        for name in ("scifact", "nfcorpus"):
            make_entry(tmp_path, name, space=space)
    assert {m.name for m in report.collect(tmp_path).means} == {"2 of BEIR's sets"}


def test_by_what_a_set_is_taken_for_the_published_one_is_said(tmp_path):
    for name in ("scifact", "nfcorpus", "mine"):
        make_entry(tmp_path, name)
    said = "nfcorpus, scifact: taken for the published set by its name and counts."
    assert said in table_of(report.collect(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e.pop("k"),
        lambda e: e["dataset"].pop("digest"),
        lambda e: e["evaluation"].pop("absent"),
        lambda e: e["evaluation"].update(absent="maybe"),
        lambda e: e["evaluation"]["means"].update({"P@5": 0.1}),
        lambda e: e["encoder"]["space"].update(dim="many"),
        lambda e: e.update(encoder=None),
        lambda e: e.update(fusion={"weight": "much", "fitted": "default"}),
        lambda e: e.update(format=9),
    ],
)
def test_an_entry_that_was_changed_by_hand_is_named(tmp_path, change):
    path = make_entry(tmp_path, "scifact").folder / "entry.json"
    known = json.loads(path.read_text())
    change(known)
    path.write_text(json.dumps(known))
    with pytest.raises(DamagedError, match="scifact") as raised:
        report.collect(tmp_path)
    assert "\n" not in str(raised.value)


def test_more_in_an_entry_than_is_known_does_no_harm(tmp_path):
    path = make_entry(tmp_path, "scifact").folder / "entry.json"
    known = json.loads(path.read_text())
    known["mine"] = known["evaluation"]["mine"] = known["dataset"]["mine"] = 1
    path.write_text(json.dumps(known))
    assert report.collect(tmp_path).rows[0].dataset == "scifact"


def test_results_packed_into_one_file_give_the_same_report(tmp_path, capsys):
    out, kept = tmp_path / "out", tmp_path / "kept.json"
    make_trio(out, "scifact")
    make_entry(out, "scifact", spec="flat", level=0.9)
    make_entry(out, "quora", limit=12, queries=12)
    keep.STUDY.main([str(out), "--out", str(kept)])
    printed = capsys.readouterr().out
    result = study.read(kept)
    assert result["environment"] == ENVIRONMENT, "that of the run, not of the packing"
    made, again = report.collect(out), report.derive(keep.unpack(result))
    assert again == made
    assert keep.pack(list(keep.unpack(result)))["entries"] == result["entries"]
    keep.STUDY.main(["--show", str(kept)])
    assert capsys.readouterr().out == printed
    assert made.rows[0].figures["nDCG@10"].ranged() in printed


def test_a_packed_entry_that_was_changed_by_hand_is_named(tmp_path):
    make_entry(tmp_path, "scifact")
    result = keep.pack([load(tmp_path / "scifact" / "2d10--dense")])
    del result["entries"]["scifact/2d10--dense"]["dataset"]["digest"]
    with pytest.raises(DamagedError, match="scifact/2d10--dense"):
        list(keep.unpack(result))
