"""A table of cells: position, size, intensity and shape of each."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import check_axes, get_plane, label_axes, label_shape, plane_indices
from napari_unet.core.checks import whole_labels
from napari_unet.core.missing import count_missing
from napari_unet.io.atomic import replacing

Columns = dict[str, NDArray[np.generic]]
# Columns that describe the shape of a cell in its plane, by the names of scikit-image.
SHAPE = ("axis_major_length", "axis_minor_length", "eccentricity", "solidity", "perimeter")


def measure(
    labels: LazyArray,
    image: LazyArray,
    axes: str,
    scale: Sequence[float] | None = None,
    check: Callable[[], None] = lambda: None,
    warn: Callable[[str], None] = lambda sentence: None,
) -> Columns:
    """Measure the cells of labels; planes are read one by one.

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
    sections: list[_Section] = []
    missing = 0
    for index in plane_indices(own, shape):
        place = dict(zip(letters, index, strict=True))
        plane = whole_labels(get_plane(labels, own, index)[0])
        pixels = get_plane(image, axes, index)
        missing += count_missing(np.where(plane > 0, pixels, 0))
        sections += _sections(plane, pixels, place, (size["Y"], size["X"]), check)
    if missing:
        warn(f"{missing} px in cells are no numbers; they were left out of the intensities")
    n_channels = int(image.shape[axes.index("C")]) if "C" in axes else 1
    return _of_cells(sections, letters, size, n_channels)


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
class _Section:
    """The measurements of one cell in one plane.

    Attributes
    ----------
    label
        Its id.
    n_px
        Its pixels.
    place
        Position of the plane by the letter of each axis other than C, Y, X.
    centroid
        (y, x), in units of the scale.
    mean, max, min
        Intensity in each channel.
    shape
        The values of `SHAPE`.
    """

    label: int
    n_px: int
    place: Mapping[str, int]
    centroid: tuple[float, float]
    mean: NDArray[np.float64]
    max: NDArray[np.float64]
    min: NDArray[np.float64]
    shape: Sequence[float]


def _sections(
    plane: NDArray[np.int32],
    pixels: NDArray[np.generic],
    place: Mapping[str, int],
    spacing: tuple[float, float],
    check: Callable[[], None],
) -> list[_Section]:
    """Measure each cell of a plane; return one record for each."""
    from skimage.measure import regionprops

    # Cells are numbered 1, 2, ..., because regionprops needs memory for the largest id. 0 is added
    # to the ids, so that background stays 0.
    ids, numbers = np.unique(np.append(plane.ravel(), 0), return_inverse=True)
    numbered = numbers.ravel()[:-1].reshape(plane.shape)
    found: list[_Section] = []
    for region in regionprops(numbered, np.moveaxis(pixels, 0, -1), spacing=spacing):
        check()
        values = _intensities(region)
        shape = {name: float(getattr(region, name)) for name in SHAPE[:-1]}
        if spacing[0] == spacing[1]:
            shape["perimeter"] = float(region.perimeter)
        found.append(
            _Section(
                label=int(ids[region.label]),
                n_px=int(region.num_pixels),
                place=dict(place),
                centroid=region.centroid,
                **values,
                shape=[shape.get(name, np.nan) for name in SHAPE],
            )
        )
    return found


def _intensities(region: Any) -> dict[str, NDArray[np.float64]]:
    """Return the mean, highest and lowest value of each channel in a cell; NaN without numbers."""
    if region.image_intensity.dtype.kind == "f":
        pixels = region.image_intensity[region.image].reshape(int(region.num_pixels), -1)
        there = np.isfinite(pixels)
        if not there.all():
            known = [
                channel[mask].astype(float) for channel, mask in zip(pixels.T, there.T, strict=True)
            ]
            return {
                name: np.array([of(values) if values.size else np.nan for values in known])
                for name, of in (("mean", np.mean), ("max", np.max), ("min", np.min))
            }
    return {
        name: np.atleast_1d(getattr(region, f"intensity_{name}")).astype(float)
        for name in ("mean", "max", "min")
    }


def _of_cells(
    sections: list[_Section],
    letters: Sequence[str],
    size: Mapping[str, float],
    n_channels: int,
) -> Columns:
    """Combine the records of each id, from all planes, into one row of the table."""
    ids, cell, n_sections = np.unique(
        np.array([s.label for s in sections], np.int64), return_inverse=True, return_counts=True
    )
    n_px = np.array([s.n_px for s in sections], float)
    total = np.bincount(cell, n_px, len(ids))

    def mean(values: Sequence[float]) -> NDArray[np.float64]:
        return np.bincount(cell, n_px * np.asarray(values, float), len(ids)) / total

    columns: Columns = {"label": ids}
    for letter in letters:
        first, last = _range([s.place[letter] for s in sections], cell, len(ids))
        name = letter.lower()
        if (first == last).all():
            columns[name] = first
        else:
            columns |= {f"{name}_first": first, f"{name}_last": last}
    # One pair (cell, time) for each time at which a cell is there.
    times = {(n, s.place.get("T", 0)) for n, s in zip(cell.tolist(), sections, strict=True)}
    n_times = np.bincount(np.array([n for n, _ in times], np.intp), minlength=len(ids))
    solid = "z_first" in columns
    extent = total / np.maximum(n_times, 1) * size["Y"] * size["X"] * (size["Z"] if solid else 1)
    columns["volume" if solid else "area"] = extent
    if "Z" in letters:
        columns["centroid_z"] = size["Z"] * mean([s.place["Z"] for s in sections])
    for number, name in enumerate(("centroid_y", "centroid_x")):
        columns[name] = mean([s.centroid[number] for s in sections])
    for channel in range(n_channels):
        ending = f"_{channel}" if n_channels > 1 else ""
        columns[f"intensity_mean{ending}"] = mean([s.mean[channel] for s in sections])
        _, highest = _range([s.max[channel] for s in sections], cell, len(ids))
        lowest, _ = _range([s.min[channel] for s in sections], cell, len(ids))
        columns |= {f"intensity_max{ending}": highest, f"intensity_min{ending}": lowest}
    wide = np.cbrt(6 / np.pi * extent) if solid else np.sqrt(4 / np.pi * extent)
    columns["equivalent_diameter"] = wide
    for number, name in enumerate(SHAPE):
        values = mean([s.shape[number] for s in sections])
        columns[name] = np.where(n_sections == 1, values, np.nan)
    return columns


def _range(
    values: Sequence[float], cell: NDArray[np.intp], n_cells: int
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Return the lowest and the highest value of each cell."""
    given = np.asarray(values)
    if not len(given):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(n_cells))
    return np.minimum.reduceat(given[order], starts), np.maximum.reduceat(given[order], starts)
