"""Checks vectors and weights, from an encoder or the user, before they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..encoders.base import Space, Weights
from ..values.errors import InputError


def check_made(made: Any, ids: Sequence[str], space: Space, encoder: str) -> None:
    """Refuse an encoder's output if it cannot be stored.

    made:    vectors f32[len(ids), dim], or for a sparse space the weights of each document.
    ids:     the documents' ids, for the message.
    encoder: the encoder's name, for the message.

    Raises:
        InputError: the shape is wrong, a value is not finite, or a weight is not above 0.
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
    """Return the vector that the user gave for a document, made fit for the space.

    None if the user gave none.

    Raises:
        InputError: the space is sparse, or the vector has the wrong shape, holds NaN or infinity,
            or is zero under cosine.
    """
    if vector is None:
        return None
    if space.sparse:
        raise InputError(
            f"document {id!r}: comes with a vector, but the collection has word weights instead "
            "of vectors; give a text only"
        )
    if vector.shape != (space.dim,):
        raise InputError(
            f"document {id!r}: its vector has shape {vector.shape}, but "
            f"the collection has {space.dim} dimensions"
        )
    if not np.isfinite(vector).all():
        raise InputError(f"document {id!r}: its vector holds NaN or infinity")
    if space.metric != "cosine":
        return vector
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if length == 0:
        raise InputError(
            f"document {id!r}: its vector is zero, so it has no cosine; "
            "leave it out, or use the metric ip or l2"
        )
    return (vector / length).astype(np.float32)
