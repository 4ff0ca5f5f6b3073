"""The options of a search, declared once for every function that passes them on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from .rerank import Reranker, Score


class SearchOptions(TypedDict, total=False):
    """The keyword options of `Collection.search`, which documents them."""

    mode: str | None
    where: str | None
    recall: float | str | None
    ids: Sequence[str] | None
    passages: bool
    explain: bool
    rerank: str | Reranker | Score | None
    rerank_depth: int
