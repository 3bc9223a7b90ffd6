"""How images are recognised and named on disk: by what is in them, in words any system accepts."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from typing import Any

from numpy.typing import NDArray


def plane_sha256(plane: NDArray[Any], sample_px: int, *words: str) -> str:
    """Hash of a raw plane (C, Y, X): shape, dtype and pixels, whatever its byte order.

    Parameters
    ----------
    plane
        Any dtype.
    sample_px
        Of a plane with more pixels, every nth along Y and X is taken, which is about this many.
    words
        What else is to tell images apart.
    """
    rows, columns = plane.shape[1:]
    step = max(math.ceil(math.sqrt(rows * columns / sample_px)), 1)
    little = plane.dtype.newbyteorder("<")
    found = hashlib.sha256(repr((plane.shape, little.str, *words)).encode())
    found.update(plane[:, ::step, ::step].astype(little).tobytes())
    return found.hexdigest()


def slug(text: str, most: int = 60) -> str:
    """A text as part of a file name on every system: a-z, 0-9 and single '-', perhaps empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:most].strip("-")
