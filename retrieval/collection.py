"""The collection: a folder that holds everything, and the object that opens it.

Modules that only writers need are imported inside the methods that write, so that a first search
starts sooner.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack, overload

import numpy as np

from ..indexes.gpu.devices import on_device
from .encoders.base import Encoder, EncoderOptions, Space
from .filters.allowed import allowed_rows
from .info import overview
from .results.results import Results
from .search.path import check_k, search
from .search.plan import QUERY_BLOCK, SearchPlan, check_mode
from .search.queries import as_queries
from .search.rerank import DEFAULT_DEPTH, Reranker, Reranking, Score, open_reranker
from .segments.opening import check_settings, stored_encoder
from .segments.snapshot import Snapshot, open_newest
from .store.manifest import Role
from .store.store import Store
from .values.errors import InputError, ReadOnlyError, RetrError
from .values.progress import choose_progress
from .values.report import IngestReport
from .values.settings import Settings, check_recall, check_spec
from .values.types import Query

log = logging.getLogger("retr.collection")

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from .search.options import SearchOptions
    from .sources import SourceOptions
    from .sources.base import Source
    from .upgrade.backfill import BackfillReport
    from .values.settings import TermSettings


class Collection:
    """Searchable documents in a folder on disk.

    Create one with `retr.build`, open one with `retr.open`. The object reads one generation of
    the collection until `refresh` moves it to the newest; its own writes move it too. `search`
    may be called from many threads at once.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        encoder: str | Encoder | None = None,
        options: EncoderOptions | None = None,
        device: str | None = None,
        refresh_seconds: float | None = None,
        lock_seconds: float = 60.0,
    ) -> None:
        self._store = Store(Path(path), lock_seconds=lock_seconds)
        self._refresh_seconds = refresh_seconds
        self._lock = threading.Lock()
        self._encoders: dict[Space, Encoder] = {}
        self._old_encoders: dict[Space, Encoder | None] = {}
        self._device = device or (options.device if options is not None else None)
        self._rerankers: dict[str, Reranker] = {}
        self.report = IngestReport()
        self._snapshot = self._newest(None)
        self._looked = time.monotonic()
        if encoder is not None or options is not None:
            if device is not None and not isinstance(encoder, Encoder):
                options = replace(options or EncoderOptions(), device=device)
            self._encoders[self.space] = self._check_encoder(encoder, options)

    # --- properties

    @property
    def path(self) -> Path:
        """The collection's folder."""
        return self._store.path

    @property
    def generation(self) -> int:
        """The number of the generation that this object reads."""
        return self._snapshot.manifest.generation

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings chosen when the collection was built."""
        return self._snapshot.manifest.settings

    @property
    def space(self) -> Space:
        """The embedding space that queries are encoded into."""
        return self._snapshot.space

    @property
    def encoder(self) -> Encoder:
        """The encoder of queries and new documents, loaded on first use."""
        return self._encoder_of(self._snapshot)

    @property
    def has_passages(self) -> bool:
        """Whether documents were split into passages, so that a row is a passage."""
        return self._snapshot.has_passages

    def __len__(self) -> int:
        """Return the number of rows: documents, or passages if documents were split."""
        return len(self._snapshot)

    def __contains__(self, id: object) -> bool:
        return isinstance(id, str) and bool(len(self._snapshot.rows_of([id])[0]))

    def __repr__(self) -> str:
        return f"Collection({str(self.path)!r}, {len(self):,} rows, {self.space.encoder})"

    def info(self) -> dict[str, Any]:
        """Describe the collection as JSON values: counts, sizes, segments, spaces, upgrade."""
        return overview(self._snapshot, self.path)

    # --- reading

    @overload
    def search(
        self,
        query: str | Query | None = ...,
        k: int = ...,
        *,
        vector: ArrayLike | None = ...,
        **options: Unpack[SearchOptions],
    ) -> Results: ...
    @overload
    def search(
        self,
        query: Sequence[Query] | list[str] | tuple[str, ...],
        k: int = ...,
        **options: Unpack[SearchOptions],
    ) -> list[Results]: ...
    def search(
        self,
        query: str | Query | Sequence[Query] | list[str] | tuple[str, ...] | None = None,
        k: int = 10,
        *,
        vector: ArrayLike | None = None,
        mode: str | None = None,
        where: str | None = None,
        recall: float | str | None = None,
        ids: Sequence[str] | None = None,
        passages: bool = False,
        explain: bool = False,
        rerank: str | Reranker | Score | None = None,
        rerank_depth: int = DEFAULT_DEPTH,
    ) -> Results | list[Results]:
        """Return the k best hits for a query, or for each of several.

        query:    a text or a `Query`; a list of them returns a list of results.
        vector:   f32[dim], or f32[q, dim] for several queries, to search without texts. Together
                  with one text, it is used in place of the encoder's vector for that text.
        mode:     "hybrid" ranks by vectors and words, "dense" by vectors alone, "lexical" by words
                  alone; None is hybrid if the collection and the query have both.
        where:    search only documents whose metadata meets this SQL condition, such as
                  "year >= 2020 and lang = 'en'"; needs the extra `filter`.
        recall:   target recall of the vector index (0 to 1), looked up on the curve measured for
                  it; "exact" compares every vector; None uses the index's own setting.
        ids:      search only the documents with these ids.
        passages: return every matching passage of a document; by default, only its best.
        explain:  fill in `Hit.why` with the reasons for each hit.
        rerank:   reorder the first hits with a slower model: the name of a cross-encoder such as
                  "cross-encoder/ms-marco-MiniLM-L6-v2" (needs the extra `st`), a `Reranker`, or
                  a function that takes a query and a list of texts and returns their scores.
        rerank_depth: how many of the first hits to rerank; k if k is larger.

        Raises:
            InputError: the query is empty, the vector has the wrong shape or values, k is out of
                range, or the condition does not parse or names an unknown column.
        """
        k, chosen = check_k(k), check_mode(mode)
        target = None if recall is None else check_recall(recall)
        reranking = None if rerank is None else self._reranking(rerank, rerank_depth)
        self._refresh_when_due()
        snapshot = self._snapshot
        asked, many = as_queries(query, vector)
        rows = allowed_rows(snapshot, ids, where)
        found: list[Results] = []
        for start in range(0, len(asked), QUERY_BLOCK):
            block = asked[start : start + QUERY_BLOCK]
            with on_device(self._device):
                plan = SearchPlan(
                    snapshot,
                    block,
                    chosen,
                    lambda: self._encoder_of(snapshot),
                    rows,
                    target,
                    lambda: self._old_encoder_of(snapshot),
                )
                found += search(plan, k, passages=passages, explain=explain, rerank=reranking)
        return found if many else found[0]

    def refresh(self) -> int:
        """Move to the newest generation and return its number; cheap if there is no newer one."""
        with self._lock:
            newest = self._store.generations()
            if newest and newest[0] != self.generation:
                self._snapshot = self._newest(self._snapshot)
            self._looked = time.monotonic()
        return self.generation

    def verify(self) -> list[str]:
        """Check every file against its checksum; return one line for each damaged file."""
        return self._store.verify()

    # --- writing

    def add(
        self,
        source: object,
        *,
        options: SourceOptions | None = None,
        passages: bool | None = None,
        size: int | None = None,
        progress: bool | None = None,
        **how: Any,
    ) -> IngestReport:
        """Add documents; a document with a known id replaces the old one.

        source, options, passages, size, progress, how: as for `retr.build`.

        Raises:
            InputError: the source is empty or malformed; documents read before the error are
                kept.
        """
        from .sources import open_source

        opened = open_source(source, source_options(options, how))
        return self.ingest(opened, passages, size, progress, vanish=False)

    def ingest(
        self,
        source: Source,
        passages: bool | None,
        size: int | None,
        progress: bool | None,
        *,
        vanish: bool,
    ) -> IngestReport:
        """Ingest an open source; called by `add` and `retr.build`."""
        from .writing.commits import NewCollection
        from .writing.ingest import Ingest

        with self._writing() as snapshot, choose_progress(progress) as shown:
            encoder = self.encoder
            loading, settings = snapshot.manifest.encoder, snapshot.settings
            new = NewCollection(snapshot.space, loading, settings, encoder.modalities)
            ingest = Ingest(
                self._store, new, encoder, snapshot, shown, passages=passages, size=size
            )
            try:
                self.report = ingest.run(source, vanish=vanish)
            finally:
                self._move_to(ingest.snapshot)
        return self.report

    def delete(self, ids: str | Sequence[str]) -> int:
        """Delete documents by id and return how many were deleted. Unknown ids are ignored."""
        from .writing.commits import delete_rows
        from .writing.merging import merge_small

        asked = list(dict.fromkeys([ids] if isinstance(ids, str) else ids))
        wrong = next((id for id in asked if not isinstance(id, str)), None)
        if wrong is not None:
            raise InputError(f"delete: the id {wrong!r} is not a string")
        documents = 0

        def select(newest: Snapshot) -> Any:
            nonlocal documents
            found = [rows for rows in newest.rows_of(asked) if len(rows)]
            documents = len(found)
            return np.concatenate(found) if found else np.empty(0, np.int64)

        with self._writing() as snapshot:
            changed, _ = delete_rows(self._store, select, snapshot)
            if changed is not None:
                self._move_to(merge_small(self._store, changed))
        return documents

    def index(self, spec: str) -> None:
        """Build an index with this spec over the vectors, instead of scanning them exactly.

        Raises:
            InputError: the spec does not parse, its kind is unknown, or there are no vectors.
            MissingFaissError: faiss is not installed.
        """
        from .writing import commits, indexing

        spec = check_spec(spec)
        check_settings(self.space, Settings(spec=spec))
        with self._writing() as snapshot:
            loading = snapshot.manifest.encoder
            snapshot = commits.change_settings(self._store, {"spec": spec}, loading, snapshot)
            self._move_to(indexing.index_all(self._store, snapshot))

    def settle(
        self, fields: Mapping[str, Any], terms: TermSettings, progress: bool | None = None
    ) -> None:
        """Store the settings chosen for a build, and index what has no index yet.

        fields:   fields of `Settings`, by name; the others stay.
        terms:    how texts become terms, used if the collection does not index words yet.
        progress: show progress on stderr; None shows it on a terminal only.
        """
        from .writing import commits, indexing

        check_settings(self.space, Settings(**fields))
        encoder = self.encoder
        loading = {"name": encoder.name, "options": encoder.options.to_json()}
        with self._writing() as snapshot, choose_progress(progress) as shown:
            snapshot = commits.change_settings(self._store, fields, loading, snapshot)
            self._move_to(snapshot)
            if snapshot.settings.terms is None:
                snapshot = indexing.index_words(self._store, snapshot, terms)
                self._move_to(snapshot)
            self._move_to(indexing.settle(self._store, snapshot, shown))

    def tune(
        self,
        queries: Sequence[str | Query] | None = None,
        qrels: Mapping[str, Mapping[str, int]] | None = None,
        *,
        recall: float | str | None = None,
    ) -> dict[str, Any]:
        """Measure the indexes again, and fit the weight of vectors against words.

        queries: queries like those that users will ask; None measures the indexes on queries
                 made from the vectors.
        qrels:   {query id: {document id: grade}}, to fit the weight on; the queries then need
                 ids. None keeps the weight.
        recall:  the new target recall of the indexes; None keeps the present one.

        Returns {"indexes": the measurements of each index, "fusion": the fit or None}.

        Raises:
            InputError: too few queries are judged, or there is nothing to tune.
            MissingExtraError: a fit needs ir_measures, which is not installed.
        """
        from .tuning import tune

        target = None if recall is None else check_recall(recall)
        asked = None if queries is None else as_queries(list(queries), None)[0]
        with self._writing() as snapshot:
            tuned, report = tune(
                self._store, snapshot, asked, qrels, target, lambda: self._encoder_of(snapshot)
            )
            self._move_to(tuned)
        return report

    # --- replacing the encoder

    def upgrade(
        self,
        to: str | Encoder,
        *,
        options: EncoderOptions | None = None,
        sample: int = 5_000,
        queries: Sequence[str | Query] | None = None,
        qrels: Mapping[str, Mapping[str, int]] | None = None,
        dry_run: bool = False,
        force: bool = False,
        both: bool | None = None,
        confirm: Callable[[Mapping[str, Any]], bool] | None = None,
        progress: bool | None = None,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Start replacing the encoder: from now on, the new encoder encodes the queries.

        Both encoders embed a sample of rows, and a bridge fitted on it carries queries over to the
        old vectors; no other vector changes. `map_upgrade` and `backfill` replace the old vectors,
        `finish_upgrade` drops them, and until then `rollback_upgrade` can go back at any time.

        to:      the new encoder: its name or an `Encoder`.
        options: options for an encoder given by name.
        sample:  how many rows to embed for the fit.
        queries: queries like those that users will ask. A few hundred help if an encoder encodes
                 queries differently from documents.
        qrels:   {query id: {document id: grade}}, for queries with ids. With them the report
                 gives quality; without, agreement with the new encoder's own ranking.
        dry_run: only measure and report.
        force:   start even if the report finds nothing in common between the two encoders.
        both:    also have the old encoder encode each query text, to search the old vectors. None
                 does so if the judged queries show that this beats the bridge alone.
        confirm: called with the report; the upgrade does not start if it returns False.
        progress: show progress on stderr; None shows it on a terminal only.
        seed:    of the choice of the sample.

        Returns {"started": whether the upgrade has started, "from", "to", "gate": the
        measurements}.

        Raises:
            InputError: an upgrade is already under way, the encoder is of the same space, there is
                no text to embed, the encoders have nothing in common and `force` is not set, or
                `both` is set and the old encoder cannot be loaded.
        """
        from .upgrade.starting import UpgradeRequest, start

        request = UpgradeRequest(
            to, options or EncoderOptions(), sample, dry_run, force, both, confirm, seed
        )
        asked = [] if queries is None else as_queries(list(queries), None)[0]
        with self._writing() as snapshot:
            encoder = request.opened(self.path)
            started, report = start(
                self._store,
                snapshot,
                encoder,
                request,
                (asked, qrels),
                lambda: self._encoder_of(snapshot),
                progress,
            )
            if report["started"]:
                self._encoders[encoder.space] = encoder
                self._move_to(started)
        return report

    def map_upgrade(self, progress: bool | None = None) -> int:
        """Map the old vectors into the new encoder's space; return how many were mapped.

        No encoder is called. A mapped vector is found better than an old one through the bridge;
        the row still awaits the new encoder's vector.

        Raises:
            InputError: no upgrade is under way.
        """
        from .upgrade.steps import map_all

        with self._writing() as snapshot, choose_progress(progress) as shown:
            changed, mapped = map_all(self._store, snapshot, shown)
            self._move_to(changed)
        return mapped

    def backfill(
        self,
        rows: int | None = None,
        *,
        seconds: float | None = None,
        order: str | None = None,
        clicks: Mapping[str, float] | None = None,
        progress: bool | None = None,
    ) -> BackfillReport:
        """Re-embed rows with the encoder of the queries; call it again to continue.

        rows:    re-embed at most this many rows; None has no limit.
        seconds: stop after this long; None has no limit.
        order:   which rows to embed first: "clicks" (those that users open most), "residual" (those
                 whose new vectors are expected to improve searches most) or "random". None takes
                 the first of these that has the data it needs.
        clicks:  how often each document was opened or found, by id.
        progress: show progress on stderr; None shows it on a terminal only.

        Raises:
            InputError: no row awaits re-embedding, or the data for the order is missing.
        """
        from .upgrade.backfill import backfill

        with self._writing() as snapshot, choose_progress(progress) as shown:
            run = backfill(self._store, snapshot, self.encoder, shown, order, clicks)
            try:
                report = run.run(rows, seconds)
            finally:
                self._move_to(run.snapshot)
        return report

    def finish_upgrade(self, *, keep_mapped: bool = False, drop_rest: bool = False) -> None:
        """Drop the old vectors; after that, there is no way back.

        keep_mapped: finish even if some rows have mapped vectors only; `backfill` can embed them
                     later.
        drop_rest:   finish even if some rows have neither; only their words find them then.

        Raises:
            InputError: no upgrade is under way, or rows still await the new encoder.
        """
        from .upgrade.steps import finish

        kept = {"keep_mapped": keep_mapped, "drop_rest": drop_rest}
        with self._writing() as snapshot:
            self._move_to(finish(self._store, snapshot, **kept))

    def rollback_upgrade(self, *, encoder: str | Encoder | None = None) -> int:
        """Go back to the old encoder at once; return how many rows await it.

        Documents added or changed since the upgrade started have vectors of the new encoder only.
        A bridge keeps them findable until `backfill` has re-embedded them with the old one.

        encoder: the old encoder, if it cannot be loaded by its stored name.

        Raises:
            InputError: no upgrade is under way, or the old encoder cannot be loaded.
        """
        from .upgrade.steps import old_encoder, roll_back

        with self._writing() as snapshot:
            old = old_encoder(snapshot, encoder, self._encoders, self.path)
            self._encoders[old.space] = old
            self._move_to(roll_back(self._store, snapshot))
        status = self.upgrade_status()
        return int(status["rows"]) - int(status["new"])

    def upgrade_status(self) -> dict[str, Any]:
        """Return the progress of an upgrade as JSON values: shares, rate, measurements."""
        from .upgrade.status import status

        return status(self._snapshot)

    def compact(self) -> None:
        """Merge the segments, drop deleted rows, and remove files that are no longer needed."""
        from .writing.indexing import index_all
        from .writing.merging import merge_all

        with self._writing() as snapshot:
            snapshot = merge_all(self._store, snapshot)
            if any(s.index for s in snapshot.manifest.of_role(Role.DENSE)):
                snapshot = index_all(self._store, snapshot)
            self._move_to(snapshot)

    def vacuum(self) -> list[str]:
        """Remove files that the last two generations do not need; return the files' names."""
        return self._store.vacuum()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    # --- inside

    def _newest(self, previous: Snapshot | None) -> Snapshot:
        snapshot, self._damaged = open_newest(self._store, previous)
        self._warn_of_damage(snapshot.manifest.generation)
        return snapshot

    def _warn_of_damage(self, generation: int) -> None:
        if self._damaged:
            log.warning(
                "%s is damaged: opened generation %d, read-only; to write again: "
                "retr index repair --index %s",
                self._store.manifest_path(self._damaged[0]),
                generation,
                self.path,
            )

    @contextmanager
    def _writing(self) -> Iterator[Snapshot]:
        """Yield the newest generation to a writer; afterwards, remove the files it replaced.

        The writer moves this object to each commit it makes, so a later error undoes nothing.

        Raises:
            ReadOnlyError: the newest generation is damaged.
        """
        self._check_writable()
        self.refresh()
        with on_device(self._device):
            yield self._snapshot
        self._store.vacuum()

    def _check_writable(self) -> None:
        if self._damaged:
            raise ReadOnlyError(
                f"{self.path}: is read-only because its newest generation is damaged; "
                f"go back to the last undamaged one with: retr index repair --index {self.path}"
            )

    def _encoder_of(self, snapshot: Snapshot) -> Encoder:
        """Return the encoder of a generation, which may differ from this object's own."""
        with self._lock:
            known = self._encoders.get(snapshot.space)
            if known is None:
                options = None if self._device is None else EncoderOptions(device=self._device)
                known = self._check_encoder(None, options, snapshot)
                self._encoders[snapshot.space] = known
            return known

    def _old_encoder_of(self, snapshot: Snapshot) -> Encoder | None:
        """Return the old encoder of an upgrade; warn and return None if it cannot be loaded."""
        from .upgrade.steps import load_old_encoder

        upgrade = snapshot.manifest.upgrade
        if upgrade is None:
            return None
        space = snapshot.spaces[upgrade.source]
        with self._lock:
            if space not in self._old_encoders:
                try:
                    known = self._encoders.get(space) or load_old_encoder(
                        snapshot, upgrade, self.path
                    )
                    self._old_encoders[space] = known
                except RetrError as error:
                    log.warning("%s; queries reach the old vectors through the bridge only", error)
                    self._old_encoders[space] = None
            return self._old_encoders[space]

    def _check_encoder(
        self,
        given: str | Encoder | None,
        options: EncoderOptions | None,
        snapshot: Snapshot | None = None,
    ) -> Encoder:
        """Return the encoder given, or the collection's own, checked to be of its space."""
        return stored_encoder((snapshot or self._snapshot).manifest, given, options, self.path)

    def _reranking(self, rerank: object, depth: int) -> Reranking:
        """Return how to rerank; a model loaded by name stays loaded with the collection."""
        depth = check_k(depth, "rerank_depth")
        if not isinstance(rerank, str):
            return Reranking(open_reranker(rerank), depth)
        if rerank not in self._rerankers:
            self._rerankers[rerank] = open_reranker(rerank, self._device)
        return Reranking(self._rerankers[rerank], depth)

    def _move_to(self, snapshot: Snapshot | None) -> None:
        with self._lock:
            if snapshot is not None and snapshot.manifest.generation > self.generation:
                self._snapshot = snapshot

    def _refresh_when_due(self) -> None:
        due = self._refresh_seconds
        if due is not None and time.monotonic() - self._looked >= due:
            self.refresh()


def source_options(options: SourceOptions | None, how: Mapping[str, Any]) -> SourceOptions:
    """Return the options of a source; options given by name override those of the object.

    Raises:
        InputError: an option has an unknown name.
    """
    from .sources import SourceOptions

    known = [field.name for field in fields(SourceOptions)]
    for name in how:
        if name not in known:
            raise InputError(f"unknown source option {name!r}; the options are {', '.join(known)}")
    return replace(options or SourceOptions(), **how)


def open(
    path: str | os.PathLike[str],
    *,
    encoder: str | Encoder | None = None,
    options: EncoderOptions | None = None,
    device: str | None = None,
    refresh_seconds: float | None = None,
) -> Collection:
    """Open an existing collection.

    path:            the collection's folder.
    encoder:         needed only if the encoder cannot be loaded by its stored name, such as your
                     own encoder, or a model that has moved. It must be of the collection's space.
    options:         options for the encoder, such as `max_length`, in place of the stored ones.
    device:          where to encode, search and build: "cpu", "cuda" or "cuda:1"; None uses a GPU
                     if torch or FAISS can use one.
    refresh_seconds: before a search, look for a newer generation, at most this often; None looks
                     only when `refresh` is called.

    Raises:
        CollectionNotFoundError: the folder holds no collection.
        SpaceMismatchError: the encoder is of another space; the message names both.
        DamagedError: the collection cannot be read.
    """
    return Collection(
        path, encoder=encoder, options=options, device=device, refresh_seconds=refresh_seconds
    )
