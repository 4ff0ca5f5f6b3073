"""Converts users' single values to texts and to JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..values.errors import InputError


def as_text(value: object, where: str) -> str:
    """Return `value` as a text; null and NaN, which tables use for null, become the empty text.

    Raises:
        InputError: it is not a text.
    """
    if isinstance(value, str):
        return value if is_encodable(value) else encodable(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    raise InputError(f"{where} is {shown_value(value)}, not a text")


def plain(value: Any, where: str) -> Any:
    """Return a metadata value as a JSON value.

    Numbers that JSON lacks (NaN, infinity) become None, dates and times ISO 8601, decimals
    floats, and paths, UUIDs and the like their strings. Bytes inside lists and dicts are left out.

    Raises:
        InputError: the value has no JSON equivalent.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value) if is_encodable(value) else encodable(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {
            encodable(str(name)): plain(item, where)
            for name, item in value.items()
            if not isinstance(item, bytes | bytearray | memoryview)
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [
            plain(item, where)
            for item in value
            if not isinstance(item, bytes | bytearray | memoryview)
        ]
    return _plain_object(value, where)


def _plain_object(value: Any, where: str) -> Any:
    import datetime
    import decimal
    import enum
    import os
    import uuid

    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        # pandas' NaT is a datetime whose year is NaN.
        return value.isoformat() if value == value else None
    if isinstance(value, decimal.Decimal):
        return plain(float(value), where)
    if isinstance(value, enum.Enum):
        return plain(value.value, where)
    if isinstance(value, uuid.UUID | datetime.timedelta):
        return str(value)
    if isinstance(value, os.PathLike):
        return encodable(str(value))
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return plain(value.tolist(), where)
    if type(value).__name__ == "NAType":
        return None
    raise InputError(
        f"{where}: {shown_value(value)} cannot be stored as metadata; make it a JSON value"
    )


def is_encodable(text: str) -> bool:
    """Return whether UTF-8 can encode `text`; it cannot encode lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def encodable(text: str) -> str:
    """Return `text` with each lone surrogate replaced by U+FFFD."""
    if is_encodable(text):
        return text
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)


def shown_value(value: object) -> str:
    """Return a value and its type as an error message shows them."""
    text = "null" if value is None else repr(value)
    return f"{text if len(text) <= 40 else text[:39] + '…'} ({type(value).__name__})"
