"""What several test modules share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Several processes, each with a thread a core, wait for one another by spinning.
if "PYTEST_XDIST_WORKER" in os.environ:
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, str(max(1, share)))


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


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Return a folder of 72 drawn pictures and the caption of each file's name."""
    from .clips import write_pictures

    folder = tmp_path_factory.mktemp("pictures") / "pictures"
    return folder, write_pictures(folder)


@pytest.fixture(scope="session")
def trained_clip(
    tmp_path_factory: pytest.TempPathFactory, pictures: tuple[Path, dict[str, str]]
) -> Path:
    """Return the folder of a CLIP that was trained, in seconds, on the pictures: `clip:FOLDER`."""
    pytest.importorskip("open_clip")
    torch = pytest.importorskip("torch")
    from retr.benchmarks.images.train_clip import Recipe, of_names, train

    recipe = Recipe(
        size=32,
        patch=8,
        width=64,
        layers=2,
        text_width=32,
        text_layers=1,
        context=12,
        dim=32,
        epochs=40,
        batch=36,
        rate=5e-3,
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # they would mostly wait for each other over so small a model
    try:
        return train(of_names(pictures[0]), tmp_path_factory.mktemp("clip") / "trained", recipe)
    finally:
        torch.set_num_threads(threads)
