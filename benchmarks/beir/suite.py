"""`retr bench beir`: encode, index, search and judge the data sets of BEIR, or one's own.

Every search is `Collection.search`, the one path that users have: by words and vectors together
(hybrid), by words alone (BM25) and by vectors alone. Exact search is a collection without an index;
what an index loses is measured against it on the same vectors.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...retrieval.collection import Collection
from ...retrieval.encoders import resolve
from ...retrieval.encoders.base import Encoder, EncoderOptions
from ...retrieval.evaluation import Qrels, Run, evaluate, read_run, write_qrels, write_run
from ...retrieval.search.path import MAX_K
from ...retrieval.segments.opening import check_settings
from ...retrieval.store.disk import storage_errors
from ...retrieval.values.errors import InputError, RetrError, StorageError
from ...retrieval.values.progress import Progress, choose_progress
from ...retrieval.values.settings import Settings as CollectionSettings
from ...retrieval.values.settings import check_spec
from ...retrieval.values.types import Query
from .. import environment
from ..files import write_json
from .cache import exact_collection, indexed_collection
from .datasets import Dataset, cache_folder, expand
from .folders import Prepared, check_names, prepare, prepare_folders
from .index_loss import recalls
from .results import ENTRY, QRELS, RUN, Entry, load, save
from .systems import DENSE, Settings, System, digits, exact, systems

log = logging.getLogger("retr.benchmarks")

DEFAULT_K = 100
LEAST_K = 10
CURVE = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_BLOCK_HITS = 50_000  # hits in memory with their texts


def run(
    datasets: Iterable[str],
    out: Path,
    *,
    encoder: str | Encoder = "static",
    options: EncoderOptions | None = None,
    spec: str | None = None,
    k: int = DEFAULT_K,
    limit: int | None = None,
    data: Path | None = None,
    cache: Path | None = None,
    split: str | None = None,
    progress: bool | None = None,
) -> list[Entry]:
    """Run data sets with one encoder and leave the results in `out`; return all of this run.

    datasets: names of BEIR's sets, "cqadupstack", "all", or folders in BEIR's layout.
    out:      the folder of the results; what is there with the same settings is not done again.
    encoder:  a name, or an `Encoder`.
    spec:     also search with an index of this spec, and measure what it loses.
    k:        how many hits are judged, at least 10; recall is reported up to it.
    limit:    at most this many judged queries, the first ones; such figures compare with no others.
    data:     where the published sets lie or are downloaded to; the user's cache folder.
    cache:    where collections are kept between runs; the user's cache folder.
    split:    the judgments, if not the published ones or `test`.
    progress: show it on stderr; None does on a terminal.

    Local folders are read and all names compared before anything is run. If a later data set
    fails, the report of those that are done is written before the error is raised.

    Raises:
        InputError: a data set, encoder, spec or number cannot be used, two data sets have one
            name, or `out` has results of another data set of that name.
        DownloadError: a data set cannot be downloaded.
        StorageError: `out` or `cache` cannot be made, or the disk is full.
        MissingExtraError: ir_measures, or for an index faiss, is not installed.
    """
    wanted = expand(datasets)
    spec = None if spec is None else check_spec(spec)
    _check(k, limit, out)
    evaluation_is_there()
    cache = cache or cache_folder()
    data = data or cache_folder() / "datasets"
    chosen = resolve(encoder, options or EncoderOptions())
    if spec is not None:
        check_settings(chosen.space, CollectionSettings(spec=spec))
    # Before hours of work: what lies here is read whole, and nothing may have another's name.
    local = prepare_folders(wanted, data, split)
    check_names([*local.values(), *(each for each in wanted if isinstance(each, Dataset))])
    for each in local.values():
        _check_same_data(each, out)
    _made(cache, "--cache")
    described = environment.describe()
    write_json(described, _made(out, "--out") / "environment.json")
    entries: list[Entry] = []
    done: list[Prepared] = []
    checked: set[Path] = set()
    try:
        for one in wanted:
            if isinstance(one, Path):
                dataset = local[one]
            else:
                with choose_progress(progress) as shown:
                    dataset = prepare(one, data, split=split, progress=shown)
                check_names([*done, dataset])
                _check_same_data(dataset, out)
            log.info("%s: %d documents, split %s", dataset.name, dataset.documents, dataset.split)
            done.append(dataset)
            task = _Task(dataset, chosen, k, limit, out, cache, described, progress, checked)
            for system in systems(spec, sparse=chosen.space.sparse):
                entries.append(task.entry(system))
    except (RetrError, OSError):
        if entries:
            _report_of_what_is_done(out)
        raise
    return entries


def measures(k: int, qrels: Qrels) -> list[str]:
    """Return what is evaluated on k hits: nDCG@10, RR@10, AP@k, recall up to k.

    Recall capped at 100 is among them if a query has more relevant documents than that.
    """
    names = ["nDCG@10", "RR@10", f"AP@{k}"]
    names += [f"R@{cutoff}" for cutoff in curve(k)]
    most = max(sum(grade > 0 for grade in judged.values()) for judged in qrels.values())
    if k >= 100 and most > 100:
        names.append("R_cap@100")
    return names


def curve(k: int) -> list[int]:
    """Return the cutoffs at which recall is evaluated on k hits."""
    return sorted({cutoff for cutoff in CURVE if cutoff <= k} | {k})


def evaluation_is_there() -> None:
    """Raise MissingExtraError before hours of work that could not be judged."""
    from ...retrieval.evaluation import parse_measures

    parse_measures("nDCG@10")


@dataclass(frozen=True, slots=True)
class _Task:
    """One data set in one space."""

    dataset: Prepared
    encoder: Encoder
    k: int
    limit: int | None
    out: Path
    cache: Path
    environment: Mapping[str, Any]
    progress: bool | None
    checked: set[Path]  # the collections that were compared with their checksums

    def entry(self, system: System) -> Entry:
        """Return the entry of a system, made if it is not there yet."""
        settings = Settings.of(system, self.encoder)
        key = self._key(system, settings)
        folder = self.out / self.dataset.slug / self._name(system, settings)
        known = load(folder)
        if known is not None and known.key == key and known.run_path.is_file():
            log.info("%s, %s: done before", self.dataset.name, system.label)
            return known
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # Its files are about to be replaced one by one.
            (folder / ENTRY).unlink(missing_ok=True)
            for left_over in folder.glob("*.part"):
                left_over.unlink()
        collection, made = self._collection(system)
        run, seconds = self._search(collection, system)
        write_run(run, folder / RUN, tag=folder.name)
        qrels = self._qrels()
        write_qrels(qrels, folder / QRELS)
        evaluation = evaluate(
            run,
            qrels,
            measures(self.k, qrels),
            drop_self=self.dataset.drop_self,
            name=system.label,
        )
        values = {name: dict(each) for name, each in evaluation.per_query.items()}
        ann = None
        if system.spec is not None and system.row == DENSE.row:
            ann = self._ann(run, values)
        plain = evaluation.to_dict()
        del plain["per_query"]
        entry = Entry(
            folder=folder,
            key=key,
            dataset=self._described(),
            system=asdict(system),
            encoder=settings.encoder,
            k=self.k,
            limit=self.limit,
            evaluation=plain,
            base=None if system.spec is None else self._name(exact(system), settings),
            ann=ann,
            missing=self._missing(collection, made),
            made={**made, "search_seconds": round(seconds, 3), "searched": len(run)},
            environment=self.environment,
            words=settings.words,
            fusion=settings.fusion,
        )
        save(entry, values)
        return entry

    def _collection(self, system: System) -> tuple[Collection, Mapping[str, Any]]:
        collection, made = exact_collection(
            self.dataset,
            self.encoder,
            self.cache,
            progress=self.progress,
            checked=self.checked,
        )
        if system.spec is None:
            return collection, {"build": made}
        indexed, index = indexed_collection(
            self.dataset, self.encoder, self.cache, system.spec, checked=self.checked
        )
        return indexed, {"build": made, "index": index}

    def _search(self, collection: Collection, system: System) -> tuple[Run, float]:
        """Return the run and how long the searching took, encoding of queries included."""
        depth = min(self.k + self.dataset.drop_self, MAX_K)
        queries = [
            Query(text=text, id=id)
            for id, text in self.dataset.queries.items()
            if id in self._qrels() and text.strip()
        ]
        run: Run = {}
        begin = time.monotonic()
        with choose_progress(self.progress) as shown:
            for block in _blocks(queries, max(16, _BLOCK_HITS // depth)):
                found = collection.search(block, depth, mode=system.mode)
                for query, results in zip(block, found, strict=True):
                    run[str(query.id)] = {hit.id: hit.score for hit in results}
                _show(shown, f"searching {self.dataset.name}", len(run), len(queries))
        return run, time.monotonic() - begin

    def _ann(self, run: Run, values: dict[str, dict[str, float]]) -> dict[str, float]:
        """Return the mean recall of exact search at 10 and k; add each query's to `values`."""
        nearest = read_run(self.entry(DENSE).run_path)
        ann = {}
        for cutoff in sorted({10, self.k}):
            each = recalls(nearest, run, cutoff)
            ann[str(cutoff)] = sum(each.values()) / len(each)
            # A query without a search has nothing to lose.
            values[f"ann_recall@{cutoff}"] = {q: each.get(q, 1.0) for q in self._qrels()}
        return ann

    def _qrels(self) -> Qrels:
        if self.limit is None:
            return self.dataset.qrels
        return dict(list(self.dataset.qrels.items())[: self.limit])

    def _missing(self, collection: Collection, made: Mapping[str, Any]) -> dict[str, int]:
        relevant = {
            document
            for judged in self._qrels().values()
            for document, grade in judged.items()
            if grade > 0
        }
        return {
            "empty_queries": sum(not self.dataset.queries[id].strip() for id in self._qrels()),
            "relevant_not_in_corpus": sum(document not in collection for document in relevant),
            "skipped_documents": made["build"]["skipped"],
        }

    def _described(self) -> dict[str, Any]:
        d = self.dataset
        return {
            "name": d.name,
            "slug": d.slug,
            "title": d.title,
            "split": d.split,
            "group": str(d.group),
            "registered": d.registered,
            "digest": d.digest,
            "corpus_digest": d.corpus_digest,
            "documents": d.documents,
            "queries": len(d.qrels),
        }

    def _name(self, system: System, settings: Settings) -> str:
        """Return the folder of a system: encoder or analyser, settings as digits, system."""
        # A trial must not take the place of the whole.
        depth = "" if self.k == DEFAULT_K else f"-k{self.k}"
        first = "" if self.limit is None else f"-first{self.limit}"
        return f"{settings.label}--{system.name}{depth}{first}"

    def _key(self, system: System, settings: Settings) -> str:
        """Return what stands for everything that the figures of a system depend on."""
        return digits(
            [
                self.dataset.digest,
                self.dataset.split,
                self.dataset.drop_self,
                self.dataset.registered,
                settings.key,
                asdict(system),
                self.k,
                self.limit,
            ]
        )


def _check(k: int, limit: int | None, out: Path) -> None:
    if not LEAST_K <= k < MAX_K:
        raise InputError(f"k is {k}: give {LEAST_K} (for nDCG@10) to {MAX_K - 1:,}")
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}: give a number of queries above 0")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; results go to a folder")


def _check_same_data(dataset: Prepared, out: Path) -> None:
    """Refuse to put results beside those of other data, or in their place."""
    for path in sorted((out / dataset.slug).glob(f"*/{ENTRY}")):
        known = load(path.parent)
        if known is not None and known.dataset["digest"] != dataset.digest:
            raise InputError(
                f"{out / dataset.slug}: has results of another data set called {dataset.slug}, or "
                f"of another version of {dataset.folder}; choose another --out, or remove it"
            )


def _report_of_what_is_done(out: Path) -> None:
    from .report import write

    try:
        write(out)
    except RetrError as error:
        log.warning("%s: no report of what is done (%s)", out, error)
    else:
        log.warning("what was done before the error is kept and reported: %s", out / "report.html")


def _made(folder: Path, option: str) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{folder}: cannot be made ({error.strerror}); choose another folder with {option}"
        ) from error
    return folder


def _blocks(queries: Sequence[Query], size: int) -> Iterator[list[Query]]:
    for start in range(0, len(queries), size):
        yield list(queries[start : start + size])


def _show(progress: Progress, label: str, done: int, total: int) -> None:
    progress.update(label, done, done, total)
