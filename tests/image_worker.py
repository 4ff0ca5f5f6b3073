"""Builds a collection of images in a process of its own, to be killed.

    python tests/image_worker.py FOLDER COLLECTION LOG

It commits whenever images have been encoded, is slow about it, and writes the number of images of
each batch into LOG.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from toy_images import ToyImageEncoder

from retr.retrieval.sources import open_source
from retr.retrieval.store.store import Store
from retr.retrieval.values.progress import Silent
from retr.retrieval.writing.commits import NewCollection
from retr.retrieval.writing.ingest import Ingest


class Slow(ToyImageEncoder):
    log: Path

    def encode_prepared(self, arrays: Any) -> Any:
        time.sleep(0.03)
        with self.log.open("a") as file:
            file.write(f"{len(arrays)}\n")
        return super().encode_prepared(arrays)


def main(folder: Path, collection: Path, log: Path) -> None:
    encoder = Slow()
    encoder.log = log
    new = NewCollection(
        encoder.space, {"name": encoder.name, "options": {}}, modalities=encoder.modalities
    )
    ingest = Ingest(Store(collection), new, encoder, None, Silent(), flush_seconds=0.0)
    ingest.run(open_source(str(folder)), vanish=False)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
