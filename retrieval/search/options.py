"""What a search may be asked for beside its query: one signature for all who pass it on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from .rerank import Reranker, Score


class SearchOptions(TypedDict, total=False):
    """The options of `Collection.search`; it says what each means."""

    mode: str | None
    where: str | None
    recall: float | str | None
    ids: Sequence[str] | None
    passages: bool
    explain: bool
    rerank: str | Reranker | Score | None
    rerank_depth: int
