"""What comes in through the doors: named and checked before the work begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_unet.core.axes import check_axes, guess_axes


def name_axes(shape: Sequence[int], axes: str | None = None) -> str:
    """Axes of an image of this shape: the given ones, or YX, ZYX or TZYX, with C last for RGB.

    Raises
    ------
    ValueError
        If they do not fit, or are not given and cannot be guessed.
    """
    if axes is None:
        axes = guess_axes(shape, rgb=len(shape) > 2 and shape[-1] in (3, 4))
    return check_axes(axes, shape)


def whole_labels(labels: ArrayLike) -> NDArray[np.int32]:
    """Instance labels as int32, a copy.

    Raises
    ------
    ValueError
        If they are no whole numbers, or one is negative or beyond int32.
    """
    array = np.asarray(labels)
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
