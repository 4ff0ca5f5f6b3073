"""Family `functions`: your own encoder, made of one or two functions and a name.

The name is the space's revision, because nothing else tells one function from another: change it
whenever the model behind the functions changes. Functions cannot be stored, so to search a
collection built with them by text, pass `encoder=` again when you open it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..values.errors import InputError
from ._checks import checked_metric, checked_texts
from .base import Encoder, EncoderOptions, Space, family_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Encode = Callable[[list[str]], Any]


def from_functions(
    name: str,
    encode_documents: Encode,
    encode_queries: Encode | None = None,
    *,
    dim: int | None = None,
    metric: str = "cosine",
) -> Encoder:
    """Return an encoder made of your own functions.

    name:             identifies the space; change it when the model changes.
    encode_documents: takes a list of n texts and returns anything numpy reads as real numbers of
                      shape [n, dim]: an array, a torch tensor, a list of lists.
    encode_queries:   the same for queries; None uses `encode_documents`.
    dim:              the number of dimensions; None finds it by encoding one short text now.
    metric:           "cosine", "ip" or "l2"; under "cosine" vectors are scaled to unit length.

    The functions are called from one thread at a time, and never with an empty list.

    Raises:
        InputError: the name is empty, the metric is unknown, or `encode_documents` returns
            something unusable; later calls raise it too, naming the function and the value.
    """
    return FunctionsEncoder(name, encode_documents, encode_queries or encode_documents, dim, metric)


class FunctionsEncoder(Encoder):
    """An encoder made by `from_functions`."""

    family = "functions"

    def __init__(
        self,
        name: str,
        encode_documents: Encode,
        encode_queries: Encode,
        dim: int | None,
        metric: str,
    ) -> None:
        if not isinstance(name, str) or not name.strip():
            raise InputError(
                f"from_functions: the name is {name!r}; give one that identifies the model"
            )
        who = f"from_functions({name!r})"
        for side, function in (("documents", encode_documents), ("queries", encode_queries)):
            if not callable(function):
                raise InputError(
                    f"{who}: encode_{side} is a {type(function).__name__}, not a function"
                )
        checked_metric(metric, who)
        if dim is not None and dim < 1:
            raise InputError(f"{who}: dim is {dim}; vectors need at least 1 dimension")
        self.name = f"{self.family}:{name}"
        self._who = who
        self._documents = encode_documents
        self._queries = encode_queries
        self._unit = metric == "cosine"
        # The function is often a model whose tokenizer breaks when two threads share it.
        self._lock = threading.Lock()
        if dim is None:
            probe = _as_rows(encode_documents(["retr"]), ["retr"], None, f"{who}: encode_documents")
            dim = probe.shape[1]
        self.space = Space(
            encoder=self.name,
            family=self.family,
            revision=name,
            dim=dim,
            normalised=self._unit,
            metric=metric,
        )

    @classmethod
    def open(cls, name: str, options: EncoderOptions) -> FunctionsEncoder:
        """Refuse: functions cannot be found by name; raises InputError."""
        own = name[len(family_of(name)) + 1 :] or "NAME"
        raise InputError(
            f"encoder {name!r} is made of Python functions, which no name can find: pass it "
            f"again with encoder=from_functions({own!r}, …)"
        )

    def encode_queries(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Return f32[n, dim] by the function for queries."""
        return self._encode(self._queries, "encode_queries", items)

    def encode_documents(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Return f32[n, dim] by the function for documents."""
        return self._encode(self._documents, "encode_documents", items)

    def _encode(self, function: Encode, side: str, items: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        texts = checked_texts(items, f"{self._who}: {side}")
        if not texts:
            return np.zeros((0, self.space.dim), np.float32)
        with self._lock:
            values = function(texts)
        rows = _as_rows(values, texts, self.space.dim, f"{self._who}: {side}")
        if self._unit:
            # Scale by the largest number first: the squares could overflow or underflow.
            for order in (np.inf, 2):
                norms = np.linalg.norm(rows, ord=order, axis=1, keepdims=True)
                np.divide(rows, norms, out=rows, where=norms > 0)
        with np.errstate(over="ignore"):
            out = rows.astype(np.float32, order="C")
        if not np.isfinite(out).all():
            raise InputError(
                f"{self._who}: {side} returned numbers too large for float32 "
                f"(up to {np.abs(rows).max():.3g}); scale them"
            )
        return out


def _as_rows(values: Any, texts: list[str], dim: int | None, who: str) -> NDArray[np.float64]:
    """Return f64[len(texts), dim], a copy of what a function returned, or raise InputError."""
    import numpy as np

    if hasattr(values, "detach"):  # a torch tensor, perhaps on a device, perhaps of bfloat16
        values = values.detach().cpu().double()
    wanted = f"[{len(texts)}, {'dim' if dim is None else dim}]"
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(
            f"{who} returned rows of different lengths; return an array of shape {wanted}"
        ) from error
    if array.dtype.kind not in "fiu":
        raise InputError(
            f"{who} returned {type(values).__name__} with elements of type {array.dtype}; "
            f"return an array of real numbers of shape {wanted}"
        )
    shaped = array.ndim == 2 and array.shape[0] == len(texts) and array.shape[1] > 0
    if not shaped or dim not in (None, array.shape[1]):
        raise InputError(
            f"{who} returned the shape {list(array.shape)} for {len(texts)} texts; "
            f"return {wanted}, one row per text"
        )
    rows = np.array(array, dtype=np.float64)
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        first = int(bad.argmax())
        value = rows[first][~np.isfinite(rows[first])][0]
        raise InputError(
            f"{who} returned {value} in row {first}, for the text {texts[first][:60]!r}; "
            "every number must be finite"
        )
    return rows
