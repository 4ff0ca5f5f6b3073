"""A report as one HTML page that needs nothing else: no script, font or picture from outside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from .plots import bars, curves, legend, series_of
from .published import MEASURE
from .text import (
    DAGGER,
    GAIN_TITLE,
    ann_text,
    describe,
    environment_items,
    footnotes,
    gain_cells,
    gain_head,
    gain_text,
    p_text,
    setting_items,
    signed,
)
from .values import Report, Row

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1f24; --soft: #5b6470; --line: #d9dde3;
  --tint: #f4f6f8; --warn: #fff3d6; --published: #111;
  --c0: #2f6db3; --c1: #d9822b; --c2: #3a9d6a; --c3: #8a5bb8; --c4: #c0455e; --c5: #7a7d2a; }
@media (prefers-color-scheme: dark) { :root { --paper: #16191d; --ink: #e6e9ed; --soft: #9aa4b0;
  --line: #353b43; --tint: #1f242a; --warn: #4a3a10; --published: #fff;
  --c0: #6aa5e8; --c1: #f0a456; --c2: #6cc795; --c3: #bd92e6; --c4: #ec8095; --c5: #b9bc5e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 70rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: .95rem; margin: 0 0 .15rem; } p { margin: .4rem 0; }
a { color: var(--c0); } small, .soft { color: var(--soft); } .soft { font-size: .9rem; }
.warn { background: var(--warn); padding: .5rem .75rem; border-radius: 4px; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; font-size: .9rem; }
.key i { display: inline-block; width: .8rem; height: .8rem; margin-right: .4rem;
  background: currentColor; vertical-align: -1px; border-radius: 2px; }
.key i.diamond { width: .6rem; height: .6rem; background: var(--published); border-radius: 0;
  transform: rotate(45deg); vertical-align: 0; }
.group { padding: .45rem 0; border-top: 1px solid var(--line); }
.group.mean { background: var(--tint); }
.bar { display: grid; grid-template-columns: 11rem 1fr 10rem; gap: .75rem; align-items: center; }
.bar svg { width: 100%; overflow: visible; display: block; }
.bar .label { font-size: .85rem; color: var(--soft); overflow-wrap: anywhere; }
.bar .value { font-size: .9rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
svg text { fill: var(--soft); font-size: 11px; } .zero { stroke: var(--line); }
.whisker line { stroke: var(--ink); stroke-width: 1.5; }
.halo line { stroke: var(--paper); stroke-width: 4; stroke-opacity: .7; }
path.diamond { fill: var(--published); stroke: var(--paper); stroke-width: 1.5; }
.grid { stroke: var(--line); } .stroke { fill: none; stroke-width: 2; stroke: currentColor; }
.fill { fill: currentColor; } .stroke.dashed { stroke-dasharray: 7 5; }
.s0 { color: var(--c0); } .s1 { color: var(--c1); } .s2 { color: var(--c2); }
.s3 { color: var(--c3); } .s4 { color: var(--c4); } .s5 { color: var(--c5); }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr));
  gap: 1.25rem; } figure { margin: 0; } figcaption { font-weight: 600; font-size: .95rem; }
.curves svg { width: 100%; display: block; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; }
th, td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; white-space: nowrap; } td.wide { white-space: normal; min-width: 14rem; }
td.name { min-width: 9rem; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
tr.mean td { background: var(--tint); font-weight: 600; }
code { font: .88em ui-monospace, monospace; overflow-wrap: anywhere; }
@media (max-width: 640px) { .bar { grid-template-columns: 1fr auto; gap: 0 .5rem; }
  .bar svg { grid-column: 1 / -1; grid-row: 2; } .axis .label { visibility: hidden; } }
"""


def html_of(report: Report) -> str:
    """Return the report as one HTML page."""
    several = report.several
    series = series_of(report)
    published = any(row.published for row in report.rows)
    key = legend(series.values(), published=published)
    parts = ["<h1>Retrieval benchmark</h1>", *_opening(report, several)]
    parts += [
        f"<h2>{MEASURE}</h2>",
        _soft(
            "Bars are means over queries, whiskers "
            f"{100 * report.statistics['confidence']:.0f}% bootstrap intervals over queries."
        ),
        key,
        bars(report, series),
        *map(_soft, footnotes(report)),
        "<h2>Recall at k</h2>",
        key if published is False else legend(series.values(), published=False),
        curves(report, series),
        "<h2>All figures</h2>",
        _figures(report, several),
    ]
    if report.gains:
        parts += [f"<h2>{GAIN_TITLE}</h2>", _soft(gain_text(report)), _gains(report, several)]
    if report.losses:
        parts += ["<h2>What the index loses</h2>", _LOSS_TEXT, _losses(report, several)]
    if report.references:
        parts += [
            "<h2>Published for these data sets</h2>",
            _soft(
                "Not measured here. A published figure stands in the table above only beside "
                "the same kind of system."
            ),
            _references(report),
        ]
    parts += ["<h2>Settings</h2>", _settings(report), "<h2>Machine and versions</h2>"]
    parts += _machines(report)
    parts += ["<h2>Derive a figure again</h2>", _again(report)]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Retrieval benchmark</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


_LOSS_TEXT = (
    '<p class="soft">Exact search and the index over the very same vectors. ANN recall is the '
    "share of the exact k nearest that the index finds; ties count as found, for scores decide and "
    "not ids. p is of Fisher's randomisation test over queries.</p>"
)


def _opening(report: Report, several: bool) -> Iterable[str]:
    for configuration in report.configurations:
        prefix = f"<b>{configuration.letter}</b>: " if several else ""
        yield f"<p>{prefix}{escape(describe(configuration))}</p>"
        if configuration.limit is not None:
            yield (
                f'<p class="warn">Only the first {configuration.limit} queries of each data set '
                "were run: these figures compare with no others.</p>"
            )


def _figures(report: Report, several: bool) -> str:
    measures = report.measures
    ann = any(row.ann for row in report.rows)
    beside = any(row.published for row in report.rows)
    head = ["data set", *([""] if several else []), "system", "split", "documents", "queries"]
    head += [
        *measures,
        *(["ANN recall"] if ann else []),
        *([f"published {MEASURE}"] if beside else []),
    ]
    rows = []
    for row in report.rows:
        cells = [_cell(row.dataset + (DAGGER if row.trained else ""))]
        cells += [_cell(row.configuration)] if several else []
        cells += [_cell(row.system), _cell(row.split)]
        cells += [
            _number(f"{row.documents:,}" if row.documents else ""),
            _number(f"{row.queries:,}"),
        ]
        for measure in measures:
            figure = row.figures.get(measure)
            text = "" if figure is None else f"{figure.value:.4f}"
            if figure is not None and figure.low is not None and figure.high is not None:
                text += f" <small>{figure.low:.3f}–{figure.high:.3f}</small>"
            cells.append(f'<td class="n">{text}</td>')
        cells += [_cell(ann_text(row.ann))] if ann else []
        cells += [f"<td>{_beside(row)}</td>"] if beside else []
        rows.append(f"<tr>{''.join(cells)}</tr>")
    for mean in report.means:
        cells = [f'<td class="wide name">{escape(mean.name)}</td>']
        cells += [*([_cell(mean.configuration)] if several else [])]
        cells += [_cell(mean.system), _cell(""), _cell(""), _number(f"{len(mean.over)} sets")]
        for measure in measures:
            figure = mean.figures.get(measure)
            cells.append(_number("" if figure is None else f"{figure.value:.4f}"))
        cells += [_cell("")] * (ann + beside)
        rows.append(f'<tr class="mean">{"".join(cells)}</tr>')
    return _table(head, rows, numbers=set(measures) | {"documents", "queries"})


def _beside(row: Row) -> str:
    return "<br>".join(
        f"{b.value:.4f} ({b.difference:+.4f}) "
        f'<a href="{escape(b.source)}" title="{escape(b.settings)}">{escape(b.system)}</a>'
        for b in row.published
    )


def _gains(report: Report, several: bool) -> str:
    head = gain_head(several)
    text = {"data set", "", "measure"}
    rows = []
    for gain in report.gains:
        cells = zip(head, gain_cells(gain, several), strict=True)
        line = "".join(_cell(each) if name in text else _number(each) for name, each in cells)
        rows.append(f'<tr class="mean">{line}</tr>' if gain.over else f"<tr>{line}</tr>")
    return _table(head, rows, numbers=set(head) - text)


def _losses(report: Report, several: bool) -> str:
    head = ["data set", *([""] if several else []), "system", "measure", "exact", "index"]
    head += ["difference", "p", "better/worse/same", "ANN recall"]
    rows = []
    for loss in report.losses:
        cells = [_cell(loss.dataset), *([_cell(loss.configuration)] if several else [])]
        cells += [_cell(loss.system), _cell(loss.measure)]
        cells += [_number(f"{loss.exact:.4f}"), _number(f"{loss.indexed:.4f}")]
        cells += [_number(signed(loss.difference)), _number(p_text(loss.p))]
        cells += [_number(f"{loss.wins}/{loss.losses}/{loss.ties}"), _cell(ann_text(loss.ann))]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    numbers = {"exact", "index", "difference", "p", "better/worse/same"}
    return _table(head, rows, numbers=numbers)


def _references(report: Report) -> str:
    names = list(dict.fromkeys(name for r in report.references for name, _, _ in r.values))
    systems = [f"{reference.system}" for reference in report.references]
    rows = []
    for name in names:
        cells = [_cell(name)]
        for reference in report.references:
            known = {each: (value, source) for each, value, source in reference.values}
            if name in known:
                value, source = known[name]
                cells.append(f'<td class="n"><a href="{escape(source)}">{value:.4f}</a></td>')
            else:
                cells.append(_cell(""))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    settings = "".join(
        f'<p class="soft">{escape(r.system)}: {escape(r.settings)}.</p>' for r in report.references
    )
    return _table([MEASURE, *systems], rows, numbers=set(systems)) + settings


def _settings(report: Report) -> str:
    columns = [dict(setting_items(each)) for each in report.configurations]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = []
    for name in names:
        cells = "".join(
            f'<td class="wide"><code>{escape(c.get(name, ""))}</code></td>' for c in columns
        )
        rows.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
    letters = [each.letter for each in report.configurations] if len(columns) > 1 else [""]
    return _table(["", *letters], rows)


def _machines(report: Report) -> Iterable[str]:
    for paths, environment in report.environments:
        if len(report.environments) > 1:
            yield f'<p class="soft"><code>{escape(paths)}</code></p>'
        yield _table(
            ["", ""],
            [
                f'<tr><td>{escape(name)}</td><td class="wide">{escape(value)}</td></tr>'
                for name, value in environment_items(environment)
            ],
        )


def _again(report: Report) -> str:
    row = next(row for row in report.rows if row.path is not None)
    drop = " --drop-self" if row.drop_self else ""
    where = f"{row.path}"
    return (
        "<p>Each folder beside this page has the ranking, the judgments, a value for each query "
        "and the settings. In this folder:</p>"
        f"<p><code>retr eval {escape(where)}/run.trec.gz {escape(where)}/qrels.trec -m "
        f"{MEASURE}{drop}</code></p><p><code>retr bench report .</code></p>"
        f'<p class="soft">Bootstrap and tests: {report.statistics["resamples"]:,} resamples, '
        f"seed {report.statistics['seed']}.</p>"
    )


def _table(head: Sequence[str], rows: Iterable[str], numbers: Iterable[str] = ()) -> str:
    right = set(numbers)
    cells = "".join(
        f'<th class="n">{escape(name)}</th>' if name in right else f"<th>{escape(name)}</th>"
        for name in head
    )
    return (
        f'<div class="scroll"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    return f"<td>{escape(text)}</td>"


def _number(text: str) -> str:
    return f'<td class="n">{escape(text)}</td>'


def _soft(text: str) -> str:
    """Return a paragraph in a softer colour, addresses as links."""
    words = []
    for word in text.split(" "):
        address = word.rstrip(".,")
        if address.startswith("https://"):
            rest = escape(word[len(address) :])
            words.append(f'<a href="{escape(address)}">{escape(address)}</a>{rest}')
        else:
            words.append(escape(word))
    return f'<p class="soft">{" ".join(words)}</p>'
