"""The size of cells, from their areas."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def median_diameter(areas: NDArray[np.int64]) -> float:
    """Return the diameter, in pixels, of a disc whose area is the median of these areas.

    Without areas it is 0.

    Examples
    --------
    >>> round(median_diameter(np.array([314, 314, 9000])))
    20
    """
    return float(np.sqrt(4 / np.pi * np.median(areas))) if len(areas) else 0.0
