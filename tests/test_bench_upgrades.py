"""`retr bench upgrades`, on a part of Cranfield from one encoder in the package to the other."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retr.benchmarks import study
from retr.benchmarks.upgrades import report as upgrades_report
from retr.benchmarks.upgrades import suite as upgrades
from retr.benchmarks.upgrades.lsa import fit_lsa
from retr.benchmarks.upgrades.remembering import RememberingEncoder
from retr.retrieval.encoders import resolve
from retr.retrieval.upgrade.gate import SHARES
from retr.retrieval.values.errors import InputError

from .toys import ToyEncoder


@pytest.fixture(scope="module")
def part(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the first 300 documents of Cranfield, and the queries that they answer."""
    source, folder = data / "beir" / "cran", tmp_path_factory.mktemp("data") / "part"
    (folder / "qrels").mkdir(parents=True)
    with (source / "corpus.jsonl").open() as file:
        documents = list(itertools.islice(file, 300))
    ids = {str(json.loads(line)["_id"]) for line in documents}
    (folder / "corpus.jsonl").write_text("".join(documents))
    head, *judged = (source / "qrels" / "test.tsv").read_text().splitlines(keepends=True)
    kept = [line for line in judged if line.split("\t")[1] in ids]
    asked = list(dict.fromkeys(line.split("\t")[0] for line in kept))[:40]
    kept = [line for line in kept if line.split("\t")[0] in asked]
    (folder / "qrels" / "test.tsv").write_text(head + "".join(kept))
    queries = (source / "queries.jsonl").read_text().splitlines(keepends=True)
    wanted = [line for line in queries if str(json.loads(line)["_id"]) in asked]
    (folder / "queries.jsonl").write_text("".join(wanted))
    return folder


@pytest.fixture(scope="module")
def measured(part: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("out")
    cache = tmp_path_factory.mktemp("cache")
    call = {"old": ["static:1"], "new": "static:2", "pairs": 100, "cache": cache}
    (made,) = upgrades.run([str(part)], out, progress=False, **call)
    (again,) = upgrades.run([str(part)], out, progress=False, **call)
    assert json.dumps(again["seconds"]) == json.dumps(made["seconds"])  # read, not run again
    return out, made


def test_the_curve_ends_where_a_fresh_collection_is(measured: tuple[Path, dict[str, Any]]) -> None:
    _, made = measured
    for draw in ("anywhere", "unjudged"):
        for order, curve in made["draws"][draw]["curves"].items():
            if order != "old_old":
                for mode, points in curve["modes"].items():
                    assert points["values"][-1] == pytest.approx(made["fresh"][mode], abs=1e-4)
                    assert len(points["values"]) == len(SHARES)


def test_collections_score_as_the_arrays_do(measured: tuple[Path, dict[str, Any]]) -> None:
    _, made = measured
    for draw in made["draws"].values():
        curves = draw["curves"]
        assert draw["old_old"] == pytest.approx(curves["old_old"]["dense"], abs=1e-3)
        assert draw["new_new"] == pytest.approx(made["fresh"]["dense"], abs=1e-3)
        chosen = {step["step"]: step for step in draw["steps"] if step["chosen"]}
        dense = curves["residual"]["modes"]["dense"]
        assert chosen["bridge"]["value"] == pytest.approx(dense["bridge"], abs=2e-3)
        assert chosen["forward"]["value"] == pytest.approx(dense["values"][0], abs=2e-3)
        calibrated = draw["calibrations"][chosen["forward"]["calibration"]]
        assert calibrated == pytest.approx(dense["values"], abs=2e-3)


def test_none_of_the_unjudged_pairs_is_judged(measured: tuple[Path, dict[str, Any]]) -> None:
    _, made = measured
    unjudged = made["draws"]["unjudged"]["curves"]["residual"]["recall_of"]
    assert unjudged["backfilled"][0] is None  # no relevant document has its new vector
    assert unjudged["others"][-1] is None
    assert made["draws"]["anywhere"]["curves"]["residual"]["recall_of"]["backfilled"][0] is not None


def test_report_and_plot_say_what_was_measured(measured: tuple[Path, dict[str, Any]]) -> None:
    out, made = measured
    upgrades_report.write(out)
    (svg,) = out.glob("*.svg")
    assert svg.read_text() == upgrades_report.plot([upgrades_report.load(out)[0]])
    report = (out / "report.md").read_text()
    assert f"![{made['old']['name']} to {made['new']['name']}, nDCG@10]({svg.name})" in report
    value = made["draws"]["anywhere"]["curves"]["residual"]["modes"]["hybrid"]["values"][0]
    assert f"{value:.3f}" in report
    assert str(out) not in report
    both = made["draws"]["anywhere"]["both"]
    assert len(both) == len(SHARES) and f"| {both[0]:.3f} |" in report
    assert both[-1] == pytest.approx(made["draws"]["anywhere"]["new_new"], abs=1e-4)


def test_a_folder_of_results_is_packed_into_one_file(
    measured: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, made = measured
    kept, svg = tmp_path / "upgrades.json", tmp_path / "upgrades.svg"
    upgrades_report.STUDY.main([str(out), "--out", str(kept)])
    packed = capsys.readouterr().out
    (only,) = json.loads(kept.read_text())["results"]
    assert only["seconds"] == made["seconds"]
    study.main([str(kept)])
    assert capsys.readouterr().out == packed
    upgrades_report.STUDY.main([str(kept), "--plot", str(svg), "--from", "static:1"])
    assert "static:1 to static:2" in svg.read_text()
    with pytest.raises(SystemExit):
        upgrades_report.STUDY.main([str(kept), "--plot", str(svg), "--from", "static:9"])
    assert "has no results of such an upgrade" in capsys.readouterr().err


def test_the_plot_of_the_readme_is_drawn_from_the_kept_results() -> None:
    folder = Path(__file__).parents[1] / "benchmarks" / "results"
    results = study.read(folder / "upgrades.json")["results"]
    chosen = [each for each in results if each["old"]["name"] == "static:1"]
    assert (folder / "upgrades.svg").read_text("utf-8") == upgrades_report.plot(chosen)


def test_no_text_is_encoded_twice(tmp_path: Path) -> None:
    inner = ToyEncoder()
    first = RememberingEncoder(inner, tmp_path)
    texts = ["one text", "another", "one text"]
    before = first.encode_documents(texts)
    assert len(inner.seen) == 2
    again = RememberingEncoder(inner, tmp_path)
    assert np.array_equal(again.encode_documents(texts), before)
    assert len(inner.seen) == 2
    assert before == pytest.approx(inner.encode_documents(texts))


def test_lsa_finds_what_is_about_the_same() -> None:
    about = ["bees make honey in a hive", "a hive holds bees and honey", "honey of bees"]
    other = ["wings lift an aircraft", "an aircraft has wings", "lift of a wing and aircraft"]
    encoder = fit_lsa(about + other, dim=2)
    vectors = encoder.encode_documents(about + other)
    (query,) = encoder.encode_queries(["a hive of bees"])
    scores = vectors @ query
    assert scores[:3].min() > scores[3:].max() + 0.5
    assert not encoder.encode_documents(["nothing known here"]).any()


def test_too_few_pairs_are_refused(part: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="20 pairs"):
        upgrades.run([str(part)], tmp_path, new="static:2", pairs=20, cache=tmp_path)


def test_names_say_nothing_of_where_a_model_lies(tmp_path: Path) -> None:
    assert upgrades._short("st:/home/me/gt_small/model@128") == "st:gt_small@128"
    assert upgrades._short("st:org/name") == "st:name"
    assert upgrades._short("static:1") == "static:1"
    assert resolve("static:1").name == "static:1"
