"""`retr bench ann` from end to end, on a few real vectors; and systems that lie, die or hang."""

import json
import os
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from retr.benchmarks.ann import turns as ann_turns
from retr.benchmarks.ann import worker as ann_worker
from retr.benchmarks.ann.data import MINILM, prepare, read
from retr.benchmarks.ann.gather import gather
from retr.benchmarks.ann.report import text_of, write
from retr.benchmarks.ann.results import Measure
from retr.benchmarks.ann.suite import Settings, run, split
from retr.benchmarks.ann.truth import Answers
from retr.benchmarks.ann.turns import Turn, Worker, take_turns
from retr.commands.bench_ann import ann
from retr.retrieval.values.errors import InputError

ONCE = Settings(k=10, threads=1, rounds=1, timeout=120, seconds=0.01, least=0.01)


@pytest.fixture(scope="module")
def prepared(data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETR_TEST_DATA", str(data))
        cache = tmp_path_factory.mktemp("vectors")
        return prepare(read(MINILM), cache, rows=2000, queries=60)


def test_recall_is_that_of_the_answers_left_behind(prepared, tmp_path):
    pytest.importorskip("hnswlib")
    folder = run(prepared, tmp_path / "out", tmp_path, ["exact:blas", "hnswlib", "retr:flat"], ONCE)
    base = prepared.base().astype(np.float64)
    truth = np.sort(prepared.queries() @ base.T, axis=1)[:, -10]
    [gathered] = gather(tmp_path / "out")["datasets"]
    found = {system["system"]: system for system in gathered["systems"]}
    for system in ("exact:blas", "hnswlib", "retr:flat"):
        name = system.replace(":", "_")
        assert found[system]["neighbours"]
        for phase in ("single", "batch"):
            points = found[system][phase][0]["points"]
            answers = Answers.load(folder / name / f"{phase}-0.npz")
            assert answers.rows.shape == (len(points["setting"]), 60, 10)
            for recall, rows in zip(points["recall"], answers.rows, strict=True):
                scores = np.einsum("qd,qkd->qk", prepared.queries(), base[rows])
                assert recall == pytest.approx((scores >= truth[:, None] - 1e-6).mean())
            best = max(points["recall"])
            assert best == 1.0 if system != "hnswlib" else best > 0.9
    sweep = found["hnswlib"]["single"][0]["points"]["recall"]
    assert sweep[0] < sweep[-1]
    efs = {each["ef"] for each in found["hnswlib"]["batch"][0]["points"]["setting"]}
    assert efs >= {10, 80}
    # Recall is of the rows: with others it is another.
    path = folder / "hnswlib" / "single-0.npz"
    answers = Answers.load(path)
    Answers(answers.rows * 0 - 1, answers.scores * 0).save(path)
    [again] = gather(tmp_path / "out")["datasets"]
    [changed] = [system for system in again["systems"] if system["system"] == "hnswlib"]
    assert set(changed["single"][0]["points"]["recall"]) == {0.0}
    answers.save(path)
    assert not (tmp_path / "indexes" / prepared.folder.name / "hnswlib").exists()

    report = write(tmp_path / "out")
    [made] = report.datasets
    assert [s.name for s in made.systems if s.failed] == []
    assert made.exact is None  # nothing of Matryoshka was run
    for name in ("report.md", "report.html", "ann.json", f"{prepared.about['name']}/cpu.svg"):
        assert (tmp_path / "out" / name).stat().st_size > 1000
    assert "hnswlib M16 efC100" in text_of(report)
    assert report.environment["packages"]


def test_what_is_there_is_not_run_again_unless_asked(prepared, tmp_path):
    def ran(settings: Settings, *systems: str) -> dict[str, int]:
        folder = run(prepared, tmp_path / "out", tmp_path, systems, settings)
        return {str(f.relative_to(folder)): f.stat().st_mtime_ns for f in folder.glob("*/*.json")}

    first = ran(ONCE, "exact:blas")
    more = ran(
        Settings(k=10, threads=1, rounds=2, timeout=120, seconds=0.01, least=0.01),
        "exact:blas",
        "retr:flat",
    )
    kept = {name: when for name, when in more.items() if name in first}
    assert {n: w for n, w in kept.items() if "build" not in n} == {
        n: w for n, w in first.items() if "build" not in n
    }
    assert {"exact_blas/single-1.json", "retr_flat/batch-1.json"} <= more.keys()
    again = ran(
        Settings(k=10, threads=1, rounds=2, timeout=120, seconds=0.01, least=0.01),
        "exact:blas",
        "retr:flat",
    )
    assert again == more
    fresh = ran(Settings(k=10, threads=1, rounds=1, timeout=120, fresh=True), "exact:blas")
    assert fresh["exact_blas/single-0.json"] > first["exact_blas/single-0.json"]
    other = ran(
        Settings(k=5, threads=1, rounds=1, timeout=120, seconds=0.01, least=0.01), "exact:blas"
    )
    assert other["exact_blas/build.json"] > fresh["exact_blas/build.json"]
    # Results for another k would not compare.
    assert not (tmp_path / "out" / prepared.about["name"] / "exact_blas/single-1.json").exists()


# A library of this name, ahead of the real one on the path, that does what it is told.
FAKE = """
import os, signal, time
import numpy as np
HOW = os.environ["FAKE_HNSWLIB"]
if HOW == "missing":
    raise ImportError("libfoo.so.1 is not there")
class Index:
    def __init__(self, space, dim): pass
    def init_index(self, *a, **k): pass
    def add_items(self, *a, **k):
        if HOW == "raises": raise ValueError("the graph is\\nupside down")
        if HOW == "dies": os.kill(os.getpid(), signal.SIGSEGV)
        if HOW == "hangs": time.sleep(600)
    def save_index(self, path): open(path, "w").close()
    def load_index(self, *a, **k): pass
    def set_num_threads(self, n): pass
    def set_ef(self, ef): pass
    def knn_query(self, queries, k, num_threads):
        if HOW == "quits": os._exit(7)
        if HOW == "repeats": return np.zeros((len(queries), k)), np.ones((len(queries), k))
        return np.full((len(queries), k), 10**12), np.ones((len(queries), k))
"""


def test_what_was_built_before_is_searched_later(prepared, tmp_path):
    systems = ["exact:blas", "retr:ivfpq"]
    built = run(prepared, tmp_path / "out", tmp_path, systems, replace(ONCE, searches=False))
    records = sorted(built.glob("*/build.json"))
    assert len(records) == 2
    assert not list(built.glob("*/*-0.json"))
    seen = [path.stat().st_mtime_ns for path in records]
    run(prepared, tmp_path / "out", tmp_path, systems, replace(ONCE, together=1))
    assert len(list(built.glob("*/*-0.json"))) == 4
    assert [path.stat().st_mtime_ns for path in records] == seen
    assert not list(tmp_path.glob("indexes/*/*"))


@pytest.fixture
def fake(tmp_path, monkeypatch):
    (tmp_path / "fakes").mkdir()
    (tmp_path / "fakes/hnswlib.py").write_text(FAKE)
    path = [str(tmp_path / "fakes"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    return lambda how: monkeypatch.setenv("FAKE_HNSWLIB", how)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", "not installed: pip install 'retr[bench]' (libfoo.so.1 is not there)"),
        ("raises", "ValueError: the graph is, while it was built"),
        ("dies", "died of SIGSEGV while it was built"),
        ("hangs", "took more than 3 s while it was built"),
        ("quits", "ended with status 7 while it was searched"),
    ],
)
def test_a_system_that_fails_has_a_row_that_says_so(prepared, tmp_path, fake, how, words):
    fake(how)
    settings = Settings(k=10, threads=1, rounds=1, timeout=3 if how == "hangs" else 60)
    run(prepared, tmp_path / "out", tmp_path, ["hnswlib", "exact:blas"], settings)
    report = write(tmp_path / "out")
    [made] = report.datasets
    failed = {system.name: system.failed for system in made.systems}
    assert words in failed["hnswlib"]
    if how != "hangs":  # three seconds may be short for the others, too
        assert failed["exact:blas"] is None
    assert words in text_of(report)
    assert words.replace("'", "&#x27;") in (tmp_path / "out/report.html").read_text()


@pytest.mark.parametrize(("how", "recall"), [("repeats", None), ("invents", 0.0)])
def test_numbers_that_lie_are_found_out(prepared, tmp_path, fake, how, recall):
    fake(how)
    run(prepared, tmp_path / "out", tmp_path, ["hnswlib"], ONCE)
    report = write(tmp_path / "out")
    [system] = report.datasets[0].systems
    points = len(system.points)
    # Of 60 queries one at a time and in a batch, at every setting: all ten, or all but the first.
    assert system.flaws == 2 * 60 * points * (10 if how == "invents" else 9)
    assert all(point.recall <= 0.1 for point in system.points)
    if recall is not None:
        assert {point.recall for point in system.points} == {recall}
    assert system.at(0.9, Measure.CPU) is None
    assert "no row of the base, or stood twice" in text_of(report)
    assert "not reached" in text_of(report)


def test_the_command(data, tmp_path, monkeypatch):
    monkeypatch.setenv("RETR_TEST_DATA", str(data))
    app = typer.Typer()
    app.command()(ann)
    given = ["--rows", "500", "--queries", "20", "--rounds", "1", "--threads", "1", "-q",
             "--systems", "exact:blas", "--out", str(tmp_path / "out"),
             "--cache", str(tmp_path / "cache")]  # fmt: skip
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    [system] = [line for line in lines if line["what"] == "systems"]
    assert system["name"] == "exact:blas"
    assert system["points"][0]["recall"] == 1.0
    result = CliRunner().invoke(app, [*given[:-6], "--systems", "hnsw"])
    assert isinstance(result.exception, InputError)
    assert "there is no system 'hnsw'; there are" in str(result.exception)


def test_commas_inside_brackets_stay():
    assert split(["hnswlib, scann", "retr:hnsw@192(ef_build=80,m=24),usearch"]) == [
        "hnswlib", "scann", "retr:hnsw@192(ef_build=80,m=24)", "usearch",
    ]  # fmt: skip


def test_no_setting_is_asked_what_the_one_before_it_was_just_asked():
    class Recorder:
        def __init__(self):
            self.now, self.calls = None, []

        def use(self, setting):
            self.now = setting["n"]

        def one(self, query):
            self.calls.append((self.now, int(query[0, 0])))
            return np.full(10, query[0, 0], np.int64)

    queries = np.arange(1000, dtype=np.float32)[:, None]
    answers = np.empty((7, 1000, 10), np.int64)
    recorder = Recorder()
    found = ann_worker._one_by_one(
        recorder, [{"n": n} for n in range(7)], queries, answers, Turn(), {"least": 0.0}
    )
    assert len(found) == 7
    assert (answers == np.arange(1000)[None, :, None]).all()  # each asked all, in its own place
    assert [query for _, query in recorder.calls[:1000]] == list(range(1000))  # the warm-up
    clocked = [recorder.calls[i + 20 : i + 120] for i in range(1000, len(recorder.calls), 120)]
    assert len(clocked) == 70
    for before, after in pairwise(clocked):
        assert before[0][0] != after[0][0]
        assert not {query for _, query in before} & {query for _, query in after}


# Notes when it begins and ends a piece of work, and never rests for less than a turn.
TAKES_TURNS = """
import os, sys, time
from pathlib import Path
from retr.benchmarks.ann.turns import Turn
turn = Turn(int(sys.argv[2]))
notes = Path(sys.argv[1]).open("a", buffering=1)
for number in range(int(os.environ["TURNS"])):
    notes.write(f"{os.getpid()} begins {number}\\n")
    time.sleep(0.02)
    notes.write(f"{os.getpid()} ends {number}\\n")
    turn.rest(at_once=True)
"""


@pytest.fixture
def workers(tmp_path, monkeypatch):
    """Return how to start workers that note what they do in a file of this name."""
    (tmp_path / "takes_turns.py").write_text(TAKES_TURNS)
    monkeypatch.setattr(ann_turns, "_WORKER", "takes_turns")
    path = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))

    def started(turns: int, timeout: float = 60) -> Worker:
        monkeypatch.setenv("TURNS", str(turns))
        return Worker(tmp_path / "notes", 1, timeout, tmp_path / f"{turns}.log")

    return started


def test_one_works_at_a_time_and_all_to_the_end(workers, tmp_path):
    some = []
    for turns in (3, 6):
        some.append(workers(turns))
        assert some[-1].turn()
    over: list[tuple[Worker, str | None]] = []
    take_turns(some, lambda worker: over.append((worker, some[1].ended)))
    assert over == [(some[0], None), (some[1], "ended with status 0")]  # told as soon as it ends
    assert [worker.ended for worker in some] == ["ended with status 0"] * 2
    notes = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    for begun, done in zip(notes[::2], notes[1::2], strict=True):
        assert begun[0] == done[0]
        assert (begun[1], done[1]) == ("begins", "ends")
    who = [begun[0] for begun in notes[::2]]
    first, second = who[0], who[1]
    assert who == [first, second] * 3 + [second] * 3


def test_a_worker_whose_turns_take_too_long_is_ended(workers):
    worker, other = workers(1000, timeout=1.0), workers(2)
    take_turns([worker, other])
    assert worker.ended == "took more than 1 s"
    assert other.ended == "ended with status 0"


def test_workers_end_with_the_one_they_work_for(workers, tmp_path):
    worker = workers(3)
    assert worker.turn()
    assert worker._process.stdin is not None
    worker._process.stdin.close()  # as when the parent is killed
    assert worker._process.wait(20) == 1
    assert "has ended" in (tmp_path / "3.log").read_text()
    worker.end()
