"""The vectors of `retr bench ann`: read from the files that people have, and prepared once.

It reads the test data's MiniLM vectors (`minilm`), HDF5 files of ann-benchmarks (train, test,
neighbors, attribute distance), and pairs of .npy, .fvecs or .bvecs files, if given with the nearest
rows in an .ivecs or .npy file, as texmex has them. Every system gets the same float32 rows, of unit
length for cosine, mapped from one .npy file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...indexes.base import Floats, Metric
from ...retrieval.store.disk import storage_errors
from ...retrieval.values.errors import DamagedError, InputError, missing_extra
from ..files import whole, write_json
from .grow import grow, lifted, unit_rows
from .truth import Answers, judge, nearest, scored

MINILM = "minilm"
TUNING = 1000  # queries kept for tuning, at most
_FORMAT = 1
_BLOCK = 1 << 14
_DISTANCES = {"angular": Metric.COSINE, "cosine": Metric.COSINE, "euclidean": Metric.L2,
              "dot": Metric.IP, "ip": Metric.IP, "l2": Metric.L2}  # fmt: skip

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors as they were found.

    base, queries: f or u8[n, dim], sliceable; HDF5's are read as they are sliced.
    neighbours:    i[q, m], the nearest rows by whoever made the file; None if it does not say.
    """

    name: str
    path: Path
    base: Any
    queries: Any
    metric: Metric
    neighbours: Any = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A folder with base.npy, queries.npy and tuning.npy, each f32[n, dim], and what they are.

    about: {"name", "title", "rows", "dim", "metric", "queries", "tuning", "real", "lift", "seed",
           "digest", "energy", "agreement"}: `real` rows of the base are as they were read, `lift`
           is the dimension they were lifted to; `energy` the share that an eighth, a quarter and
           a half of the principal dimensions hold; `agreement` the recall of the neighbours that
           the file itself names.
    """

    folder: Path
    about: Mapping[str, Any]

    @property
    def metric(self) -> Metric:
        """How the vectors are compared."""
        return Metric(self.about["metric"])

    def base(self) -> Floats:
        """Return the rows, mapped."""
        rows: Floats = np.load(self.folder / "base.npy", mmap_mode="r")
        return rows

    def queries(self) -> Floats:
        """Return the queries that are searched for."""
        rows: Floats = np.load(self.folder / "queries.npy")
        return rows

    def truth(self, k: int) -> Path:
        """Return a file of the k nearest rows to each query and their scores; see `Answers`."""
        path = self.folder / f"truth-{k}.npz"
        if not path.exists():
            Answers(*nearest(self.base(), self.queries(), self.metric, k)).save(path)
        return path


def read(
    data: str,
    queries: Path | None = None,
    metric: str | None = None,
    neighbours: Path | None = None,
) -> Vectors:
    """Return the vectors that `data` names: `minilm`, an HDF5 file, or a file of base vectors.

    queries:    the file of queries, if `data` is a file without any.
    metric:     cosine, ip or l2, if the file does not say; cosine if not given.
    neighbours: a file of the nearest rows, i[q, m], beside such files.

    Raises:
        InputError: there is no such file, or it is not of a format read here.
        DamagedError: it is, but cannot be read.
        MissingExtraError: h5py is not installed.
    """
    if metric is not None and metric not in tuple(Metric):
        raise InputError(f"the metric is cosine, ip or l2, not {metric!r}")
    if data == MINILM:
        return minilm()
    path = _file(Path(data).expanduser())
    if path.suffix in (".hdf5", ".h5"):
        return _hdf5(path, metric)
    if queries is None:
        raise InputError(f"{path}: has no queries: give them with --query-vectors FILE")
    base, asked = _matrix(path), _matrix(_file(queries.expanduser()))
    near = None if neighbours is None else _neighbours(neighbours.expanduser(), base, asked)
    return _checked(Vectors(path.stem, path, base, asked, Metric(metric or Metric.COSINE), near))


def _neighbours(path: Path, base: NDArray[Any], queries: NDArray[Any]) -> NDArray[Any]:
    found = _matrix(_file(path))
    fits = found.dtype.kind in "iu" and len(found) == len(queries)
    if not fits or found.min(initial=0) < 0 or found.max(initial=0) >= len(base):
        raise InputError(
            f"{path}: holds {found.dtype}{list(found.shape)}, not the nearest of {len(base)} rows "
            f"to each of {len(queries)} queries"
        )
    return found


def prepare(
    vectors: Vectors,
    cache: Path,
    *,
    rows: int | None = None,
    queries: int = 1000,
    dim: int | None = None,
    seed: int = 0,
    note: Note = lambda _: None,
) -> Prepared:
    """Return the vectors prepared in a folder of the cache, which later runs use again.

    rows:    how many the base is to have: fewer are drawn, more are grown (see `grow`).
    queries: how many are searched for; of the others up to 1000 are kept for tuning.
    dim:     lift all vectors to this many dimensions (see `grow.lifted`).

    Raises:
        InputError: these vectors do not allow that many rows, queries or dimensions.
        StorageError: the disk is full or the folder cannot be written.
    """
    rows = rows or len(vectors.base)
    _check_wanted(vectors, rows, queries, dim)
    wanted = {
        "format": _FORMAT, "file": _stamp(vectors.path), "metric": vectors.metric, "rows": rows,
        "queries": queries, "lift": dim, "seed": seed,
    }  # fmt: skip
    key = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:10]
    name = f"{vectors.name}-{_short(rows)}" + (f"-{dim}d" if dim else "")
    folder = cache / f"{name}-{key}"
    done = folder / "about.json"
    if done.exists():
        return Prepared(folder, json.loads(done.read_bytes()))
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _write_base(vectors, folder, rows, dim, seed, note)
        tuning = _write_queries(vectors, folder, queries, dim, seed)
    made = np.load(folder / "base.npy", mmap_mode="r")
    about = {
        "name": name, "title": vectors.name, "rows": rows, "dim": made.shape[1],
        "metric": str(vectors.metric), "queries": queries, "tuning": tuning,
        "real": min(rows, len(vectors.base)), "lift": dim, "seed": seed,
        "digest": _digest(folder / "base.npy"), "energy": _energy(made), "agreement": None,
    }  # fmt: skip
    prepared = Prepared(folder, about)
    about["agreement"] = _agreement(vectors, prepared, seed)
    write_json(about, done)
    return prepared


def data_folder() -> Path:
    """Return the folder of the test data: that of RETR_TEST_DATA, or one beside the checkout."""
    default = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
    return Path(os.environ.get("RETR_TEST_DATA", default))


def minilm() -> Vectors:
    """Return the test data's MiniLM vectors of paragraphs, f16[n, 384], mapped.

    Raises:
        InputError: there is no test data.
    """
    folder = data_folder() / "vectors"
    if not folder.is_dir():
        raise InputError(
            "there are no test vectors: set RETR_TEST_DATA to the folder of the test data, or "
            "name an HDF5, .npy, .fvecs or .bvecs file"
        )
    base, queries = (folder / f"minilm55k.{part}.f16.npy" for part in ("base", "queries"))
    return _checked(Vectors(MINILM, base, _matrix(base), _matrix(queries), Metric.COSINE))


def _hdf5(path: Path, metric: str | None) -> Vectors:
    try:
        import h5py
    except ImportError:
        raise missing_extra(f"{path}: HDF5", "bench") from None
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DamagedError(f"{path}: is no HDF5 file that can be read ({error})") from error
    missing = [name for name in ("train", "test") if name not in file]
    if missing:
        raise InputError(f"{path}: has no data set {missing[0]!r}, as files of ann-benchmarks have")
    said = str(file.attrs.get("distance", metric or "angular"))
    if metric is None and said not in _DISTANCES:
        raise InputError(f"{path}: its distance {said!r} is not angular, euclidean or dot")
    used = Metric(metric) if metric else _DISTANCES[said]
    # Neighbours by another distance than asked for say nothing.
    agrees = "neighbors" in file and _DISTANCES.get(said) is used
    return _checked(
        Vectors(path.stem, path, file["train"], file["test"], used,
                file["neighbors"] if agrees else None)
    )  # fmt: skip


def _matrix(path: Path) -> NDArray[Any]:
    """Return the vectors of a .npy, .fvecs or .bvecs file, mapped."""
    if path.suffix == ".npy":
        try:
            matrix = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise DamagedError(f"{path}: is no .npy file that can be read ({error})") from error
        if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
            raise InputError(
                f"{path}: holds {matrix.dtype}{list(matrix.shape)}, not numbers[n, dim]"
            )
        return np.asarray(matrix)
    widths: dict[str, np.dtype[Any]] = {
        ".fvecs": np.dtype("<f4"),
        ".ivecs": np.dtype("<i4"),
        ".bvecs": np.dtype("u1"),
    }
    if path.suffix not in widths:
        known = ", ".join((".hdf5", ".npy", *widths))
        raise InputError(f"{path}: is of no format read here ({known})")
    return read_vecs(path, widths[path.suffix])


def read_vecs(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the rows of a file in the texmex format, mapped: each is its length and its values.

    Raises:
        DamagedError: it is empty or cut short, or its rows are of several lengths.
    """
    size = path.stat().st_size
    head = np.fromfile(path, "<i4", 1)
    dim = int(head[0]) if len(head) else 0
    width = 4 + max(dim, 0) * dtype.itemsize
    if dim < 1 or size % width:
        raise DamagedError(f"{path}: {size} bytes are not rows of {dim} values; it was cut short")
    records = np.memmap(path, np.dtype([("dim", "<i4"), ("values", dtype, (dim,))]), "r")
    if (records["dim"] != dim).any():
        raise DamagedError(f"{path}: has rows of several lengths")
    return np.asarray(records["values"])


def _checked(vectors: Vectors) -> Vectors:
    shapes = vectors.base.shape, vectors.queries.shape
    if not all(len(shape) == 2 and all(shape) for shape in shapes) or shapes[0][1] != shapes[1][1]:
        raise InputError(
            f"{vectors.path}: base {list(shapes[0])} and queries {list(shapes[1])} are not "
            "vectors of one dimension"
        )
    return vectors


def _file(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"there is no file {path}; name one, or {MINILM}")
    return path.resolve()


def _check_wanted(vectors: Vectors, rows: int, queries: int, dim: int | None) -> None:
    if rows < 1 or not 0 < queries <= len(vectors.queries):
        raise InputError(
            f"{vectors.name}: has {len(vectors.queries)} queries; choose at least one row and "
            f"1 to {len(vectors.queries)} queries, not {rows} and {queries}"
        )
    if rows > len(vectors.base) and vectors.metric is Metric.IP:
        raise InputError(f"{vectors.name}: only vectors of unit length or for l2 can be grown")
    if dim is not None and (vectors.metric is not Metric.COSINE or dim <= vectors.base.shape[1]):
        raise InputError(
            f"{vectors.name}: {vectors.metric} vectors of {vectors.base.shape[1]} dimensions "
            f"cannot be lifted to {dim}: give more dimensions, and the metric cosine"
        )


def _write_base(
    vectors: Vectors, folder: Path, rows: int, dim: int | None, seed: int, note: Note
) -> None:
    unit = vectors.metric is Metric.COSINE
    source, grown = vectors.base, folder / "grown.npy"
    if rows > len(source):
        if not grown.exists():
            grow(np.asarray(source[:]), rows, grown, seed=seed, unit=unit, note=note)
        source = np.load(grown, mmap_mode="r")
    if dim is None and source is not vectors.base:
        grown.replace(folder / "base.npy")
        return
    chosen = np.sort(np.random.default_rng(seed).choice(len(source), rows, replace=False))
    shape = (rows, dim or source.shape[1])
    with whole(folder / "base.npy") as part:
        out = np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=shape)
        # In file order: picking single rows of an HDF5 file takes far too long.
        for start in range(0, len(source), _BLOCK):
            first, last = np.searchsorted(chosen, (start, start + _BLOCK))
            block = np.asarray(source[start : start + _BLOCK])[chosen[first:last] - start]
            out[first:last] = _ready(block, unit, dim, seed)
        out.flush()
    grown.unlink(missing_ok=True)


def _write_queries(vectors: Vectors, folder: Path, count: int, dim: int | None, seed: int) -> int:
    order = np.random.default_rng(seed).permutation(len(vectors.queries))
    rows = np.asarray(vectors.queries[:])
    unit = vectors.metric is Metric.COSINE
    kept = order[count : count + TUNING]
    for name, chosen in (("queries", order[:count]), ("tuning", kept)):
        with whole(folder / f"{name}.npy") as part, part.open("wb") as file:
            np.save(file, _ready(rows[chosen], unit, dim, seed))
    return len(kept)


def _ready(rows: NDArray[Any], unit: bool, dim: int | None, seed: int) -> Floats:
    floats = np.array(rows, np.float32, order="C")
    if not np.isfinite(floats).all():
        raise InputError("the vectors have values that are NaN or infinite")
    if unit:
        floats = unit_rows(floats)
    return floats if dim is None else lifted(floats, dim, seed)


def _agreement(vectors: Vectors, prepared: Prepared, seed: int) -> float | None:
    """Return the recall of the neighbours that the file names; None if they are of other rows."""
    count = prepared.about["queries"]
    if vectors.neighbours is None or prepared.about["rows"] != len(vectors.base):
        return None
    if prepared.about["lift"]:
        return None
    k = min(10, vectors.neighbours.shape[1], len(vectors.base))
    order = np.random.default_rng(seed).permutation(len(vectors.queries))[:count]
    named = np.asarray(vectors.neighbours[:])[order][:, :k]
    base, kth = prepared.base(), Answers.load(prepared.truth(k)).scores[:, -1]
    scores = scored(base, prepared.queries(), vectors.metric, named)
    return judge(named, scores, kth, len(base)).recall


def _energy(rows: Floats) -> list[float]:
    """Return the share of the squared length in an eighth, a quarter, a half of the dimensions."""
    step = max(1, len(rows) // 8192)
    sample = np.array(rows[::step], np.float64)
    values = np.linalg.eigvalsh(sample.T @ sample)[::-1].clip(0)
    dim, total = len(values), values.sum() or 1.0
    return [round(float(values[: max(1, dim // part)].sum() / total), 4) for part in (8, 4, 2)]


def _stamp(path: Path) -> list[Any]:
    found = path.stat()
    return [str(path), found.st_size, found.st_mtime_ns]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _short(rows: int) -> str:
    for size, letter in ((1_000_000, "m"), (1_000, "k")):
        if rows % size == 0 and rows:
            return f"{rows // size}{letter}"
    return str(rows)
