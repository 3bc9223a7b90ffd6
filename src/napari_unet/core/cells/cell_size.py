"""How large cells are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def median_diameter(areas: NDArray[np.int64]) -> float:
    """Diameter of a disc of the median of these areas, in pixels; 0 without any."""
    return float(np.sqrt(4 / np.pi * np.median(areas))) if len(areas) else 0.0
