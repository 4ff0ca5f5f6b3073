"""Results for the eye: the page with images, and small pictures in a terminal."""

from __future__ import annotations

import base64
import html.parser
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import retr
from retr.cli import run_command
from retr.commands.thumbnails import Protocol, choose, protocol_of
from retr.commands.thumbnails import picture as terminal_picture
from retr.retrieval.results.page import SIDE, page
from retr.retrieval.results.results import Results
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.types import Document, Hit, ImageAt, Query

from .toy_images import COLOURS, ToyImageEncoder, picture, save

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&\x1b[31m\u202e"


class Page(html.parser.HTMLParser):
    """What a browser would see: the elements, the images, the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.images: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def opened(src: str) -> Image.Image:
    head, data = src.split(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_page_has_the_query_the_images_scores_and_captions(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    picture("green", (1200, 900)).save(large)
    hits = [
        Hit(
            "a",
            0.875,
            "a green hill",
            str(large),
            None,
            {"year": 1999},
            0,
            None,
            ImageAt(str(large)),
        ),
        Hit("b", 0.25, "words alone about a hill", None, "lines 3-4", {}, 1),
        Hit("c", 0.125, None, None, None, {}, 2, None, ImageAt(str(tmp_path / "gone.png"))),
    ]
    query = Query(["green hill", "in spring"], image=picture("blue"), without="people")
    seen = Page(page([Results(query, hits, 7)]))
    assert len(seen.images) == 2
    asked, found = map(opened, seen.images)
    assert found.size == (SIDE, 360)
    assert np.allclose(np.asarray(found).mean(axis=(0, 1)), COLOURS["green"], atol=6)
    assert np.allclose(np.asarray(asked).mean(axis=(0, 1)), COLOURS["blue"], atol=6)
    for text in (
        *("green hill + in spring", "without people", "3 hits · generation 7", "0.8750", "0.2500"),
        *("large.png", "year", "1999", "lines 3-4", "no image: there is no such file"),
    ):
        assert text in seen.text
    assert seen.tags.count("li") == 3 and seen.tags.count("mark") >= 3


def test_nothing_of_a_document_becomes_markup(tmp_path: Path) -> None:
    metadata = {EVIL: EVIL, "deep": {"er": EVIL}}
    hit = Hit(EVIL, 1.0, EVIL, EVIL, EVIL, metadata, 0, None, ImageAt(EVIL))
    text = page([Results(Query(EVIL, id=EVIL, without=EVIL), [hit], 1)])
    plain = page(
        [Results(Query("x", id="x", without="x"), [Hit("x", 1, "x", "x", "x", {"x": "x"}, 0)], 1)]
    )
    seen = Page(text)
    assert set(seen.tags) <= {*Page(plain).tags, "mark", "img"}
    assert not {"script", "onerror"} & {*seen.tags, *seen.attributes} and not seen.images
    assert "\x1b" not in text and "\u202e" not in text
    assert "default-src 'none'" in text and "http" not in re.sub("http-equiv", "", text)


def test_a_page_of_nothing() -> None:
    assert "Nothing was found." in Page(page([Results(Query("x"), [], 1)])).text
    assert Page(page([])).text


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> retr.Collection:
    folder = tmp_path_factory.mktemp("gallery")
    documents = [Document(c, image=str(save(folder / f"{c}.png", c))) for c in COLOURS]
    return retr.build(documents, folder / "c.retr", encoder=ToyImageEncoder(), progress=False)


def test_results_write_themselves(collection: retr.Collection) -> None:
    results = collection.search("red", k=3)
    assert len(Page(results.html()).images) == 3


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command line open the toy, as an installed package's encoder would be."""
    from retr.retrieval.encoders import registry

    monkeypatch.setattr(registry, "family_class", lambda name: ToyImageEncoder)


@pytest.mark.usefixtures("encoder")
def test_the_command_line_searches_by_image(
    collection: retr.Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = ["--index", str(collection.path)]
    image = str(save(tmp_path / "q.png", "green"))
    assert run_command(["search", "--image", image, *index, "-k", "1"]) == 0
    out = capsys.readouterr().out
    assert '"id": "green"' in out and '"image"' in out
    composed = ["search", "blue", "--image", image, "--without", "green", "--weight", "without=1"]
    assert run_command([*composed, *index, "-k", "1"]) == 0
    assert '"id": "blue"' in capsys.readouterr().out
    target = tmp_path / "hits.html"
    assert run_command([*composed, *index, "--html", str(target)]) == 0
    assert "open it in a browser" in capsys.readouterr().err
    assert len(Page(target.read_text()).images) == 1 + len(COLOURS)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("tmp")] == []
    for wrong, message in (
        (["search", "--without", "x", *index], "no query is given"),
        (["search", "x", "--weight", "image", *index], "write text=W"),
        (["search", "x", "--weight", "colour=1", *index], "unknown weight 'colour'"),
        (["search", "x", "--html", str(tmp_path), *index], "is a folder"),
        (["search", "x", "--html", str(tmp_path / "no" / "x"), *index], "make it first"),
        (["search", "--image", str(tmp_path), *index], "cannot be read"),
    ):
        with pytest.raises(retr.RetrError, match=message):
            run_command(wrong)


# --- terminals


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "dumb", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-kitty"}, Protocol.KITTY),
        ({"TERM": "xterm-ghostty"}, Protocol.KITTY),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"}, None),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, Protocol.ITERM2),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, Protocol.ITERM2),
        ({"TERM": "foot"}, Protocol.SIXEL),
        ({"TERM": "screen", "RETR_THUMBNAILS": "sixel"}, Protocol.SIXEL),
        ({"TERM": "xterm-kitty", "RETR_THUMBNAILS": "off"}, None),
    ],
)
def test_what_a_terminal_speaks(environment: dict[str, str], expected: Protocol | None) -> None:
    assert protocol_of(environment) is expected


def test_a_terminal_that_is_not_known_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("RETR_THUMBNAILS", raising=False)
    assert choose(None) is None and choose(False) is None
    with pytest.raises(InputError, match="RETR_THUMBNAILS=kitty"):
        choose(True)
    with pytest.raises(InputError, match="'braille'; use kitty"):
        protocol_of({"RETR_THUMBNAILS": "braille"})


def drawn(text: str) -> np.ndarray:
    """Draw sixels as a terminal does, by the manual of the VT330: u8[height, width, 3]."""
    body = re.fullmatch(r" *\x1bP0;1q\"1;1;(\d+);(\d+)(.*)\x1b\\\n", text, re.DOTALL)
    assert body is not None
    width, height = int(body[1]), int(body[2])
    out = np.zeros((height, width, 3))
    colours: dict[int, list[float]] = {}
    x = y = current = 0
    for match in re.finditer(r"#(\d+)(?:;2;(\d+);(\d+);(\d+))?|!(\d+)(.)|([?-~])|([$-])", body[3]):
        if match[1]:
            current = int(match[1])
            if match[2]:
                colours[current] = [int(v) * 2.55 for v in match.group(2, 3, 4)]
        elif match[8]:
            x, y = 0, y + 6 * (match[8] == "-")
        else:
            count, char = int(match[5] or 1), match[6] or match[7]
            for bit in range(6):
                if (ord(char) - 63) >> bit & 1:
                    out[y + bit, x : x + count] = colours[current]
            x += count
    return out


@pytest.mark.parametrize("size", [(24, 16), (400, 900), (3000, 40), (1, 1)])
def test_pictures_in_terminals_are_the_images(size: tuple[int, int]) -> None:
    image = picture("purple", size)
    kitty = terminal_picture(image, Protocol.KITTY, 60, 3) or ""
    chunks = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", kitty)
    assert kitty.startswith("   \x1b_G") and [c[0][-1] for c in chunks][-1] == "0"
    shown = Image.open(io.BytesIO(base64.b64decode("".join(c[1] for c in chunks))))
    iterm = terminal_picture(image, Protocol.ITERM2, 60) or ""
    match = re.fullmatch(r"\x1b\]1337;File=inline=1;size=(\d+);[^:]*:(.*)\x07\n", iterm)
    assert match is not None and len(base64.b64decode(match[2])) == int(match[1])
    sixels = drawn(terminal_picture(image, Protocol.SIXEL, 60) or "")
    assert sixels.shape[:2] == (shown.height, shown.width) and shown.width <= 600
    for pixels in (np.asarray(shown), sixels):
        assert np.allclose(pixels.mean(axis=(0, 1)), COLOURS["purple"], atol=9)


def test_an_image_that_cannot_be_read_is_passed_over() -> None:
    assert terminal_picture(b"none", Protocol.KITTY, 60) is None
