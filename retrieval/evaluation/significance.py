"""Tests whether one run is better than another by more than the choice of queries explains.

For each measure the values of two runs are paired by query. Two tests of "no difference" are made
(Fisher's randomisation test and Student's paired t-test, the two that Smucker, Allan and
Carterette, CIKM 2007, and Urbano, Lima and Hanjalic, SIGIR 2019, recommend), with Holm's
correction if several runs are compared with one. A confidence interval for the difference says how
large it may be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ..values.errors import InputError, missing_extra
from .measures import Evaluation, text_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Two values of a measure that are mathematically equal differ by less than this when summed in
# another order; values that really differ are further apart.
_SAME = 1e-12
_BLOCK = 1 << 21  # values held at once while resampling


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval; such intervals contain the true mean with probability `confidence`."""

    low: float
    high: float
    confidence: float


@dataclass(frozen=True, slots=True)
class PValue:
    """The result of a two-sided test of the hypothesis that the runs do not differ.

    p:    the probability of a difference at least this large under the hypothesis; None if the
          test is undefined (a t-test on one query, or on differences that are all the same).
    holm: p corrected for the number of runs compared with the base; equal to p for one run.
    """

    p: float | None
    holm: float | None


@dataclass(frozen=True, slots=True)
class Move:
    """A query whose value changed."""

    query: str
    base: float
    other: float


@dataclass(frozen=True, slots=True)
class Difference:
    """One measure for two runs, over the queries that both have.

    base, other:   the means over the queries.
    difference:    other - base.
    interval:      of the difference; None for a single query.
    randomisation: Fisher's randomisation test on the mean difference.
    exact:         whether that test tried every assignment of signs, not just a sample.
    t_test:        Student's paired t-test.
    wins, losses, ties: the numbers of queries for which `other` is better, worse, the same.
    moved:         the queries that changed most, the largest change first.
    """

    measure: str
    base: float
    other: float
    difference: float
    interval: Interval | None
    randomisation: PValue
    exact: bool
    t_test: PValue
    wins: int
    losses: int
    ties: int
    moved: tuple[Move, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs, measure by measure.

    base, other: the names of the runs.
    queries:     the number of queries that both evaluations count.
    left_out:    the number of queries that only one of them counts; no figure here includes them.
    systems:     the number of runs compared with the base, for Holm's correction.
    resamples, seed: the settings of the sampled tests and intervals.
    """

    base: str
    other: str
    queries: int
    left_out: int
    systems: int
    resamples: int
    seed: int
    differences: tuple[Difference, ...]

    def __getitem__(self, measure: str) -> Difference:
        """Return the difference in a measure, by its canonical name."""
        for difference in self.differences:
            if difference.measure == measure:
                return difference
        raise InputError(
            f"{measure} was not compared; compared were "
            f"{', '.join(difference.measure for difference in self.differences)}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)

    def table(self) -> str:
        """Return plain text: one line per measure."""
        return comparison_table([self])


def compare(
    base: Evaluation,
    other: Evaluation,
    *,
    measures: Iterable[str] | None = None,
    confidence: float = 0.95,
    resamples: int = 9_999,
    moved: int = 10,
    seed: int = 0,
) -> Comparison:
    """Compare two evaluations by the same qrels, query by query.

    measures:   the measures to compare; None for all means that both have.
    confidence: the confidence of the intervals.
    resamples:  the number of samples for the randomisation test and for the bootstrap. If the
                queries that differ have at most this many assignments of signs, the test is exact
                (up to 13 such queries for 9,999).
    moved:      how many of the queries that changed most to keep.
    seed:       the same seed gives the same figures.

    Raises:
        InputError: they have no query or no measure in common, or an option is out of range.
        MissingExtraError: scipy is not installed.
    """
    return compare_all(
        base,
        [other],
        measures=measures,
        confidence=confidence,
        resamples=resamples,
        moved=moved,
        seed=seed,
    )[0]


def compare_all(
    base: Evaluation,
    others: Sequence[Evaluation],
    *,
    measures: Iterable[str] | None = None,
    confidence: float = 0.95,
    resamples: int = 9_999,
    moved: int = 10,
    seed: int = 0,
) -> tuple[Comparison, ...]:
    """Compare several evaluations with one, like `compare`, with Holm's correction of p-values.

    For each measure and each kind of test, the runs compared with `base` are one family of tests
    (S. Holm, A simple sequentially rejective multiple test procedure, 1979).
    """
    check_options(confidence, resamples, seed)
    if not others:
        raise InputError("there is no run to compare with the base")
    if measures is None:
        names = [
            m for m in base.measures if not _is_sum(m) and all(m in other.means for other in others)
        ]
    else:
        wanted = [measures] if isinstance(measures, str) else measures
        names = [base.canonical(measure) for measure in wanted]
        refuse_sums(names)
        for other in others:
            for name in names:
                other.canonical(name)
    if not names:
        raise InputError(f"{base.name} and the runs compared with it have no measure in common")
    comparisons = []
    for other in others:
        mine = base.queries
        theirs = set(other.queries)
        shared = [query for query in mine if query in theirs]
        if not shared:
            raise InputError(f"{base.name} and {other.name} have no query in common")
        comparisons.append(
            Comparison(
                base=base.name,
                other=other.name,
                queries=len(shared),
                left_out=len(mine) + len(theirs) - 2 * len(shared),
                systems=len(others),
                resamples=resamples,
                seed=seed,
                differences=tuple(
                    _difference(name, base, other, shared, confidence, resamples, moved, seed)
                    for name in names
                ),
            )
        )
    return _corrected(comparisons)


def interval(
    evaluation: Evaluation,
    measure: str,
    *,
    confidence: float = 0.95,
    resamples: int = 9_999,
    seed: int = 0,
) -> Interval | None:
    """Return the confidence interval of the mean of a measure; None for a single query.

    Raises:
        InputError: the measure was not evaluated or is a sum, or an option is out of range.
        MissingExtraError: scipy is not installed.
    """
    check_options(confidence, resamples, seed)
    refuse_sums([evaluation.canonical(measure)])
    return _bootstrap(evaluation.values(measure), confidence, resamples, seed)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values after Holm's step-down correction; None stays None and is not counted."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    out: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        out[i] = highest
    return out


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """Return plain text: one line per run and measure."""
    rows = [["run", "measure", "base", "other", "diff", "interval", "p", "p (t)", "win/loss/tie"]]
    for comparison in comparisons:
        for d in comparison.differences:
            bounds = f"{d.interval.low:+.4f} {d.interval.high:+.4f}" if d.interval else ""
            rows.append(
                [
                    comparison.other,
                    d.measure,
                    f"{d.base:.4f}",
                    f"{d.other:.4f}",
                    f"{d.difference:+.4f}",
                    bounds,
                    _shown(d.randomisation.holm),
                    _shown(d.t_test.holm),
                    f"{d.wins}/{d.losses}/{d.ties}",
                ]
            )
    return text_table(rows)


def _shown(p: float | None) -> str:
    if p is None:
        return "-"
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


def refuse_sums(measures: Iterable[str]) -> None:
    """Raise InputError if one of these canonical names is a sum over queries, not a mean."""
    sums = [measure for measure in measures if _is_sum(measure)]
    if sums:
        raise InputError(
            f"{', '.join(sums)} is a sum over queries, which has no mean, interval or test; "
            "evaluate() of retr.retrieval.evaluation returns it"
        )


def _is_sum(measure: str) -> bool:
    return measure.split("(")[0].split("@")[0] in ("NumQ", "NumRel", "NumRet")


def check_options(confidence: float, resamples: int = 9_999, seed: int = 0) -> None:
    """Raise InputError if intervals and tests cannot be computed with these options."""
    if seed < 0:
        raise InputError(f"seed {seed}: give a whole number from 0")
    if not 0 < confidence < 1:
        raise InputError(f"confidence {confidence}: give a number between 0 and 1, such as 0.95")
    if resamples < 100:
        raise InputError(f"resamples {resamples}: give at least 100")


def _difference(
    measure: str,
    base: Evaluation,
    other: Evaluation,
    queries: Sequence[str],
    confidence: float,
    resamples: int,
    moved: int,
    seed: int,
) -> Difference:
    import numpy as np

    left, right = base.per_query[measure], other.per_query[measure]
    a = np.array([left[query] for query in queries], np.float64)
    b = np.array([right[query] for query in queries], np.float64)
    d = b - a
    d[np.abs(d) < _SAME] = 0.0
    p, exact = _randomisation(d, resamples, seed)
    order = np.argsort(-np.abs(d), kind="stable")[: max(0, moved)]
    return Difference(
        measure=measure,
        base=float(a.mean()),
        other=float(b.mean()),
        difference=float(d.mean()),
        interval=_bootstrap(d, confidence, resamples, seed),
        randomisation=PValue(p, p),
        exact=exact,
        t_test=PValue(*[_t_test(d)] * 2),
        wins=int((d > 0).sum()),
        losses=int((d < 0).sum()),
        ties=int((d == 0).sum()),
        moved=tuple(Move(queries[i], float(a[i]), float(b[i])) for i in order if d[i] != 0),
    )


def _randomisation(d: NDArray[np.float64], resamples: int, seed: int) -> tuple[float, bool]:
    """Return the p-value of Fisher's randomisation test on the mean, and whether it is exact.

    If the runs did not differ, each difference could equally well have the other sign. A query
    without a difference contributes the same to every assignment, so it is left out; that also
    makes the test exact more often. A sampled p-value counts the observed assignment as one more
    sample, so it is never 0 (Phipson and Smyth 2010).
    """
    import numpy as np

    d = d[d != 0]
    if len(d) < 2:
        return 1.0, True  # a single difference is as large with either sign
    result = _stats().permutation_test(
        (d,),
        # Rounded, so that assignments with mathematically equal sums count as equal.
        lambda sample, axis: np.round(np.sum(sample, axis=axis), 9),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _BLOCK // len(d)),
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue), 2 ** len(d) <= resamples


def _t_test(d: NDArray[np.float64]) -> float | None:
    if not d.any():
        return 1.0
    if len(d) < 2 or _constant(d):
        return None  # without variance, t is undefined
    return float(_stats().ttest_1samp(d, 0.0).pvalue)


def _bootstrap(
    values: NDArray[np.float64], confidence: float, resamples: int, seed: int
) -> Interval | None:
    """Return the bias-corrected and accelerated bootstrap interval (Efron 1987) of the mean."""
    import numpy as np

    if len(values) < 2:
        return None
    if _constant(values):
        return Interval(float(values[0]), float(values[0]), confidence)
    result = _stats().bootstrap(
        (values,),
        np.mean,
        method="BCa",
        vectorized=True,
        confidence_level=confidence,
        n_resamples=resamples,
        batch=max(1, _BLOCK // len(values)),
        rng=np.random.default_rng(seed),
    )
    bounds = result.confidence_interval
    return Interval(float(bounds.low), float(bounds.high), confidence)


def _constant(values: NDArray[np.float64]) -> bool:
    return bool(values.max() - values.min() < _SAME)


def _corrected(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    columns = list(zip(*[c.differences for c in comparisons], strict=True))
    fixed = []
    for column in columns:
        sampled = holm([d.randomisation.p for d in column])
        student = holm([d.t_test.p for d in column])
        fixed.append(
            [
                replace(d, randomisation=PValue(d.randomisation.p, s), t_test=PValue(d.t_test.p, t))
                for d, s, t in zip(column, sampled, student, strict=True)
            ]
        )
    return tuple(
        replace(comparison, differences=tuple(row))
        for comparison, row in zip(comparisons, zip(*fixed, strict=True), strict=True)
    )


def _stats() -> Any:
    try:
        from scipy import stats
    except ImportError:
        raise missing_extra("comparing runs", "eval") from None
    return stats
