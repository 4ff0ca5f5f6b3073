"""The readable text of an HTML page: the article, without what surrounds it.

Built on the standard library's parser. Building a tree on top of it, as BeautifulSoup does, takes
three times as long, and extracting text needs no tree.
"""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

from .base import Unreadable


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NOISE = _words(
    "title script style template noscript nav svg iframe object canvas footer dialog"
    " button select textarea datalist"
)
_NOISE_ROLES = frozenset({"navigation", "search", "banner", "contentinfo"})
_NOISE_CLASSES = frozenset({"headerlink", "anchor-link"})
_ANCHORS = frozenset({"#", "¶", "§", "🔗"})  # the text of a heading's link to itself

_PARAGRAPHS = _words(
    "p div section article main header aside blockquote ul ol dl table figure figcaption"
    " form fieldset details summary address hr body caption pre h1 h2 h3 h4 h5 h6"
)
_LINES = _words("li tr dt dd br option")
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}

# `_VOID` elements have no end tag, and `_OPEN_ENDED` ones may lack it, so their end is unknown.
_VOID = _words("area base br col embed hr img input link meta param source track wbr")
_OPEN_ENDED = _words("p li dt dd tr td th thead tbody tfoot colgroup option optgroup html body")

_SPACE = re.compile(r"\s+")


def text_of_html(markup: str) -> str:
    """Return a page's title and text; headings begin with "# ", preformatted text is indented.

    If the page marks its main part, only that is read.

    Raises:
        Unreadable: it is not HTML at all.
    """
    page = _Page()
    try:
        page.feed(markup)
        page.close()
    except AssertionError as error:  # the parser's report of an invalid declaration
        raise Unreadable(f"not HTML ({error})") from None
    body = page.main_text() or page.text()
    title = _SPACE.sub(" ", "".join(page.title)).strip()
    if not title or body.split("\n", 1)[0].lstrip("# ") == title:
        return body
    return f"# {title}\n\n{body}".rstrip()


class _Page(HTMLParser):
    """Collects text, with the line breaks that the elements around it require."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title: list[str] = []
        self._parts: list[str] = []
        self._open: list[str] = []
        self._count: Counter[str] = Counter()  # the open elements, by name
        self._noise: int | None = None  # how many elements are open around the part being skipped
        self._main: int | None = None  # how many are open around the main part, while inside it
        self._main_begins: int | None = None  # where the main part begins and ends in `_parts`
        self._main_ends: int | None = None
        self._breaks = 0  # line breaks before the next text: 1 for a new line, 2 for a blank line
        self._before = ""  # the prefix of the next text: "# ", "- "
        self._heading = False
        self._space = False
        self._preformatted: list[str] | None = None

    def text(self) -> str:
        """Return all text."""
        return "".join(self._parts).strip("\n").rstrip()

    def main_text(self) -> str:
        """Return the text of the main part; empty if none is marked."""
        if self._main_begins is None:
            return ""
        return "".join(self._parts[self._main_begins : self._main_ends]).strip("\n").rstrip()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Handle an element that opens."""
        if tag in _VOID:
            if self._noise is None:
                self._begin(tag)
            return
        if self._noise is None:
            if _is_noise(tag, attrs):
                self._noise = len(self._open)
            else:
                if self._main_begins is None and (tag == "main" or ("role", "main") in attrs):
                    self._main, self._main_begins = len(self._open), len(self._parts)
                    self._break(2)
                self._begin(tag)
        self._open.append(tag)
        self._count[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        """Handle an element that closes, and those left open inside it."""
        if not self._count[tag]:
            return
        while True:
            closed = self._open.pop()
            self._count[closed] -= 1
            if self._noise is None:
                self._end(closed)
            elif self._noise == len(self._open):
                self._noise = None
            if self._main == len(self._open):
                self._main, self._main_ends = None, len(self._parts)
            if closed == tag:
                return

    def handle_data(self, data: str) -> None:
        """Handle text."""
        if self._noise is None:
            if self._preformatted is not None:
                self._preformatted.append(data)
            else:
                self._add(data)
        elif self._open[-1] == "title" and not self._count["svg"]:
            self.title.append(data)

    def updatepos(self, i: int, j: int) -> int:
        """Skip counting lines, which nobody uses and which takes an eighth of the time."""
        return j

    def _begin(self, tag: str) -> None:
        if self._preformatted is not None:
            if tag == "br":
                self._preformatted.append("\n")
        elif tag == "pre":
            self._preformatted = []
        elif tag in _HEADINGS:
            self._break(2)
            self._before, self._heading = _HEADINGS[tag], True
        elif tag in _PARAGRAPHS:
            self._break(2)
        elif tag in _LINES:
            self._break(1)
            if tag == "li":
                self._before = "- "
        elif tag in ("td", "th"):
            self._space = True

    def _end(self, tag: str) -> None:
        if tag == "pre" and self._preformatted is not None:
            self._add_preformatted("".join(self._preformatted))
            self._preformatted = None
        elif tag in _HEADINGS:
            self._before, self._heading = "", False
            self._break(2)
        elif tag in _PARAGRAPHS:
            self._break(2)
        elif tag in _LINES:
            self._break(1)

    def close(self) -> None:
        """End the page and every element left open."""
        super().close()
        while self._open:
            self.handle_endtag(self._open[-1])

    def _break(self, lines: int) -> None:
        # A heading is always one line.
        if self._heading:
            self._space = True
        else:
            self._breaks = max(self._breaks, lines)

    def _add(self, text: str) -> None:
        words = _SPACE.sub(" ", text)
        if self._heading and words.strip() in _ANCHORS:
            words = " "
        if words in ("", " "):
            self._space = self._space or bool(words)
            return
        if self._breaks:
            self._parts.append("\n" * self._breaks)
        elif (self._space or words[0] == " ") and self._parts and not self._before:
            self._parts.append(" ")
        self._parts.append(self._before + words.strip())
        self._breaks, self._before, self._space = 0, "", words[-1] == " "

    def _add_preformatted(self, text: str) -> None:
        lines = text.replace("\f", "\n").strip("\n").rstrip().split("\n")
        if lines != [""]:
            # Four spaces, as in Markdown, so that a "# comment" inside is not a heading.
            self._parts.append("\n\n" + "\n".join(("    " + line).rstrip() for line in lines))
        self._breaks, self._before, self._space = 2, "", False


def _is_noise(tag: str, attrs: list[tuple[str, str | None]]) -> bool:
    if tag in _NOISE:
        return True
    if tag in _OPEN_ENDED:
        return False
    for name, value in attrs:
        if name == "hidden" or (name == "aria-hidden" and value == "true"):
            return True
        if name == "role" and value in _NOISE_ROLES:
            return True
        if name == "class" and value and not _NOISE_CLASSES.isdisjoint(value.split()):
            return True
    return False
