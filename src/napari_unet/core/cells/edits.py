"""Find the pixels that a user's correction says something about.

These are the cells that were painted or reshaped, the pixels that were erased, and the background
in a ring around them. Every other pixel is unseen, and unseen does not mean background. A cell
nearby that nobody painted is unseen too, because it may be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label

from napari_unet.core.pairs import count_pairs

# When a cell is painted over in part, its rest counts as seen if the user has split the cell in
# two. That is so if at least the fraction `_INSIDE` of the painted cell lies in the old one, and
# the rest has at most `_HALVES` times and at least 1 / `_HALVES` times the painted cell's area.
_INSIDE, _HALVES = 0.9, 2.0
# A cell that is gone counts as the one that takes its place if they share more than this fraction
# of the smaller one.
_MOSTLY = 0.5
# Side of the blocks in which changed pixels are looked for, in pixels: about two cells.
_BLOCK_PX = 64

Box = tuple[slice, slice]


@dataclass(frozen=True)
class Edits:
    """The corrections of one plane.

    Attributes
    ----------
    trusted
        (Y, X) bool, pixels whose label the user has made or looked at.
    n_cells
        Number of cells that were changed. Pieces of one id that do not touch count as several; a
        wrong cell and the cell that takes its place count as one.
    """

    trusted: NDArray[np.bool_]
    n_cells: int


def find_edits(
    before: NDArray[np.integer],
    after: NDArray[np.integer],
    ring_px: int = 8,
    where: NDArray[np.integer] | None = None,
) -> Edits:
    """Compare labels (Y, X) with a snapshot taken before the user painted.

    Only places around changed pixels are looked at, so strokes on a large plane cost little.

    Parameters
    ----------
    before, after
        (Y, X) labels, 0 = background.
    ring_px
        Width, in pixels, of the ring around a changed cell whose background the user has looked
        at.
    where
        Positions in the flattened plane; elsewhere nothing differs. With None all is compared.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> before = np.zeros((5, 5), int)
    >>> after = before.copy()
    >>> after[2, 2] = 1
    >>> edits = find_edits(before, after, ring_px=1)
    >>> edits.n_cells
    1
    >>> edits.trusted.astype(int)
    array([[0, 0, 0, 0, 0],
           [0, 0, 1, 0, 0],
           [0, 1, 1, 1, 0],
           [0, 0, 1, 0, 0],
           [0, 0, 0, 0, 0]])
    """
    if before.shape != after.shape:
        raise ValueError(
            f"the labels are {after.shape} and were {before.shape} when the cells were found; "
            "segment the image again"
        )
    if where is None:
        where = np.flatnonzero(before != after)
    seen = np.zeros(before.shape, bool)
    # Of the labels before and after: ids of changed cells, and the number of their pieces.
    ids: tuple[set[int], set[int]] = (set(), set())
    n_pieces = [0, 0]
    replaced: list[int] = []
    for region in _regions(before, after, where):
        replaced += _replaced(region)
        for n, (piece, cells) in enumerate((region.old, region.new)):
            n_pieces[n] += len(piece)
            ids[n].update(cells)
        touched = region.changed | np.isin(region.after, _seen_pieces(region))
        _see(seen, after, region.box, touched, ring_px)
    extra = max(0, *(count - len(cells) for count, cells in zip(n_pieces, ids, strict=True)))
    gone = sum(cell not in ids[1] for cell in replaced)
    return Edits(seen, len(ids[0] | ids[1]) + extra - gone)


@dataclass(frozen=True)
class _Region:
    """A box of a plane, whose pieces (connected parts of one id) are numbered.

    Attributes
    ----------
    box
        Rows and columns.
    changed
        Pixels in it that changed.
    ids
        The labels before.
    before, after
        Numbers of the pieces, 0 = background.
    old, new
        Of both: the pieces with changed pixels, and their ids.
    is_whole
        Whether none of these pieces goes on outside the box.
    """

    box: Box
    changed: NDArray[np.bool_]
    ids: NDArray[np.integer]
    before: NDArray[np.integer]
    after: NDArray[np.integer]
    old: tuple[list[int], list[int]]
    new: tuple[list[int], list[int]]
    is_whole: bool


def _regions(
    before: NDArray[np.integer], after: NDArray[np.integer], where: NDArray[np.integer]
) -> list[_Region]:
    """Boxes apart from each other, which hold the places and all pieces that changed there."""
    grid = np.zeros([-(-n // _BLOCK_PX) for n in before.shape], bool)
    if where.size:
        grid[tuple(line // _BLOCK_PX for line in np.unravel_index(where, before.shape))] = True
    known: dict[tuple[int, ...], _Region] = {}
    covered = -1
    # Blocks are added until each group of them is a box, and each box is whole.
    while (now := int(np.count_nonzero(grid))) != covered:
        covered = now
        found: dict[tuple[int, ...], _Region] = {}
        for y, x in ndimage.find_objects(ndimage.label(grid, np.ones((3, 3)))[0]):
            key = y.start, y.stop, x.start, x.stop
            box = _pixels(y), _pixels(x)
            found[key] = known.get(key) or _region(before, after, box)
            grid[(y, x) if found[key].is_whole else (_wider(y), _wider(x))] = True
        known = found
    return list(known.values())


def _region(before: NDArray[np.integer], after: NDArray[np.integer], box: Box) -> _Region:
    # Copies: somebody may be painting.
    labels = before[box].copy(), after[box].copy()
    changed = labels[0] != labels[1]
    pieces = [label(ids, connectivity=2) for ids in labels]
    met = []
    is_whole = True
    for ids, piece in zip(labels, pieces, strict=True):
        of_cells = changed & (ids > 0)
        numbers = np.unique(piece[of_cells])
        met.append((numbers.tolist(), np.unique(ids[of_cells]).tolist()))
        is_whole = is_whole and not np.isin(_inner_edges(piece, box, before.shape), numbers).any()
    return _Region(box, changed, labels[0], pieces[0], pieces[1], met[0], met[1], is_whole)


def _inner_edges(
    piece: NDArray[np.integer], box: Box, shape: tuple[int, ...]
) -> NDArray[np.integer]:
    """The pixels along those edges of a box that are not edges of the plane."""
    y, x = box
    edges = (
        piece[: int(y.start > 0)],
        piece[len(piece) - int(y.stop < shape[0]) :],
        piece[:, : int(x.start > 0)],
        piece[:, piece.shape[1] - int(x.stop < shape[1]) :],
    )
    return np.concatenate([edge.ravel() for edge in edges])


def _pixels(blocks: slice) -> slice:
    return slice(blocks.start * _BLOCK_PX, blocks.stop * _BLOCK_PX)


def _wider(blocks: slice) -> slice:
    """Twice as many blocks, so that a large cell is soon inside."""
    more = max(1, (blocks.stop - blocks.start) // 2)
    return slice(max(blocks.start - more, 0), blocks.stop + more)


def _see(
    seen: NDArray[np.bool_],
    after: NDArray[np.integer],
    box: Box,
    touched: NDArray[np.bool_],
    ring_px: int,
) -> None:
    """Add what was touched in a box, and the background around it, to what was seen."""
    start = [max(line.start - ring_px, 0) for line in box]
    around = tuple(
        slice(first, line.stop + ring_px) for first, line in zip(start, box, strict=True)
    )
    wide = np.zeros(seen[around].shape, bool)
    inner = tuple(
        slice(line.start - first, line.start - first + n)
        for first, line, n in zip(start, box, touched.shape, strict=True)
    )
    wide[inner] = touched
    seen[around] |= wide | (_dilate(wide, ring_px) & (after[around] == 0))


def _seen_pieces(region: _Region) -> list[int]:
    """Return the numbers of the connected pieces of `after` that the user made, shaped or split."""
    before, after, changed = region.before, region.after, region.changed
    areas = np.bincount(after.ravel())
    seen = set(region.new[0])
    # For each old piece that lost pixels: which piece has them now, and how many.
    lost = changed & (before > 0)
    old, now, counts = count_pairs(before[lost], after[lost])
    kept = ~changed & np.isin(before, np.unique(old))
    for piece, rest, _ in zip(*count_pairs(before[kept], after[kept]), strict=True):
        over, inside = now[old == piece], counts[old == piece]
        if 0 in over:  # a part of it was erased
            seen.add(int(rest))
            continue
        largest = over[np.argmax(inside)]
        ratio = areas[rest] / areas[largest]
        if inside.max() >= _INSIDE * areas[largest] and 1 / _HALVES <= ratio <= _HALVES:
            seen.add(int(rest))
    return sorted(seen - {0})


def _replaced(region: _Region) -> list[int]:
    """Return the id of each piece of `before` that is gone, and mostly another cell now."""
    before, after, changed = region.before, region.after, region.changed
    areas = [np.bincount(pieces.ravel()) for pieces in (before, after)]
    both = changed & (before > 0) & (after > 0)
    old, new, shared = count_pairs(before[both], after[both])
    is_most = shared > _MOSTLY * np.minimum(areas[0][old], areas[1][new])
    kept = np.bincount(before[~changed], minlength=len(areas[0]))
    gone = np.unique(old[is_most & (kept[old] == 0)])
    ids = np.zeros(len(areas[0]), np.int64)
    ids[before] = region.ids
    return [int(cell) for cell in ids[gone]]


def _dilate(mask: NDArray[np.bool_], reach_px: int) -> NDArray[np.bool_]:
    """Return a mask of all pixels that are at most `reach_px` pixels from this one."""
    out = mask.copy()
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not (rows.size and reach_px):
        return out
    box = tuple(
        slice(max(int(line[0]) - reach_px, 0), int(line[-1]) + reach_px + 1)
        for line in (rows, columns)
    )
    out[box] = ndimage.distance_transform_edt(~mask[box]) <= reach_px
    return out
