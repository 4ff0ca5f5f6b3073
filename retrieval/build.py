"""`retr.build`: a collection made from a source, or brought up to date with it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..indexes.gpu.devices import on_device
from .collection import Collection, source_options
from .encoders.base import Encoder, EncoderOptions
from .sources.base import Source
from .store.shards import DTYPES
from .store.store import Store
from .text.analysis import analyzer
from .values.errors import InputError
from .values.fusion import default_fusion
from .values.progress import choose_progress
from .values.report import IngestReport, Skipped
from .values.settings import (
    AUTO,
    DEFAULT_LANGUAGE,
    TermSettings,
    check_memory,
    check_recall,
    check_spec,
)
from .values.types import Document
from .writing.commits import Birth, check_settings
from .writing.ingest import Ingest

if TYPE_CHECKING:
    from .sources import SourceOptions

DEFAULT_ENCODER = "static"


def build(
    source: object,
    path: str | os.PathLike[str],
    *,
    encoder: str | Encoder | None = None,
    encoder_options: EncoderOptions | None = None,
    recall: float | str | None = None,
    memory: int | str | None = None,
    spec: str | None = None,
    dtype: str | None = None,
    language: str | None = None,
    options: SourceOptions | None = None,
    passages: bool | None = None,
    size: int | None = None,
    progress: bool | None = None,
    **how: Any,
) -> Collection:
    """Build a collection over a source, or bring one that exists up to date with it.

    source:   a file or folder of texts, a `.jsonl`, `.csv`, `.parquet` or `.npy` file, a BEIR
              folder, "-" for stdin; any iterable of dicts or texts; Arrow tables, pandas and
              polars frames, numpy and torch vectors.
    path:     the folder of the collection, by custom NAME.retr.
    encoder:  a name such as "static" or "st:all-MiniLM-L6-v2", or an `Encoder`; the built-in
              one by default, and none at all for a source of vectors.
    recall:   the recall wanted of searches, above 0 and up to 1, or "exact".
    memory:   what the index may take, in bytes or as "2GB"; with `recall`.
    spec:     an index spec, for those who know better than `recall`.
    dtype:    "float32" or "float16": how vectors are stored; half the size against speed.
    language: of the texts, for the search by words: "english" by default, "none" for words as
              they are; kept from the first build on.
    options:  how to read the source, see `SourceOptions`.
    passages: True splits every text into passages, False none; None splits files, not records.
    size:     the characters of a passage.
    progress: show progress on stderr; None does on a terminal.
    how:      fields of `SourceOptions` by name: `id="doi"`, `text=["title", "abstract"]`, …

    Documents that are there unchanged are not encoded again; those that came from this source
    before and have vanished from it are deleted. What was done is in `Collection.report`.

    Raises:
        InputError: the source is empty or malformed, or an option has no meaning.
        SpaceMismatchError: the collection exists, with another encoder's vectors.
    """
    from .sources import open_source

    settings = _settings(recall, memory, spec, dtype)
    terms = TermSettings(analyzer(language or DEFAULT_LANGUAGE).name)
    opened = open_source(source, source_options(options, how))
    device = encoder_options.device if encoder_options else None
    store = Store(Path(path))
    if store.exists():
        collection = Collection(path, encoder=encoder, options=encoder_options)
        check_settings(collection.space, settings)
        _check_dtype(collection, dtype)
        _check_language(collection, language)
        collection.ingest(opened, passages, size, progress, vanish=True)
    else:
        store.check_target()
        opened, chosen = _choose_encoder(opened, encoder, encoder_options or EncoderOptions())
        settings |= {
            "lexical": terms.to_json(),
            "fusion": default_fusion(chosen.space.family).to_json(),
        }
        report = _first(store, opened, chosen, settings, passages, size, progress)
        collection = Collection(path, encoder=chosen, device=device)
        collection.report = report
    with on_device(device):
        collection.settle(settings, terms, progress)
    return collection


def _first(
    store: Store,
    source: Source,
    encoder: Encoder,
    settings: Mapping[str, Any],
    passages: bool | None,
    size: int | None,
    progress: bool | None,
) -> IngestReport:
    loading = {"name": encoder.name, "options": encoder.options.to_json()}
    birth = Birth(encoder.space, loading, settings, encoder.modalities)
    with choose_progress(progress) as shown:
        ingest = Ingest(store, birth, encoder, None, shown, passages=passages, size=size)
        return ingest.run(source, vanish=False)


def _choose_encoder(
    source: Source, given: str | Encoder | None, options: EncoderOptions
) -> tuple[Source, Encoder]:
    """Return the encoder of a new collection, and the source with nothing taken from it."""
    from .encoders import resolve

    if given is not None and (isinstance(given, Encoder) or given != "vectors"):
        return source, resolve(given, options)
    items = iter(source)
    before: list[Document | Skipped] = []
    first = None
    for item in items:
        before.append(item)
        if isinstance(item, Document):
            first = item
            break
    rest = _Resumed(source, chain(before, items))
    if first is not None:
        own = first.vector if first.vector is not None else first.image_vector
        if own is not None:
            return rest, resolve(f"vectors:{len(own)}", options)
    if given is not None:
        raise InputError(
            f"{source.name or 'the source'}: holds no vectors; "
            "name their column with --vector, or choose another encoder"
        )
    return rest, resolve(DEFAULT_ENCODER, options)


class _Resumed(Source):
    """A source of which some items were looked at already."""

    def __init__(self, source: Source, items: Iterator[Document | Skipped]) -> None:
        self._source = source
        self._items = items
        self.name = source.name
        self.total = source.total

    def __iter__(self) -> Iterator[Document | Skipped]:
        for item in self._items:
            self.done, self.total = self._source.done, self._source.total
            yield item


def _settings(
    recall: float | str | None, memory: int | str | None, spec: str | None, dtype: str | None
) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if recall is not None and spec is not None:
        raise InputError("give a recall or a spec, not both: a spec is measured, not tuned")
    if recall is not None:
        settings["recall"] = check_recall(recall)
        settings["spec"] = AUTO
    if memory is not None and recall is None:
        raise InputError("memory says what the index for a recall may take: give a recall, too")
    if memory is not None:
        settings["memory"] = check_memory(memory)
    if spec is not None:
        settings["spec"] = check_spec(spec)
    if dtype is not None:
        if dtype not in DTYPES:
            raise InputError(f"dtype {dtype!r} is not known; use {' or '.join(DTYPES)}")
        settings["dtype"] = dtype
    return settings


def _check_language(collection: Collection, language: str | None) -> None:
    known = TermSettings.of(collection.settings)
    if language is None or known is None:
        return
    wanted, there = analyzer(language).language, analyzer(known.analyzer).language
    if there != wanted:
        raise InputError(
            f"{collection.path}: its texts are searched as {there}, not {wanted}; "
            "build another collection for that"
        )


def _check_dtype(collection: Collection, dtype: str | None) -> None:
    known = collection.settings.get("dtype", DTYPES[0])
    if dtype is not None and dtype != known:
        raise InputError(
            f"{collection.path}: its vectors are stored as {known}, not {dtype}; "
            "build another collection for that"
        )
