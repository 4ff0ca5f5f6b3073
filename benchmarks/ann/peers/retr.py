"""retr itself: an index of a given spec, or what `auto` chooses for a recall.

`retr:hnsw@192` is swept over the operating points of the kind, as every other system is over its
settings. `retr:auto@0.95` is tuned first, on queries that are not searched for here, and then
answers at the one operating point that the tuning chose.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ....indexes import IndexSpec, SpecError, kind
from ....indexes.arrays import ArraySource
from ....indexes.base import Floats
from ....indexes.checkpoint import FileCheckpoint
from ....indexes.points import OperatingPoint
from ....retrieval.values.errors import InputError
from .base import Peer, Rows, Setting

_AUTO = "auto@"
_TUNED = "tuned.json"


class Retr(Peer):
    """An index, mapped from its file, that re-ranks on the file of the vectors."""

    title = "retr"
    packages = ("faiss-cpu",)
    reads_vectors = True
    options = ("SPEC", "auto@RECALL")

    @classmethod
    def check(cls, option: str) -> None:
        if option.startswith(_AUTO):
            _recall(option)
            return
        if not option:
            raise InputError("retr needs a spec or a recall: retr:hnsw@192, retr:auto@0.95")
        try:
            spec = IndexSpec.parse(option)
            kind(spec.kind).check(spec)
        except SpecError as error:
            raise InputError(f"retr:{option}: {error}") from error

    @classmethod
    def tunes(cls, option: str) -> bool:
        return option.startswith(_AUTO)

    def label(self) -> str:
        return f"retr {self.option}"

    def tune(self, base: Floats, queries: Floats, folder: Path) -> dict[str, Any]:
        from ....indexes.tuning.tune import tune

        self._threads()
        # Another recall may have built the same before; its checkpoints are whole indexes.
        shared = folder.parent / "checkpoints"
        shared.mkdir(exist_ok=True)

        def kept(spec: IndexSpec) -> FileCheckpoint:
            return FileCheckpoint(shared / f"{self.task.threads}-{spec}.faiss")

        tuned = tune(self._source(base), None, queries, _recall(self.option), checkpoint=kept)
        index = tuned.index
        if index is None:  # so few vectors that they are compared all
            index = kind("flat").build(self._source(base), IndexSpec("flat"))
        chosen = {
            "spec": str(index.spec),
            "points": [point.to_json() for point in index.points],
            "effort": index.default_effort,
            "recall": tuned.recall,
        }
        (folder / _TUNED).write_text(json.dumps(chosen))
        return chosen

    def build(self, base: Floats, folder: Path) -> dict[str, Any]:
        spec = self._spec(folder)
        # The same spec is built once for several recalls.
        for other in sorted(folder.parent.glob("retr_auto@*/index.faiss")):
            if self.tunes(self.option) and self._spec(other.parent) == spec:
                os.link(other, folder / "index.faiss")
                return {"spec": str(spec), "same_as": other.parent.name}
        self._threads()
        kind(spec.kind).build(self._source(base), spec).save(folder / "index.faiss")
        return {"spec": str(spec)}

    def open(self, base: Floats, folder: Path) -> None:
        self._threads()
        given: dict[str, Any] = {}
        if self.tunes(self.option):
            chosen = _chosen(folder)
            given["points"] = [OperatingPoint.from_json(each) for each in chosen["points"]]
            given["default_effort"] = chosen["effort"]
        spec, source = self._spec(folder), self._source(base)
        self._index = kind(spec.kind).load(folder / "index.faiss", source, spec, **given)

    def settings(self) -> Sequence[Setting]:
        points = [{"effort": i, **point.to_json()} for i, point in enumerate(self._index.points)]
        return [points[self._index.default_effort]] if self.tunes(self.option) else points

    def batch(self, queries: Floats) -> Rows:
        return self._index.search(
            queries, self.task.k, effort=int(self.setting["effort"])
        ).positions

    def _source(self, base: Floats) -> ArraySource:
        return ArraySource(base, self.task.metric)

    def _threads(self) -> None:
        from ....indexes.faiss import load_faiss

        load_faiss().omp_set_num_threads(self.task.threads)

    def _spec(self, folder: Path) -> IndexSpec:
        tuned = self.tunes(self.option)
        return IndexSpec.parse(_chosen(folder)["spec"] if tuned else self.option)


def _chosen(folder: Path) -> dict[str, Any]:
    chosen: dict[str, Any] = json.loads((folder / _TUNED).read_bytes())
    return chosen


def _recall(option: str) -> float:
    text = option.removeprefix(_AUTO)
    try:
        recall = float(text)
    except ValueError:
        recall = 0.0
    if not 0 < recall <= 1:
        raise InputError(f"retr:{option}: the recall is above 0 and up to 1, not {text!r}")
    return recall
