"""Axes: any image with named axes as a sequence of planes (C, Y, X), and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.stains import NuclearStain

ORDER = "TZCYX"
# What people and programs call axes, in small letters.
_NAMES = {
    "T": ("t", "time", "frame", "frames"),
    "Z": ("z", "slice", "slices", "plane", "planes", "depth"),
    "C": ("c", "ch", "channel", "channels", "colour", "color"),
    "Y": ("y", "row", "rows", "height"),
    "X": ("x", "column", "columns", "col", "width"),
}
_LETTERS = {name: letter for letter, names in _NAMES.items() for name in names}


class Unreadable(ValueError):
    """Pixels could not be read; says which, and why."""


def guess_axes(shape: Sequence[int], *, rgb: bool = False) -> str:
    """Usual axes of an array of this shape: YX, ZYX, TZYX, with C last for RGB.

    Raises
    ------
    ValueError
        If there are fewer than 2 or more than 4 axes beside the colours.
    """
    n = len(shape) - int(rgb)
    if not 2 <= n <= 4:
        raise ValueError(
            f"the image has {len(shape)} axes; name them, for example 'TZCYX', or give 2 to 4"
        )
    return "TZYX"[-n:] + ("C" if rgb else "")


def axes_from_names(names: Sequence[str], shape: Sequence[int], *, rgb: bool = False) -> str:
    """Axes of an array of which some may be named, in words or letters; the others are the usual.

    Parameters
    ----------
    names
        For each axis, but for that of the colours of RGB; what is none of the usual names names
        nothing.
    shape
        Of the array.
    rgb
        Whether the last axis holds colours.

    Raises
    ------
    ValueError
        If there are more axes than can be guessed.
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
        If the number differs, a letter is not one of TZCYX, repeats, or Y or X is missing.
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
    """Axes of the labels of an image: the image's own without channels."""
    return axes.replace("C", "")


def label_shape(axes: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Shape of the labels of an image with these axes: the image's own without channels."""
    return tuple(n for axis, n in zip(axes, shape, strict=True) if axis != "C")


def plane_indices(axes: str, shape: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Index of each plane along the axes that are neither C, Y nor X, in order."""
    sizes = (n for axis, n in zip(axes, shape, strict=True) if axis not in "CYX")
    yield from product(*(range(n) for n in sizes))


def get_plane(
    array: Any, axes: str, index: Sequence[int], box: tuple[slice, slice] | None = None
) -> NDArray[Any]:
    """One plane (C, Y, X) of an array-like with these axes; only the plane is read.

    Parameters
    ----------
    array
        NumPy, dask, zarr or anything that can be indexed with integers and slices.
    axes
        One letter of TZCYX for each axis.
    index
        Position along the axes that are neither C, Y nor X.
    box
        Part of it along Y and X; all by default.
    """
    position = iter(index)
    parts = {"C": slice(None), **dict(zip("YX", box or (slice(None), slice(None)), strict=True))}
    key = tuple(parts[axis] if axis in parts else next(position) for axis in axes)
    plane = _read(array, key, axes, "plane")
    kept = [axis for axis in axes if axis in "CYX"]
    if "C" not in kept:
        plane, kept = plane[None], ["C", *kept]
    return plane.transpose([kept.index(axis) for axis in "CYX"])


def _read(array: Any, key: tuple[Any, ...], axes: str, what: str) -> NDArray[Any]:
    """A part of an array.

    Raises
    ------
    Unreadable
        Says where, and why.
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
    """Shape (Y, X) of the planes of an array with these axes."""
    return int(shape[axes.index("Y")]), int(shape[axes.index("X")])


def plane_view(labels: Any, axes: str, index: Sequence[int]) -> Any:
    """One plane (Y, X) of labels whose axes are `axes` without C, as a view."""
    position = iter(index)
    key = tuple(slice(None) if axis in "YX" else next(position) for axis in label_axes(axes))
    plane = labels[key]
    return plane if axes.index("Y") < axes.index("X") else plane.T


def set_plane(labels: NDArray[Any], axes: str, index: Sequence[int], plane: NDArray[Any]) -> None:
    """Write one (Y, X) plane into labels whose axes are `axes` without C."""
    plane_view(labels, axes, index)[...] = plane


def stack_indices(axes: str, shape: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Index of each stack along the axes that are neither Z, C, Y nor X, in order."""
    yield from product(*(range(n) for a, n in zip(axes, shape, strict=True) if a not in "ZCYX"))


def split_index(axes: str, index: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Index of the stack that a plane lies in, and the plane's place in it; `axes` have a Z."""
    others = [axis for axis in axes if axis not in "CYX"]
    at = others.index("Z")
    return (*index[:at], *index[at + 1 :]), index[at]


def get_stack(array: Any, axes: str, index: Sequence[int]) -> NDArray[Any]:
    """One stack (C, Z, Y, X) of an array-like with these axes, Z among them.

    For parameters see `get_plane`; the index has no Z.
    """
    position = iter(index)
    key = tuple(slice(None) if axis in "ZCYX" else next(position) for axis in axes)
    stack = _read(array, key, axes, "stack")
    kept = [axis for axis in axes if axis in "ZCYX"]
    if "C" not in kept:
        stack, kept = stack[None], ["C", *kept]
    return stack.transpose([kept.index(axis) for axis in "CZYX"])


def set_stack(labels: NDArray[Any], axes: str, index: Sequence[int], stack: NDArray[Any]) -> None:
    """Write one (Z, Y, X) stack into labels whose axes are `axes` without C."""
    position = iter(index)
    kept = label_axes(axes)
    key = tuple(slice(None) if axis in "ZYX" else next(position) for axis in kept)
    labels[key] = stack.transpose(["ZYX".index(axis) for axis in kept if axis in "ZYX"])


def planes_last(array: Any, axes: str) -> Any:
    """A view of an array without channels, with Y and X as its last axes."""
    if axes.endswith("YX"):
        return array
    return np.moveaxis(array, (axes.index("Y"), axes.index("X")), (-2, -1))


class OneChannel:
    """One channel of an array-like; nothing is read before it is indexed.

    Parameters
    ----------
    image
        What can be indexed with integers and slices.
    axis
        That of the channels.
    channel
        Which one, from 0.
    """

    def __init__(self, image: Any, axis: int, channel: int) -> None:
        self._image, self._axis, self._channel = image, axis, channel
        self.shape = tuple(n for place, n in enumerate(image.shape) if place != axis)
        self.ndim, self.dtype = len(self.shape), image.dtype

    def __getitem__(self, key: Any) -> Any:
        given = key if isinstance(key, tuple) else (key,)
        full = (*given, *(slice(None) for _ in range(self.ndim - len(given))))
        return self._image[(*full[: self._axis], self._channel, *full[self._axis :])]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self[()], dtype=dtype)


def take_channel(image: Any, axes: str, channel: int | str | None) -> tuple[Any, str]:
    """One channel of an image, still lazy, and its axes; None leaves the image as it is.

    So does "auto". "stain" takes the nuclear stain of a colour image (`core.stains`).

    Raises
    ------
    ValueError
        If the image has no such channel.
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
