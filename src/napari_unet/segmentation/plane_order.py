"""Numbering of cells that does not depend on the order in which planes are segmented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PlaneLabels:
    """Preliminary labels of one plane, shown while other planes are segmented.

    Attributes
    ----------
    index
        Position along the axes other than C, Y, X.
    labels
        (Y, X) int32; do not write to them. The final ids may differ.
    """

    index: tuple[int, ...]
    labels: NDArray[np.int32]


def number_in_order(
    labels: NDArray[np.int32],
    planes: Sequence[tuple[int, ...]],
    votes: Sequence[NDArray[np.int64]],
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number cells as if their planes had been segmented in the order of their indices.

    Parameters
    ----------
    labels
        Ids 1, 2, ... in the order in which the planes were segmented; not changed.
    planes
        Indices of the planes, in that order.
    votes
        For each plane, the pixels of its cells by their class, (cells, classes).

    Returns
    -------
    The labels, which are a new array only if an id changed, and the votes of all cells.
    """
    if not planes:
        return labels, np.zeros((0, 1), np.int64)
    order = sorted(range(len(planes)), key=planes.__getitem__)
    starts = np.concatenate([[0], np.cumsum([len(cast) for cast in votes], dtype=np.intp)])
    cells = [np.arange(starts[number], starts[number + 1]) for number in order]
    before = np.concatenate(cells)
    cast = np.concatenate([votes[number] for number in order])
    if np.array_equal(before, np.arange(len(before))):
        return labels, cast
    table = np.zeros(len(before) + 1, np.int32)
    table[before + 1] = np.arange(1, len(before) + 1)
    return table[labels], cast
