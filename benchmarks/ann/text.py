"""A comparison as tables: for the terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .. import environment
from ..tables import Table, number
from .results import RECALLS, Cell, Comparison, Dataset, Measure, Point, System, Winner

_Value = Callable[[Point], float]

HOW = (
    "Recall is computed from the row numbers a system returns and their true scores; ties count "
    "as found, and nothing a system claims is used. One query: the median over queries of the CPU "
    "time of the whole process on one pinned thread, after a warm-up; settings take turns of a "
    "hundred queries, never the ones that the setting before was just asked. All systems of a "
    "round are open at once and take turns of a quarter of a second, because other work changes "
    "the speed of a machine. Batch: all queries in one call, on all threads. The figure at a "
    "recall is that of the cheapest measured setting with at least that recall, never "
    "interpolated. Other systems are swept over their own parameters and shown at their best "
    "setting in hindsight; `auto` was tuned on other queries and runs at the one operating point "
    "it chose. A ratio above 1 means that retr is ahead."
)
MATRYOSHKA = (
    "CPU time of one query. Against exact search: the faster of FAISS's flat index and a BLAS "
    "product. Against full vectors: the same kind of index over all dimensions, each at its "
    "cheapest setting with that recall."
)


def title_of(data: Dataset) -> str:
    """Return the name of the vectors and what they are."""
    about = data.about
    return f"{about['name']}: {about['rows']:,} x {about['dim']}, {about['metric']}, top {data.k}"


def origin_of(data: Dataset) -> str:
    """Return where the vectors are from, in a sentence or two."""
    about = data.about
    parts = [f"{about['queries']:,} queries; {about['tuning']:,} others for tuning."]
    if about["real"] < about["rows"]:
        grown = about["rows"] - about["real"]
        parts.append(
            f"{about['real']:,} rows are as they were read; {grown:,} are grown from them by "
            "mixing neighbours (benchmarks/ann/grow.py)."
        )
    if about["lift"]:
        parts.append(
            f"All vectors are lifted to {about['lift']} dimensions by random Fourier features "
            "(benchmarks/ann/grow.py)."
        )
    shares = ", ".join(f"{share:.2f}" for share in about["energy"])
    parts.append(f"An eighth, a quarter, a half of the principal dimensions hold {shares}.")
    if about["agreement"] is not None:
        parts.append(f"The neighbours that the file names have recall {about['agreement']:.4f}.")
    parts.append(f"Threads of a batch and a build: {data.threads}. Digest {about['digest']}.")
    return " ".join(parts)


def winners(data: Dataset) -> Table:
    """Return who is ahead at each recall."""
    head = ["recall", "measure", "best other", "", "retr auto", "its recall", "ratio",
            "retr, best spec", "", "ratio"]  # fmt: skip
    return Table(head, list(map(_winner, data.winners)), "Who is ahead")


def _winner(each: Winner) -> list[str]:
    def value(cell: Cell) -> str:
        return f"{cell.value:,.0f}{' µs' if each.measure is Measure.CPU else '/s'}"

    def named(cell: Cell | None, none: str = "") -> list[str]:
        return [none, ""] if cell is None else [cell.label, value(cell)]

    auto = ["", ""]
    if each.auto is not None:
        low = " (too low)" if each.auto.recall < each.recall else ""
        auto = [value(each.auto), f"{each.auto.recall:.4f}{low}"]
    name = "one query" if each.measure is Measure.CPU else "batch"
    return [f"{each.recall:.2f}", name, *named(each.best, "none reaches it"), *auto,
            number(each.ratio, 2), *named(each.fixed), number(each.fixed_ratio, 2)]  # fmt: skip


def at_recalls(data: Dataset) -> Table:
    """Return what each system takes at each recall, and what it costs to have."""
    head = ["system", *(f"{r:.2f}" for r in RECALLS), "build CPU s", "build s", "tuning CPU s",
            "disk MB", "anonymous MB", "mapped MB", "open s"]  # fmt: skip
    rows = []
    for system in data.systems:
        if system.failed is not None:
            rows.append([system.label, system.failed, *[""] * (len(head) - 2)])
            continue
        cells = [_both(system, recall) for recall in RECALLS]
        tuning = system.tuning["cpu_s"] if system.tuning else None
        rows.append(
            [_label(system), *cells, number(system.build_cpu_s, 1), number(system.build_wall_s, 1),
             number(tuning, 1), *map(_megabytes, (system.disk, system.anonymous, system.mapped)),
             number(system.open_s, 2)]
        )  # fmt: skip
    note = "CPU µs of one query / queries a second in a batch, at the recall."
    return Table(head, rows, "At each recall", [note])


def processor_times(data: Dataset) -> Table:
    """Return the CPU microseconds of a query at each recall, of the settings that take least."""
    measures: tuple[tuple[str, _Value, _Value], ...] = (
        ("one query, median", lambda p: p.recall, lambda p: p.cpu_us),
        ("mean", lambda p: p.recall, lambda p: p.cpu_us_mean),
        ("in a batch", lambda p: p.batch_recall, lambda p: p.batch_cpu_us),
    )
    head = ["system", *(f"{recall:.2f}: {name}" for recall in RECALLS for name, *_ in measures)]
    rows = []
    for system in data.systems:
        row = [system.label]
        for recall in RECALLS:
            for _, found, spent in measures:
                times = [spent(point) for point in system.points if found(point) >= recall]
                row.append(f"{min(times):,.0f}" if times else "")
        rows.append(row)
    note = (
        "CPU µs of a query: the median and the mean of single ones, and in a batch, where all "
        "threads count. On a busy machine it says more than queries a second."
    )
    return Table(head, rows, "Processor time", [note])


def settings(data: Dataset) -> Table:
    """Return every setting of every system; those on its Pareto front are marked."""
    head = ["system", "setting", "front", "recall", "CPU µs", "mean", "wall µs", "batch recall",
            "batch CPU µs", "q/s"]  # fmt: skip
    rows = []
    for system in data.systems:
        fronts = {m: {id(p) for p in system.front(m)} for m in Measure}
        for point in system.points:
            marks = [str(m) for m in Measure if id(point) in fronts[m]]
            rows.append(
                [system.label, point.setting, ", ".join(marks), f"{point.recall:.4f}",
                 *(f"{v:,.0f}" for v in (point.cpu_us, point.cpu_us_mean, point.wall_us)),
                 f"{point.batch_recall:.4f}", f"{point.batch_cpu_us:,.0f}", f"{point.rate:,.0f}"]
            )  # fmt: skip
    return Table(head, rows, "Every setting")


def builds(data: Dataset) -> Table:
    """Return what `auto` cost to build beside the cheapest graph that reaches the recall."""
    head = ["recall", "retr auto, build CPU s", "cheapest graph that reaches it", "build CPU s"]
    rows = [
        [f"{b.recall:.2f}", number(b.auto, 1), b.graph or "none", number(b.graph_s, 1)]
        for b in data.builds
    ]
    return Table(head, rows, "What a build costs")


def ratios(data: Dataset) -> Table:
    """Return Matryoshka's ratios."""
    head = ["recall", "", "CPU µs", "its recall", "prefix", "CPU µs", "its recall", "times"]
    rows = []
    for each in filter(None, (data.exact, *data.prefixes)):
        cells = [(c.label, f"{c.value:,.0f}", f"{c.recall:.4f}") for c in (each.first, each.second)]
        rows.append([f"{each.recall:.2f}", *cells[0], *cells[1], f"{each.times:.1f}"])
    return Table(head, rows, "Matryoshka", [MATRYOSHKA])


def flaws(data: Dataset) -> Iterable[str]:
    """Yield what was wrong with answers, and other warnings."""
    for system in data.systems:
        if system.flaws:
            yield (
                f"{system.label}: {system.flaws:,} answers were no row of the base, or stood "
                "twice; they count as not found."
            )
    loads = [system.load for system in data.systems if system.load is not None]
    if loads and max(loads) > data.threads + 1:
        yield (
            f"The machine was busy with other work (load up to {max(loads):.1f}): wall times and "
            "throughput are too low, CPU times somewhat too high."
        )


def parameters(comparison: Comparison) -> Table:
    """Return how each system was built."""
    found: dict[tuple[str, str], str] = {}
    for data in comparison.datasets:
        for system in data.systems:
            if system.parameters is not None:
                shown = ", ".join(f"{n} {v}" for n, v in system.parameters.items())
                found[data.about["name"], system.label] = shown or "nothing to choose"
    rows = [[*key, value] for key, value in found.items()]
    return Table(["vectors", "system", "parameters"], rows, "How each was built")


def machine(comparison: Comparison) -> Table:
    """Return the machine, and the versions of all systems' libraries."""
    systems = [system for data in comparison.datasets for system in data.systems]
    versions = [pair for system in systems for pair in (system.versions or {}).items()]
    items = {**dict(environment.items(comparison.environment)), **dict(sorted(versions))}
    return Table(["", ""], [list(item) for item in items.items()], "Machine and versions")


def main_tables(data: Dataset) -> Iterable[Table]:
    """Yield the tables of a base that are read first."""
    if data.winners:
        yield winners(data)
    yield at_recalls(data)
    yield processor_times(data)
    if data.builds:
        yield builds(data)
    if data.exact or data.prefixes:
        yield ratios(data)


def records(comparison: Comparison) -> Iterable[dict[str, Any]]:
    """Yield an object for each winner, system and ratio, for `--json`."""
    values = comparison.to_dict()
    for data in values["datasets"]:
        name = data["about"]["name"]
        for part in ("systems", "winners", "builds", "prefixes"):
            for each in data[part]:
                yield {"dataset": name, "what": part, **each}
        if data["exact"]:
            yield {"dataset": name, "what": "exact", **data["exact"]}


def _label(system: System) -> str:
    if system.tuning is None or system.parameters is None:
        return system.label
    return f"{system.label}: {system.parameters['spec']}"


def _both(system: System, recall: float) -> str:
    alone, together = (system.at(recall, measure) for measure in Measure)
    if alone is None and together is None:
        return "not reached"
    return " / ".join(
        "–" if point is None else f"{point.of(measure)[1]:,.0f}"
        for point, measure in zip((alone, together), Measure, strict=True)
    )


def _megabytes(size: int | None) -> str:
    return number(None if size is None else size / 1e6)
