"""A report as text: a table for the terminal, and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ...retrieval.evaluation.measures import text_table
from .datasets import FORUMS
from .published import MEASURE
from .values import Configuration, Figure, Gain, Loss, Report, Row

DAGGER = "†"


def table_of(report: Report) -> str:
    """Return the figures as plain text: what a terminal shows."""
    several = report.several
    rows = [_head(report, several)]
    for row in report.rows:
        rows.append(_cells(report, row, several))
    for mean in report.means:
        cells = [mean.name, mean.configuration if several else None, mean.system, "", None]
        cells += [_number(mean.figures.get(measure)) for measure in report.measures]
        rows.append(_kept(cells, several, [""] * 2))
    parts = [text_table(rows)]
    for configuration in report.configurations:
        prefix = f"{configuration.letter}: " if several else ""
        parts.append(prefix + describe(configuration))
    parts += footnotes(report)
    if report.gains:
        table = text_table([gain_head(several), *(gain_cells(g, several) for g in report.gains)])
        parts += ["", f"{GAIN_TITLE}:", table, gain_text(report)]
    return "\n".join(parts)


def _head(report: Report, several: bool) -> list[str]:
    cells: list[str | None] = ["data set", "" if several else None, "system", "queries", None]
    names = list(report.measures)
    return _kept([*cells, *names], several, ["ANN recall", "published"])


def _cells(report: Report, row: Row, several: bool) -> list[str]:
    name = row.dataset + (DAGGER if row.trained else "")
    cells: list[str | None] = [
        name, row.configuration if several else None, row.system, f"{row.queries}", None,
    ]  # fmt: skip
    cells += [_number(row.figures.get(measure)) for measure in report.measures]
    return _kept(cells, several, [ann_text(row.ann), beside_text(row)])


def _kept(cells: Sequence[str | None], several: bool, more: Sequence[str]) -> list[str]:
    return [cell for cell in (*cells, *more) if cell is not None]


def markdown_of(report: Report) -> str:
    """Return the whole report as Markdown."""
    several = report.several
    lines = ["# Retrieval benchmark", ""]
    for configuration in report.configurations:
        prefix = f"**{configuration.letter}**: " if several else ""
        lines.append(f"{prefix}{describe(configuration)}\n")
    lines += _figures_table(report, several)
    lines += [note + "\n" for note in footnotes(report)]
    if report.gains:
        lines += [f"## {GAIN_TITLE}", "", gain_text(report), ""]
        lines += _pipe(gain_head(several), [gain_cells(gain, several) for gain in report.gains])
    if report.losses:
        lines += ["## What the index loses", "", _LOSS_TEXT, ""]
        lines += _pipe(
            ["data set", *([""] if several else []), "system", "measure", "exact", "index",
             "difference [95%]", "p", "better/worse/same", "ANN recall"],
            [_loss_cells(loss, several) for loss in report.losses],
        )  # fmt: skip
    if report.references:
        lines += ["## Published for these data sets", "", "Not measured here.", ""]
        names = list(dict.fromkeys(n for r in report.references for n, _, _ in r.values))
        rows = []
        for reference in report.references:
            known = {n: f"[{v:.4f}]({s})" for n, v, s in reference.values}
            rows.append(
                [f"{reference.system}: {reference.settings}", *(known.get(n, "") for n in names)]
            )
        lines += _pipe([f"{MEASURE}", *names], rows)
    lines += ["## Settings", ""]
    letters = [each.letter if several else "" for each in report.configurations]
    lines += _pipe(["", *letters], _settings(report))
    lines += ["## Machine and versions", ""]
    for paths, environment in report.environments:
        lines += _pipe(
            ["", "" if len(report.environments) == 1 else paths],
            [[name, value] for name, value in environment_items(environment)],
        )
    return "\n".join(lines).rstrip() + "\n"


GAIN_TITLE = "What the vectors add to the words"


def gain_head(several: bool) -> list[str]:
    """Return the head of the table of gains."""
    letter = [""] if several else []
    columns = ["BM25", "hybrid", "difference [95%]", "p", "better/worse/same"]
    return ["data set", *letter, "measure", *columns]


def gain_cells(gain: Gain, several: bool) -> list[str]:
    """Return a line of the table of gains."""
    return [
        gain.dataset,
        *([gain.configuration] if several else []),
        gain.measure,
        f"{gain.words:.4f}",
        f"{gain.hybrid:.4f}",
        signed(gain.difference),
        p_text(gain.p),
        f"{gain.wins}/{gain.losses}/{gain.ties}",
    ]


def gain_text(report: Report) -> str:
    """Return how the table of gains was made, and what its means are over."""
    text = (
        "Hybrid search against BM25 on the same queries. p is of Fisher's randomisation test over "
        "queries; better, worse and same count queries."
    )
    for names in dict.fromkeys(gain.over for gain in report.gains if gain.over):
        text += (
            f" The mean of {', '.join(names)}: each data set counts the same, the forums of "
            "CQADupStack as one; queries are resampled, and signs flipped, within their sets."
            if set(names) & set(FORUMS)
            else f" The mean of {', '.join(names)}: each data set counts the same; queries are "
            "resampled, and signs flipped, within their sets."
        )
    return text


_LOSS_TEXT = (
    "Exact search and the index over the very same vectors. ANN recall is the share of the exact "
    "k nearest that the index finds, ties counting as found (scores decide, not ids)."
)


def _figures_table(report: Report, several: bool) -> list[str]:
    head = ["data set", *([""] if several else []), "system", "queries"]
    head += [f"{m} [95%]" if _has_interval(report, m) else m for m in report.measures]
    rows = []
    for row in report.rows:
        name = f"{row.dataset}{DAGGER if row.trained else ''}"
        rows.append(
            [name, *([row.configuration] if several else []), row.system, f"{row.queries}"]
            + [ranged(row.figures.get(m)) for m in report.measures]
            + [ann_text(row.ann), ", ".join(f"[{b.system}]({b.source}) {b.value:.4f} "
               f"({b.difference:+.4f})" for b in row.published)]
        )  # fmt: skip
    for mean in report.means:
        rows.append(
            [f"**{mean.name}**", *([mean.configuration] if several else []), mean.system, ""]
            + [ranged(mean.figures.get(m)) for m in report.measures]
            + ["", ""]
        )
    return _pipe([*head, "ANN recall", f"published {MEASURE}"], rows)


def _has_interval(report: Report, measure: str) -> bool:
    return any(
        measure in row.figures and row.figures[measure].low is not None for row in report.rows
    )


def _loss_cells(loss: Loss, several: bool) -> list[str]:
    return [
        loss.dataset,
        *([loss.configuration] if several else []),
        loss.system,
        loss.measure,
        f"{loss.exact:.4f}",
        f"{loss.indexed:.4f}",
        signed(loss.difference),
        p_text(loss.p),
        f"{loss.wins}/{loss.losses}/{loss.ties}",
        ann_text(loss.ann),
    ]


def _settings(report: Report) -> list[list[str]]:
    columns = [dict(setting_items(c)) for c in report.configurations]
    names = list(dict.fromkeys(name for column in columns for name in column))
    return [[name, *(column.get(name, "") for column in columns)] for name in names]


_WORDS_TEXT = (
    "BM25 here is over retr's own analysis of the texts, with the constants in the settings. It is "
    "not Anserini's, so a difference from a figure published with Pyserini is one of analysis and "
    "constants: here documents keep stop words and queries drop them, words are stemmed by "
    "Snowball and lose accents, identifiers and compounds are split and also kept whole; Anserini "
    "drops stop words from both, stems by Porter, and has k1 0.9 and b 0.4. That the scoring "
    "itself is computed right is tested apart, against bm25s on the same terms."
)


def footnotes(report: Report) -> list[str]:
    """Return what a reader has to know, in sentences."""
    notes = [f"{m.name}: the unweighted mean of {', '.join(m.over)}." for m in report.means]
    whys: dict[str, dict[str, None]] = {}
    for row in report.rows:
        if row.trained:
            whys.setdefault(row.trained, {})[row.dataset] = None
    if whys:
        trained = sorted({c.trained for c in report.configurations if c.trained})
        sources = sorted({c.trained_source for c in report.configurations if c.trained_source})
        reasons = "; ".join(f"{', '.join(names)} ({why})" for why, names in whys.items())
        notes.append(
            f"{DAGGER} {' and '.join(trained)}, the encoder or its teacher, was trained on this "
            f"or its like: {reasons}. Source: {', '.join(sources)}."
        )
    noted: dict[str, dict[str, None]] = {}
    for row in report.rows:
        for note in row.notes:
            noted.setdefault(note, {})[row.dataset] = None
    notes += [f"{', '.join(names)}: {note}." for note, names in noted.items()]
    if any(row.row == "lexical" for row in report.rows):
        notes.append(_WORDS_TEXT)
        if report.several:
            notes.append(
                "BM25 does not depend on the encoder: it stands once, under the first letter whose "
                "settings of words it has."
            )
    return list(dict.fromkeys(notes))


def records(report: Report) -> Iterable[dict[str, Any]]:
    """Yield a JSON object for each row, mean, gain and loss."""
    configurations = {each.letter: each for each in report.configurations}
    for row in report.rows:
        values = asdict(row)
        encoder = configurations[row.configuration].encoder
        needed = encoder is not None and row.row != "lexical"
        values["encoder"] = encoder["name"] if encoder is not None and needed else None
        yield values
    for mean in report.means:
        yield {"mean": asdict(mean)}
    for gain in report.gains:
        yield {"hybrid_gain": asdict(gain)}
    for loss in report.losses:
        yield {"index_loss": asdict(loss)}


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
    limit = (
        ""
        if configuration.limit is None
        else (f"; ONLY THE FIRST {configuration.limit} QUERIES: compares with no other figure")
    )
    return ", ".join(parts) + limit


def setting_items(configuration: Configuration) -> Iterable[tuple[str, str]]:
    """Yield the settings of a configuration by name."""
    if (encoder := configuration.encoder) is not None:
        space, prompt = encoder["space"], encoder["query_prompt"]
        yield "encoder", str(encoder["name"])
        yield "weights", str(space["revision"])
        yield "known model", configuration.model or "none"
        yield "dimensions", str(space["dim"])
        yield "metric", str(space["metric"])
        yield "unit length", "yes" if space["normalised"] else "no"
        yield "pooling", str(space["pooling"] or "none")
        yield "max length", str(space["max_length"] or "none")
        yield "query prompt", repr(prompt) if prompt else "none"
        document_prompt = space["document_prompt"]
        yield "document prompt", repr(document_prompt) if document_prompt else "none"
    if (words := configuration.words) is not None:
        yield "analysis of words", str(words["analyzer"])
        yield "BM25 k1", f"{words['k1']:g}"
        yield "BM25 b", f"{words['b']:g}"
    if (fusion := configuration.fusion) is not None:
        yield "weight of the vectors", f"{fusion['weight']:g}"
        yield "weight fitted on", _fitted(configuration)
    yield "hits judged (k)", str(configuration.k)
    yield "queries", "all" if configuration.limit is None else f"the first {configuration.limit}"
    yield "absent queries", "count 0"


def _fitted(configuration: Configuration) -> str:
    fitted, encoder = str((configuration.fusion or {})["fitted"]), configuration.encoder
    if fitted != "default" or encoder is None:
        return fitted
    return f"default of the family {encoder['space']['family']}"


def environment_items(environment: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield what is worth a reader's while of an environment, by name."""
    yield "retr", str(environment["retr"])
    yield "Python", str(environment["python"])
    yield from ((str(n), str(v)) for n, v in environment["packages"].items())
    yield "system", str(environment["system"])
    yield "processor", f"{environment['processor']}, {environment['cores_usable']} cores usable"
    if environment["memory_bytes"]:
        yield "memory", f"{environment['memory_bytes'] / 2**30:.0f} GiB"
    yield "GPU", str(environment["gpu"] or "none")
    for name, value in environment["variables"].items():
        yield str(name), str(value)
    yield "time", str(environment["time"])


def ranged(figure: Figure | None) -> str:
    """Return a figure with its interval."""
    if figure is None or figure.low is None or figure.high is None:
        return _number(figure)
    return f"{figure.value:.4f} [{figure.low:.3f}, {figure.high:.3f}]"


def signed(figure: Figure) -> str:
    """Return a difference with its interval, signs shown."""
    if figure.low is None or figure.high is None:
        return f"{figure.value:+.4f}"
    return f"{figure.value:+.4f} [{figure.low:+.3f}, {figure.high:+.3f}]"


def p_text(p: float | None) -> str:
    """Return a p-value as it is printed."""
    if p is None:
        return ""
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


def ann_text(ann: Mapping[str, float] | None) -> str:
    """Return the recalls against exact search, "0.987@10 0.975@100"."""
    return " ".join(f"{value:.4f}@{k}" for k, value in (ann or {}).items())


def beside_text(row: Row) -> str:
    """Return the published figures beside a row, with the differences."""
    return ", ".join(f"{b.value:.4f} ({b.difference:+.4f})" for b in row.published)


def _number(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.value:.4f}"


def _pipe(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table; numbers stand right."""
    lines = [_line(head), "| " + " | ".join(["---"] * len(head)) + " |"]
    lines += [_line(row) for row in rows]
    return [*lines, ""]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
