"""Writers ended with SIGKILL: every committed row is there, no half one, and they go on from there.

RETR_TEST_KILLS sets how many are killed at file operations; there are about 1,500 to choose from.
What is done and looked at is in `crash_worker.py`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).with_name("crash_worker.py")
KILLS = int(os.environ.get("RETR_TEST_KILLS", "220"))
SEED = os.environ.get("RETR_TEST_SEED", "1")


def started(*arguments: object) -> subprocess.Popen[str]:
    # Forks of a process with threads would not be whole.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(WORKER), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def worker(*arguments: object) -> Any:
    """Run the worker, whose own checks must hold, and return what it prints."""
    process = started(*arguments)
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return json.loads(out)


def test_killed_at_file_operations(tmp_path: Path) -> None:
    report = worker("points", tmp_path, KILLS, SEED)
    assert report["kills"] >= 0.95 * min(KILLS, report["operations"])
    # Every sort of commit was killed somewhere.
    for step in (
        "build",
        "build again",
        "add and merge",
        "delete much",
        "words",
        "index",
        "compact",
    ):
        assert report["steps"][step]


def test_killed_at_moments_again_and_again(tmp_path: Path) -> None:
    report = worker("times", tmp_path, max(30, KILLS // 5), SEED)
    assert report["kills"] >= 30
    assert report["rounds"] >= 2  # it came to the end all the same


@pytest.mark.parametrize("number", range(3))
def test_a_program_killed_from_outside(tmp_path: Path, number: int) -> None:
    """No fork, no counting: a program as a person starts it."""
    log, random_ = tmp_path / "log", random.Random(f"{SEED} {number}")
    process = started("run", tmp_path)
    while not log.exists():
        assert process.poll() is None
        time.sleep(0.001)
    time.sleep(random_.uniform(0, 0.4))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert worker("check", tmp_path)["next"] >= 1
