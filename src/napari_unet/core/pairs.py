"""Which pairs of numbers occur in two arrays, such as the ids of cells in two planes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


def count_pairs(
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    counts: NDArray[np.integer] | None = None,
) -> tuple[Numbers, Numbers, Numbers]:
    """Return the pairs of numbers at the same places of two arrays, and how often each occurs.

    A pair becomes one number of 64 bits, and equal neighbours are counted before anything is
    sorted. `numpy.unique` of columns does the same, but takes many times as long, and holds
    Python's lock meanwhile.

    Parameters
    ----------
    first, second
        1D, of one length, from 0 to 2^31 - 1.
    counts
        How often each pair counts; None: once.

    Returns
    -------
    first, second, count
        Sorted by `first`, then by `second`.

    Examples
    --------
    >>> count_pairs(np.array([7, 7, 3]), np.array([1, 1, 2]))
    (array([3, 7]), array([2, 1]), array([1, 2]))
    """
    keys = first.astype(np.int64) << 32 | second
    if not keys.size:
        return keys, keys, keys
    starts = np.append(0, np.flatnonzero(keys[1:] != keys[:-1]) + 1)
    lengths = (
        np.diff(starts, append=keys.size) if counts is None else np.add.reduceat(counts, starts)
    )
    pairs, where = np.unique(keys[starts], return_inverse=True)
    total = np.bincount(where, lengths).astype(np.int64)
    return pairs >> 32, pairs & 0xFFFFFFFF, total
