"""What an ingest did; apart from the ingest itself, which a search never loads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


@dataclass(slots=True)
class IngestReport:
    """What an ingest did.

    added, updated, unchanged, deleted: counts of documents.
    rows:      rows written.
    encoded:   texts and images that the encoder embedded.
    images:    the images among those.
    skipped:   the number of items that could not be read.
    skips:     the first thousand of those.
    long_texts: texts that the encoder counted as longer than it reads.
    long_text: how they were handled, see `EncoderOptions.long_text`.
    seconds:   the duration of the ingest.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    rows: int = 0
    encoded: int = 0
    images: int = 0
    skipped: int = 0
    skips: list[Skipped] = field(default_factory=list)
    long_texts: int = 0
    long_text: str = "cut"
    seconds: float = 0.0


def describe(report: IngestReport) -> dict[str, Any]:
    """Return a report as JSON values."""
    return {
        "added": report.added,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "deleted": report.deleted,
        "rows": report.rows,
        "encoded": report.encoded,
        "images": report.images,
        "skipped": report.skipped,
        "long_texts": report.long_texts,
        "seconds": round(report.seconds, 3),
    }


@dataclass(frozen=True, slots=True)
class Skipped:
    """An item of the source that could not be read; it is counted and listed, never fatal.

    where:  the file, and the place in it.
    reason: one clause, with a remedy if there is one.
    id:     the id its document would have; an id that ends with "/" stands for every id that
            starts with it. An unreadable item has not vanished, so its documents are kept.
    """

    where: str
    reason: str
    id: str | None = None
