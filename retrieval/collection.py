"""The collection: the folder with everything in it, and the object a user holds.

What only writers need is imported where it is used, so that a search starts sooner.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np

from ..indexes.base import MissingFaissError
from ..indexes.gpu.devices import on_device
from .encoders.base import Encoder, EncoderOptions, Space
from .filters.allowed import allowed_rows
from .info import overview
from .results.results import Results
from .search.path import check_k, search
from .search.plan import QUERY_BLOCK, Sides, check_mode
from .search.queries import as_queries
from .search.rerank import DEFAULT_DEPTH, Reranker, Reranking, Score, open_reranker
from .segments.opening import stored_encoder
from .segments.snapshot import Snapshot, open_newest
from .store.manifest import Role
from .store.store import Store
from .values.errors import InputError, ReadOnlyError, RetrError
from .values.progress import choose_progress
from .values.report import IngestReport
from .values.settings import IndexWish, check_recall, check_spec
from .values.types import Query

log = logging.getLogger("retr.collection")

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from .sources import SourceOptions
    from .sources.base import Source
    from .upgrade.backfill import BackfillReport
    from .values.settings import TermSettings


class Collection:
    """Documents that can be searched, in a folder on disk.

    Make one with `retr.build`, open one with `retr.open`. A collection looks at one generation
    until `refresh` moves it on; its own writes move it on by themselves. `search` may be called
    from many threads at once.
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
        self._former: dict[Space, Encoder | None] = {}
        self._device = device or (options.device if options is not None else None)
        self._rerankers: dict[str, Reranker] = {}
        self.report = IngestReport()
        self._snapshot = self._newest(None)
        self._looked = time.monotonic()
        if encoder is not None or options is not None:
            if device is not None and not isinstance(encoder, Encoder):
                options = replace(options or EncoderOptions(), device=device)
            self._encoders[self.space] = self._check_encoder(encoder, options)

    # --- what it is

    @property
    def path(self) -> Path:
        """The folder."""
        return self._store.path

    @property
    def generation(self) -> int:
        """The number of the generation this object looks at."""
        return self._snapshot.manifest.generation

    @property
    def settings(self) -> Mapping[str, Any]:
        """What was chosen when the collection was built."""
        return self._snapshot.manifest.settings

    @property
    def space(self) -> Space:
        """The embedding space that queries are encoded into."""
        return self._snapshot.space

    @property
    def encoder(self) -> Encoder:
        """The encoder of queries and new documents, loaded when it is first asked for."""
        return self._encoder_of(self._snapshot)

    @property
    def has_passages(self) -> bool:
        """Whether documents were split, so that a row is a passage."""
        return self._snapshot.has_passages

    def __len__(self) -> int:
        """Return the number of rows: documents, or passages where they were split."""
        return len(self._snapshot)

    def __contains__(self, id: object) -> bool:
        return isinstance(id, str) and bool(len(self._snapshot.rows_of([id])[0]))

    def __repr__(self) -> str:
        return f"Collection({str(self.path)!r}, {len(self):,} rows, {self.space.encoder})"

    def info(self) -> dict[str, Any]:
        """Return what there is to know, as JSON values: counts, sizes, segments, spaces."""
        return overview(self._snapshot, self.path)

    # --- reading

    @overload
    def search(
        self,
        query: str | Query | None = ...,
        k: int = ...,
        *,
        vector: ArrayLike | None = ...,
        mode: str | None = ...,
        where: str | None = ...,
        recall: float | str | None = ...,
        ids: Sequence[str] | None = ...,
        passages: bool = ...,
        explain: bool = ...,
        rerank: str | Reranker | Score | None = ...,
        rerank_depth: int = ...,
    ) -> Results: ...
    @overload
    def search(
        self,
        query: Sequence[Query] | list[str] | tuple[str, ...],
        k: int = ...,
        *,
        mode: str | None = ...,
        where: str | None = ...,
        recall: float | str | None = ...,
        ids: Sequence[str] | None = ...,
        passages: bool = ...,
        explain: bool = ...,
        rerank: str | Reranker | Score | None = ...,
        rerank_depth: int = ...,
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

        query:    a text or a `Query`; a list of them gives a list of results.
        vector:   f32[dim], or f32[q, dim] for several queries, in place of texts; beside one
                  text it stands for what the encoder would make of it.
        mode:     "hybrid" ranks by vectors and words, "dense" by vectors alone, "lexical" by words
                  alone; None is hybrid where the collection and the query have both.
        where:    search among the documents that meet a SQL condition on their metadata, such as
                  "year >= 2020 and lang = 'en'"; needs the extra `filter`.
        recall:   what of the true best the vectors' index is to find, along the curve that was
                  measured on it; "exact" compares every vector; None is what it is set to.
        ids:      search among these documents only.
        passages: let several passages of one document stand in the results; otherwise the best.
        explain:  say of each hit why it was found, in `Hit.why`.
        rerank:   order the first hits anew: the name of a cross-encoder such as
                  "cross-encoder/ms-marco-MiniLM-L6-v2" (needs the extra `st`), a `Reranker`, or
                  a function that takes a query and a list of texts and returns their scores.
        rerank_depth: how many of the first hits are reranked, or k where that is more.

        Raises:
            InputError: the query is empty, the vector does not fit, k is out of range, or the
            condition names a column that is not there or does not parse.
        """
        k, chosen = check_k(k), check_mode(mode)
        wanted = None if recall is None else check_recall(recall)
        reranking = None if rerank is None else self._reranking(rerank, rerank_depth)
        self._refresh_when_due()
        snapshot = self._snapshot
        asked, many = as_queries(query, vector)
        rows = allowed_rows(snapshot, ids, where)
        found: list[Results] = []
        for start in range(0, len(asked), QUERY_BLOCK):
            block = asked[start : start + QUERY_BLOCK]
            with on_device(self._device):
                sides = Sides(
                    snapshot,
                    block,
                    chosen,
                    lambda: self._encoder_of(snapshot),
                    rows,
                    wanted,
                    lambda: self._former_of(snapshot),
                )
                found += search(sides, k, passages=passages, explain=explain, rerank=reranking)
        return found if many else found[0]

    def refresh(self) -> int:
        """Move to the newest generation and return its number; cheap where there is none."""
        with self._lock:
            newest = self._store.generations()
            if newest and newest[0] != self.generation:
                self._snapshot = self._newest(self._snapshot)
            self._looked = time.monotonic()
        return self.generation

    def verify(self) -> list[str]:
        """Compare every file with its checksum; return one line for each that is wrong."""
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
        """Add documents; one whose id is there already replaces it.

        source, options, passages, size, progress, how: as for `retr.build`.

        Raises:
            InputError: the source is empty or malformed; what came before it is kept.
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
        """Take in a source that is open; `add` and `retr.build` are the ways to call it."""
        from .writing.commits import Birth
        from .writing.ingest import Ingest

        self._check_writable()
        self.refresh()
        manifest = self._snapshot.manifest
        modalities = self.encoder.modalities
        birth = Birth(self.space, manifest.encoder, manifest.settings, modalities)
        with choose_progress(progress) as shown:
            ingest = Ingest(
                self._store,
                birth,
                self.encoder,
                self._snapshot,
                shown,
                passages=passages,
                size=size,
            )
            try:
                self.report = ingest.run(source, vanish=vanish)
            finally:
                self._move_to(ingest.snapshot)
        self._clear_away()
        return self.report

    def delete(self, ids: str | Sequence[str]) -> int:
        """Delete documents by id; return how many there were. Unknown ids are passed over."""
        from .writing.commits import delete_rows
        from .writing.merging import merge_small

        wanted = list(dict.fromkeys([ids] if isinstance(ids, str) else ids))
        wrong = next((id for id in wanted if not isinstance(id, str)), None)
        if wrong is not None:
            raise InputError(f"delete: the id {wrong!r} is not a text")
        self._check_writable()
        documents = 0

        def select(newest: Snapshot) -> Any:
            nonlocal documents
            found = [rows for rows in newest.rows_of(wanted) if len(rows)]
            documents = len(found)
            return np.concatenate(found) if found else np.empty(0, np.int64)

        changed, _ = delete_rows(self._store, select, self._snapshot)
        if changed is not None:
            self._move_to(merge_small(self._store, changed))
            self._clear_away()
        return documents

    def index(self, spec: str) -> None:
        """Build an index of this spec over the vectors, in place of scanning them exactly.

        Raises:
            InputError: the spec does not parse, there is no such kind, or there are no vectors.
            MissingFaissError: faiss is not installed.
        """
        from .writing import commits, indexing

        spec = check_spec(spec)
        commits.check_settings(self.space, {"spec": spec})
        self._check_writable()
        stored = self._snapshot.manifest.encoder
        snapshot = commits.change_settings(self._store, {"spec": spec}, stored, self._snapshot)
        wish = IndexWish.of(snapshot.manifest.settings)
        with on_device(self._device):
            self._move_to(indexing.index_all(self._store, snapshot, wish))
        self._clear_away()

    def settle(
        self, settings: Mapping[str, Any], terms: TermSettings, progress: bool | None = None
    ) -> None:
        """Store what was chosen at a build, and index what has no index yet.

        terms:    how texts become terms, where the collection does not keep their words yet.
        progress: show it on stderr; None does on a terminal.
        """
        from .values.settings import TermSettings
        from .writing import commits, indexing

        commits.check_settings(self.space, settings)
        encoder = self.encoder
        loading = {"name": encoder.name, "options": encoder.options.to_json()}
        self._move_to(commits.change_settings(self._store, settings, loading, self._snapshot))
        if TermSettings.of(self.settings) is None:
            self._move_to(indexing.index_words(self._store, self._snapshot, terms))
        wish = IndexWish.of(self.settings)
        try:
            if not wish.is_open:
                with choose_progress(progress) as shown:
                    late = indexing.LATE
                    self._move_to(
                        indexing.index_all(
                            self._store, self._snapshot, wish, late=late, progress=shown
                        )
                    )
        except MissingFaissError as error:
            log.warning(
                "the segments are scanned exactly, without the index %s: %s", wish.spec, error
            )
        self._clear_away()

    def tune(
        self,
        queries: Sequence[str | Query] | None = None,
        qrels: Mapping[str, Mapping[str, int]] | None = None,
        *,
        recall: float | str | None = None,
    ) -> dict[str, Any]:
        """Measure the indexes again, and fit the weight of vectors against words.

        queries: of the kind that will be asked; without them the indexes are measured on queries
                 made from the vectors.
        qrels:   grade by document id by query id, which the weight is fitted on; the queries need
                 ids then. Without judgments the weight stays.
        recall:  what the indexes are set to; None keeps what was asked for before.

        Returns {"indexes": what was measured on each, "fusion": the fit or None}.

        Raises:
            InputError: too few queries are judged, or there is nothing to tune.
            MissingExtraError: ir_measures is not installed, for a fit.
        """
        from .tuning import tune

        self._check_writable()
        self.refresh()
        wanted = None if recall is None else check_recall(recall)
        asked = None if queries is None else as_queries(list(queries), None)[0]
        with on_device(self._device):
            snapshot, report = tune(
                self._store, self._snapshot, asked, qrels, wanted, lambda: self.encoder
            )
        self._move_to(snapshot)
        self._clear_away()
        return report

    # --- another encoder

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
        """Begin to replace the encoder: queries are the new one's from now on.

        A sample is embedded by both, a bridge takes queries to the vectors that are there, and no
        other vector is touched. `map_upgrade` and `backfill` turn those over, `finish_upgrade`
        drops the old ones, `rollback_upgrade` goes back at any time before.

        to:      the new encoder, with its options.
        sample:  how many rows are embedded for it.
        queries: of the kind that will be asked: some hundreds help where an encoder treats
                 queries in a way of its own.
        qrels:   grade by document id by query id, for queries with ids: then the report says
                 quality, and else agreement with the new encoder's own ranking.
        dry_run: only measure and report.
        force:   begin although the report says that the two encoders have nothing in common.
        both:    have the old encoder encode texts that are searched for as well, for the old
                 vectors. None does where judged queries say that a bridge is worse than that.
        confirm: is given the report, and begins nothing where it returns False.

        Returns {"started": whether it has begun, "from", "to", "gate": what was measured}.

        Raises:
            InputError: an upgrade is under way, the encoder is of the same space, there is no
                text to embed, nothing was found in common and `force` is not given, or `both` is
                and the old encoder cannot be loaded.
        """
        from .upgrade.starting import Wanted, start

        self._check_writable()
        self.refresh()
        wanted = Wanted(
            to, options or EncoderOptions(), sample, dry_run, force, both, confirm, seed
        )
        asked = [] if queries is None else as_queries(list(queries), None)[0]
        snapshot, encoder = self._snapshot, wanted.opened(self.path)
        moved, report = start(
            self._store,
            snapshot,
            encoder,
            wanted,
            (asked, qrels),
            lambda: self._encoder_of(snapshot),
            progress,
        )
        if report["started"]:
            self._encoders[encoder.space] = encoder
            self._move_to(moved)
            self._clear_away()
        return report

    def map_upgrade(self, progress: bool | None = None) -> int:
        """Map the old vectors to where the new encoder's queries look for them; return how many.

        No encoder is called. Rows with a mapped vector are found better than through the bridge,
        and still await the new encoder's.

        Raises:
            InputError: no upgrade is under way.
        """
        from .upgrade.steps import map_all

        self._check_writable()
        self.refresh()
        with choose_progress(progress) as shown:
            snapshot, mapped = map_all(self._store, self._snapshot, shown)
        self._move_to(snapshot)
        self._clear_away()
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
        """Embed rows anew, by the encoder of the queries; run it again to go on.

        rows, seconds: stop after so many, or so long; None goes on to the last row.
        order:   "clicks", "residual" (first those that the map is expected to miss by most where it
                 matters) or "random"; None takes the first that there is something to go by.
        clicks:  how often each document was opened or found, by id.

        Raises:
            InputError: nothing awaits it, or the order asks for what is not there.
        """
        from .upgrade.backfill import backfill

        self._check_writable()
        self.refresh()
        with on_device(self._device), choose_progress(progress) as shown:
            run = backfill(self._store, self._snapshot, self.encoder, shown, order, clicks)
            try:
                report = run.run(rows, seconds)
            finally:
                self._move_to(run.snapshot)
        self._clear_away()
        return report

    def finish_upgrade(self, *, keep_mapped: bool = False, drop_rest: bool = False) -> None:
        """Drop the old vectors: from then on there is no way back.

        keep_mapped: although rows have mapped vectors only; `backfill` can go on later.
        drop_rest:   although rows have neither, and are found by their words alone then.

        Raises:
            InputError: no upgrade is under way, or rows still await the new encoder.
        """
        from .upgrade.steps import finish

        self._check_writable()
        self.refresh()
        kept = {"keep_mapped": keep_mapped, "drop_rest": drop_rest}
        self._move_to(finish(self._store, self._snapshot, **kept))
        self._clear_away()

    def rollback_upgrade(self, *, encoder: str | Encoder | None = None) -> int:
        """Go back to the old encoder at once; return how many rows await it.

        What was added or changed since has vectors of the newer encoder only and stays to be
        found, through a bridge, until `backfill` has embedded it with the old one.

        encoder: the old one, where it cannot be loaded by the name that is stored.

        Raises:
            InputError: no upgrade is under way, or the old encoder cannot be loaded.
        """
        from .upgrade.steps import old_encoder, roll_back

        self._check_writable()
        self.refresh()
        former = old_encoder(self._snapshot, encoder, self._encoders, self.path)
        self._encoders[former.space] = former
        self._move_to(roll_back(self._store, self._snapshot))
        self._clear_away()
        status = self.upgrade_status()
        return int(status["rows"]) - int(status["new"])

    def upgrade_status(self) -> dict[str, Any]:
        """Return where an upgrade stands, as JSON values: shares, rate, what was measured."""
        from .upgrade.steps import status

        return status(self._snapshot)

    def compact(self) -> None:
        """Merge the segments, leave out the deleted rows, and clear away what is not needed."""
        from .writing.indexing import index_all
        from .writing.merging import merge_all

        self._check_writable()
        self.refresh()
        snapshot = merge_all(self._store, self._snapshot)
        wish = IndexWish.of(snapshot.manifest.settings)
        if any(s.index for s in snapshot.manifest.of_role(Role.DENSE)):
            with on_device(self._device):
                snapshot = index_all(self._store, snapshot, wish)
        self._move_to(snapshot)
        self._clear_away()

    def vacuum(self) -> list[str]:
        """Remove files that the last two generations do not need; return their names."""
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
                "%s is damaged: opened generation %d, read-only, until: "
                "retr index repair --index %s",
                self._store.manifest_path(self._damaged[0]),
                generation,
                self.path,
            )

    def _check_writable(self) -> None:
        if self._damaged:
            raise ReadOnlyError(
                f"{self.path}: is read-only, its newest generation is damaged; "
                f"go on from the last whole one with: retr index repair --index {self.path}"
            )

    def _encoder_of(self, snapshot: Snapshot) -> Encoder:
        """Return the encoder of a generation, which may have another one than this object's."""
        with self._lock:
            known = self._encoders.get(snapshot.space)
            if known is None:
                asked = None if self._device is None else EncoderOptions(device=self._device)
                known = self._check_encoder(None, asked, snapshot)
                self._encoders[snapshot.space] = known
            return known

    def _former_of(self, snapshot: Snapshot) -> Encoder | None:
        """Return the encoder that an upgrade leaves; None, and a warning, where it is not there."""
        from .upgrade.steps import former_encoder

        upgrade = snapshot.manifest.upgrade
        if upgrade is None:
            return None
        space = snapshot.spaces[upgrade.source]
        with self._lock:
            if space not in self._former:
                try:
                    known = self._encoders.get(space)
                    self._former[space] = known or former_encoder(snapshot, upgrade, self.path)
                except RetrError as error:
                    log.warning("%s; queries reach the old vectors through a bridge alone", error)
                    self._former[space] = None
            return self._former[space]

    def _check_encoder(
        self,
        given: str | Encoder | None,
        options: EncoderOptions | None,
        snapshot: Snapshot | None = None,
    ) -> Encoder:
        """Return the encoder asked for, or the collection's own, if it is of this space."""
        return stored_encoder((snapshot or self._snapshot).manifest, given, options, self.path)

    def _reranking(self, rerank: object, depth: int) -> Reranking:
        """Return how to rerank; a model that is loaded by its name stays with the collection."""
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

    def _clear_away(self) -> None:
        """Remove what merges have replaced; a reader keeps what it has mapped."""
        self._store.vacuum()


def source_options(options: SourceOptions | None, how: Mapping[str, Any]) -> SourceOptions:
    """Return the options of a source, those given by name over those given as an object.

    Raises:
        InputError: there is no option of that name.
    """
    from .sources import SourceOptions

    known = [field.name for field in fields(SourceOptions)]
    for name in how:
        if name not in known:
            raise InputError(f"there is no option {name!r} of a source; there are {known}")
    return replace(options or SourceOptions(), **how)


def open(
    path: str | os.PathLike[str],
    *,
    encoder: str | Encoder | None = None,
    options: EncoderOptions | None = None,
    device: str | None = None,
    refresh_seconds: float | None = None,
) -> Collection:
    """Open a collection that exists.

    path:            its folder.
    encoder:         only where it cannot be loaded by the name that is stored: one's own, or a
                     model that has moved. It has to be of the collection's space.
    options:         other options for the encoder, such as `max_length`.
    device:          where to encode, search and build: "cpu", "cuda" or "cuda:1"; None is a GPU
                     where there is one that torch, or FAISS, can use.
    refresh_seconds: look for a newer generation before a search, at most this often; None looks
                     only when `refresh` is called.

    Raises:
        CollectionNotFoundError: there is none.
        SpaceMismatchError: the encoder is of another space; both are printed.
        DamagedError: it cannot be read.
    """
    return Collection(
        path, encoder=encoder, options=options, device=device, refresh_seconds=refresh_seconds
    )
