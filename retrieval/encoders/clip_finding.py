"""Finding an open_clip model: by architecture and tag, on the hub, in a folder, or in a file.

Weights do not say which activation they were trained with or how images were prepared, and with
the wrong ones a model still works, only worse. So both are read from where they are recorded: the
list of tags, the `open_clip_config.json` beside the weights, the program inside a TorchScript
file, the `params.txt` of a training run. If nothing records them, the user is warned.
"""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..values.errors import InputError
from ._checks import existing_folder
from ._st_loading import first_line
from .base import EncoderOptions

CONFIG = "open_clip_config.json"
HUB = "hf-hub:"
WEIGHTS = (
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"),
    *("open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth"),
)
_PREPARATION = ("mean", "std", "interpolation", "resize_mode", "fill_color")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is.

    name:        the model's name after "clip:", with absolute paths.
    source:      open_clip's name for the architecture, or "local-dir:FOLDER".
    weights:     the file of weights.
    quick_gelu:  whether to use QuickGELU whatever the architecture says.
    preparation: how to prepare images, if the architecture does not say.
    doubt:       what is not known about the model, for the user to read; None if all is known.
    """

    name: str
    source: str
    weights: Path
    quick_gelu: bool = False
    preparation: dict[str, Any] = field(default_factory=dict)
    doubt: str | None = None


def find(who: str, target: str, options: EncoderOptions) -> Place:
    """Return where the model called `target` is; a model on the hub is downloaded.

    who: the beginning of every message.

    Raises:
        InputError: there is no such model; the message says why.
    """
    from open_clip.pretrained import is_pretrained_cfg

    if target.startswith(HUB):
        return _on_hub(target.removeprefix(HUB), options.revision)
    if options.revision is not None:
        raise InputError(
            f"{who}: a revision ({options.revision!r}) applies only to {HUB} names; leave it out"
        )
    folder = existing_folder(target)
    if folder is not None:
        return _in_folder(who, folder)
    file = _existing_file(target)
    if file is not None:
        return _with_config(who, file)
    architecture, tag = _split(who, target)
    file = _existing_file(tag)
    if file is not None and not is_pretrained_cfg(architecture, tag):
        return _in_file(architecture, file)
    return _tagged(who, architecture, tag)


def _split(who: str, target: str) -> tuple[str, str]:
    """Split ARCH/PRETRAINED; the architecture itself may contain a slash, as in ViT-B/32."""
    from open_clip import list_models

    known = set(list_models())
    parts = target.split("/")
    for end in range(len(parts), 0, -1):
        architecture = "-".join(parts[:end])
        if architecture in known:
            return architecture, "/".join(parts[end:])
    if target.startswith(("/", ".", "~")):
        raise InputError(f"{who}: there is no folder or file {target!r}")
    from difflib import get_close_matches

    close = get_close_matches(parts[0], sorted(known), n=3, cutoff=0.5)
    hint = f"; close: {', '.join(close)}" if close else ""
    raise InputError(
        f"{who}: open_clip has no architecture {parts[0]!r}{hint}. Write clip:ARCH/PRETRAINED, "
        f"clip:{HUB}NAME, clip:FOLDER or clip:ARCH/FILE"
    )


def _tagged(who: str, architecture: str, tag: str) -> Place:
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    entry = get_pretrained_cfg(architecture, tag)
    if not entry:
        tags = ", ".join(list_pretrained_tags_by_model(architecture)) or "none"
        if not tag:
            missing = f"name the weights too, as in clip:{architecture}/PRETRAINED"
        elif tag.startswith(("/", ".", "~")) or tag.endswith((".pt", ".bin", ".safetensors")):
            missing = f"there is no file {tag!r}"
        else:
            missing = f"there are no weights {tag!r} for the architecture {architecture}"
        raise InputError(f"{who}: {missing}; open_clip has these weights for it: {tags}")
    return Place(
        f"{architecture}/{tag}",
        architecture,
        _download(entry),
        quick_gelu=bool(entry.get("quick_gelu")),
        preparation=_preparation_of(entry),
    )


def _download(entry: dict[str, Any]) -> Path:
    from open_clip.pretrained import download_pretrained

    repository, _, file = entry.get("hf_hub", "").rpartition("/")
    if not repository:
        return Path(download_pretrained(entry))
    if not file:
        return _hub_file(repository, WEIGHTS, None)
    stem, dot, suffix = file.rpartition(".")
    safe = [f"{stem}.safetensors"] if dot and suffix in ("bin", "pth") else []
    return _hub_file(repository, (*safe, file), None)


def _on_hub(repository: str, revision: str | None) -> Place:
    config = _hub_file(repository, (CONFIG,), revision)
    _check_config(f"encoder 'clip:{HUB}{repository}'", config)
    weights = _hub_file(repository, WEIGHTS, revision)
    return Place(f"{HUB}{repository}", f"local-dir:{config.parent}", weights)


def _hub_file(repository: str, names: tuple[str, ...], revision: str | None) -> Path:
    """Return the first of `names` that the model has, from the cache if it is there."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for name in names:
        cached = try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
    for name in names:
        try:
            return Path(hf_hub_download(repository, name, revision=revision, etag_timeout=10))
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            if name == names[-1]:
                raise InputError(
                    f"{HUB}{repository} is not an open_clip model: it has no {' or '.join(names)}"
                ) from None
    raise AssertionError("no names")


def _in_folder(who: str, folder: Path) -> Place:
    if not (folder / CONFIG).is_file():
        raise InputError(
            f"{who}: the folder has no {CONFIG}; if it holds only weights, write clip:ARCH/FILE"
        )
    _check_config(who, folder / CONFIG)
    known = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    found = known or sorted(
        file for file in folder.iterdir() if file.suffix in (".safetensors", ".bin", ".pth", ".pt")
    )
    if not found:
        raise InputError(f"{who}: the folder holds no weights, such as {WEIGHTS[0]}")
    if not known and len(found) > 1:
        names = ", ".join(file.name for file in found[:5])
        raise InputError(f"{who}: the folder holds several files of weights; name one: {names}")
    return Place(str(folder), f"local-dir:{folder}", found[0])


def _with_config(who: str, file: Path) -> Place:
    if not (file.parent / CONFIG).is_file():
        raise InputError(
            f"{who}: weights alone do not name their architecture, and there is no {CONFIG} "
            f"beside them; write clip:ARCH/{file}"
        )
    _check_config(who, file.parent / CONFIG)
    return Place(str(file), f"local-dir:{file.parent}", file)


def _in_file(architecture: str, file: Path) -> Place:
    """Return weights of a named architecture, with what is recorded about their training."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    tags = list_pretrained_tags_by_model(architecture)
    entries = [get_pretrained_cfg(architecture, tag) for tag in tags]
    ways = [_preparation_of(entry) for entry in entries]
    preparation = ways[0] if ways and all(way == ways[0] for way in ways) else {}
    quick, doubt = _quick_gelu(file), None
    if quick is None and not architecture.endswith("-quickgelu"):
        said = {bool(entry.get("quick_gelu")) for entry in entries}
        quick = said == {True}
        if said == {True, False}:
            doubt = (
                "no record says whether these weights were trained with QuickGELU, as OpenAI's "
                f"were; retr assumes GELU. If they were, write clip:{architecture}-quickgelu/{file}"
            )
    return Place(f"{architecture}/{file}", architecture, file, bool(quick), preparation, doubt)


def _quick_gelu(file: Path) -> bool | None:
    """Return whether the files around some weights say QuickGELU; None if they do not say."""
    if is_torchscript(file):
        with zipfile.ZipFile(file) as archive:
            programs = [name for name in archive.namelist() if name.endswith(".py")]
            # QuickGELU is x * sigmoid(1.702 x); the program has the number inlined, or its name.
            return any(
                b"1.702" in text or b"QuickGELU" in text for text in map(archive.read, programs)
            )
    config = file.parent / CONFIG
    if config.is_file():
        model = json_of(config).get("model_cfg", {})
        return bool(model.get("quick_gelu", False))
    for params in (file.parent / "params.txt", file.parent.parent / "params.txt"):
        if params.is_file():  # open_clip's training writes it beside the folder checkpoints/
            text = params.read_text("utf-8", "replace")
            return bool(re.search(r"^(force_quick_gelu: True|model: .*-quickgelu)$", text, re.M))
    if any(word in part.lower() for part in file.parts[-4:] for word in ("openai", "quickgelu")):
        return True
    return None


def is_torchscript(file: Path) -> bool:
    """Return whether torch treats a file as a program; such a file is never unpickled."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.partition("/")[2] == "constants.pkl" for name in archive.namelist())


def _check_config(who: str, config: Path) -> None:
    model = json_of(config).get("model_cfg")
    if not isinstance(model, dict) or not isinstance(model.get("text_cfg"), dict):
        raise InputError(f"{who}: {config.name} describes no model: it has no model_cfg")
    if "trust_remote_code" in json.dumps(model):
        raise InputError(
            f"{who}: the model needs its own Python code, which retr never runs; choose another"
        )


def json_of(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one if it holds something else."""
    try:
        values = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as JSON: {first_line(error)}") from error
    return values if isinstance(values, dict) else {}


def _preparation_of(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in _PREPARATION if entry.get(key) is not None}


def _existing_file(text: str) -> Path | None:
    try:
        file = Path(text).expanduser()
        return file.absolute() if text and file.is_file() else None
    except (OSError, RuntimeError, ValueError):
        return None
