"""The values that go in and come out: documents, queries, hits.

Everything here is plain data and imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from .errors import InputError

if TYPE_CHECKING:
    import os

    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image as PilImage

    Image: TypeAlias = "str | os.PathLike[str] | ImageAt | bytes | PilImage | NDArray[Any]"


@dataclass(frozen=True, slots=True)
class ImageAt:
    """Where an image's bytes are stored, so that it can be shown again.

    path:   the absolute path of the file.
    member: the image's name if `path` is an archive, or the column if it is a table; None if the
            file itself is the image.
    offset: the byte of the file at which the image begins, or the row of the table that holds it.
    size:   the image's length in bytes; None if unknown.
    data:   the bytes, if they have already been read; they are not kept.
    """

    path: str
    member: str | None = None
    offset: int | None = None
    size: int | None = None
    data: bytes | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return self.path if self.member is None else f"{self.path}/{self.member}"


@dataclass(frozen=True, slots=True)
class Document:
    """One item to index: a text, an image or a vector, or several of these, under one id.

    id:       unique in the collection; adding the same id again replaces the document.
    text:     the text, or an image's caption; None if there is none.
    uri:      the document's location, such as a path; None if it has none.
    metadata: JSON-like values by column name.
    vector:   f32[dim], your own vector of the text; None lets the encoder make one.
    kind:     how to split the text into passages: "text", "markdown", or None to keep it whole.
    place:    if the document is part of a file, the position in it ("line 12"); else None.
    image:    a path, an `ImageAt`, the bytes of an image file or a `PIL.Image`; only images with
              a path can be shown again.
    image_vector: f32[dim], your own vector of the image; None lets the encoder make one.
    """

    id: str
    text: str | None = None
    uri: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    vector: NDArray[np.float32] | None = None
    kind: str | None = None
    place: str | None = None
    image: Image | None = None
    image_vector: NDArray[np.float32] | None = None


WITHOUT_WEIGHT = 0.5
"""The default weight of what a query excludes; texts and images have weight 1."""

PARTS = ("text", "image", "without")


@dataclass(frozen=True, slots=True, init=False)
class Query:
    """What to search for: texts, images and exclusions, or a vector.

    text:    searched by its words, and by meaning if no vector is given; several texts are joined
             for the search by words.
    vector:  f32[dim], in the collection's space; used in place of the encoder's vector.
    id:      the query's name in a run file; otherwise optional.
    texts:   the texts, one by one.
    images:  example images: paths, bytes of files, PIL images, arrays.
    without: what to avoid: texts, or images (give a path as a `Path`; a `str` is a text).
    weights: the weight of each part, by "text", "image" and "without".

    `retrieval.search` combines the parts into one vector and one search by words.
    """

    text: str | None
    vector: NDArray[np.float32] | None
    id: str | None
    texts: tuple[str, ...]
    images: tuple[Image, ...]
    without: tuple[str | Image, ...]
    weights: Mapping[str, tuple[float, ...]]

    def __init__(
        self,
        text: str | Sequence[str] | None = None,
        vector: NDArray[np.float32] | None = None,
        id: str | None = None,
        *,
        image: Image | Sequence[Image] | None = None,
        without: str | Image | Sequence[str | Image] | None = None,
        weights: Mapping[str, float | Sequence[float]] | None = None,
    ) -> None:
        """Compose a query.

        text, image, without: one item or a list of several.
        weights: for each kind of part, one number above 0 for all of them or one for each. The
                 default is 1 for texts and images, and `WITHOUT_WEIGHT` for exclusions.

        Raises:
            InputError: a weight is not a number above 0, or weights and parts differ in number.
        """
        texts = _several(text)
        parts = {"text": texts, "image": _several(image), "without": _several(without)}
        put = object.__setattr__
        put(self, "text", " ".join(map(str, texts)) if isinstance(text, list | tuple) else text)
        put(self, "vector", vector)
        put(self, "id", id)
        put(self, "texts", texts)
        put(self, "images", parts["image"])
        put(self, "without", parts["without"])
        put(self, "weights", _weights(weights or {}, parts))

    @property
    def is_composed(self) -> bool:
        """Whether the query is more than one text or one vector."""
        return bool(self.images or self.without or len(self.texts) > 1)

    def parts(self) -> list[tuple[str, Any, float]]:
        """Return each part as its kind ("text" or "image"), the item and its weight.

        The weight of an exclusion is negative.
        """
        if not self.is_composed:
            return [("text", text, 1.0) for text in self.texts]
        weights = self.weights
        parts: list[tuple[str, Any, float]] = []
        for kind, items in (("text", self.texts), ("image", self.images)):
            parts += [(kind, item, w) for item, w in zip(items, weights[kind], strict=True)]
        for item, weight in zip(self.without, weights["without"], strict=True):
            parts.append(("text" if isinstance(item, str) else "image", item, -weight))
        return parts


def _several(given: Any) -> tuple[Any, ...]:
    if given is None:
        return ()
    return tuple(given) if isinstance(given, list | tuple) else (given,)


def _weights(
    given: Mapping[str, float | Sequence[float]], parts: Mapping[str, tuple[Any, ...]]
) -> dict[str, tuple[float, ...]]:
    unknown = next((name for name in given if name not in PARTS), None)
    if unknown is not None:
        raise InputError(f"search: unknown weight {unknown!r}; use {', '.join(PARTS)}")
    weights = {}
    for name, items in parts.items():
        value: Any = given.get(name, WITHOUT_WEIGHT if name == "without" else 1.0)
        each = tuple(value) if isinstance(value, list | tuple) else (value,) * len(items)
        for weight in each or (value,):
            number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not number or not 0 < weight < float("inf"):
                raise InputError(f"search: the weight {name}={weight!r} is not a number above 0")
        if len(each) != len(items):
            raise InputError(
                f"search: {len(each)} weights for {len(items)} of {name!r}; give one for all or "
                "one for each"
            )
        weights[name] = tuple(float(weight) for weight in each)
    return weights


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a row was found.

    dense:   the row's score by the encoder; for a sparse encoder, the inner product of the
             weights. None if the query has no vector.
    lexical: the row's score by words (BM25): 0 if it holds none of the query's words, None if the
             collection does not index words.
    words:   the query's words that the row holds, spelled as in the query.
    tokens:  for a sparse encoder, the words that both query and row weigh, in descending order
             of the query's weights.
    first:   the score before reranking; None if the row was not reranked.
    by:      which of the row's vectors has the score `dense`: "image" or "text"; None if all
             vectors of the collection have one modality.
    """

    dense: float | None
    lexical: float | None
    words: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    first: float | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One row that a search found.

    id:    the id of the row's document, as `delete` takes it.
    score: higher is better.
    text:  the row's text: a passage if the document was split.
    uri:   the document's location, such as a path.
    place: the passage's position in the document, such as "lines 12-30"; None if the row is the
           whole document.
    row:   the row's number in the collection; never reused.
    why:   what the score is made of, if `search` was asked to explain.
    image: where the document's image is stored; None if it has no image or the image no path.
    """

    id: str
    score: float
    text: str | None
    uri: str | None
    place: str | None
    metadata: Mapping[str, Any]
    row: int
    why: Explanation | None = None
    image: ImageAt | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the hit as a dict of plain values, leaving out fields that are None."""
        out: dict[str, Any] = {"id": self.id, "score": self.score}
        for name in ("text", "uri", "place"):
            value = getattr(self, name)
            if value is not None:
                out[name] = value
        if self.image is not None:
            out["image"] = str(self.image)
        out["metadata"] = dict(self.metadata)
        out["row"] = self.row
        if self.why is not None:
            out["why"] = {
                "dense": self.why.dense,
                "lexical": self.why.lexical,
                "words": list(self.why.words),
            }
            if self.why.tokens:
                out["why"]["tokens"] = list(self.why.tokens)
            if self.why.by is not None:
                out["why"]["by"] = self.why.by
            if self.why.first is not None:
                out["why"]["first"] = self.why.first
        return out
