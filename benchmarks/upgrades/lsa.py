"""Latent semantic analysis as an encoder, fitted on a corpus: an old model that anyone can make.

Deerwester et al., "Indexing by latent semantic analysis", 1990, over the terms that the words of a
collection are indexed by; logarithms of counts, inverse document frequencies, unit lengths, and a
truncated singular value decomposition.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...retrieval.encoders.base import Encoder
from ...retrieval.encoders.functions import from_functions
from ...retrieval.text.analysis import analyzer
from ...retrieval.values.errors import missing_extra

Floats = NDArray[np.float32]


def fit_lsa(texts: Sequence[str], dim: int = 256, seed: int = 0) -> Encoder:
    """Return the encoder fitted on some texts; queries and documents are encoded alike.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    sparse, linalg = _scipy()
    analysis = analyzer()
    stop = analysis.stop_words
    counted = [Counter(t for t in analysis.terms(text) if t not in stop) for text in texts]
    documents = Counter(term for counts in counted for term in counts)
    # What is in one document alone relates it to no other.
    kept_terms = [term for term, n in documents.items() if n > 1]
    terms = {term: place for place, term in enumerate(kept_terms)}
    idf = np.array([np.log(len(texts) / documents[term]) for term in terms])

    def matrix(counts: Sequence[Counter[str]]) -> Any:
        rows, columns, values = [], [], []
        for row, each in enumerate(counts):
            for term, n in each.items():
                place = terms.get(term)
                if place is not None:
                    rows.append(row)
                    columns.append(place)
                    values.append((1 + np.log(n)) * idf[place])
        shape = (len(counts), len(terms))
        made = sparse.csr_matrix((values, (rows, columns)), shape, dtype=np.float64)
        lengths = np.sqrt(np.asarray(made.multiply(made).sum(axis=1)).ravel())
        lengths[lengths == 0] = 1
        return sparse.diags(1 / lengths) @ made

    whole = matrix(counted)
    kept = min(dim, min(whole.shape) - 1)
    start = np.random.default_rng(seed).standard_normal(min(whole.shape))
    _, _, right = linalg.svds(whole, k=kept, v0=start)
    right = right[::-1].T.astype(np.float32)

    def encode(items: list[str]) -> Floats:
        counts = [Counter(t for t in analysis.terms(text) if t not in stop) for text in items]
        found: Floats = (matrix(counts) @ right).astype(np.float32)
        return found

    digest = hashlib.blake2b("\0".join(texts).encode(), digest_size=8).hexdigest()
    return from_functions(f"lsa-{kept}-{digest}", encode, dim=kept)


def _scipy() -> tuple[Any, Any]:
    try:
        from scipy import sparse
        from scipy.sparse import linalg
    except ImportError:
        raise missing_extra("LSA", "eval") from None
    return sparse, linalg
