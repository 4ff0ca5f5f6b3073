"""The output of clip-retrieval: vectors of images and texts, and a table that describes them.

    img_emb/img_emb_0.npy   text_emb/text_emb_0.npy   metadata/metadata_0.parquet

So a user who has embedded a hundred million images need not embed them again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..values.errors import InputError
from ..values.report import Skipped
from ..values.types import Document, ImageAt
from .base import Source
from .columns import as_float32, refuse_not_finite
from .options import SourceOptions
from .pictures import is_image
from .values import encodable, plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_KINDS = ("img_emb", "text_emb")
_BLOCK = 8192
_PATH, _CAPTION = "image_path", "caption"


class ClipRetrieval(Source):
    """A folder that `clip-retrieval inference` wrote; `total` and `done` count rows.

    An id is the row's number over all files, as in clip-retrieval itself. The caption is the
    text, `image_path` says where the image is, and the other columns are metadata.
    """

    def __init__(self, folder: Path, options: SourceOptions) -> None:
        """Memory-map the files of such a folder.

        Raises:
            InputError: files are missing, damaged, or differ in length.
        """
        options.refuse(
            f"{folder.name}, written by clip-retrieval,",
            *("id", "text", "title", "vector", "image", "ids", "include", "exclude"),
        )
        self.name = encodable(str(folder))
        self._root = None if options.images is None else Path(options.images)
        self._parts = _parts(folder)
        self.total = sum(part.rows for part in self._parts)

    def __iter__(self) -> Iterator[Document | Skipped]:
        """Yield one document per row.

        Raises:
            InputError: a vector is not finite, or a table cannot be read.
        """
        self.done = 0
        for part in self._parts:
            for start in range(0, part.rows, _BLOCK):
                yield from self._block(part, start, min(start + _BLOCK, part.rows))

    def _block(self, part: _Part, start: int, stop: int) -> Iterator[Document]:
        ids = [str(self.done + i) for i in range(stop - start)]
        vectors: dict[str, NDArray[np.float32]] = {}
        for kind, array in part.vectors.items():
            vectors[kind] = as_float32(array[start:stop])
            refuse_not_finite(vectors[kind], part.what(kind), ids, start)
        for i, record in enumerate(part.records(start, stop)):
            known = {name: vectors[name][i] for name in vectors}
            self.done += 1
            yield self._document(ids[i], record, known)

    def _document(
        self, id: str, record: Mapping[str, Any], vectors: Mapping[str, NDArray[np.float32]]
    ) -> Document:
        values = dict(record)
        path, caption = values.pop(_PATH, None), values.pop(_CAPTION, None)
        text = caption if isinstance(caption, str) and caption.strip() else None
        path = encodable(path) if isinstance(path, str) and path else None
        url = values.get("url")
        return Document(
            id,
            None if text is None else encodable(text),
            uri=path or (url if isinstance(url, str) else None),
            metadata={name: plain(value, f"row {id}") for name, value in values.items()},
            vector=vectors.get("text_emb"),
            image=self._image(path),
            image_vector=vectors.get("img_emb"),
        )

    def _image(self, path: str | None) -> ImageAt | None:
        # Not checked: there may be a hundred million images, on a disk that is not mounted.
        if path is None or not is_image(path):
            return None
        if Path(path).is_absolute():
            return ImageAt(path)
        if self._root is None or ".." in Path(path).parts:
            return None
        return ImageAt(str(self._root.absolute() / path))


class _Part:
    """One numbered set of files: the vectors, and the batches of the table."""

    def __init__(self, number: int, vectors: Mapping[str, Path], table: Path | None) -> None:
        from .vectors import mapped

        self.number = number
        self.vectors = {kind: mapped(path) for kind, path in vectors.items()}
        self._table = table
        lengths = {path.name: len(self.vectors[kind]) for kind, path in vectors.items()}
        for path, array in zip(vectors.values(), self.vectors.values(), strict=True):
            if array.ndim != 2 or array.dtype.kind not in "fiu":
                raise InputError(f"{path.name}: holds {array.dtype} of shape {array.shape}")
        if table is not None:
            lengths[table.name] = _open(table).metadata.num_rows
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{name} {rows:,}" for name, rows in lengths.items())
            raise InputError(f"these files belong together but differ in their rows: {said}")
        self.rows = next(iter(lengths.values()))

    def what(self, kind: str) -> str:
        """Return the name of a file of vectors, for messages."""
        return f"{kind}_{self.number}.npy"

    def records(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """Yield the table's rows `start` to `stop`; the caller asks for blocks in order."""
        if self._table is None:
            yield from ({} for _ in range(stop - start))
            return
        if start == 0:
            self._rows = self._read(self._table)
        for _ in range(stop - start):
            yield next(self._rows)

    def _read(self, path: Path) -> Iterator[dict[str, Any]]:
        import pyarrow as pa
        import pyarrow.types as types

        try:
            file = _open(path)
            names = [f.name for f in file.schema_arrow if not types.is_binary(f.type)]
            for batch in file.iter_batches(1024, columns=names):
                yield from batch.to_pylist()
        except (pa.ArrowException, OSError) as error:
            why = " ".join(str(error).split())
            raise InputError(f"{path.name}: cannot be read ({why})") from error


def is_clip_retrieval(folder: Path) -> bool:
    """Return whether a folder holds vectors in clip-retrieval's layout."""
    try:
        return any(True for kind in _KINDS for _ in (folder / kind).glob(f"{kind}_*.npy"))
    except OSError:
        return False


def _parts(folder: Path) -> list[_Part]:
    files = {kind: _numbered(folder / kind, rf"{kind}_(\d+)\.npy") for kind in _KINDS}
    tables = _numbered(folder / "metadata", r"metadata_(\d+)\.parquet")
    present = {kind: found for kind, found in files.items() if found}
    if not present:
        raise InputError(f"{folder} has no img_emb/img_emb_0.npy, which clip-retrieval writes")
    numbers = sorted(set().union(*present.values()))
    parts = []
    for number in numbers:
        for kind, found in present.items():
            if number not in found:
                raise InputError(f"{folder}: {kind}_{number}.npy is missing")
        if tables and number not in tables:
            raise InputError(f"{folder}: metadata_{number}.parquet is missing")
        vectors = {kind: found[number] for kind, found in present.items()}
        parts.append(_Part(number, vectors, tables.get(number)))
    return parts


def _numbered(folder: Path, pattern: str) -> dict[int, Path]:
    try:
        found = ((re.fullmatch(pattern, path.name), path) for path in folder.iterdir())
        return {int(match[1]): path for match, path in found if match is not None}
    except OSError:
        return {}


def _open(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        why = " ".join(str(error).split())
        raise InputError(f"{path.name}: cannot be read ({why})") from error
