"""`retr eval` and `retr bench`, as they are typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from retr.cli import app
from retr.commands.judging import judge, text_of
from retr.retrieval.encoders import resolve
from retr.retrieval.evaluation import compare, evaluate
from retr.retrieval.values.errors import InputError, RetrError

QRELS = {"q1": {"a": 2, "b": 1}, "q2": {"c": 1}, "q3": {"d": 1}}
BASE = {"q1": {"a": 3.0, "x": 2.0, "b": 1.0}, "q2": {"x": 2.0, "c": 1.0}}
OTHER = {"q1": {"x": 3.0, "b": 2.0, "a": 1.0}, "q2": {"c": 2.0}, "q3": {"d": 1.0}}


def trec(path: Path, run: dict[str, dict[str, float]]) -> str:
    lines = [f"{q} Q0 {d} 0 {s} t\n" for q, hits in run.items() for d, s in hits.items()]
    path.write_text("".join(lines))
    return str(path)


@pytest.fixture
def files(tmp_path) -> dict[str, str]:
    qrels = tmp_path / "qrels.trec"
    lines = [f"{q} 0 {d} {g}\n" for q, judged in QRELS.items() for d, g in judged.items()]
    qrels.write_text("".join(lines))
    queries = tmp_path / "queries.tsv"
    queries.write_text("q1\tthe first\nq2\tthe second\nq3\tthe third\n")
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(
        "".join(json.dumps({"_id": d, "text": f"text of {d}"}) + "\n" for d in "abcdx")
    )
    return {
        "qrels": str(qrels),
        "base": trec(tmp_path / "base.trec", BASE),
        "other": trec(tmp_path / "other.trec", OTHER),
        "queries": str(queries),
        "corpus": str(corpus),
    }


def call(*arguments: str) -> list[dict]:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_eval_prints_what_evaluate_says(files):
    [record] = call("eval", files["base"], files["qrels"], "-m", "nDCG@10", "-m", "R@2")
    expected = evaluate(BASE, QRELS, ["nDCG@10", "R@2"])
    assert {m: v["mean"] for m, v in record["measures"].items()} == dict(expected.means)
    assert (record["queries"], record["missing"], record["unjudged"]) == (3, 1, 0)
    for values in record["measures"].values():
        assert values["low"] <= values["mean"] <= values["high"]


def test_absent_queries_and_own_documents(files, tmp_path):
    [record] = call("eval", files["base"], files["qrels"], "--absent", "skip", "-m", "RR")
    assert record["queries"] == 2
    qrels = tmp_path / "own.trec"
    qrels.write_text("a 0 b 1\n")
    run = trec(tmp_path / "own.run", {"a": {"a": 2.0, "b": 1.0}})
    means = [
        call("eval", run, str(qrels), "-m", "RR", *more)[0]["measures"]["RR"]["mean"]
        for more in ([], ["--drop-self"])
    ]
    assert means == [0.5, 1.0]


def test_eval_compares(files):
    found = call(
        "eval", files["base"], files["qrels"], "--against", files["other"], "-m", "nDCG@10"
    )
    assert [next(iter(record)) for record in found] == ["run", "run", "comparison"]
    [difference] = found[2]["comparison"]["differences"]
    expected = compare(evaluate(BASE, QRELS, ["nDCG@10"]), evaluate(OTHER, QRELS, ["nDCG@10"]))[
        "nDCG@10"
    ]
    assert difference["difference"] == pytest.approx(expected.difference)
    assert difference["randomisation"]["p"] == expected.randomisation.p
    assert (difference["wins"], difference["losses"], difference["ties"]) == (2, 1, 0)


def test_the_queries_that_moved_most_come_with_their_texts(files):
    found = call(
        "eval", files["base"], files["qrels"], "--against", files["other"], "-m", "RR",
        "--moved", "2", "--queries", files["queries"], "--corpus", files["corpus"],
    )  # fmt: skip
    moved = [record["moved"] for record in found if "moved" in record]
    assert [m["query"] for m in moved] == ["q3", "q1"]
    assert moved[0]["text"] == "the third"
    assert moved[0]["documents"][0]["text"] == "text of d"


def test_the_table_shows_intervals_tests_and_texts(files):
    text = text_of(
        judge(
            files["base"],
            files["qrels"],
            [files["other"]],
            measures=["RR"],
            moved=1,
            queries=files["queries"],
            corpus=files["corpus"],
        )
    )
    assert "95% interval" in text
    assert "win/loss/tie" in text
    assert "1 judged queries are not in the run and count 0" in text
    assert "the third" in text
    assert "text of d" in text


def test_runs_of_the_same_name_are_told_apart_by_their_folders(files, tmp_path):
    paths = []
    for name, run in (("old", BASE), ("new", OTHER)):
        (tmp_path / name).mkdir()
        paths.append(trec(tmp_path / name / "run.trec", run))
    judgement = judge(paths[0], files["qrels"], paths[1:])
    assert [e.name for e in judgement.evaluations] == ["old", "new"]
    with pytest.raises(InputError, match="given twice"):
        judge(paths[0], files["qrels"], [paths[0]])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{base}", "nowhere.trec"], "nowhere.trec"),
        (["nowhere.trec", "{qrels}"], "nowhere.trec"),
        (["{qrels}", "{base}"], "swapped"),
        (["{base}", "{qrels}", "-m", "nDGC@10"], "nDCG@10"),
        (["{base}", "{qrels}", "--absent", "maybe"], "maybe"),
        (["{base}", "{qrels}", "--queries", "{queries}"], "--against"),
        (["{base}", "{qrels}", "--confidence", "95"], "confidence"),
        (
            ["{base}", "{qrels}", "--against", "{other}", "--moved", "-1"],
            "--moved -1: give a number of queries",
        ),
        (["{base}", "{qrels}", "--moved", "3"], "--against"),
        (["{base}", "{qrels}", "--seed", "-1"], "seed -1"),
        (["{base}", "{qrels}", "-m", "RR", "-m", "NumRet", "-m", "NumQ"], "NumRet, NumQ"),
    ],
)
def test_what_cannot_be_used_is_one_clear_line(files, arguments, said):
    with pytest.raises(RetrError, match=said) as raised:
        call("eval", *(each.format(**files) for each in arguments))
    assert "\n" not in str(raised.value)


def test_a_run_without_a_judged_query_is_an_error_and_no_zero(files, tmp_path):
    run = trec(tmp_path / "strange.run", {"z": {"a": 1.0}})
    with pytest.raises(InputError, match="no query in common"):
        call("eval", run, files["qrels"])


def test_a_malformed_line_is_named_by_file_and_number(files, tmp_path):
    path = tmp_path / "bad.run"
    path.write_text("q1 Q0 a 1 2.0 t\nq1 Q0 b 2 oops t\n")
    with pytest.raises(InputError, match=r"bad\.run:2"):
        call("eval", str(path), files["qrels"])


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "toy"
    (made / "qrels").mkdir(parents=True)
    texts = {"d1": "red apples", "d2": "green pears", "d3": "the sea"}
    (made / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": i, "text": t}) + "\n" for i, t in texts.items())
    )
    (made / "queries.jsonl").write_text('{"_id": "q", "text": "pears"}\n')
    (made / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td2\t1\n")
    return made


def bench(folder: Path, *more: str) -> list[dict]:
    """Return the rows, and what the vectors add to the words."""
    base = folder.parent
    return call(
        "bench", "beir", str(folder), "--out", str(base / "out"), "--cache", str(base / "cache"),
        "-q", *more,
    )  # fmt: skip


def test_bench_beir_leaves_a_report(folder):
    found = bench(folder)
    rows, gains = found[:3], found[3:]
    assert [row["row"] for row in rows] == ["hybrid", "lexical", "dense"]
    assert [row["figures"]["nDCG@10"]["value"] for row in rows] == [1.0, 1.0, 1.0]
    name = resolve("static").name
    assert [row["encoder"] for row in rows] == [name, None, name]
    assert [gain["hybrid_gain"]["ties"] for gain in gains] == [1, 1]
    out = folder.parent / "out"
    for name in ("results.json", "report.md", "report.html", "environment.json"):
        assert (out / name).stat().st_size > 100
    assert call("bench", "report", str(out)) == found


def test_the_command_a_report_gives_derives_its_figure(folder):
    for row in bench(folder)[:3]:
        where = folder.parent / "out" / row["path"]
        run, qrels = str(where / "run.trec.gz"), str(where / "qrels.trec")
        [record] = call("eval", run, qrels, "-m", "nDCG@10")
        assert record["measures"]["nDCG@10"]["mean"] == row["figures"]["nDCG@10"]["value"]


def test_prompts_and_dimensions_reach_the_encoder(folder):
    row = bench(folder, "--encoder", "static:1@64", "--document-prompt", "fruit ")[0]
    entry = json.loads((folder.parent / "out" / row["path"] / "entry.json").read_text())
    assert entry["encoder"]["space"]["dim"] == 64
    assert entry["encoder"]["space"]["document_prompt"] == "fruit "


def test_bench_datasets_lists_the_registry():
    found = {record["name"]: record for record in call("bench", "datasets")}
    assert found["scifact"]["queries"] == 300
    assert found["scifact"]["url"].endswith("/scifact.zip")


def test_nothing_heavy_is_imported_for_the_help():
    code = (
        "import sys; from retr.cli import app; "
        "import typer; typer.main.get_command(app); "
        "print([m for m in ('numpy', 'pyarrow', 'scipy', 'ir_measures', 'faiss', 'torch') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_confidence_is_printed_as_it_was_given(files):
    for confidence, shown in ((0.999, "99.9% interval"), (0.95, "95% interval")):
        text = text_of(judge(files["base"], files["qrels"], confidence=confidence))
        assert shown in text


def test_how_many_queries_are_paired_is_said_where_some_are_not(files):
    text = text_of(judge(files["base"], files["qrels"], [files["other"]], absent="skip"))
    assert "base.trec and other.trec: 2 queries are paired, 1 that only one of them has" in text
    assert "paired," not in text_of(judge(files["base"], files["qrels"], [files["other"]]))


def test_an_empty_name_is_no_data_set(folder):
    with pytest.raises(InputError, match="name is empty"):
        call("bench", "beir", "", "--out", str(folder.parent / "out"))
