"""Folders and files as sources: what is read, what is left out, what is skipped and said so."""

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retr.retrieval.sources import Skipped, Source, SourceOptions, open_source
from retr.retrieval.text.passages import KINDS
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.types import Document

as_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


def make(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def read(source: object, **options: object) -> tuple[list[Document], list[Skipped]]:
    opened = open_source(source, SourceOptions(**options))  # type: ignore[arg-type]
    found = list(opened)
    assert opened.done == opened.total
    return (
        [item for item in found if isinstance(item, Document)],
        [item for item in found if isinstance(item, Skipped)],
    )


def reason(source: object) -> str:
    documents, skipped = read(source)
    assert not documents
    assert len(skipped) == 1
    return skipped[0].reason


def test_a_folder_is_its_files_in_order(tmp_path: Path) -> None:
    folder = make(
        tmp_path / "docs",
        {"b.txt": "bee", "a/z.md": "# Zed", "a/y/x.py": "x = 1", "c": "see", "A.rst": "Ay"},
    )
    documents, skipped = read(folder)
    assert not skipped
    assert [d.id for d in documents] == [
        "docs/A.rst", "docs/a/y/x.py", "docs/a/z.md", "docs/b.txt", "docs/c",
    ]  # fmt: skip
    assert [d.kind for d in documents] == ["text", "code", "markdown", "text", "text"]
    assert documents[2] == Document(
        "docs/a/z.md", "# Zed", uri=str(folder / "a/z.md"), kind="markdown"
    )
    assert open_source(str(folder)).name == str(folder)
    assert [d.id for d in read(folder)[0]] == [d.id for d in documents]


def test_a_source_can_be_read_again_and_counts(tmp_path: Path) -> None:
    source = open_source(make(tmp_path, {"a.txt": "a", "b.txt": "", "c.txt": "c"}))
    first, second = list(source), list(source)
    assert first == second
    seen = []
    for _ in source:
        seen.append((source.done, source.total))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_file_is_a_document_by_its_name(tmp_path: Path) -> None:
    make(tmp_path, {"notes.md": "# Notes", ".hidden": "seen when asked for"})
    (document,), _ = read(tmp_path / "notes.md")
    assert (document.id, document.kind) == ("notes.md", "markdown")
    assert open_source(tmp_path / "notes.md").name == str(tmp_path / "notes.md")
    assert read(tmp_path / ".hidden")[0][0].id == ".hidden"


def test_a_path_may_lead_through_links_and_dots(tmp_path: Path) -> None:
    folder = make(tmp_path / "real", {"a.txt": "a", "sub/b.txt": "b"})
    (tmp_path / "link").symlink_to(folder)
    for path in (tmp_path / "link", folder / "sub" / "..", str(folder) + "/"):
        source = open_source(path)
        assert source.name == str(folder)
        assert [d.id for d in source if isinstance(d, Document)] == ["real/a.txt", "real/sub/b.txt"]


def test_what_nobody_wrote_is_left_out_without_a_word(tmp_path: Path) -> None:
    make(
        tmp_path / "work",
        {
            "a.txt": "kept",
            ".env": "SECRET=1",
            ".git/config": "[core]",
            ".github/workflow.yml": "on: push",
            "node_modules/x/index.js": "x",
            "src/__pycache__/m.cpython-311.pyc": b"\0",
            "env/pyvenv.cfg": "home = /usr",
            "env/lib/module.py": "x = 1",
            "x.egg-info/SOURCES.txt": "x",
            "app.min.js": "x",
            "package-lock.json": "{}",
            "draft.txt~": "old",
        },
    )
    documents, skipped = read(tmp_path / "work")
    assert [d.id for d in documents] == ["work/a.txt"]
    assert not skipped


@pytest.mark.parametrize("name", ["docs.retr", "index"])
def test_a_collection_is_no_source(tmp_path: Path, name: str) -> None:
    make(
        tmp_path,
        {
            f"sub/{name}/manifests/00000001.json": "{}",
            f"sub/{name}/readme.txt": "x",
            "a.txt": "kept",
            "deploy/manifests/service.yaml": "kind: Service",
            "deploy/manifests/v2.json": "{}",
        },
    )
    documents, skipped = read(tmp_path)
    assert [Path(d.id).name for d in documents] == ["a.txt", "service.yaml"]
    assert [Path(s.where).name for s in skipped] == ["v2.json"]
    with pytest.raises(InputError, match="is a collection of retr"):
        open_source(tmp_path / "sub" / name)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", b"\x00\x01\x02", "binary"),
        ("a.txt", b"x" * 100_000 + b"\x00", "binary"),
        ("a.png", b"no zero byte", "an image, but the encoder takes only texts"),
        ("a.zip", b"PK", "binary"),
        ("a.txt", b"caf\xe9", "not UTF-8 (byte 0xe9 at 3); convert it to UTF-8"),
        ("a.txt", b"\xff\xfeabc", "not UTF-16-LE (byte 0x63 at 2); convert it to UTF-8"),
        ("a.jsonl", b'{"text": "x"}', "a data file"),
        ("a.json", b"{}", "a data file"),
        ("a.CSV", b"id,text", "a data file"),
        ("a.parquet", b"PAR1", "a data file"),
    ],
)
def test_what_cannot_be_read_is_skipped(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    folder = make(tmp_path / "docs", {name: content, "b.txt": "read all the same"})
    documents, (skipped,) = read(folder)
    assert [d.id for d in documents] == ["docs/b.txt"]
    assert skipped.reason.startswith(expected)
    assert skipped.where == str(folder / name)
    # What is no text has vanished as a document, what cannot be told has not.
    assert skipped.id == (None if "data" in expected else f"docs/{name}")


@pytest.mark.parametrize("content", ["", " \n\t\n", "\ufeff", "\ufeff\n"])
def test_what_is_empty_has_vanished(tmp_path: Path, content: str) -> None:
    _, (skipped,) = read(make(tmp_path, {"a.txt": content}))
    assert (skipped.reason, skipped.id) == ("empty", None)


def test_what_is_too_large_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        file.write(b"text\n" * 14_000_000)
    assert reason(path) == "more than 64 MB of text; split it"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-be"])
def test_marked_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    text = "café 漢字 😀\n"
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    (document,), _ = read(make(tmp_path, {"a.txt": mark + text.encode(encoding)}))
    assert document.text == text


def test_lines_end_in_one_way(tmp_path: Path) -> None:
    (document,), _ = read(make(tmp_path, {"a.txt": "one\r\ntwo\rthree\nfour"}))
    assert document.text == "one\ntwo\nthree\nfour"


def test_an_empty_folder_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert read(tmp_path) == ([], [])


def test_pipes_sockets_and_devices_are_never_opened(tmp_path: Path) -> None:
    make(tmp_path, {"a.txt": "kept"})
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "null.txt").symlink_to("/dev/null")
    (tmp_path / "fifo.txt").symlink_to(tmp_path / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as server:
        working = Path.cwd()
        os.chdir(tmp_path)  # a socket's path is at most 108 bytes
        try:
            server.bind("socket.txt")
        finally:
            os.chdir(working)
        documents, skipped = read(tmp_path)
    assert [d.text for d in documents] == ["kept"]
    assert not skipped
    with pytest.raises(InputError, match="is not a file or folder; pipe it into retr"):
        open_source(tmp_path / "pipe.txt")


def test_links(tmp_path: Path) -> None:
    folder = make(tmp_path / "docs", {"a.txt": "a", "sub/b.txt": "b"})
    make(tmp_path, {"outside.txt": "secret", "docs2/c.txt": "c"})
    (folder / "again.txt").symlink_to(folder / "sub" / "b.txt")
    (folder / "broken.txt").symlink_to(folder / "nothing")
    (folder / "loop").symlink_to(folder)
    (folder / "round.txt").symlink_to(folder / "round.txt")
    (folder / "out.txt").symlink_to(tmp_path / "outside.txt")
    (folder / "out2.txt").symlink_to(tmp_path / "docs2" / "c.txt")
    (folder / "sub" / "up").symlink_to("..")
    documents, skipped = read(folder)
    assert [d.id for d in documents] == ["docs/a.txt", "docs/again.txt", "docs/sub/b.txt"]
    assert [(s.id, s.reason) for s in skipped] == [
        ("docs/broken.txt", "a link that leads nowhere"),
        ("docs/out.txt", "a link that leads out of the folder"),
        ("docs/out2.txt", "a link that leads out of the folder"),
        ("docs/round.txt", "a link that leads nowhere"),
    ]


@as_user
def test_what_may_not_be_read_is_skipped_with_its_id(tmp_path: Path) -> None:
    folder = make(tmp_path / "docs", {"a.txt": "a", "b.txt": "b", "closed/c.txt": "c"})
    (folder / "b.txt").chmod(0)
    (folder / "closed").chmod(0)
    try:
        documents, skipped = read(folder)
        assert [d.id for d in documents] == ["docs/a.txt"]
        assert [(s.id, s.reason) for s in skipped] == [
            ("docs/b.txt", "cannot be read: Permission denied"),
            ("docs/closed/", "cannot be read: Permission denied"),
        ]
        with pytest.raises(InputError, match="cannot be read: Permission denied"):
            open_source(folder / "closed")
    finally:
        (folder / "closed").chmod(0o700)


def test_what_vanishes_meanwhile_is_no_error(tmp_path: Path) -> None:
    make(tmp_path, {"a.txt": "a", "b.txt": "b", "c/d.txt": "d", "e.txt": "e"})
    source = iter(open_source(tmp_path))
    assert next(source).id == f"{tmp_path.name}/a.txt"  # type: ignore[union-attr]
    (tmp_path / "b.txt").unlink()
    (tmp_path / "c" / "d.txt").unlink()
    (tmp_path / "c").rmdir()
    assert [d.id for d in source] == [f"{tmp_path.name}/e.txt"]


def test_folders_deeper_than_python_calls_and_paths_go(tmp_path: Path) -> None:
    working = Path.cwd()
    try:
        os.chdir(tmp_path)
        for depth in range(2200):
            if depth % 500 == 0:
                Path("a.txt").write_text("text")
            Path("d").mkdir()
            os.chdir("d")
        os.chdir(working)
        documents, (skipped,) = read(tmp_path)
    finally:
        os.chdir(working)
        # shutil.rmtree, which pytest cleans up with, does not go so deep.
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)
    # The system takes paths of at most 4,096 bytes.
    assert 4 <= len(documents) <= 5
    assert skipped.reason == f"cannot be read: {os.strerror(errno.ENAMETOOLONG)}"
    assert skipped.id is not None and skipped.id.endswith("/d/")


NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: b"/" not in name and b"\0" not in name and not name.startswith(b".")
)


@settings(max_examples=60, deadline=None)
@given(names=st.sets(NAMES, max_size=6))
def test_ids_of_any_names_are_unique_and_can_be_written(
    tmp_path_factory: pytest.TempPathFactory, names: set[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("names") / "docs"
    folder.mkdir()
    for name in names:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name + b".txt")).write_text("text")
    documents, skipped = read(folder)
    assert not skipped
    assert len({d.id for d in documents}) == len(names)
    for document in documents:
        assert document.id.encode().startswith(b"docs/")
        assert document.uri is not None and document.uri.encode()
    written = {name + b".txt" for name in names if is_utf8(name)}
    assert written <= {document.id.encode().removeprefix(b"docs/") for document in documents}


def is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("path", ["nowhere", "nowhere/else.txt", "", "x\0y", "a" * 300])
def test_what_is_not_there_is_said(path: str) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        open_source(path)
    with pytest.raises(InputError, match="no such file or folder"):
        open_source(Path("no/such/folder"))


@pytest.mark.parametrize("address", ["https://example.org/docs", "http://x", "s3://bucket/x"])
def test_an_address_is_no_path(address: str) -> None:
    with pytest.raises(InputError, match=r"is an address: download it"):
        open_source(address)


@pytest.mark.parametrize(
    "options",
    [{"text": "body"}, {"id": "id"}, {"title": "t"}, {"vector": "v"}, {"ids": ["a"]}],
)
def test_columns_have_no_meaning_for_files(tmp_path: Path, options: dict[str, object]) -> None:
    make(tmp_path, {"a.txt": "a"})
    for path in (tmp_path, tmp_path / "a.txt"):
        with pytest.raises(InputError, match=f"cannot be read with {next(iter(options))}="):
            read(path, **options)


def test_formats_are_checked(tmp_path: Path) -> None:
    make(tmp_path, {"a.txt": "a", "b.json": "[]", "c.tar.gz": "x", "d.gz": "x"})
    with pytest.raises(InputError, match="no such format: 'xml'; the formats are files, beir"):
        SourceOptions(format="xml")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="is a folder; format=csv is for a file"):
        read(tmp_path, format="csv")
    with pytest.raises(InputError, match=r"is not a BEIR folder: it has no corpus.jsonl"):
        read(tmp_path, format="beir")
    with pytest.raises(InputError, match="is a file; format=beir is for a folder"):
        read(tmp_path / "a.txt", format="beir")
    with pytest.raises(InputError, match="one record per line"):
        read(tmp_path / "b.json")
    for name in ("c.tar.gz", "d.gz"):
        with pytest.raises(InputError, match="unpack it first"):
            read(tmp_path / name)
    with pytest.raises(InputError, match="name='x' is only for Python objects"):
        read(tmp_path, name="x")


def test_a_source_is_taken_as_it_is(tmp_path: Path) -> None:
    source = open_source(make(tmp_path, {"a.txt": "a"}))
    assert isinstance(source, Source)
    assert open_source(source) is source


def test_opening_a_source_imports_nothing_heavy(tmp_path: Path) -> None:
    make(tmp_path, {"a.txt": "a", "b.jsonl": '{"text": "x"}\n'})
    heavy = ["numpy", "pyarrow", "pandas", "polars", "torch", "pypdfium2", "docx", "faiss"]
    code = (
        "import sys; from retr.retrieval.sources import open_source\n"
        f"for path in {[str(tmp_path), str(tmp_path / 'b.jsonl')]!r}: list(open_source(path))\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_kind_is_one_that_passages_know() -> None:
    from retr.retrieval.sources.extract import _KINDS

    assert set(_KINDS) | {"text", "captions"} == set(KINDS)
