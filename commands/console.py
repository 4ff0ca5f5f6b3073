"""The standard streams: always safe to write to, and safe for the terminal that shows them.

Texts, ids and paths come from documents that anyone may have written, so no control character
and nothing that reorders text reaches a terminal through here.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from ..retrieval.values.errors import InputError, RetrError, StorageError
from ..retrieval.values.shown import is_utf8, one_line, plain

WRONG = 2
INTERRUPTED = 130
PIPE_CLOSED = 141  # what a shell reports of a program that SIGPIPE ended

_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def prepare() -> None:
    """Make the streams writable: closed ones lead nowhere, no encoding refuses a character."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Left closed, its number would go to the next file opened, and results into that.
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def listen(quiet: bool, verbose: bool) -> None:
    """Print what retr logs to stderr: warnings; everything if `verbose`; nothing if `quiet`.

    Raises:
        InputError: both are set.
    """
    import logging

    if quiet and verbose:
        raise InputError("--quiet and --verbose exclude each other: give only one of them")

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
            say(level + one_line(self.format(record)))

    logger = logging.getLogger("retr")
    logger.handlers = [Handler()]
    logger.setLevel(logging.CRITICAL if quiet else logging.DEBUG if verbose else logging.WARNING)


def is_table(as_json: bool) -> bool:
    """Return whether to print results for people: on a terminal, unless JSON is asked for."""
    return not as_json and sys.stdout.isatty()


def write(line: str) -> None:
    """Write a line of results to stdout; the errors are those of `put`."""
    put(line + "\n")


def put(text: str) -> None:
    """Write to stdout.

    Raises:
        BrokenPipeError: the reader has closed the pipe.
        StorageError: stdout cannot be written, for example because the disk is full.
    """
    _written(lambda: sys.stdout.write(text))


def write_lines(text: str) -> None:
    """Write text that may hold untrusted names to stdout, without its control characters."""
    for line in text.split("\n"):
        write(plain(line))


def show(record: Mapping[str, Any], text: str, as_json: bool) -> None:
    """Write what a command did: the text on a terminal, else the record as a line of JSON."""
    write(text if is_table(as_json) else json_line(record))


@contextlib.contextmanager
def resumable(kept: Callable[[], str] = lambda: "what is done is kept") -> Iterator[None]:
    """End an interrupted command with a message that the same command continues it.

    kept: returns what the message says is kept.
    """
    try:
        yield
    except KeyboardInterrupt:
        say(f"interrupted: {kept()}; run the same command again to continue")
        raise typer.Exit(INTERRUPTED) from None


def say(text: str) -> None:
    """Write a line to stderr; do nothing if stderr cannot be written."""
    with contextlib.suppress(OSError):
        # Not held in a variable: a progress bar puts its own in place while it is drawn.
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def exit_code(command: Callable[[], int]) -> int:
    """Run a command and return its exit code; errors inside retr keep their traceback."""
    prepare()
    try:
        code = command()
        _written(sys.stdout.flush)
    except RetrError as error:
        with contextlib.suppress(RetrError, BrokenPipeError):
            _written(sys.stdout.flush)
        say(f"error: {one_line(str(error))}")
        return WRONG
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        _silence()
        return PIPE_CLOSED
    return code


def json_line(values: Mapping[str, Any], encoding: str | None = None) -> str:
    """Return a JSON object in one line, in the characters of `encoding`; None is stdout's.

    Dates are ISO 8601, bytes are base64, and numbers that JSON lacks (NaN, infinity) are null.
    """
    import json

    ascii_only = not is_utf8(encoding or getattr(sys.stdout, "encoding", None) or "utf-8")
    try:
        text = json.dumps(values, ensure_ascii=ascii_only, allow_nan=False, default=_jsonable)
    except ValueError:
        finite = _finite(values)
        text = json.dumps(finite, ensure_ascii=ascii_only, allow_nan=False, default=_jsonable)
    # JSON lets these stand in strings, and terminals take some of them for commands.
    return _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _written(action: Callable[[], object]) -> None:
    try:
        action()
    except BrokenPipeError:
        raise
    except OSError as error:
        _silence()
        raise StorageError(f"stdout: the results cannot be written ({error.strerror})") from error


def _reader_is_gone() -> bool:
    """Return whether stdout or stderr is a pipe whose reader has gone."""
    poll = select.poll()
    for number in (1, 2):
        poll.register(number, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _silence() -> None:
    """Point stdout at nothing, so that Python's last flush raises no error."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)


def _jsonable(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, bytes):
        import base64

        return base64.b64encode(value).decode()
    return str(value)


def _finite(value: Any) -> Any:
    """Return a JSON value with null for the numbers that JSON lacks."""
    if isinstance(value, float) and value - value != 0:
        return None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value


def file_to_write(out: str, what: str) -> Path:
    """Return the file that `out` names; a link stays a link: what it points to is replaced.

    out:  a path, not standard output.
    what: what is to be written, for the message.

    Raises:
        InputError: it is a folder.
        StorageError: its folder is missing.
    """
    target = Path(os.path.realpath(out))
    if target.is_dir():
        raise InputError(f"{out}: is a folder; name a file for the {what}")
    if not target.parent.is_dir():
        raise StorageError(f"{out}: there is no folder {target.parent}; make it first")
    return target
