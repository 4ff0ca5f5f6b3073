"""What `.gitignore` leaves out, held against git itself."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retr.retrieval.sources import SourceOptions, open_source
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.report import Skipped
from retr.retrieval.values.types import Document

NAMES = st.sampled_from(["a", "b", "foo", "bar", "foo.txt", "a.md", "b c", "été", "x[1]", "#a"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
ATOMS = st.sampled_from(
    ["a", "b", "foo", "bar", "*", "**", "*.txt", "*.md", "f?o", "[ab]", "[!a]", "b c", "été"]
)
PATTERNS = st.builds(
    lambda negated, rooted, atoms, folder: negated + rooted + "/".join(atoms) + folder,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/"]),
    st.lists(ATOMS, min_size=1, max_size=3),
    st.sampled_from(["", "", "/", "/*", "/**"]),
)
# A line git cannot make sense of is passed over, the lines around it hold.
LINES = st.one_of(PATTERNS, st.sampled_from(["", "# a", "!", "\\", "foo\\", "[", "\\#a", "a "]))
IGNORES = st.dictionaries(
    st.one_of(st.just(""), PATHS), st.lists(LINES, min_size=1, max_size=5), max_size=4
)


def git(folder: Path, *arguments: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout


def kept_by_git(folder: Path) -> set[str]:
    listed = git(folder, "ls-files", "--others", "--exclude-standard", "-z", ".")
    return {path for path in listed.split("\0") if path and Path(path).name != ".gitignore"}


def kept(folder: Path, **options: object) -> set[str]:
    found = list(open_source(folder, SourceOptions(**options)))  # type: ignore[arg-type]
    assert not [item for item in found if isinstance(item, Skipped)]
    return {item.id.removeprefix(folder.name + "/") for item in found if isinstance(item, Document)}


def write(folder: Path, paths: list[str]) -> None:
    for path in paths:
        file = folder / path
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("some text")
        except (FileExistsError, IsADirectoryError, NotADirectoryError):
            continue  # another path made a file where this one needs a folder


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@needs_git
@settings(max_examples=60, deadline=None)
@given(st.lists(PATHS, min_size=1, max_size=12), IGNORES)
@example(["foo/a", "foo/b", "foo/bar/a"], {"": ["foo/**", "!foo/a"]})
@example(["foo/a", "foo/b"], {"": ["foo/", "!foo/a"]})
@example(["foo/a", "bar/foo/a"], {"": ["foo"], "bar": ["!foo"]})
@example(["a/foo.txt", "a/b/foo.txt"], {"": ["*.txt"], "a/b": ["!*.txt", "["]})
@example(["a", "b"], {"": ["!", "a"]})
@example(["#a/a"], {"": ["!*", "a/a", "\\#a"]})
@example(["b/a.md"], {"": ["*.md"], "b": ["a"]})
def test_the_same_files_as_git(paths: list[str], ignores: dict[str, list[str]]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "work").resolve()
        folder.mkdir()
        git(folder, "init", "-q")
        write(folder, paths)
        for inside, lines in ignores.items():
            if (folder / inside).is_dir():
                (folder / inside / ".gitignore").write_text("\n".join(lines) + "\n")
        assert kept(folder) == kept_by_git(folder)
        # A folder asked for that git does not leave out holds the same files seen from inside.
        for child in sorted(folder.iterdir()):
            if child.is_dir() and child.name != ".git" and kept_by_git(child):
                assert kept(child) == kept_by_git(child)


@needs_git
def test_a_repository_in_a_repository_has_its_own_rules(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("*.txt\n")
    write(tmp_path, ["a.txt", "a.md", "inner/a.txt"])
    git(tmp_path / "inner", "init", "-q")
    assert kept(tmp_path) == {"a.md", "inner/a.txt"}
    assert kept(tmp_path / "inner") == {"a.txt"}


def test_rules_hold_without_a_repository_but_not_from_above_it(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*.txt\n")
    write(tmp_path, ["work/a.txt", "work/a.md", "work/deep/b.txt", "work/deep/b.md"])
    assert kept(tmp_path) == {"work/a.md", "work/deep/b.md"}
    assert kept(tmp_path / "work") == {"a.txt", "a.md", "deep/b.txt", "deep/b.md"}


def test_a_folder_that_is_left_out_can_be_asked_for(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("data/\n")
    write(tmp_path, ["data/deep/a.txt", "b.txt"])
    assert kept(tmp_path) == {"b.txt"}
    assert kept(tmp_path / "data") == {"deep/a.txt"}
    assert kept(tmp_path / "data" / "deep") == {"a.txt"}


def test_a_broken_gitignore_breaks_nothing(tmp_path: Path) -> None:
    write(tmp_path, ["a.txt", "b.txt", "c/d.txt"])
    (tmp_path / ".gitignore").write_bytes(b"\xff\xfe[z-a]\n!\n[\nb.txt\x00\nb.*\r\n\xef\xbb\xbf\n")
    (tmp_path / "c" / ".gitignore").mkdir()
    assert kept(tmp_path) == {"a.txt", "c/d.txt"}


def test_names_that_are_no_utf8_match_patterns_that_are_none(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    for name in (b"caf\xe9.txt", b"th\xe9.txt"):
        Path(os.fsdecode(folder + b"/" + name)).write_text("some text")
    (tmp_path / ".gitignore").write_bytes(b"th\xe9*\n")
    assert kept(tmp_path) == {"caf\\xe9.txt"}


def test_an_unreadable_gitignore_is_told_and_the_files_are_read(tmp_path: Path) -> None:
    write(tmp_path, ["a.txt"])
    (tmp_path / ".gitignore").symlink_to(tmp_path / ".gitignore")
    skipped, document = open_source(tmp_path)
    assert isinstance(skipped, Skipped) and skipped.where.endswith("/.gitignore")
    assert skipped.id is None
    assert isinstance(document, Document)


def test_include_and_exclude_narrow(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("made/\n")
    write(tmp_path, ["a.md", "b.txt", "docs/a.md", "docs/old/b.md", "docs/old/c.py", "made/a.md"])
    assert kept(tmp_path, include=("*.md",)) == {"a.md", "docs/a.md", "docs/old/b.md"}
    assert kept(tmp_path, include=("docs/", "b.txt")) == {
        "b.txt", "docs/a.md", "docs/old/b.md", "docs/old/c.py",
    }  # fmt: skip
    assert kept(tmp_path, exclude=("docs/old",)) == {"a.md", "b.txt", "docs/a.md"}
    assert kept(tmp_path, exclude=("docs/old/",)) == {"a.md", "b.txt", "docs/a.md"}
    assert kept(tmp_path, exclude=("*", "!*.txt")) == {"b.txt"}
    assert kept(tmp_path, include="/a.md") == {"a.md"}
    assert kept(tmp_path, include=("*.md",), exclude=("/docs/*.md",)) == {"a.md", "docs/old/b.md"}


def test_a_pattern_that_is_none_is_refused(tmp_path: Path) -> None:
    for option in ("include", "exclude"):
        with pytest.raises(InputError, match=rf"{option}='!' is not a pattern"):
            open_source(tmp_path, SourceOptions(**{option: ("*.md", "!")}))
