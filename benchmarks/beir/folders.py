"""A BEIR folder on the disk: its queries and judgments, and what tells it from any other."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...retrieval.evaluation import Qrels, read_qrels
from ...retrieval.sources.beir import corpus_of
from ...retrieval.sources.records import json_records
from ...retrieval.sources.streams import Lines
from ...retrieval.values.errors import InputError, RetrError
from ...retrieval.values.progress import Progress
from .datasets import DATASETS, Dataset, Group
from .download import fetch_dataset

log = logging.getLogger("retr.benchmarks")

_QUERIES = ("queries.jsonl", "queries.jsonl.gz", "queries.jsonl.zst")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A data set that is ready to be run.

    name:          as it is printed; `slug` is the name of its folder in the output.
    title:         how papers write it.
    folder:        where it lies.
    split:         whose judgments.
    group:         which mean it is part of.
    drop_self:     whether the document whose id is the query's does not count.
    registered:    whether it is the published set, so that published figures apply.
    queries:       query id -> text, of the judged queries.
    qrels:         query id -> document id -> relevance.
    documents:     the number of documents, counted as lines of the corpus.
    corpus_digest: of the corpus.
    digest:        of the corpus, the queries and the judgments.
    """

    name: str
    slug: str
    title: str
    folder: Path
    split: str
    group: Group
    drop_self: bool
    registered: bool
    queries: Mapping[str, str] = field(repr=False)
    qrels: Qrels = field(repr=False)
    documents: int
    corpus_digest: str
    digest: str


def prepare(
    wanted: Dataset | Path,
    data: Path,
    *,
    split: str | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Return a data set, downloaded into `data` if it is a published one that is missing there.

    wanted: a published data set, or a folder in BEIR's layout. A folder that has the name, the
            number of documents and of judged queries of a published set is taken for it.
    split:  the judgments; None is the published set's, or `test`, or the only ones there.

    Raises:
        InputError: the folder lacks something, or a line of it is wrong.
        DownloadError, StorageError: it cannot be downloaded.
    """
    if isinstance(wanted, Dataset):
        folder = data.joinpath(*wanted.name.split("/"))
        fetch_dataset(wanted.url, wanted.md5, folder, data, progress=progress)
        known: Dataset | None = wanted
    else:
        folder = wanted
        known = DATASETS.get(folder.name) or DATASETS.get(f"{folder.parent.name}/{folder.name}")
    corpus = corpus_of(folder)
    if corpus is None:
        raise InputError(f"{folder} is no BEIR folder: it has no corpus.jsonl")
    queries_file = next((folder / name for name in _QUERIES if (folder / name).is_file()), None)
    if queries_file is None:
        raise InputError(f"{folder} is no BEIR folder: it has no queries.jsonl")
    chosen = _split(folder, split, known)
    qrels_file = folder / "qrels" / f"{chosen}.tsv"
    qrels = read_qrels(qrels_file)
    corpus_digest, documents = _digest_of_corpus(corpus)
    whole = hashlib.blake2b(corpus_digest.encode(), digest_size=16)
    for file in (queries_file, qrels_file):
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16))
            whole.update(digest.digest())
    if known is not None and (
        chosen != known.split or (documents, len(qrels)) != (known.documents, known.queries)
    ):
        log.warning(
            "%s has %d documents and %d judged queries (split %s), the published %s has %d and "
            "%d (split %s): it is not taken for the published set",
            folder, documents, len(qrels), chosen,
            known.name, known.documents, known.queries, known.split,
        )  # fmt: skip
        published = None
    else:
        published = known
    return Prepared(
        name=published.name if published else folder.name,
        slug=published.slug if published else _slug(folder.name, chosen),
        title=published.title if published else folder.name,
        folder=folder,
        split=chosen,
        group=published.group if published else Group.OWN,
        # Also of a part of such a set: its queries are documents all the same.
        drop_self=known.drop_self if known else False,
        registered=published is not None,
        queries=_queries(queries_file, qrels),
        qrels=qrels,
        documents=documents,
        corpus_digest=corpus_digest,
        digest=whole.hexdigest(),
    )


def prepare_folders(
    wanted: Iterable[Dataset | Path], data: Path, split: str | None
) -> dict[Path, Prepared]:
    """Return those of the wanted that are folders, read; nothing is downloaded.

    Raises:
        InputError: as `prepare`, or a file of one cannot be read.
    """
    found = {}
    for each in wanted:
        if isinstance(each, Path):
            try:
                found[each] = prepare(each, data, split=split)
            except OSError as error:
                if isinstance(error, RetrError):
                    raise
                raise InputError(f"{each}: cannot be read ({error})") from error
    return found


def check_names(datasets: Iterable[Prepared | Dataset]) -> None:
    """Raise InputError if two data sets would have one folder in the output."""
    folders: dict[str, str] = {}
    for each in datasets:
        where = str(each.folder) if isinstance(each, Prepared) else f"BEIR's {each.name}"
        if each.slug in folders:
            raise InputError(
                f"{where} and {folders[each.slug]} are both called {each.slug}: "
                "run one of them with another --out, or rename its folder"
            )
        folders[each.slug] = where


def _slug(name: str, split: str) -> str:
    """Return the name of the folder of a user's own data set, one for each of its splits."""
    slug = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "data"
    return slug if split == "test" else f"{slug}-{split}"


def _split(folder: Path, wanted: str | None, known: Dataset | None) -> str:
    present = sorted(path.stem for path in (folder / "qrels").glob("*.tsv"))
    if not present:
        raise InputError(f"{folder} is no BEIR folder: it has no judgments, qrels/test.tsv")
    if wanted is None:
        preferred = known.split if known else "test"
        if preferred in present:
            return preferred
        if len(present) == 1:
            return present[0]
        raise InputError(
            f"{folder}: has no qrels/{preferred}.tsv; choose with --split: {', '.join(present)}"
        )
    if wanted not in present:
        raise InputError(f"{folder}: has no judgments {wanted!r}; there are {', '.join(present)}")
    return wanted


def _queries(file: Path, qrels: Qrels) -> dict[str, str]:
    """Return the text of each judged query, in the order of the judgments."""
    texts: dict[str, str] = {}
    for number, record in json_records(Lines(file), str(file)):
        id, text = record.get("_id"), record.get("text")
        if isinstance(id, int) and not isinstance(id, bool):
            id = str(id)
        if not isinstance(id, str) or not isinstance(text, str):
            raise InputError(f'{file}:{number}: a query needs "_id" and "text"')
        if id in texts:
            raise InputError(f"{file}:{number}: the query {id!r} comes twice")
        if id in qrels:
            texts[id] = text
    missing = [id for id in qrels if id not in texts]
    if missing:
        raise InputError(
            f"{file}: has no text for {len(missing)} judged queries, such as {missing[0]!r}"
        )
    return {id: texts[id] for id in qrels}


def _digest_of_corpus(corpus: Path) -> tuple[str, int]:
    """Return a digest of the corpus file as it lies there, and the number of its lines."""
    digest = hashlib.blake2b(digest_size=16)
    lines = 0
    last = b"\n"
    with corpus.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            lines += block.count(b"\n")
            last = block[-1:]
    if corpus.suffix != ".jsonl":  # packed: its lines are counted unpacked
        lines = sum(1 for _, line in Lines(corpus) if line.strip())
    elif last != b"\n":
        lines += 1
    return digest.hexdigest(), lines
