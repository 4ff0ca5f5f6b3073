"""Inverted lists of fast-scan codes that stay in the file and are memory-mapped.

FAISS copies such lists into memory when it reads them: for a hundred million vectors, gigabytes
before the first query. Here they are written after everything else in the file, in the layout of
FAISS's `OnDiskInvertedLists`: for each list, the blocks of codes as they are scanned, then the
ids. Before them is what FAISS writes for an index whose lists are in a file of this name, so that
plain FAISS reads it with `IO_FLAG_ONDISK_SAME_DIR | IO_FLAG_READ_ONLY`. retr ignores the name,
because it knows the path.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..base import IndexFileError
from ..faiss import add_trailer, load_faiss, reason, write_plain

_ALIGNED: Final = 64  # every list starts at a multiple of this many bytes
_ID: Final = 8  # bytes of an id
_NOWHERE: Final = np.iinfo(np.uint64).max

# For each list, its number of vectors, its capacity, and its offset: u64[n, 3].
_Table = NDArray[np.uint64]


def write_mapped(index: Any, path: Path) -> None:
    """Write an `IndexPreTransform` over an index of fast-scan lists so that it can be mapped.

    Raises:
        OSError: it cannot be written.
    """
    faiss = load_faiss()
    structure = faiss.downcast_index(index.index)
    outside, table = _outside(structure, path.name)
    twin = like(structure, outside)
    whole = faiss.IndexPreTransform(twin)
    for number in reversed(range(index.chain.size())):
        whole.prepend_transform(index.chain.at(number))
    # Written twice: what precedes the lists has the same length wherever they are.
    write_plain(whole, path)
    start = -(-path.stat().st_size // _ALIGNED) * _ALIGNED
    outside.totsize = _place(table, start, structure.code_size)
    write_plain(whole, path)
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        for number, (size, capacity, offset) in enumerate(table.tolist()):
            if size:
                file.write(bytes(offset - file.tell()))
                _write_list(file, structure, number, size, capacity)
    add_trailer(path)


def map_lists(structure: Any, path: Path) -> None:
    """Map the lists of an index read from `path`; do nothing if it already holds them.

    Raises:
        IndexFileError: some of them are missing from the file.
    """
    faiss = load_faiss()
    lists = faiss.downcast_InvertedLists(structure.invlists)
    if not isinstance(lists, faiss.OnDiskInvertedLists):
        return
    end = path.stat().st_size
    if lists.totsize > end or not _is_inside(_table(lists), end, structure):
        raise IndexFileError(f"the index file {path} is damaged: some of its lists are missing")
    lists.filename, lists.read_only = str(path), True
    try:
        lists.do_mmap()
    except RuntimeError as error:
        raise IndexFileError(f"the index file {path} cannot be mapped: {reason(error)}") from error


def like(structure: Any, lists: Any) -> Any:
    """Return an index like `structure` over `lists`; the caller must keep both alive."""
    faiss = load_faiss()
    twin = faiss.IndexIVFPQFastScan(
        structure.quantizer, structure.d, structure.nlist, structure.pq.M, structure.pq.nbits,
        structure.metric_type,
    )  # fmt: skip
    twin.pq = structure.pq
    twin.by_residual = structure.by_residual
    twin.replace_invlists(lists, False)
    twin.ntotal = structure.ntotal
    twin.is_trained = True
    return twin


def _outside(structure: Any, name: str) -> tuple[Any, _Table]:
    """Return lists for the file `name`, and their table, still without offsets."""
    faiss = load_faiss()
    count, block = structure.nlist, structure.bbs
    outside = faiss.OnDiskInvertedLists()
    outside.nlist, outside.code_size, outside.filename = count, structure.code_size, name
    outside.lists.resize(count)
    table = _table(outside)
    for number in range(count):
        table[number, 0] = structure.invlists.list_size(number)
    table[:, 1] = (table[:, 0] + (block - 1)) // block * block
    return outside, table


def _place(table: _Table, start: int, code_size: int) -> int:
    """Set the offsets of consecutive lists from `start` on; return where they end.

    Lists consist of whole blocks of 32 vectors, so each also starts at a multiple of `_ALIGNED`.
    """
    lengths = table[:, 1] * np.uint64(code_size + _ID)
    ends = start + np.cumsum(lengths)
    table[:, 2] = np.where(table[:, 0] > 0, ends - lengths, _NOWHERE)
    return int(ends[-1])


def _write_list(file: Any, structure: Any, number: int, size: int, capacity: int) -> None:
    lists = structure.invlists
    codes, ids = lists.get_codes(number), lists.get_ids(number)
    file.write(_bytes(codes, capacity * structure.code_size))
    file.write(_bytes(ids, size * _ID))
    file.write(bytes((capacity - size) * _ID))


def _is_inside(table: _Table, end: int, structure: Any) -> bool:
    """Return whether all lists are before `end`; a damaged file may hold any numbers."""
    size, capacity, offset = table[table[:, 0] > 0].T
    row, block = structure.code_size + _ID, structure.bbs
    return bool(
        (capacity <= end // row).all()
        and (size <= capacity).all()
        and (capacity % block == 0).all()
        and (offset <= end).all()
        and (offset + capacity * row <= end).all()
        and int(size.sum()) == structure.ntotal
    )


def _table(lists: Any) -> _Table:
    """Return the table of `OnDiskInvertedLists` as a writable view."""
    count = lists.lists.size()
    first = ctypes.c_uint64 * (3 * count)
    return np.ctypeslib.as_array(first.from_address(int(lists.lists.data().this))).reshape(-1, 3)


def _bytes(address: Any, length: int) -> memoryview:
    return memoryview((ctypes.c_char * length).from_address(int(address)))
