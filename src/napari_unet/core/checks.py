"""What comes in through the doors: named and checked before the work begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_unet.core.axes import OneChannel, check_axes, get_plane, guess_axes, plane_indices

# Images are this wide at least; what is narrower along the last axis holds channels, not columns.
_NARROW_PX, _WIDE_PX = 8, 32


class Unfit(ValueError):
    """A file was read and cannot be used; the sentence does not name it."""

    @property
    def for_files(self) -> str:
        """The sentence for a command."""
        return str(self)


class Undecided(Unfit):
    """What an image is cannot be told; says how to decide it, in the words of each door.

    Parameters
    ----------
    what
        What came, and what is not clear.
    python, files, dock
        What to do in Python, with files (the command line) and in the dock.

    Attributes
    ----------
    for_dock
        The sentence for the dock; `str` is that for Python.
    """

    def __init__(self, what: str, *, python: str, files: str, dock: str) -> None:
        super().__init__(f"{what}; {python}")
        self._for_files, self.for_dock = f"{what}; {files}", f"{what}; {dock}"

    @property
    def for_files(self) -> str:
        """The sentence for a command."""
        return self._for_files


def in_dock(error: BaseException) -> str:
    """An error as one sentence for the dock."""
    return error.for_dock if isinstance(error, Undecided) else str(error)


def size_words(shape: Sequence[int]) -> str:
    """A shape as people write it: 5 x 40 x 50."""
    return " x ".join(map(str, shape))


def check_shape(shape: Sequence[Any]) -> None:
    """See that an image has a known size and is not empty.

    Raises
    ------
    ValueError
        If a length is unknown (Dask has NaN there) or 0.
    """
    if any(n != n for n in shape):
        raise Unfit("the size of the image is unknown; call compute_chunk_sizes() first")
    if 0 in shape:
        raise Unfit(f"the image is empty, {size_words(shape)}; give pixels")


def name_axes(shape: Sequence[int], axes: str | None = None, *, rgb: bool | None = None) -> str:
    """Axes of an image of this shape: the given ones, or YX, ZYX or TZYX, with C last for RGB.

    Parameters
    ----------
    shape
        Of the image.
    axes
        One letter of TZCYX for each axis, if they are known.
    rgb
        Whether the last axis holds colours; by default where it counts 3 or 4.

    Raises
    ------
    ValueError
        If it is empty, or they do not fit, or are not given and cannot be guessed.
    Undecided
        If its planes would be a few pixels wide.
    """
    check_shape(shape)
    if axes is None:
        if rgb is None:
            rgb = len(shape) > 2 and shape[-1] in (3, 4)
        axes = guess_axes(shape, rgb=rgb or (len(shape) > 2 and shape[-1] == 1))
        if axes[-1] == "X":
            check_wide(shape)
    return check_axes(axes, shape)


def name_array(
    array: Any, axes: str | None = None, *, rgb: bool | None = None
) -> tuple[Any, str, int]:
    """An array without axes of length 1 that nobody names, its axes, and how many were left out.

    For parameters and errors see `name_axes`. Nothing is read.
    """
    check_shape(array.shape)
    ndim, spare = len(array.shape), list(array.shape).count(1)
    left_out = min(spare, max(0, ndim - len(axes))) if axes else 0
    if axes is None and ndim > 4 + bool(rgb) and ndim - spare <= 3 + bool(rgb):
        left_out = spare
    for _ in range(left_out):
        place = tuple(array.shape).index(1)
        if isinstance(array, np.ndarray):
            array = array.squeeze(place)
        else:
            array = OneChannel(array, place, 0)
    if len(array.shape) > 5:
        raise Unfit(
            f"the image has {len(array.shape)} axes longer than 1, {tuple(array.shape)}; five "
            "(TZCYX) are the most; give a part of it"
        )
    return array, name_axes(array.shape, axes, rgb=rgb), left_out


def check_channels(count: int, n_model: int | None = None, names: Sequence[str] = ()) -> None:
    """See that separate channels are as many as a model takes, or one.

    Three are never taken for the colours of a photograph.

    Raises
    ------
    Undecided
        If one is to be chosen.
    """
    if count == 1 or (count == n_model and count != 3):
        return
    known = f" ({', '.join(names)})" if len(names) == count else ""
    rgb = "" if count not in (3, 4) else "{}, if they are the colours of a photograph"
    raise Undecided(
        f"the image has {count} separate channels{known}",
        python=f"choose the one that shows the cells with channel=0 to {count - 1}, as in "
        "PredictConfig(channel=0)" + rgb.format("; or put them last"),
        files=f"choose the one that shows the cells with --channel 0 to {count - 1}"
        + rgb.format(", or give --rgb"),
        dock=f"choose the one that shows the cells under Advanced, Channel (0 to {count - 1})",
    )


def check_array_channels(
    axes: str, shape: Sequence[int], n_model: int, names: Sequence[str] = ()
) -> None:
    """The same of an array: 3 or 4 channels as its last axis are colours, all others are separate.

    Raises
    ------
    Undecided
        As `check_channels`.
    """
    count = shape[axes.index("C")] if "C" in axes else 1
    if not (axes[-1] == "C" and count in (3, 4)):
        check_channels(count, n_model, names)


def check_wide(shape: Sequence[int]) -> None:
    """See that the last axis of an image without channels is not that of a few channels.

    Raises
    ------
    Undecided
        If it is a few pixels long and the others are not.
    """
    if len(shape) < 3:
        return
    *_, height, width = shape
    if width <= _NARROW_PX and height >= _WIDE_PX and shape[-3] >= _WIDE_PX:
        axes = "TZYXC"[-len(shape) :]
        raise Undecided(
            f"the image is {size_words(shape)}: its last axis is too short for columns and may "
            "hold channels",
            python=f"name the axes, axes={axes!r} and PredictConfig(channel=0) for the first of "
            "its channels",
            files=f"give --axes {axes} --channel 0 for the first of its channels",
            dock=f"write {axes} under Advanced, Axes",
        )


def whole_labels(labels: ArrayLike) -> NDArray[np.int32]:
    """Instance labels as int32, a copy.

    Raises
    ------
    ValueError
        If they are no whole numbers, or one is negative or beyond int32.
    """
    array = np.asarray(labels)
    if array.dtype.kind == "f" and (array == np.trunc(array)).all():
        array = array.astype(np.int64) if np.abs(array).max(initial=0) < 2**62 else array
    if array.dtype.kind not in "biu":
        raise ValueError(f"the labels are {array.dtype}; give whole numbers, 0 for background")
    if array.size:
        lowest, highest = int(array.min()), int(array.max())
        if lowest < 0 or highest > np.iinfo(np.int32).max:
            raise ValueError(
                f"the labels go from {lowest} to {highest}; give 0 for background and "
                "numbers up to 2147483647 for cells"
            )
    return array.astype(np.int32)


def check_numbered(labels: NDArray[np.int32], axes: str) -> None:
    """See that labels tell cells apart: no mask in which all cells have one number.

    Parameters
    ----------
    labels
        Whole numbers, with these axes (no C).

    Raises
    ------
    Undecided
        If they are one, see `mask_words`.
    """
    found = mask_words(labels, axes)
    if found:
        raise Undecided(
            f"the labels hold {found}: a mask, not a number for each cell",
            python="number the cells, for example with skimage.measure.label(labels)",
            files="give one number to each cell, or give --split: each piece is a cell then, and "
            "cells that touch are one",
            dock="give one number to each cell",
        )


def mask_words(labels: NDArray[np.int32], axes: str) -> str:
    """What labels hold that are a mask, in words; empty if they tell cells apart.

    A mask has at most three numbers, in twice as many separate pieces or more. For parameters see
    `check_numbered`.
    """
    from scipy import ndimage

    values = np.unique(labels)
    values = values[values > 0]
    if not 0 < len(values) <= 3:
        return ""
    pieces = sections = 0
    for index in plane_indices(axes, labels.shape):
        plane = get_plane(labels, axes, index)[0]
        for value in values:
            count = ndimage.label(plane == value, np.ones((3, 3)))[1]
            pieces, sections = pieces + count, sections + (count > 0)
    if pieces < 2 * sections:
        return ""
    names = ", ".join(map(str, values))
    one = f"one value ({names})" if len(values) == 1 else f"{len(values)} values ({names})"
    return f"{one} in {pieces} separate pieces"


def split_pieces(labels: NDArray[np.int32], axes: str) -> NDArray[np.int32]:
    """Labels in which each connected piece of a number is a cell of its own, at each time.

    For parameters see `check_numbered`.
    """
    from skimage.measure import label

    out = np.zeros_like(labels)
    times = labels.shape[axes.index("T")] if "T" in axes else 1
    for time in range(times):
        at = tuple(time if axis == "T" else slice(None) for axis in axes)
        part = label(labels[at], background=0)
        out[at] = np.where(part, part + out.max(initial=0), 0)
    return out


def check_plane(plane: NDArray[Any]) -> None:
    """See that a raw plane (C, Y, X) holds numbers that can be scaled.

    Raises
    ------
    ValueError
        If it is empty, complex or no numbers at all, or none of them is finite.
    """
    if plane.dtype.kind == "c":
        raise ValueError(f"the image is {plane.dtype}; give real numbers, such as the magnitude")
    if plane.dtype.kind not in "biuf":
        raise ValueError(f"the image is {plane.dtype}; give whole numbers or floats")
    if not plane.size:
        size = " x ".join(str(length) for length in plane.shape[1:])
        raise ValueError(f"the image is empty, {size} px; give pixels")
    if plane.dtype.kind == "f" and not np.isfinite(plane).any():
        raise ValueError("the image holds no finite number; give one that is not all NaN")
