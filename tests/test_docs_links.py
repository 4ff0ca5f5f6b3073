"""Every relative link of the documentation leads to a file, and to a heading if it names one."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_INLINE = re.compile(r"\]\(\s*<?([^()\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_REFERENCE = re.compile(r"^\[[^\]]+\]:\s+<?(\S+?)>?\s*$", re.MULTILINE)


def links(text: str) -> list[str]:
    """The targets of a page's links, those to other sites left out."""
    prose = _CODE.sub("", _FENCE.sub("", text))
    targets = [*_INLINE.findall(prose), *_REFERENCE.findall(prose)]
    return [target for target in targets if not re.match(r"[a-z][a-z+.-]*:", target)]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", _FENCE.sub("", text), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page.read_text(encoding="utf-8")):
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        assert file.is_relative_to(ROOT), f"{page.name} links out of the repository: {target}"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{page.name}: {target}"


def test_there_are_links_of_each_kind() -> None:
    everything = [target for page in PAGES for target in links(page.read_text(encoding="utf-8"))]
    assert len(everything) > 50
    assert any("#" in target for target in everything)
    assert any(target.startswith("../") for target in everything)


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(links((ROOT / "README.md").read_text(encoding="utf-8")))
    pages = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}
    assert pages <= linked


def test_what_counts_as_a_link_and_as_an_anchor() -> None:
    text = (
        '[a](b.md#c "t") `[d](e)` [f](https://g) ![h](i.svg)\n```\n[j](k)\n# no\n```\n[l]: m.md\n'
    )
    assert links(text) == ["b.md#c", "i.svg", "m.md"]
    assert anchors("# A `b`: c's\n## Twice\n## Twice\n") == {"a-b-cs", "twice", "twice-1"}
