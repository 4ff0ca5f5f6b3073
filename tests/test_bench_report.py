"""Reports: derived from what the runs left, figures beside the right rows, pages that are whole."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from retr.benchmarks import report
from retr.benchmarks.datasets import DATASETS, FORUMS, PUBLIC
from retr.benchmarks.report_html import html_of
from retr.benchmarks.report_text import markdown_of, table_of
from retr.benchmarks.results import Entry, load, save
from retr.retrieval.errors import DamagedError, InputError
from retr.retrieval.evaluation import evaluate, write_run

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
    system = f"{space['revision'][:4]}--{row}{'-' + spec if spec else ''}{limit or ''}"
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
            "spec": spec,
            "options": {},
        },
        encoder={"name": space["encoder"], "options": {}, "query_prompt": prompt, "space": space},
        k=k,
        limit=limit,
        evaluation=plain,
        base=f"{space['revision'][:4]}--{row}" if spec else None,
        ann={"10": 0.9, "100": 0.8} if spec else None,
        missing={"empty_queries": 0, "relevant_not_in_corpus": 0, "skipped_documents": 0},
        made={"build": {}},
        environment=ENVIRONMENT,
    )
    save(entry, values)
    return entry


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
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert "url(" not in text
    assert "@import" not in text
    assert page.tags.count("svg") > 4
    assert all(link.startswith("https://") for link in page.links)
    assert "prefers-color-scheme: dark" in text


def test_names_from_outside_cannot_write_the_page(tmp_path):
    make_entry(tmp_path, "<script>alert(1)</script>|x")
    made = report.collect(tmp_path)
    assert "script" not in Page(html_of(made)).tags
    assert "&lt;script&gt;" in html_of(made)
    rows = [line for line in markdown_of(made).splitlines() if "alert" in line and "|" in line]
    assert rows
    assert all(re.search(r"\\\|x", line) for line in rows)


def test_a_bar_stands_for_its_figure(tmp_path):
    make_entry(tmp_path, "scifact")
    made = report.collect(tmp_path)
    value = made.rows[0].figures["nDCG@10"].value
    widths = [float(w) for w in re.findall(r'<rect [^>]*width="([\d.]+)%"', html_of(made))]
    assert any(w == pytest.approx(100 * value, abs=0.01) for w in widths), "the axis ends at 1"


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
    assert html_of(made).count('class="group mean"') == 2


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
