"""Loading an open_clip model, without output from the libraries.

Errors of files and the network become one-line messages; any other exception keeps its traceback.
"""

from __future__ import annotations

import errno
import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..values.errors import InputError, RetrError, missing_extra
from ._checks import settle_openmp
from ._st_loading import LOADING, first_line, reason_of
from .base import EncoderOptions
from .clip_finding import CONFIG, find, is_torchscript, json_of

log = logging.getLogger("retr.encoders.clip")

_LIBRARIES = ("torch", "torchvision", "open_clip", "huggingface_hub", "safetensors", "transformers")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "spiece.model")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model on the CPU, in float32.

    name:        the name that opens it again from any folder, without "clip:".
    preparation: open_clip's `preprocess_cfg`.
    digest:      identifies the weights, the activation and the number of heads.
    """

    name: str
    model: Any
    tokenizer: Any
    preparation: dict[str, Any]
    digest: bytes


def load(name: str, target: str, options: EncoderOptions) -> Loaded:
    """Return the model called `target`.

    name: the name that the user gave, for messages.

    Raises:
        InputError: it cannot be loaded; the message says why.
        MissingExtraError: open_clip is not installed.
    """
    who = f"encoder {name!r}"
    try:
        import open_clip
        import transformers  # noqa: F401  # many models use its tokenizers and text towers
        from huggingface_hub import errors
        from safetensors import SafetensorError
    except ModuleNotFoundError as error:
        if error.name in _LIBRARIES:
            raise missing_extra(f"the encoder {name}", "clip") from error
        raise
    hub: Any = errors
    settle_openmp()
    log.info("loading %s", name)
    try:
        with LOADING, _overheard() as said:
            place = find(who, target, options)
            model = open_clip.create_model(
                place.source,
                load_weights=False,
                pretrained_text=False,
                force_quick_gelu=place.quick_gelu,
                force_preprocess_cfg=place.preparation,
            )
            if is_torchscript(place.weights):
                _load_program(model, place.weights)
            else:
                open_clip.factory.load_checkpoint(model, str(place.weights), weights_only=True)
            tokenizer = _tokenizer(who, place.source)
    except RetrError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, hub.HTTPError) as error:
        raise InputError(f"{who}: {_reason(error, options)}") from error
    except Exception as error:  # raised when unpickling a file that is not a pickle
        if type(error).__name__ == "UnpicklingError" or isinstance(error, EOFError | TypeError):
            raise InputError(f"{who}: the model cannot be loaded: {first_line(error)}") from error
        raise
    for message in said:
        if "initialized randomly" not in message:  # the weights are loaded afterwards
            log.debug("%s: %s", name, message)
    if place.doubt is not None:
        log.warning("%s: %s", who, place.doubt)
    model.eval()
    model.requires_grad_(False)
    preparation = getattr(model.visual, "preprocess_cfg", {})
    return Loaded(place.name, model, tokenizer, dict(preparation), _digest(model))


def _tokenizer(who: str, source: str) -> Any:
    import open_clip

    if not source.startswith("local-dir:"):
        return open_clip.get_tokenizer(source)
    folder = Path(source.removeprefix("local-dir:"))
    settings = json_of(folder / CONFIG)["model_cfg"]["text_cfg"]
    named = settings.get("hf_tokenizer_name")
    if not named or any((folder / file).is_file() for file in _TOKENIZER_FILES):
        return open_clip.get_tokenizer(source)
    # open_clip expects the tokenizer in the folder; on the hub it has its own name.
    return open_clip.tokenizer.HFTokenizer(
        named,
        context_length=settings.get("context_length", 77),
        tokenizer_mode=settings.get("tokenizer_mode"),
        **settings.get("tokenizer_kwargs", {}),
    )


def _load_program(model: Any, file: Path) -> None:
    """Load the weights of a TorchScript file, such as OpenAI's own."""
    import torch

    program = torch.jit.load(file, map_location="cpu").state_dict()
    # Besides the weights, the file keeps the program's constants, such as the attention mask.
    known = model.state_dict()
    model.load_state_dict({name: value for name, value in program.items() if name in known})


def _digest(model: Any) -> bytes:
    """Return 16 bytes that identify the weights and the settings that change vectors."""
    import torch

    digests = set()
    for name, tensor in model.state_dict().items():
        if tensor.dtype == torch.int64 or name in ("logit_scale", "logit_bias"):
            continue
        values = tensor.detach().contiguous()
        if values.is_floating_point():
            values = values.float()
        digest = hashlib.blake2b(repr(tuple(values.shape)).encode(), digest_size=16)
        digest.update(values.reshape(-1).view(torch.uint8).numpy())
        digests.add(digest.digest())
    whole = hashlib.blake2b(b"".join(sorted(digests)), digest_size=16)
    whole.update(repr(_settings(model)).encode())
    return whole.digest()


def _settings(model: Any) -> list[Any]:
    """Return the settings that change vectors: activation, heads, pooling, masks."""
    text, visual = getattr(model, "text", model), model.visual
    parts = list(model.modules())
    pooled = [getattr(visual, "pool_type", None), getattr(text, "pool_type", None)]
    pooled += [getattr(model, "text_pool_type", None)]
    pooled += [getattr(getattr(visual, "trunk", None), "global_pool", None)]
    return [
        any(type(part).__name__ == "QuickGELU" for part in parts),
        sorted({str(part.approximate) for part in parts if hasattr(part, "approximate")}),
        [part.num_heads for part in parts if isinstance(getattr(part, "num_heads", None), int)],
        sorted(
            {float(part.eps) for part in parts if isinstance(getattr(part, "eps", None), float)}
        ),
        [type(part).__name__ for part in parts if "Pooler" in type(part).__name__],
        [None if each is None else str(each) for each in pooled],
        bool(getattr(visual, "final_ln_after_pool", False)),
        getattr(text, "attn_mask", None) is not None,
        [bool(getattr(text, name, False)) for name in ("use_pad_mask", "correct_cls_mask")],
    ]


def _reason(error: Exception, options: EncoderOptions) -> str:
    said = str(error)
    if isinstance(error, RuntimeError) and "Error(s) in loading state_dict" in said:
        lines = [line.strip() for line in said.splitlines()[1:] if line.strip()]
        return f"the weights are of another architecture: {lines[0][:200] if lines else said}"
    # For a file that is too short, torch seeks to a position before its beginning.
    short = isinstance(error, OSError) and error.errno == errno.EINVAL
    if short or (isinstance(error, RuntimeError) and "PytorchStreamReader" in said):
        return "the file of weights is damaged or truncated"
    return reason_of(error, options)


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """Collect what open_clip says while it loads a model.

    It logs to the root logger, through functions that add a handler if there is none.
    """
    import warnings

    said: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    root = logging.getLogger()
    before = root.handlers
    root.handlers = [Collect()]
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield said
        said += [str(each.message) for each in warned]
    finally:
        root.handlers = before
