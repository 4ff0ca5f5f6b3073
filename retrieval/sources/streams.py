"""Reads the lines of a file, compressed or not, in bounded memory; errors name the line."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from pathlib import Path

from ..values.errors import InputError

# A whole line is held in memory, and so is what is parsed from it.
LINE_LIMIT = 64 * 1024 * 1024

# Longer marks come first, because UTF-32's begins with UTF-16's.
BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)

COMPRESSIONS = (".gz", ".zst")


class Lines:
    """The lines of a file, each with its number from 1.

    name: the file's name, for messages and ids.
    done: how many bytes of the file have been read (compressed bytes if it is compressed); stays
          0 for an open file, which may be a pipe.
    """

    def __init__(self, file: Path | io.BufferedReader) -> None:
        """Read the file at a path, or an open file, which is called "stdin"."""
        self.name = file.name if isinstance(file, Path) else "stdin"
        self.done = 0
        self._file = file

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Yield the number and text of each line, including its end; only "\\n" ends a line.

        Raises:
            InputError: the file cannot be opened, is not UTF-8 (or UTF-16 or UTF-32 with a
                byte order mark), is damaged, or has a line longer than `LINE_LIMIT`.
        """
        number = 0
        # pyarrow's errors about zstd are OSErrors too.
        try:
            if not isinstance(self._file, Path):
                for number, line in enumerate(self._decoded(self._file), start=1):
                    yield number, line
                return
            with open_file(self._file) as raw:
                stream = _unpacked(self._file.suffix.lower(), raw)
                for number, line in enumerate(self._decoded(stream), start=1):
                    self.done = raw.tell()
                    yield number, line
        except (EOFError, zlib.error, OSError) as error:
            raise InputError(
                f"{self.name}: cannot be read after line {number} ({error}): "
                "the file is damaged or truncated"
            ) from error

    def _decoded(self, stream: io.BufferedReader) -> Iterator[str]:
        head = stream.peek(4)[:4]
        mark, encoding = next(
            (found for found in BYTE_ORDER_MARKS if head.startswith(found[0])), (b"", "utf-8")
        )
        stream.read(len(mark))
        return self._utf8(stream) if encoding == "utf-8" else self._wide(stream, encoding)

    def _utf8(self, stream: io.BufferedReader) -> Iterator[str]:
        number = 0
        while line := stream.readline(LINE_LIMIT + 1):
            number += 1
            self._refuse_long(line, number)
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{self.name}, line {number}: not UTF-8 "
                    f"(byte 0x{line[error.start]:02x} at {error.start}); convert the file to UTF-8"
                ) from None

    def _wide(self, stream: io.BufferedReader, encoding: str) -> Iterator[str]:
        text = io.TextIOWrapper(stream, encoding, newline="\n")
        number = 0
        try:
            while line := text.readline(LINE_LIMIT + 1):
                number += 1
                self._refuse_long(line, number)
                yield line
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.name}: not {encoding.upper()} after line {number} ({error.reason}); "
                "convert the file to UTF-8"
            ) from None
        finally:
            text.detach()

    def _refuse_long(self, line: bytes | str, number: int) -> None:
        if len(line) > LINE_LIMIT:
            raise InputError(
                f"{self.name}, line {number}: longer than {LINE_LIMIT >> 20} MB; "
                "put one record or text on each line"
            )


def open_file(path: Path) -> io.BufferedReader:
    """Open a file for reading.

    Raises:
        InputError: it is missing, is not a file, or cannot be read.
    """
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise InputError(f"no such file or folder: {path}") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder, not a file") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _unpacked(suffix: str, raw: io.BufferedReader) -> io.BufferedReader:
    if suffix == ".gz":
        import gzip

        return io.BufferedReader(gzip.GzipFile(fileobj=raw), 1 << 16)
    if suffix == ".zst":
        import pyarrow as pa

        return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd"), 1 << 16)
    return raw
