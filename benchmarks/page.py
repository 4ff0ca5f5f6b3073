"""A report: one list of blocks, rendered for a terminal, as Markdown and as one HTML page.

A block is a `Heading`, a `Text`, a `Table` or a `Figure`. The page needs nothing else: no script,
font or picture from outside; it is readable in light and dark.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from .tables import Table, linked


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading; the one of level 1 is the title of the page."""

    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; `warning` makes it stand out, `code` a command to be copied."""

    text: str
    warning: bool = False
    code: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot, see `plot.draw`.

    svg:  the element.
    file: in Markdown, the picture beside the report; "" leaves the figure out there.
    text: what the picture shows, for those who do not see it.
    """

    svg: str
    file: str = ""
    text: str = ""


Block = Heading | Text | Table | Figure


def text_of(blocks: Iterable[Block]) -> str:
    """Return the blocks as text for a terminal; figures are left out."""
    parts = []
    for block in blocks:
        match block:
            case Heading(text):
                parts.append(text)
            case Text(text):
                parts.append(text)
            case Table():
                parts.append(block.text())
    return "\n\n".join(parts)


def markdown_of(blocks: Iterable[Block]) -> str:
    """Return the blocks as Markdown."""
    parts = []
    for block in blocks:
        match block:
            case Heading(text, level):
                parts.append(f"{'#' * level} {text}")
            case Text(text, code=True):
                parts.append(f"    {text}")
            case Text(text):
                parts.append(text)
            case Table():
                parts.append(block.markdown())
            case Figure(file=file, text=text) if file:
                parts.append(f"![{text}]({file})")
    return "\n\n".join(parts) + "\n"


def html_of(blocks: Iterable[Block]) -> str:
    """Return the blocks as one HTML page."""
    blocks = list(blocks)
    title = next((b.text for b in blocks if isinstance(b, Heading) and b.level == 1), "Report")
    parts = []
    for block in blocks:
        match block:
            case Heading(text, level):
                parts.append(f"<h{level}>{escape(text)}</h{level}>")
            case Text(text, code=True):
                parts.append(f"<p><code>{escape(text)}</code></p>")
            case Text(text, warning):
                kind = "warn" if warning else "soft"
                parts.append(f'<p class="{kind}">{linked(text)}</p>')
            case Table():
                parts.append(block.html())
            case Figure(svg):
                parts.append(f"<figure>{svg}</figure>")
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1f24; --soft: #5b6470; --line: #d9dde3;
  --tint: #f4f6f8; --warn: #fff3d6; --link: #2f6db3; }
@media (prefers-color-scheme: dark) { :root { --paper: #16191d; --ink: #e6e9ed; --soft: #9aa4b0;
  --line: #353b43; --tint: #1f242a; --warn: #4a3a10; --link: #6aa5e8; } }
body { box-sizing: border-box; margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 70rem;
  background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: .95rem; margin: 1.5rem 0 .3rem; } p { margin: .4rem 0; }
a { color: var(--link); } .soft { color: var(--soft); font-size: .9rem; }
.warn { background: var(--warn); padding: .5rem .75rem; border-radius: 4px; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; white-space: nowrap; } td.wide { white-space: normal; min-width: 20rem; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
tr.strong td { background: var(--tint); font-weight: 600; }
code { font: .88em ui-monospace, monospace; overflow-wrap: anywhere; }
"""
