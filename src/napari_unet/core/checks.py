"""Checks of images and labels that a user gives, made before any work begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_unet.core.arrays import LazyArray, Pixels
from napari_unet.core.axes import OneChannel, check_axes, get_plane, guess_axes, plane_indices

# An image of three axes whose last axis is at most `_NARROW_PX` long, while both others have at
# least `_WIDE_PX` pixels, may hold channels along the last axis: so few columns are rare.
_NARROW_PX, _WIDE_PX = 8, 32


class Unfit(ValueError):
    """A file was read and cannot be used; the message says why and does not name the file."""

    @property
    def for_files(self) -> str:
        """The message for the command line."""
        return str(self)


class Undecided(Unfit):
    """It is not clear what an image holds; the user has to say it.

    There is one message each for Python, for the command line and for the dock, because the
    option to set has another name in each.

    Parameters
    ----------
    what
        What was given, and what is not clear.
    python, files, dock
        What to do in Python, on the command line, and in the dock.

    Attributes
    ----------
    for_dock
        The message for the dock. `str` gives the one for Python.
    """

    def __init__(self, what: str, *, python: str, files: str, dock: str) -> None:
        super().__init__(f"{what}; {python}")
        self._for_files, self.for_dock = f"{what}; {files}", f"{what}; {dock}"

    @property
    def for_files(self) -> str:
        """The message for the command line."""
        return self._for_files


def in_dock(error: BaseException) -> str:
    """Return the message of an error as the dock shows it."""
    return error.for_dock if isinstance(error, Undecided) else str(error)


def size_words(shape: Sequence[float]) -> str:
    """Return a shape as text, such as "5 x 40 x 50"."""
    return " x ".join(map(str, shape))


def check_shape(shape: Sequence[float]) -> None:
    """Raise an error if an image is empty or its size is unknown.

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
    """Return the axes of an image: the given ones, else YX, ZYX or TZYX, with C last for RGB.

    Parameters
    ----------
    shape
        Shape of the image.
    axes
        One letter of TZCYX for each axis, if they are known.
    rgb
        Whether the last axis holds colours. By default it does if its length is 3 or 4.

    Raises
    ------
    ValueError
        If the image is empty, or the axes do not fit, or they are not given and cannot be guessed.
    Undecided
        If the planes would be only a few pixels wide.

    Examples
    --------
    >>> name_axes((40, 50))
    'YX'
    >>> name_axes((40, 50, 3))
    'YXC'
    >>> name_axes((9, 40, 50), "tyx")
    'TYX'
    """
    check_shape(shape)
    if axes is None:
        if rgb is None:
            rgb = len(shape) > 2 and shape[-1] in (3, 4)
        axes = guess_axes(shape, rgb=rgb or (len(shape) > 2 and shape[-1] == 1))
        if axes[-1] == "X":
            check_wide(shape)
    return check_axes(axes, shape)


@overload
def name_array(
    array: Pixels, axes: str | None = None, *, rgb: bool | None = None
) -> tuple[Pixels, str, int]: ...


@overload
def name_array(
    array: LazyArray, axes: str | None = None, *, rgb: bool | None = None
) -> tuple[LazyArray, str, int]: ...


def name_array(
    array: LazyArray, axes: str | None = None, *, rgb: bool | None = None
) -> tuple[LazyArray, str, int]:
    """Return an array with a name for each axis, its axes, and how many axes were left out.

    Axes of length 1 that `axes` does not name are left out. No pixel is read. For the parameters
    and the errors see `name_axes`.

    Examples
    --------
    >>> import numpy as np
    >>> array, axes, left_out = name_array(np.zeros((1, 40, 50)), "YX")
    >>> array.shape, axes, left_out
    ((40, 50), 'YX', 1)
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
    """Raise an error if the user has to choose one of several separate channels.

    No choice is needed for one channel, or for as many as the model takes. Three separate channels
    are never used as the colours of a photograph.

    Parameters
    ----------
    count
        Number of separate channels of the image.
    n_model
        Number of channels that the model takes, if it is known.
    names
        Names of the channels, for the message.

    Raises
    ------
    Undecided
        If one channel has to be chosen.
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
        dock=f"choose the one that shows the cells under Channel (0 to {count - 1})",
    )


def check_array_channels(
    axes: str, shape: Sequence[int], n_model: int, names: Sequence[str] = ()
) -> None:
    """Do `check_channels` for an array.

    3 or 4 channels along the last axis are colours; all other channels are separate.

    Raises
    ------
    Undecided
        As `check_channels`.
    """
    count = shape[axes.index("C")] if "C" in axes else 1
    if not (axes[-1] == "C" and count in (3, 4)):
        check_channels(count, n_model, names)


def check_wide(shape: Sequence[int]) -> None:
    """Raise an error if the last axis of an image seems to hold channels instead of columns.

    Raises
    ------
    Undecided
        If the last axis is a few pixels long and the two axes before it are long.
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
            dock=f"write {axes} under More settings, Axes",
        )


def whole_labels(labels: ArrayLike) -> NDArray[np.int32]:
    """Return a copy of labels as int32.

    Raises
    ------
    ValueError
        If they are not whole numbers, or one is negative or too large for int32.

    Examples
    --------
    >>> whole_labels([[0.0, 2.0]])
    array([[0, 2]], dtype=int32)
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
    """Raise an error if labels are a mask, in which all cells have the same number.

    Parameters
    ----------
    labels
        Whole numbers, 0 = background.
    axes
        Axes of the labels, without C.

    Raises
    ------
    Undecided
        If they are a mask (see `mask_words`).
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
    """Describe labels that are a mask in a few words; return "" if each cell has its own number.

    Labels count as a mask if they hold at most three numbers and these lie, on average, in two
    separate pieces or more on each plane. For the parameters see `check_numbered`.

    Examples
    --------
    >>> mask = np.array([[1, 0, 1, 0, 1]], np.int32)
    >>> mask_words(mask, "YX")
    'one value (1) in 3 separate pieces'
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
    """Return labels in which each connected piece is a cell with its own number.

    Each time point is split alone, so its cells have other numbers than those of the next one. For
    the parameters see `check_numbered`.
    """
    from skimage.measure import label

    out = np.zeros_like(labels)
    times = labels.shape[axes.index("T")] if "T" in axes else 1
    for time in range(times):
        at = tuple(time if axis == "T" else slice(None) for axis in axes)
        part = label(labels[at], background=0)
        out[at] = np.where(part, part + out.max(initial=0), 0)
    return out


def check_plane(plane: Pixels) -> None:
    """Raise an error if a raw plane (C, Y, X) does not hold numbers that can be scaled.

    Raises
    ------
    ValueError
        If the plane is empty, holds complex values or no numbers, or no number is finite.
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
