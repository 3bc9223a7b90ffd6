"""A table of cells: position, size, intensity and shape of each."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import (
    check_axes,
    get_plane,
    label_axes,
    label_shape,
    plane_indices,
    plane_shape,
)
from napari_unet.core.cells.properties import SHAPE, Ids, Properties, boxes, properties
from napari_unet.core.checks import whole_labels
from napari_unet.core.pairs import count_pairs
from napari_unet.io.atomic import replacing

Columns = dict[str, NDArray[np.generic]]
# Pixels of a plane that are read at once, and that are measured at once. Measuring takes about 150
# bytes for each.
_READ_PX, _BAND_PX = 1 << 24, 1 << 18


def measure(
    labels: LazyArray,
    image: LazyArray,
    axes: str,
    scale: Sequence[float] | None = None,
    check: Callable[[], None] = lambda: None,
    warn: Callable[[str], None] = lambda sentence: None,
    progress: Callable[[float, str], None] = lambda fraction, message: None,
) -> Columns:
    """Measure the cells of labels; parts of planes are read one by one.

    Columns: `label`; `t` and `z`, the plane, or `t_first`, `t_last`, `z_first`, `z_last` where a
    cell lies in several; `area`, or `volume` where cells were linked along z; `centroid_z`,
    `centroid_y`, `centroid_x`; `intensity_mean`, `_max`, `_min`, with the number of the channel
    where there are several; `equivalent_diameter` of a disc of that area (a ball of that volume);
    and the columns of `SHAPE`, which are NaN for cells on several planes. If a cell was linked over
    time, its area or volume is the mean over its times, and the other columns are over all pixels.

    Parameters
    ----------
    labels
        Array-like with the image's axes without C, whole numbers, 0 = background.
    image
        Array-like, in the order of `axes`.
    axes
        The axes of the image: one letter of TZCYX for each.
    scale
        Size of a pixel along each axis of the labels (the one of T is not used); 1 by default.
        Lengths, areas, volumes and centroids are in its units.
    check
        Called after each cell; may raise to stop.
    warn
        Called with a sentence if pixels of cells are not numbers; intensities leave them out.
    progress
        Called with the fraction that is done and what is being done, in words.

    Returns
    -------
    Arrays of one length, with one entry for each id, in the order of the ids.

    Raises
    ------
    ValueError
        If axes, shapes or the scale do not fit, or the labels are not whole numbers.
    """
    axes = check_axes(axes, image.shape)
    own = label_axes(axes)
    shape = tuple(int(n) for n in labels.shape)
    if shape != label_shape(axes, image.shape):
        raise ValueError(
            f"the labels are {shape} and the image is {tuple(image.shape)} with the axes {axes}; "
            "give one number for each pixel"
        )
    size = _sizes(own, scale)
    letters = [axis for axis in own if axis not in "YX"]
    n_channels = int(image.shape[axes.index("C")]) if "C" in axes else 1
    sections = [_Sections.none(letters, n_channels)]
    indices = list(plane_indices(own, shape))
    for number, index in enumerate(indices):
        where = f", plane {number + 1} of {len(indices)}" if len(indices) > 1 else ""
        place = dict(zip(letters, index, strict=True))
        for rows, ids in _parts(labels, own, index):
            done = number + rows.start / plane_shape(own, shape)[0]
            progress(done / len(indices), f"measuring cells{where}")
            box = (rows, slice(None))
            part = whole_labels(get_plane(labels, own, index, box)[0])
            pixels = get_plane(image, axes, index, box)
            for inner, some in _bands(part, ids, max(_BAND_PX // part.shape[1], 1)):
                found = properties(
                    part[inner], pixels[:, inner], some, (size["Y"], size["X"]), check
                )
                above = np.array([(rows.start + inner.start) * size["Y"], 0])
                sections.append(_Sections.of(found, some, place, found.centroid + above))
    together = _Sections.joined(sections)
    if together.found.n_missing:
        warn(
            f"{together.found.n_missing} px in cells are no numbers; they were left out of the "
            "intensities"
        )
    return _of_cells(together, letters, size, n_channels)


def _parts(labels: LazyArray, axes: str, index: tuple[int, ...]) -> Iterator[tuple[slice, Ids]]:
    """Yield parts of a plane: its rows, and the ids of the cells that lie in it whole.

    Each cell is in one part. Parts overlap where cells reach into the next.
    """
    height, width = plane_shape(axes, labels.shape)
    step = max(_READ_PX // max(width, 1), 1)
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for start in range(0, height, step):
        box = (slice(start, min(start + step, height)), slice(None))
        ids, top, bottom = boxes(whole_labels(get_plane(labels, axes, index, box)[0]))
        for cell, low, high in zip(ids.tolist(), top.tolist(), bottom.tolist(), strict=True):
            first.setdefault(cell, start + low)
            last[cell] = start + high
    cells = np.array(sorted(first), np.int32)
    tops, bottoms = (np.array([rows[cell] for cell in cells.tolist()]) for rows in (first, last))
    yield from _groups(cells, tops, bottoms, step)


def _bands(labels: Ids, ids: Ids, step: int) -> Iterator[tuple[slice, Ids]]:
    """Yield the same of a part, for those of its cells that have these ids."""
    cells, tops, bottoms = boxes(labels)
    chosen = np.isin(cells, ids)
    yield from _groups(cells[chosen], tops[chosen], bottoms[chosen], step)


def _groups(
    ids: Ids, tops: NDArray[np.intp], bottoms: NDArray[np.intp], step: int
) -> Iterator[tuple[slice, Ids]]:
    """Yield the cells that begin within so many rows, and all rows that these lie in."""
    number = tops // step
    for group in np.unique(number):
        chosen = number == group
        yield slice(int(tops[chosen].min()), int(bottoms[chosen].max()) + 1), ids[chosen]


def write_table(path: Path, columns: Mapping[str, ArrayLike]) -> None:
    """Write columns to a CSV file, with a line of names; NaN becomes an empty field."""
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        rows = zip(*(np.asarray(column) for column in columns.values()), strict=True)
        writer.writerows([_text(value) for value in row] for row in rows)


def _text(value: object) -> str:
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.9g}"
    return str(value)


def _sizes(axes: str, scale: Sequence[float] | None) -> dict[str, float]:
    given = [1.0] * len(axes) if scale is None else [abs(float(size)) for size in scale]
    if len(given) != len(axes) or not all(0 < size < np.inf for size in given):
        raise ValueError(
            f"the scale is {given} and the labels have the axes {axes}; give one size above 0 "
            "for each"
        )
    return dict(zip(axes, given, strict=True))


@dataclass(frozen=True)
class _Sections:
    """Measurements of cells in planes, one entry for each cell and plane.

    Attributes
    ----------
    label
        (n,), ids.
    place
        Position of the plane by the letter of each axis other than C, Y, X, (n,) each.
    centroid
        (n, 2), y and x in the whole plane, in units of the scale.
    found
        What was measured.
    """

    label: Ids
    place: Mapping[str, NDArray[np.intp]]
    centroid: NDArray[np.float64]
    found: Properties

    @staticmethod
    def none(letters: Sequence[str], n_channels: int) -> _Sections:
        """No cells."""
        values = np.zeros((0, n_channels))
        found = Properties(
            np.zeros(0), np.zeros((0, 2)), values, values, values, np.zeros((0, len(SHAPE)))
        )
        return _Sections.of(found, np.zeros(0, np.int32), dict.fromkeys(letters, 0), found.centroid)

    @staticmethod
    def of(
        found: Properties, ids: Ids, place: Mapping[str, int], centroid: NDArray[np.float64]
    ) -> _Sections:
        """The cells of one plane."""
        where = {letter: np.full(len(ids), at, np.intp) for letter, at in place.items()}
        return _Sections(ids, where, centroid, found)

    @staticmethod
    def joined(parts: Sequence[_Sections]) -> _Sections:
        """All of them."""

        def join(name: str) -> NDArray[np.float64]:
            return np.concatenate([getattr(part.found, name) for part in parts])

        return _Sections(
            np.concatenate([part.label for part in parts]),
            {
                letter: np.concatenate([part.place[letter] for part in parts])
                for letter in parts[0].place
            },
            np.concatenate([part.centroid for part in parts]),
            Properties(
                n_px=join("n_px"),
                centroid=join("centroid"),
                mean=join("mean"),
                max=join("max"),
                min=join("min"),
                shape=join("shape"),
                n_missing=sum(part.found.n_missing for part in parts),
            ),
        )


def _of_cells(
    sections: _Sections,
    letters: Sequence[str],
    size: Mapping[str, float],
    n_channels: int,
) -> Columns:
    """Combine the records of each id, from all planes, into one row of the table."""
    found = sections.found
    ids, cell, n_sections = np.unique(
        sections.label.astype(np.int64), return_inverse=True, return_counts=True
    )
    n_px = found.n_px
    total = np.bincount(cell, n_px, len(ids))

    def mean(values: NDArray[np.number]) -> NDArray[np.float64]:
        return np.bincount(cell, n_px * values, len(ids)) / total

    columns: Columns = {"label": ids}
    for letter in letters:
        first, last = _range(sections.place[letter], cell, len(ids))
        name = letter.lower()
        if (first == last).all():
            columns[name] = first
        else:
            columns |= {f"{name}_first": first, f"{name}_last": last}
    # One pair (cell, time) for each time at which a cell is there.
    time = sections.place.get("T", np.zeros_like(cell))
    n_times = np.bincount(count_pairs(cell, time)[0], minlength=len(ids))
    solid = "z_first" in columns
    extent = total / np.maximum(n_times, 1) * size["Y"] * size["X"] * (size["Z"] if solid else 1)
    columns["volume" if solid else "area"] = extent
    if "Z" in letters:
        columns["centroid_z"] = size["Z"] * mean(sections.place["Z"])
    for number, name in enumerate(("centroid_y", "centroid_x")):
        columns[name] = mean(sections.centroid[:, number])
    for channel in range(n_channels):
        ending = f"_{channel}" if n_channels > 1 else ""
        columns[f"intensity_mean{ending}"] = mean(found.mean[:, channel])
        _, highest = _range(found.max[:, channel], cell, len(ids))
        lowest, _ = _range(found.min[:, channel], cell, len(ids))
        columns |= {f"intensity_max{ending}": highest, f"intensity_min{ending}": lowest}
    wide = np.cbrt(6 / np.pi * extent) if solid else np.sqrt(4 / np.pi * extent)
    columns["equivalent_diameter"] = wide
    for number, name in enumerate(SHAPE):
        values = mean(found.shape[:, number])
        columns[name] = np.where(n_sections == 1, values, np.nan)
    return columns


def _range(
    values: NDArray[np.generic], cell: NDArray[np.intp], n_cells: int
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Return the lowest and the highest value of each cell."""
    if not len(values):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(n_cells))
    return np.minimum.reduceat(values[order], starts), np.maximum.reduceat(values[order], starts)
