"""Fusion: combines two rankings of the same rows, by the encoder and by words, into one.

A convex combination of normalised scores (Bruch, Gai and Ingber, "An Analysis of Fusion Functions
for Hybrid Retrieval", 2023). Each side is normalised by the scores of its own best hits, over a
pool of fixed depth, so a row's score does not depend on how many hits were requested. If an
encoder's scores are known to be comparable across queries, they are divided by their usual spread
instead: when a query's best hits barely differ in score, the words then decide.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]

POOL = 100
"""The minimum number of hits from each side that are fused."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """How a collection weighs its two sides; stored with the collection.

    weight:   the weight of the encoder's side, from 0 to 1; the words get the rest.
    fitted:   what the weight was chosen on: "default", or the user's judged queries.
    feedback: the weight of the best hit's vector relative to the query's when the encoder
              searches a second time; 0 searches once.
    spread:   the usual difference between the highest and the lowest score in the encoder's
              pool; None uses the difference for the query at hand.
    """

    weight: float
    fitted: str = "default"
    feedback: float = 0.0
    spread: float | None = None

    def blended(self, before: Fusion, share: float) -> Fusion:
        """Return the fusion to use while only `share` of the vectors come from this encoder.

        before: the fusion for the encoder of the other vectors. Their scores are converted to
                this encoder's scale, so its spread applies to all of them.
        """
        weight = share * self.weight + (1 - share) * before.weight
        feedback = share * self.feedback + (1 - share) * before.feedback
        return Fusion(weight, self.fitted, feedback, self.spread)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    def fuse(self, dense: Scores, dense_pool: Scores, words: Scores, words_pool: Scores) -> Scores:
        """Return the fused score of each of n rows, f64[n].

        dense, words: f64[n], the scores of the same rows on both sides; `words` is 0 for a row
                      that holds none of the query's words.
        *_pool:       the scores of that side's best hits, descending, at most `POOL`.
        """
        out = self.weight * normalised(dense, dense_pool, self.spread)
        out += (1 - self.weight) * normalised_words(words, words_pool)
        return out


def normalised(scores: Scores, pool: Scores, spread: float | None = None) -> Scores:
    """Return the scores, scaled so that the pool's last is 0 and its best is 1.

    spread: if given, a score this far above the pool's last is 1 instead; above 0.
    """
    if not len(pool) or pool[0] <= pool[-1]:
        return np.zeros(len(scores))
    out: Scores = (scores - pool[-1]) / (pool[0] - pool[-1] if spread is None else spread)
    return np.where(np.isfinite(out), out, 0.0)  # a row without a vector counts as the last


def normalised_words(scores: Scores, pool: Scores) -> Scores:
    """Return the scores, scaled so that the pool's best is 1; a row with no query word stays 0."""
    if not len(pool) or pool[0] <= 0:
        return np.zeros(len(scores))
    out: Scores = scores / pool[0]
    return out


# Chosen by nDCG@10 on SciFact, Cranfield, NPL and CoSQA, each left out in turn: see docs/search.md.
# The spread is the mean over their queries, in cosines of this model; it does not fit another.
_DEFAULTS = {"static": Fusion(0.25, feedback=1.0, spread=0.22)}
_OTHERS = Fusion(0.5, feedback=0.5)


def default_fusion(family: str) -> Fusion:
    """Return the fusion for an encoder family if none was fitted."""
    return _DEFAULTS.get(family, _OTHERS)
