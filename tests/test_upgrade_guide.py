"""The guide to upgrades: its commands run as written there, in their order."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs" / "upgrades.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", GUIDE, re.DOTALL)
RETR = f"{sys.executable} -c 'from retr.cli import main; main()'"


def test_its_commands_and_its_program_run(tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs", target_is_directory=True)
    commands = "".join(text for kind, text in BLOCKS if kind == "bash")
    script = f'set -e -o pipefail\nretr() {{ {RETR} "$@"; }}\n{commands}'
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (python,) = [text for kind, text in BLOCKS if kind == "python"]
    done = subprocess.run(
        [sys.executable, "-c", python], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "agreement at once" in done.stdout
    shared = [line for line in done.stdout.splitlines() if line.endswith("re-embedded")]
    assert len(shared) == 1


def test_it_shows_every_command() -> None:
    from retr.commands.upgrade import app

    names = {str(command.name or command.callback.__name__) for command in app.registered_commands}
    assert names == set(re.findall(r"^retr upgrade (\w+)", GUIDE, re.MULTILINE))
