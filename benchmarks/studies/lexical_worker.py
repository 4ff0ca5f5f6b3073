"""One process of `retr.benchmarks.studies.lexical`: one system, which builds or is asked.

    python -m retr.benchmarks.studies.lexical_worker SYSTEM build|search|memory FOLDER

`build` and `memory` print a line of JSON. `search` opens what was built and answers a line of JSON
on stdin, a list of texts, with one on stdout, until there are no more.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from ...retrieval.text.analysis import analyzer
from ..ann.process import Sampler, Spent, anonymous, measured, peak_memory

K = 10
HEAP = 256 << 20
"""The memory that tantivy's writer may fill, bytes."""


class System(Protocol):
    """Builds from texts; then opens what it has built, and searches."""

    def build(self, texts: Iterator[str], folder: Path) -> None:
        """Index texts, whose numbers are their ids."""
        ...

    def open(self, folder: Path) -> None:
        """Make ready to search."""
        ...

    def search(self, text: str) -> list[int]:
        """Return the numbers of the best `K` texts."""
        ...


class Retr:
    """The lexical segments of a collection: staged, committed and merged as an ingest does."""

    def build(self, texts: Iterator[str], folder: Path) -> None:
        """Commit a segment each `FLUSH_ROWS`, and merge those that are due."""
        from ...retrieval.encoders.base import Space
        from ...retrieval.segments.snapshot import Snapshot
        from ...retrieval.store.store import Store
        from ...retrieval.values.settings import Settings
        from ...retrieval.writing import merging
        from ...retrieval.writing.commits import NewCollection
        from ...retrieval.writing.ingest import FLUSH_ROWS

        space = Space("none:0", "none", "0", dim=1, normalised=True, metric="cosine")
        birth = NewCollection(space, {}, Settings(terms=_terms()))
        store = Store(folder)
        snapshot: Snapshot | None = None
        while part := list(islice(texts, FLUSH_ROWS)):
            snapshot = _commit(store, birth, part, snapshot)
            snapshot = merging.merge_small(store, snapshot)
            store.vacuum()

    def open(self, folder: Path) -> None:
        """Map the newest generation."""
        from ...retrieval.segments.snapshot import Snapshot
        from ...retrieval.store.store import Store

        store = Store(folder)
        manifest, _ = store.read()
        self._snapshot = Snapshot(store, manifest)
        self._terms = _terms()
        self._analyzer = analyzer(self._terms.analyzer)

    def search(self, text: str) -> list[int]:
        """Search as a collection does in the mode `lexical`, to the rows."""
        from collections import Counter

        from ...retrieval.search.rankers import merged
        from ...retrieval.search.words import LexicalRanker

        asked = Counter(self._analyzer.query_terms(text))
        segments = self._snapshot.lexical
        dead = self._snapshot.dead_words
        ranker = LexicalRanker(segments, [asked], self._terms.bm25, None, dead)
        rows: list[int] = merged(ranker, [0], K)[0].rows.tolist()
        return rows


class RetrCompacted(Retr):
    """The same, after `compact`: one segment."""

    def build(self, texts: Iterator[str], folder: Path) -> None:
        """Build, and merge all segments into one."""
        from ...retrieval.writing.merging import merge_all

        super().build(texts, folder)
        self.open(folder)
        from ...retrieval.store.store import Store

        merge_all(Store(folder), self._snapshot)
        Store(folder).vacuum()


class Bm25s:
    """bm25s, as its documentation has it: a list of texts, its tokenizer, English stems."""

    backend = "numpy"

    def build(self, texts: Iterator[str], folder: Path) -> None:
        """Index in memory, and save."""
        import bm25s

        tokenizer = self._tokenizer()
        tokens = tokenizer.tokenize(list(texts), show_progress=False, return_as="tuple")
        index = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
        index.index(tokens, show_progress=False)
        index.save(str(folder))
        tokenizer.save_vocab(str(folder))
        tokenizer.save_stopwords(str(folder))

    def open(self, folder: Path) -> None:
        """Map the arrays; words are in memory."""
        import bm25s

        self._words = self._tokenizer()
        self._words.load_vocab(str(folder))
        self._words.load_stopwords(str(folder))
        self._index = bm25s.BM25.load(
            str(folder), mmap=True, override_params={"backend": self.backend}
        )

    def search(self, text: str) -> list[int]:
        """Tokenize and retrieve."""
        tokens = self._words.tokenize([text], update_vocab=False, show_progress=False)
        found, scores = self._index.retrieve(
            tokens, k=K, show_progress=False, backend_selection=self.backend
        )
        return [int(n) for n, score in zip(found[0], scores[0], strict=True) if score > 0]

    def _tokenizer(self) -> Any:
        import Stemmer
        from bm25s.tokenization import Tokenizer

        return Tokenizer(stemmer=Stemmer.Stemmer("english"), stopwords="english")


class Bm25sNumba(Bm25s):
    """The same with its just-in-time compiled backend."""

    backend = "numba"


class Tantivy:
    """tantivy: English stems, no positions, one thread that writes, nothing stored but the id."""

    def build(self, texts: Iterator[str], folder: Path) -> None:
        """Add, commit, and wait for the merges."""
        import tantivy

        folder.mkdir()
        index = tantivy.Index(self._schema(), path=str(folder))
        writer = index.writer(heap_size=HEAP, num_threads=1)
        for number, text in enumerate(texts):
            writer.add_document(tantivy.Document(id=number, text=text))
        writer.commit()
        writer.wait_merging_threads()

    def open(self, folder: Path) -> None:
        """Open a searcher."""
        import tantivy

        self._index = tantivy.Index(self._schema(), path=str(folder))
        self._searcher = self._index.searcher()

    def search(self, text: str) -> list[int]:
        """Parse leniently, for the texts are no queries in its language, and fetch the ids."""
        query, _ = self._index.parse_query_lenient(text, ["text"])
        hits = self._searcher.search(query, K, count=False).hits
        return [self._searcher.doc(address)["id"][0] for _, address in hits]

    def _schema(self) -> Any:
        import tantivy

        builder = tantivy.SchemaBuilder()
        builder.add_unsigned_field("id", stored=True)
        builder.add_text_field("text", tokenizer_name="en_stem", index_option="freq")
        return builder.build()


SYSTEMS: dict[str, Callable[[], System]] = {
    "retr": Retr,
    "retr compacted": RetrCompacted,
    "bm25s": Bm25s,
    "bm25s numba": Bm25sNumba,
    "tantivy": Tantivy,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Do one phase of one system."""
    name, phase, folder = sys.argv[1:] if arguments is None else arguments
    system = SYSTEMS[name]()
    _PHASES[phase](system, Path(folder))


def _build(system: System, folder: Path) -> None:
    target, spent = folder / "index", Spent()
    with Sampler() as memory, measured(spent):
        system.build(_texts(folder), target)
    made = {"cpu_s": spent.cpu, "wall_s": spent.wall, "bytes": _size(target)}
    print(json.dumps({**made, **_peaks(memory)}))


def _search(system: System, folder: Path) -> None:
    system.open(folder / "index")
    for line in sys.stdin:
        micros, found = [], []
        for text in json.loads(line):
            start = time.process_time_ns()
            hits = system.search(text)
            micros.append((time.process_time_ns() - start + 500) // 1000)
            found.append(hits)
        print(json.dumps({"cpu_us": micros, "hits": found, "anonymous": anonymous()}), flush=True)


def _memory(system: System, folder: Path) -> None:
    """Build a whole collection, as users do, with an encoder that costs nothing."""
    import numpy as np

    from ...retrieval.build import build
    from ...retrieval.encoders.functions import from_functions
    from ...retrieval.store.manifest import Role
    from ...retrieval.store.store import Store

    def encode(texts: list[str]) -> Any:
        ones = np.ones((len(texts), 8), np.float32)
        ones[:, 0] = [len(text) for text in texts]
        return ones

    done = 0

    def records() -> Iterator[dict[str, str]]:
        nonlocal done
        for number, text in enumerate(_texts(folder)):
            yield {"id": str(number), "text": text}
            done = number + 1

    encoder, spent = from_functions("lengths", encode, dim=8), Spent()
    with Sampler(lambda: done) as memory, measured(spent):
        build(records(), folder / "index", encoder=encoder, spec="flat")
    store = Store(folder / "index")
    segments = [entry.rows for entry in store.read()[0].of_role(Role.LEXICAL)]
    made = {"cpu_s": spent.cpu, "segments": segments, "samples": _steps(memory)}
    print(json.dumps({**made, **_peaks(memory)}))


_PHASES: dict[str, Callable[[System, Path], None]] = {
    "build": _build,
    "search": _search,
    "memory": _memory,
}


def _peaks(memory: Sampler) -> dict[str, int | None]:
    """Return the anonymous bytes before and at most, and the resident bytes at most."""
    return {"before": memory.before, "anonymous": memory.most, "resident": peak_memory()}


def _steps(memory: Sampler, size: int = 10_000) -> list[tuple[int, int]]:
    """Return the anonymous bytes at most while each `size` more texts were done."""
    most: dict[int, int] = {}
    for done, held in memory.samples:
        step = -(-done // size) * size
        most[step] = max(most.get(step, 0), held)
    return sorted(most.items())


def _size(folder: Path) -> int:
    """Return the bytes of what was built; a collection keeps the generation before for a while."""
    if (folder / "manifests").is_dir():
        from ...retrieval.store.store import Store

        return sum(file.size for file in Store(folder).read()[0].files.values())
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _texts(folder: Path) -> Iterator[str]:
    with (folder / "texts.jsonl").open() as lines:
        for line in lines:
            yield json.loads(line)


def _terms() -> Any:
    from ...retrieval.text.analysis import analyzer
    from ...retrieval.values.settings import DEFAULT_LANGUAGE, TermSettings

    return TermSettings(analyzer(DEFAULT_LANGUAGE).name)


def _commit(store: Any, birth: Any, texts: list[str], previous: Any) -> Any:
    """Add a lexical segment and nothing else."""
    from dataclasses import replace

    import numpy as np

    from ...retrieval.segments.snapshot import open_generation
    from ...retrieval.writing.terms import stage_terms

    with store.staging() as staging:
        staged = stage_terms(staging, np.arange(len(texts)), texts, _terms())
        assert staged is not None  # none of them is None

        def rebase(newest: Any) -> Any:
            ground = newest or birth.manifest()
            first = ground.next_row
            entry = staged.entry(os.urandom(8).hex(), first)
            added = ground.with_segments((*ground.segments, entry), ground.deletes, staging.files)
            return replace(added, next_row=first + len(texts))

        manifest = store.commit(staging, rebase)
    return open_generation(store, manifest, previous)


if __name__ == "__main__":
    main()
