"""What several test modules share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Undo what a command of this process did to retr's logger."""
    logger = logging.getLogger("retr")
    before = (logger.level, logger.handlers[:])
    yield
    level, logger.handlers = before
    logger.setLevel(level)


@pytest.fixture(scope="session")
def data() -> Path:
    """Return the folder with real data; tests that need it are skipped where it is absent."""
    default = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    folder = Path(os.environ.get("RETR_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}: set RETR_TEST_DATA")
    return folder
