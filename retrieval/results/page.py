"""Results as one self-contained HTML page: queries, images, scores, captions.

The page loads nothing: images are embedded as thumbnails, there is no script, and the page's
content security policy blocks anything that a text might smuggle in. All text is escaped.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Protocol

from ..text.highlight import Words, snippet
from ..values.errors import MissingExtraError
from ..values.images import UnreadableImageError, open_image
from ..values.shown import plain, score_text, shorter_path
from ..values.version import __version__

if TYPE_CHECKING:
    from ..values.types import Hit, Query

SIDE = 480
"""The longer side of an embedded image, in pixels."""
QUERY_SIDE = 320
EMBEDDED = 1000
"""Maximum images embedded in a page; later ones are listed by name, so that the page opens."""
TEXT = 400

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Answer(Protocol):
    """The hits of one query, best first; `Results` is one."""

    query: Query
    generation: int

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Hit]: ...


def page(answers: Sequence[Answer]) -> str:
    """Return the HTML page that shows the answers to one or several queries."""
    sections = _Sections()
    body = "\n".join(part for each in answers for part in sections.of(each))
    first = answers[0] if answers else None
    title = "retr" if first is None else f"{_asked(first.query) or 'a query'} · retr"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n"
        f"<footer>made by retr {escape(__version__)}</footer>\n</body>\n</html>\n"
    )


class _Sections:
    """Writes one section per query; `embedded` counts the images so far."""

    def __init__(self) -> None:
        self.embedded = 0

    def of(self, results: Answer) -> Iterator[str]:
        yield "<section>"
        yield self._query(results)
        if not len(results):
            yield '<p class="none">Nothing was found.</p>'
        yield '<ol class="hits">'
        words = Words(results.query.text or "")
        for rank, hit in enumerate(results, start=1):
            yield self._hit(rank, hit, results.query, words)
        yield "</ol>\n</section>"

    def _query(self, results: Answer) -> str:
        query = results.query
        parts = [f'<img src="{src}" alt="query image">' for src in map(self._small, query.images)]
        asked = _asked(query)
        if query.vector is not None and not asked:
            asked = f"a vector of {len(query.vector)} dimensions"
        heading = f"<h1>{_text(asked)}</h1>" if asked else "<h1>like this</h1>"
        chips = [f'<span class="chip">{_text(query.id)}</span>'] if query.id else []
        for unwanted in query.without:
            what = unwanted if isinstance(unwanted, str) else "an image"
            chips.append(f'<span class="chip without">without {_text(what)}</span>')
        found = "1 hit" if len(results) == 1 else f"{len(results):,} hits"
        chips.append(f'<span class="count">{found} · generation {results.generation:,}</span>')
        pictures = f'<div class="asked">{"".join(parts)}</div>' if parts else ""
        return (
            f'<header>{pictures}<div>{heading}<p class="chips">{"".join(chips)}</p></div></header>'
        )

    def _hit(self, rank: int, hit: Hit, query: Query, words: Words) -> str:
        picture = "" if hit.image is None else self._figure(hit)
        text = _marked(hit.text, query.text or "", words) if hit.text else ""
        said = f'<p class="said">{text}</p>' if text else ""
        kind = "picture" if picture else "words"
        where = (hit.id if hit.uri is None else shorter_path(hit.uri)).rsplit("/", 1)[-1]
        place = f' <span class="place">{_text(hit.place)}</span>' if hit.place else ""
        facts = "".join(
            f"<dt>{_text(name)}</dt><dd>{_text(_value(value))}</dd>"
            for name, value in [("id", hit.id), *hit.metadata.items()]
            if value is not None
        )
        return (
            f'<li class="{kind}">{picture}<div class="below">'
            f'<p class="line"><span class="rank">{rank}</span>'
            f'<span class="where" title="{_text(hit.uri or hit.id)}">{_text(where)}</span>{place}'
            f'<span class="score">{score_text(hit.score)}</span></p>{said}'
            f"<details><summary>details</summary><dl>{facts}</dl></details></div></li>"
        )

    def _figure(self, hit: Hit) -> str:
        if self.embedded >= EMBEDDED:
            return '<div class="frame missing">not embedded: the page has too many images</div>'
        self.embedded += 1
        try:
            src = data_uri(hit.image, SIDE)
        except (UnreadableImageError, MissingExtraError) as error:
            reason = error.reason if isinstance(error, UnreadableImageError) else str(error)
            return f'<div class="frame missing">no image: {_text(reason)}</div>'
        alt = _text(" ".join((hit.text or hit.id).split())[:TEXT])
        return f'<div class="frame"><img src="{src}" alt="{alt}" loading="lazy"></div>'

    def _small(self, image: Any) -> str:
        return data_uri(image, QUERY_SIDE)


def data_uri(image: Any, side: int) -> str:
    """Return an image as a `data:` address, at most `side` pixels wide and high.

    Raises:
        UnreadableImageError: it cannot be read.
        MissingExtraError: Pillow is not installed.
    """
    return "data:image/jpeg;base64," + base64.b64encode(small_jpeg(image, side)).decode()


def small_jpeg(image: Any, side: int) -> bytes:
    """Return the bytes of a JPEG of an image, at most `side` pixels wide and high."""
    opened = open_image(image)
    opened.thumbnail((side, side))
    out = io.BytesIO()
    opened.save(out, "JPEG", quality=82)
    return out.getvalue()


def _asked(query: Query) -> str:
    return " + ".join(query.texts)


def _text(value: str) -> str:
    """Return a text as HTML, with control and direction characters made visible or removed."""
    return escape(plain(value), quote=True)


def _value(value: Any) -> str:
    import json

    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= TEXT else text[:TEXT] + "…"


def _marked(text: str, query: str, words: Words) -> str:
    """Return the part of a text to show as HTML, with the query's words marked."""
    found = snippet(text, query, TEXT)
    out, behind = [], 0
    for start, end in found.matches:
        out += [_text(found.text[behind:start]), "<mark>", _text(found.text[start:end]), "</mark>"]
        behind = end
    out.append(_text(found.text[behind:]))
    before, after = "…" if found.before else "", "…" if found.after else ""
    return f"{before}{''.join(out)}{after}"


_STYLE = """
:root { --ground: #f6f5f2; --card: #fff; --ink: #1d1c1a; --soft: #6c6962; --line: #e4e1da;
  --frame: #eceae4; --mark: #ffe9a8; --accent: #8a5a14; --unwanted: #a4372a; }
@media (prefers-color-scheme: dark) { :root { --ground: #161513; --card: #201f1c; --ink: #eceae5;
  --soft: #9b978d; --line: #34322d; --frame: #2a2925; --mark: #5c4a16; --accent: #e0b162;
  --unwanted: #ef8d7f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1440px; margin: 0 auto; padding: 40px 28px 8px; }
section + section { border-top: 1px solid var(--line); margin-top: 44px; padding-top: 40px; }
header { display: flex; gap: 24px; align-items: center; margin-bottom: 28px; }
h1 { font-size: clamp(22px, 3vw, 32px); line-height: 1.2; margin: 0 0 10px; font-weight: 640;
  letter-spacing: -.012em; text-wrap: balance; overflow-wrap: anywhere; }
.asked { display: flex; gap: 10px; flex: none; }
.asked img { height: 132px; max-width: 220px; object-fit: cover; border-radius: 12px;
  box-shadow: 0 0 0 3px var(--card), 0 0 0 5px var(--accent); margin: 5px; }
.chips { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; margin: 0; }
.chip { border: 1px solid var(--line); background: var(--card); border-radius: 99px;
  padding: 2px 12px; font-size: 13px; }
.chip.without { color: var(--unwanted); border-color: currentColor; }
.count, footer, .none { color: var(--soft); font-size: 13px; }
.hits { list-style: none; margin: 0; padding: 0; display: grid; gap: 20px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 250px), 1fr)); }
.hits li { background: var(--card); border: 1px solid var(--line); border-radius: 14px;
  overflow: hidden; display: flex; flex-direction: column; min-width: 0; }
.frame { position: relative; aspect-ratio: 4 / 3; flex: none; background: var(--frame);
  display: flex; align-items: center; justify-content: center; }
.frame img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
.frame.missing { color: var(--soft); font-size: 13px; padding: 20px; text-align: center; }
.below { padding: 12px 16px 12px; display: flex; flex-direction: column; gap: 6px; flex: 1; }
.below p { margin: 0; }
.line { display: flex; gap: 8px; align-items: baseline; font-size: 13px; color: var(--soft); }
.rank { color: var(--accent); font-weight: 700; font-variant-numeric: tabular-nums; }
.where { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; min-width: 0; flex: 1; }
.place { flex: none; }
.score { font-variant-numeric: tabular-nums; flex: none; color: var(--ink); }
.said { overflow-wrap: anywhere; }
.picture .said { display: -webkit-box; -webkit-line-clamp: 4; -webkit-box-orient: vertical;
  overflow: hidden; }
.words .said { display: -webkit-box; -webkit-line-clamp: 11; -webkit-box-orient: vertical;
  overflow: hidden; font-size: 16.5px; line-height: 1.55;
  font-family: ui-serif, Charter, Georgia, serif; }
mark { background: var(--mark); color: inherit; border-radius: 3px; padding: 0 2px; }
details { font-size: 12.5px; color: var(--soft); margin-top: auto; }
summary { cursor: pointer; width: max-content; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 2px 12px;
  margin: 8px 0 2px; }
dt { font-weight: 600; } dd { margin: 0; overflow-wrap: anywhere; color: var(--ink); }
footer { max-width: 1440px; margin: 0 auto; padding: 28px; }
@media (max-width: 560px) { main { padding: 24px 16px 4px; } header { flex-direction: column;
  align-items: flex-start; } }
@media print { body { background: #fff; } .hits li { break-inside: avoid; }
  details { display: none; } }
"""
