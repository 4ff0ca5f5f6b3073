"""What the runs of `retr bench ann` say: points, who is ahead at a recall, and Matryoshka's ratios.

Nothing is interpolated: a system at a recall is the cheapest setting measured that has at least
that recall. Figures of several rounds are the median over them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ...indexes.spec import IndexSpec, SpecError
from .gather import gather

RECALLS = (0.90, 0.95, 0.99)
_AUTO = "auto@"


class Measure(StrEnum):
    """What systems are compared in."""

    CPU = "cpu"  # microseconds of CPU that one query takes, median over queries, one thread
    RATE = "rate"  # queries a second in a batch, all threads

    def cost(self, value: float) -> float:
        """Return what is lower if the value is better."""
        return value if self is Measure.CPU else 1 / value


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
                       if the operating system does not say.
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
        """The index, if it is ours."""
        if not self.ours or not self.parameters:
            return None
        try:
            return IndexSpec.parse(str(self.parameters["spec"]))
        except (SpecError, KeyError):
            return None

    def at(self, recall: float, measure: Measure) -> Point | None:
        """Return the cheapest setting that has the recall, None if none does."""
        reached = [point for point in self.points if point.of(measure)[0] >= recall]
        return min(reached, key=lambda p: measure.cost(p.of(measure)[1]), default=None)

    def front(self, measure: Measure) -> list[Point]:
        """Return the settings that none other beats in both, by ascending recall."""
        kept: list[Point] = []
        cheapest = math.inf
        found = [(*point.of(measure), point) for point in self.points]
        for _, value, point in sorted(found, key=lambda f: (-f[0], measure.cost(f[1]))):
            if measure.cost(value) < cheapest:
                kept.append(point)
                cheapest = measure.cost(value)
        return kept[::-1]


@dataclass(frozen=True, slots=True)
class Cell:
    """A system at a recall: its name, what it is, the recall it has there, and the value."""

    system: str
    label: str
    recall: float
    value: float


@dataclass(frozen=True, slots=True)
class Winner:
    """Who is ahead at a recall, in one measure.

    best:   the best system that is not ours; None if none has the recall.
    auto:   what `auto` chose for this recall, with the recall it has, even if that is too low.
    fixed:  the best of our fixed specs.
    ratio:  how many times better `auto` is than `best`; None if it misses the recall.
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
    """Return the comparison of an output folder, derived from what the runs left alone.

    Raises:
        InputError: there are no results.
        DamagedError: a file of them cannot be read.
    """
    return derive(gather(out))


def derive(gathered: Mapping[str, Any]) -> Comparison:
    """Return the comparison of what `gather` returned, now or when it was kept in a file."""
    datasets = sorted(
        map(_dataset, gathered["datasets"]),
        key=lambda data: (data.about["title"], data.about["dim"], data.about["rows"]),
    )
    return Comparison(tuple(datasets), gathered["environment"])


def _dataset(found: Mapping[str, Any]) -> Dataset:
    systems = [system for each in found["systems"] if (system := _system(each)) is not None]
    winners = [_winner(systems, r, m) for m in Measure for r in RECALLS]
    first = next((each for each in found["systems"] if "build" in each), {"k": 0, "threads": 0})
    return Dataset(
        about=found["about"],
        k=int(first["k"]),
        threads=int(first["threads"]),
        systems=tuple(systems),
        winners=tuple(w for w in winners if w.best or w.auto or w.fixed),
        builds=tuple(_builds(systems)),
        exact=_against_exact(systems),
        prefixes=tuple(_against_full(systems)),
    )


def _system(found: Mapping[str, Any]) -> System | None:
    name, build = str(found["system"]), found.get("build")
    if "failed" in found:
        return System(name, build["label"] if build else name, failed=str(found["failed"]))
    singles, batches = found["single"], found["batch"]
    if build is None or not singles or not batches:
        return None
    every = [*singles, *batches]
    flaws = [each["points"][kind] for each in every for kind in ("invalid", "repeated")]
    return System(
        name=name,
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
        anonymous=_grown(singles, "anonymous"),
        mapped=_grown(singles, "mapped"),
        open_s=statistics.median(each["open_wall_s"] for each in singles),
        flaws=sum(map(sum, flaws)),
        rounds=len(singles),
        load=max(each["load"] for each in every),
    )


def _points(
    singles: Sequence[Mapping[str, Any]], batches: Sequence[Mapping[str, Any]]
) -> Iterable[Point]:
    for number, setting in enumerate(singles[0]["points"]["setting"]):

        def middle(rounds: Sequence[Mapping[str, Any]], name: str, number: int = number) -> float:
            return float(statistics.median(each["points"][name][number] for each in rounds))

        yield Point(
            setting=", ".join(f"{name} {value}" for name, value in setting.items()),
            recall=middle(singles, "recall"),
            cpu_us=middle(singles, "cpu_us"),
            cpu_us_mean=middle(singles, "cpu_us_mean"),
            wall_us=middle(singles, "wall_us"),
            batch_recall=middle(batches, "recall"),
            batch_cpu_us=middle(batches, "cpu_us"),
            rate=middle(batches, "qps"),
        )


def _grown(singles: Sequence[Mapping[str, Any]], name: str) -> int | None:
    found = [each["memory"] for each in singles]
    if any(each["before"] is None for each in found):
        return None
    grown = statistics.median(e["searched"][name] - e["before"][name] for e in found)
    return max(0, int(grown))


def _winner(systems: Sequence[System], recall: float, measure: Measure) -> Winner:
    def times(ours: Cell | None) -> float | None:
        if ours is None or best is None or ours.recall < recall:
            return None
        return measure.cost(best.value) / measure.cost(ours.value)

    best = _best((s for s in systems if not s.ours), recall, measure)
    fixed = _best((s for s in systems if s.ours and s.asked is None), recall, measure)
    auto = None
    if (chosen := _auto(systems, recall)) is not None:
        point = chosen.at(recall, measure) or max(chosen.points, key=lambda p: p.of(measure)[0])
        auto = Cell(chosen.name, chosen.label, *point.of(measure))
    return Winner(recall, measure, best, auto, fixed, times(auto), times(fixed))


def _auto(systems: Iterable[System], recall: float) -> System | None:
    return next((s for s in systems if s.asked == recall and s.points), None)


def _best(systems: Iterable[System], recall: float, measure: Measure = Measure.CPU) -> Cell | None:
    cells = [
        Cell(system.name, system.label, *point.of(measure))
        for system in systems
        if (point := system.at(recall, measure)) is not None
    ]
    return min(cells, key=lambda cell: measure.cost(cell.value), default=None)


def _builds(systems: Sequence[System]) -> Iterable[Build]:
    for recall in RECALLS:
        graphs = [s for s in systems if s.graph and s.at(recall, Measure.CPU)]
        graph = min(graphs, key=lambda s: s.build_cpu_s or 0.0, default=System("", ""))
        if (auto := _auto(systems, recall)) is not None:
            yield Build(recall, auto.build_cpu_s, graph.name or None, graph.build_cpu_s)


def _against_exact(systems: Sequence[System]) -> Ratio | None:
    """Return the ratio of exact search to Matryoshka re-ranking, at a recall of 0.99."""
    exact = _best((s for s in systems if s.exact), RECALLS[-1])
    ours = _best((s for s in systems if s.spec and s.spec.dims), RECALLS[-1])
    return Ratio(RECALLS[-1], exact, ours) if exact and ours else None


def _against_full(systems: Sequence[System]) -> Iterable[Ratio]:
    """Yield, for each kind and recall, the ratio of full vectors to the best of its prefixes."""
    ours = [(s, s.spec) for s in systems if s.spec is not None]
    for kind in dict.fromkeys(spec.kind for _, spec in ours):
        for recall in RECALLS:
            full = _best((s for s, p in ours if p.kind == kind and not p.dims), recall)
            prefix = _best((s for s, p in ours if p.kind == kind and p.dims), recall)
            if full and prefix:
                yield Ratio(recall, full, prefix)
