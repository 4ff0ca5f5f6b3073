"""A larger base with the spectrum of a real one, grown by mixing neighbours.

    python -m retr.benchmarks.ann.grow base.npy OUT.npy --rows 1000000

Uniform random vectors say nothing about retrieval: they have no neighbourhoods, and no prefix of
them means anything. A grown point is a real row e_i moved towards, and along, its neighbours:

    e_i + 2ab (e_j - e_i) + 0.7a (e_j - e_k)

with j and k drawn from the 12 nearest rows of i, a from [0.4, 0.9] and b from [0.2, 0.6]; if rows
have unit length so has it. The real rows come first and stay as they are. Blocks of rows are drawn
from the seed and the number of the block. Memory is that of the real rows and a block.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...indexes.base import Floats, Positions
from ...retrieval.values.errors import InputError
from ..files import whole

NEIGHBOURS = 12
_ROWS = 1 << 14
_SCAN = 512  # rows whose scores against all others are held at once

Note = Callable[[str], None]


def main(arguments: list[str] | None = None) -> None:
    """Grow the rows of one .npy file into another."""
    parser = argparse.ArgumentParser(prog="python -m retr.benchmarks.ann.grow", description=__doc__)
    parser.add_argument("base", type=Path, help="float16 or float32 rows of unit length")
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    real = np.load(given.base, mmap_mode="r")
    grow(real, given.rows, given.out, seed=given.seed, note=print)


def grow(
    real: NDArray[np.floating],
    rows: int,
    out: Path,
    *,
    seed: int,
    unit: bool = True,
    note: Note = lambda _: None,
) -> None:
    """Write f32[rows, dim] to the .npy file `out`, which appears when it is whole.

    real: f16 or f32[n, dim], more than 12 rows and at most `rows`.
    unit: give every row unit length.
    note: is told how far it is.

    Raises:
        InputError: there are too few real rows, or more than `rows`.
        StorageError: the disk is full or the folder cannot be written.
    """
    if not NEIGHBOURS < len(real) <= rows:
        raise InputError(
            f"{len(real)} rows cannot grow to {rows}: give more than {NEIGHBOURS} rows, "
            "and no more than are wanted"
        )
    source = np.array(real, np.float32)
    source = unit_rows(source) if unit else source
    with whole(out) as part:
        near = neighbours(source, NEIGHBOURS, note)
        shape = (rows, source.shape[1])
        target = np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=shape)
        for start in range(0, rows, _ROWS):
            stop = min(start + _ROWS, rows)
            target[start:stop] = _block(source, near, start, stop, seed, unit)
        target.flush()


def neighbours(rows: Floats, count: int, note: Note = lambda _: None) -> Positions:
    """Return the `count` rows with the least distance to each row, itself left out, i64[n, count].

    Among rows at the same distance, which are taken is left to the processor's rounding.
    """
    found = np.empty((len(rows), count), np.int64)
    norms = np.einsum("ij,ij->i", rows, rows)
    last = time.monotonic()
    for start in range(0, len(rows), _SCAN):
        block = rows[start : start + _SCAN]
        closeness = 2 * (block @ rows.T) - norms
        closeness[np.arange(len(block)), np.arange(start, start + len(block))] = -np.inf
        best = np.argpartition(closeness, -count, axis=1)[:, -count:]
        order = np.argsort(-np.take_along_axis(closeness, best, axis=1), axis=1, kind="stable")
        found[start : start + _SCAN] = np.take_along_axis(best, order, axis=1)
        if time.monotonic() - last > 10:
            last = time.monotonic()
            note(f"neighbours: {start:,} of {len(rows):,} rows")
    return found


def _block(real: Floats, near: Positions, start: int, stop: int, seed: int, unit: bool) -> Floats:
    """Return rows `start` to `stop` of the base, f32[stop - start, dim]."""
    kept = real[start : min(stop, len(real))]
    count = stop - start - len(kept)
    if not count:
        return kept
    rng = np.random.default_rng((seed, start // _ROWS))
    i = rng.integers(0, len(real), count)
    drawn = rng.integers(0, NEIGHBOURS, (2, count))
    j, k = near[i, drawn[0]], near[i, drawn[1]]
    a = rng.uniform(0.4, 0.9, (count, 1)).astype(np.float32)
    b = rng.uniform(0.2, 0.6, (count, 1)).astype(np.float32)
    grown = real[i] + 2 * a * b * (real[j] - real[i]) + np.float32(0.7) * a * (real[j] - real[k])
    return np.concatenate((kept, unit_rows(grown) if unit else grown))


def unit_rows(rows: Floats) -> Floats:
    """Return the rows with unit length, f32[n, dim]; a row of zeros stays one."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1), np.float32)


def lifted(rows: Floats, dim: int, seed: int) -> Floats:
    """Return unit vectors of more dimensions made of real ones, f32[n, dim].

    rows: f32[n, d] of unit length.

    y = cos(sqrt(2) G x + u), normalised, with G from a normal distribution and u from [0, 2 pi):
    random Fourier features (Rahimi and Recht, Random Features for Large-Scale Kernel Machines,
    2007) of the kernel exp(-|x - y|^2). Neighbourhoods are those of real texts, and the rank is
    full. The kernel's width is chosen for the decay of the spectrum: an eighth, a quarter and a
    half of the principal dimensions hold 0.50, 0.63 and 0.81 of the energy at 768 dimensions and
    0.58, 0.71 and 0.87 at 2048; of MiniLM's own 384 they hold 0.56, 0.74 and 0.92.
    """
    rng = np.random.default_rng((seed, dim))
    matrix = rng.standard_normal((rows.shape[1], dim), np.float32) * np.float32(np.sqrt(2))
    shift = rng.uniform(0, 2 * np.pi, dim).astype(np.float32)
    return unit_rows(np.cos(rows @ matrix + shift))


if __name__ == "__main__":
    main()
