"""A writer for `test_concurrency.py`, which starts several as programs.

    concurrent_worker.py add PATH NAME COUNT        COUNT times add five documents of its own
    concurrent_worker.py same PATH NAME COUNT       COUNT times add the same ten ids as everybody
    concurrent_worker.py versions PATH NAME COUNT   COUNT times replace all documents, in one commit
    concurrent_worker.py lock PATH NAME 0           hold the lock until stdin ends
    concurrent_worker.py stage PATH NAME 0          stage a file, hold it until stdin ends

Says "ready" when everything is imported, and begins when a line comes.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from toys import ToyEncoder

import retr
from retr.retrieval.store.lock import writer_lock
from retr.retrieval.store.store import Store
from retr.retrieval.values.errors import InputError
from retr.retrieval.values.types import Document

MANY = 20


def of_version(version: int) -> list[Document]:
    return [Document(f"d{i}", f"text {i} of version {version}") for i in range(MANY)]


def put(path: Path, documents: list[Document]) -> retr.Collection:
    """Add to a collection, or make it: whoever is first."""
    encoder = ToyEncoder(dim=8)
    if Store(path).exists():
        collection = retr.open(path, encoder=encoder)
        collection.add(documents)
        return collection
    return retr.build(documents, path, encoder=encoder)


def hold(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    sys.stdin.read()


def main() -> None:
    mode, path, name, count = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    random_ = random.Random(name)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    match mode:
        case "add":
            for n in range(count):
                put(path, [Document(f"{name}-{n}-{i}", f"{name} {n} {i}") for i in range(5)])
        case "same":
            for n in range(count):
                ids = random_.sample(range(10), 7)
                put(path, [Document(f"d{i}", f"text {i} by {name} {n}") for i in ids])
        case "versions":
            collection = retr.open(path, encoder=ToyEncoder(dim=8))
            for n in range(count):
                collection.add(of_version(n + 1))
                if n % 3 == 0:
                    collection.compact()
                if n % 4 == 0:
                    collection.index("flat")
                collection.vacuum()
        case "lock":
            with writer_lock(path / "lock", 10):
                hold("held")
        case "stage":
            with Store(path).staging() as staging:
                with staging.new_file("documents") as (file, _):
                    file.write(b"on its way")
                hold(staging.folder.name)
        case _:
            raise InputError(mode)


if __name__ == "__main__":
    main()
