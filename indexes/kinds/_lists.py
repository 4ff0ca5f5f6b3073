"""Inverted lists of fast-scan codes that stay in the file, and are mapped.

FAISS copies such lists into memory when it reads them: of a hundred million vectors, gigabytes
before the first query. Here they are written behind everything else in the file, in the layout of
its `OnDiskInvertedLists`: of each list the blocks of codes as they are scanned, then the ids.
Before them stands what FAISS writes of an index whose lists lie in a file of this name, so that
plain FAISS reads it with `IO_FLAG_ONDISK_SAME_DIR | IO_FLAG_READ_ONLY`. Here the name does not
count, for the path is known.
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

_ALIGNED: Final = 64  # a list starts at a multiple of so many bytes
_ID: Final = 8  # bytes of one
_NOWHERE: Final = np.iinfo(np.uint64).max

# Of each list how many vectors it has, how many there is room for, and where it starts: u64[n, 3].
_Table = NDArray[np.uint64]


def write_mapped(index: Any, path: Path) -> None:
    """Write an `IndexPreTransform` over an index of fast-scan lists, to be mapped.

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
    # Twice, for what stands before the lists is as long wherever they are.
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
    """Map the lists of an index that was read from `path`; nothing where it holds them already.

    Raises:
        IndexFileError: they are not all in the file.
    """
    faiss = load_faiss()
    lists = faiss.downcast_InvertedLists(structure.invlists)
    if not isinstance(lists, faiss.OnDiskInvertedLists):
        return
    end = path.stat().st_size
    if lists.totsize > end or not _is_inside(_table(lists), end, structure):
        raise IndexFileError(f"the index file {path} is damaged: it has not all of its lists")
    lists.filename, lists.read_only = str(path), True
    try:
        lists.do_mmap()
    except RuntimeError as error:
        raise IndexFileError(f"the index file {path} cannot be mapped: {reason(error)}") from error


def like(structure: Any, lists: Any) -> Any:
    """Return an index like `structure` over other lists, or the same; both have to be held."""
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
    """Return lists that lie in the file `name`, and their table, still without places."""
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
    """Fill in where the lists lie from `start` on, one behind the other; return where they end.

    They have whole blocks of 32 vectors, so each starts at a multiple of `_ALIGNED` as well.
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
    """Return whether all lists lie before `end`; the numbers of a damaged file may be any."""
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
    """Return the table of `OnDiskInvertedLists`, as a view that writes through."""
    count = lists.lists.size()
    first = ctypes.c_uint64 * (3 * count)
    return np.ctypeslib.as_array(first.from_address(int(lists.lists.data().this))).reshape(-1, 3)


def _bytes(address: Any, length: int) -> memoryview:
    return memoryview((ctypes.c_char * length).from_address(int(address)))
