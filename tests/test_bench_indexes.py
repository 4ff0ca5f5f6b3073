"""The studies of indexes: recalls, filters, the scan, builds; on few vectors."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from retr.benchmarks import study
from retr.benchmarks.studies import building, filtered, opening, recalls, scan
from retr.benchmarks.studies.recall_sets import RecallSet, sets
from retr.indexes import IndexSpec, kind
from retr.indexes.arrays import ArraySource
from retr.indexes.base import Floats, Metric
from retr.indexes.exact import scan as exact_scan

pytest.importorskip("faiss")

KEPT = Path(__file__).parents[1] / "benchmarks" / "results"


def clusters(rows: int, dim: int, seed: int = 0) -> Floats:
    """Return unit vectors of a few clusters, f32[rows, dim]."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(1).standard_normal((40, dim))
    made = centres[random.integers(0, 40, rows)] + 0.6 * random.standard_normal((rows, dim))
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made.astype(np.float32)


def test_recalls_are_those_of_the_index_that_tune_sets(tmp_path: Path) -> None:
    data = RecallSet(clusters(9_000, 256), clusters(200, 256, 2), clusters(200, 256, 3))
    found = recalls.measured(data, [0.9], tmp_path)
    assert (found["rows"], found["dim"], found["given"]) == (9_000, 256, 200)
    assert [had["given"] for had in found["asked"]] == [True, False]
    # All candidates are built and compared, and what was built stays for the next recall.
    assert {path.stem for path in tmp_path.iterdir()} == {"ivfpq@128", "hnsw@128"}
    for had in found["asked"]:
        assert had["spec"] in ("ivfpq@128", "hnsw@128")
        assert had["low"] <= had["measured"] <= had["high"]
    assert found["asked"][0]["recall"] >= 0.87


@pytest.mark.parametrize(
    ("recall", "said_met", "words"),
    [(0.9, True, "met"), (0.89, False, "met"), (0.88, False, "said"), (0.88, True, "missed")],
)
def test_verdicts(recall: float, said_met: bool, words: str) -> None:
    assert recalls.verdict({"asked": 0.9, "recall": recall, "said_met": said_met}) == words


def test_a_set_is_added_to_those_measured_before(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RETR_TEST_DATA", str(data))
    out = tmp_path / "recalls.json"
    kept = json.loads((KEPT / "recalls.json").read_bytes())
    before = {"clusters": kept["sets"]["clusters"], "few": {"title": "to be replaced"}}
    out.write_text(json.dumps({**kept, "sets": before}))
    recalls.STUDY.main(["few", "--work", str(tmp_path / "work"), "--out", str(out)])
    after = json.loads(out.read_bytes())["sets"]
    assert after["clusters"] == before["clusters"]
    assert after["few"]["rows"] == 1000
    assert {had["recall"] for had in after["few"]["asked"]} == {1.0}
    assert after["few"]["environment"]["time"] > after["clusters"]["environment"]["time"]
    printed = capsys.readouterr().out
    assert after["few"]["environment"]["time"][:10] in printed
    assert f"recorded in {after['clusters']['environment']['recorded_in']}" in printed
    with pytest.raises(SystemExit):
        recalls.STUDY.main(["many", "--work", str(tmp_path)])
    assert "there is no set 'many'; there are few, paragraphs" in capsys.readouterr().err


def test_the_kept_recalls_are_of_sets_that_the_command_measures() -> None:
    known = {name: title for name, (title, _) in sets().items()}
    for name, found in json.loads((KEPT / "recalls.json").read_bytes())["sets"].items():
        assert found["title"] == known[name]
        made = found["environment"]
        assert made["commit"] or made["recorded_in"]


@pytest.mark.parametrize(
    "name", ["filtered", "opening", "building", "gpu", "recalls", "scan-1-thread", "scan-2-threads"]
)
def test_kept_results_have_their_tables(name: str) -> None:
    result = study.read(KEPT / f"{name}.json")
    made = list(study.study_of(result).tables(result))
    assert made and all(table.rows for table in made)


def test_conditions_allow_the_share_that_they_say() -> None:
    vectors = clusters(5_000, 32)
    conditions, allowed = filtered.conditions_on(vectors, vectors[7])
    assert [each["percent"] for each in conditions] == [*filtered.PERCENT] * 2
    closeness = vectors @ vectors[7]
    for each in conditions:
        column, _, count = each["condition"].split()
        bits = np.unpackbits(allowed[each["condition"]], bitorder="little", count=5_000).view(bool)
        assert bits.sum() == int(count) == max(1, round(50 * each["percent"]))
        if column == "near":  # no row that is left out is closer
            assert closeness[bits].min() >= closeness[~bits].max()


def test_a_filtered_search_is_judged_against_all_allowed_vectors() -> None:
    vectors, queries = clusters(3_000, 64), clusters(30, 64, 5)
    source = ArraySource(vectors, Metric.COSINE)
    index = kind("flat").build(source, IndexSpec("flat"))
    some, other = (np.packbits(np.arange(3_000) % 2 == n, bitorder="little") for n in (0, 1))
    truth = exact_scan(source, queries, 10, allowed=some)
    found = filtered.searched(index, queries, some, truth, 3_000)
    assert (found["recall"], found["worst"], found["leaks"]) == (1.0, 1.0, 0)
    # What is right for other rows is wrong for these.
    wrong = filtered.searched(
        index, queries, some, exact_scan(source, queries, 10, allowed=other), 3_000
    )
    assert wrong["recall"] < 1.0


def test_the_scan_keeps_every_round_and_names_statistic_and_clock(tmp_path: Path) -> None:
    base, queries = clusters(2_000, 64).astype(np.float16), clusters(150, 64, 4)
    result = scan.timed(base, queries, tmp_path, rounds=3, seed=0)
    assert set(result["seconds"]["one query"]) >= {"scan float32", "scan float16", "flat", "faiss"}
    for case, times in result["seconds"].items():
        rounds = 12 if "rows" in case else 3
        assert {len(times[m][c]) for m in times for c in ("wall", "cpu")} == {rounds}
    times = {"a": {"wall": [0.004, 0.001, 0.002], "cpu": [0.003, 0.0005, 0.001]},
             "b": {"wall": [0.008] * 3, "cpu": [0.002] * 3}}  # fmt: skip
    [table] = scan.tables({"dataset": "d", "seconds": {"one query": times}})
    assert table.headings == [
        "method", "median wall, ms", "ratio", "median CPU, ms", "ratio", "least CPU, ms", "ratio"
    ]  # fmt: skip
    assert table.rows == [
        ["a", "2.00", "1.00", "1.00", "1.00", "0.50", "1.00"],
        ["b", "8.00", "4.00", "2.00", "2.00", "2.00", "4.00"],
    ]
    assert table.title == "one query; d, 3 rounds"


def test_a_build_that_is_killed_goes_on(tmp_path: Path) -> None:
    np.save(tmp_path / "base.npy", clusters(70_000, 16))
    given = argparse.Namespace(base=tmp_path / "base.npy", specs=["flat@8"])
    [result] = building.measure(given)
    made = result["specs"]["flat@8"]
    assert made["whole"]["index_bytes"] == made["after_a_kill"]["index_bytes"] > 0
    [table] = building.tables(result)
    assert table.rows[0][0] == "flat@8"


def test_opening_counts_every_round(tmp_path: Path) -> None:
    base, queries = clusters(2_000, 64), clusters(20, 64, 6)
    np.save(tmp_path / "base.npy", base)
    np.save(tmp_path / "queries.npy", queries)
    given = argparse.Namespace(
        base=tmp_path / "base.npy",
        queries=tmp_path / "queries.npy",
        specs=["flat@32"],
        rounds=1,
        work=tmp_path / "w",
        build_only=False,
    )
    found = opening.measure(given)["specs"]["flat@32"]
    assert {len(each) for each in found["seconds"].values()} == {1}
    assert found["index_bytes"] > 0
    assert set(found["memory"]) == {"imported", "opened", "first", "thousand"}
