"""Extracts the text of a file by its suffix: prose, code, HTML, notebook, PDF, DOCX."""

from __future__ import annotations

import codecs
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from ..values.errors import missing_extra
from ..values.images import SUFFIXES
from .base import Unreadable
from .streams import BYTE_ORDER_MARKS
from .values import encodable

# The whole text is held in memory while it is split.
SIZE_LIMIT = 64 * 1024 * 1024

_KINDS = {
    "markdown": ".md .markdown .mdown .mkd .mdx .qmd .rmd",
    "html": ".html .htm .xhtml .docx",
    "cells": ".ipynb",
    "pages": ".pdf",
    "code": (
        ".asm .awk .bash .bat .bzl .c .cc .cfg .cjs .clj .cljs .cmake .coffee .conf .cpp .cr .cs"
        " .css .cu .cuh .cxx .d .dart .ebnf .el .erl .ex .exs .f .f90 .fish .fs .go .gradle .groovy"
        " .h .hcl .hh .hpp .hs .hxx .ini .java .jl .js .jsx .kt .kts .less .lisp .lua .m .mjs .ml"
        " .mli .mm .nim .nix .pas .php .pl .pm .proto .ps1 .py .pyi .pyx .r .rb .rs .sass .scala"
        " .scm .scss .sh .sol .sql .sv .svelte .swift .tcl .tf .toml .ts .tsx .v .vhd .vim .vue"
        " .xml .xsl .yaml .yml .zig .zsh"
    ),
}
_KIND_OF_ENDING = {ending: kind for kind, endings in _KINDS.items() for ending in endings.split()}

# Files of records, which are columns rather than prose.
_DATA = frozenset({".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".npy", ".geojson"})

# Formats without text whose files may lack a zero byte at the beginning.
_BINARY_ENDINGS = (
    ".7z .avi .bin .bmp .bz2 .class .dll .doc .dylib .eps .exe .flac .gif .gz .ico .jar .jpeg .jpg"
    " .lz4 .mkv .mov .mp3 .mp4 .npz .o .odt .ogg .onnx .otf .pickle .pkl .png .ppt .pptx .ps .pt"
    " .pth .rar .safetensors .so .sqlite .svg .svgz .tar .tgz .tif .tiff .ttf .wasm .wav .webm"
    " .webp .whl .woff .woff2 .xls .xlsx .xz .zip .zst"
)
_BINARY = frozenset(_BINARY_ENDINGS.split())

# `<meta charset=…>`, `<meta … content="text/html; charset=…">`, `<?xml … encoding=…?>`
_DECLARED = re.compile(
    rb"""<(?:meta\b[^>]*?\bcharset|\?xml\b[^>]*?\bencoding)\s*=\s*["']?\s*([\w:.-]+)""",
    re.IGNORECASE | re.ASCII,
)

_EMBEDDED = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[\w=.+-]+)*;base64,[A-Za-z0-9+/=]{64,}")


def kind_of(path: str) -> str:
    """Return how to split the text of a file, one of `passages.KINDS`."""
    return _KIND_OF_ENDING.get(_ending(path), "text")


def text_of(path: str, *, data: bool = False) -> str:
    """Return the text of a file, with "\\n" line ends and without lone surrogates.

    data: also read files of records as text, which other sources read otherwise.

    Raises:
        Unreadable: it is empty, not a text, damaged, encrypted, too large, or needs an extra.
        OSError: it cannot be opened.
    """
    ending = _ending(path)
    if ending in _DATA and not data:
        raise Unreadable(
            "a data file; from a folder retr reads prose and code, so index this file by itself",
            holds_no_text=True,
        )
    if ending == ".pdf":
        text = _text_of_pdf(path)
    elif ending == ".docx":
        text = _text_of_docx(path)
    else:
        text = _text_of_bytes(_bytes_of(path, ending), ending)
    text = encodable(text.replace("\r\n", "\n").replace("\r", "\n"))
    if not text.strip():
        raise Unreadable("empty" if ending != ".pdf" else _SCAN, holds_no_text=True)
    return text


AN_IMAGE = "an image, but the encoder takes only texts; clip:MODEL takes both"
_SCAN = "its pages hold no text; run OCR on a scanned PDF first"


def _ending(path: str) -> str:
    return Path(path).suffix.lower()


def _bytes_of(path: str, ending: str) -> bytes:
    with Path(path).open("rb") as file:
        head = file.read(8192)
        marked = any(head.startswith(mark) for mark, _ in BYTE_ORDER_MARKS)
        if ending in SUFFIXES:
            raise Unreadable(AN_IMAGE)
        if ending in _BINARY or (b"\0" in head and not marked):
            raise Unreadable("binary")
        data = head + file.read(SIZE_LIMIT + 1 - len(head))
    if len(data) > SIZE_LIMIT:
        raise Unreadable(_too_large())
    if b"\0" in data and not marked:
        raise Unreadable("binary")
    return data


def _too_large() -> str:
    return f"more than {SIZE_LIMIT >> 20} MB of text; split it"


def _text_of_bytes(data: bytes, ending: str) -> str:
    if _KIND_OF_ENDING.get(ending) == "html":
        from .html import text_of_html

        return text_of_html(_decoded(data, _charset_of_html(data)))
    text = _decoded(data, None)
    if ending == ".ipynb":
        return _text_of_notebook(text)
    if _KIND_OF_ENDING.get(ending) == "markdown":
        return _EMBEDDED.sub("", text)
    return text


def _decoded(data: bytes, declared: str | None) -> str:
    """Decode by the byte order mark, or else the declared encoding, or else UTF-8."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            data, declared = data[len(mark) :], encoding
            break
    encoding = declared or "utf-8"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise Unreadable(
            f"not {encoding.upper()} (byte 0x{data[error.start]:02x} at {error.start}); "
            "convert it to UTF-8"
        ) from None


def _charset_of_html(data: bytes) -> str | None:
    """Return the encoding that an HTML document declares, interpreted as browsers do."""
    declared = _DECLARED.search(data, 0, 4096)
    if declared is None:
        return None
    name = declared[1].decode("ascii")
    try:
        found = codecs.lookup(name)
    except LookupError:
        return None
    # By the encoding standard, Latin-1 and ASCII mean windows-1252, with its gaps filled from
    # Latin-1, and a page that declares UTF-16 in ASCII is UTF-8.
    if found.name in ("iso8859-1", "ascii", "cp1252"):
        return "latin-1" if any(byte in data for byte in b"\x81\x8d\x8f\x90\x9d") else "cp1252"
    if found.name.startswith(("utf-16", "utf-32", "utf-7")) or not _is_charset(found):
        return None
    return found.name


def _is_charset(found: codecs.CodecInfo) -> bool:
    # Python also counts escapes and IDNA as text encodings.
    return getattr(found, "_is_text_encoding", True) and not found.name.startswith(
        ("idna", "punycode", "unicode", "raw", "undefined")
    )


def _text_of_notebook(text: str) -> str:
    """Return the cells of a Jupyter notebook joined by form feeds, without their outputs."""
    try:
        notebook = json.loads(text)
        # Format 3 has worksheets of cells, with code in "input".
        sheets = notebook.get("worksheets", [notebook])
        cells = [_text_of_cell(cell) for sheet in sheets for cell in sheet["cells"]]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        if not text.strip():
            return ""
        raise Unreadable("not a notebook: it is not JSON with cells") from None
    return "\f".join(cells) if any(cell.strip() for cell in cells) else ""


def _text_of_cell(cell: dict[str, Any]) -> str:
    source = cell.get("source", cell.get("input", ""))
    text = source if isinstance(source, str) else "".join(source)
    return _EMBEDDED.sub("", text).replace("\f", "\n")


def _text_of_pdf(path: str) -> str:
    """Return the pages of a PDF joined by form feeds."""
    try:
        import pypdfium2 as pdfium
    except ModuleNotFoundError:
        raise Unreadable(str(missing_extra("PDF", "pdf"))) from None
    Path(path).open("rb").close()
    pages = []
    size = 0
    try:
        with pdfium.PdfDocument(path) as document:
            for number in range(len(document)):
                page = document[number]
                text = page.get_textpage().get_text_range()
                page.close()
                # PDFium marks the hyphen that splits a word at the end of a line.
                text = re.sub("\ufffe(?:\r?\n)?|\x02\r?\n", "", text).replace("\f", "\n")
                size += len(text)
                if size > SIZE_LIMIT:
                    raise Unreadable(_too_large())
                pages.append(text.replace("\0", ""))
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower():
            raise Unreadable("an encrypted PDF; remove its password") from None
        raise Unreadable(f"a damaged PDF ({error})") from None
    return "\f".join(pages) if any(page.strip() for page in pages) else ""


def _text_of_docx(path: str) -> str:
    """Return the paragraphs and tables of a DOCX; headings begin with "# "."""
    try:
        import docx
    except ModuleNotFoundError:
        raise Unreadable(str(missing_extra("DOCX", "docx"))) from None
    with Path(path).open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                size = sum(entry.file_size for entry in archive.infolist() if _is_xml(entry))
            if size > SIZE_LIMIT:
                raise Unreadable(_too_large())
            blocks = list(docx.Document(file).iter_inner_content())
            return "\n\n".join(filter(None, map(_text_of_block, blocks)))
        except Unreadable:
            raise
        except Exception as error:
            # For a damaged file, python-docx and lxml raise exceptions of any type.
            raise Unreadable(f"a damaged DOCX ({type(error).__name__}: {error})") from None


def _is_xml(entry: zipfile.ZipInfo) -> bool:
    return entry.filename.endswith((".xml", ".rels"))


def _text_of_block(block: Any) -> str:
    if not hasattr(block, "rows"):
        text: str = block.text.strip()
        level = re.fullmatch(r"Heading ([1-6])|Title", block.style.name if block.style else "")
        if level and text:
            return "#" * int(level[1] or 1) + " " + " ".join(text.split())
        return text
    rows = []
    for row in block.rows:
        cells: list[str] = []
        for cell in row.cells:
            # A merged cell occurs once for each column that it covers.
            text = " ".join(cell.text.split())
            if not cells or cells[-1] != text:
                cells.append(text)
        rows.append(" | ".join(cells))
    return "\n".join(rows)
