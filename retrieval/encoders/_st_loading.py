"""Loading a sentence-transformers model from a folder, the hub's cache, or the hub.

If it cannot be loaded, the user reads one line instead of the libraries' pages. Only errors of
files and the network are caught; any other exception keeps its traceback.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..values.errors import InputError, missing_extra
from .base import EncoderOptions

log = logging.getLogger("retr.encoders.st")

# Loading redirects the libraries' logs for the whole process, so one load runs at a time.
LOADING = threading.Lock()


def load(name: str, target: str, folder: bool, options: EncoderOptions) -> Any:
    """Return the `SentenceTransformer` at `target`, a folder's path or a name on the hub.

    name: the name that the user gave, for messages.

    Raises:
        InputError: it cannot be loaded, or the device cannot be used; the message says why.
        MissingExtraError: sentence-transformers is not installed.
    """
    if sys.platform == "darwin" and find_spec("faiss") is not None:
        # The wheels of torch and faiss each bring an OpenMP runtime there. Loading the second
        # aborts the process, and sharing threads between the two can crash it.
        os.environ.setdefault("KMP_DUPLICATE_LIB_OK", "TRUE")
    try:
        import torch
        from huggingface_hub import errors
        from safetensors import SafetensorError
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError as error:
        if error.name in ("torch", "huggingface_hub", "safetensors", "sentence_transformers"):
            raise missing_extra(f"the encoder {name}", "st") from error
        raise
    if sys.platform == "darwin" and find_spec("faiss") is not None:
        torch.set_num_threads(1)
    if options.device is not None:
        try:
            torch.empty(1, device=options.device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(
                f"encoder {name!r}: the device {options.device!r} cannot be used here: "
                f"{first_line(error)}"
            ) from error
    if not folder and "/" not in target:
        target = f"sentence-transformers/{target}"  # as the library completes it

    def construct(place: str, revision: str | None = None) -> Any:
        if place != target or folder:
            refuse_own_code(Path(place))
        return SentenceTransformer(
            place,
            device=options.device,
            revision=revision,
            trust_remote_code=False,
            local_files_only=place != target or folder,
        )

    log.info("loading %s", name)
    hub: Any = errors  # its HTTPError is httpx's or requests', depending on the release
    try:
        with LOADING, overheard() as said:
            model = construct(target) if folder else _from_hub(construct, target, options.revision)
    except (OSError, ValueError, SafetensorError, hub.HTTPError) as error:
        raise InputError(f"encoder {name!r}: {reason_of(error, options)}") from error
    for message in said:
        log.debug("%s: %s", name, message)
    missing = missing_weights(said)
    if missing:
        log.warning(
            "%s: its files lack some weights, which were initialised at random (%s), so its "
            "vectors may be meaningless",
            name,
            ", ".join(missing),
        )
    return model


def _from_hub(construct: Callable[..., Any], target: str, revision: str | None) -> Any:
    """Return the model called `target`, loaded from the hub's cache.

    Once it is in the cache, loading does not use the network. If the libraries were given the
    name, they would request missing files even when told not to, and retry an unreachable hub for
    minutes.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    def cached(file: str) -> Any:  # its path, a marker for "not on the hub", or None if unknown
        cache = os.environ.get("SENTENCE_TRANSFORMERS_HOME")
        return try_to_load_from_cache(target, file, cache_dir=cache, revision=revision)

    def snapshot() -> str | None:
        # These two say how the weights are used; without them the library would guess.
        modules, settings = cached("modules.json"), cached("config_sentence_transformers.json")
        return str(Path(modules).parent) if isinstance(modules, str) and settings else None

    place = snapshot()
    if place is not None:
        try:
            return construct(place)
        except OSError as error:
            log.debug("the cache holds only part of %s: %s", target, error)
    HfApi().model_info(target, revision=revision, timeout=10)
    fetched = construct(target, revision)
    place = snapshot()
    if place is None:
        return fetched
    del fetched
    return construct(place)


class _OwnCodeError(ValueError):
    """The model would run code of its own."""


def refuse_own_code(folder: Path) -> None:
    """Refuse a model with its own modules: older releases run them from a folder unasked."""
    try:
        modules = json.loads((folder / "modules.json").read_text("utf-8"))
        types = [str(module["type"]) for module in modules]
    except (OSError, ValueError, KeyError, TypeError):
        return  # missing or garbled: the library reports it
    if not all(name.startswith("sentence_transformers.") for name in types):
        raise _OwnCodeError


@contextmanager
def overheard() -> Iterator[list[str]]:
    """Collect what the libraries log while they load a model, and hide their progress bars.

    Most of it is harmless and long, such as a report of keys that no longer exist.
    """
    from transformers.utils import logging as library

    chatter: Any = library  # it has no types
    said: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    bar = chatter.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in ("transformers", "sentence_transformers")]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    chatter.disable_progress_bar()
    for logger in loggers:
        logger.handlers, logger.propagate = [Collect()], False
    try:
        yield said
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        if bar:
            chatter.enable_progress_bar()


def missing_weights(said: list[str]) -> list[str]:
    """Return the weights that transformers reports as newly initialised, except a pooler's."""
    names: list[str] = []
    for message in said:
        for line in message.splitlines():
            if "MISSING" in line and "|" in line:  # transformers 5: a table
                names.append(re.sub(r"\x1b\[\d*m", "", line.split("|")[0]).strip())
            elif "newly initialized: [" in line:  # transformers 4: a list
                names.extend(re.findall(r"'([^']+)'", line.split("newly initialized")[1]))
    return [name for name in names if "pooler" not in name]


def reason_of(error: Exception, options: EncoderOptions) -> str:
    """Return one clause that says why a model was not loaded."""
    from huggingface_hub import errors

    hub: Any = errors
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__

    def because(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if because(_OwnCodeError) or any("trust_remote_code" in str(link) for link in chain):
        return "the model needs its own Python code, which retr never runs; choose another"
    if because(hub.GatedRepoError):
        return "the model is gated: accept its terms on the hub, and set HF_TOKEN"
    if because(hub.RevisionNotFoundError):
        return f"the model has no revision {options.revision!r}"
    if because(hub.RepositoryNotFoundError):
        return "there is no such model on the hub (for a private one, set HF_TOKEN)"
    unreachable = isinstance(error, hub.HTTPError) and not isinstance(error, hub.HfHubHTTPError)
    if unreachable or because(hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled):
        return (
            "the model is not in the local cache, and the hub is offline or cannot be reached; "
            "connect, or give the path of a folder"
        )
    return f"the model cannot be loaded: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
