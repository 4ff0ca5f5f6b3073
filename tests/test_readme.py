"""The README's own commands, as written there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
COMMANDS = [text.strip() for kind, text in BLOCKS if not kind]
RETR = f"{sys.executable} -c 'from retr.cli import main; main()'"


def shell(command: str, folder: Path) -> str:
    """Run a command of the README where only `docs` is; `retr` is the one under test."""
    (folder / "docs").symlink_to(ROOT / "docs", target_is_directory=True)
    script = f'retr() {{ {RETR} "$@"; }}\n{command}'
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_command_after_its_install(tmp_path: Path) -> None:
    install, _, rest = COMMANDS[0].partition(" && ")
    assert install == "pip install ."
    out = shell(rest, tmp_path).splitlines()
    assert '"added": ' in out[0]
    assert "docs/format.md" in out[1]


def test_the_second_command_is_what_ci_runs() -> None:
    assert COMMANDS[1] == "pip install '.[test]' && pytest"
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert f"{COMMANDS[1]} || exit 1" in lines


def test_the_session_ran(tmp_path: Path) -> None:
    """The commands of the transcript find what it shows, but for times and sizes."""
    (session,) = [text for kind, text in BLOCKS if kind == "console"]
    commands = [line[2:] for line in session.splitlines() if line.startswith("$ ")]
    out = shell(" && ".join(commands), tmp_path)
    shown = re.findall(r"^\d+  \d\.\d{4}  (\S+)", session, re.MULTILINE)
    found = re.findall(r'"rank": \d+, "id": "([^"]+)"', out)
    assert shown
    assert found == shown


def test_the_python_snippet(tmp_path: Path) -> None:
    (snippet,) = [text for kind, text in BLOCKS if kind == "python"]
    (tmp_path / "docs").symlink_to(ROOT / "docs", target_is_directory=True)
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
