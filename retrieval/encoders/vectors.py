"""Family `vectors`: the user brings the vectors, and no text is ever encoded.

The name states the dimension, as in `vectors:384`, because nothing else knows it. Nor can retr
know where the vectors came from: two collections of your own vectors with the same dimension and
metric count as one space.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from ..values.errors import InputError
from ._checks import checked_metric
from .base import Encoder, EncoderOptions, Space, family_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class VectorsEncoder(Encoder):
    """Stands for vectors made elsewhere: it has a space but encodes nothing."""

    family = "vectors"
    modalities = frozenset()

    def __init__(self, dim: int, options: EncoderOptions) -> None:
        metric = options.metric or "cosine"
        self.name = f"vectors:{dim}"
        self.options = options
        self.space = Space(
            encoder=self.name,
            family=self.family,
            revision="own",
            dim=dim,
            normalised=metric == "cosine",
            metric=metric,
        )

    @classmethod
    def for_data(cls, dim: int, metric: str = "cosine") -> VectorsEncoder:
        """Return the encoder for vectors of `dim` dimensions compared by `metric`.

        Under "cosine" the space is normalised: the caller scales rows and queries to unit length.

        Raises:
            InputError: `dim` is not above 0, or there is no such metric.
        """
        checked_metric(metric, "your own vectors")
        if dim < 1:
            raise InputError(f"your own vectors: {dim} dimensions; vectors need at least 1")
        return cls(dim, EncoderOptions(metric=metric))

    @classmethod
    def open(cls, name: str, options: EncoderOptions) -> VectorsEncoder:
        """Return the encoder called `vectors:DIM`; `options.metric` is the only option.

        The device is ignored, because nothing runs on one.

        Raises:
            InputError: the dimension is missing or not above 0, or another option is given.
        """
        digits = name[len(family_of(name)) + 1 :]
        if not name.startswith("vectors:") or not digits.isdecimal() or int(digits) < 1:
            raise InputError(
                f"encoder {name!r}: write vectors:DIM with the number of dimensions of your "
                "vectors, such as vectors:384"
            )
        for option in options.to_json():
            if option != "metric":
                raise InputError(
                    f"encoder {name!r} encodes no text, so {option} does not apply to it; "
                    "leave it out"
                )
        return cls.for_data(int(digits), options.metric or "cosine")

    def encode_queries(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Refuse: raises InputError."""
        self._refuse()

    def encode_documents(self, items: Sequence[str]) -> NDArray[np.float32]:
        """Refuse: raises InputError."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise InputError(
            "this collection holds your own vectors and has no encoder for text: "
            "search with vector=…"
        )
