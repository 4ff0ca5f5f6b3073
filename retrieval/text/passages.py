"""Splits a document's text into passages, each small enough for an encoder to read whole.

semantic-text-splitter does the splitting: it fills a passage with the largest units that fit,
sections, then paragraphs, lines, sentences, words. This module adds what it lacks: a readable
place for each passage, and linear time for long texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..values.errors import InputError

if TYPE_CHECKING:
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

# Encoders such as MiniLM read 256 tokens and drop the rest. Measured with its tokenizer on
# passages of 800 characters: prose (4.4 characters per token) is always read whole, code and
# Markdown (3.3) nine times in ten, which loses 2 and 5% of the tokens; with 1,000 characters the
# loss is 8 and 13%, with 600 below 1%.
SIZE = 800

KINDS = ("text", "markdown", "html", "code", "pages", "cells", "captions")

# Within one call the splitter takes quadratic time for a text without breaks (1 MB in one line:
# 10 s), so longer texts are first cut into blocks, at a good place near the end of each.
_BLOCK = 16_000

_HEADING = re.compile(r"^#{1,6} +(\S.*)$", re.MULTILINE)
_HEADING_LENGTH = 80
_HEADINGS = re.compile(r"(?:#{1,6} [^\n]*\n\s*)*#{1,6} [^\n]*")


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document's text.

    place: its position in the document, for people to read; None if it is the whole text.
    """

    text: str
    place: str | None


def split(text: str, kind: str | None, size: int = SIZE) -> list[Passage]:
    """Return the passages of `text` in order, each of at most `size` characters.

    Together they contain every character that is not white space. A text of only white space has
    no passages, except for kind None.

    kind: the kind of text, which decides the cuts and the places:
        "text", "code"   by paragraphs and lines: "lines 12-30", counted from 1 by "\\n";
        "markdown"       by sections too: "lines 12-30";
        "html"           text whose headings begin with "# " (from HTML and DOCX), by
                         sections: 'section "Install"', or "passage 3" before any heading;
        "pages"          pages joined by form feeds, never across two: "page 3";
        "cells"          cells joined by form feeds, small ones together: "cells 4-6";
        "captions"       one line per caption of an image, without places;
        None             one passage, the unchanged text, however long.

    Raises:
        InputError: `size` is below 1.
        ValueError: there is no such kind.
    """
    if kind is None:
        return [Passage(text, None)]
    if size < 1:
        raise InputError(f"the passage size {size} is too small: give at least 1 character")
    text = _encodable(text)
    if kind == "captions":
        lines = (line.strip() for line in text.split("\n"))
        return [Passage(p.text, None) for line in lines for p in split(line, "text", size)]
    if kind in ("text", "code", "markdown"):
        passages = list(_by_lines(text, kind, size))
    elif kind == "html":
        passages = list(_by_sections(text, size))
    elif kind == "pages":
        passages = list(_by_pages(text, size))
    elif kind == "cells":
        passages = list(_by_cells(text, size))
    else:
        raise ValueError(f"there is no kind of text {kind!r}; use {', '.join(KINDS)}")
    if len(passages) == 1 and (kind != "pages" or "\f" not in text):
        return [Passage(passages[0].text, None)]
    return passages


def _by_lines(text: str, kind: str, size: int) -> Iterator[Passage]:
    line, counted = 1, 0
    for start, end in _cuts(text, kind, size):
        line += text.count("\n", counted, start)
        last = line + text.count("\n", start, end)
        yield Passage(text[start:end], _numbers("line", line, last))
        line, counted = last, end


def _by_sections(text: str, size: int) -> Iterator[Passage]:
    headings = [(match.start(), match[1].rstrip(" #")) for match in _HEADING.finditer(text)]
    behind = 0
    for number, (start, end) in enumerate(_cuts(text, "markdown", size), start=1):
        while behind < len(headings) and headings[behind][0] <= start:
            behind += 1
        if behind == 0:
            place = f"passage {number}"
        else:
            heading = headings[behind - 1][1]
            if len(heading) > _HEADING_LENGTH:
                heading = heading[: _HEADING_LENGTH - 1] + "…"
            place = f'section "{heading}"'
        yield Passage(text[start:end], place)


def _by_pages(text: str, size: int) -> Iterator[Passage]:
    for number, page in enumerate(text.split("\f"), start=1):
        if page.strip():
            cuts = _cuts(page, "text", size)
            yield from (Passage(page[start:end], f"page {number}") for start, end in cuts)


def _by_cells(text: str, size: int) -> Iterator[Passage]:
    # A cell is often one line, a heading or an import, so neighbours are joined while they fit.
    together: list[str] = []
    first = last = length = 0
    for number, cell in enumerate(text.split("\f"), start=1):
        body = cell.strip("\n").rstrip()
        if not body.strip():
            continue
        if together and length + 2 + len(body) <= size:
            together.append(body)
            last, length = number, length + 2 + len(body)
            continue
        if together:
            yield Passage("\n\n".join(together), _numbers("cell", first, last))
            together = []
        if len(body) <= size:
            together, first, last, length = [body], number, number, len(body)
        else:
            for start, end in _cuts(body, "text", size):
                yield Passage(body[start:end], f"cell {number}")
    if together:
        yield Passage("\n\n".join(together), _numbers("cell", first, last))


def _numbers(word: str, first: int, last: int) -> str:
    return f"{word} {first}" if first == last else f"{word}s {first}-{last}"


def _cuts(text: str, kind: str, size: int) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each passage, without the white space around it."""
    cuts = _trimmed(text, kind, size)
    if kind != "markdown":
        yield from cuts
        return
    # The splitter leaves a heading by itself if it cuts the section below.
    alone: tuple[int, int] | None = None
    for start, end in cuts:
        if alone is not None:
            if end - alone[0] <= size:
                start = alone[0]
            else:
                yield alone
        alone = None
        if _HEADINGS.fullmatch(text, start, end):
            alone = start, end
        else:
            yield start, end
    if alone is not None:
        yield alone


def _trimmed(text: str, kind: str, size: int) -> Iterator[tuple[int, int]]:
    splitter = _splitter(kind, size)
    behind = 0
    for begin, stop in _blocks(text, kind, size):
        # If told to trim, the splitter removes the indentation of a first line, which code needs.
        for offset, chunk in splitter.chunk_indices(text[begin:stop]):
            end = begin + offset + len(chunk.rstrip())
            start = begin + offset + len(chunk) - len(chunk.lstrip())
            if start >= end:
                continue
            line = text.rfind("\n", behind, start) + 1
            if (line or not behind) and text[line:start].isspace() and end - line <= size:
                start = line
            yield start, end
            behind = end


def _blocks(text: str, kind: str, size: int) -> Iterator[tuple[int, int]]:
    """Yield the start and end of consecutive pieces of `text` of bounded length."""
    length = max(_BLOCK, 8 * size)
    sections = ("\n# ", "\n## ", "\n### ") if kind == "markdown" else ()
    start = 0
    while len(text) - start > length:
        low, high = start + length // 2, start + length
        for mark in (*sections, "\n\n", "\n", ". ", " "):
            found = text.rfind(mark, low, high)
            if found >= 0:
                high = found + 1
                break
        yield start, high
        start = high
    yield start, len(text)


def _splitter(kind: str, size: int) -> MarkdownSplitter | TextSplitter:
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    if kind == "markdown":
        return MarkdownSplitter(size, trim=False)
    return TextSplitter(size, trim=False)


def _encodable(text: str) -> str:
    """Return `text` with lone surrogates, which UTF-8 cannot encode, as question marks."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
