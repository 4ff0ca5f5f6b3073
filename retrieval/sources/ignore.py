"""Which files of a folder are left out by its `.gitignore` files, as git itself would."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..values.errors import InputError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

NAME = ".gitignore"


@dataclass(frozen=True, slots=True)
class Ignored:
    """The `.gitignore` files that hold in a folder, the outermost first.

    rules: each file's folder, as a path with "/" at the end, and its patterns.
    """

    rules: tuple[tuple[str, GitIgnoreSpec], ...] = ()

    def below(self, folder: Path) -> Ignored:
        """Return what holds in `folder`, with its own `.gitignore`.

        Raises:
            OSError: there is one that cannot be read.
        """
        spec = _read(folder / NAME)
        if spec is None:
            return self
        return Ignored((*self.rules, (_slashed(folder), spec)))

    def covers(self, path: str) -> bool:
        """Say whether the file at an absolute path, or the folder where it ends with "/", is
        left out; its parent folder is not.
        """
        for folder, spec in reversed(self.rules):
            decided = _decided(spec, path[len(folder) :])
            if decided is not None:
                return decided
        return False


def ignored_around(folder: Path) -> Ignored:
    """Return what holds in `folder` by the files above it, if it lies in a git repository.

    A folder that is left out itself, but was asked for, is read: nothing above it holds then.

    Raises:
        OSError: a `.gitignore` above cannot be read.
    """
    above = []
    for parent in (folder, *folder.parents):
        above.append(parent)
        if (parent / ".git").exists():
            break
    else:
        return Ignored()
    ignored = Ignored()
    for parent, child in zip(above[:0:-1], above[-2::-1], strict=True):
        ignored = ignored.below(parent)
        if ignored.covers(_slashed(child)):
            return Ignored()
    return ignored


def patterns(lines: Iterable[str], option: str) -> GitIgnoreSpec:
    """Return patterns a user gave.

    Raises:
        InputError: one is no pattern.
    """
    found = []
    for line in lines:
        spec = _pattern(line)
        if spec is None:
            raise InputError(f"{option}={line!r} is no pattern such as '*.md' or 'docs/**'")
        found.append(spec)
    return _joined(found)


def _read(path: Path) -> GitIgnoreSpec | None:
    try:
        # Names are bytes to git, and so are patterns.
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    # Git passes over a line it cannot make sense of, and so do we.
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    return _joined(spec for spec in map(_pattern, lines) if spec is not None)


def _pattern(line: str) -> GitIgnoreSpec | None:
    from pathspec import GitIgnoreSpec

    line = line.removesuffix("\r")
    # "x/**" is what lies in x, not x: so that "!x/y" after it can bring y back.
    if line.endswith("/**"):
        line += "/*"
    try:
        return GitIgnoreSpec.from_lines([line])
    except (ValueError, re.error):
        return None


def _joined(specs: Iterable[GitIgnoreSpec]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec([pattern for spec in specs for pattern in spec.patterns])


def _decided(spec: GitIgnoreSpec, path: str) -> bool | None:
    """Return what the last pattern that matches a path says; None where none does.

    What a pattern says of a folder is of no interest below it: whoever asks has not gone into a
    folder that is left out. `GitIgnoreSpec` has such patterns yield to others, for the folder, too.
    """
    for pattern in reversed(spec.patterns):
        found = None if pattern.include is None else pattern.match_file(path)
        if found is not None and not _is_of_parent(found.match, path):
            return pattern.include
    return None


def _is_of_parent(match: re.Match[str], path: str) -> bool:
    """Return whether it is a folder on the way to the path that was matched."""
    return match.groupdict().get("ps_d") == "/" and match.end() < len(path)


def _slashed(folder: Path) -> str:
    text = str(folder)
    return text if text.endswith("/") else text + "/"
