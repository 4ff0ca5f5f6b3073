"""The values that a report consists of; `report.collect` makes them, `results.json` holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

FORUMS_NAME = "cqadupstack"

# Of intervals and paired tests.
CONFIDENCE = 0.95
RESAMPLES = 9_999
SEED = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over queries, with its bootstrap interval if there is one."""

    value: float
    low: float | None = None
    high: float | None = None

    def ranged(self) -> str:
        """Return the mean with its interval."""
        if self.low is None or self.high is None:
            return f"{self.value:.4f}"
        return f"{self.value:.4f} [{self.low:.3f}, {self.high:.3f}]"

    def signed(self) -> str:
        """Return the mean with its interval, signs shown: of differences."""
        if self.low is None or self.high is None:
            return f"{self.value:+.4f}"
        return f"{self.value:+.4f} [{self.low:+.3f}, {self.high:+.3f}]"


@dataclass(frozen=True, slots=True)
class Beside:
    """A published figure and how far the row is from it."""

    system: str
    value: float
    difference: float
    settings: str
    source: str


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings, and what a run was told; reports call it by a letter.

    encoder: None if words alone were searched.
    words:   how texts become terms and how those are scored; None if vectors alone were.
    fusion:  how the two are weighed; None if there is only one of them.
    model:   the published model that the encoder is, untouched.
    trained: the model whose training data marks sets: the encoder or its teacher.
    """

    letter: str
    encoder: Mapping[str, Any] | None
    words: Mapping[str, Any] | None
    fusion: Mapping[str, Any] | None
    k: int
    limit: int | None
    model: str | None
    trained: str | None
    trained_source: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """A system on a data set; or the mean of the forums of CQADupStack, which counts as one.

    figures:   measure -> figure; nDCG@10 and the main recall have intervals.
    curve:     (cutoff, recall), ascending.
    ann:       for an index, {k: share of the exact k nearest that it found}.
    published: figures of the same kind of system on this very set.
    trained:   what of this set the encoder was trained on, None for nothing known.
    notes:     what a reader has to know about this row.
    path:      of its entry inside the output folder; None for a mean.
    """

    dataset: str
    title: str
    group: str
    split: str
    documents: int | None
    queries: int
    configuration: str
    system: str
    row: str
    spec: str | None
    figures: Mapping[str, Figure]
    curve: tuple[tuple[int, float], ...]
    ann: Mapping[str, float] | None
    published: tuple[Beside, ...]
    trained: str | None
    drop_self: bool
    notes: tuple[str, ...]
    path: str | None


@dataclass(frozen=True, slots=True)
class Mean:
    """The unweighted mean of a system over data sets, which are named."""

    name: str
    configuration: str
    system: str
    over: tuple[str, ...]
    figures: Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class Loss:
    """What an index loses against exact search over the same vectors."""

    dataset: str
    configuration: str
    system: str
    measure: str
    exact: float
    indexed: float
    difference: Figure
    p: float | None
    wins: int
    losses: int
    ties: int
    ann: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Gain:
    """What the vectors add to the words: hybrid search against BM25 on the same queries.

    dataset: or what it is the mean of.
    over:    for a mean the data sets, each of which counts the same; empty for one data set.
    wins, losses, ties: queries for which hybrid search is better, worse, the same.
    """

    dataset: str
    over: tuple[str, ...]
    configuration: str
    measure: str
    words: float
    hybrid: float
    difference: Figure
    p: float | None
    wins: int
    losses: int
    ties: int


@dataclass(frozen=True, slots=True)
class Reference:
    """Published figures for the sets of this report, in a row of their own; not measured here."""

    system: str
    row: str
    settings: str
    values: tuple[tuple[str, float, str], ...]  # data set, nDCG@10, source


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a report shows."""

    configurations: tuple[Configuration, ...]
    rows: tuple[Row, ...]
    means: tuple[Mean, ...]
    gains: tuple[Gain, ...]
    losses: tuple[Loss, ...]
    references: tuple[Reference, ...]
    environments: tuple[tuple[str, Mapping[str, Any]], ...]  # the paths of entries, environment
    statistics: Mapping[str, Any]

    @property
    def several(self) -> bool:
        """Whether rows have to say of which configuration they are."""
        return len(self.configurations) > 1

    @property
    def measures(self) -> list[str]:
        """The measures that tables show, in order."""
        names = dict.fromkeys(name for row in self.rows for name in row.figures)
        recalls = dict.fromkeys(main_recall(row.figures) for row in self.rows)
        averages = [name for name in names if name.startswith("AP@")]
        shown = ("nDCG@10", "RR@10", *averages, *recalls, "R@1000", "R_cap@100")
        return list(dict.fromkeys(name for name in shown if name in names))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


def main_recall(measures: Iterable[str]) -> str:
    """Return the recall that tables show: R@100, or at the highest cutoff if k is smaller."""
    cutoffs = [int(n[2:]) for n in measures if n.startswith("R@") and n[2:].isdigit()]
    return "R@100" if 100 in cutoffs else f"R@{max(cutoffs)}"
