"""What is derived from raw results: winners, ratios, Pareto fronts, and text for anyone's names."""

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from retr.benchmarks.ann import report
from retr.benchmarks.ann.report import blocks, is_comparison, text_of, write
from retr.benchmarks.ann.results import Measure, collect
from retr.benchmarks.ann.text import records
from retr.benchmarks.environment import describe
from retr.benchmarks.page import html_of, markdown_of
from retr.retrieval.values.errors import DamagedError, InputError

KEPT = Path(__file__).parents[1] / "benchmarks" / "results"
ABOUT = {"name": "tiny-2k", "title": "tiny", "rows": 2000, "dim": 384, "metric": "cosine",
         "queries": 10, "tuning": 5, "real": 500, "lift": None, "seed": 0, "digest": "d",
         "energy": [0.5, 0.7, 0.9], "agreement": None}  # fmt: skip
MEMORY = {
    "before": {"anonymous": 10, "mapped": 5},
    "searched": {"anonymous": 1_000_010, "mapped": 7},
}


def leave(folder, system, rounds, *, graph=False, cpu_s=1.0, parameters=None, tuning=None):
    """Leave the raw results of a system: rounds of (recall, CPU us, q/s) at each setting."""
    folder.mkdir(parents=True)
    key = {"format": 1, "system": system, "digest": "d", "queries": 10, "k": 10, "threads": 2}
    build = {"label": system, "parameters": parameters or {}, "cpu_s": cpu_s, "wall_s": 1.0,
             "peak_bytes": 1, "index_bytes": 3_000_000, "vector_bytes": 2_000_000,
             "versions": {"lib": "1"}, "graph": graph, "tuning": tuning,
             "environment": describe()}  # fmt: skip
    (folder / "build.json").write_text(json.dumps(key | build))
    for number, points in enumerate(rounds):
        common = {"invalid": 0, "repeated": 0, "missing": 0}
        made = [
            {"setting": {"n": i}, "recall": r, "cpu_us": c, "cpu_us_mean": c, "wall_us": c,
             "qps": q, **common}
            for i, (r, c, q) in enumerate(points)
        ]  # fmt: skip
        searched = key | {"points": made, "memory": MEMORY, "open_wall_s": 0.1, "load": 0.5}
        for phase in ("single", "batch"):
            (folder / f"{phase}-{number}.json").write_text(json.dumps(searched))


@pytest.fixture
def out(tmp_path):
    data = tmp_path / "tiny-2k"
    data.mkdir()
    (data / "about.json").write_text(json.dumps(ABOUT))
    # Three rounds, whose median counts; the second setting is beaten in both by the third.
    leave(data / "hnswlib", "hnswlib",
          [[(0.92, 100 + n, 900), (0.95, 400, 100), (0.96, 200, 500)] for n in (0, 50, -90)],
          graph=True, cpu_s=80.0)  # fmt: skip
    leave(data / "scann", "scann", [[(0.91, 120, 1000), (0.995, 600, 300)]])
    leave(data / "blas", "exact:blas", [[(1.0, 9000, 10)]])
    leave(data / "faiss", "exact:faiss", [[(1.0, 8000, 9)]])
    leave(data / "hnsw", "retr:hnsw", [[(0.99, 500, 350)]], parameters={"spec": "hnsw"})
    leave(data / "pre", "retr:hnsw@192", [[(0.94, 50, 1), (0.99, 250, 400)]],
          parameters={"spec": "hnsw@192"})  # fmt: skip
    leave(data / "a90", "retr:auto@0.90", [[(0.93, 50, 2000)]], parameters={"spec": "hnsw@192"},
          cpu_s=40.0, tuning={"cpu_s": 7.0, "wall_s": 9.0, "chosen": {}})  # fmt: skip
    leave(data / "a95", "retr:auto@0.95", [[(0.949, 10, 9000)]], parameters={"spec": "hnsw@96"})
    (data / "usearch").mkdir()
    (data / "usearch/failed.json").write_text(
        json.dumps({"system": "usearch", "failed": "died of <SIGSEGV> | while it was built"})
    )
    return tmp_path


def test_the_cheapest_setting_that_reaches_a_recall_counts(out):
    [data] = collect(out).datasets
    won = {(w.recall, w.measure): w for w in data.winners}
    cpu, rate = won[0.90, Measure.CPU], won[0.90, Measure.RATE]
    assert (cpu.best.system, cpu.best.value, cpu.best.recall) == ("hnswlib", 100, 0.92)
    assert cpu.ratio == 2.0 and cpu.fixed_ratio == 2.0
    assert (rate.best.system, rate.ratio, rate.fixed_ratio) == ("scann", 2.0, 0.4)
    # Nothing between settings is made up: 0.99 costs scann what 0.995 costs.
    assert won[0.99, Measure.CPU].best.value == 600
    assert won[0.99, Measure.CPU].auto is None
    # A recall that is missed wins nothing, however fast it was.
    missed = won[0.95, Measure.CPU]
    assert (missed.auto.recall, missed.ratio, missed.fixed_ratio) == (0.949, None, 0.8)
    assert [(b.recall, b.auto, b.graph_s) for b in data.builds] == [(0.9, 40, 80), (0.95, 1, 80)]


def test_fronts_and_matryoshka_ratios(out):
    [data] = collect(out).datasets
    systems = {system.name: system for system in data.systems}
    assert [p.recall for p in systems["hnswlib"].front(Measure.CPU)] == [0.92, 0.96]
    assert [p.recall for p in systems["hnswlib"].front(Measure.RATE)] == [0.92, 0.96]
    assert data.exact.times == 8000 / 250 and data.exact.first.system == "exact:faiss"
    ratios = {r.recall: (r.first.system, r.second.system, r.times) for r in data.prefixes}
    # What `auto` chose has prefixes, too, and 0.949 is above 0.90 but not above 0.95.
    assert ratios[0.90] == ("retr:hnsw", "retr:auto@0.95", 50.0)
    assert ratios[0.95] == ("retr:hnsw", "retr:hnsw@192", 2.0)
    assert ratios[0.99] == ("retr:hnsw", "retr:hnsw@192", 2.0)
    assert (systems["scann"].disk, systems["scann"].anonymous) == (5_000_000, 1_000_000)
    exact = [r for r in records(collect(out)) if r["what"] == "exact"]
    assert exact[0]["times"] == 32.0


def test_the_report_says_it_all_and_runs_nothing_of_it(out):
    made = write(out)
    text, page, marked = text_of(made), html_of(blocks(made)), markdown_of(blocks(made))
    for where in (text, page, marked):
        assert "0.9490 (too low)" in where
        assert "hnsw@192" in where
        assert "not reached" in where
    assert "died of <SIGSEGV> | while it was built" in text
    assert "died of &lt;SIGSEGV&gt; | while it was built" in page
    assert "died of <SIGSEGV> \\| while it was built" in marked
    rows = [line for line in marked.splitlines() if line.startswith("|")]
    for head, rule in pairwise(rows):
        if "---" in rule:
            assert head.count("|") == rule.count("|")
    for measure in Measure:
        picture = (out / "tiny-2k" / f"{measure}.svg").read_text()
        assert picture.count("<polyline") == (3 if measure is Measure.CPU else 2)
        assert "var(" not in picture
    assert not re.search(r"(src|href)=", page)
    assert is_comparison(out)


def test_one_file_keeps_all_that_the_tables_need(out, tmp_path, capsys):
    kept = tmp_path / "ann.json"
    report.STUDY.main([str(out), "--out", str(kept)])
    printed = capsys.readouterr().out
    shutil.rmtree(out / "tiny-2k")
    report.STUDY.main(["--show", str(kept)])
    assert capsys.readouterr().out == printed
    result = json.loads(kept.read_bytes())
    [data] = result["datasets"]
    assert [len(system["single"]) for system in data["systems"] if "build" in system] == [
        1, 1, 1, 1, 1, 3, 1, 1
    ]  # fmt: skip
    assert result["environment"]["commit"] == describe()["commit"]
    assert "Recall as it was when measured, rows not kept: retr:auto@0.90" in printed
    assert "died of <SIGSEGV> | while it was built" in printed


def test_the_results_kept_here_are_of_what_they_say():
    for name, rows in (("ann", 200_000), ("ann-1m", 1_000_000), ("ann-matryoshka", 50_000)):
        result = json.loads((KEPT / f"{name}.json").read_bytes())
        for data in result["datasets"]:
            assert data["about"]["rows"] == rows
            for system in data["systems"]:
                made = system["build"]["environment"]
                assert made["commit"] or made["recorded_in"]
        titles = [table.title for table in report.tables(result)]
        assert titles[-2:] == ["How each was built", "Machine and versions"]
        assert sum("At each recall" in title for title in titles) == len(result["datasets"])


def test_folders_that_hold_nothing_or_something_broken(out, tmp_path):
    with pytest.raises(InputError, match="holds no results; make some with: retr bench ann"):
        collect(tmp_path / "nothing")
    assert not is_comparison(tmp_path / "nothing")
    (out / "tiny-2k/scann/single-0.json").write_text("{")
    with pytest.raises(DamagedError, match=r"single-0\.json: cannot be read"):
        collect(out)
