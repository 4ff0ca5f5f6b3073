"""Turns what a caller asks, texts and vectors in several shapes, into queries and vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..encoders.base import Encoder, Space, SparseEncoder, Weights
from ..values.errors import InputError
from ..values.types import Query

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def as_queries(asked: object, vector: ArrayLike | None) -> tuple[list[Query], bool]:
    """Return the queries, and whether the caller gave several.

    Raises:
        InputError: there is no query, or one is empty.
    """
    if vector is not None:
        array = _floats(vector)
        if isinstance(asked, str) and array.ndim == 1:
            return [_query(Query(text=asked, vector=array))], False
        if asked is not None:
            raise InputError(
                "search: vector= goes with one text; give a list of Query(text=…, vector=…)"
            )
        if array.ndim not in (1, 2):
            raise InputError(f"search: the vector has shape {array.shape}; give [dim] or [q, dim]")
        return [Query(vector=row) for row in np.atleast_2d(array)], array.ndim == 2
    if isinstance(asked, (str, Query)):
        return [_query(asked)], False
    if isinstance(asked, Sequence):
        return [_query(each) for each in asked], True
    raise InputError(
        f"search: the query is a {type(asked).__name__}; "
        "give a text, a Query, a list of them, or vector="
    )


def encode(
    queries: Sequence[Query], space: Space, encoder: Callable[[], Encoder]
) -> NDArray[np.float32]:
    """Return the queries' vectors in the space, f32[len(queries), dim].

    A query that comes with a vector keeps it; the encoder is loaded only if one comes without.

    Raises:
        InputError: a vector has the wrong dimension, holds NaN or infinity, or is zero under
            cosine; or an image cannot be read.
    """
    out = np.empty((len(queries), space.dim), np.float32)
    asked = [i for i, query in enumerate(queries) if query.vector is None]
    if asked:
        from .composing import compose

        out[asked] = compose([queries[i] for i in asked], space, encoder)
    for i, query in enumerate(queries):
        if query.vector is not None:
            out[i] = _own_vector(query.vector, space)
    return out


def encode_weights(queries: Sequence[Query], encoder: Callable[[], Encoder]) -> list[Weights]:
    """Return the word weights that a sparse encoder gives each query.

    Raises:
        InputError: a query is composed or comes with a vector, which a sparse collection cannot
            use.
    """
    if any(query.is_composed for query in queries):
        raise InputError(
            "search: the collection has word weights and no vectors to add up; search with one text"
        )
    if any(query.vector is not None for query in queries):
        raise InputError(
            "search: the collection has word weights instead of vectors; search with a text only"
        )
    loaded = encoder()
    assert isinstance(loaded, SparseEncoder)  # `resolve` has seen to it
    return loaded.encode_queries([query.text or "" for query in queries])


def _query(asked: object) -> Query:
    query = Query(text=asked) if isinstance(asked, str) else asked
    if not isinstance(query, Query):
        raise InputError(f"search: a query is a {type(asked).__name__}; give a text or a Query")
    if query.text is None and query.vector is None and not query.images:
        hint = "; `without` alone asks for nothing" if query.without else ""
        raise InputError(f"search: a Query needs a text, an image or a vector{hint}")
    texts = [*query.texts, *(part for part in query.without if isinstance(part, str))]
    wrong = next((text for text in query.texts if not isinstance(text, str)), None)
    if wrong is not None:
        raise InputError(f"search: a text of the query is a {type(wrong).__name__}; give texts")
    if not all(text.strip() for text in texts):
        raise InputError("search: the query is empty; give some words")
    if query.vector is not None and query.is_composed:
        raise InputError(
            "search: a vector replaces the whole query; leave it out, or leave out the images, "
            "`without` and all texts but one"
        )
    return query


def _own_vector(vector: ArrayLike, space: Space) -> NDArray[np.float32]:
    array = _floats(vector)
    if array.shape != (space.dim,):
        raise InputError(
            f"search: the vector has shape {array.shape}, the collection has {space.dim} dimensions"
        )
    if not np.isfinite(array).all():
        raise InputError("search: the vector holds NaN or infinity")
    if space.metric != "cosine":
        return array
    length = float(np.linalg.norm(array.astype(np.float64)))
    if length == 0:
        raise InputError("search: the vector is zero, so it has no cosine; give another")
    return (array / length).astype(np.float32)


def _floats(vector: Any) -> NDArray[np.float32]:
    try:
        return np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"search: the vector does not hold numbers ({error})") from error
