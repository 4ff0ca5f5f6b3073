"""Which files of a folder its `.gitignore` files exclude, decided as git does."""

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
    """The `.gitignore` files that apply in a folder, outermost first.

    rules: each file's folder, as a path with "/" at the end, and its patterns.
    """

    rules: tuple[tuple[str, GitIgnoreSpec], ...] = ()

    def below(self, folder: Path) -> Ignored:
        """Return what applies in the subfolder `folder`, with its own `.gitignore`.

        Raises:
            OSError: there is one that cannot be read.
        """
        spec = _read(folder / NAME)
        if spec is None:
            return self
        return Ignored((*self.rules, (_slashed(folder), spec)))

    def covers(self, path: str) -> bool:
        """Return whether a file is excluded, or a folder if `path` ends with "/".

        path: absolute; its parent folder must not be excluded.
        """
        for folder, spec in reversed(self.rules):
            decided = _decided(spec, path[len(folder) :])
            if decided is not None:
                return decided
        return False


def ignored_around(folder: Path) -> Ignored:
    """Return what applies in `folder` from the files above it, if it is in a git repository.

    If `folder` itself is excluded, the user has asked for it anyway, so nothing above it applies.

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
    """Return the user's patterns.

    Raises:
        InputError: one is not a valid pattern.
    """
    found = []
    for line in lines:
        spec = _pattern(line)
        if spec is None:
            raise InputError(f"{option}={line!r} is not a pattern such as '*.md' or 'docs/**'")
        found.append(spec)
    return _joined(found)


def _read(path: Path) -> GitIgnoreSpec | None:
    try:
        # To git, both names and patterns are bytes.
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    # Git ignores a line that it cannot parse, and so do we.
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    return _joined(spec for spec in map(_pattern, lines) if spec is not None)


def _pattern(line: str) -> GitIgnoreSpec | None:
    from pathspec import GitIgnoreSpec

    line = line.removesuffix("\r")
    # "x/**" matches what is in x, not x itself, so that "!x/y" after it can include y again.
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
    """Return what the last pattern that matches a path decides; None if none matches.

    A pattern that matches a parent folder is ignored, because the caller never enters an excluded
    folder. `GitIgnoreSpec` itself lets other patterns override such a pattern, even for the folder.
    """
    for pattern in reversed(spec.patterns):
        found = None if pattern.include is None else pattern.match_file(path)
        if found is not None and not _is_of_parent(found.match, path):
            return pattern.include
    return None


def _is_of_parent(match: re.Match[str], path: str) -> bool:
    """Return whether a pattern matched a parent folder of the path."""
    return match.groupdict().get("ps_d") == "/" and match.end() < len(path)


def _slashed(folder: Path) -> str:
    text = str(folder)
    return text if text.endswith("/") else text + "/"
