"""`retr.build` creates a collection from a source, or updates one from it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .collection import Collection, source_options
from .encoders.base import Encoder, EncoderOptions
from .segments.opening import check_settings
from .sources.base import Source
from .store.store import Store
from .text.analysis import analyzer
from .values.errors import InputError
from .values.fusion import default_fusion
from .values.progress import choose_progress
from .values.report import IngestReport, Skipped
from .values.settings import (
    AUTO,
    DEFAULT_LANGUAGE,
    DTYPES,
    Settings,
    TermSettings,
    check_memory,
    check_recall,
    check_spec,
)
from .values.types import Document
from .writing.commits import NewCollection
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
    """Build a collection from a source, or update an existing one from it.

    source:   a file or folder of texts; a `.jsonl`, `.csv`, `.parquet` or `.npy` file; a BEIR
              folder; "-" for stdin; any iterable of dicts or texts; Arrow tables, pandas and
              polars frames, numpy arrays and torch tensors of vectors.
    path:     the collection's folder, by convention NAME.retr.
    encoder:  a name such as "static" or "st:all-MiniLM-L6-v2", or an `Encoder`; by default the
              built-in one, or none for a source of vectors.
    encoder_options: options for an encoder given by name, such as its device.
    recall:   target recall of the vector index, above 0 and at most 1, or "exact" to compare
              every vector.
    memory:   the most memory the index may use, in bytes or as "2GB"; needs `recall`.
    spec:     an index spec, to choose the index yourself instead of by `recall`.
    dtype:    how vectors are stored: "float32", or "float16" for half the size and slower search.
    language: the language of the texts, for search by words: "english" by default, "none" to
              leave words unchanged. The first build sets it for good.
    options:  how to read the source, see `SourceOptions`.
    passages: True splits every text into passages, False splits none; None splits the texts of
              files but not records.
    size:     the length of a passage in characters.
    progress: show progress on stderr; None shows it on a terminal only.
    how:      fields of `SourceOptions` by name: `id="doi"`, `text=["title", "abstract"]`, …

    Unchanged documents are not encoded again. Documents that an earlier build took from this
    source and that are gone from it are deleted. `Collection.report` says what was done.

    Raises:
        InputError: the source is empty or malformed, or an option is invalid.
        SpaceMismatchError: the collection exists and holds another encoder's vectors.
    """
    from .sources import open_source

    fields = _fields(recall, memory, spec, dtype)
    terms = TermSettings(analyzer(language or DEFAULT_LANGUAGE).name)
    opened = open_source(source, source_options(options, how))
    device = encoder_options.device if encoder_options else None
    store = Store(Path(path))
    if store.exists():
        collection = Collection(path, encoder=encoder, options=encoder_options)
        check_settings(collection.space, Settings(**fields))
        _check_dtype(collection, dtype)
        _check_language(collection, language)
        collection.ingest(opened, passages, size, progress, vanish=True)
    else:
        store.check_target()
        opened, chosen = _choose_encoder(opened, encoder, encoder_options or EncoderOptions())
        fields |= {"terms": terms, "fusion": default_fusion(chosen.space.family)}
        settings = Settings(**fields)
        report = _first(store, opened, chosen, settings, passages, size, progress)
        collection = Collection(path, encoder=chosen, device=device)
        collection.report = report
    collection.settle(fields, terms, progress)
    return collection


def _first(
    store: Store,
    source: Source,
    encoder: Encoder,
    settings: Settings,
    passages: bool | None,
    size: int | None,
    progress: bool | None,
) -> IngestReport:
    loading = {"name": encoder.name, "options": encoder.options.to_json()}
    new = NewCollection(encoder.space, loading, settings, encoder.modalities)
    with choose_progress(progress) as shown:
        ingest = Ingest(store, new, encoder, None, shown, passages=passages, size=size)
        return ingest.run(source, vanish=False)


def _choose_encoder(
    source: Source, given: str | Encoder | None, options: EncoderOptions
) -> tuple[Source, Encoder]:
    """Return a source that still yields every item, and the encoder of a new collection."""
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
            "name the column that has them with --vector, or choose another encoder"
        )
    return rest, resolve(DEFAULT_ENCODER, options)


class _Resumed(Source):
    """A source that starts with the items already read from it."""

    def __init__(self, source: Source, items: Iterator[Document | Skipped]) -> None:
        self._source = source
        self._items = items
        self.name = source.name
        self.total = source.total

    def __iter__(self) -> Iterator[Document | Skipped]:
        for item in self._items:
            self.done, self.total = self._source.done, self._source.total
            yield item


def _fields(
    recall: float | str | None, memory: int | str | None, spec: str | None, dtype: str | None
) -> dict[str, Any]:
    """Return the fields of `Settings` that were chosen."""
    fields: dict[str, Any] = {}
    if recall is not None and spec is not None:
        raise InputError("give recall or spec, not both: a spec is used as it is, not tuned")
    if recall is not None:
        fields["recall"] = check_recall(recall)
        fields["spec"] = AUTO
    if memory is not None and recall is None:
        raise InputError("memory limits the index chosen for a recall: give recall, too")
    if memory is not None:
        fields["memory"] = check_memory(memory)
    if spec is not None:
        fields["spec"] = check_spec(spec)
    if dtype is not None:
        if dtype not in DTYPES:
            raise InputError(f"unknown dtype {dtype!r}; use {' or '.join(DTYPES)}")
        fields["dtype"] = dtype
    return fields


def _check_language(collection: Collection, language: str | None) -> None:
    known = Settings.of(collection.settings).terms
    if language is None or known is None:
        return
    given, stored = analyzer(language).language, analyzer(known.analyzer).language
    if stored != given:
        raise InputError(
            f"{collection.path}: its texts are indexed as {stored}, not {given}; "
            f"build another collection for {given}"
        )


def _check_dtype(collection: Collection, dtype: str | None) -> None:
    known = Settings.of(collection.settings).dtype
    if dtype is not None and dtype != known:
        raise InputError(
            f"{collection.path}: its vectors are stored as {known}, not {dtype}; "
            f"build another collection for {dtype}"
        )
