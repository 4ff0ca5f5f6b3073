"""The page "Start here": its commands and its programs run as written there, in their order."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
RETR = f"{sys.executable} -c 'from retr.cli import main; main()'"


def test_its_commands_and_programs_run(tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs", target_is_directory=True)
    install, *commands = [text for kind, text in BLOCKS if kind == "bash"]
    assert install == "pip install .\n"
    programs = [text for kind, text in BLOCKS if kind == "python"]
    script = f'set -e -o pipefail\nretr() {{ {RETR} "$@"; }}\n{"".join(commands)}'
    found = run(["bash", "-c", script], tmp_path)
    assert '"rank": 1,' in found
    first, second = (run([sys.executable, "-c", program], tmp_path) for program in programs)
    assert "docs/" in first
    assert second == "{'year': 2024}\n"


def test_no_block_is_left_out() -> None:
    assert {kind for kind, _ in BLOCKS} == {"bash", "python"}
    assert PAGE.count("```") == 2 * len(BLOCKS)


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
