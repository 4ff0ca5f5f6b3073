"""What the harness asks of a system: build and save, open, then answer at each of its settings.

A system lives in processes of its own: one builds and saves it, others open what was saved. It
answers with row numbers; how good they are the harness finds out by itself. A system's library is
imported by its methods, so that its name and settings are known without it. What a method does is
said here, once for all systems.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ....indexes.base import Floats, Metric
from ....retrieval.values.errors import InputError

Setting = Mapping[str, int | float | str]
Rows = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Task:
    """What every system is given.

    rows, dim: the shape of the base.
    metric:    how vectors are compared; for cosine all have unit length already.
    k:         how many neighbours are wanted.
    threads:   how many threads may compute, in building or in searching.
    """

    rows: int
    dim: int
    metric: Metric
    k: int
    threads: int

    @property
    def inner_product(self) -> bool:
        """Whether a larger inner product is nearer; else a smaller Euclidean distance is."""
        return self.metric is not Metric.L2


class Peer(ABC):
    """One system, run in one way.

    title:         what it is, in a few words, for the report.
    packages:      what has to be installed for it; their versions are noted.
    reads_vectors: whether its search also reads the file of the base, which then counts as its
                   bytes on disk.
    graph:         whether it is a graph, as those are whose build is costly.
    options:       what may follow its name after a colon; "" if nothing has to.
    sweep:         what is set for a search, and the values of each, fastest first.
    queues:        those of `sweep` that hold candidates, and so have to be k or more.
    setting:       the one that `use` was given last.
    """

    title: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    reads_vectors: ClassVar[bool] = False
    graph: ClassVar[bool] = False
    options: ClassVar[tuple[str, ...]] = ("",)
    sweep: ClassVar[tuple[tuple[str, tuple[int, ...]], ...]] = ()
    queues: ClassVar[tuple[str, ...]] = ()

    def __init__(self, task: Task, option: str = "") -> None:
        self.task = task
        self.option = option
        self.setting: Setting = {}

    @classmethod
    def check(cls, option: str) -> None:
        """Refuse an option that means nothing here.

        Raises:
            InputError: it is none of `options`.
        """
        if option not in cls.options:
            name = cls.__module__.rpartition(".")[2]
            known = ", ".join(f"{name}:{o}" if o else name for o in cls.options)
            raise InputError(f"there is no system '{name}:{option}'; there are {known}")

    def label(self) -> str:
        """Return what it is in this option, in a few words."""
        return self.title

    @classmethod
    def tunes(cls, option: str) -> bool:
        """Return whether it chooses for itself what to build."""
        return False

    def tune(self, base: Floats, queries: Floats, folder: Path) -> dict[str, Any]:
        """Choose what is to be built, if the system chooses for itself; timed apart.

        base:    f32[n, dim], mapped.
        queries: f32[q, dim], none of which is searched for in the benchmark.
        Returns JSON values for the report.
        """
        return {}

    @abstractmethod
    def build(self, base: Floats, folder: Path) -> dict[str, Any]:
        """Build over f32[n, dim] and save into the empty folder; return the parameters as JSON."""

    @abstractmethod
    def open(self, base: Floats, folder: Path) -> None:
        """Open what `build` saved; `base` is mapped, for those that read it as they search."""

    def settings(self) -> Sequence[Setting]:
        """Return the settings to search at, fastest first; asked for after `open`."""
        names = [name for name, _ in self.sweep]
        each = itertools.product(*(values for _, values in self.sweep))
        settings = [dict(zip(names, values, strict=True)) for values in each]
        return [setting for setting in settings if self.allows(setting)]

    def allows(self, setting: Mapping[str, int]) -> bool:
        """Return whether a combination of the sweep makes sense here."""
        return all(setting[name] >= self.task.k for name in self.queues)

    def use(self, setting: Setting) -> None:
        """Search at this setting from now on; not timed."""
        self.setting = setting

    @abstractmethod
    def batch(self, queries: Floats) -> Rows:
        """Return the k nearest rows to each of f32[q, dim], i[q, k]; -1 fills up what is short."""

    def one(self, query: Floats) -> Rows:
        """Return the k nearest rows to f32[1, dim] in the fastest way it has, i[k] or i[1, k]."""
        return self.batch(query)

    def filled(self, rows: Sequence[int] | Rows) -> Rows:
        """Return at most k rows as i64[k], with -1 behind the last."""
        found = np.full(self.task.k, -1, np.int64)
        found[: len(rows)] = rows
        return found
