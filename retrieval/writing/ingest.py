"""Ingest: documents stream from a source through the encoder into shards.

Memory does not grow with the collection: a window of rows is sorted by length, encoded and put
back in order, and encoded rows are committed every few seconds. A run that is killed loses at most
its last window; run again, it finds the committed documents unchanged and continues. Images enter
a pipeline along with the window, and a row leaves the window once its image has come out.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..encoders.base import IMAGE, TEXT, Encoder, ImageEncoder, Weights
from ..segments.snapshot import Snapshot
from ..sources.base import Source
from ..store.documents import StoredRow
from ..store.store import Store
from ..text.passages import split
from ..values.errors import InputError, LockedError, RetrError, StorageError
from ..values.progress import Progress
from ..values.report import IngestReport, Skipped
from ..values.types import Document, ImageAt
from . import commits, merging
from .checks import check_made, own_vector
from .commits import Encoded, NewCollection
from .digests import digest_of

if TYPE_CHECKING:
    from .image_pipeline import ImagePipeline, Unreadable

log = logging.getLogger("retr.ingest")

FLUSH_SECONDS = 5.0
FLUSH_ROWS = 65_536
FLUSH_BYTES = 256 << 20
WEIGHT_BYTES = 100  # approximate size of a weight in memory
WINDOW_BATCHES = 8
CHUNK_DOCUMENTS = 512
CHUNK_SECONDS = 1.0
LISTED_SKIPS = 1000


class Ingest:
    """One run over one source.

    passages: True splits every text into passages, False splits none; None splits the documents
              that say how (`Document.kind`).
    size:     the length of a passage in characters; None is the splitter's default.
    flush_seconds: how often to commit encoded rows.
    """

    def __init__(
        self,
        store: Store,
        new: NewCollection,
        encoder: Encoder,
        snapshot: Snapshot | None,
        progress: Progress,
        *,
        passages: bool | None = None,
        size: int | None = None,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        self.store = store
        self.new = new
        self.encoder = encoder
        self.snapshot = snapshot
        self.progress = progress
        self.passages = passages
        self.size = size
        self.flush_seconds = flush_seconds
        self.report = IngestReport()
        self._seen = np.zeros(0, bool)
        self._unread: list[str] = []
        self._window: list[_Pending] = []
        self._encoded: list[_Pending] = []
        self._bytes = 0
        self._images_came = False
        self._pipeline: ImagePipeline[_Pending] | None = None
        if isinstance(encoder, ImageEncoder):
            from .image_pipeline import ImagePipeline  # imports what only images need

            self._pipeline = ImagePipeline(encoder)
        self._waiting: set[str] = set()
        self._flushed = time.monotonic()

    def run(self, source: Source, *, vanish: bool) -> IngestReport:
        """Update the collection from a source.

        vanish: delete documents that came from this source before and are no longer in it.

        Raises:
            InputError: an id comes twice, a vector cannot be used, or there is no document.
        """
        start, long_before = time.monotonic(), self.encoder.long_texts
        first_new_row = self.snapshot.manifest.next_row if self.snapshot else 0
        source.images = IMAGE in self.encoder.modalities
        try:
            for chunk in _chunks(self._documents(source), CHUNK_DOCUMENTS):
                self._take(chunk, source)
            if self._pipeline is not None:
                self._made_of_images(self._pipeline.drain())
            self._encode(source)
        except (KeyboardInterrupt, RetrError) as error:
            # Commit what is encoded already, so that it need not be encoded again.
            if not isinstance(error, StorageError):
                self._salvage()
            raise
        finally:
            if self._pipeline is not None:
                self._pipeline.close()
        self._flush()
        if not (self.report.added or self.report.updated or self.report.unchanged):
            raise InputError(self._nothing(source))
        if vanish and source.name is not None:
            self._delete_vanished(source.name, first_new_row)
        self.report.long_texts = self.encoder.long_texts - long_before
        self.report.long_text = self.encoder.options.long_text or "cut"
        self.report.seconds = time.monotonic() - start
        return self.report

    def _documents(self, source: Source) -> Iterator[Document]:
        for item in source:
            if isinstance(item, Document):
                yield item
                continue
            self._skip(item)

    def _skip(self, item: Skipped) -> None:
        self.report.skipped += 1
        if len(self.report.skips) < LISTED_SKIPS:
            self.report.skips.append(item)
        log.debug("skipped %s: %s", item.where, item.reason)
        if item.id is not None:
            self._unread.append(item.id)

    def _take(self, chunk: Sequence[Document], source: Source) -> None:
        """Look up a chunk's ids, and put new and changed documents into the window."""
        ids = [document.id for document in chunk]
        if self.snapshot is None:
            found = [np.empty(0, np.int64)] * len(ids)
        else:
            found = self.snapshot.rows_of(ids)
        # A flush replaces the set, so keep this one: the ids in it are not in `found`.
        on_their_way = self._waiting
        firsts = np.array([rows[0] for rows in found if len(rows)], np.int64)
        stored = self.snapshot.digests(firsts) if self.snapshot and len(firsts) else []
        digests = iter(stored)
        here: set[str] = set()
        for document, rows in zip(chunk, found, strict=True):
            waiting = document.id in here or document.id in on_their_way
            if waiting or (len(rows) and self._has_seen(rows[0])):
                raise InputError(
                    f"{source.name or 'the source'}: the id {document.id!r} comes twice; "
                    "give every document an id of its own"
                )
            here.add(document.id)
            self._see(rows)
            stored_digest = next(digests) if len(rows) else None
            unusable = self._unusable(document)
            if unusable is not None:
                self._skip(unusable)
                continue
            how = (source.name, self.passages, self.size)
            digest, beside_text = digest_of(document, self.encoder.modalities, how)
            if stored_digest == digest:
                self.report.unchanged += 1
                continue
            if len(rows):
                self.report.updated += 1
            else:
                self.report.added += 1
            self._waiting.add(document.id)
            made = list(self._rows(document, source.name, digest, beside_text, len(rows) > 0))
            self._window += made  # all at once: an interrupt must not leave half a document
            if len(self._window) >= self._most or self._images_came:
                self._encode(source)
        if self._window and self._late:
            self._encode(source)  # a slow source may take long to fill the window
        self._show(source)

    def _unusable(self, document: Document) -> Skipped | None:
        """Return why a document with only an image is skipped: the encoder takes no images.

        None for every other document.
        """
        if (
            document.image is None
            or document.text is not None
            or document.vector is not None
            or document.image_vector is not None
            or IMAGE in self.encoder.modalities
        ):
            return None
        return Skipped(
            document.uri or document.id,
            f"an image, and the encoder {self.encoder.name} takes no images; "
            "build a collection with --encoder clip:MODEL",
            document.id,
        )

    def _rows(
        self, document: Document, source: str | None, digest: bytes, beside_text: int, old: bool
    ) -> Iterator[_Pending]:
        own = document.vector is not None or document.image_vector is not None
        if document.text is None and document.image is None and not own:
            raise InputError(
                f"document {document.id!r}: has no text, no image and no vector; give one of them"
            )
        kind = document.kind
        if self.passages is not None:
            kind = (kind or "text") if self.passages else None
        parts: list[tuple[str | None, str | None]] = [(document.text, document.place)]
        if kind is not None and document.text is not None and document.vector is None:
            sized = {} if self.size is None else {"size": self.size}
            split_up = split(document.text, kind, **sized)
            parts = [(p.text, p.place) for p in split_up] or [("", None)]
        at = replace(document.image, data=None) if isinstance(document.image, ImageAt) else None
        for number, (text, place) in enumerate(parts):
            row = StoredRow(
                id=document.id,
                part=number,
                text=text,
                uri=document.uri,
                place=place,
                source=source,
                digest=digest,
                metadata=document.metadata,
                image=at,
            )
            pending = _Pending(row, old, len(text or "") + beside_text)
            if number == 0:  # the image is stored once, with the first passage
                pending.made[TEXT] = own_vector(row.id, document.vector, self.new.space)
                pending.made[IMAGE] = own_vector(row.id, document.image_vector, self.new.space)
                if document.image is not None and document.image_vector is None and self._pipeline:
                    pending.waits = True
                    self._made_of_images(self._pipeline.put(pending, document.image))
            pending.to_encode = text is not None and document.vector is None
            if document.image_vector is not None and TEXT not in self.encoder.modalities:
                pending.to_encode = False  # the user gave vectors for images; captions have none
            yield pending

    def _salvage(self) -> None:
        """Commit what is encoded before an interrupted run ends."""
        if self._pipeline is not None:
            self._made_of_images(self._pipeline.made())
        ready = self._window[: self._ready()]
        # A document's rows are committed together, and the longest texts are encoded first.
        cut = {p.row.id for p in ready if p.to_encode and p.made.get(TEXT) is None}
        self._finish([pending for pending in ready if pending.row.id not in cut])
        self._flush()

    @property
    def _late(self) -> bool:
        return time.monotonic() - self._flushed > self.flush_seconds

    @property
    def _most(self) -> int:
        """How many rows the window holds before it is encoded."""
        return self.encoder.batch_size * WINDOW_BATCHES

    def _encode(self, source: Source) -> None:
        """Encode the rows whose images have come out, and flush when it is time to."""
        self._images_came = False
        ready = self._ready()
        if 2 * ready < len(self._window) and len(self._window) >= self._most and self._pipeline:
            # A few images among many texts would wait long for a full batch.
            self._made_of_images(self._pipeline.drain())
            ready = len(self._window)
        window = self._window[:ready]
        self._encode_texts(source, [p for p in window if p.to_encode])
        self._window = self._window[ready:]
        self._finish(window)
        if self._late or len(self._encoded) >= FLUSH_ROWS or self._bytes >= FLUSH_BYTES:
            self._flush()

    def _finish(self, window: Sequence[_Pending]) -> None:
        """Queue rows that have their vectors for the next commit."""
        kept = [p for p in window if p.unreadable is None or self._keep_without_image(p)]
        self._bytes += sum(pending.held for pending in kept)
        self._encoded += kept

    def _ready(self) -> int:
        """Return how many of the oldest rows wait for no image, in whole documents."""
        for at, pending in enumerate(self._window):
            if pending.waits:
                return at  # an image belongs to the first row of its document
        return len(self._window)

    def _encode_texts(self, source: Source, window: list[_Pending]) -> None:
        """Encode the texts of some rows, the longest first."""
        window = sorted(window, key=lambda pending: -len(pending.row.text or ""))
        for start in range(0, len(window), self.encoder.batch_size):
            batch = window[start : start + self.encoder.batch_size]
            encoded = self.encoder.encode_documents([p.row.text or "" for p in batch])
            self._check(encoded, batch)
            for pending, vector in zip(batch, encoded, strict=True):
                pending.made[TEXT] = vector
            self.report.encoded += len(batch)
            self._show(source, len(batch))

    def _made_of_images(
        self, made: Sequence[tuple[_Pending, NDArray[np.float32] | Unreadable]]
    ) -> None:
        """Store the results that came out of the pipeline in their rows."""
        readable = []
        for pending, vector in made:
            pending.waits = False
            if isinstance(vector, np.ndarray):
                pending.made[IMAGE] = vector
                readable.append(pending)
            else:
                pending.unreadable = vector.reason
        self._images_came |= bool(made)
        if readable:
            self._check(np.stack([pending.made[IMAGE] for pending in readable]), readable)
        self.report.encoded += len(readable)
        self.report.images += len(readable)

    def _keep_without_image(self, pending: _Pending) -> bool:
        """List an unreadable image as skipped; return whether its row stays because of a text."""
        row = pending.row
        where = str(row.image) if row.image is not None else row.uri or row.id
        stays = row.text is not None or pending.made.get(TEXT) is not None
        reason = f"without its image: {pending.unreadable}" if stays else str(pending.unreadable)
        self._skip(Skipped(where, reason, None if stays else row.id))
        if stays:
            return True
        if pending.old:
            self.report.updated -= 1
        else:
            self.report.added -= 1
        self._waiting.discard(row.id)
        return False

    def _check(self, made: Any, batch: Sequence[_Pending]) -> None:
        ids = [pending.row.id for pending in batch]
        check_made(made, ids, self.new.space, self.encoder.name)

    def _flush(self) -> None:
        """Commit what is encoded."""
        if not self._encoded:
            return
        encoded, self._encoded = self._encoded, []
        self._bytes = 0
        rows = [pending.row for pending in encoded]
        self.snapshot, first = commits.add_rows(
            self.store,
            self.new,
            rows,
            self._made(encoded),
            self.snapshot,
            passages=any(row.part for row in rows),
        )
        self._see(np.arange(first, first + len(rows)))
        self.report.rows += len(rows)
        # Committed ids are found in the collection from now on; those of the window are not yet.
        self._waiting = {pending.row.id for pending in self._window}
        # The rows are committed; if another writer holds the lock for long, it will merge them.
        with contextlib.suppress(LockedError):
            merged = merging.merge_small(self.store, self.snapshot)
            if merged is not self.snapshot:
                self.snapshot = merged
                # In a long run, merged files would add up to several times the collection.
                self.store.vacuum(lock_seconds=0)
        self._flushed = time.monotonic()

    def _made(self, encoded: Sequence[_Pending]) -> Mapping[str, Encoded] | Sequence[Weights]:
        """Return the rows' vectors or weights, from the encoder or the user, for a commit."""
        if self.new.space.sparse:
            return [pending.made[TEXT] or {} for pending in encoded]
        by_modality = {}
        for modality in (TEXT, IMAGE):
            there = [i for i, p in enumerate(encoded) if p.made.get(modality) is not None]
            if there:
                vectors = np.stack([encoded[i].made[modality] for i in there])
                by_modality[modality] = Encoded(
                    np.array(there, np.int64), vectors.astype(np.float32, copy=False)
                )
        return by_modality

    def _has_seen(self, row: int) -> bool:
        return row < len(self._seen) and bool(self._seen[row])

    def _see(self, rows: NDArray[np.int64]) -> None:
        if len(rows) and rows[-1] >= len(self._seen):
            grown = np.zeros(max(2 * len(self._seen), int(rows[-1]) + 1, 1024), bool)
            grown[: len(self._seen)] = self._seen
            self._seen = grown
        self._seen[rows] = True

    def _delete_vanished(self, source: str, first_new_row: int) -> None:
        if self.snapshot is None:
            return
        unread = [id for id in self._unread if not id.endswith("/")]
        for rows in self.snapshot.rows_of(unread):
            self._see(rows)
        folders = tuple(id for id in self._unread if id.endswith("/"))

        def vanished(newest: Snapshot) -> NDArray[np.int64]:
            rows = newest.rows_from(source)
            # Rows that another writer added meanwhile are not this run's to delete.
            rows = rows[rows < first_new_row]
            seen = np.zeros(max(first_new_row, len(self._seen)), bool)
            seen[: len(self._seen)] = self._seen
            rows = rows[~seen[rows]]
            if folders and len(rows):
                rows = rows[[not id.startswith(folders) for id in newest.ids(rows)]]
            self.report.deleted = len(set(newest.ids(rows)))
            return rows

        changed, _ = commits.delete_rows(self.store, vanished, self.snapshot)
        if changed is not None:
            self.snapshot = merging.merge_small(self.store, changed)

    def _nothing(self, source: Source) -> str:
        where = source.name or "the source"
        if not self.report.skipped:
            return (
                f"{where}: there is nothing to index, no document was found; "
                "an existing collection stays unchanged"
            )
        skip = self.report.skips[0]
        return (
            f"{where}: there is nothing to index, {self.report.skipped} skipped "
            f"(the first: {skip.where}: {skip.reason})"
        )

    def _show(self, source: Source, more: int = 0) -> None:
        total = None if source.total is None else float(source.total)
        count = self.report.encoded or self.report.unchanged
        self.progress.update("indexing", count, float(source.done), total)


@dataclass(slots=True, eq=False)
class _Pending:
    """A row that waits for its vectors.

    old:        whether its document replaces a stored one.
    size:       its approximate size in bytes, without its vectors.
    made:       its vectors by modality, or its weights; the user's own are there from the start.
    to_encode:  whether its text needs a vector.
    waits:      whether its image is still in the pipeline.
    unreadable: why its image cannot be read; None if it can.
    """

    row: StoredRow
    old: bool
    size: int
    made: dict[str, Any] = field(default_factory=dict)
    to_encode: bool = False
    waits: bool = False
    unreadable: str | None = None

    @property
    def held(self) -> int:
        """The row's approximate size in bytes, with its vectors."""
        return self.size + sum(_size_of(made) for made in self.made.values() if made is not None)


def _size_of(made: NDArray[np.float32] | Weights) -> int:
    """Return the approximate size in bytes of a row's vector or weights."""
    return made.nbytes if isinstance(made, np.ndarray) else WEIGHT_BYTES * len(made)


def _chunks(documents: Iterator[Document], size: int) -> Iterator[list[Document]]:
    """Yield documents in chunks of at most `size`, or of what comes within a second."""
    chunk: list[Document] = []
    started = time.monotonic()
    for document in documents:
        chunk.append(document)
        if len(chunk) == size or time.monotonic() - started > CHUNK_SECONDS:
            yield chunk
            chunk, started = [], time.monotonic()
    if chunk:
        yield chunk
