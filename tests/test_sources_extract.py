"""The text of HTML pages, notebooks, PDF and DOCX files, whole ones and broken ones."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retr.retrieval.sources import Skipped, open_source
from retr.retrieval.sources.base import Unreadable
from retr.retrieval.sources.html import text_of_html
from retr.retrieval.text.passages import split
from retr.retrieval.values.types import Document


def one(path: Path) -> Document | Skipped:
    (found,) = open_source(path)
    return found


def text_of(path: Path, content: bytes | str) -> str | None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found = one(path)
    assert isinstance(found, Document), found
    return found.text


def reason(path: Path, content: bytes | str) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found = one(path)
    assert isinstance(found, Skipped), found
    return found.reason


# HTML


def test_a_page_is_read_as_people_read_it() -> None:
    page = """<!DOCTYPE html><html><head><title>The  Guide</title><style>p {}</style>
    <script>if (1 < 2) alert("<p>no</p>")</script></head>
    <body><nav><a href="/">Home</a></nav><!-- no -->
    <h1>Install<a class="headerlink" href="#i">¶</a></h1>
    <p>Run <b>the</b>
       <i>installer</i>, then<br>wait &amp; see&nbsp;it.</p>
    <pre><code>$ ./install
# as root
    --all</code></pre>
    <ul><li>first</li><li><p>second</p></li></ul>
    <table><tr><th>Name</th><th>Type</th></tr><tr><td>id</td><td>str</td></tr></table>
    <div hidden>no</div><footer>no</footer><p>last</body></html>"""
    assert text_of_html(page) == (
        "# The Guide\n\n# Install\n\nRun the installer, then\nwait & see it.\n\n"
        "    $ ./install\n    # as root\n        --all\n\n- first\n\n- second\n\n"
        "Name Type\nid str\n\nlast"
    )


def test_the_main_part_is_read_where_one_is_marked() -> None:
    page = "<title>T</title><div>menu</div><main><p>text</p></main><div>more</div>"
    assert text_of_html(page) == "# T\n\ntext"
    assert text_of_html(page.replace("main", 'div role="main"', 1).replace("/main", "/div")) == (
        "# T\n\ntext"
    )
    # An empty one marks nothing.
    assert text_of_html("<p>text</p><main></main>") == "text"


def test_a_title_that_is_the_first_heading_is_not_said_twice() -> None:
    assert text_of_html("<title>Same</title><h1>Same</h1><p>text") == "# Same\n\ntext"


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("just text", "just text"),
        ("", ""),
        ("<p>a<p>b<li>c<li>d", "a\n\nb\n- c\n- d"),
        ("<ul><li>a<li>b</ul>c", "- a\n- b\n\nc"),
        ("<p>open <b>bold", "open bold"),
        ("</p></div>after", "after"),
        ("<p>a</b></p>b", "a\n\nb"),
        ("a < b and c > d", "a < b and c > d"),
        ("<h2>C<br>D <b>E</b></h2>f", "## C D E\n\nf"),
        ("<p hidden>open-ended<p>text", "open-ended\n\ntext"),
        ("<svg><title>no</title></svg>x<title>yes</title>", "# yes\n\nx"),
        ("<nav>never closed <p>no", ""),
        ("<pre>a<br>b</pre><pre>\n\n</pre>c", "    a\n    b\n\nc"),
        ("x<script>unclosed <p>no", "x"),
        ("<div>" * 5000 + "deep" + "</div>" * 5000, "deep"),
        ("caf&eacute; &#233; &unknown; &#xD800;", "café é &unknown; \ufffd"),
    ],
)
def test_broken_pages(page: str, expected: str) -> None:
    assert text_of_html(page) == expected


@given(
    st.lists(
        st.sampled_from(
            ["<p>", "</p>", "<div>", "</div>", "<pre>", "</pre>", "<h1>", "</h1>", "<nav>", "<!--",
             "-->", "<![", "]]>", "<main>", "</main>", "<br/>", "<", ">", "&", "&lt", "text", " ",
             "\n", "<script>", "</script>", "<title>", "</title>", '<a b="', "<?x", "<!DOCTYPE",
             "\f", "<td hidden>", "<li>", "\x00"],
        ),
        max_size=30,
    ).map("".join)
)  # fmt: skip
def test_no_page_breaks_the_reader(page: str) -> None:
    try:
        text = text_of_html(page)
    except Unreadable:
        return
    assert text == text.strip("\n").rstrip()
    assert bool(split(text, "html")) == bool(text)


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ('<meta charset="iso-8859-1">', "cp1252"),
        ("<meta charset=latin1>", "latin-1"),
        ("<META http-equiv='Content-Type' content='text/html; charset=windows-1251'>", "cp1251"),
        ('<?xml version="1.0" encoding="koi8-r"?>', "koi8-r"),
        ('<meta charset="shift_jis">', "shift_jis"),
        ('<meta charset="utf-8">', "utf-8"),
        ('<meta charset="utf-16">', "utf-8"),  # in ASCII it cannot be true
        ('<meta charset="klingon">', "utf-8"),
        ('<meta charset="rot13">', "utf-8"),
        ('<meta charset="unicode_escape">', "utf-8"),
        ("", "utf-8"),
        ('<meta charset="iso-8859-1">', "utf-8-sig"),
        ('<meta charset="iso-8859-1">', "utf-16"),
    ],
)
def test_the_charset_a_page_declares_is_honoured(tmp_path: Path, head: str, encoding: str) -> None:
    word = {"cp1251": "Привет", "koi8-r": "Привет", "shift_jis": "こんにちは"}.get(encoding, "café")
    page = f"{head}<p>{word}</p>"
    assert text_of(tmp_path / "a.html", page.encode(encoding)) == word


def test_a_page_in_no_known_encoding_is_skipped(tmp_path: Path) -> None:
    assert reason(tmp_path / "a.html", b"<p>caf\xe9").startswith("not UTF-8 (byte 0xe9 at 6)")
    assert reason(tmp_path / "a.html", b"<meta charset=ascii><script>x</script>") == "empty"


# Notebooks and Markdown


def notebook(*cells: tuple[str, object]) -> str:
    return json.dumps(
        {
            "cells": [
                {"cell_type": kind, "source": source, "outputs": [{"text": "output"}]}
                for kind, source in cells
            ],
            "nbformat": 4,
        }
    )


def test_a_notebook_is_its_cells(tmp_path: Path) -> None:
    cells = [("markdown", ["# Title\n", "text"]), ("code", ""), ("code", "x = 1\f\nprint(x)")]
    text = text_of(tmp_path / "a.ipynb", notebook(*cells))
    assert text == "# Title\ntext\f\fx = 1\n\nprint(x)"
    assert [p.place for p in split(text, "cells", 20)] == ["cell 1", "cell 3"]
    old = {"worksheets": [{"cells": [{"input": "a"}, {"source": ["b"]}]}], "nbformat": 3}
    assert text_of(tmp_path / "a.ipynb", json.dumps(old)) == "a\fb"


def test_embedded_images_are_no_text(tmp_path: Path) -> None:
    image = "![x](data:image/png;base64," + "iVBOR" * 100 + ")"
    assert text_of(tmp_path / "a.ipynb", notebook(("markdown", image))) == "![x]()"
    assert text_of(tmp_path / "a.md", f"one\n{image}\ntwo") == "one\n![x]()\ntwo"
    short = "`data:image/png;base64,iVBOR`"
    assert text_of(tmp_path / "a.md", short) == short


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "null", "{}", '{"cells": 3}', '{"cells": [3]}', '{"cells": [{"source": [1]}]}',
     '{"cells": ' + "[" * 100_000],
)  # fmt: skip
def test_broken_notebooks_are_skipped(tmp_path: Path, content: str) -> None:
    assert reason(tmp_path / "a.ipynb", content) == "not a notebook: it is not JSON with cells"


@pytest.mark.parametrize("content", ["", '{"cells": []}', notebook(("code", ""), ("raw", " "))])
def test_empty_notebooks_are_empty(tmp_path: Path, content: str) -> None:
    assert reason(tmp_path / "a.ipynb", content) == "empty"


# PDF


def pdf(pages: list[list[str]], encrypt: str = "") -> bytes:
    """Return a PDF with these lines of text on its pages."""
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", font]
    kids = []
    for lines in pages:
        stream = "BT /F1 12 Tf 14 TL 72 720 Td " + " ".join(f"({line}) ' " for line in lines) + "ET"
        kids.append(len(objects) + 1)
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {len(objects) + 2} 0 R"
            " /Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream".encode())
    refs = " ".join(f"{kid} 0 R" for kid in kids)
    objects[1] = f"<< /Type /Pages /Kids [{refs}] /Count {len(kids)} >>".encode()
    out = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    trailer = (
        f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R"
        f" {encrypt} >>\nstartxref\n{len(out)}\n%%EOF\n"
    )
    return out + trailer.encode()


def test_a_pdf_is_its_pages(tmp_path: Path) -> None:
    pytest.importorskip("pypdfium2")
    text = text_of(tmp_path / "a.pdf", pdf([["First page.", "Second line."], [], ["Third page."]]))
    assert text == "First page.\nSecond line.\f\fThird page."
    assert [p.place for p in split(text, "pages")] == ["page 1", "page 3"]


def test_broken_pdfs_are_skipped(tmp_path: Path) -> None:
    pytest.importorskip("pypdfium2")
    path = tmp_path / "a.pdf"
    assert "no text; run OCR on a scanned PDF" in reason(path, pdf([[], []]))
    for content in (b"", b"not a pdf", b"%PDF-1.4\n", pdf([["text"]])[:100]):
        assert reason(path, content).startswith("a damaged PDF (")
    locked = "/Encrypt << /Filter /Standard /V 1 /R 2 /P -44 /O <{0}> /U <{0}> >> /ID [<00> <00>]"
    content = pdf([["secret"]], locked.format("ab" * 32))
    assert reason(path, content) == "an encrypted PDF; remove its password"
    found = one(path)
    assert isinstance(found, Skipped) and found.id == "a.pdf"


def test_missing_extras_are_named(tmp_path: Path) -> None:
    for name in ("a.pdf", "b.docx"):
        (tmp_path / name).write_bytes(b"x")
    # None in sys.modules is how Python says that a module cannot be imported.
    code = (
        "import sys; sys.modules.update(pypdfium2=None, docx=None)\n"
        "from retr.retrieval.sources import open_source\n"
        f"for found in open_source({str(tmp_path)!r}): print(found.id.split('/')[1], found.reason)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "a.pdf PDF needs an extra: pip install 'retr[pdf]'",
        "b.docx DOCX needs an extra: pip install 'retr[docx]'",
    ]


# DOCX


def test_a_docx_is_its_paragraphs_and_tables(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    document = docx.Document()
    document.add_heading("The report", 0)
    document.add_paragraph("First.")
    document.add_heading("A  part", 2)
    table = document.add_table(2, 2)
    for at, text in enumerate(["Name", "Type", "id", "str"]):
        table.rows[at // 2].cells[at % 2].text = text
    document.add_paragraph("")
    document.add_paragraph("Last.")
    document.save(tmp_path / "a.docx")
    found = one(tmp_path / "a.docx")
    assert isinstance(found, Document)
    assert found.text == "# The report\n\nFirst.\n\n## A part\n\nName | Type\nid | str\n\nLast."
    assert found.kind == "html"
    assert [p.place for p in split(found.text, "html", 40)] == [
        'section "The report"',
        'section "A part"',
    ]
    docx.Document().save(tmp_path / "a.docx")
    assert reason(tmp_path / "a.docx", (tmp_path / "a.docx").read_bytes()) == "empty"


def test_broken_docx_files_are_skipped(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    path = tmp_path / "a.docx"
    for content in (b"", b"no zip", b"PK\x03\x04"):
        assert reason(path, content).startswith("a damaged DOCX (")
    docx.Document().save(path)
    whole = path.read_bytes()
    assert reason(path, whole[: len(whole) // 2]).startswith("a damaged DOCX (")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.xml", "<x/>")
    assert reason(path, path.read_bytes()).startswith("a damaged DOCX (")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"<w>" + b" " * 70_000_000)
    assert path.stat().st_size < 100_000
    assert reason(path, path.read_bytes()) == "more than 64 MB of text; split it"
