"""Checks that all encoders share, so that they refuse a wrong value in the same words."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..values.errors import InputError

METRICS = ("cosine", "ip", "l2")


def checked_metric(metric: str, who: str) -> str:
    """Return `metric` if it is one of `METRICS`.

    Raises:
        InputError: it is not; the message begins with `who`.
    """
    if metric not in METRICS:
        raise InputError(f"{who}: unknown metric {metric!r}; use {', '.join(METRICS)}")
    return metric


def existing_folder(text: str) -> Path | None:
    """Return the absolute path of the folder that `text` names; None if there is none."""
    try:
        folder = Path(text).expanduser()
        return folder.absolute() if text and folder.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # too long, no such user, a NUL
        return None


def checked_texts(items: Iterable[Any], who: str) -> list[str]:
    """Return `items` as a list of texts that UTF-8 can encode.

    A lone surrogate, which JSON and file names can carry, becomes "?", because no tokenizer
    accepts it.

    Raises:
        InputError: `items` is a single text, or holds something other than texts.
    """
    if isinstance(items, str):
        raise InputError(f"{who}: give a list of texts, not one str")
    texts = []
    for position, text in enumerate(items):
        if not isinstance(text, str):
            kind = type(text).__name__
            raise InputError(f"{who}: item {position} is of type {kind}; give a str")
        texts.append(text.encode("utf-8", "replace").decode("utf-8"))
    return texts


def settle_openmp() -> None:
    """Let torch and faiss share one process on macOS; call it before torch computes.

    Each wheel brings its own OpenMP runtime there. Loading the second aborts the process, and
    sharing threads between the two can crash it.
    """
    if sys.platform == "darwin" and find_spec("faiss") is not None:
        os.environ.setdefault("KMP_DUPLICATE_LIB_OK", "TRUE")
        import torch

        torch.set_num_threads(1)
