"""The columns of a condition: which exist, what a name means, and the errors for wrong names."""

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

    field: the metadata field, typed as in a merge of all shards; None for a plain column.
    """

    name: str
    field: pa.Field | None = None

    @property
    def is_json(self) -> bool:
        """Whether its values have several types, or are dicts, and so are stored as JSON."""
        return self.field is not None and is_json(self.field)

    @property
    def type(self) -> str:
        """Its type in SQL."""
        if self.field is None:
            return "VARCHAR"
        return "JSON" if self.is_json else _sql_type(self.field.type)


class Columns:
    """The existing metadata fields, for resolving the names in one condition.

    text: the condition, for the errors about wrong names.
    """

    def __init__(self, text: str, fields: Sequence[pa.Field]) -> None:
        self._text = text
        self._fields = {field.name: field for field in fields}

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def resolve(self, names: Sequence[str]) -> tuple[Column, list[str]] | None:
        """Return the column that dotted names mean, and the path inside its values.

        Plain columns take precedence, so that no document added later changes their meaning; the
        prefix `metadata.` always means the metadata. None if there is no such column.

        Raises:
            InputError: there is a path, but the values have nothing inside; or the name is
                ambiguous.
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
                f"the column {field.name} is {column.type}, so there is no {'.'.join(path)} in it",
            )
        return column, path

    def _field(self, name: str) -> pa.Field | None:
        if name in self._fields:
            return self._fields[name]
        alike = [field for field in self._fields.values() if field.name.lower() == name.lower()]
        if len(alike) > 1:
            quoted = " and ".join(f'"{field.name}"' for field in alike)
            raise condition_error(
                self._text, f"{name} may mean {quoted}: write one of them, with those capitals"
            )
        return alike[0] if alike else None

    def missing(self, names: Sequence[str]) -> InputError:
        """Return the error for a missing column; it lists the existing ones."""
        name = ".".join(names)
        columns = [Column(field.name, field) for field in self._fields.values()]
        shown = [f"{identifier(c.name)} {c.type}" for c in columns][:_SHOWN]
        more = f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else ""
        hint = close_to(name, [*PLAIN, *self._fields])
        compared = rf"""([=<>(,"]|\blike)\s*{re.escape(name)}(?![\w.(])"""
        if not hint and re.search(compared, self._text, re.IGNORECASE):
            hint += f"; put a text in single quotes, '{name}'"
        there = ", ".join([*PLAIN, *shown])
        return condition_error(
            self._text, f"there is no column {name}{hint}; the columns are {there}{more}"
        )


def pointer(path: Sequence[str]) -> str:
    """Return the path to a value inside JSON as an SQL literal (RFC 6901)."""
    steps = "".join(f"/{p.replace('~', '~0').replace('/', '~1')}" for p in path)
    return "'" + steps.replace("'", "''") + "'"


def no_such_name(
    text: str, parents: Sequence[str], name: str, there: Collection[str]
) -> InputError:
    """Return the error for a name that no object at the end of `parents` has.

    parents: a column, and the path into its values.
    there:   the names that the objects have.
    """
    known = sorted(there)
    shown = ", ".join(identifier(name) for name in known[:_SHOWN])
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    names = f"the names are {shown}{more}" if known else "its values have no names"
    hint = close_to(name, known)
    return condition_error(text, f"there is no {name} in {'.'.join(parents)}{hint}; {names}")


def unread_error(
    text: str, names: Sequence[str], kind: str, found: Collection[str], inside: str
) -> InputError:
    """Return the error for JSON values that are compared with another kind of value.

    names:  a column, and the path into its values.
    kind:   "DOUBLE" or "BOOLEAN".
    found:  the types of the values, as `json_type` names them.
    inside: a name that their objects have.
    """
    name = ".".join(map(identifier, names))
    held = sorted({_HELD.get(each, "numbers") for each in found if each != "NULL"})
    lacking = "no number" if kind == "DOUBLE" else "neither true nor false"
    instead = [f"{name}.{identifier(inside)} for a value inside"] if "objects" in held else []
    if "texts" in held:
        instead.append(f"{name} = 'text'")
    if "lists" in held:
        instead.append(f"json_extract_string({name}, '$[0]') for a value in a list")
    if "numbers" in held:
        instead.append(f"{name} > 0")
    return condition_error(
        text,
        f"{name} is JSON and holds {' and '.join(held)}, but {lacking}: write "
        f"{', or '.join(instead or [f'{name} is not null'])}",
    )


_HELD = {"OBJECT": "objects", "ARRAY": "lists", "VARCHAR": "texts", "BOOLEAN": "booleans"}


def condition_error(text: str, why: str) -> InputError:
    """Return the error for a condition, on one line."""
    shown = " ".join(text.split())
    shown = shown if len(shown) <= 200 else f"{shown[:197]}…"
    return InputError(f"the condition {shown!r}: {' '.join(why.split())}")


def close_to(name: str, known: Sequence[str]) -> str:
    """Return a question that suggests the most similar known name; "" if none is similar."""
    lowered = {k.lower(): k for k in known}
    found = difflib.get_close_matches(name.lower(), lowered, 1, 0.7)
    return f": did you mean {identifier(lowered[found[0]])}?" if found else ""


def identifier(name: str) -> str:
    """Return a name as written in a condition."""
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
