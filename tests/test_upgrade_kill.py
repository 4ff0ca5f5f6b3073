"""Upgrades ended with SIGKILL at any step: nothing is lost, and they go on from there.

RETR_TEST_KILLS sets how many are killed, see `test_kill.py`; `upgrade_crash_worker.py` does it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

WORKER = Path(__file__).with_name("upgrade_crash_worker.py")
KILLS = int(os.environ.get("RETR_TEST_KILLS", "220")) // 6
SEED = os.environ.get("RETR_TEST_SEED", "1")


def test_killed_at_file_operations(tmp_path: Path) -> None:
    # Forks of a process with threads would not be whole.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(WORKER), str(tmp_path), str(KILLS), SEED],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["kills"] >= 0.8 * KILLS
    for step in ("start", "map", "backfill", "finish", "roll back", "backfill back", "compact"):
        assert report["steps"][step]
