"""`retr bench upgrades`: what replacing an encoder is worth before, during and after backfill.

For each data set and old encoder: the steps one by one on arrays (`steps.py`), and the curve over
backfill through real collections (`curves.py`). Both are measured twice: with
pairs drawn from anywhere, which is what a user gets, and with pairs of which none is a judged
document, which is what the maps themselves are worth.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ...retrieval.encoders.base import Encoder
from ...retrieval.encoders.registry import resolve
from ...retrieval.sources.beir import BeirFolder
from ...retrieval.sources.options import SourceOptions
from ...retrieval.values.errors import InputError
from ...retrieval.values.progress import choose_progress
from ...retrieval.values.report import Skipped
from .. import environment
from ..beir.cache import exact_collection
from ..beir.datasets import Dataset, cache_folder, expand
from ..beir.folders import Prepared, prepare, prepare_folders
from ..files import write_json
from .curves import Subject, curves, fresh, open_subject
from .lsa import fit_lsa
from .remembering import RememberingEncoder
from .steps import Chosen, steps

log = logging.getLogger("retr.benchmarks")

LSA = "lsa"
CLEAN = {"anywhere": False, "unjudged": True}
"""Whether judged documents are left out of a sample."""
ORDERS = ("residual", "random")


def run(
    datasets: Iterable[str],
    out: Path,
    *,
    old: Sequence[str] = ("static",),
    new: str,
    pairs: int = 1_000,
    seed: int = 0,
    orders: Sequence[str] = ORDERS,
    data: Path | None = None,
    cache: Path | None = None,
    progress: bool | None = None,
) -> list[dict[str, Any]]:
    """Upgrade data sets from each old encoder to the new one; return what was measured.

    datasets: as for `retr bench beir`.
    out:      gets a JSON file for each data set and old encoder; what is there is not done again.
    old:      names of encoders; "lsa" is fitted on each corpus.
    pairs:    documents in the sample.
    orders:   of backfill.

    Raises:
        InputError: a data set or encoder cannot be used.
        DownloadError: a data set cannot be downloaded.
        MissingExtraError: a library is not installed.
    """
    wanted = expand(datasets)
    cache = cache or cache_folder()
    data = data or cache_folder() / "datasets"
    if pairs < 50:
        raise InputError(f"{pairs} pairs: give at least 50")
    target = RememberingEncoder(resolve(new), cache / "vectors")
    local = prepare_folders(wanted, data, None)
    found = []
    for one in wanted:
        if isinstance(one, Dataset):
            with choose_progress(progress) as shown:
                dataset = prepare(one, data, progress=shown)
        else:
            dataset = local[one]
        for name in old:
            settings = {"pairs": pairs, "seed": seed, "orders": list(orders)}
            file = out / f"{dataset.slug}-{_slug(name)}-to-{_slug(target.name)}.json"
            made = _read(file, settings, dataset)
            if made is None:
                source = _old_encoder(name, dataset, cache)
                made = _measured(dataset, source, target, settings, cache, progress)
                write_json(_rounded(made), file)
            found.append(made)
    return found


def _old_encoder(name: str, dataset: Prepared, cache: Path) -> Encoder:
    if name != LSA:
        return RememberingEncoder(resolve(name), cache / "vectors")
    documents = BeirFolder(dataset.folder, SourceOptions())
    return fit_lsa([each.text or "" for each in documents if not isinstance(each, Skipped)])


def _measured(
    dataset: Prepared,
    old: Encoder,
    new: Encoder,
    settings: dict[str, Any],
    cache: Path,
    progress: bool | None,
) -> dict[str, Any]:
    begun = time.monotonic()
    log.info("%s: %s to %s", dataset.name, old.name, new.name)
    before, _ = exact_collection(dataset, old, cache, progress=progress)
    subject = open_subject(dataset, before.path, old, new)
    after, _ = exact_collection(dataset, new, cache, progress=progress)
    draws = {}
    with tempfile.TemporaryDirectory(prefix="retr-upgrades-") as folder:
        for draw, clean in CLEAN.items():
            draws[draw] = _draw(subject, clean, settings, Path(folder))
            log.info("%s: pairs from %s are done", dataset.name, draw)
    return {
        "dataset": {"name": dataset.name, "digest": dataset.digest, "documents": len(subject.rows)},
        "queries": len(dataset.queries),
        "old": _encoder(old),
        "new": _encoder(new),
        "settings": settings,
        "environment": environment.describe(),
        "seconds": round(time.monotonic() - begun, 1),
        "fresh": fresh(after, subject),
        "draws": draws,
    }


def _draw(subject: Subject, clean: bool, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    rows = subject.arrays.drawn(settings["pairs"], clean, settings["seed"])
    chosen = Chosen.of(subject.arrays, rows, settings["seed"])
    return {
        **steps(subject.arrays, chosen),
        "curves": curves(subject, chosen, settings["orders"], folder),
    }


def _encoder(encoder: Encoder) -> dict[str, Any]:
    # Of a path only its end is kept: it is nobody's business where a model lies.
    return {"name": _short(encoder.name), "dim": encoder.space.dim, "metric": encoder.space.metric}


def _short(name: str) -> str:
    family, colon, rest = name.partition(":")
    if "/" not in rest:
        return name
    parts = rest.rstrip("/").split("/")
    plain = parts[-1].partition("@")[0] == "model" and len(parts) > 1
    return f"{family}{colon}{parts[-2] + parts[-1].removeprefix('model') if plain else parts[-1]}"


def _slug(name: str) -> str:
    short = _short(name)
    return "".join(c if c.isalnum() else "-" for c in short.lower()).strip("-")


def _read(file: Path, settings: dict[str, Any], dataset: Prepared) -> dict[str, Any] | None:
    try:
        made = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    same = isinstance(made, dict) and made.get("settings") == settings
    return made if same and made["dataset"]["digest"] == dataset.digest else None


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return value
