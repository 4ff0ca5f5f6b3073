"""Loading a `SparseEncoder` or a `CrossEncoder`, as `_st_loading` loads a `SentenceTransformer`.

The library initialises at random the weights that a model of another kind lacks; their names are
returned, so that the caller can refuse the model.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..values.errors import InputError, missing_extra
from ._checks import existing_folder
from ._st_loading import LOADING, first_line, missing_weights, overheard, reason_of, refuse_own_code
from .base import EncoderOptions

log = logging.getLogger("retr.encoders.splade")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of model.

    name:         its class in sentence-transformers.
    organisation: the hub's organisation for names without one.
    marks:        the files that the cache holds if it holds such a model.
    """

    name: str
    organisation: str
    marks: tuple[str, ...]


# Without these two files the library would guess how the weights are used.
SPARSE = Kind(
    "SparseEncoder", "sparse-encoder", ("modules.json", "config_sentence_transformers.json")
)
# A cross-encoder is often just a transformer's files.
CROSS = Kind("CrossEncoder", "cross-encoder", ("config.json",))


def find(who: str, target: str, revision: str | None) -> Path | None:
    """Return the folder that holds a model; None for a name on the hub.

    Raises:
        InputError: there is no model at the path, or a revision is given with a folder.
    """
    folder = existing_folder(target)
    if folder is None:
        if target.startswith(("/", ".", "~")) or target.count("/") > 1:
            raise InputError(f"{who}: there is no folder {target!r}")
        return None
    if not any((folder / file).is_file() for file in ("modules.json", "config.json")):
        raise InputError(f"{who}: the folder has neither modules.json nor config.json, so no model")
    if revision is not None:
        raise InputError(
            f"{who} is a folder, so the revision {revision!r} does not apply; leave it out"
        )
    return folder


def load(
    kind: Kind, who: str, target: str, folder: Path | None, options: EncoderOptions
) -> tuple[Any, list[str]]:
    """Return a model on its device, and the names of the weights initialised at random.

    who:    the beginning of every message.
    target: its name on the hub, if `folder` is None.

    Raises:
        InputError: it cannot be loaded, or the device cannot be used; the message says why.
        MissingExtraError: sentence-transformers is not installed.
    """
    if sys.platform == "darwin" and find_spec("faiss") is not None:
        # Two OpenMP runtimes in one process, see `_st_loading.load`.
        os.environ.setdefault("KMP_DUPLICATE_LIB_OK", "TRUE")
    try:
        import sentence_transformers
        import torch
        from huggingface_hub import errors
        from safetensors import SafetensorError
    except ModuleNotFoundError as error:
        if error.name in ("torch", "huggingface_hub", "safetensors", "sentence_transformers"):
            raise missing_extra(who, "st") from error
        raise
    if sys.platform == "darwin" and find_spec("faiss") is not None:
        torch.set_num_threads(1)
    _check_device(who, options.device)

    def construct(place: str, revision: str | None = None, *, local: bool = True) -> Any:
        if local:
            refuse_own_code(Path(place))
        return getattr(sentence_transformers, kind.name)(
            place,
            device=options.device,
            revision=revision,
            trust_remote_code=False,
            local_files_only=local,
        )

    log.info("loading %s", who)
    hub: Any = errors  # its HTTPError is httpx's or requests', depending on the release
    try:
        with LOADING, overheard() as said:
            if folder is not None:
                model = construct(str(folder))
            else:
                model = _from_hub(kind, construct, target, options.revision)
    except (OSError, ValueError, SafetensorError, hub.HTTPError) as error:
        raise InputError(f"{who}: {reason_of(error, options)}") from error
    for message in said:
        log.debug("%s: %s", who, message)
    if model.device.type == "cpu":
        model.float()  # half precision is slower on a CPU, and less precise
    return model, missing_weights(said)


def _check_device(who: str, device: str | None) -> None:
    import torch

    if device is None:
        return
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"{who}: the device {device!r} cannot be used here: {first_line(error)}"
        ) from error


def _from_hub(kind: Kind, construct: Callable[..., Any], target: str, revision: str | None) -> Any:
    """Return the model called `target`, without network access if the cache holds it."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    if "/" not in target:
        target = f"{kind.organisation}/{target}"
    cache = os.environ.get("SENTENCE_TRANSFORMERS_HOME")
    marks = [
        try_to_load_from_cache(target, file, cache_dir=cache, revision=revision)
        for file in kind.marks
    ]
    if all(isinstance(mark, str) for mark in marks):
        try:
            return construct(str(Path(str(marks[0])).parent))
        except OSError as error:
            log.debug("the cache holds only part of %s: %s", target, error)
    HfApi().model_info(target, revision=revision, timeout=10)
    return construct(target, revision, local=False)
