"""Axes: any image with named axes as a sequence of planes (C, Y, X), and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

ORDER = "TZCYX"


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


def get_plane(array: Any, axes: str, index: Sequence[int]) -> NDArray[Any]:
    """One plane (C, Y, X) of an array-like with these axes; only the plane is read.

    Parameters
    ----------
    array
        NumPy, dask, zarr or anything that can be indexed with integers and slices.
    axes
        One letter of TZCYX for each axis.
    index
        Position along the axes that are neither C, Y nor X.
    """
    position = iter(index)
    key = tuple(slice(None) if axis in "CYX" else next(position) for axis in axes)
    plane = np.asarray(array[key])
    kept = [axis for axis in axes if axis in "CYX"]
    if "C" not in kept:
        plane, kept = plane[None], ["C", *kept]
    return plane.transpose([kept.index(axis) for axis in "CYX"])


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
    stack = np.asarray(array[key])
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


def set_plane(labels: NDArray[Any], axes: str, index: Sequence[int], plane: NDArray[Any]) -> None:
    """Write one (Y, X) plane into labels whose axes are `axes` without C."""
    position = iter(index)
    key = tuple(slice(None) if axis in "YX" else next(position) for axis in label_axes(axes))
    labels[key] = plane if label_axes(axes).index("Y") < label_axes(axes).index("X") else plane.T
