"""The systems that `retr bench ann` compares, one file each; the file's name is the system's.

What follows a colon chooses among the ways a system is run: `exact:blas`, `lancedb:default`,
`retr:hnsw@192`, `retr:auto@0.95`.

May import retrieval and indexes, and nothing else of benchmarks. No peer imports another.
"""

from __future__ import annotations

import importlib
import pkgutil

from ....retrieval.values.errors import InputError
from .base import Peer

__all__ = ["Peer", "default_systems", "name_of", "peer", "peers"]


def default_systems(dim: int) -> list[str]:
    """Return what is compared by default: every system, and our kinds at half of `dim`.

    Cheap ones come first, so that a run which is stopped has something to show.
    """
    half = max(1, dim // 2)
    ours = ["retr:hnsw", f"retr:hnsw@{half}", f"retr:flat@{half}", "retr:ivfpq"]
    autos = [f"retr:auto@{recall}" for recall in ("0.90", "0.95", "0.99")]
    others = ["hnswlib", "usearch", "faiss_hnsw", "faiss_ivf", "scann"]
    slow = ["lancedb", "lancedb:ivf_pq", "lancedb:default", "qdrant"]
    return ["exact:faiss", "exact:blas", *ours, *others, *autos, *slow]


def peers() -> list[str]:
    """Return the names of all systems, sorted; none of their libraries is imported."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if name != "base" and not name.startswith("_"))


def name_of(system: str) -> tuple[str, str]:
    """Return the name of a system and the option after its colon, "" for none."""
    name, _, option = system.partition(":")
    return name, option


def peer(system: str) -> type[Peer]:
    """Return the class of a system such as "hnswlib" or "retr:auto@0.95".

    Raises:
        InputError: there is no such system, or it has no such option.
    """
    name, option = name_of(system)
    if name not in peers():
        raise InputError(f"there is no system {name!r}; there are {', '.join(peers())}")
    module = importlib.import_module(f".{name}", __name__)
    found: type[Peer] = next(
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    )
    found.check(option)
    return found
