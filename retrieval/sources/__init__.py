"""Sources turn what users have into documents: `open_source` detects what it is given and reads it.

A path, stdin ("-") or a Python object goes in; a `Source` comes out, which yields a `Document`
for each text, record, row or file, and a `Skipped` for each file that cannot be read.

May import text and values.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from ..values.errors import InputError
from ..values.report import Skipped
from .base import Source
from .options import Format, SourceOptions

__all__ = ["Format", "Skipped", "Source", "SourceOptions", "open_source"]

_FORMATS = {
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".parquet": Format.PARQUET,
    ".npy": Format.NPY,
    ".tar": Format.WEBDATASET,
}
_PACKED = (".gz", ".zst")

_DEFAULTS = SourceOptions()


def open_source(source: object, options: SourceOptions = _DEFAULTS) -> Source:
    """Return the `Source` that reads `source`.

    A `str` or path is a folder (in BEIR's layout if it has `corpus.jsonl`, else of files), a file,
    recognised by its suffix, or "-" for stdin; `options.format` overrides this.
    `objects.source_of_object` reads anything else; a `Source` is returned as it is.

    Raises:
        InputError: there is nothing at the path, it cannot be read, or an option does not apply
            to it.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, str):
        if source == "-":
            return _stdin(options)
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source):
            raise InputError(f"{source} is an address: download it, and give the file or folder")
        return _at(source, options)
    if isinstance(source, os.PathLike):
        return _at(os.fsdecode(source), options)
    from .objects import source_of_object

    return source_of_object(source, options)


def _stdin(options: SourceOptions) -> Source:
    from .records import Stdin

    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("source '-' is standard input, but nothing is piped into it")
    return Stdin(sys.stdin.buffer, options)  # type: ignore[arg-type]


def _at(given: str, options: SourceOptions) -> Source:
    try:
        path = Path(given).expanduser().resolve()
        is_folder, is_file, exists = path.is_dir(), path.is_file(), path.exists()
    except PermissionError as error:
        raise InputError(f"{given} cannot be read: {error.strerror}") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"no such file or folder: {given!r} ({error})") from None
    if options.name is not None:
        raise InputError(
            f"name={options.name!r} is only for Python objects; a path is its own name"
        )
    if not given or not exists:
        raise InputError(f"no such file or folder: {given or repr(given)}")
    if is_folder:
        return _folder(path, options)
    if not is_file:
        raise InputError(
            f"{given} is not a file or folder; pipe it into retr with '-' as the source"
        )
    return _file(path, options)


def _folder(path: Path, options: SourceOptions) -> Source:
    from .beir import BeirFolder, corpus_of

    if options.format is Format.BEIR or (options.format is None and corpus_of(path)):
        return BeirFolder(path, options)
    images = _images_in(path, options.format)
    if images is not None:
        return images(path, options)
    if options.format not in (None, Format.FILES):
        raise InputError(f"{path} is a folder; format={options.format} is for a file")
    from .files import Folder

    return Folder(path, options)


def _images_in(path: Path, format: Format | None) -> Callable[[Path, SourceOptions], Source] | None:
    """Return what reads a folder written by an image tool; None if no tool wrote it."""
    from .clip_retrieval import ClipRetrieval, is_clip_retrieval
    from .karpathy import Karpathy, annotations_of
    from .tars import Tars, are_tars

    if format is Format.CLIP_RETRIEVAL or (format is None and is_clip_retrieval(path)):
        return ClipRetrieval
    if format is Format.WEBDATASET or (format is None and are_tars(path)):
        return Tars
    if format is Format.KARPATHY or (format is None and annotations_of(path) is not None):
        return Karpathy
    return None


def _file(path: Path, options: SourceOptions) -> Source:
    format = options.format or _format_of(path)
    if format is Format.BEIR:
        raise InputError(f"{path} is a file; format=beir is for a folder with corpus.jsonl")
    if format is Format.CLIP_RETRIEVAL:
        raise InputError(f"{path} is a file; format=clip-retrieval is for a folder with img_emb")
    if format is Format.KARPATHY:
        from .karpathy import Karpathy

        return Karpathy(path, options)
    if format is Format.WEBDATASET:
        from .tars import Tars

        return Tars(path, options)
    if format is Format.FILES:
        from .files import File

        return File(path, options)
    if format is Format.PARQUET:
        from .tables import ParquetFile

        return ParquetFile(path, options)
    if format is Format.NPY:
        from .vectors import vectors_of_npy

        return vectors_of_npy(path, options)
    from .records import RecordFile

    return RecordFile(path, format, options)


def _format_of(path: Path) -> Format:
    endings = [ending.lower() for ending in path.suffixes]
    if endings and endings[-1] in _PACKED:
        endings.pop()
        if not endings or _FORMATS.get(endings[-1]) not in (Format.JSONL, Format.CSV, Format.TSV):
            raise InputError(
                f"{path} is compressed; retr reads only .jsonl, .csv and .tsv compressed: "
                "unpack it first"
            )
    ending = endings[-1] if endings else ""
    if ending == ".json":
        from .karpathy import has_sentences

        if has_sentences(path):
            return Format.KARPATHY
    if ending in (".json", ".geojson"):
        raise InputError(
            f"{path} is JSON; convert it to one record per line (.jsonl), or if it is that "
            "already, say format=jsonl"
        )
    return _FORMATS.get(ending, Format.FILES)
