"""Tar files of images, captions and JSON in webdataset's layout, as img2dataset writes it.

The files of one sample are consecutive and share their name up to the first dot:
`000000012.jpg`, `000000012.txt`, `000000012.json`. Nothing is unpacked: a document records where
in the tar its image begins.
"""

from __future__ import annotations

import dataclasses
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..values.errors import InputError
from ..values.report import Skipped
from ..values.types import Document, ImageAt
from .base import Source
from .options import SourceOptions
from .pictures import is_image, sidecar
from .values import encodable, plain

_LARGEST_TEXT = 4 << 20


@dataclass(slots=True)
class _Sample:
    """The files of a tar under one key."""

    key: str
    image: ImageAt | None = None
    texts: dict[str, str] = field(default_factory=dict)


class Tars(Source):
    """The images of a tar file, or of the tar files in a folder; `total` and `done` count bytes.

    An id is the tar's name and the image's name in it, "00000.tar/000000012.jpg", after the
    folder's name if a folder was given. If img2dataset's table is beside a tar (`00000.parquet`),
    images that it lists as not downloaded are skipped with its reason.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        """Read a tar file or a folder of them.

        Raises:
            InputError: there is none, or an option does not apply.
        """
        what = f"{path.name}, images in tar files,"
        options.refuse(what, *("id", "text", "title", "vector", "image", "images", "ids"))
        options.refuse(what, "include", "exclude")
        self.name = encodable(str(path))
        self._tars = sorted(path.glob("*.tar")) if path.is_dir() else [path]
        self._prefix = f"{path.name}/" if path.is_dir() else ""
        if not self._tars:
            raise InputError(f"{path} has no tar file in it")
        self.total = sum(tar.stat().st_size for tar in self._tars)

    def __iter__(self) -> Iterator[Document | Skipped]:
        """Yield one document per sample that has an image or a text."""
        behind = 0
        self.done = 0
        for path in self._tars:
            for found, offset in self._read(path):
                self.done = behind + offset
                yield found
            behind += path.stat().st_size
            self.done = behind

    def _read(self, path: Path) -> Iterator[tuple[Document | Skipped, int]]:
        try:
            table = _table_beside(path)
        except InputError as error:
            yield Skipped(encodable(str(path.with_suffix(".parquet"))), str(error)), 0
            table = {}
        for key, record in table.items():
            if record.get("status") != "success":
                why = " ".join(str(record.get("error_message") or record.get("status")).split())
                yield Skipped(f"{encodable(path.name)}: {key}", f"was not downloaded ({why})"), 0
        seen = 0
        try:
            for sample, offset in _samples(path):
                if (read := self._document(path, sample, table.get(sample.key, {}))) is not None:
                    seen += 1
                    yield read, offset
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            yield (
                Skipped(
                    encodable(str(path)),
                    f"is damaged or truncated after {seen:,} samples ({error}); those are kept",
                    f"{self._prefix}{encodable(path.name)}/",
                ),
                0,
            )

    def _document(
        self, path: Path, sample: _Sample, record: Mapping[str, Any]
    ) -> Document | Skipped | None:
        name = sample.key if sample.image is None else str(sample.image.member)
        identity = encodable(f"{self._prefix}{path.name}/{name}")
        where = f"{encodable(str(path))}/{encodable(name)}"
        metadata: dict[str, Any] = {}
        caption = None
        if "json" in sample.texts:
            try:
                metadata, caption = sidecar(sample.texts["json"], where)
                status = _status(sample.texts["json"])
            except InputError as error:
                return Skipped(where, str(error).removeprefix(f"{where}: "), identity)
        else:
            kept = {k: v for k, v in record.items() if k not in ("key", "status", "error_message")}
            caption = kept.pop("caption", None)
            metadata = {k: plain(v, where) for k, v in kept.items()}
            status = record.get("status")
        if status not in (None, "success"):
            return None  # already reported from the table
        text = (sample.texts.get("txt") or caption or "").strip() or None
        if sample.image is None and text is None:
            return None
        image = sample.image
        if image is not None:
            image = dataclasses.replace(image, member=encodable(str(image.member)))
        uri = metadata.get("url")
        return Document(
            identity,
            None if text is None else encodable(text),
            uri=uri if isinstance(uri, str) else where,
            metadata=metadata,
            image=image,
        )


def are_tars(folder: Path) -> bool:
    """Return whether a folder holds only tar files and what img2dataset writes beside them."""
    try:
        names = [entry.name for entry in folder.iterdir() if not entry.name.startswith((".", "_"))]
    except OSError:
        return False
    endings = {Path(name).suffix.lower() for name in names}
    return ".tar" in endings and endings <= {".tar", ".parquet", ".json", ".txt", ".md", ".idx"}


def _status(text: str) -> Any:
    import json

    return json.loads(text).get("status")


def _samples(path: Path) -> Iterator[tuple[_Sample, int]]:
    """Yield the samples of a tar, and how many of its bytes have been read.

    Raises:
        tarfile.TarError, OSError, EOFError, ValueError: it is damaged after the yielded samples.
    """
    whole = encodable(str(path))
    sample: _Sample | None = None
    with tarfile.open(path, "r:") as tar:
        while (member := tar.next()) is not None:
            # Otherwise tarfile keeps the headers of all members, and ten million fill the memory.
            tar.members = []  # type: ignore[attr-defined]
            if not member.isreg() or member.sparse is not None:
                continue
            folder, _, base = member.name.rpartition("/")
            stem, dot, ending = base.partition(".")
            if not dot or not stem or base.startswith("."):
                continue
            key = f"{folder}/{stem}" if folder else stem
            if sample is None or sample.key != key:
                if sample is not None:
                    yield sample, member.offset
                sample = _Sample(key)
            if is_image(base) and sample.image is None:
                sample.image = ImageAt(whole, member.name, member.offset_data, member.size)
            elif ending in ("txt", "json") and member.size <= _LARGEST_TEXT:
                file = tar.extractfile(member)
                data = b"" if file is None else file.read()
                sample.texts[ending] = data.decode("utf-8", "replace")
        size = path.stat().st_size
        if sample is not None:
            yield sample, size
        # tarfile mistakes an invalid header for the end; only zeros follow a true end.
        with path.open("rb") as file:
            file.seek(tar.offset)
            if file.read(512).strip(b"\0"):
                raise tarfile.ReadError(f"no header at byte {tar.offset:,}")


def _table_beside(path: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of img2dataset's table beside a tar, by key; empty if there is no table.

    Raises:
        InputError: it cannot be read.
    """
    beside = path.with_suffix(".parquet")
    if not beside.is_file():
        return {}
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(beside)
        names = file.schema_arrow.names
        if not {"key", "status"} <= set(names):
            return {}
        rows = file.read([name for name in names if name not in ("exif", "sha256")]).to_pylist()
    except (pa.ArrowException, OSError) as error:
        why = " ".join(str(error).split())
        raise InputError(f"cannot be read ({why:.200}); retr reads the tar without it") from error
    return {str(row["key"]): row for row in rows}
