"""Opens the encoder of a collection, and checks that spaces and settings fit."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

from ...indexes.spec import IndexSpec
from ..encoders.base import Encoder, EncoderOptions, Space, family_of
from ..store.manifest import Manifest
from ..values.errors import InputError, SpaceMismatchError
from ..values.settings import AUTO, Settings


def stored_encoder(
    manifest: Manifest,
    given: str | Encoder | None,
    options: EncoderOptions | None,
    path: Path,
) -> Encoder:
    """Return the encoder given, or the collection's own by its stored name.

    Raises:
        SpaceMismatchError: the encoder is not of the collection's space.
    """
    from ..encoders import resolve

    stored, space = manifest.encoder, Space.from_json(manifest.spaces[manifest.space])
    # The options of the build hold, except those given now (a device, say). A different name
    # means a different encoder, unless it is the same model in another place.
    asked = options or EncoderOptions()
    named = {f.name: v for f in fields(asked) if (v := getattr(asked, f.name)) is not None}
    kept = replace(EncoderOptions(**stored.get("options", {})), **named)
    if isinstance(given, Encoder):
        encoder = resolve(given, asked)
    elif given is None or given == stored["name"]:
        encoder = resolve(str(stored["name"]), kept)
    else:
        encoder = resolve(given, kept if family_of(given) == space.family else asked)
    check_space(space, encoder.space, path)
    return encoder


def check_space(stored: Space, given: Space, path: object) -> None:
    """Refuse to mix two embedding spaces.

    Raises:
        SpaceMismatchError: they differ; the message names both.
    """
    if stored != given:
        raise SpaceMismatchError(
            f"{path}: the collection's vectors are of another space: it has [{stored}], "
            f"the encoder given makes [{given}]; leave out the encoder and its options, or "
            f"switch encoders with: retr upgrade start --to {given.encoder} --index {path}"
        )


def check_settings(space: Space, settings: Settings) -> None:
    """Refuse settings that do not fit the vectors of a space; a sparse space has no vectors.

    Raises:
        InputError: a setting does not fit.
    """
    if not space.sparse:
        dims = () if settings.spec == AUTO else IndexSpec.parse(settings.spec).dims
        if dims and dims[-1] >= space.dim:
            raise InputError(
                f"spec {settings.spec!r}: its prefix of {dims[-1]} is not shorter than the vectors "
                f"of {space.encoder!r}, which have {space.dim} dimensions; choose a shorter one"
            )
        return
    default = Settings()
    for name in ("spec", "dtype"):
        given = getattr(settings, name)
        if given != getattr(default, name):
            raise InputError(
                f"encoder {space.encoder!r}: its word weights are stored as postings, not as "
                f"vectors, so the {name} {given!r} has no meaning; leave it out"
            )
