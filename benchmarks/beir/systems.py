"""The ways to search that `retr bench beir` compares, and what the figures of each depend on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...retrieval.encoders.base import Encoder, Space
from ...retrieval.search.plan import Mode
from ...retrieval.text.analysis import analyzer
from ...retrieval.values.fusion import Fusion, default_fusion
from ...retrieval.values.settings import DEFAULT_LANGUAGE, TermSettings


@dataclass(frozen=True, slots=True)
class System:
    """One way to search a collection.

    name:  in the names of folders and runs.
    label: as reports print it.
    row:   its kind: "hybrid", "lexical", "dense" or "sparse"; published figures stand beside
           their own.
    mode:  of `Collection.search`.
    spec:  the index; None searches exactly.
    """

    name: str
    label: str
    row: str
    mode: Mode
    spec: str | None = None


HYBRID = System("hybrid", "hybrid", "hybrid", Mode.HYBRID)
LEXICAL = System("lexical", "BM25", "lexical", Mode.LEXICAL)
DENSE = System("dense", "dense, exact", "dense", Mode.DENSE)
SPARSE = System("sparse", "sparse encoder", "sparse", Mode.DENSE)


def systems(spec: str | None, *, sparse: bool = False) -> tuple[System, ...]:
    """Return the systems of a run: what users get, each side of it alone, and with an index.

    spec:   of the index; None leaves those systems out.
    sparse: whether the encoder gives weights of words, which have no index.
    """
    found = [HYBRID, LEXICAL, SPARSE if sparse else DENSE]
    if spec is not None and not sparse:
        slug = re.sub(r"[^a-z0-9.-]+", "_", spec).strip("_")
        found += [
            replace(DENSE, name=f"dense-{slug}", label=f"dense, {spec}", spec=spec),
            replace(HYBRID, name=f"hybrid-{slug}", label=f"hybrid, {spec}", spec=spec),
        ]
    return tuple(found)


def exact(system: System) -> System:
    """Return the system without an index that one with an index is compared with."""
    return next(each for each in (HYBRID, DENSE) if each.row == system.row)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the figures of a system depend on, beside the data, k and limit; None is on nothing.

    encoder: {"name", "options", "query_prompt", "space"}.
    words:   how texts become terms and how those are scored, see `TermSettings`.
    fusion:  how the two sides are weighed, see `Fusion`.
    """

    encoder: Mapping[str, Any] | None
    words: Mapping[str, Any] | None
    fusion: Mapping[str, Any] | None

    @classmethod
    def of(cls, system: System, encoder: Encoder) -> Settings:
        """Return them for a system with this encoder, in a collection as one is built now."""
        space = encoder.space
        return cls(
            None if system.mode is Mode.LEXICAL else _described(encoder),
            None if system.mode is Mode.DENSE else words_of_new().to_json(),
            fusion_of_new(space).to_json() if system.mode is Mode.HYBRID else None,
        )

    @property
    def label(self) -> str:
        """What begins the name of a folder: the encoder or the analyser, the rest as digits."""
        if self.encoder is None:
            return f"{_slug(str((self.words or {})['analyzer']))}-{digits(self.words)[:8]}"
        space = Space.from_json(self.encoder["space"])
        short = _slug(str(self.encoder["name"]).rstrip("/").rsplit("/", 1)[-1])
        if not short.startswith(space.family):
            short = f"{space.family}-{short}"
        return f"{short.strip('-')}-{digits(self._parts())[:8]}"

    @property
    def key(self) -> str:
        """Stands for all of them, whatever name the encoder was given."""
        return digits(self._parts())

    def _parts(self) -> list[Any]:
        parts: list[Any] = []
        if self.encoder is not None:
            parts.append(space_key(Space.from_json(self.encoder["space"])))
            parts += [self.encoder["query_prompt"], self.encoder["options"]]
        return parts + [each for each in (self.words, self.fusion) if each is not None]


def words_of_new() -> TermSettings:
    """Return how the texts of a collection that is built now become terms."""
    return TermSettings(analyzer(DEFAULT_LANGUAGE).name)


def fusion_of_new(space: Space) -> Fusion:
    """Return how the two sides of a collection that is built now are weighed."""
    return default_fusion(space.family)


def space_key(space: Space) -> str:
    """Return 12 hex digits that stand for a space, whatever name its encoder was given."""
    values = {name: value for name, value in space.to_json().items() if name != "encoder"}
    if not space.sparse:
        del values["sparse"]  # spaces were not told apart by it before there were sparse ones
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=6).hexdigest()


def digits(values: object) -> str:
    """Return 32 hex digits that stand for some values."""
    data = json.dumps(values, sort_keys=True, default=str).encode()
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _described(encoder: Encoder) -> dict[str, Any]:
    query_prompt = getattr(encoder, "query_prompt", None)
    return {
        "name": encoder.name,
        "options": encoder.options.to_json(),
        "query_prompt": encoder.options.query_prompt if query_prompt is None else query_prompt,
        "space": encoder.space.to_json(),
    }


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name)
