"""What a benchmark leaves behind: one folder for each system on each data set.

    OUT/
      environment.json                      of the last run
      results.json report.md report.html    derived; `retr bench report OUT` makes them again
      DATASET/SYSTEM/qrels.trec             the judgments the figures are over
      DATASET/SYSTEM/run.trec.gz            the ranking, scores in full precision
      DATASET/SYSTEM/values.parquet         a value for each query and measure
      DATASET/SYSTEM/entry.json             settings, means, environment

`entry.json` is written last, so an entry that is there is whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ...retrieval.evaluation import Evaluation
from ...retrieval.values.errors import DamagedError, InputError
from ..files import whole, write_json
from .published import MEASURE

FORMAT = 1
ENTRY, RUN, VALUES, QRELS = "entry.json", "run.trec.gz", "values.parquet", "qrels.trec"


@dataclass(frozen=True, slots=True)
class Entry:
    """A system on a data set, with everything that its figures depend on.

    folder:     where it lies, DATASET/SYSTEM inside the output.
    key:        stands for all that its figures depend on; the same key is not run again.
    dataset:    {"name", "slug", "title", "split", "group", "registered", "digest",
                "corpus_digest", "documents", "queries"}.
    system:     {"name", "label", "row", "mode", "spec"}, see `systems.System`.
    encoder:    {"name", "options", "query_prompt", "space"}; None for words alone.
    k:          how many hits were evaluated; one more is searched if `drop_self`.
    limit:      the number of queries kept, None for all.
    evaluation: `Evaluation.to_dict` without the values of each query.
    base:       for a system with an index, the folder name of the exact one it is compared with.
    ann:        for such a one, {k: mean recall of exact search}; else None.
    missing:    {"empty_queries", "relevant_not_in_corpus", "skipped_documents"}: counts.
    made:       how the collection was made: rows, seconds, bytes, index; and search seconds.
    environment: see `environment.describe`.
    words:      for words alone or with vectors, {"analyzer", "k1", "b"}; else None.
    fusion:     for words with vectors, {"weight", "fitted"}; else None.
    per_query:  measure -> query -> value; None if they lie in the folder, to be read when needed.
    """

    folder: Path = field(compare=False)
    key: str
    dataset: Mapping[str, Any]
    system: Mapping[str, Any]
    encoder: Mapping[str, Any] | None
    k: int
    limit: int | None
    evaluation: Mapping[str, Any]
    base: str | None
    ann: Mapping[str, float] | None
    missing: Mapping[str, int]
    made: Mapping[str, Any]
    environment: Mapping[str, Any]
    words: Mapping[str, Any] | None = None
    fusion: Mapping[str, Any] | None = None
    per_query: Mapping[str, Mapping[str, float]] | None = field(
        default=None, compare=False, repr=False
    )

    @property
    def path(self) -> str:
        """Where it lies inside the output: DATASET/SYSTEM."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def run_path(self) -> Path:
        """Where its ranking lies."""
        return self.folder / RUN

    def values(self) -> Mapping[str, Mapping[str, float]]:
        """Return measure -> query -> value.

        Raises:
            DamagedError: the file is missing or cannot be read.
        """
        if self.per_query is not None:
            return self.per_query
        import pyarrow.parquet as pq

        path = self.folder / VALUES
        try:
            columns = pq.read_table(path).to_pydict()
        except (OSError, ValueError) as error:
            raise _damaged(path, f"cannot be read ({str(error).splitlines()[0]})") from error
        needed = ("query_id", *self.evaluation["means"])
        if missing := [name for name in needed if name not in columns]:
            raise _damaged(path, f"has no column {missing[0]}")
        queries = columns.pop("query_id")
        return {name: dict(zip(queries, values, strict=True)) for name, values in columns.items()}

    def judged(self) -> Evaluation:
        """Return the evaluation with the values of each query."""
        values = self.values()
        known = dict(self.evaluation)
        known["per_query"] = {name: values[name] for name in known["means"]}
        names = {each.name for each in fields(Evaluation)}
        try:
            return Evaluation.from_dict({n: v for n, v in known.items() if n in names})
        except ValueError as error:
            raise _damaged(self.folder / ENTRY, f"is not as retr writes it ({error})") from error


def _damaged(path: Path, what: str) -> DamagedError:
    return DamagedError(f"{path}: {what}; remove {path.parent} and run the benchmark again")


def save(entry: Entry, values: Mapping[str, Mapping[str, float]]) -> None:
    """Write values and entry; the run lies there already.

    values: measure -> query -> value, the same queries in each.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    queries = list(next(iter(values.values())))
    columns: dict[str, Any] = {"query_id": pa.array(queries, pa.string())}
    for name, by_query in values.items():
        columns[name] = pa.array([by_query[query] for query in queries], pa.float64())
    with whole(entry.folder / VALUES) as part:
        pq.write_table(pa.table(columns), part)
    write_json({"format": FORMAT, **plain(entry)}, entry.folder / ENTRY)


def plain(entry: Entry) -> dict[str, Any]:
    """Return what entry.json holds of an entry."""
    values = asdict(entry)
    return {name: value for name, value in values.items() if name not in ("folder", "per_query")}


def load(folder: Path) -> Entry | None:
    """Return the entry in a folder, None if there is none that is whole."""
    try:
        values = json.loads((folder / ENTRY).read_bytes())
    except (OSError, ValueError):
        return None
    return parse(values, folder) if isinstance(values, dict) else None


def parse(values: Mapping[str, Any], folder: Path) -> Entry | None:
    """Return the entry that `plain` described, None if something of it is not as it should be."""
    if values.get("format") != FORMAT:
        return None
    # Entries of vectors alone may be from before there were words beside them.
    values = {"words": None, "fusion": None, **values}
    names = {each.name for each in fields(Entry)} - {"folder", "per_query"}
    if names - values.keys():
        return None
    if not all(_has_shape(values[name], shape) for name, shape in _SHAPES.items()):
        return None
    if values["encoder"] is None and values["words"] is None:
        return None
    return Entry(folder=folder, **{name: values[name] for name in names})


@dataclass(frozen=True, slots=True)
class _OrNone:
    """A shape that may be left out."""

    shape: Mapping[str, Any]


_NUMBER = (int, float)
_TEXT_OR_NONE = (str, type(None))
_INT_OR_NONE = (int, type(None))
# What readers of an entry rely on; what else is in it is left alone.
_SHAPES: dict[str, Any] = {
    "key": str,
    "k": int,
    "limit": _INT_OR_NONE,
    "base": _TEXT_OR_NONE,
    "dataset": {
        **dict.fromkeys(("name", "title", "split", "group", "digest"), str),
        **dict.fromkeys(("documents", "queries"), int),
        "registered": bool,
    },
    "system": {"label": str, "row": str, "spec": _TEXT_OR_NONE},
    "encoder": _OrNone(
        {
            "name": str,
            "query_prompt": _TEXT_OR_NONE,
            "space": {
                **dict.fromkeys(("family", "metric"), str),
                **dict.fromkeys(("revision", "document_prompt", "pooling"), _TEXT_OR_NONE),
                "dim": int,
                "normalised": bool,
                "max_length": _INT_OR_NONE,
            },
        }
    ),
    "words": _OrNone({"analyzer": str, "k1": _NUMBER, "b": _NUMBER}),
    "fusion": _OrNone({"weight": _NUMBER, "fitted": str}),
    "evaluation": {
        **dict.fromkeys(("name", "absent"), str),
        "drop_self": bool,
        "means": {MEASURE: _NUMBER},
        "missing": list,
        "unjudged": int,
        "providers": dict,
    },
    "missing": dict.fromkeys(("empty_queries", "relevant_not_in_corpus", "skipped_documents"), int),
    "environment": {
        **dict.fromkeys(("time", "retr", "python", "system"), str),
        **dict.fromkeys(("packages", "variables"), dict),
        **dict.fromkeys(("cores_usable", "memory_bytes"), _INT_OR_NONE),
        "processor": _TEXT_OR_NONE,
        "gpu": (str, dict, list, type(None)),
    },
}


def _has_shape(value: Any, shape: Any) -> bool:
    if isinstance(shape, _OrNone):
        return value is None or _has_shape(value, shape.shape)
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(
            name in value and _has_shape(value[name], each) for name, each in shape.items()
        )
    return isinstance(value, shape)


def load_all(out: Path) -> list[Entry]:
    """Return the entries of an output folder, in the order of their names.

    Raises:
        InputError: there is none.
        DamagedError: one lacks something, or is of another version of retr.
    """
    found = []
    for path in sorted(out.glob(f"*/*/{ENTRY}")):
        entry = load(path.parent)
        if entry is None:
            raise _damaged(path, "is not as retr writes it")
        found.append(entry)
    if not found:
        raise InputError(f"{out}: holds no results; make some with: retr bench beir … --out {out}")
    return found
