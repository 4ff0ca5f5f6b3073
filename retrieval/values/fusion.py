"""Fusion: two rankings of the same rows, by meaning and by words, become one.

A convex combination of normalised scores (Bruch, Gai and Ingber, "An Analysis of Fusion Functions
for Hybrid Retrieval", 2023). Each side is normalised by what its own best hits score, over a pool
of fixed depth, so that a row's score does not depend on how many hits were asked for. Where the
scores of an encoder are known to mean the same from query to query, they are divided by what they
usually span instead: a query whose best hits it hardly tells apart is then left to the words.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]

POOL = 100
"""How many hits of each side are fused, at least."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """How a collection's two sides are weighed, stored with it.

    weight:   of the encoder's side, from 0 to 1; the other has the rest.
    fitted:   what it was chosen on: "default", or the judged queries of the user.
    feedback: how much the vector of the best hit counts beside that of the query, when the
              encoder's side looks a second time; 0 for one look.
    spread:   how far the best and the last of the encoder's best hits usually lie apart, in its
              scores; None divides by how far they do for the query at hand.
    """

    weight: float
    fitted: str = "default"
    feedback: float = 0.0
    spread: float | None = None

    def blended(self, before: Fusion, share: float) -> Fusion:
        """Return how to weigh where so large a share of the vectors is of the encoder this is for.

        before: how the sides were weighed for the encoder of the others. Their scores are brought
                to the scale of this one's, so its spread holds for all.
        """
        weight = share * self.weight + (1 - share) * before.weight
        feedback = share * self.feedback + (1 - share) * before.feedback
        return Fusion(weight, self.fitted, feedback, self.spread)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    def fuse(self, dense: Scores, dense_pool: Scores, words: Scores, words_pool: Scores) -> Scores:
        """Return f64[n], the fused score of each of n rows.

        dense, words: f64[n], the scores of the same rows on both sides; `words` is 0 for a row
                      that holds none of the query's words.
        *_pool:       the scores of the side's own best hits, descending, at most `POOL`.
        """
        out = self.weight * normalised(dense, dense_pool, self.spread)
        out += (1 - self.weight) * normalised_words(words, words_pool)
        return out


def normalised(scores: Scores, pool: Scores, spread: float | None = None) -> Scores:
    """Return the scores with the last of the pool at 0 and the best of it at 1.

    spread: what lies above the last by so much is at 1 instead; above 0.
    """
    if not len(pool) or pool[0] <= pool[-1]:
        return np.zeros(len(scores))
    out: Scores = (scores - pool[-1]) / (pool[0] - pool[-1] if spread is None else spread)
    return np.where(np.isfinite(out), out, 0.0)  # a row without a vector counts as the last


def normalised_words(scores: Scores, pool: Scores) -> Scores:
    """Return the scores with the best of the pool at 1; no word in common is 0."""
    if not len(pool) or pool[0] <= 0:
        return np.zeros(len(scores))
    out: Scores = scores / pool[0]
    return out


# Chosen by nDCG@10 on SciFact, Cranfield, NPL and CoSQA, each left out in turn: see docs/search.md.
# The spread is the mean over their queries. It is a cosine of one model: another has another.
_DEFAULTS = {"static": Fusion(0.25, feedback=1.0, spread=0.22)}
_OTHERS = Fusion(0.5, feedback=0.5)


def default_fusion(family: str) -> Fusion:
    """Return how the sides are weighed for a family of encoders, where nothing was fitted."""
    return _DEFAULTS.get(family, _OTHERS)
