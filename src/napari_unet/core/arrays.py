"""What this program calls an image: an array in memory, or one that is read when it is indexed."""

from __future__ import annotations

from types import EllipsisType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# An array of pixels in memory, of any dtype.
Pixels = NDArray[Any]
# What selects a part of an image: whole numbers and slices, one for each axis, or an ellipsis.
Index = int | slice | EllipsisType | tuple[int | slice | EllipsisType, ...]


class LazyArray(Protocol):
    """An image that can be indexed with whole numbers and slices; pixels may be read only then.

    Arrays of NumPy, Dask and zarr are such images. So are the readers of this program
    (`core.axes.OneChannel`, `io.ome_zarr.StoredPixels`, `io.microscope.Planes`).
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis, in pixels."""

    @property
    def ndim(self) -> int:
        """Number of axes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""

    def __getitem__(self, key: Index, /) -> Any:
        """Return a part of the image as an array, or as something that `np.asarray` takes."""

    def __array__(self) -> Any:
        """Return all pixels as a NumPy array."""
