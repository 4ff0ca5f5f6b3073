"""What the runs of `retr bench ann` say: points, who is ahead at a recall, and Matryoshka's ratios.

Nothing is interpolated: what a system takes for a recall is the cheapest setting measured whose
recall is that or more. Figures of several rounds are the median over them.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ...indexes.spec import IndexSpec, SpecError
from ...retrieval.values.errors import DamagedError, InputError
from .suite import ABOUT, BUILD, FAILED, FORMAT

RECALLS = (0.90, 0.95, 0.99)
_AUTO = "auto@"


class Measure(StrEnum):
    """What systems are compared in."""

    CPU = "cpu"  # microseconds of CPU that one query takes, median over queries, one thread
    RATE = "rate"  # queries a second in a batch, all threads


@dataclass(frozen=True, slots=True)
class Point:
    """A system at one setting.

    recall, cpu_us, cpu_us_mean, wall_us: one query at a time on one thread.
    batch_recall, batch_cpu_us, rate:     all queries at once, the microseconds those of a query.
    """

    setting: str
    recall: float
    cpu_us: float
    cpu_us_mean: float
    wall_us: float
    batch_recall: float
    batch_cpu_us: float
    rate: float

    def of(self, measure: Measure) -> tuple[float, float]:
        """Return the recall and the value."""
        if measure is Measure.CPU:
            return self.recall, self.cpu_us
        return self.batch_recall, self.rate


@dataclass(frozen=True, slots=True)
class System:
    """A system over one base; with `failed` set there is nothing else.

    anonymous, mapped: resident bytes after all searches, less those of the process before; None
                       where the operating system does not say.
    disk:              bytes of the index and of the vectors that it reads.
    flaws:             answers that were no row of the base, or stood twice.
    """

    name: str
    label: str
    failed: str | None = None
    points: tuple[Point, ...] = ()
    parameters: Mapping[str, Any] | None = None
    versions: Mapping[str, str] | None = None
    graph: bool = False
    build_cpu_s: float | None = None
    build_wall_s: float | None = None
    peak: int | None = None
    tuning: Mapping[str, Any] | None = None
    index_bytes: int | None = None
    disk: int | None = None
    anonymous: int | None = None
    mapped: int | None = None
    open_s: float | None = None
    flaws: int = 0
    rounds: int = 0
    load: float | None = None

    @property
    def ours(self) -> bool:
        """Whether it is retr."""
        return self.name.startswith("retr:")

    @property
    def exact(self) -> bool:
        """Whether it is the yardstick."""
        return self.name.startswith("exact:")

    @property
    def asked(self) -> float | None:
        """The recall that `auto` was asked for."""
        option = self.name.partition(":")[2]
        return float(option.removeprefix(_AUTO)) if option.startswith(_AUTO) else None

    @property
    def spec(self) -> IndexSpec | None:
        """The index, where it is ours."""
        if not self.ours or not self.parameters:
            return None
        try:
            return IndexSpec.parse(str(self.parameters["spec"]))
        except (SpecError, KeyError):
            return None

    def at(self, recall: float, measure: Measure) -> Point | None:
        """Return the cheapest setting that has the recall, None where none does."""
        reached = [point for point in self.points if point.of(measure)[0] >= recall]
        if not reached:
            return None
        if measure is Measure.CPU:
            return min(reached, key=lambda point: point.cpu_us)
        return max(reached, key=lambda point: point.rate)

    def front(self, measure: Measure) -> list[Point]:
        """Return the settings that none other beats in both, by ascending recall."""
        sign = 1 if measure is Measure.CPU else -1
        kept: list[Point] = []
        for point in sorted(
            self.points, key=lambda p: (-p.of(measure)[0], sign * p.of(measure)[1])
        ):
            if not kept or sign * point.of(measure)[1] < sign * kept[-1].of(measure)[1]:
                kept.append(point)
        return kept[::-1]


@dataclass(frozen=True, slots=True)
class Cell:
    """A system at a recall: its name, the recall it has there, and the value."""

    system: str
    recall: float
    value: float


@dataclass(frozen=True, slots=True)
class Winner:
    """Who is ahead at a recall, in one measure.

    best:   the best system that is not ours; None where none has the recall.
    auto:   what `auto` chose for this recall, with the recall it has, be it too low.
    fixed:  the best of our fixed specs.
    ratio:  how many times better `auto` is than `best`; None where it misses the recall.
    fixed_ratio: the same of `fixed`.
    """

    recall: float
    measure: Measure
    best: Cell | None
    auto: Cell | None
    fixed: Cell | None
    ratio: float | None
    fixed_ratio: float | None


@dataclass(frozen=True, slots=True)
class Build:
    """What `auto` built for a recall against the cheapest graph that reaches it, in CPU seconds."""

    recall: float
    auto: float | None
    graph: str | None
    graph_s: float | None


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times fewer CPU microseconds the second takes than the first, at a recall."""

    recall: float
    first: Cell
    second: Cell

    @property
    def times(self) -> float:
        """The ratio."""
        return self.first.value / self.second.value


@dataclass(frozen=True, slots=True)
class Dataset:
    """All systems over one base."""

    about: Mapping[str, Any]
    k: int
    threads: int
    systems: tuple[System, ...]
    winners: tuple[Winner, ...]
    builds: tuple[Build, ...]
    exact: Ratio | None
    prefixes: tuple[Ratio, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The whole report."""

    datasets: tuple[Dataset, ...]
    environment: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        values = asdict(self)
        for data in values["datasets"]:
            for ratio in filter(None, (data["exact"], *data["prefixes"])):
                ratio["times"] = ratio["first"]["value"] / ratio["second"]["value"]
        return values


def collect(out: Path) -> Comparison:
    """Return the comparison of an output folder, derived from the raw results alone.

    Raises:
        InputError: there are none.
        DamagedError: a file of them cannot be read.
    """
    datasets, environments = [], []
    for path in sorted(out.glob(f"*/{ABOUT}")):
        data, environment = _dataset(path)
        datasets.append(data)
        environments += environment
    if not environments:
        raise InputError(f"{out}: holds no results; make some with: retr bench ann --out {out}")
    newest = max(environments, key=lambda each: str(each["time"]))
    return Comparison(tuple(sorted(datasets, key=_order)), newest)


def _order(data: Dataset) -> tuple[Any, ...]:
    return data.about["title"], data.about["dim"], data.about["rows"]


def _dataset(path: Path) -> tuple[Dataset, list[Mapping[str, Any]]]:
    systems, environments, keys = [], [], []
    for folder in sorted(each for each in path.parent.iterdir() if each.is_dir()):
        build = _read(folder / BUILD) if (folder / BUILD).exists() else None
        if build:
            environments.append(build["environment"])
            keys.append(build)
        system = _system(folder, build)
        if system is not None:
            systems.append(system)
    key = keys[0] if keys else {"k": 0, "threads": 0}
    names = {system.name: system for system in systems}
    winners = [_winner(systems, r, m) for m in Measure for r in RECALLS]
    data = Dataset(
        about=_read(path),
        k=int(key["k"]),
        threads=int(key["threads"]),
        systems=tuple(names.values()),
        winners=tuple(w for w in winners if w.best or w.auto or w.fixed),
        builds=tuple(_builds(systems)),
        exact=_against_exact(systems),
        prefixes=tuple(_against_full(systems)),
    )
    return data, environments


def _system(folder: Path, build: Mapping[str, Any] | None) -> System | None:
    if (folder / FAILED).exists():
        failed = _read(folder / FAILED)
        label = build["label"] if build else failed["system"]
        return System(str(failed["system"]), str(label), failed=str(failed["failed"]))
    if build is None:
        return None
    singles = [_read(file) for file in sorted(folder.glob("single-*.json"))]
    batches = [_read(file) for file in sorted(folder.glob("batch-*.json"))]
    if not singles or not batches:
        return None
    every = [point for each in (*singles, *batches) for point in each["points"]]
    anonymous, mapped = (_grown(singles, name) for name in ("anonymous", "mapped"))
    return System(
        name=build["system"],
        label=build["label"],
        points=tuple(_points(singles, batches)),
        parameters=build["parameters"],
        versions=build["versions"],
        graph=build["graph"],
        build_cpu_s=build["cpu_s"],
        build_wall_s=build["wall_s"],
        peak=build["peak_bytes"],
        tuning=build["tuning"],
        index_bytes=build["index_bytes"],
        disk=build["index_bytes"] + build["vector_bytes"],
        anonymous=anonymous,
        mapped=mapped,
        open_s=statistics.median(each["open_wall_s"] for each in singles),
        flaws=sum(point["invalid"] + point["repeated"] for point in every),
        rounds=len(singles),
        load=max(each["load"] for each in (*singles, *batches)),
    )


def _points(
    singles: Sequence[Mapping[str, Any]], batches: Sequence[Mapping[str, Any]]
) -> Iterable[Point]:
    for number, first in enumerate(singles[0]["points"]):
        alone = [each["points"][number] for each in singles]
        together = [each["points"][number] for each in batches]
        middle = {
            name: statistics.median(point[name] for point in alone)
            for name in ("recall", "cpu_us", "cpu_us_mean", "wall_us")
        }
        yield Point(
            setting=", ".join(f"{name} {value}" for name, value in first["setting"].items()),
            batch_recall=statistics.median(point["recall"] for point in together),
            batch_cpu_us=statistics.median(point["cpu_us"] for point in together),
            rate=statistics.median(point["qps"] for point in together),
            **middle,
        )


def _grown(singles: Sequence[Mapping[str, Any]], name: str) -> int | None:
    found = [each["memory"] for each in singles]
    if any(each["before"] is None for each in found):
        return None
    grown = statistics.median(e["searched"][name] - e["before"][name] for e in found)
    return max(0, int(grown))


def _winner(systems: Sequence[System], recall: float, measure: Measure) -> Winner:
    best = _best((s for s in systems if not s.ours), recall, measure)
    fixed = _best((s for s in systems if s.ours and s.asked is None), recall, measure)
    chosen = next((s for s in systems if s.asked == recall and s.points), None)
    auto = None
    if chosen is not None:
        met = chosen.at(recall, measure)
        point = met or max(chosen.points, key=lambda p: p.of(measure)[0])
        auto = Cell(chosen.name, *point.of(measure))
    return Winner(
        recall, measure, best, auto, fixed, _times(auto, best, recall, measure),
        _times(fixed, best, recall, measure),
    )  # fmt: skip


def _times(ours: Cell | None, best: Cell | None, recall: float, measure: Measure) -> float | None:
    if ours is None or best is None or ours.recall < recall:
        return None
    times = best.value / ours.value
    return times if measure is Measure.CPU else 1 / times


def _best(systems: Iterable[System], recall: float, measure: Measure) -> Cell | None:
    cells = [
        Cell(system.name, *point.of(measure))
        for system in systems
        if (point := system.at(recall, measure)) is not None
    ]
    if not cells:
        return None
    sign = 1 if measure is Measure.CPU else -1
    return min(cells, key=lambda cell: sign * cell.value)


def _builds(systems: Sequence[System]) -> Iterable[Build]:
    for recall in RECALLS:
        auto = next((s for s in systems if s.asked == recall and s.points), None)
        graphs = [s for s in systems if s.graph and s.at(recall, Measure.CPU)]
        graph = min(graphs, key=lambda s: s.build_cpu_s or 0.0, default=None)
        if auto is not None:
            yield Build(
                recall, auto.build_cpu_s, graph.name if graph else None,
                graph.build_cpu_s if graph else None,
            )  # fmt: skip


def _against_exact(systems: Sequence[System]) -> Ratio | None:
    """Return the ratio of exact search to Matryoshka re-ranking, at a recall of 0.99."""
    recall = RECALLS[-1]
    exact = _best((s for s in systems if s.exact), recall, Measure.CPU)
    ours = _best((s for s in systems if s.spec and s.spec.dims), recall, Measure.CPU)
    return Ratio(recall, exact, ours) if exact and ours else None


def _against_full(systems: Sequence[System]) -> Iterable[Ratio]:
    """Yield, for each kind and recall, the ratio of full vectors to the best of its prefixes."""
    ours = [(s, s.spec) for s in systems if s.spec is not None]
    for kind in dict.fromkeys(spec.kind for _, spec in ours):
        for recall in RECALLS:
            full = _best(
                (s for s, spec in ours if spec.kind == kind and not spec.dims), recall, Measure.CPU
            )
            prefix = _best(
                (s for s, spec in ours if spec.kind == kind and spec.dims), recall, Measure.CPU
            )
            if full and prefix:
                yield Ratio(recall, full, prefix)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path}: cannot be read ({error}); remove {path.parent}") from error
    if not isinstance(values, dict) or values.get("format", FORMAT) != FORMAT:
        raise DamagedError(f"{path}: is not as this retr writes it; remove {path.parent}")
    return values
