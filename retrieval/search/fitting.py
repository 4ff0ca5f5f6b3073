"""Fits the weight of vectors against words on the user's judged queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..encoders.base import Encoder
from ..evaluation import Run, evaluate
from ..segments.snapshot import Snapshot
from ..values.errors import InputError
from ..values.fusion import POOL, Fusion
from ..values.types import Query
from .plan import QUERY_BLOCK, Mode, SearchPlan
from .rankers import merged
from .ranking import best
from .words import Pool

MEASURE = "nDCG@10"
LEAST_QUERIES = 20
FOLDS = 5
_WEIGHTS = tuple(round(0.05 * i, 2) for i in range(21))
_DEPTH = 10


@dataclass(frozen=True, slots=True)
class FittedFusion:
    """The result of a fit.

    fusion:  the weight that is best over all queries, or the collection's present one.
    queries: the number of judged queries.
    before:  mean nDCG@10 with the present weight.
    after:   mean nDCG@10 on held-out queries: weights chosen on the other folds (of 5).
    curve:   mean nDCG@10 over all queries, by weight.
    """

    fusion: Fusion
    queries: int
    before: float
    after: float
    curve: Mapping[float, float]

    @property
    def is_better(self) -> bool:
        """Whether weights chosen on some queries beat the present weight on the others."""
        return self.after > self.before


def fit_fusion(
    snapshot: Snapshot,
    queries: Sequence[Query],
    qrels: Mapping[str, Mapping[str, int]],
    encoder: Callable[[], Encoder],
    seed: int = 0,
) -> FittedFusion:
    """Choose the weight of the encoder's ranking on judged queries.

    queries: texts with ids.
    qrels:   {query id: {document id: grade}}.

    Keeps the present weight unless chosen weights do better on held-out queries.

    Raises:
        InputError: fewer than 20 queries are judged, or the collection has only one ranker.
        MissingExtraError: ir_measures is not installed.
    """
    judged = [query for query in queries if query.id in qrels and query.text]
    if len(judged) < LEAST_QUERIES:
        raise InputError(
            f"tune: {len(judged)} of {len(queries)} queries are judged; "
            f"give at least {LEAST_QUERIES}, or chance would decide the weight"
        )
    known = snapshot.fusion
    runs: dict[float, Run] = {weight: {} for weight in (*_WEIGHTS, known.weight)}
    for start in range(0, len(judged), QUERY_BLOCK):
        block = judged[start : start + QUERY_BLOCK]
        plan = SearchPlan(snapshot, block, Mode.HYBRID, encoder, None)
        numbers = range(len(block))
        rankings = [merged(ranker, numbers, POOL) for ranker in plan.fused.rankers]
        for query, found in zip(block, plan.fused.pools(numbers, rankings), strict=True):
            ids = dict(zip(found.rows.tolist(), snapshot.ids(found.rows), strict=True))
            for weight, run in runs.items():
                run[str(query.id)] = _documents(found, replace(known, weight=weight), ids)
    asked = {str(query.id): dict(qrels[str(query.id)]) for query in judged}
    names = list(asked)
    values = {
        weight: _values(evaluate(run, asked, [MEASURE]).per_query[MEASURE], names)
        for weight, run in runs.items()
    }
    after = _held_out(values, len(names), seed)
    before = float(values[known.weight].mean())
    chosen = max(_WEIGHTS, key=lambda weight: values[weight].mean())
    fusion = known
    if after > before:
        fusion = replace(known, weight=chosen, fitted=f"{len(names)} judged queries")
    curve = {weight: float(values[weight].mean()) for weight in _WEIGHTS}
    return FittedFusion(fusion, len(names), before, after, curve)


def _values(of: Mapping[str, float], names: Sequence[str]) -> NDArray[np.float64]:
    return np.array([of[name] for name in names])


def _documents(found: Pool, fusion: Fusion, ids: Mapping[int, str]) -> dict[str, float]:
    """Return the best documents, each with the score of its best row."""
    out: dict[str, float] = {}
    ranking = best(found.rows, found.fused(fusion), len(found.rows))
    for row, score in zip(ranking.rows.tolist(), ranking.scores.tolist(), strict=True):
        out.setdefault(ids[row], score)
        if len(out) == _DEPTH:
            break
    return out


def _held_out(values: Mapping[float, NDArray[np.float64]], queries: int, seed: int) -> float:
    """Return the mean over queries, each at the weight chosen on the other folds."""
    folds = np.random.default_rng(seed).permutation(queries) % FOLDS
    total = 0.0
    for fold in range(FOLDS):
        held_out = folds == fold
        chosen = max(_WEIGHTS, key=lambda weight: values[weight][~held_out].mean())
        total += float(values[chosen][held_out].sum())
    return total / queries
