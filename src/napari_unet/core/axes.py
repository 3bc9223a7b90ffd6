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
    plane = np.asarray(array[key])
    kept = [axis for axis in axes if axis in "CYX"]
    if "C" not in kept:
        plane, kept = plane[None], ["C", *kept]
    return plane.transpose([kept.index(axis) for axis in "CYX"])


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
