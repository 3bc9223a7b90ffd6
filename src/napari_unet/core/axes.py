"""Names of axes, and the planes (C, Y, X) and stacks (C, Z, Y, X) of an image with any axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from napari_unet.core.arrays import Index, LazyArray, Pixels
from napari_unet.core.stains import NuclearStain

# The letters of the axes, in the order that ImageJ writes them.
ORDER = "TZCYX"
# Names that people and programs give to each axis, in small letters.
_NAMES = {
    "T": ("t", "time", "frame", "frames"),
    "Z": ("z", "slice", "slices", "plane", "planes", "depth"),
    "C": ("c", "ch", "channel", "channels", "colour", "color"),
    "Y": ("y", "row", "rows", "height"),
    "X": ("x", "column", "columns", "col", "width"),
}
_LETTERS = {name: letter for letter, names in _NAMES.items() for name in names}


class Unreadable(ValueError):
    """Pixels could not be read; the message says which pixels and why."""


def guess_axes(shape: Sequence[int], *, rgb: bool = False) -> str:
    """Return the usual axes of an array of this shape: YX, ZYX or TZYX, with C last for RGB.

    Raises
    ------
    ValueError
        If there are fewer than 2 or more than 4 axes, not counting the axis of the colours.

    Examples
    --------
    >>> guess_axes((12, 512, 512))
    'ZYX'
    >>> guess_axes((512, 512, 3), rgb=True)
    'YXC'
    """
    n = len(shape) - int(rgb)
    if not 2 <= n <= 4:
        raise ValueError(
            f"the image has {len(shape)} axes; name them, for example 'TZCYX', or give 2 to 4"
        )
    return "TZYX"[-n:] + ("C" if rgb else "")


def axes_from_names(names: Sequence[str], shape: Sequence[int], *, rgb: bool = False) -> str:
    """Return the axes of an array some of whose axes have names; the others are guessed.

    Parameters
    ----------
    names
        One name for each axis, a word or a letter; none for the axis of the colours of RGB. A name
        that is not known is ignored.
    shape
        Shape of the array.
    rgb
        Whether the last axis holds colours.

    Raises
    ------
    ValueError
        If there are more axes than can be guessed.

    Examples
    --------
    >>> axes_from_names(["time", "?", "?"], (9, 512, 512))
    'TYX'
    """
    named = [_LETTERS.get(str(name).strip().lower()) for name in names]
    told = [letter for letter in named if letter is not None]
    rest = [letter for letter in "TZYX" if letter not in told]
    unnamed = len(named) - len(told)
    clear = len(set(told)) == len(told) and unnamed <= len(rest) and not (rgb and "C" in told)
    usual = rest[len(rest) - unnamed :]
    # Y and X have to be among them.
    if not clear or not {"Y", "X"} <= {*told, *usual}:
        return guess_axes(shape, rgb=rgb)
    return "".join(letter or usual.pop(0) for letter in named) + ("C" if rgb else "")


def check_axes(axes: str, shape: Sequence[int]) -> str:
    """Return `axes` in capitals if they name each axis of `shape` once.

    Raises
    ------
    ValueError
        If the number of letters is not that of the axes, a letter is not one of TZCYX or appears
        twice, or Y or X is missing.

    Examples
    --------
    >>> check_axes("zyx", (12, 512, 512))
    'ZYX'
    """
    axes = axes.upper()
    if len(axes) != len(shape):
        raise ValueError(
            f"the axes {axes!r} name {len(axes)} axes and the image has {len(shape)} "
            f"{tuple(shape)}; give one letter for each"
        )
    if set(axes) - set(ORDER) or len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
        raise ValueError(f"the axes are {axes!r}; use each of T, Z, C at most once, and Y and X")
    return axes


def label_axes(axes: str) -> str:
    """Return the axes of the labels of an image: the image's axes without C.

    Examples
    --------
    >>> label_axes("TCYX")
    'TYX'
    """
    return axes.replace("C", "")


def label_shape(axes: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of the labels of an image: the image's shape without the channels.

    Examples
    --------
    >>> label_shape("CYX", (3, 40, 50))
    (40, 50)
    """
    return tuple(n for axis, n in zip(axes, shape, strict=True) if axis != "C")


def plane_indices(axes: str, shape: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield the index of each plane, along the axes that are not C, Y or X, in order.

    Examples
    --------
    >>> list(plane_indices("TCYX", (2, 3, 40, 50)))
    [(0,), (1,)]
    """
    sizes = (n for axis, n in zip(axes, shape, strict=True) if axis not in "CYX")
    yield from product(*(range(n) for n in sizes))


def get_plane(
    array: LazyArray, axes: str, index: Sequence[int], box: tuple[slice, slice] | None = None
) -> Pixels:
    """Return one plane (C, Y, X) of an image with these axes; only this plane is read.

    Parameters
    ----------
    array
        The image, an array of NumPy, Dask or zarr, or any other `LazyArray`.
    axes
        One letter of TZCYX for each axis.
    index
        Position along the axes that are not C, Y or X.
    box
        Rows and columns to read; the whole plane by default.

    Raises
    ------
    Unreadable
        If the pixels cannot be read.

    Examples
    --------
    >>> movie = np.zeros((2, 40, 50, 3))
    >>> get_plane(movie, "TYXC", (1,)).shape
    (3, 40, 50)
    """
    position = iter(index)
    parts = {"C": slice(None), **dict(zip("YX", box or (slice(None), slice(None)), strict=True))}
    key = tuple(parts[axis] if axis in parts else next(position) for axis in axes)
    plane = _read(array, key, axes, "plane")
    kept = [axis for axis in axes if axis in "CYX"]
    if "C" not in kept:
        plane, kept = plane[None], ["C", *kept]
    return plane.transpose([kept.index(axis) for axis in "CYX"])


def _read(array: LazyArray, key: tuple[int | slice, ...], axes: str, what: str) -> Pixels:
    """Read a part of an array into memory.

    Raises
    ------
    Unreadable
        If it cannot be read; the message says which part and why.
    """
    try:
        return np.asarray(array[key])
    except (MemoryError, Unreadable):
        raise
    except Exception as error:
        # Files, Dask and the functions in it have exceptions of their own.
        where = [f"the {what}"]
        for axis, part in zip(axes, key, strict=True):
            if isinstance(part, int):
                where.append(f"{axis} {part}")
            elif part.start is not None:
                where.append(f"{axis} {part.start} to {part.stop - 1}")
        reason = " ".join(str(error).split()) or "it does not say why"
        raise Unreadable(
            f"{' '.join(where)} of the image cannot be read: {reason}; see that its files are "
            "there and whole"
        ) from error


def plane_shape(axes: str, shape: Sequence[int]) -> tuple[int, int]:
    """Return the shape (Y, X) of the planes of an array with these axes."""
    return int(shape[axes.index("Y")]), int(shape[axes.index("X")])


def plane_view(labels: Pixels, axes: str, index: Sequence[int]) -> Pixels:
    """Return a view of one plane (Y, X) of labels whose axes are `axes` without C."""
    position = iter(index)
    key = tuple(slice(None) if axis in "YX" else next(position) for axis in label_axes(axes))
    plane = labels[key]
    return plane if axes.index("Y") < axes.index("X") else plane.T


def set_plane(labels: Pixels, axes: str, index: Sequence[int], plane: Pixels) -> None:
    """Write one (Y, X) plane into labels whose axes are `axes` without C."""
    plane_view(labels, axes, index)[...] = plane


def stack_indices(axes: str, shape: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield the index of each stack, along the axes that are not Z, C, Y or X, in order."""
    yield from product(*(range(n) for a, n in zip(axes, shape, strict=True) if a not in "ZCYX"))


def split_index(axes: str, index: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Return the index of the stack that holds a plane, and the plane's place along Z.

    `axes` must have a Z.

    Examples
    --------
    >>> split_index("TZYX", (4, 7))
    ((4,), 7)
    """
    others = [axis for axis in axes if axis not in "CYX"]
    at = others.index("Z")
    return (*index[:at], *index[at + 1 :]), index[at]


def get_stack(array: LazyArray, axes: str, index: Sequence[int]) -> Pixels:
    """Return one stack (C, Z, Y, X) of an image whose axes include Z.

    For the parameters and errors see `get_plane`. The index has no entry for Z.
    """
    position = iter(index)
    key = tuple(slice(None) if axis in "ZCYX" else next(position) for axis in axes)
    stack = _read(array, key, axes, "stack")
    kept = [axis for axis in axes if axis in "ZCYX"]
    if "C" not in kept:
        stack, kept = stack[None], ["C", *kept]
    return stack.transpose([kept.index(axis) for axis in "CZYX"])


def stack_view(labels: Pixels, axes: str, index: Sequence[int]) -> Pixels:
    """Return a view of one stack (Z, Y, X) of labels whose axes are `axes` without C."""
    position = iter(index)
    kept = label_axes(axes)
    key = tuple(slice(None) if axis in "ZYX" else next(position) for axis in kept)
    within = [axis for axis in kept if axis in "ZYX"]
    return labels[key].transpose([within.index(axis) for axis in "ZYX"])


def planes_last(array: Pixels, axes: str) -> Pixels:
    """Return a view of an array without channels that has Y and X as its last axes."""
    if axes.endswith("YX"):
        return array
    return np.moveaxis(array, (axes.index("Y"), axes.index("X")), (-2, -1))


class OneChannel:
    """One channel of an image; no pixel is read before it is indexed.

    Parameters
    ----------
    image
        The image with all channels.
    axis
        Number of the axis of the channels.
    channel
        Which channel, from 0.

    Examples
    --------
    >>> image = np.arange(12).reshape(2, 2, 3)
    >>> OneChannel(image, axis=0, channel=1)[0]
    array([6, 7, 8])
    """

    def __init__(self, image: LazyArray, axis: int, channel: int) -> None:
        self._image, self._axis, self._channel = image, axis, channel
        self.shape = tuple(n for place, n in enumerate(image.shape) if place != axis)
        self.ndim, self.dtype = len(self.shape), image.dtype

    def __getitem__(self, key: Index) -> Any:
        given = key if isinstance(key, tuple) else (key,)
        full = (*given, *(slice(None) for _ in range(self.ndim - len(given))))
        return self._image[(*full[: self._axis], self._channel, *full[self._axis :])]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Pixels:
        return np.array(self[()], dtype=dtype)


def take_channel(image: LazyArray, axes: str, channel: int | str | None) -> tuple[LazyArray, str]:
    """Return one channel of an image, which is not read yet, and its axes.

    Parameters
    ----------
    image
        The image.
    axes
        One letter of TZCYX for each axis.
    channel
        Which channel, from 0. "stain" takes the nuclear stain of a colour image
        (`core.stains.NuclearStain`). None and "auto" return the image as it is.

    Raises
    ------
    ValueError
        If the image has no such channel.

    Examples
    --------
    >>> image = np.zeros((3, 40, 50))
    >>> channel, axes = take_channel(image, "CYX", 0)
    >>> channel.shape, axes
    ((40, 50), 'YX')
    """
    if channel is None or channel == "auto":
        return image, axes
    place = axes.find("C")
    count = 1 if place < 0 else int(image.shape[place])
    if isinstance(channel, str):
        if count not in (3, 4):
            raise ValueError(
                f"the nuclear stain is asked for and the image has axes {axes} and "
                f"{count} channel{'s' if count > 1 else ''}; give an image in colour (red, green, "
                "blue), or another channel"
            )
        return NuclearStain(image, place), axes.replace("C", "")
    if not 0 <= channel < count:
        known = f"{count} channel{'s' if count > 1 else ''}, axes {axes}"
        wanted = f"one from 0 to {count - 1}" if count > 1 else "0, or name the channels' axis C"
        raise ValueError(f"channel {channel} is asked for and the image has {known}; give {wanted}")
    if place < 0:
        return image, axes
    rest = axes.replace("C", "")
    if isinstance(image, np.ndarray):
        return np.moveaxis(image, place, 0)[channel], rest
    return OneChannel(image, place, channel), rest
