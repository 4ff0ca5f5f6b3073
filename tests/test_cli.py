"""The command line, from outside: what it prints where, how it ends, and what it imports."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from rich.cells import cell_len

import retr
from retr import cli
from retr.commands import console

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs" / "cli.md"
MAIN = [sys.executable, "-m", "retr"]
SGR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Ended:
    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture(autouse=True)
def no_index_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RETR_INDEX", raising=False)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in this process, as `main` does."""

    def call(*arguments: object) -> Ended:
        capsys.readouterr()
        code = console.exit_code(lambda: cli.run_command([str(each) for each in arguments]))
        return Ended(code, *capsys.readouterr())

    return call


def process(*arguments: object, **more: Any) -> Ended:
    """Run a command in a process of its own."""
    more = {"stdin": subprocess.DEVNULL, "check": False, "timeout": 120} | more
    done = subprocess.run([*MAIN, *map(str, arguments)], capture_output=True, **more)
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


EVIL = "evil \x1b]0;title\x07 \x1b[2J \x9b31m \u202e [red]flower[/red] :bee: bees and flowers"
TEXTS = {
    "bee": "a bee on a flower",
    "car": "a red car on a road",
    "東京": "東京の花と蜂、flowers and bees in Tokyo. " * 20 + "!",
    "evil\x1b[31m": EVIL,
}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("records") / "texts.jsonl"
    lines = [json.dumps({"id": id, "text": text, "n": 1}) for id, text in TEXTS.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def index(records: Path) -> Path:
    """Return a collection that no test changes."""
    path = records.parent / "texts.retr"
    retr.build(records, path, progress=False)
    return path


# --- help


def commands() -> dict[str, Any]:
    """Return click's command for each `retr …` there is, by its words."""
    found: dict[str, Any] = {}

    def walk(command: Any, words: tuple[str, ...]) -> None:
        found[" ".join(words)] = command
        for name, child in getattr(command, "commands", {}).items():
            walk(child, (*words, name))

    walk(typer.main.get_command(cli.app), ("retr",))
    return found


COMMANDS = sorted(commands())


def help_of(name: str, run: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    ended = run(*name.split()[1:], "--help")
    assert (ended.code, ended.err) == (0, "")
    return str(ended.out.rstrip()) + "\n"


def without_typer(text: str) -> str:
    """Leave out what releases of typer write differently: brackets, types, where lines break."""
    text = re.sub(r" +<[\w\[\]]+>|  \[required\]|[\[\]{}]|\.\.\.", "", text)
    text = re.sub(r"(\w-)\n\s*", r"\1", text)  # lines that end in a hyphen end elsewhere then
    return " ".join(text.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_that_parses(
    name: str, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = help_of(name, run, monkeypatch)
    assert max(map(len, shown.splitlines())) <= 96
    examples = re.search(r"Example:\n((?:    .*\n)+)", shown)
    assert examples, shown
    for line in examples[1].splitlines():
        words = shlex.split(next(part for part in line.split("|") if "retr " in part))
        command, rest = commands()["retr"], words[1:]
        while hasattr(command, "commands"):
            command = command.commands[rest.pop(0)]
        command.make_context("retr", rest)  # raises where an option is unknown or missing


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_in_the_docs_is_what_the_command_prints(
    name: str, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = help_of(name, run, monkeypatch)
    docs = DOCS.read_text()
    block = re.compile(rf"```console\n\$ {re.escape(name)} --help\n(.*?)```", re.DOTALL)
    if os.environ.get("RETR_UPDATE_DOCS"):
        docs = block.sub(lambda _: f"```console\n$ {name} --help\n{shown}```", docs)
        DOCS.write_text(docs)
    written = block.search(docs)
    assert written, f"{DOCS} has no help of {name!r}"
    assert without_typer(written[1]) == without_typer(shown), (
        "bring the docs up to date with: RETR_UPDATE_DOCS=1 pytest tests/test_cli.py -k docs"
    )


def test_the_docs_name_no_command_that_is_not_there() -> None:
    named = re.findall(r"^\$ (retr.*) --help$", DOCS.read_text(), re.MULTILINE)
    assert sorted(named) == COMMANDS


def test_help_of_every_command_imports_nothing_heavy() -> None:
    heavy = ("numpy", "faiss", "pyarrow", "torch", "rich", "tokenizers", "pandas", "bs4")
    heavy += ("pydantic",)  # of typer 0.29 and later
    calls = [name.split()[1:] for name in COMMANDS]
    code = (
        "import sys\nfrom retr import cli\n"
        f"for call in {calls!r}: assert cli.run_command([*call, '--help']) == 0\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_search_into_a_pipe_imports_no_more_than_it_needs(index: Path) -> None:
    code = (
        "import sys\nfrom retr import cli\n"
        f"cli.run_command(['search', 'bee', '-k', '3', '--index', {str(index)!r}])\n"
        "unwanted = ('rich', 'torch', 'faiss', 'bs4', 'pathspec', 'pydantic')\n"
        "print([n for n in unwanted if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_without_a_command_the_help_is_printed(run: Any) -> None:
    for words in ([], ["index"]):
        assert run(*words) == run(*words, "--help")


def test_version(run: Any) -> None:
    assert run("--version") == Ended(0, f"retr {retr.__version__}\n", "")


# --- the life of a collection


def test_the_life_of_a_collection(run: Any, records: Path, tmp_path: Path) -> None:
    path = tmp_path / "life.retr"
    at = ("--index", path)
    built = run("index", "build", records, *at)
    assert (built.code, built.err) == (0, "")
    [record] = built.records
    assert record["added"] == record["documents"] == len(TEXTS)
    assert record["path"] == str(path)
    assert record["bytes"] == retr.open(path).info()["bytes"]

    again = run("index", "build", records, *at).records[0]
    assert (again["added"], again["unchanged"]) == (0, len(TEXTS))

    note = tmp_path / "note.md"
    note.write_text("# A note\n\nabout honey\n")
    added = run("index", "add", note, *at).records[0]
    assert (added["added"], added["documents"]) == (1, len(TEXTS) + 1)

    found = run("search", "honey", *at, "-k", 1)
    assert found.err == ""
    [hit] = found.records
    assert (hit["rank"], hit["id"]) == (1, "note.md")
    assert hit["score"] == retr.open(path).search("honey", k=1)[0].score

    (tmp_path / "ids").write_text("car\nnobody\n")
    deleted = run("index", "delete", "note.md", "--ids", tmp_path / "ids", *at)
    assert deleted.records == [{"deleted": 2, "unknown": 1}]
    assert "note.md" not in retr.open(path)

    info = run("index", "info", *at).records[0]
    assert info == json.loads(json.dumps(retr.open(path).info()))

    compacted = run("index", "compact", *at).records[0]
    assert compacted["rows"] == len(TEXTS) - 1
    assert compacted["segments"] == 3  # documents, vectors, words
    assert run("index", "info", *at).records[0]["deleted_rows_stored"] == 0

    assert run("index", "vacuum", *at).records == [{"removed": []}]
    assert run("index", "verify", *at).records[0]["problems"] == []
    assert run("index", "repair", *at).code == 2


def test_verify_names_what_is_wrong_and_repair_puts_it_right(
    run: Any, records: Path, tmp_path: Path
) -> None:
    path = tmp_path / "hurt.retr"
    run("index", "build", records, "--index", path)
    run("index", "delete", "bee", "--index", path)
    newest = max((path / "manifests").iterdir())
    newest.write_bytes(newest.read_bytes().replace(b"deletes", b"delEtes", 1))

    verified = run("index", "verify", "--index", path)
    assert verified.code == 1
    [problem] = verified.records[0]["problems"]
    assert newest.name in problem

    found = run("search", "bee", "--index", path)
    assert (found.code, len(found.records)) == (0, len(TEXTS))  # the one deleted is back
    assert found.err.startswith("warning: ")
    assert len(found.err.splitlines()) == 1
    assert run("index", "add", records, "--index", path).code == 2

    repaired = run("index", "repair", "--index", path).records[0]
    assert repaired["generation"] > int(newest.stem)
    assert run("index", "verify", "--index", path).code == 0
    assert run("index", "delete", "bee", "--index", path).records[0]["deleted"] == 1


def test_the_collection_is_index_else_the_variable_else_the_folder(
    run: Any, records: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("index", "build", records).records[0]["path"] == ".retr"
    assert (tmp_path / ".retr" / "manifests").is_dir()
    monkeypatch.setenv("RETR_INDEX", str(index))
    assert run("index", "info").records[0]["path"] == str(index)
    assert run("index", "info", "--index", ".retr").records[0]["path"] == ".retr"


def test_a_source_may_be_standard_input(tmp_path: Path) -> None:
    at = ("--index", tmp_path / "x.retr")
    lines = b'{"id": "n1", "text": "a note"}\n{"id": "n2", "text": "a bee"}\n'
    assert process("index", "build", "-", *at, stdin=None, input=lines).records[0]["added"] == 2
    ended = process("index", "delete", "--ids", "-", *at, stdin=None, input=b"n1\n")
    assert ended.records == [{"deleted": 1, "unknown": 0}]


def test_the_options_of_a_build_reach_it(run: Any, tmp_path: Path) -> None:
    source = tmp_path / "s.csv"
    source.write_text("key,head,body,more\nk1,One,first,x\nk2,Two,second,y\n")
    path = tmp_path / "o.retr"
    built = run(
        "index", "build", source, "--index", path, "--id", "key", "--title", "head",
        "--text", "body", "--text", "more", "--encoder", "static@64", "--dtype", "float16",
        "--recall", "exact", "--document-prompt", "doc: ", "--query-prompt", "ask: ",
        "--passages", "--passage-size", 200,
    )  # fmt: skip
    assert built.code == 0, built.err
    info = retr.open(path).info()
    assert info["space"]["dim"] == 64
    assert info["space"]["document_prompt"] == "doc: "
    assert info["encoder"]["options"]["query_prompt"] == "ask: "
    assert info["settings"]["dtype"] == "float16"
    assert info["settings"]["recall"] == 1.0
    found = run("search", "first", "--index", path).records
    assert {hit["id"]: hit["text"] for hit in found} == {"k1": "One first x", "k2": "Two second y"}


def test_files_are_chosen_by_patterns_and_skipped_ones_are_listed(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in ("a.md", "b.md", "c.txt"):
        (folder / name).write_text(f"text of {name}")
    (folder / "broken.md").write_bytes(b"\xfa text")
    at = ("--index", tmp_path / "x.retr")
    built = run("index", "build", folder, *at, "--include", "*.md", "--exclude", "b.*")
    assert built.records[0]["added"] == 1
    assert built.records[0]["skipped"] == 1
    assert "broken.md" in built.err
    verbose = run("index", "build", folder, *at, "--include", "*.md", "--exclude", "b.*", "-v")
    assert "skipped" in verbose.err
    assert "broken.md" in verbose.err
    quiet = run("index", "build", folder, *at, "--include", "*.md", "--exclude", "b.*", "-q")
    assert (quiet.code, quiet.err) == (0, "")


def test_vectors_of_ones_own(run: Any, tmp_path: Path) -> None:
    vectors = np.eye(4, dtype=np.float32)
    np.save(tmp_path / "v.npy", vectors)
    np.save(tmp_path / "q.npy", vectors[2])
    (tmp_path / "ids.txt").write_text("a\nb\nc\nd\n")
    at = ("--index", tmp_path / "v.retr")
    built = run("index", "build", tmp_path / "v.npy", "--ids", tmp_path / "ids.txt", *at)
    assert built.code == 0, built.err
    assert run("search", "--vector", tmp_path / "q.npy", *at, "-k", 1).records[0]["id"] == "c"
    (tmp_path / "only.txt").write_text("a\nd\n")
    found = run("search", "--vector", tmp_path / "q.npy", *at, "--ids", tmp_path / "only.txt")
    assert [hit["id"] for hit in found.records] == ["a", "d"]


# --- searching


def test_several_passages_of_a_document_where_asked(run: Any, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("\n\n".join(f"bees of field {i} " * 30 for i in range(9)))
    at = ("--index", tmp_path / "p.retr")
    run("index", "build", tmp_path / "long.txt", *at)
    assert len(run("search", "bees", *at).records) == 1
    places = [hit["place"] for hit in run("search", "bees", *at, "--passages").records]
    assert len(set(places)) > 1


def test_no_hits_is_no_error(run: Any, index: Path, tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("nobody\n")
    found = run("search", "bee", "--index", index, "--ids", tmp_path / "ids")
    assert found == Ended(0, "", "no hits\n")


def test_many_queries_and_a_run(run: Any, index: Path, tmp_path: Path) -> None:
    queries = tmp_path / "q.tsv"
    queries.write_text("q1\tbee\nq2\tcar\n")
    found = run("search", "--queries", queries, "--index", index, "-k", 2)
    opened = retr.open(index)
    expected = [
        (id, hit.id, hit.score) for id, text in [("q1", "bee"), ("q2", "car")]
        for hit in opened.search(text, k=2)
    ]  # fmt: skip
    assert [(r["query"], r["id"], r["score"]) for r in found.records] == expected

    (tmp_path / "ids").write_text("bee\ncar\n")
    at = ("--index", index, "--ids", tmp_path / "ids")
    out = tmp_path / "out.trec"
    ended = run("search", "--queries", queries, "--run", out, "--tag", "mine", *at)
    assert (ended.code, ended.out) == (0, "")
    assert "2 queries, 4 hits" in ended.err
    lines = [line.split() for line in out.read_text().splitlines()]
    assert [line[0] for line in lines] == ["q1", "q1", "q2", "q2"]
    assert {line[5] for line in lines} == {"mine"}
    ended = run("search", "--queries", queries, "--run", "-", *at, "-q", "--tag", "mine")
    assert ended == Ended(0, out.read_text(), "")


# --- what goes wrong


WRONG = {
    "search bee --index nowhere": "nowhere: there is no collection here",
    "index info --index nowhere": "there is no collection here",
    "index verify --index nowhere": "there is no collection here",
    "index repair --index nowhere": "there is no collection here",
    "search": "no query is given",
    "search '' --index INDEX": "the query is empty",
    "search bee -k 0 --index INDEX": "k is 0",
    "search bee -k 1000000 --index INDEX": "k is 1000000",
    "search bee -k x": "'-k'",
    "search bee car": "see: retr search --help",
    "search bee --queries f": "give either a query",
    "search bee --run out": "--queries",
    "search --queries nofile --index INDEX": "nofile",
    "search --vector nofile": "nofile",
    "search bee --ids nofile": "nofile",
    "search bee --nope": "--nope",
    "search bee -q -v": "--quiet and --verbose",
    "search bee --encoder static@8 --index INDEX": "8 dimensions",
    "nope": "'nope'",
    "index nope": "'nope'",
    "index build": "SOURCE",
    "index build nofile --index x": "nofile",
    "index build RECORDS --format nope --index x": "'nope'",
    "index build RECORDS --recall 2 --index x": "recall",
    "index build RECORDS --recall 0.9 --spec flat --index x": "not both",
    "index build RECORDS --spec nope --index x": "'nope'",
    "index build RECORDS --dtype int8 --index x": "'int8'",
    "index build RECORDS --encoder nope --index x": "'nope'",
    "index build RECORDS --id nope --index x": "'nope'",
    "index build RECORDS --metric nope --index x": "'nope'",
    "index build RECORDS --index RECORDS": "is a file",
    "index add RECORDS --index nowhere": "there is no collection here",
    "index delete --index INDEX": "no id is given",
}


@pytest.mark.parametrize("line", WRONG)
def test_an_error_of_the_users_is_one_line(
    line: str,
    run: Any,
    index: Path,
    records: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"INDEX": str(index), "RECORDS": str(records)}
    ended = run(*[places.get(word, word) for word in shlex.split(line)])
    assert (ended.code, ended.out) == (2, "")
    assert len(ended.err.splitlines()) == 1
    assert ended.err.startswith("error: ")
    assert WRONG[line] in ended.err
    assert list(tmp_path.iterdir()) == []  # and nothing is left lying about


# --- the streams


def test_a_reader_that_goes_ends_it_quietly(index: Path) -> None:
    command = [*MAIN, "search", "bee", "--index", str(index)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout
        assert running.stderr
        running.stdout.close()
        said = running.stderr.read()
    assert (running.returncode, said) == (141, b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_a_closed_stream_does_no_harm(index: Path, closed: str) -> None:
    command = shlex.join([*MAIN, "search", "bee", "-k", "1", "--index", str(index)])
    done = subprocess.run(
        ["sh", "-c", f"{command} {closed}"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == ("2" in closed[:1] or closed == "<&-")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_line(index: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*MAIN, "index", "info", "--index", str(index)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == (
        "error: stdout: the results cannot be written (No space left on device)\n"
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_of_the_output_holds_any_text(index: Path, encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [*MAIN, "search", "flowers 東京", "--index", str(index)],
        capture_output=True, check=False, env=environment,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    hits = [json.loads(line) for line in done.stdout.decode(encoding).splitlines()]
    assert {hit["id"]: hit["text"] for hit in hits} == TEXTS
    wrong = subprocess.run(
        [*MAIN, "search", "x", "--index", "東京"], capture_output=True, check=False, env=environment
    )
    assert wrong.returncode == 2
    wrong.stderr.decode(encoding)


def test_an_interrupted_build_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "x.retr"
    lines = [json.dumps({"id": str(i), "text": f"word{i} bee " * 40}) for i in range(2000)]
    data = ("\n".join(lines) + "\n").encode()
    command = [*MAIN, "index", "build", "-", "--index", str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # Where the tests run in the background, shells have them ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as running:  # fmt: skip
        assert running.stdin
        assert running.stdout
        assert running.stderr
        # More than a pipe holds: when it is written, the build has begun to read.
        running.stdin.write(data)
        running.stdin.flush()
        running.send_signal(signal.SIGINT)
        out, err = running.stdout.read(), running.stderr.read().decode()
    assert running.returncode == 130, err
    assert out == b""
    kept = "what was encoded is kept" if path.exists() else "nothing is kept yet"
    assert err == f"interrupted: {kept}; run the same command again to continue\n"
    ended = process("index", "build", "-", "--index", path, stdin=None, input=data)
    assert ended.records[0]["documents"] == 2000


# --- on a terminal


def on_terminal(columns: int, *arguments: object, **environment: str) -> Ended:
    """Run a command on a terminal of so many columns; what it prints is in `out`."""
    ours, theirs = pty.openpty()
    os.set_inheritable(theirs, True)
    environment = {
        **{k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")},
        "TERM": "xterm-256color",
        **environment,
    }
    with subprocess.Popen(
        ["stty", "columns", str(columns), "rows", "50"], stdin=theirs
    ) as set_size:
        assert set_size.wait() == 0
    with subprocess.Popen(
        [*MAIN, *map(str, arguments)],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
    ) as running:  # fmt: skip
        os.close(theirs)
        out = b""
        while True:
            try:
                block = os.read(ours, 65536)
            except OSError:  # Linux: the other end is closed
                break
            if not block:
                break
            out += block
    os.close(ours)
    return Ended(running.returncode, out.decode().replace("\r\n", "\n"), "")


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_the_table_fits_the_terminal_and_obeys_no_document(index: Path, columns: int) -> None:
    ended = on_terminal(columns, "search", "flower bees 東京", "--index", index)
    assert ended.code == 0
    plain = SGR.sub("", ended.out)
    lines = plain.splitlines()
    assert max(map(cell_len, lines)) <= columns
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", plain)
    assert "[red]flower[/red]" in plain
    assert ":bee:" in plain
    assert "evil␛[31m" in plain
    assert lines[-1].startswith("4 of 4 documents in ")
    for word in ("flower", "bees", "東京"):
        assert f"\x1b[1m{word}\x1b[0m" in ended.out


def test_colours_can_be_switched_off(index: Path) -> None:
    shown = on_terminal(80, "search", "flower", "--index", index, NO_COLOR="1").out
    assert set(SGR.findall(shown)) <= {"\x1b[1m", "\x1b[2m", "\x1b[0m"}
    shown = on_terminal(80, "search", "flower", "--index", index, TERM="dumb").out
    assert "\x1b" not in shown


def test_json_on_a_terminal(index: Path) -> None:
    shown = on_terminal(80, "search", "flower", "--index", index, "--json").out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)
    found = [json.loads(line) for line in shown.splitlines()]
    assert {hit["id"]: hit["text"] for hit in found} == TEXTS


def test_a_build_on_a_terminal_says_what_to_type_next(records: Path, tmp_path: Path) -> None:
    path = tmp_path / "my docs.retr"
    shown = on_terminal(100, "index", "build", records, "--index", path).out
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).splitlines()[-3:]
    assert last[0].rpartition("\r")[2].startswith("4 added in ")
    assert f"{path}: 4 documents, " in last[1]
    assert last[2] == f"search it with: retr search \"…\" --index '{path}'"


def test_what_a_collection_holds_on_a_terminal(index: Path) -> None:
    shown = on_terminal(80, "index", "info", "--index", index).out
    assert shown.splitlines()[0] == str(index)
    assert re.search(r"^  documents +4$", shown, re.MULTILINE)
    assert re.search(r"static:\d", shown)
    assert (
        on_terminal(80, "index", "verify", "--index", index).out == "no problems: 5 files checked\n"
    )


def test_a_broken_object_on_stdin_is_named_and_is_no_text(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from retr.cli import main; main()", "index", "build", "-"],
        input='{"id":"a","text":"hello"\n{"id":"b","text":"y"}\n',
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "stdin, line 1" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / ".retr").exists()


def test_a_command_reads_its_values_without_pydantic(index: Path) -> None:
    """Which newer releases of typer import for it, at a tenth of a second a command."""
    code = (
        "import sys\nfrom retr import cli\n"
        f"cli.run_command(['search', 'bee', '-k', '1', '--ids', '-', '--index', {str(index)!r}])\n"
        "print('pydantic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, input="a\n"
    )
    assert done.stdout.splitlines()[-1] == "False"
