"""Finds an encoder by its name: the prefix of the name is the family.

A family is one file in this folder with one public `Encoder` subclass whose `family` is the
file's name, or an entry point of the group `retr.encoders` whose name is the family and whose
value is such a class. A family is imported only when a name asks for it, so `static` never loads
torch.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..values.errors import InputError
from ._checks import checked_metric, existing_folder
from .base import Encoder, EncoderOptions, SparseEncoder, cut_of, family_of

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "retr.encoders"

_FOLDER = Path(__file__).parent
_FAMILY = re.compile(r"[a-z][a-z0-9_]{0,39}")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def resolve(encoder: str | Encoder, options: EncoderOptions = EncoderOptions()) -> Encoder:  # noqa: B008
    """Return the encoder called by a name; an `Encoder` is returned as it is.

    Raises:
        InputError: there is no such family or model, or an option cannot be used.
        MissingExtraError: a library that the encoder needs is not installed.
    """
    if isinstance(encoder, Encoder):
        if options != EncoderOptions():
            given = ", ".join(options.to_json()) or "device"
            raise InputError(
                f"encoder {encoder.name!r} already exists, so {given} cannot be set here; "
                "set it when you create the encoder, or give the encoder's name"
            )
        return _consistent(encoder)
    if not isinstance(encoder, str):
        raise InputError(
            f"the encoder is a {type(encoder).__name__}; give a name such as 'static', an Encoder, "
            "or your own functions wrapped by from_functions"
        )
    _check(encoder, options)
    family = family_class(encoder)
    if options.long_text not in (None, "cut", *family.long_text_ways):
        ways = ", ".join(("cut", *family.long_text_ways))
        raise InputError(
            f"encoder {encoder!r}: unknown long_text {options.long_text!r}; use {ways}"
        )
    return _consistent(family.open(encoder, options))


def _consistent(encoder: Encoder) -> Encoder:
    """Refuse an encoder whose space does not match its kind, sparse or dense."""
    if isinstance(encoder, SparseEncoder) != encoder.space.sparse:
        said, given = ("weights", "vectors") if encoder.space.sparse else ("vectors", "weights")
        raise InputError(
            f"encoder {encoder.name!r}: it returns {given}, but its space says {said}; "
            f"set sparse={not encoder.space.sparse} in its Space"
        )
    return encoder


def families() -> list[str]:
    """Return the families that a name can begin with, sorted; imports none of them."""
    own = {file.stem for file in _FOLDER.glob("*.py") if _is_own(file.stem)}
    return sorted(own | _entry_points().keys())


def family_class(name: str) -> type[Encoder]:
    """Return the class that opens the encoder called `name`.

    Raises:
        InputError: there is no such family; the message suggests a likely one.
    """
    family = family_of(name)
    if _is_own(family):
        return _class_in_file(family)
    # Looked up second: reading every installed package's metadata takes longer than `static`.
    point = _entry_points().get(family)
    if point is not None:
        return _class_behind(point)
    raise InputError(_unknown(name, family))


def _check(name: str, options: EncoderOptions) -> None:
    """Refuse options that are wrong for every family, so that no family has to check."""
    if options.metric is not None:
        checked_metric(options.metric, f"encoder {name!r}")
    if options.max_length is not None and options.max_length < 1:
        raise InputError(
            f"encoder {name!r}: a max length of {options.max_length} leaves no text; "
            "give a number of tokens above 0"
        )


def _is_own(family: str) -> bool:
    """Return whether the file `family`.py holds a class of that family, without importing it."""
    file = _FOLDER / f"{family}.py"
    return (
        _FAMILY.fullmatch(family) is not None
        and file.is_file()
        and re.search(rf'^    family\b.*= "{family}"$', file.read_text("utf-8"), re.M) is not None
    )


def _entry_points() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP)}


def _class_in_file(family: str) -> type[Encoder]:
    module = importlib.import_module(f".{family}", __package__)
    found = [
        value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Encoder)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]
    if len(found) != 1 or found[0].family != family:
        # Not the user's fault, so not a RetrError: a file in this folder breaks the rule above.
        shown = ", ".join(f"{cls.__name__} of family {cls.family!r}" for cls in found) or "none"
        raise TypeError(
            f"{module.__name__} must hold one public Encoder of family {family!r}; found {shown}"
        )
    return found[0]


def _class_behind(point: EntryPoint) -> type[Encoder]:
    loaded = point.load()
    if not (isinstance(loaded, type) and issubclass(loaded, Encoder)):
        problem = "is not an Encoder class"
    elif getattr(loaded, "family", None) != point.name:
        problem = f"has the family {getattr(loaded, 'family', None)!r}, which must be its name"
    else:
        return loaded
    package = point.dist.name if point.dist is not None else point.value
    raise InputError(
        f"encoder family {point.name!r} of package {package}: the entry point {point.value!r} "
        f"{problem}; update or remove that package"
    )


def _unknown(name: str, family: str) -> str:
    if not name.strip():
        return f"the encoder's name is {name!r}; known: {', '.join(families())}"
    bare, _ = cut_of(name)
    folder = existing_folder(bare)
    if folder is not None and (folder / "modules.json").is_file():
        return f"{name!r} is a sentence-transformers model: write 'st:{name}'"
    if folder is not None and (folder / "open_clip_config.json").is_file():
        return f"{name!r} is an open_clip model: write 'clip:{name}'"
    if _HUB_NAME.fullmatch(bare):
        return f"{name!r} looks like a sentence-transformers model: write 'st:{name}'"

    from difflib import get_close_matches

    known = families()
    close = get_close_matches(family.lower(), known, n=1, cutoff=0.6)
    if close:
        meant = close[0] + name[len(family) :]
        return f"there is no encoder {name!r}; did you mean {meant!r}? Known: {', '.join(known)}"
    hint = "" if ":" in name else f"; a sentence-transformers model is written 'st:{name}'"
    return f"there is no encoder {name!r}; known: {', '.join(known)}{hint}"
