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
    """Where the bytes of an image lie, so that it can be shown again.

    path:   the file, absolute.
    member: the image's name in `path` where that is an archive, or the column of a table; None
            where the file is the image.
    offset: where in the file the image begins, or which row of the table it is in.
    size:   how many bytes it has; None where that is not known.
    data:   those bytes, where they had to be read already; they are not kept.
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
    """What the user gave: a text, an image or a vector, or several of them, under an id.

    id:       unique in the collection; the same id again replaces the document.
    text:     the text, or an image's caption; None where there is none.
    uri:      where it is, such as a path; None where it is nowhere but here.
    metadata: JSON-like values by column name.
    vector:   f32[dim] for one's own vectors, else None: the encoder makes it from the text.
    kind:     how to split it into passages: "text", "markdown", or None to keep it whole.
    place:    for a document that is itself a part of a file, where ("line 12"); else None.
    image:    a path, an `ImageAt`, the bytes of an image file or a `PIL.Image`; only what has a
              path can be shown again.
    image_vector: f32[dim] for one's own vector of the image, else None: the encoder makes it.
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
"""How much what is not wanted counts beside what is, where no weight is given."""

PARTS = ("text", "image", "without")


@dataclass(frozen=True, slots=True, init=False)
class Query:
    """What is looked for: texts, images, what is not wanted; or a vector.

    text:    searched by its words, and by its meaning where no vector is given; several texts
             are joined for the words.
    vector:  f32[dim], in the collection's space; stands for what the encoder would make.
    id:      the query's name in a run file; not needed otherwise.
    texts:   the texts one by one.
    images:  what is asked for by example: paths, bytes of files, PIL images, arrays.
    without: what is not wanted: texts, or images (a path as a `Path`, for a `str` is a text).
    weights: how much each text, image and unwanted thing counts, by "text", "image", "without".

    See `composing` for what becomes of the parts.
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

        text, image, without: one or a list of several.
        weights: 1 for texts and images and `WITHOUT_WEIGHT` for what is not wanted, if not
                 given: a number above 0 for all of a kind, or one for each.

        Raises:
            InputError: a weight is none, or there are not as many as parts.
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
        """Whether it is more than one text or one vector."""
        return bool(self.images or self.without or len(self.texts) > 1)

    def parts(self) -> list[tuple[str, Any, float]]:
        """Return what is asked for: "text" or "image", which, and its weight, below 0 for what
        is not wanted.
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
        raise InputError(f"search: there is no weight {unknown!r}; there are {', '.join(PARTS)}")
    weights = {}
    for name, items in parts.items():
        value: Any = given.get(name, WITHOUT_WEIGHT if name == "without" else 1.0)
        each = tuple(value) if isinstance(value, list | tuple) else (value,) * len(items)
        for weight in each or (value,):
            number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not number or not 0 < weight < float("inf"):
                raise InputError(f"search: the weight {name}={weight!r} is no number above 0")
        if len(each) != len(items):
            raise InputError(
                f"search: {len(each)} weights for {len(items)} of {name!r}; give one for all, or "
                "one for each"
            )
        weights[name] = tuple(float(weight) for weight in each)
    return weights


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a row was found.

    dense:   its score by the encoder, None where the query has no vector; for a sparse encoder
             the inner product of the weights.
    lexical: its score by words (BM25), 0 where it holds none of them, None where the collection
             does not know the words of its texts.
    words:   the words of the query that it holds, as the query has them.
    tokens:  for a sparse encoder the words that both have a weight for, those that the query
             weighs most first.
    first:   what it scored before it was reranked, None where nothing was.
    by:      "image" or "text", which of its vectors has the score `dense`; None where all vectors
             of the collection are of one modality.
    """

    dense: float | None
    lexical: float | None
    words: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    first: float | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One row that was found.

    id:    the id of the document it belongs to; what `delete` takes.
    score: higher is better.
    text:  the text of the row, a passage where the document was split.
    uri:   where the document is, such as a path.
    place: where in the document the passage stands, such as "lines 12-30"; None for a whole one.
    row:   the row's number in the collection, never reused.
    why:   the scores behind the score, where `search` was asked to explain.
    image: where its image lies, None where the document has none that lies somewhere.
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
        """Return the hit as a dict of plain values, without the fields that are None."""
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
