"""The hits of one query, best first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

from ..values.types import Hit, Query


class Results(Sequence[Hit]):
    """The hits of one query, best first.

    query:      the query as it was given.
    generation: the generation of the collection that answered.
    """

    __slots__ = ("_hits", "generation", "query")

    def __init__(self, query: Query, hits: Sequence[Hit], generation: int) -> None:
        self.query = query
        self.generation = generation
        self._hits = tuple(hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self._hits[index]

    def __len__(self) -> int:
        return len(self._hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._hits)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Results):
            return self._hits == other._hits
        return NotImplemented

    def __hash__(self) -> int:
        raise TypeError("unhashable type: 'Results'")

    def __repr__(self) -> str:
        lines = [f"Results({len(self)} hits, generation {self.generation})"]
        for rank, hit in enumerate(self._hits[:10], start=1):
            text = " ".join((hit.text or "").split())
            shown = text if len(text) <= 72 else text[:71] + "…"
            lines.append(f"  {rank:>2}  {hit.score:.4f}  {hit.id}  {shown}")
        if len(self) > 10:
            lines.append(f"  … {len(self) - 10} more")
        return "\n".join(lines)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one dict per hit, see `Hit.to_dict`."""
        return [hit.to_dict() for hit in self._hits]

    def to_arrow(self) -> Any:
        """Return the hits as a `pyarrow.Table`.

        Its columns are rank, id, score, text, uri, place, image, metadata (JSON) and row.
        """
        import json

        import pyarrow as pa

        return pa.table(
            {
                "rank": pa.array(range(1, len(self) + 1), pa.int64()),
                "id": pa.array([h.id for h in self], pa.string()),
                "score": pa.array([h.score for h in self], pa.float64()),
                "text": pa.array([h.text for h in self], pa.string()),
                "uri": pa.array([h.uri for h in self], pa.string()),
                "place": pa.array([h.place for h in self], pa.string()),
                "image": pa.array([h.image and str(h.image) for h in self], pa.string()),
                "metadata": pa.array(
                    [json.dumps(dict(h.metadata), default=str) for h in self], pa.string()
                ),
                "row": pa.array([h.row for h in self], pa.int64()),
            }
        )

    def html(self) -> str:
        """Return a self-contained HTML page that shows the query and its hits.

        Write it to a file and open that in a browser.
        """
        from ..results.page import page

        return page([self])

    def to_pandas(self) -> Any:
        """Return `to_arrow` as a `pandas.DataFrame`; needs pandas."""
        return self.to_arrow().to_pandas()
