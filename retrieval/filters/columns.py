"""The columns of a condition: which there are, what a name means, what is said of a wrong one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ..store.metadata import is_json
from ..values.errors import InputError

PLAIN = ("id", "text", "uri", "source", "place")
_SHOWN = 30


@dataclass(frozen=True, slots=True)
class Column:
    """A column that a condition names.

    field: the metadata field, as a merge of all shards would type it; None for a plain column.
    """

    name: str
    field: pa.Field | None = None

    @property
    def is_json(self) -> bool:
        """Whether its values are of several types, or dicts, and so stored as JSON."""
        return self.field is not None and is_json(self.field)

    @property
    def type(self) -> str:
        """Its type in the words of SQL."""
        if self.field is None:
            return "VARCHAR"
        return "JSON" if self.is_json else _sql_type(self.field.type)


class Columns:
    """The metadata fields that there are, as the names in one condition mean them.

    text: the condition, for what is said of a wrong name.
    """

    def __init__(self, text: str, fields: Sequence[pa.Field]) -> None:
        self._text = text
        self._fields = {field.name: field for field in fields}

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def resolve(self, names: Sequence[str]) -> tuple[Column, list[str]] | None:
        """Return the column that dotted names mean, and the path inside of its values.

        The plain columns come first, so that no document added later changes what they mean;
        `metadata.` in front always means the metadata. None where there is no such column.

        Raises:
            InputError: there is a path and nothing can be inside of the values, or the name
                may mean several columns.
        """
        first, rest = names[0], list(names[1:])
        if not rest and first in PLAIN:
            return Column(first), []
        if first.lower() == "metadata" and rest:
            field = self._field(rest[0])
            if field is not None:
                return self._with_path(field, rest[1:])
        if first not in self._fields and not rest and first.lower() in PLAIN:
            return Column(first.lower()), []
        field = self._field(first)
        return None if field is None else self._with_path(field, rest)

    def _with_path(self, field: pa.Field, path: list[str]) -> tuple[Column, list[str]]:
        column = Column(field.name, field)
        if path and not column.is_json:
            raise condition_error(
                self._text,
                f"the column {field.name} is {column.type}: there is no {'.'.join(path)} in it",
            )
        return column, path

    def _field(self, name: str) -> pa.Field | None:
        if name in self._fields:
            return self._fields[name]
        alike = [field for field in self._fields.values() if field.name.lower() == name.lower()]
        if len(alike) > 1:
            quoted = " and ".join(f'"{field.name}"' for field in alike)
            raise condition_error(
                self._text, f"{name} may mean {quoted}: write one of them, with its capitals"
            )
        return alike[0] if alike else None

    def missing(self, names: Sequence[str]) -> InputError:
        """Return the error that names the columns there are."""
        name = ".".join(names)
        columns = [Column(field.name, field) for field in self._fields.values()]
        shown = [f"{identifier(c.name)} {c.type}" for c in columns][:_SHOWN]
        more = f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else ""
        hint = close_to(name, [*PLAIN, *self._fields])
        compared = rf"""([=<>(,"]|\blike)\s*{re.escape(name)}(?![\w.(])"""
        if not hint and re.search(compared, self._text, re.IGNORECASE):
            hint += f"; a text stands in single quotes, '{name}'"
        there = ", ".join([*PLAIN, *shown])
        return condition_error(
            self._text, f"there is no column {name}{hint}; there are {there}{more}"
        )


def pointer(path: Sequence[str]) -> str:
    """Return the way to a value inside of JSON as a literal of SQL (RFC 6901)."""
    steps = "".join(f"/{p.replace('~', '~0').replace('/', '~1')}" for p in path)
    return "'" + steps.replace("'", "''") + "'"


def no_such_name(
    text: str, parents: Sequence[str], name: str, there: Collection[str]
) -> InputError:
    """Return the error for a name that no object at the end of `parents` holds; there: those held.

    parents: a column, and the way into its values.
    """
    known = sorted(there)
    shown = ", ".join(identifier(name) for name in known[:_SHOWN])
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    names = f"there are {shown}{more}" if known else "its values hold no names"
    hint = close_to(name, known)
    return condition_error(text, f"there is no {name} in {'.'.join(parents)}{hint}; {names}")


def unread_error(
    text: str, names: Sequence[str], kind: str, found: Collection[str], inside: str
) -> InputError:
    """Return the error for JSON values that are compared as if they were of another kind.

    names:  a column, and the way into its values.
    kind:   "DOUBLE" or "BOOLEAN".
    found:  the types of the values, as `json_type` names them.
    inside: a name that their objects hold.
    """
    name = ".".join(map(identifier, names))
    held = sorted({_HELD.get(each, "numbers") for each in found if each != "NULL"})
    wanted = "a number" if kind == "DOUBLE" else "true or false"
    instead = [f"{name}.{identifier(inside)} for a value inside"] if "objects" in held else []
    if "texts" in held:
        instead.append(f"{name} = 'text'")
    if "lists" in held:
        instead.append(f"json_extract_string({name}, '$[0]') for a value of a list")
    if "numbers" in held:
        instead.append(f"{name} > 0")
    return condition_error(
        text,
        f"{name} is JSON and holds {' and '.join(held)}, none of which is {wanted}: write "
        f"{', or '.join(instead or [f'{name} is not null'])}",
    )


_HELD = {"OBJECT": "objects", "ARRAY": "lists", "VARCHAR": "texts", "BOOLEAN": "truths"}


def condition_error(text: str, why: str) -> InputError:
    """Return the error for a condition, in one line."""
    shown = " ".join(text.split())
    shown = shown if len(shown) <= 200 else f"{shown[:197]}…"
    return InputError(f"the condition {shown!r}: {' '.join(why.split())}")


def close_to(name: str, known: Sequence[str]) -> str:
    """Return a question for the known name that is most like a name, "" where none is."""
    lowered = {k.lower(): k for k in known}
    found = difflib.get_close_matches(name.lower(), lowered, 1, 0.7)
    return f": did you mean {identifier(lowered[found[0]])}?" if found else ""


def identifier(name: str) -> str:
    """Return a name as it stands in a condition."""
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)
    return name if plain else '"' + name.replace('"', '""') + '"'


def _sql_type(kind: Any) -> str:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"{_sql_type(kind.value_type)}[]"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP WITH TIME ZONE" if kind.tz else "TIMESTAMP"
    names = {
        pa.int64(): "BIGINT",
        pa.float64(): "DOUBLE",
        pa.bool_(): "BOOLEAN",
        pa.string(): "VARCHAR",
        pa.large_string(): "VARCHAR",
        pa.date32(): "DATE",
    }
    return names.get(kind) or str(kind).upper()
