"""A report as blocks: what a terminal shows, and what is on the page in Markdown and HTML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from .. import environment
from ..page import Block, Figure, Heading, Text
from ..plot import Axis, Bar, Bars, Line, Panel, Scale, draw, draw_bars
from ..tables import Table
from .datasets import FORUMS, Group
from .published import MEASURE
from .values import FORUMS_NAME, Configuration, Gain, Loss, Mean, Report, Row

DAGGER = "†"

_WORDS = (
    "BM25 here is over retr's own analysis of the texts, with the constants in the settings. It is "
    "not Anserini's, so a difference from a figure published with Pyserini is one of analysis and "
    "constants: here documents keep stop words and queries drop them, words are stemmed by "
    "Snowball and lose accents, identifiers and compounds are split and also kept whole; Anserini "
    "drops stop words from both, stems by Porter, and has k1 0.9 and b 0.4. That the scoring "
    "itself is computed right is tested apart, against bm25s on the same terms."
)
_LOSS = (
    "Exact search and the index over the very same vectors. ANN recall is the share of the exact "
    "k nearest that the index finds; ties count as found, for scores decide and not ids. p is of "
    "Fisher's randomisation test over queries."
)
_REFERENCES = (
    "Not measured here. In the table of figures a published one stands only beside the same kind "
    "of system."
)


def summary(report: Report) -> Iterator[Block]:
    """Yield what a terminal shows: the figures, the settings in a line, the gains."""
    yield from (Text(line) for line in _described(report))
    yield _figures(report, intervals=False)
    if report.gains:
        yield _gains(report)


def page(report: Report) -> Iterator[Block]:
    """Yield the whole report."""
    yield Heading("Retrieval benchmark", 1)
    for line, configuration in zip(_described(report), report.configurations, strict=True):
        yield Text(line, warning=configuration.limit is not None)
    yield Heading("Figures")
    confidence = f"{100 * report.statistics['confidence']:.0f}%"
    yield Text(f"Means over queries; intervals are {confidence} bootstrap intervals over queries.")
    yield Figure(_bars(report))
    yield Figure(_curves(report))
    yield _figures(report, intervals=True)
    if report.gains:
        yield _gains(report)
    if report.losses:
        yield _losses(report)
    if report.references:
        yield _references(report)
    yield _settings(report)
    for paths, described in report.environments:
        of = f" of {paths}" if len(report.environments) > 1 else ""
        title = f"Machine and versions{of}"
        yield Table(["", ""], list(environment.items(described)), title=title)
    yield from _again(report)


def records(report: Report) -> Iterator[dict[str, Any]]:
    """Yield a JSON object for each row, mean, gain and loss."""
    encoders = {each.letter: each.encoder for each in report.configurations}
    for row in report.rows:
        encoder = None if row.row == "lexical" else encoders[row.configuration]
        yield {**asdict(row), "encoder": encoder and encoder["name"]}
    yield from ({"mean": asdict(mean)} for mean in report.means)
    yield from ({"hybrid_gain": asdict(gain)} for gain in report.gains)
    yield from ({"index_loss": asdict(loss)} for loss in report.losses)


def describe(configuration: Configuration) -> str:
    """Return a configuration in one line: space, prompts, words, fusion, k, limit."""
    parts = []
    if (encoder := configuration.encoder) is not None:
        space = encoder["space"]
        length = space["max_length"]
        parts += [
            str(encoder["name"]),
            f"{space['dim']} dimensions",
            str(space["metric"]),
            "no length limit" if length is None else f"max length {length}",
            f"query prompt {encoder['query_prompt'] or 'none'}",
            f"document prompt {space['document_prompt'] or 'none'}",
        ]
    if (words := configuration.words) is not None:
        parts += [f"words as {words['analyzer']}", f"BM25 k1={words['k1']:g} b={words['b']:g}"]
    if (fusion := configuration.fusion) is not None:
        parts.append(f"weight of the vectors {fusion['weight']:g}")
    parts.append(f"k={configuration.k}")
    said = ", ".join(parts)
    if configuration.limit is None:
        return said
    return f"{said}; ONLY THE FIRST {configuration.limit} QUERIES: compares with no other figure"


def setting_items(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """Yield the settings of a configuration by name."""
    if (encoder := configuration.encoder) is not None:
        space, prompt = encoder["space"], encoder["query_prompt"]
        document_prompt = space["document_prompt"]
        yield "encoder", str(encoder["name"])
        yield "weights", str(space["revision"])
        yield "known model", configuration.model or "none"
        yield "dimensions", str(space["dim"])
        yield "metric", str(space["metric"])
        yield "unit length", "yes" if space["normalised"] else "no"
        yield "pooling", str(space["pooling"] or "none")
        yield "max length", str(space["max_length"] or "none")
        yield "query prompt", repr(prompt) if prompt else "none"
        yield "document prompt", repr(document_prompt) if document_prompt else "none"
    if (words := configuration.words) is not None:
        yield "analysis of words", str(words["analyzer"])
        yield "BM25 k1", f"{words['k1']:g}"
        yield "BM25 b", f"{words['b']:g}"
    if (fusion := configuration.fusion) is not None:
        fitted = str(fusion["fitted"])
        if fitted == "default" and encoder is not None:
            fitted = f"default of the family {encoder['space']['family']}"
        yield "weight of the vectors", f"{fusion['weight']:g}"
        yield "weight fitted on", fitted
    yield "hits judged (k)", str(configuration.k)
    yield "queries", "all" if configuration.limit is None else f"the first {configuration.limit}"
    yield "absent queries", "count 0"


def footnotes(report: Report) -> list[str]:
    """Return what a reader has to know, in sentences."""
    notes = [f"{m.name}: the unweighted mean of {', '.join(m.over)}." for m in report.means]
    if reasons := _grouped((row.trained, row.dataset) for row in report.rows if row.trained):
        trained = sorted({c.trained for c in report.configurations if c.trained})
        sources = sorted({c.trained_source for c in report.configurations if c.trained_source})
        said = "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())
        notes.append(
            f"{DAGGER} {' and '.join(trained)}, the encoder or its teacher, was trained on this "
            f"or its like: {said}. Source: {', '.join(sources)}."
        )
    noted = _grouped((note, row.dataset) for row in report.rows for note in row.notes)
    notes += [f"{', '.join(names)}: {note}." for note, names in noted.items()]
    if any(row.row == "lexical" for row in report.rows):
        notes.append(_WORDS)
        if report.several:
            notes.append(
                "BM25 does not depend on the encoder: it stands once, under the first letter whose "
                "settings of words it has."
            )
    return list(dict.fromkeys(notes))


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return what is said -> the data sets it is said of, once each."""
    found: dict[str, dict[str, None]] = {}
    for said, dataset in pairs:
        found.setdefault(said, {})[dataset] = None
    return {said: list(names) for said, names in found.items()}


def _described(report: Report) -> list[str]:
    several = report.several
    return [(f"{c.letter}: " if several else "") + describe(c) for c in report.configurations]


def _letters(report: Report, *columns: str) -> list[str]:
    """Return headings, with one for the configurations' letters behind the first if needed."""
    return [columns[0], *([""] if report.several else []), *columns[1:]]


def _named(report: Report, of: Row | Mean | Gain | Loss, *cells: str) -> list[str]:
    """Return cells under `_letters`."""
    return [cells[0], *([of.configuration] if report.several else []), *cells[1:]]


def _figures(report: Report, *, intervals: bool) -> Table:
    """Return the table of rows and means; intervals: of the figures that have one."""
    measures = report.measures
    ann = any(row.ann for row in report.rows)
    beside = any(row.published for row in report.rows)
    with_interval = {
        name
        for name in measures
        if intervals
        and any(r.figures[name].low is not None for r in report.rows if name in r.figures)
    }
    headings = _letters(report, "data set", "system", "queries")
    headings += [f"{name} [95%]" if name in with_interval else name for name in measures]
    headings += ["ANN recall"] * ann + [f"published {MEASURE}"] * beside
    rows = []
    for row in report.rows:
        name = row.dataset + (DAGGER if row.trained else "")
        cells = _named(report, row, name, row.system, f"{row.queries:,}")
        cells += [_cell(row, measure, intervals) for measure in measures]
        cells += [_ann(row.ann)] * ann + [_published(row)] * beside
        rows.append(cells)
    for mean in report.means:
        cells = _named(report, mean, mean.name, mean.system, f"{len(mean.over)} sets")
        cells += [_cell(mean, measure, intervals) for measure in measures]
        rows.append(cells + [""] * (ann + beside))
    means = range(len(report.rows), len(rows))
    title = "All figures" if intervals else ""
    return Table(headings, rows, title, footnotes(report), frozenset(means))


def _cell(of: Row | Mean, measure: str, interval: bool) -> str:
    figure = of.figures.get(measure)
    if figure is None:
        return ""
    return figure.ranged() if interval else f"{figure.value:.4f}"


def _published(row: Row) -> str:
    return ", ".join(f"{b.value:.4f} ({b.difference:+.4f}) {b.system}" for b in row.published)


def _ann(ann: Any) -> str:
    """Return the recalls against exact search, "0.987@10 0.975@100"."""
    return " ".join(f"{value:.4f}@{k}" for k, value in (ann or {}).items())


def _gains(report: Report) -> Table:
    note = (
        "Hybrid search against BM25 on the same queries. p is of Fisher's randomisation test over "
        "queries; better, worse and same count queries."
    )
    for names in dict.fromkeys(gain.over for gain in report.gains if gain.over):
        forums = ", the forums of CQADupStack as one" if set(names) & set(FORUMS) else ""
        note += (
            f" The mean of {', '.join(names)}: each data set counts the same{forums}; queries are "
            "resampled, and signs flipped, within their sets."
        )
    return Table(
        _letters(report, "data set", "measure", "BM25", "hybrid", *_PAIRED),
        [
            _named(
                report, g, g.dataset, g.measure, f"{g.words:.4f}", f"{g.hybrid:.4f}", *_paired(g)
            )
            for g in report.gains
        ],
        title="What the vectors add to the words",
        notes=[note],
        strong=frozenset(place for place, gain in enumerate(report.gains) if gain.over),
    )


def _losses(report: Report) -> Table:
    columns = ("data set", "system", "measure", "exact", "index", *_PAIRED, "ANN recall")
    rows = []
    for loss in report.losses:
        cells = [loss.dataset, loss.system, loss.measure, f"{loss.exact:.4f}"]
        cells += [f"{loss.indexed:.4f}", *_paired(loss), _ann(loss.ann)]
        rows.append(_named(report, loss, *cells))
    return Table(_letters(report, *columns), rows, title="What the index loses", notes=[_LOSS])


_PAIRED = ("difference [95%]", "p", "better/worse/same")


def _paired(pair: Gain | Loss) -> tuple[str, str, str]:
    p = "" if pair.p is None else "<0.0001" if pair.p < 0.0001 else f"{pair.p:.4f}"
    return pair.difference.signed(), p, f"{pair.wins}/{pair.losses}/{pair.ties}"


def _references(report: Report) -> Table:
    names = list(dict.fromkeys(name for each in report.references for name, _, _ in each.values))
    rows, notes = [], [_REFERENCES]
    for reference in report.references:
        known = {name: f"{value:.4f}" for name, value, _ in reference.values}
        rows.append([reference.system, *(known.get(name, "") for name in names)])
        sources = dict.fromkeys(source for _, _, source in reference.values)
        notes.append(f"{reference.system}: {reference.settings}. Source: {', '.join(sources)}")
    return Table([MEASURE, *names], rows, title="Published for these data sets", notes=notes)


def _settings(report: Report) -> Table:
    columns = [dict(setting_items(each)) for each in report.configurations]
    names = list(dict.fromkeys(name for column in columns for name in column))
    letters = [each.letter if report.several else "" for each in report.configurations]
    rows = [[name, *(column.get(name, "") for column in columns)] for name in names]
    return Table(["", *letters], rows, title="Settings")


def _again(report: Report) -> Iterator[Block]:
    row = next(row for row in report.rows if row.path is not None)
    drop = " --drop-self" if row.drop_self else ""
    yield Heading("Derive a figure again")
    yield Text(
        "Each folder beside this page has the ranking, the judgments, a value for each query and "
        f"the settings. Bootstrap and tests: {report.statistics['resamples']:,} resamples, seed "
        f"{report.statistics['seed']}. In this folder:"
    )
    yield Text(
        f"retr eval {row.path}/run.trec.gz {row.path}/qrels.trec -m {MEASURE}{drop}", code=True
    )
    yield Text("retr bench report .", code=True)


def _plotted(report: Report) -> dict[str, list[Row]]:
    """Return the rows to plot by data set; the forums of CQADupStack by their mean, if there."""
    whole = any(row.dataset == FORUMS_NAME for row in report.rows)
    found: dict[str, list[Row]] = {}
    for row in report.rows:
        forum = row.group == Group.CQADUPSTACK and row.dataset != FORUMS_NAME
        if not (forum and whole):
            found.setdefault(row.dataset, []).append(row)
    return found


def _label(report: Report, of: Row | Mean) -> str:
    return f"{of.configuration}: {of.system}" if report.several else of.system


def _bars(report: Report) -> str:
    groups = [
        Bars(name, [_bar(_label(report, row), row) for row in rows])
        for name, rows in _plotted(report).items()
    ]
    for name in dict.fromkeys(mean.name for mean in report.means):
        means = [mean for mean in report.means if mean.name == name]
        groups.append(Bars(name, [_bar(_label(report, mean), mean) for mean in means]))
    beside = any(row.published for row in report.rows)
    mark = "published, same system" if beside else ""
    return draw_bars(groups, title=MEASURE, mark=mark)


def _bar(label: str, of: Row | Mean) -> Bar:
    figure = of.figures[MEASURE]
    published = of.published if isinstance(of, Row) else ()
    marks = [(each.value, f"{each.system}, published") for each in published]
    return Bar(label, figure.value, figure.low, figure.high, marks, figure.ranged())


def _curves(report: Report) -> str:
    panels = []
    for name, rows in _plotted(report).items():
        lines = [
            Line(_label(report, row), row.curve, dashed=row.spec is not None)
            for row in rows
            if len(row.curve) > 1
        ]
        if lines:
            panels.append(Panel(lines, *_axes(lines), title=name))
    return draw(panels, title="Recall at k") if panels else ""


def _axes(lines: Sequence[Line]) -> tuple[Axis, Axis]:
    last = lines[0].points[-1][0]
    powers = [10.0**n for n in range(6) if 10**n <= last]
    ticks = powers if powers[-1] * 2 > last else [*powers, last]
    return Axis("k", Scale.LOG, 1, last, ticks), Axis(low=0, high=1)
