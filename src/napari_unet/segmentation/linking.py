"""The linking of cells: one id for each cell on all its planes, along z, along t or both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import Link
from napari_unet.core.axes import planes_last

if TYPE_CHECKING:
    from napari_unet.core.cells.linking import Ids, Overlaps

    # The ids of cells, and their areas in pixels.
    Cells = tuple[Ids, Ids]
Index = tuple[int, ...]


def check_link(link: Link, axes: str) -> None:
    """Check that an image has the axes to link along.

    Raises
    ------
    ValueError
        If one is missing.
    """
    missing = [letter for letter in link.upper() if letter not in axes]
    if link != "none" and missing:
        raise ValueError(
            f"cells are to be linked along {missing[0]} and the image has the axes {axes}; "
            "name its axes (the dock: read as), or do not link"
        )


def linked_ids(
    labels: NDArray[np.int32],
    axes: str,
    link: Link,
    check: Callable[[], None] = lambda: None,
    within: str = "YX",
    progress: Callable[[int, int], None] = lambda number, count: None,
) -> NDArray[np.int32]:
    """Return a table that gives, for each id, the id of its linked cell; 0 stays 0.

    Ids of linked cells are 1, 2, ... in the order of the planes. With "zt", cells are first linked
    along z, and then each linked cell as a whole is linked along t.

    Parameters
    ----------
    labels
        Labels with ids unique over all planes.
    axes
        The axes of the labels: T, Z, Y, X in any order.
    link
        The axes to link along.
    check
        Called between planes; may raise to stop.
    within
        The axes along which a cell has one id already.
    progress
        Called with the number of the plane that is being linked, from 0, and the number of planes.
    """
    from napari_unet.core.cells.linking import areas, overlaps

    if link == "none":
        return np.arange(int(labels.max(initial=0)) + 1, dtype=np.int32)
    planes = planes_last(labels, axes)
    apart_shape = planes.shape[:-2]

    def cells(plane: Index) -> Cells:
        check()
        return areas(planes[plane])

    def overlapping(earlier: Index, plane: Index) -> Overlaps:
        check()
        progress(int(np.ravel_multi_index(plane, apart_shape)), math.prod(apart_shape))
        return overlaps(planes[earlier], planes[plane])

    apart = axes.replace("Y", "").replace("X", "")
    every = {plane: cells(plane) for plane in np.ndindex(*apart_shape)}
    return link_cells(every, overlapping, apart, link, within)


def link_cells(
    cells: Mapping[Index, Cells],
    overlapping: Callable[[Index, Index], Overlaps],
    axes: str,
    link: Link,
    within: str = "YX",
) -> NDArray[np.int32]:
    """Return the same table as `linked_ids`, from the areas and overlaps of cells alone.

    Parameters
    ----------
    cells
        For each plane, the ids of its cells and their areas in pixels.
    overlapping
        Returns the overlaps between the cells of two planes. It is called for each plane with each
        of its `nearest` earlier planes.
    axes
        The axes along which the planes lie, that is without Y and X.
    link, within
        As for `linked_ids`.
    """
    highest = max(int(ids.max(initial=0)) for ids, _ in cells.values())
    numbers = np.arange(highest + 1)
    for letter in link.upper():
        step, highest = np.zeros_like(numbers), 0
        for row in _rows(sorted(cells), axes, letter, within):
            for ids, linked in _link_row(row, cells, overlapping, numbers):
                step[ids] = linked + highest
            highest = int(step.max())
        numbers, within = step[numbers], letter + within
    return numbers.astype(np.int32)


def nearest(plane: Index, axes: str, link: Link) -> list[Index]:
    """Return the earlier planes that may show the same cells; for parameters see `link_cells`."""
    from napari_unet.core.cells.linking import Rule

    found = (
        (*plane[:along], plane[along] - gap, *plane[along + 1 :])
        for along in map(axes.index, link.upper())
        for gap in range(1, 2 + Rule().bridge)
    )
    return [earlier for earlier in found if min(earlier) >= 0]


def _rows(
    planes: Sequence[Index], axes: str, letter: str, within: str
) -> Iterator[list[list[Index]]]:
    """Yield rows of frames along an axis.

    A frame is one plane, or all planes on which cells have one id already (`within`).
    """
    along = axes.index(letter)
    apart = [n for n, axis in enumerate(axes) if axis not in letter + within]
    rows: dict[Index, dict[int, list[Index]]] = {}
    for plane in planes:
        row = rows.setdefault(tuple(plane[n] for n in apart), {})
        row.setdefault(plane[along], []).append(plane)
    for row in rows.values():
        yield list(row.values())


def _link_row(
    row: list[list[Index]],
    cells: Mapping[Index, Cells],
    overlapping: Callable[[Index, Index], Overlaps],
    numbers: Ids,
) -> Iterator[tuple[Ids, Ids]]:
    """Link the frames of a row; yield the present ids of each frame, and their linked cells."""
    from napari_unet.core.cells.linking import add_up, link

    def together(frame: list[Index]) -> Cells:
        ids = np.concatenate([numbers[cells[plane][0]] for plane in frame])
        areas = np.concatenate([cells[plane][1] for plane in frame])
        found, which = np.unique(ids, return_inverse=True)
        return found, np.bincount(which, areas, len(found)).astype(np.int64)

    def between(one: int, other: int) -> Overlaps:
        tables = (overlapping(*planes) for planes in zip(row[one], row[other], strict=True))
        return add_up((numbers[a], numbers[b], shared) for a, b, shared in tables)

    frames = [together(frame) for frame in row]
    for (ids, _), objects in zip(frames, link(frames, between), strict=True):
        yield ids, objects
