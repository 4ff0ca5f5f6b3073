"""Conditions over documents: turns a user's SQL into a query that is safe to run in DuckDB.

DuckDB parses the condition. Its syntax tree is then checked, node by node, against what a
condition may contain: columns, constants, operators and the functions listed in `grammar`. No
subquery, no other statement and no function that reads anything outside the row is allowed. Column
names are replaced by our own names, and the query that runs is printed from the checked tree, so
exactly what was checked is what runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from ..values.errors import InputError
from .columns import Column, Columns, close_to, condition_error, identifier, pointer
from .grammar import (
    CLASSES,
    CLOCK,
    FUNCTIONS,
    JSON_FUNCTIONS,
    LIST_FUNCTIONS,
    OPERATORS,
    REFUSED,
    TRUTHS,
)

MAX_LENGTH = 100_000
DEEPEST = 200
POSITION = "retr_position"
TABLE = "retr_rows"
_START = f"SELECT {POSITION} FROM {TABLE} WHERE "


class Reading(NamedTuple):
    """JSON values that a condition reads as numbers or as booleans.

    number: the number of their column.
    path:   the path into the column's values.
    kind:   "DOUBLE" or "BOOLEAN".
    """

    number: int
    path: tuple[str, ...]
    kind: str


@dataclass(frozen=True, slots=True)
class Condition:
    """A checked condition.

    text:       the condition as the user wrote it.
    columns:    the columns it names; the i-th is called `value_name(i)`, and `json_name(i)` as
                JSON.
    paths:      the paths into the values of columns that it names, each with its column's number.
    readings:   the paths, including a column's own values, that it reads as another type.
    truths:     a query of the expressions used as booleans that may be something else; "" if none.
    places:     the position of each of these.
    sql:        a query, from `TABLE`, of the positions where it holds.
    uses_clock: whether its result depends on the time.
    shadowed:   the plain columns it names that share their name with a metadata column.
    """

    text: str
    columns: tuple[Column, ...]
    paths: tuple[tuple[int, tuple[str, ...]], ...]
    readings: tuple[Reading, ...]
    truths: str
    places: tuple[str, ...]
    sql: str
    uses_clock: bool
    shadowed: tuple[str, ...]

    def error(self, why: str) -> InputError:
        """Return the error that says why it cannot be evaluated, and lists its columns' types."""
        own = {f: c.name for i, c in enumerate(self.columns) for f in (value_name(i), json_name(i))}
        why = re.sub(r'"?\b(retr_\d+\w*)\b"?', lambda m: own.get(m[1], m[0]), why)
        types = ", ".join(f"{c.name} is {c.type}" for c in self.columns)
        return condition_error(self.text, f"{why}; {types}" if types else why)


def value_name(number: int) -> str:
    """Return the name of a column's values in the query."""
    return f"retr_{number}"


def json_name(number: int) -> str:
    """Return the name of a column's JSON in the query."""
    return f"retr_{number}_json"


def parse_condition(
    text: str, fields: Sequence[pa.Field], ask: Callable[[str, str], str]
) -> Condition:
    """Check a condition and return the query for it.

    fields: the existing metadata columns.
    ask:    calls a DuckDB function with one text and returns the resulting text.

    Raises:
        InputError: it is not a single condition, or contains something that is not allowed or a
            column that does not exist; the message says where.
    """
    if not isinstance(text, str):
        raise InputError(f'the condition is {text!r:.80}; give a text, such as "year >= 2020"')
    if not text.strip():
        raise InputError('the condition is empty; give one, such as "year >= 2020"')
    if len(text) > MAX_LENGTH or "\0" in text or not _is_utf8(text):
        raise condition_error(
            text, f"give at most {MAX_LENGTH:,} characters, without NUL or lone surrogates"
        )
    if _is_deep(text):
        raise condition_error(text, f"it is nested too deeply, more than {DEEPEST} brackets")
    try:
        return _Checker(text, fields, ask).condition()
    except RecursionError as error:
        raise condition_error(text, "it is nested too deeply") from error


class _Checker:
    """Walks over one syntax tree, and changes it on the way."""

    def __init__(
        self, text: str, fields: Sequence[pa.Field], ask: Callable[[str, str], str]
    ) -> None:
        self._text = text
        self._known = Columns(text, fields)
        self._ask = ask
        self._columns: list[Column] = []
        self._paths: dict[tuple[int, tuple[str, ...]], None] = {}
        self._readings: dict[Reading, None] = {}
        self._truths: list[tuple[dict[str, Any], str]] = []
        self._uses_clock = False

    def condition(self) -> Condition:
        tree = self._parse(_START + self._text, len(_START))
        statement = self._single_select(tree)
        statement["where_clause"] = self._truth(statement["where_clause"], frozenset())
        sql = self._ask("json_deserialize_sql", json.dumps(tree))
        plain = (column.name for column in self._columns if column.field is None)
        return Condition(
            self._text,
            tuple(self._columns),
            tuple(self._paths),
            tuple(self._readings),
            self._truths_query(tree),
            tuple(place for _, place in self._truths),
            sql,
            self._uses_clock,
            tuple(name for name in plain if name in self._known),
        )

    def _truths_query(self, tree: dict[str, Any]) -> str:
        if not self._truths:
            return ""
        statement = tree["statements"][0]["node"]
        statement["select_list"] = [node for node, _ in self._truths]
        return self._ask("json_deserialize_sql", json.dumps(tree))

    # --- parsing

    def _parse(self, sql: str, start: int = 0) -> dict[str, Any]:
        tree: dict[str, Any] = json.loads(self._ask("json_serialize_sql", sql))
        if not tree["error"]:
            return tree
        why = tree["error_message"]
        if tree.get("error_type") == "not implemented":
            why = "give a single condition, without other statements"
        elif "expression depth" in why:
            why = "it is nested too deeply"
        elif "position" in tree:
            # DuckDB counts bytes.
            at = len(sql.encode()[: int(tree["position"])].decode(errors="ignore")) - start
            if 0 <= at < len(self._text):
                why = f"{why}, at character {at + 1}: {self._text[at : at + 20]!r}"
            elif at >= 0:
                why = f"{why}, at its end"
            else:
                why = "it is empty"
        raise condition_error(self._text, why)

    def _single_select(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Return a tree's only SELECT, which must match our own but for its condition."""
        own = self._parse(f"{_START}true")["statements"][0]["node"]
        node: dict[str, Any] = tree["statements"][0]["node"]
        rest = {**node, "where_clause": own["where_clause"]}
        if len(tree["statements"]) != 1 or rest != own or node["where_clause"] is None:
            raise self._error("give a single condition, with nothing after it and no other query")
        return node

    def _fragment(self, expression: str) -> dict[str, Any]:
        """Return the tree of one of our own expressions."""
        tree = self._parse(f"SELECT {expression}")
        node: dict[str, Any] = tree["statements"][0]["node"]["select_list"][0]
        return node

    # --- checking

    def _check(self, node: Any, scope: frozenset[str]) -> Any:
        """Return a part of the tree with the columns replaced.

        scope: the parameters of the lambdas around it, which are not columns.
        """
        if isinstance(node, list):
            return [self._check(part, scope) for part in node]
        if not isinstance(node, dict):
            return node
        kind = node.get("class")
        if kind is not None and kind not in CLASSES:
            what = REFUSED.get(kind, f"this ({str(kind).lower()})")
            raise self._error(f"{what} is not allowed in a condition{self._place(node)}")
        if kind == "COLUMN_REF":
            return self._column_ref(node, scope, as_json=False)
        if kind == "LAMBDA":
            return self._lambda(node, scope)
        if kind == "FUNCTION":
            return self._function(node, scope)
        if kind == "OPERATOR":
            self._check_operator(node, scope)
        if kind == "CONJUNCTION" or node.get("type") == "OPERATOR_NOT":
            return {**node, "children": [self._truth(part, scope) for part in node["children"]]}
        checked = {key: self._check(part, scope) for key, part in node.items()}
        if kind == "CASE":
            for own, case in zip(node["case_checks"], checked["case_checks"], strict=True):
                case["when_expr"] = self._truth(own["when_expr"], scope)
        if kind in ("COMPARISON", "BETWEEN") or node.get("type") in _IN:
            self._read_json_as_compared(node, checked)
        return checked

    def _check_operator(self, node: Mapping[str, Any], scope: frozenset[str]) -> None:
        if node["type"] not in OPERATORS:
            name = str(node["type"]).lower()
            raise self._error(f"{name} is not allowed in a condition{self._place(node)}")
        if node["type"] in ("ARRAY_EXTRACT", "ARRAY_SLICE"):
            child = node["children"][0]
            column = self._json_column(child)
            if column is not None:
                name = column.name
                raise self._error(
                    f"{name} is JSON and does not support [...]: write {name}.name for a value "
                    f"inside, or json_extract_string({name}, '$[0]')"
                )

    def _lambda(self, node: dict[str, Any], scope: frozenset[str]) -> dict[str, Any]:
        if node.get("syntax_type") != "LAMBDA_KEYWORD":
            raise self._error(
                "-> is not allowed, because it binds looser than =: write column.name for a value "
                "inside JSON, and lambda x: … (which needs DuckDB 2) for a function over a list"
            )
        inner = scope | set(_names(node["lhs"]))
        return {**node, "expr": self._check(node["expr"], inner)}

    def _function(self, node: dict[str, Any], scope: frozenset[str]) -> dict[str, Any]:
        name = node["function_name"].lower()
        # The parser of DuckDB 1 adds the location of some of its own functions.
        where = (node.get("catalog") or "system", node.get("schema") or "main")
        if where != ("system", "main") or name not in FUNCTIONS:
            known = sorted(f for f in FUNCTIONS if f[0].isalpha())
            raise self._error(
                f"a condition cannot use the function {name}{close_to(name, known)}"
                f"{self._place(node)}"
            )
        self._uses_clock |= name in CLOCK
        checked = dict(node)
        for key in ("arguments", "children"):
            if key in node:
                checked[key] = [self._argument(part, name, scope) for part in node[key]]
        return checked

    def _argument(self, part: dict[str, Any], function: str, scope: frozenset[str]) -> Any:
        if "expression" in part:
            return {**part, "expression": self._argument(part["expression"], function, scope)}
        as_json = function in JSON_FUNCTIONS
        as_list = function in LIST_FUNCTIONS
        if part.get("class") == "COLUMN_REF" and (as_json or as_list):
            node = self._column_ref(part, scope, as_json=True)
            if as_list and self._is_json_ref(part, scope):
                reader = self._fragment("""TRY(json_transform(NULL, '["VARCHAR"]'))""")
                _replace_null(reader, node)
                return reader
            return node
        return self._check(part, scope)

    # --- columns

    def _column_ref(
        self, node: dict[str, Any], scope: frozenset[str], *, as_json: bool
    ) -> dict[str, Any]:
        names = node["column_names"]
        if names[0] in scope:
            return node
        resolved = self._known.resolve(names)
        if resolved is None:
            if len(names) == 1 and names[0].lower() in CLOCK:
                self._uses_clock = True
                return node
            raise self._known.missing(names)
        column, path = resolved
        if column not in self._columns:
            self._columns.append(column)
        number = self._columns.index(column)
        if path:
            self._paths[number, tuple(path)] = None
            reader = "json_extract" if as_json else "json_extract_string"
            return self._fragment(f"TRY({reader}({json_name(number)}, {pointer(path)}))")
        name = json_name(number) if as_json and column.is_json else value_name(number)
        return {**node, "column_names": [name]}

    # --- values of several types

    def _json_column(self, node: Any) -> Column | None:
        """Return the JSON column that a node names directly; None for any other node."""
        if not isinstance(node, dict) or node.get("class") != "COLUMN_REF":
            return None
        resolved = self._known.resolve(node["column_names"])
        return resolved[0] if resolved is not None and resolved[0].is_json else None

    def _is_json_ref(self, node: Any, scope: frozenset[str]) -> bool:
        return node["column_names"][0] not in scope and self._json_column(node) is not None

    def _read_json_as_compared(self, node: Mapping[str, Any], checked: dict[str, Any]) -> None:
        """Read a JSON column as numbers or booleans if it is compared with such constants."""
        keys = [key for key in ("left", "right", "input", "lower", "upper") if key in node]
        sides = [node[key] for key in keys] or node["children"]
        kinds = {kind for side in sides if (kind := _constant_kind(side)) is not None}
        if len(kinds) != 1 or not kinds <= {"DOUBLE", "BOOLEAN"}:
            return
        for i, side in enumerate(sides):
            if self._json_column(side) is None:
                continue
            if keys:
                checked[keys[i]] = self._read(side, checked[keys[i]], *kinds)
            else:
                checked["children"][i] = self._read(side, checked["children"][i], *kinds)

    def _truth(self, node: dict[str, Any], scope: frozenset[str]) -> dict[str, Any]:
        """Check a node that is used as a boolean: DuckDB would convert any number to one."""
        checked: dict[str, Any] = self._check(node, scope)
        kind = node["class"]
        if kind == "CONSTANT":
            if _constant_kind(node) not in ("BOOLEAN", "NULL"):
                raise self._error(
                    f"the constant is a number or a text{NO_TRUTH}{self._place(node)}"
                )
        elif kind == "COLUMN_REF":
            return self._column_as_truth(node, checked, scope)
        elif not (scope or {kind, node["type"], node.get("function_name")} & TRUTHS):
            self._truths.append((checked, self._place(node)))
        return checked

    def _column_as_truth(
        self, node: dict[str, Any], checked: dict[str, Any], scope: frozenset[str]
    ) -> dict[str, Any]:
        names = node["column_names"]
        resolved = None if names[0] in scope else self._known.resolve(names)
        if resolved is None or resolved[0].type == "BOOLEAN":
            return checked
        column = resolved[0]
        if column.is_json:
            return self._read(node, checked, "BOOLEAN")
        raise self._error(f"{identifier(column.name)} is {column.type}{NO_TRUTH}")

    def _read(self, node: dict[str, Any], checked: dict[str, Any], kind: str) -> dict[str, Any]:
        """Return a reference to JSON values, read as numbers or as booleans."""
        resolved = self._known.resolve(node["column_names"])
        assert resolved is not None
        reading = Reading(self._columns.index(resolved[0]), tuple(resolved[1]), kind)
        self._readings[reading] = None
        cast = self._fragment(f"TRY_CAST(NULL AS {kind})")
        _replace_null(cast, checked)
        return cast

    def _place(self, node: Mapping[str, Any]) -> str:
        at = int(node.get("query_location", 0)) - len(_START)
        before = self._text.encode()[: max(at, 0)]
        return f", at character {len(before.decode(errors='ignore')) + 1}" if at >= 0 else ""

    def _error(self, why: str) -> InputError:
        return condition_error(self._text, why)


NO_TRUTH = ", not true or false: compare it with something"
_IN = ("COMPARE_IN", "COMPARE_NOT_IN")


def _constant_kind(node: Mapping[str, Any]) -> str | None:
    """Return a constant's kind: DOUBLE (any number), BOOLEAN, VARCHAR, NULL; or None."""
    if node.get("class") != "CONSTANT":
        return None
    if "literal" in node:  # DuckDB 2
        kind = node["literal"]["kind"]
    else:
        kind = "NULL" if node["value"]["is_null"] else node["value"]["type"]["id"]
    names = {"STRING": "VARCHAR", "VARCHAR": "VARCHAR", "BOOLEAN": "BOOLEAN"}
    return "NULL" if kind.startswith("NULL") else names.get(kind, "DOUBLE")


def _names(node: Any) -> list[str]:
    """Return all column names in a part of the tree."""
    if isinstance(node, list):
        return [name for part in node for name in _names(part)]
    if not isinstance(node, dict):
        return []
    if node.get("class") == "COLUMN_REF":
        return list(node["column_names"])
    return [name for part in node.values() for name in _names(part)]


def _replace_null(node: Any, value: dict[str, Any]) -> None:
    """Replace the constant NULL in one of our own trees by a value."""
    parts = node.items() if isinstance(node, dict) else enumerate(node)
    for key, part in list(parts):
        if isinstance(part, dict) and _constant_kind(part) == "NULL":
            node[key] = value
        elif isinstance(part, (dict, list)):
            _replace_null(part, value)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_deep(text: str) -> bool:
    """Return whether brackets are nested so deeply that parsing could take minutes or gigabytes."""
    depth = deepest = 0
    for bracket in re.findall(r"[(\[{)\]}]", re.sub(r"'[^']*'|\"[^\"]*\"", "", text)):
        depth += 1 if bracket in "([{" else -1
        deepest = max(deepest, depth)
    return deepest > DEEPEST
