"""Files with one record per line: JSON lines, CSV, TSV, plain lines; and the same from stdin.

Records are kept whole (`kind` None). Memory does not grow with the file. A wrong record stops the
reading with an error that names the file and the line, because silently leaving it out would be
worse.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..values.errors import InputError
from ..values.report import Skipped
from ..values.types import Document
from .base import Source
from .columns import Columns, Dims, document, names_of, resolve
from .options import Format, SourceOptions
from .pictures import first_values, one_an_image
from .streams import LINE_LIMIT, Lines
from .values import encodable

# A line with its number from 1, and a record with the number of the line it begins on.
Line = tuple[int, str]
Record = tuple[int, Mapping[str, Any]]

# The columns are those of all the first records together, because many writers omit nulls.
LOOK_AHEAD = 100

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?")
_BOOLEANS = {"true": True, "false": False, "True": True, "False": False}


class RecordFile(Source):
    """A file with one record per line; `total` and `done` count its bytes.

    A CSV file is read twice, so that each metadata column gets one type: integers, numbers or
    booleans if every value is one (an empty value is then None), otherwise unchanged strings;
    numbers with leading zeros are strings. From stdin, which cannot be read twice, all values are
    strings.
    """

    def __init__(self, path: Path, format: Format, options: SourceOptions) -> None:
        options.refuse(path.name, "ids", "include", "exclude")
        if format is Format.LINES:
            options.refuse(f"{path.name}, one text per line,", "id", "text", "title", "vector")
        self.name = encodable(str(path))
        self._path = path
        self._format = format
        self._options = options
        self._lines = Lines(path)
        self.total = path.stat().st_size

    def __iter__(self) -> Iterator[Document | Skipped]:
        """Yield one document per record.

        Raises:
            InputError: a record is wrong; the message names the file and the line.
        """
        name, uri = self._lines.name, self.name
        documents: Iterator[Document | Skipped]
        if self._format is Format.LINES:
            documents = lines_as_texts(self._lines, name, uri)
        elif self._format is Format.JSONL:
            records = json_records(self._lines, name)
            documents = as_documents(records, name, self._options, uri, root=self._root)
        else:
            tab = self._format is Format.TSV
            types = _column_types(csv_records(Lines(self._path), name, tab=tab))
            records = csv_records(self._lines, name, tab=tab)
            documents = as_documents(records, name, self._options, uri, types, root=self._root)
        for found in documents:
            self.done = self._lines.done
            yield found
        self.done = self._lines.done

    @property
    def _root(self) -> Path | None:
        """The folder to which image paths are relative; None if images are not read."""
        if not self.images:
            return None
        return Path(self._options.images or self._path.parent)


class Stdin(Source):
    """Standard input: JSON lines if its first line is a JSON object, else one text per line.

    It can be read once.
    """

    def __init__(self, stream: io.BufferedReader, options: SourceOptions) -> None:
        options.refuse("stdin", "ids", "include", "exclude")
        if options.format not in (None, Format.JSONL, Format.CSV, Format.TSV, Format.LINES):
            raise InputError(f"stdin cannot be read as {options.format}; write it to a file first")
        self.name = options.name
        self._lines: Lines | None = Lines(stream)
        self._options = options

    def __iter__(self) -> Iterator[Document | Skipped]:
        """Yield one document per record or line.

        Raises:
            InputError: a record is wrong, or stdin has already been read.
        """
        if self._lines is None:
            raise InputError("stdin can be read only once")
        lines: Iterator[Line] = iter(self._lines)
        self._lines = None
        format = self._options.format
        if format is None:
            first = next((line for line in lines if line[1].strip()), None)
            if first is None:
                return
            lines = itertools.chain([first], lines)
            # A line that begins like an object is read as one, so that a broken one is reported.
            is_json = first[1].lstrip().startswith("{")
            format = Format.JSONL if is_json else Format.LINES
        root = Path(self._options.images or ".") if self.images else None
        if format is Format.LINES:
            self._options.refuse("stdin, one text per line,", "id", "text", "title", "vector")
            yield from lines_as_texts(lines, "stdin")
        elif format is Format.JSONL:
            records = json_records(lines, "stdin")
            yield from as_documents(records, "stdin", self._options, root=root)
        else:
            records = csv_records(lines, "stdin", tab=format is Format.TSV)
            yield from as_documents(records, "stdin", self._options, root=root)


def as_documents(
    records: Iterable[Record],
    name: str,
    options: SourceOptions,
    uri: str | None = None,
    types: Mapping[str, type] | None = None,
    *,
    root: Path | None = None,
) -> Iterator[Document | Skipped]:
    """Yield each record as a document; a record without an id gets the id `name:LINE`.

    types: the types of the values in columns of strings; only metadata is converted.
    root:  the folder to which image paths are relative; None if images are not read.
    """
    rest = iter(records)
    first = list(itertools.islice(rest, LOOK_AHEAD))
    if not first:
        return
    names = names_of(record for _, record in first)
    known = None if root is None else first_values(record for _, record in first)
    columns = resolve(names, options, name, known)
    found = _as_documents(itertools.chain(first, rest), columns, name, uri, types, root)
    alone = columns.image is None or columns.id is not None
    yield from found if alone else one_an_image(found)


def _as_documents(
    records: Iterable[Record],
    columns: Columns,
    name: str,
    uri: str | None,
    types: Mapping[str, type] | None,
    root: Path | None,
) -> Iterator[Document | Skipped]:
    convert = {n: t for n, t in (types or {}).items() if columns.is_metadata(n) and t is not str}
    dims = Dims()
    known = encodable(name)
    for line, record in records:
        if convert:
            record = {n: _converted(v, convert.get(n)) for n, v in record.items()}
        yield document(
            record,
            columns,
            f"{name}, line {line}",
            dims,
            default_id=f"{known}:{line}",
            place=f"line {line}",
            uri=uri,
            root=root,
        )


def lines_as_texts(lines: Iterable[Line], name: str, uri: str | None = None) -> Iterator[Document]:
    """Yield a document for each line that is not blank."""
    known = encodable(name)
    for number, line in lines:
        if line.strip():
            text = line.strip("\r\n")
            yield Document(f"{known}:{number}", text, uri=uri, place=f"line {number}")


def json_records(lines: Iterable[Line], name: str) -> Iterator[Record]:
    """Yield the JSON object on each line that is not blank.

    Raises:
        InputError: a line holds anything else.
    """
    for number, line in lines:
        if not line.strip():
            continue
        try:
            value = json.loads(line.rstrip("\r\n"))
        except RecursionError:
            raise InputError(f"{name}, line {number}: nested too deeply") from None
        except ValueError as error:
            why = str(error)
            if isinstance(error, json.JSONDecodeError):
                why = f"{error.msg} at column {error.colno}"
            hint = ""
            if number == 1 and line.lstrip()[0] in "[{":
                hint = "; write one object per line, not one over several lines or a list of them"
            raise InputError(f"{name}, line {number}: not a JSON object ({why}){hint}") from None
        if not isinstance(value, dict):
            raise InputError(
                f"{name}, line {number}: not a JSON object (a {type(value).__name__}); "
                "write one object per line"
            )
        yield number, value


def csv_records(lines: Iterable[Line], name: str, *, tab: bool = False) -> Iterator[Record]:
    """Yield each row below the header as strings by column, with the line that it begins on.

    Raises:
        InputError: a row has more or fewer values than the header, quotes do not match, or two
            columns have the same name.
    """
    # The limit applies to the whole process and is 128 KiB by default; never make it smaller.
    csv.field_size_limit(max(LINE_LIMIT, csv.field_size_limit()))
    reader = csv.reader((line for _, line in lines), delimiter="\t" if tab else ",", strict=True)
    header: list[str] = []
    begins = 1
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"{name}, line {begins}: not a row of {'TSV' if tab else 'CSV'} ({error}); "
                'a value with quotes in it is written "like ""this"" one"'
            ) from None
        if row is None:
            return
        if row and not header:
            header = _header(row, f"{name}, line {begins}")
        elif row:
            if len(row) != len(header):
                raise InputError(
                    f"{name}, line {begins}: {len(row)} values, but the header has {len(header)}"
                )
            yield begins, dict(zip(header, row, strict=True))
        begins = reader.line_num + 1


def _header(row: list[str], where: str) -> list[str]:
    names = [name.strip() or f"column {number}" for number, name in enumerate(row, start=1)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{where}: two columns are called {twice!r}; rename one")
    return names


def _column_types(records: Iterable[Record]) -> dict[str, type]:
    """Return the type of all values of each column: int, float, bool or str."""
    types: dict[str, type] = {}
    open_ = None
    for _, record in records:
        if open_ is None:
            open_ = list(record)
        for column in [c for c in open_ if record[c]]:
            seen = types.get(column)
            found = _type_of(record[column], seen)
            types[column] = found
            if found is str:
                open_.remove(column)
    return types


def _type_of(value: str, seen: type | None) -> type:
    """Return the type that fits both `value` and the values before it."""
    if seen in (None, int) and _INTEGER.fullmatch(value):
        return int
    if seen in (None, int, float) and _NUMBER.fullmatch(value):
        return float
    if seen in (None, bool) and value in _BOOLEANS:
        return bool
    return str


def _converted(value: str, kind: type | None) -> str | int | float | bool | None:
    if kind is None:
        return value
    if not value:
        return None
    return _BOOLEANS[value] if kind is bool else kind(value)
