"""The commands and programs of the docs: those of a page run, in order, as they stand there.

Each page has a folder with real, small files, and its blocks build on one another. A block that is
not run says why in a comment just before it, `<!-- not run: why -->`; its commands are parsed all
the same. Blocks that are no commands are marked as text: ```text.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer

from retr import cli

ROOT = Path(__file__).resolve().parent.parent
# cli.md holds the help of every command (test_cli.py).
PAGES = sorted({path.stem for path in (ROOT / "docs").glob("*.md")} - {"cli"})
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>.+?) -->\n+)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
SHELL = {"", "sh", "bash", "console"}
PYTHON = {"python"}

# What a page takes as there before its first command.
BEFORE = {
    "search": "retr index build docs",
    "indexes": "retr index build docs --index ivfpq.retr --spec ivfpq",
    "images": "retr index build photos --encoder clip:ViT-B-32/openai --index .retr",
}
# What a page's Python takes as there.
NAMES = {
    "images": "import numpy, retr\nfrom PIL import Image\nc = retr.open('.retr')\n"
    "pil_image = Image.open('a.jpg')\narray = numpy.asarray(pil_image)\n",
    "indexes": "import faiss, glob, retr\ncollection = retr.open('ivfpq.retr')\n"
    "(path,) = glob.glob('ivfpq.retr/indexes/*.faiss')\n",
}
# What the programs of a page print among other things.
PRINTED = {"upgrades": [r"agreement at once", r"\d+% re-embedded"], "evaluation": [r"win/loss/tie"]}
# A model of half a gigabyte is stood for by one that was trained in seconds.
MODEL, TRAINED = "clip:ViT-B-32/openai", "clip:./trained"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    why: why it is not run, None if it is.
    """

    kind: str
    text: str
    line: int
    why: str | None

    @property
    def commands(self) -> str:
        if self.kind != "console":
            return self.text
        lines = self.text.splitlines()
        return "\n".join(line[2:] for line in lines if line.startswith("$ "))


def blocks(page: str) -> list[Block]:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    return [
        Block(
            found["kind"], found["text"], text.count("\n", 0, found.start("kind")) + 1, found["why"]
        )
        for found in BLOCK.finditer(text)
    ]


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell block."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(
            line,
            posix=True,
            punctuation_chars=True,
        )
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if set(word) <= set("|&;"):
                yield words
                words = []
            else:
                words.append(word)
        if words:
            yield words


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with what the pages name: the docs, queries over them, and two runs."""
    (tmp_path / "docs").symlink_to(ROOT / "docs", target_is_directory=True)
    titles = [
        (path, line.lstrip("# "))
        for path in sorted((ROOT / "docs").rglob("*.md"))
        for line in path.read_text().splitlines()
        if line.startswith("#")
    ]
    queries, qrels, runs, corpus = [], ["query-id\tcorpus-id\tscore"], {"old": [], "new": []}, {}
    for number, (path, title) in enumerate(titles):
        name = path.relative_to(ROOT).as_posix()
        queries.append({"_id": f"q{number}", "text": title})
        qrels.append(f"q{number}\t{name}\t1")
        corpus[name] = {"_id": name, "title": title, "text": path.read_text()}
        runs["old"].append(f"q{number} Q0 {name} 1 {1 + number % 3} old")
        runs["old"].append(f"q{number} Q0 CHANGELOG.md 2 2 old")
        runs["new"].append(f"q{number} Q0 {name} 1 3 new")
    (tmp_path / "qrels").mkdir()
    files = {
        "queries.jsonl": [json.dumps(query) for query in queries],
        "corpus.jsonl": [json.dumps(record) for record in corpus.values()],
        "qrels.tsv": qrels,
        "qrels/test.tsv": qrels,
        "old.trec": runs["old"],
        "new.trec": runs["new"],
    }
    for name, lines in files.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return tmp_path


def with_pictures(folder: Path, pictures: Path, trained: Path) -> None:
    """Add the pictures that docs/images.md names, and the model that encodes them."""
    from PIL import Image

    (folder / "photos").symlink_to(pictures, target_is_directory=True)
    (folder / "trained").symlink_to(trained, target_is_directory=True)
    first, second, third = sorted(pictures.glob("*.png"))[:3]
    Image.open(first).convert("RGB").save(folder / "a.jpg")
    Image.open(second).save(folder / "b.png")
    Image.open(third).convert("RGB").save(folder / "beach.jpg")


def run_shell(commands: str, folder: Path) -> str:
    """Run commands with `retr` and `python` those under test, and nothing installed."""
    script = (
        "set -e -o pipefail\n"
        f'retr() {{ {shlex.quote(sys.executable)} -m retr "$@"; }}\n'
        f'python() {{ {shlex.quote(sys.executable)} "$@"; }}\n'
        'pip() { test "$1" = install; }\n'
    )
    return ended(["bash", "-c", script + commands], folder)


def ended(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[-1]}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_or_says_why_not(page: str) -> None:
    for block in blocks(page):
        assert block.kind in SHELL | PYTHON | {"text", "json", "sql"}, f"{page}.md:{block.line}"
        assert block.why is None or len(block.why.split()) > 1, f"{page}.md:{block.line}"


@pytest.mark.parametrize("page", PAGES)
def test_its_commands_run(page: str, folder: Path, request: pytest.FixtureRequest) -> None:
    run = [b for b in blocks(page) if b.kind in SHELL | PYTHON and b.why is None]
    if not run:
        pytest.skip("has no commands to run")
    if any(MODEL in block.text for block in run):
        pictures, _ = request.getfixturevalue("pictures")
        with_pictures(folder, pictures, request.getfixturevalue("trained_clip"))
    if before := BEFORE.get(page):
        run_shell(before.replace(MODEL, TRAINED), folder)
    printed = ""
    for block in run:
        text = block.commands.replace(MODEL, TRAINED)
        if block.kind in PYTHON:
            printed += ended([sys.executable, "-c", NAMES.get(page, "") + text], folder)
        else:
            run_shell(text, folder)
    for expected in PRINTED.get(page, ()):
        assert len(re.findall(expected, printed)) == 1, expected


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_parses(page: str) -> None:
    for block in blocks(page):
        if block.kind in SHELL and block.why is not None:
            for words in command_lines(block.commands):
                parses(words)


def parses(words: list[str]) -> None:
    """Check that a command is there and takes its options."""
    program, *rest = words
    if program == "retr":
        command = typer.main.get_command(cli.app)
        while hasattr(command, "commands"):
            command = command.commands[rest.pop(0)]
        command.make_context("retr", rest)  # raises if an option is unknown or missing
    elif program == "python":
        assert rest[0] == "-m"
        assert find_spec(rest[1]), f"{rest[1]}: there is no such module"
    else:
        assert program in {"pip", "pytest"}, words


def test_the_guide_to_upgrades_shows_every_command() -> None:
    from retr.commands.upgrade import app

    names = {str(command.name or command.callback.__name__) for command in app.registered_commands}
    shown = "".join(block.commands for block in blocks("upgrades"))
    assert names == set(re.findall(r"^retr upgrade (\w+)", shown, re.MULTILINE))
