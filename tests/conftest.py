"""What several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data() -> Path:
    """Return the folder with real data; tests that need it are skipped where it is absent."""
    default = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    folder = Path(os.environ.get("RETR_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}: set RETR_TEST_DATA")
    return folder
