"""What an encoder made, and what users bring, looked at before it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..encoders.base import Space, Weights
from ..values.errors import InputError


def check_made(made: Any, ids: Sequence[str], space: Space, encoder: str) -> None:
    """Refuse what an encoder gave where it cannot be stored.

    made:    vectors f32[len(ids), dim], or as many weights for a sparse space.
    ids:     of the documents, for the message.
    encoder: its name, for the message.

    Raises:
        InputError: the shape is another, or a value is not finite; a weight is above 0, too.
    """
    if space.sparse:
        _check_weights(made, ids, encoder)
        return
    expected = (len(ids), space.dim)
    if made.shape != expected:
        raise InputError(f"encoder {encoder}: gave vectors of shape {made.shape}, not {expected}")
    finite = np.isfinite(made).all(axis=1)
    if not finite.all():
        bad = ids[int(np.flatnonzero(~finite)[0])]
        raise InputError(
            f"encoder {encoder}: gave a vector with NaN or infinity for document {bad!r}"
        )


def _check_weights(weights: Sequence[Weights], ids: Sequence[str], encoder: str) -> None:
    if len(weights) != len(ids):
        raise InputError(f"encoder {encoder}: gave {len(weights)} weights for {len(ids)} texts")
    for id, own in zip(ids, weights, strict=True):
        for term, weight in own.items():
            if not 0 < weight < np.inf:
                raise InputError(
                    f"encoder {encoder}: gave {term!r} the weight {weight} in "
                    f"document {id!r}; a weight is finite and above 0"
                )


def own_vector(
    id: str, vector: NDArray[np.float32] | None, space: Space
) -> NDArray[np.float32] | None:
    """Return a vector that the user gave for a document, as a space wants it; None for none.

    Raises:
        InputError: the space has no vectors or others, or it holds NaN, or is zero under cosine.
    """
    if vector is None:
        return None
    if space.sparse:
        raise InputError(
            f"document {id!r}: comes with a vector, and the collection has no "
            "vectors but weights of words; give a text alone"
        )
    if vector.shape != (space.dim,):
        raise InputError(
            f"document {id!r}: its vector has shape {vector.shape}, "
            f"the collection has {space.dim} dimensions"
        )
    if not np.isfinite(vector).all():
        raise InputError(f"document {id!r}: its vector holds NaN or infinity")
    if space.metric != "cosine":
        return vector
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if length == 0:
        raise InputError(
            f"document {id!r}: its vector is zero, which has no cosine; "
            "leave it out, or use the metric ip or l2"
        )
    return (vector / length).astype(np.float32)
