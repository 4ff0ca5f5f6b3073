"""Ingest: documents stream from a source through the encoder into shards.

Memory does not grow with the collection: a window of rows is encoded, sorted by length and put
back in order; what is encoded is committed every few seconds. So a run that is killed loses at
most its last window, and the same run again finds the rest unchanged and goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import commits, merging
from .commits import Birth
from .encoders.base import Encoder, Weights
from .errors import InputError, LockedError, RetrError, StorageError
from .passages import split
from .progress import Progress
from .snapshot import Snapshot
from .sources.base import Skipped, Source
from .store.documents import StoredRow
from .store.store import Store
from .types import Document

log = logging.getLogger("retr.ingest")

FLUSH_SECONDS = 5.0
FLUSH_ROWS = 65_536
FLUSH_BYTES = 256 << 20
WEIGHT_BYTES = 100  # of a weight in memory, about
WINDOW_BATCHES = 8
CHUNK_DOCUMENTS = 512
LISTED_SKIPS = 1000


@dataclass(slots=True)
class IngestReport:
    """What an ingest did.

    added, updated, unchanged, deleted: numbers of documents.
    rows:      rows written.
    encoded:   rows that went through the encoder.
    skipped:   how many things could not be read.
    skips:     the first thousand of them.
    seconds:   how long it took.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    rows: int = 0
    encoded: int = 0
    skipped: int = 0
    skips: list[Skipped] = field(default_factory=list)
    seconds: float = 0.0


class Ingest:
    """One run over one source.

    passages: split documents that say how (`Document.kind`) into passages; True splits every
              text, False none.
    size:     the characters of a passage; None is the splitter's default.
    flush_seconds: how often to commit what is encoded.
    """

    def __init__(
        self,
        store: Store,
        birth: Birth,
        encoder: Encoder,
        snapshot: Snapshot | None,
        progress: Progress,
        *,
        passages: bool | None = None,
        size: int | None = None,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        self.store = store
        self.birth = birth
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
        self._encoded: list[tuple[StoredRow, NDArray[np.float32] | Weights]] = []
        self._bytes = 0
        self._waiting: set[str] = set()
        self._flushed = time.monotonic()

    def run(self, source: Source, *, vanish: bool) -> IngestReport:
        """Bring the collection up to date with a source.

        vanish: delete what came from this source before and is no longer in it.

        Raises:
            InputError: an id comes twice, a vector cannot be used, or there is no document.
        """
        start = time.monotonic()
        first_new_row = self.snapshot.manifest.next_row if self.snapshot else 0
        try:
            for chunk in _chunks(self._documents(source), CHUNK_DOCUMENTS):
                self._take(chunk, source)
            self._encode(source)
        except (KeyboardInterrupt, RetrError) as error:
            # What is encoded by now need not be encoded again.
            if not isinstance(error, StorageError):
                self._flush()
            raise
        self._flush()
        if not (self.report.added or self.report.updated or self.report.unchanged):
            raise InputError(self._nothing(source))
        if vanish and source.name is not None:
            self._delete_vanished(source.name, first_new_row)
        self.report.seconds = time.monotonic() - start
        return self.report

    def _documents(self, source: Source) -> Iterator[Document]:
        for item in source:
            if isinstance(item, Document):
                yield item
                continue
            self.report.skipped += 1
            if len(self.report.skips) < LISTED_SKIPS:
                self.report.skips.append(item)
            log.debug("skipped %s: %s", item.where, item.reason)
            if item.id is not None:
                self._unread.append(item.id)

    def _take(self, chunk: Sequence[Document], source: Source) -> None:
        """Look up a chunk's ids, and put what is new or changed into the window."""
        ids = [document.id for document in chunk]
        if self.snapshot is None:
            found = [np.empty(0, np.int64)] * len(ids)
        else:
            found = self.snapshot.rows_of(ids)
        # A flush on the way starts a new set: the ids that were on their way are in this one.
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
            digest, beside_text = self._digest(document, source.name)
            if len(rows) and next(digests) == digest:
                self.report.unchanged += 1
                continue
            if len(rows):
                self.report.updated += 1
            else:
                self.report.added += 1
            self._waiting.add(document.id)
            self._window += self._rows(document, source.name, digest, beside_text)
            if len(self._window) >= self.encoder.batch_size * WINDOW_BATCHES:
                self._encode(source)
        self._show(source)

    def _rows(
        self, document: Document, source: str | None, digest: bytes, beside_text: int
    ) -> Iterator[_Pending]:
        if document.vector is None and document.text is None:
            raise InputError(f"document {document.id!r}: has neither a text nor a vector")
        kind = document.kind
        if self.passages is not None:
            kind = (kind or "text") if self.passages else None
        parts: list[tuple[str | None, str | None]] = [(document.text, document.place)]
        if kind is not None and document.text is not None and document.vector is None:
            sized = {} if self.size is None else {"size": self.size}
            split_up = split(document.text, kind, **sized)
            parts = [(p.text, p.place) for p in split_up] or [("", None)]
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
            )
            yield _Pending(row, document.vector, len(text or "") + beside_text)

    def _digest(self, document: Document, source: str | None) -> tuple[bytes, int]:
        """Return what tells a changed document from an unchanged one, and its size but for text."""
        values = [
            document.text,
            document.uri,
            document.kind,
            document.place,
            document.metadata,
            source,
            self.passages,
            self.size,
        ]
        data = json.dumps(values, sort_keys=True, default=str).encode()
        digest = hashlib.blake2b(data, digest_size=16)
        if document.vector is not None:
            digest.update(np.ascontiguousarray(document.vector, np.float32).tobytes())
        return digest.digest(), max(0, len(data) - len(document.text or ""))

    def _encode(self, source: Source) -> None:
        """Encode the window, longest texts first, and flush when it is time to."""
        window, self._window = self._window, []
        vectors: list[NDArray[np.float32] | Weights] = [{}] * len(window)
        texts = [i for i, pending in enumerate(window) if pending.vector is None]
        texts.sort(key=lambda i: -len(window[i].row.text or ""))
        for start in range(0, len(texts), self.encoder.batch_size):
            batch = texts[start : start + self.encoder.batch_size]
            encoded = self.encoder.encode_documents([window[i].row.text or "" for i in batch])
            self._check(encoded, batch, window)
            for i, vector in zip(batch, encoded, strict=True):
                vectors[i] = vector
            self.report.encoded += len(batch)
            self._show(source, len(batch))
        for i, pending in enumerate(window):
            if pending.vector is not None:
                vectors[i] = self._own_vector(pending)
            self._encoded.append((pending.row, vectors[i]))
            self._bytes += pending.size + _size_of(vectors[i])
        late = time.monotonic() - self._flushed > self.flush_seconds
        if late or len(self._encoded) >= FLUSH_ROWS or self._bytes >= FLUSH_BYTES:
            self._flush()

    def _check(self, vectors: Any, batch: list[int], window: list[_Pending]) -> None:
        if self.birth.space.sparse:
            self._check_weights(vectors, batch, window)
            return
        expected = (len(batch), self.birth.space.dim)
        if vectors.shape != expected:
            raise InputError(
                f"encoder {self.encoder.name}: gave vectors of shape {vectors.shape}, "
                f"not {expected}"
            )
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            bad = window[batch[int(np.flatnonzero(~finite)[0])]].row
            raise InputError(
                f"encoder {self.encoder.name}: gave a vector with NaN or infinity "
                f"for document {bad.id!r}"
            )

    def _check_weights(
        self, weights: Sequence[Weights], batch: list[int], window: list[_Pending]
    ) -> None:
        if len(weights) != len(batch):
            raise InputError(
                f"encoder {self.encoder.name}: gave {len(weights)} weights for {len(batch)} texts"
            )
        for i, own in zip(batch, weights, strict=True):
            for term, weight in own.items():
                if not 0 < weight < np.inf:
                    raise InputError(
                        f"encoder {self.encoder.name}: gave {term!r} the weight {weight} in "
                        f"document {window[i].row.id!r}; a weight is finite and above 0"
                    )

    def _own_vector(self, pending: _Pending) -> NDArray[np.float32]:
        """Return a vector that the user gave, as this space wants it."""
        space, vector = self.birth.space, pending.vector
        if space.sparse:
            raise InputError(
                f"document {pending.row.id!r}: comes with a vector, and the collection has no "
                "vectors but weights of words; give a text alone"
            )
        if vector is None or vector.shape != (space.dim,):
            shape = None if vector is None else vector.shape
            raise InputError(
                f"document {pending.row.id!r}: its vector has shape {shape}, "
                f"the collection has {space.dim} dimensions"
            )
        if not np.isfinite(vector).all():
            raise InputError(f"document {pending.row.id!r}: its vector holds NaN or infinity")
        if space.metric != "cosine":
            return vector
        length = float(np.linalg.norm(vector.astype(np.float64)))
        if length == 0:
            raise InputError(
                f"document {pending.row.id!r}: its vector is zero, which has no cosine; "
                "leave it out, or use the metric ip or l2"
            )
        return (vector / length).astype(np.float32)

    def _flush(self) -> None:
        """Commit what is encoded."""
        if not self._encoded:
            return
        encoded, self._encoded = self._encoded, []
        self._bytes = 0
        rows = [row for row, _ in encoded]
        made: list[Any] = [vector for _, vector in encoded]
        vectors = made if self.birth.space.sparse else np.stack(made).astype(np.float32, copy=False)
        self.snapshot, first = commits.add_rows(
            self.store,
            self.birth,
            rows,
            vectors,
            self.snapshot,
            passages=any(row.part for row in rows),
        )
        self._see(np.arange(first, first + len(rows)))
        self.report.rows += len(rows)
        # Ids that are in the collection by now are known there; the window's are not yet.
        self._waiting = {pending.row.id for pending in self._window}
        # The rows are committed; a writer that holds the lock for long will merge them itself.
        with contextlib.suppress(LockedError):
            merged = merging.merge_small(self.store, self.snapshot)
            if merged is not self.snapshot:
                self.snapshot = merged
                # What was merged would add up to several times the collection in a long run.
                self.store.vacuum(lock_seconds=0)
        self._flushed = time.monotonic()

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
            # What another writer added meanwhile is not this run's to judge.
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
                "a collection that is there stays as it is"
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


@dataclass(frozen=True, slots=True)
class _Pending:
    """A row on its way to its vector; size: about how many bytes it holds."""

    row: StoredRow
    vector: NDArray[np.float32] | None
    size: int


def _size_of(vector: NDArray[np.float32] | Weights) -> int:
    """Return about how many bytes a row's vector or weights hold."""
    return vector.nbytes if isinstance(vector, np.ndarray) else WEIGHT_BYTES * len(vector)


def _chunks(documents: Iterator[Document], size: int) -> Iterator[list[Document]]:
    chunk: list[Document] = []
    for document in documents:
        chunk.append(document)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def describe(report: IngestReport) -> dict[str, Any]:
    """Return a report as JSON values."""
    return {
        "added": report.added,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "deleted": report.deleted,
        "rows": report.rows,
        "encoded": report.encoded,
        "skipped": report.skipped,
        "seconds": round(report.seconds, 3),
    }
