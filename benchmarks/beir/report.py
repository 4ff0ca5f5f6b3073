"""The report of a benchmark, as values: derived from what the runs left, without running anything.

`collect` reads an output folder, `derive` takes its entries; `write` leaves results.json, report.md
and report.html in the folder. How a report looks is in `blocks`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...retrieval.evaluation import Evaluation, interval
from ..files import write_json, write_text
from ..page import html_of, markdown_of
from .blocks import page
from .datasets import FORUMS, PUBLIC, Group
from .pairs import gains, losses
from .published import MEASURE, PUBLISHED, figure, known_model, published_for, training_of
from .results import Entry, load_all
from .values import (
    CONFIDENCE,
    FORUMS_NAME,
    RESAMPLES,
    SEED,
    Beside,
    Configuration,
    Figure,
    Mean,
    Reference,
    Report,
    Row,
    main_recall,
)

log = logging.getLogger("retr.benchmarks")


def write(out: Path) -> Report:
    """Derive the report of an output folder and write its three files there.

    Raises:
        InputError: there are no results.
        DamagedError: a file of them cannot be read.
        MissingExtraError: scipy is not installed.
    """
    report = collect(out)
    blocks = list(page(report))
    write_json(report.to_dict(), out / "results.json")
    write_text(markdown_of(blocks), out / "report.md")
    write_text(html_of(blocks), out / "report.html")
    return report


def collect(out: Path) -> Report:
    """Return the report of an output folder; errors as `write`."""
    return derive(load_all(out))


def derive(entries: Iterable[Entry]) -> Report:
    """Return the report of some entries; errors as `write`."""
    entries = sorted(entries, key=_order)
    configured = _configurations(entries)
    configurations = tuple({each.letter: each for each in configured.values()}.values())
    _warn_of_versions(entries)
    judged = {str(entry.folder): entry.judged() for entry in entries}
    rows = [_row(entry, judged, configured) for entry in entries]
    rows += _forum_rows(rows, {each.letter: each for each in configurations})
    rows.sort(key=lambda row: (_place(row.dataset, row.group), row.configuration, _kind(row)))
    return Report(
        configurations=configurations,
        rows=tuple(rows),
        means=tuple(_told_apart(list(_means(rows)))),
        gains=tuple(gains(entries, judged, configured)),
        losses=tuple(losses(entries, judged, configured)),
        references=tuple(_references(rows)),
        environments=tuple(_environments(entries)),
        statistics={"confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": SEED},
    )


def _configurations(entries: Sequence[Entry]) -> dict[str, Configuration]:
    """Return the configuration of each entry, by its folder.

    Vectors alone do not depend on how words are searched, nor words alone on the encoder: such an
    entry is part of the first configuration that agrees with it in what it does depend on.
    """
    found: list[Configuration] = []
    by_folder = {}
    for entry in sorted(entries, key=lambda entry: _parts(entry).count(None)):
        known = next((each for each in found if _agrees(entry, each)), None)
        if known is None:
            known = _configuration(entry, len(found))
            found.append(known)
        by_folder[str(entry.folder)] = known
    return by_folder


def _parts(item: Entry | Configuration) -> tuple[Mapping[str, Any] | None, ...]:
    return item.encoder, item.words, item.fusion


def _agrees(entry: Entry, known: Configuration) -> bool:
    parts = zip(_parts(entry), _parts(known), strict=True)
    same = all(own is None or own == other for own, other in parts)
    return same and (entry.k, entry.limit) == (known.k, known.limit)


def _configuration(entry: Entry, number: int) -> Configuration:
    space = None if entry.encoder is None else entry.encoder["space"]
    training = None if space is None else training_of(space)
    prompted = entry.encoder is not None and entry.encoder["query_prompt"]
    return Configuration(
        letter=chr(ord("A") + number % 26) * (1 + number // 26),
        encoder=entry.encoder,
        words=entry.words,
        fusion=entry.fusion,
        k=entry.k,
        limit=entry.limit,
        model=None if space is None or prompted else known_model(space),
        trained=training.model if training else None,
        trained_source=training.source if training else None,
    )


def _row(
    entry: Entry,
    judged: Mapping[str, Evaluation],
    configured: Mapping[str, Configuration],
) -> Row:
    evaluation = judged[str(entry.folder)]
    figures = {}
    for name, value in evaluation.means.items():
        bounds = None
        if name in (MEASURE, main_recall(evaluation.means)):
            bounds = interval(
                evaluation, name, confidence=CONFIDENCE, resamples=RESAMPLES, seed=SEED
            )
        figures[name] = Figure(value, *((bounds.low, bounds.high) if bounds else (None, None)))
    dataset, encoder = entry.dataset, entry.encoder
    name, row, spec = str(dataset["name"]), str(entry.system["row"]), entry.system["spec"]
    configuration = configured[str(entry.folder)]
    training = training_of(encoder["space"]) if encoder and dataset["registered"] else None
    return Row(
        dataset=name,
        title=str(dataset["title"]),
        group=str(dataset["group"]),
        split=str(dataset["split"]),
        documents=int(dataset["documents"]),
        queries=len(evaluation.queries),
        configuration=configuration.letter,
        system=str(entry.system["label"]),
        row=row,
        spec=spec,
        figures=figures,
        curve=_curve(evaluation.means),
        ann=entry.ann,
        published=_beside(name, row, spec, figures[MEASURE].value, configuration)
        if dataset["registered"]
        else (),
        trained=training.why.get(name) if training else None,
        drop_self=bool(entry.evaluation["drop_self"]),
        notes=tuple(_notes(entry)),
        path=entry.path,
    )


def _beside(
    name: str, row: str, spec: str | None, value: float, configuration: Configuration
) -> tuple[Beside, ...]:
    """Return the published figures of the same kind of system on the same set, whole."""
    if spec is not None or configuration.limit is not None:
        return ()
    model = configuration.model if row == "dense" else None
    if row == "dense" and model is None:
        return ()
    return tuple(
        Beside(p.system, known, value - known, p.settings, p.source_of(name))
        for p, known in published_for(name, row, model)
    )


def _notes(entry: Entry) -> Iterable[str]:
    missing, total = entry.missing, int(entry.dataset["queries"])
    if entry.limit is not None and entry.limit < total:
        yield f"the first {entry.limit} of {total} queries: compares with no other figure"
    if entry.dataset["registered"]:
        yield "taken for the published set by its name and counts"
    if missing["empty_queries"]:
        yield f"{missing['empty_queries']} queries are empty and count 0"
    if missing["relevant_not_in_corpus"]:
        yield f"{missing['relevant_not_in_corpus']} relevant documents are not in the corpus"
    if missing["skipped_documents"]:
        yield f"{missing['skipped_documents']} documents could not be read"
    if entry.evaluation["drop_self"]:
        yield "a query's own document does not count"


def _curve(means: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    points = [(int(n[2:]), v) for n, v in means.items() if n.startswith("R@") and n[2:].isdigit()]
    return tuple(sorted(points))


def _forum_rows(rows: Sequence[Row], configurations: Mapping[str, Configuration]) -> Iterable[Row]:
    """Yield the mean of the twelve forums for each system that has them all."""
    for (configuration, _), forums in _grouped(rows, Group.CQADUPSTACK).items():
        if {row.dataset for row in forums} != set(FORUMS):
            continue
        first = forums[0]
        figures = _averages(forums)
        ann = None
        if first.ann is not None:
            ann = {k: sum((row.ann or {})[k] for row in forums) / len(forums) for k in first.ann}
        yield replace(
            first,
            dataset=FORUMS_NAME,
            title="CQADupStack",
            documents=sum(row.documents or 0 for row in forums),
            queries=sum(row.queries for row in forums),
            figures=figures,
            curve=_curve({name: each.value for name, each in figures.items()}),
            ann=ann,
            published=_beside(
                FORUMS_NAME,
                first.row,
                first.spec,
                figures[MEASURE].value,
                configurations[configuration],
            ),
            notes=("the unweighted mean of its 12 forums",),
            path=None,
        )


def _averages(rows: Sequence[Row]) -> dict[str, Figure]:
    """Return the unweighted mean of each measure that all of some rows have."""
    names = [name for name in rows[0].figures if all(name in row.figures for row in rows)]
    return {
        name: Figure(sum(row.figures[name].value for row in rows) / len(rows)) for name in names
    }


def _grouped(rows: Iterable[Row], group: Group | None = None) -> dict[tuple[str, str], list[Row]]:
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if group is None or row.group == group:
            found.setdefault((row.configuration, row.system), []).append(row)
    return found


def _means(rows: Sequence[Row]) -> Iterable[Mean]:
    """Yield the means of each system over the published sets and over one's own."""
    for (configuration, system), each in _grouped(rows).items():
        by_name = {row.dataset: row for row in each}
        public = [name for name in PUBLIC if name in by_name]
        forums = [FORUMS_NAME] if FORUMS_NAME in by_name else []
        own = [row.dataset for row in each if row.group == Group.OWN]
        over: dict[str, list[str]] = {}
        if len(public) == len(PUBLIC):
            over["BEIR, the 13 public sets"] = public
            if forums:
                over["BEIR, the 13 public sets and CQADupStack"] = [*public, *forums]
        else:
            over[f"{len(public + forums)} of BEIR's sets"] = [*public, *forums]
        over[f"{len(own)} other sets"] = own
        for name, sets in over.items():
            if len(sets) > 1:
                figures = _averages([by_name[dataset] for dataset in sets])
                yield Mean(name, configuration, system, tuple(sets), figures)


def _told_apart(means: Sequence[Mean]) -> Iterable[Mean]:
    """Yield the means; those of one name over different sets get their configurations' names."""
    for mean in means:
        alike = [each for each in means if each.name == mean.name]
        if len({each.over for each in alike}) == 1:
            yield mean
            continue
        elsewhere = {each.configuration for each in alike if each.over != mean.over}
        whose = [
            f"{each.configuration} {each.system}"
            if each.configuration in elsewhere
            else each.configuration
            for each in alike
            if each.over == mean.over
        ]
        yield replace(mean, name=f"{mean.name} ({'; '.join(dict.fromkeys(whose))})")


def _references(rows: Sequence[Row]) -> Iterable[Reference]:
    """Yield what is published for the sets of the report, each system in a row of its own."""
    names = list(dict.fromkeys(row.dataset for row in rows if row.group != Group.OWN))
    for published in PUBLISHED:
        values = [
            (name, value, published.source_of(name))
            for name in names
            if (value := figure(published, name)) is not None
        ]
        if values:
            yield Reference(published.system, published.row, published.settings, tuple(values))


def _environments(entries: Iterable[Entry]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Yield each environment once, with the entries made in it; time and command apart."""
    seen: dict[str, tuple[list[str], Mapping[str, Any]]] = {}
    for entry in entries:
        same = {n: v for n, v in entry.environment.items() if n not in ("time", "command")}
        paths, _ = seen.setdefault(repr(sorted(same.items())), ([], entry.environment))
        paths.append(entry.path)
    for paths, environment in seen.values():
        yield ", ".join(paths), environment


def _warn_of_versions(entries: Iterable[Entry]) -> None:
    digests: dict[str, set[str]] = {}
    for entry in entries:
        digests.setdefault(entry.folder.parent.name, set()).add(str(entry.dataset["digest"]))
    for name, found in digests.items():
        if len(found) > 1:
            log.warning(
                "%s: the systems were run on %d versions of the data, so their figures do not "
                "compare; remove the folders of the old one", name, len(found),
            )  # fmt: skip


def _order(entry: Entry) -> tuple[Any, ...]:
    name, group = str(entry.dataset["name"]), str(entry.dataset["group"])
    encoder = "" if entry.encoder is None else str(entry.encoder["name"])
    return (_place(name, group), encoder, entry.base is not None, str(entry.folder))


def _kind(row: Row) -> tuple[int, bool]:
    """Return where a system stands among others: what users get, its sides, with an index."""
    order = ["hybrid", "lexical"]
    return (order.index(row.row) if row.row in order else len(order), row.spec is not None)


def _place(name: str, group: str) -> tuple[int, str]:
    """Return where a data set stands: as in BEIR's table, then one's own by name."""
    order = [*PUBLIC[:6], *FORUMS, FORUMS_NAME, *PUBLIC[6:], "msmarco"]
    return (order.index(name) if name in order and group != Group.OWN else len(order), name)
