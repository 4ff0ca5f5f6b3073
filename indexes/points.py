"""Operating points: where on its curve of speed against recall an index runs.

Each kind of index has a few knobs (`ef`, `nprobe`, `shortlist`). An operating point sets them all;
`Index.points` holds several, fastest first, and `effort` is the number of one of them. FAISS files
do not store search parameters, so points are stored as JSON and passed to `load`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_MARGIN: Final = 0.5


@dataclass(frozen=True, slots=True, repr=False)
class OperatingPoint(Mapping[str, int]):
    """A value for each knob of a kind, an integer above 0, sorted by knob.

    Raises:
        ValueError: a knob is not a name, or its value is not an integer above 0.
    """

    knobs: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        for name, value in self.knobs:
            sound = isinstance(name, str) and isinstance(value, int) and not isinstance(value, bool)
            if not sound or value < 1:
                raise ValueError(
                    f"operating point {name}={value!r}: give a name and an integer above 0"
                )
        object.__setattr__(self, "knobs", tuple(sorted(dict(self.knobs).items())))

    @classmethod
    def of(cls, **knobs: int) -> OperatingPoint:
        """Return the point with these knobs."""
        return cls(tuple(knobs.items()))

    @classmethod
    def from_json(cls, value: object) -> OperatingPoint:
        """Return the point that `to_json` wrote.

        Raises:
            ValueError: it wrote no such thing.
        """
        if not isinstance(value, dict):
            raise ValueError(f"an operating point is an object of knobs, not {value!r}")
        return cls(tuple(value.items()))

    def to_json(self) -> dict[str, int]:
        """Return the knobs as JSON values."""
        return dict(self.knobs)

    def __getitem__(self, name: str) -> int:
        for knob, value in self.knobs:
            if knob == name:
                return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.knobs)

    def __len__(self) -> int:
        return len(self.knobs)

    def __repr__(self) -> str:
        return "OperatingPoint(" + ", ".join(f"{k}={v}" for k, v in self.knobs) + ")"


def aimed(recall: float, own: bool) -> float:
    """Return the recall to reach on the queries at hand so that real queries reach `recall`.

    own: whether the queries are like those that users will ask. Queries made from the vectors
         need not be: real queries of another modality, or between clusters, miss up to twice as
         much (benchmarks/studies/recalls.py), so retr then aims halfway between `recall` and 1.
    """
    return recall if own else recall + _MARGIN * (1 - recall)


def check_points(points: Sequence[OperatingPoint], default: int, names: set[str]) -> None:
    """Refuse points that do not fit an index whose knobs are called `names`.

    Raises:
        ValueError: there are none, one has other knobs, or there is no point `default`.
    """
    for point in points:
        if set(point) != names:
            raise ValueError(f"{point!r} must set exactly the knobs {', '.join(sorted(names))}")
    if not 0 <= default < len(points):
        raise ValueError(f"the default effort {default} is not one of {len(points)} points")
