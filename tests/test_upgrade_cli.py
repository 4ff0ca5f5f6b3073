"""`retr upgrade` as a person meets it: what it prints, asks and refuses."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from retr.commands.inputs import read_clicks, read_seconds
from retr.retrieval.values.errors import InputError

from .upgrades import text_of

MAIN = [sys.executable, "-c", "from retr.cli import main; main()"]
WORDS = [
    *("bee", "flower", "river", "book", "library", "night"),
    *("garden", "stone", "winter", "bread", "letter", "window"),
]
OLD, NEW = "static:1@32", "static:2@32"


def ran(*arguments: object, code: int = 0, given: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*MAIN, *map(str, arguments)], capture_output=True, text=True, input=given, check=False
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def on_a_terminal(arguments: Sequence[object], typed: str, code: int = 0) -> str:
    """Run a command on a terminal and type; return all that it showed, without colours."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*MAIN, *map(str, arguments)], stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    os.write(leader, typed.encode())
    shown = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(leader)
    assert process.wait() == code, shown.decode()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "\n")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    lines = [
        {"id": f"d{i}", "text": " ".join([WORDS[i % 12], WORDS[i * 5 % 12], text_of(i, words=3)])}
        for i in range(120)
    ]
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    ran("index", "build", folder / "texts.jsonl", "--encoder", OLD, "--index", folder / "c.retr")
    return folder / "c.retr"


@pytest.fixture(scope="module")
def begun(built: Path) -> Path:
    path = built.parent / "begun.retr"
    shutil.copytree(built, path)
    ran("upgrade", "start", "--to", NEW, "--sample", 60, "--force", "--yes", "--index", path)
    return path


@pytest.fixture
def index(begun: Path) -> Path:
    return Path(shutil.copytree(begun, Path(tempfile.mkdtemp(dir=begun.parent)) / "c.retr"))


def test_from_start_to_finish(index: Path) -> None:
    at = ("--index", index)
    (status,) = map(json.loads, ran("upgrade", "status", *at).stdout.splitlines())
    assert (status["from"], status["to"]) == (OLD, NEW)
    assert (status["new"], status["old"], status["state"]) == (60, 60, "under way")
    assert json.loads(ran("upgrade", "map", *at).stdout) == {"mapped": 60, "left": 60}
    record = json.loads(ran("upgrade", "backfill", "--rows", 10, *at).stdout)
    assert (record["rows"], record["left"], record["order"]) == (10, 50, "residual")
    refused = ran("upgrade", "finish", *at, code=2)
    assert refused.stderr.startswith("error: ")
    assert "50 rows have no vector of static:2@32 yet" in refused.stderr
    (index.parent / "clicks").write_text("d3\t5\nd4\n")
    record = json.loads(
        ran("upgrade", "backfill", "--time", "1h", "--clicks", index.parent / "clicks", *at).stdout
    )
    assert (record["left"], record["order"]) == (0, "clicks")
    record = json.loads(ran("upgrade", "finish", *at).stdout)
    assert record["encoder"] == NEW
    assert record["bytes"] < record["bytes_before"]
    assert json.loads(ran("search", "bee", *at, "-k", 1).stdout)["rank"] == 1
    assert json.loads(ran("upgrade", "status", *at).stdout)["state"] == "none"


def test_rollback(index: Path) -> None:
    at = ("--index", index)
    ran("index", "add", "-", *at, given='{"id": "late", "text": "a late bee"}\n')
    record = json.loads(ran("upgrade", "rollback", *at).stdout)
    assert record == {"encoder": OLD, "left": 1}
    found = [json.loads(line)["id"] for line in ran("search", "late", *at).stdout.splitlines()]
    assert "late" in found
    record = json.loads(ran("upgrade", "backfill", *at).stdout)
    assert (record["rows"], record["left"], record["back"]) == (1, 0, True)
    assert json.loads(ran("upgrade", "status", *at).stdout)["state"] == "none"


def test_it_shows_and_asks_on_a_terminal(built: Path, tmp_path: Path) -> None:
    path = shutil.copytree(built, tmp_path / "c.retr")
    start = ["upgrade", "start", "--to", NEW, "--sample", 60, "--force", "--index", path]
    shown = on_a_terminal(start, "n\n")
    assert f"{OLD} → {NEW}" in shown
    assert "agreement with the new model's own ranking" in shown
    assert re.search(
        r"at once, with the bridge \(\w+\) +0\.\d{3}  \[0\.\d{3}, [01]\.\d{3}\]", shown
    )
    assert "start? [y/N]" in shown
    assert "nothing was changed" in shown
    assert json.loads(ran("upgrade", "status", "--index", path).stdout)["state"] == "none"
    shown = on_a_terminal(start, "y\n")
    assert f"queries are now encoded by {NEW}" in shown
    assert f"retr upgrade backfill --index {path}" in shown
    shown = on_a_terminal(["upgrade", "status", "--index", path], "")
    assert "50.0% of 120 rows re-embedded" in shown
    assert "60 with new vectors, 0 mapped, 60 with old vectors only" in shown
    assert f"next: retr upgrade backfill --index {path}" in shown
    shown = on_a_terminal(["upgrade", "backfill", "--index", path], "")
    assert "embedded 60 rows in" in shown
    assert f"next: retr upgrade finish --index {path}" in shown


def test_quality_where_queries_are_judged(built: Path, tmp_path: Path) -> None:
    queries = "\n".join(json.dumps({"_id": f"q{i}", "text": WORDS[i]}) for i in range(12))
    (tmp_path / "queries.jsonl").write_text(queries)
    lines = [f"q{i % 12}\td{i}\t1" for i in range(120)]
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines))
    shown = on_a_terminal(
        [
            *("upgrade", "start", "--to", NEW, "--sample", 60, "--dry-run", "--index", built),
            *("--queries", tmp_path / "queries.jsonl", "--qrels", tmp_path / "qrels.tsv"),
        ],
        "",
    )
    assert "nDCG@10 of 12 judged queries" in shown
    for line in (r"M\(old,old\)", r"M\(new,old\)", r"M\(new,new\)"):
        assert re.search(line + r" +[01]\.\d{3}", shown)
    assert "update gain" in shown
    assert json.loads(ran("upgrade", "status", "--index", built).stdout)["state"] == "none"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["start"], "no encoder is given: name the new one with --to NAME"),
        (["start", "--to", NEW], "stdin is not a terminal, so retr cannot ask: give --yes"),
        (["start", "--to", "nope", "--yes"], "there is no encoder 'nope'"),
        (["start", "--to", OLD, "--yes"], "its vectors are of static:1@32 already"),
        (["start", "--to", NEW, "--sample", "2", "--yes"], "a sample of 2 rows is too small"),
        (["start", "--to", NEW, "--queries", "NOWHERE", "--yes"], "NOWHERE"),
        (["start", "--to", "splade:x", "--max-length", "0", "--yes"], "max length of 0"),
        (["backfill", "--time", "soon"], "--time 'soon': give a time such as"),
        (["backfill", "--rows", "0"], "--rows 0: give a number of rows"),
        (
            ["backfill", "--clicks", "NOWHERE"],
            "--clicks NOWHERE: cannot be read (No such file or directory)",
        ),
        (["map"], "no upgrade is under way; start one with: retr upgrade start --to ENCODER"),
        (["finish"], "no upgrade is under way"),
        (["rollback"], "no upgrade is under way"),
        (["backfill"], "every row has its vector"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(built: Path, arguments: list[str], message: str) -> None:
    done = ran("upgrade", *arguments, "--index", built, code=2)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize("step", ["map", "status", "backfill", "finish", "rollback"])
def test_where_no_collection_is(tmp_path: Path, step: str) -> None:
    done = ran("upgrade", step, "--index", tmp_path / "none.retr", code=2)
    assert "there is no collection here" in done.stderr


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("30m", 1800), ("1h30m", 5400), ("2D", 172_800), ("0.5h", 1800)],
)
def test_times(text: str, seconds: float) -> None:
    assert read_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5", "h", "5x", "1h-3m", "nan", "1 2"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(InputError, match="give a time such as"):
        read_seconds(text)


def test_clicks(tmp_path: Path) -> None:
    path = tmp_path / "clicks"
    path.write_text('a\t3\nb\n\n{"id": "c", "clicks": 2.5}\nb\nwith space\t1\n')
    assert read_clicks(str(path)) == {"a": 3, "b": 2, "c": 2.5, "with space": 1}


@pytest.mark.parametrize(
    "text", ["", "a\tmany", "a\tnan", "a\t-1", '{"clicks": 1}', '{"id": 3}', '{"id": "a"', "\xff"]
)
def test_what_are_no_clicks(tmp_path: Path, text: str) -> None:
    path = tmp_path / "clicks"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="clicks"):
        read_clicks(str(path))
