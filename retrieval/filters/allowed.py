"""The rows a search may find: those of given documents, and those that meet a condition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..segments.snapshot import Snapshot
from ..store.shards import Rows, find_rows
from ..values.errors import InputError


def allowed_rows(snapshot: Snapshot, ids: Sequence[str] | None, where: str | None) -> Rows | None:
    """Return the rows to search among, ascending; None is all of them."""
    if where is None:
        return None if ids is None else _rows(snapshot, ids)
    from .rows import rows_where

    rows = rows_where(snapshot, where)
    return rows if ids is None else rows[find_rows(rows, _rows(snapshot, ids))]


def _rows(snapshot: Snapshot, ids: Sequence[str]) -> Rows:
    """Return the rows of the documents with these ids, ascending."""
    if isinstance(ids, str):
        raise InputError("search: ids is a single text; give a list of ids")
    wrong = next((id for id in ids if not isinstance(id, str)), None)
    if wrong is not None:
        raise InputError(f"search: the id {wrong!r} is not a text")
    found = snapshot.rows_of(list(dict.fromkeys(ids)))
    return np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)
