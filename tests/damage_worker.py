"""Opens and searches damaged copies of a collection, each in a process of its own.

Usage: damage_worker.py COLLECTION SEED COUNT. Prints one JSON object: how often each thing came of
it, and an example of each. Only what is no `RetrError` is of interest: a crash of the interpreter
has no exception that a test could catch.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
from collections import Counter
from pathlib import Path

import retr
from retr.retrieval.values.errors import RetrError

TOO_LONG = 30


def use(path: Path) -> None:
    """Do what reads every file of a collection."""
    collection = retr.open(path)
    for passages in (False, True):
        hits = collection.search(vector=[1, 0, 0, 0], k=100, passages=passages)
        collection.search(vector=[1, 0, 0, 0], k=2, ids=[hit.id for hit in hits[:5]])
        collection.search("text of 7, and more", k=100, passages=passages, explain=True)
        collection.search("3 more", vector=[1, 0, 0, 0], k=2, passages=passages, explain=True)
    collection.info()
    repr(collection)


def spoil(data: bytes, random_: random.Random) -> tuple[bytes, str]:
    """Return other bytes of the same length, and what was done."""
    bad = bytearray(data)
    at = random_.randrange(len(data))
    match random_.randrange(5):
        case 0:
            bad[at] ^= 1 << random_.randrange(8)
        case 1:
            bad[at] ^= 0xFF
        case 2:
            end = min(len(data), at + random_.randrange(1, 64))
            bad[at:end] = random_.randbytes(end - at)
        case 3:
            bad[at:] = bytes(len(data) - at)
        case _:  # a number, such as an offset: large, negative, or a little off
            at = at // 8 * 8
            number = int.from_bytes(data[at : at + 8], "little")
            number += random_.choice([1, -1, 2**20, 2**40, 2**62, -(2**33)])
            bad[at : at + 8] = (number % 2**64).to_bytes(8, "little")[: len(data) - at]
    return bytes(bad), f"byte {at}"


def outcome(path: Path) -> str:
    """Use the collection in a child, and return what came of it."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(TOO_LONG)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        code = 0
        try:
            use(path)
        except RetrError:
            code = 1
        except BaseException:
            code = 2
        os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return ("fine", "refused", "other error")[os.WEXITSTATUS(status)]


def main(path: Path, seed: int, count: int) -> None:
    random_ = random.Random(seed)
    use(path)  # what it imports, the children need not import each
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    files = sorted(p for p in path.glob("*/*.*") if p.parent.name != "manifests")
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    # What can crash are the offsets of texts and lists.
    weights = [
        8
        if p.parent.name == "documents" and ".ids." not in p.name
        else 3
        if p.parent.name == "lexical"
        else 1
        for p in files
    ]
    for file in random_.choices(files, weights, k=count):
        data = file.read_bytes()
        bad, what = spoil(data, random_)
        file.write_bytes(bad)
        try:
            found = outcome(path)
        finally:
            file.write_bytes(data)
        counts[found] += 1
        examples.setdefault(found, f"{file.relative_to(path)}, {what}")
    sys.stdout.write(json.dumps({"counts": counts, "examples": examples}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
