"""FAISS, imported when it is needed: reads and writes its files, and makes its selectors.

Only this module imports `faiss`, so that a single message says how to install it.

A file is what FAISS writes, followed by 20 bytes that FAISS ignores: `retridx1`, the length of
what FAISS wrote (uint64, little endian) and the CRC-32 of its first 64 KiB. They are read first,
because mapping a truncated file can make FAISS crash the process.
"""

from __future__ import annotations

import os
import platform
import re
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from .base import Bitmap, IndexFileError, Metric, MissingFaissError, VectorSource

_HEAD: Final = 1 << 16
_MAGIC: Final = b"retridx1"
_TRAILER: Final = struct.Struct("<8sQI")
_MISSING: Final = "an index needs FAISS: pip install 'retr[cpu]', or 'retr[gpu]' for NVIDIA cards"
_OLD: Final = "an index needs FAISS 1.14 or later, but {} is installed: pip install -U 'retr[cpu]'"
_LEAST: Final = (1, 14)  # older releases cannot read fast-scan lists outside the index

_CORE_TYPE: Final = "OPENBLAS_CORETYPE"
_AVX512: Final = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


@cache
def load_faiss() -> Any:
    """Return the module `faiss`.

    Raises:
        MissingFaissError: it is not installed, cannot be loaded, or is too old.
    """
    try:
        with _told_core_type():
            import faiss
    except ImportError as error:
        raise MissingFaissError(_MISSING) from error
    numbers = re.match(r"(\d+)\.(\d+)", getattr(faiss, "__version__", ""))
    if numbers and (int(numbers[1]), int(numbers[2])) < _LEAST:
        raise MissingFaissError(_OLD.format(faiss.__version__))
    if sys.platform == "darwin":
        # torch brings its own OpenMP; with both in one process, only a single thread is safe.
        faiss.omp_set_num_threads(1)
    return faiss


@contextmanager
def _told_core_type() -> Iterator[None]:
    """Tell the OpenBLAS that is loaded inside which kernels the processor supports.

    FAISS's wheels contain OpenBLAS 0.3.15 of 2021. On newer processors it chooses kernels of
    2004, and matrix products, and with them clustering and batches, take four to five times as
    long. A library that is already loaded, such as numpy's, has read the variable before.
    """
    known = None if _CORE_TYPE in os.environ else _core_type()
    if known is None:
        yield
        return
    os.environ[_CORE_TYPE] = known
    try:
        yield
    finally:
        os.environ.pop(_CORE_TYPE, None)


def _core_type() -> str | None:
    """Return OpenBLAS's name for the kernels of this processor; None if unknown."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    try:
        with Path("/proc/cpuinfo").open() as file:
            return core_type_of(file.read(1 << 13))  # the first core or two
    except OSError:
        return None


def core_type_of(text: str) -> str | None:
    """Return the core type of a processor that `/proc/cpuinfo` describes; None if unknown."""
    fields = dict(_field(line) for line in reversed(text.splitlines()) if ":" in line)
    flags = {*fields.get("flags", "").split()}
    if not flags >= {"avx2", "fma"}:
        return None
    match fields.get("vendor_id"):
        case "GenuineIntel":
            return "SkylakeX" if flags >= _AVX512 else "Haswell"
        case "AuthenticAMD":
            return "Zen"
    return None


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def faiss_metric(metric: Metric) -> int:
    """Return the FAISS constant; cosine is the inner product of unit vectors."""
    faiss = load_faiss()
    return int(faiss.METRIC_L2 if metric is Metric.L2 else faiss.METRIC_INNER_PRODUCT)


def write_index(index: Any, path: Path) -> None:
    """Write a FAISS index as a file that plain FAISS reads.

    Raises:
        OSError: it cannot be written.
    """
    write_plain(index, path)
    add_trailer(path)


def write_plain(index: Any, path: Path) -> None:
    """Write only what FAISS writes, without the trailer.

    Raises:
        OSError: it cannot be written.
    """
    try:
        load_faiss().write_index(index, str(path))
    except RuntimeError as error:
        raise OSError(f"cannot write the index {path}: {reason(error)}") from error


def add_trailer(path: Path) -> None:
    """Write the last bytes of a file, which mark it as complete.

    Raises:
        OSError: they cannot be written.
    """
    with path.open("r+b") as file:
        head = file.read(_HEAD)
        length = file.seek(0, 2)
        file.write(_TRAILER.pack(_MAGIC, length, zlib.crc32(head)))


def read_index(path: Path, source: VectorSource, class_name: str, *, whole: bool = True) -> Any:
    """Return the FAISS index in a file, mapped if the installed FAISS can.

    class_name: the FAISS class that it must have, such as "IndexFlat".
    whole:      whether it must cover all of `source`; if False, it may cover only the first
                vectors, and is read into memory so that the others can be added.

    Raises:
        IndexFileError: the file is missing, damaged, or is not such an index of `source`.
    """
    faiss = load_faiss()
    if not path.is_file():
        raise IndexFileError(f"there is no index file {path}")
    _check_ends(path)
    try:
        # _lists.py maps lists that follow the index, because it knows the path of the file.
        flags = faiss.IO_FLAG_SKIP_IVF_DATA
        flags |= faiss.IO_FLAG_MMAP_IFC if whole else 0
        index = faiss.read_index(str(path), flags)
    except (RuntimeError, MemoryError) as error:
        raise IndexFileError(f"the index file {path} is damaged: {reason(error)}") from error
    found = (index.d, index.ntotal, index.metric_type)
    rows = len(source) if whole else min(index.ntotal, len(source))
    wanted = (source.dim, rows, faiss_metric(source.metric))
    if not isinstance(index, getattr(faiss, class_name)) or found != wanted:
        raise IndexFileError(
            f"the index file {path} is not the index of these vectors: it is a "
            f"{type(index).__name__} over {index.ntotal} vectors of {index.d} dimensions, but "
            f"should be a {class_name} over {len(source)} of {source.dim} for {source.metric}"
        )
    return index


def search_parameters(allowed: Bitmap | None) -> Any:
    """Return FAISS search parameters that admit only the allowed positions.

    They hold a reference to the bitmap, which FAISS reads while it searches.
    """
    if allowed is None:
        return None
    faiss = load_faiss()
    return faiss.SearchParameters(sel=faiss.IDSelectorBitmap(allowed))


def _check_ends(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(_HEAD)
        length = file.seek(0, 2) - _TRAILER.size
        file.seek(max(0, length))
        trailer = file.read()
    if length <= 0 or trailer[: len(_MAGIC)] != _MAGIC:
        raise IndexFileError(f"the index file {path} is damaged: it is truncated or not an index")
    if trailer != _TRAILER.pack(_MAGIC, length, zlib.crc32(head[:length])):
        raise IndexFileError(f"the index file {path} is damaged: its checksum does not match")


def reason(error: BaseException) -> str:
    """Return the last clause of a FAISS message, which starts with a C++ signature and a path."""
    return str(error).strip().splitlines()[0].rpartition("Error: ")[2] or type(error).__name__
