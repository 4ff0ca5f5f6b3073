"""The rows of an upgrade: which await a vector, which to sample, and how to re-embed them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...indexes.base import Floats
from ..encoders.base import IMAGE, TEXT, Encoder, ImageEncoder
from ..segments.dense import DenseSegment
from ..segments.snapshot import Snapshot
from ..store.documents import StoredRow
from ..store.shards import Rows, merged_rows
from ..values.errors import InputError

GATHERED = 65_536


def found_in(snapshot: Snapshot, space: str | None = None, modality: str | None = None) -> Rows:
    """Return the rows that a search finds by a vector of this space and modality, ascending.

    None means any space, or any modality.
    """
    parts = []
    for segment, bits in zip(snapshot.dense, snapshot.findable, strict=True):
        entry = segment.entry
        if space not in (None, entry.space) or modality not in (None, entry.modality):
            continue
        if bits is None:
            parts.append(segment.rows)
        else:
            there = np.unpackbits(bits, count=len(segment), bitorder="little")
            parts.append(segment.rows_at(np.flatnonzero(there)))
    return merged_rows(parts)


def awaiting(snapshot: Snapshot) -> dict[str, Rows]:
    """Return the rows that have no vector of the space of the queries yet, by modality."""
    out = {}
    for modality in sorted(snapshot.modalities):
        others = {str(s.entry.space) for s in snapshot.dense} - {snapshot.manifest.space}
        rows = merged_rows(found_in(snapshot, space, modality) for space in others)
        if len(rows):
            out[modality] = rows
    return out


def stratified(rows: Rows, n: int, seed: int) -> Rows:
    """Return n of the rows, one at random from each of n consecutive parts.

    Rows added together lie together, so every source gets its share.
    """
    if n >= len(rows):
        return rows
    bounds = np.linspace(0, len(rows), n + 1).astype(np.int64)
    random = np.random.default_rng(seed)
    chosen: Rows = rows[random.integers(bounds[:-1], np.maximum(bounds[1:], bounds[:-1] + 1))]
    return chosen


def gather(segments: Sequence[DenseSegment], rows: Rows) -> tuple[Rows, Floats]:
    """Return which of the rows (ascending) have a vector in these segments, and the vectors.

    segments: of one space.

    The vectors are f32[n, dim]; those of marked rows are included.
    """
    there, vectors = [], []
    for segment in segments:
        positions = segment.positions(rows)
        there.append(segment.rows_at(positions))
        vectors.append(segment.matrix[positions].astype(np.float32))
    if not there:
        return np.empty(0, np.int64), np.empty((0, 0), np.float32)
    found = np.concatenate(there)
    order = np.argsort(found, kind="stable")
    return found[order], np.concatenate(vectors)[order]


def blocks(rows: Rows, size: int = GATHERED) -> Iterator[Rows]:
    """Yield the rows in blocks of at most `size`."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """The result of embedding some rows.

    rows:    the rows that have a vector now, in the order given.
    vectors: f32[len(rows), dim].
    without: the rows that could not be embedded, each with the reason.
    """

    rows: Rows
    vectors: Floats
    without: dict[int, str]


def embed(snapshot: Snapshot, encoder: Encoder, modality: str, rows: Rows) -> Embedded:
    """Re-embed rows from what is stored for them: the text, or the path of the image's file.

    Raises:
        InputError: the encoder gave vectors that do not fit its space.
    """
    stored = snapshot.read(rows)
    reasons = [_reason(row, encoder, modality) for row in stored]
    without = {int(n): why for n, why in zip(rows, reasons, strict=True) if why is not None}
    usable = [i for i, why in enumerate(reasons) if why is None]
    vectors = np.zeros((len(usable), encoder.space.dim), np.float32)
    lost: list[int] = []
    if modality == TEXT:
        texts = [stored[i].text or "" for i in usable]
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        for start in range(0, len(order), encoder.batch_size):
            batch = order[start : start + encoder.batch_size]
            vectors[batch] = checked(
                encoder, encoder.encode_documents([texts[i] for i in batch]), len(batch)
            )
    else:
        lost = _embed_images(encoder, [stored[i] for i in usable], vectors, without, rows[usable])
    kept = np.setdiff1d(np.arange(len(usable)), lost)
    return Embedded(rows[usable][kept], vectors[kept], without)


def _embed_images(
    encoder: Encoder,
    stored: Sequence[StoredRow],
    vectors: Floats,
    without: dict[int, str],
    rows: Rows,
) -> list[int]:
    """Fill in the vectors of images; return the positions of unreadable ones."""
    from ..values.images import UnreadableImageError

    assert isinstance(encoder, ImageEncoder)  # `_reason` has seen to it
    lost: list[int] = []
    size = max(1, encoder.image_batch_size)
    for start in range(0, len(stored), size):
        batch = list(range(start, min(start + size, len(stored))))
        try:
            made = encoder.encode_images([stored[i].image for i in batch])
            vectors[batch] = checked(encoder, made, len(batch))
        except UnreadableImageError:
            for i in batch:  # one by one, to skip only the unreadable ones
                try:
                    vectors[i] = checked(encoder, encoder.encode_images([stored[i].image]), 1)[0]
                except UnreadableImageError as error:
                    without[int(rows[i])] = f"its image {stored[i].image}: {error.reason}"
                    lost.append(i)
    return lost


def _reason(row: StoredRow, encoder: Encoder, modality: str) -> str | None:
    """Return why a row cannot be re-embedded, None if it can."""
    if modality not in encoder.modalities:
        return f"the encoder {encoder.name} encodes no {modality}"
    if modality == TEXT and row.text is None:
        return "no text is stored with its vector"
    if modality == IMAGE and row.image is None:
        return "its image has no file to read it from again"
    return None


def checked(encoder: Encoder, vectors: Floats, count: int) -> Floats:
    """Return the vectors unchanged.

    Raises:
        InputError: they are not f32[count, dim] of the encoder's space, or not finite.
    """
    expected = (count, encoder.space.dim)
    if vectors.shape != expected:
        raise InputError(
            f"encoder {encoder.name}: gave vectors of shape {vectors.shape}, not {expected}"
        )
    if not np.isfinite(vectors).all():
        raise InputError(f"encoder {encoder.name}: gave a vector with NaN or infinity")
    return vectors
