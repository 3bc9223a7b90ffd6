"""Fingerprints of planes, and texts that are safe in file names."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata

import numpy as np
from numpy.typing import NDArray


def plane_sha256(plane: NDArray[np.generic], sample_px: int, *words: str) -> str:
    """Return a hash of a raw plane (C, Y, X): of its shape, dtype and pixels.

    It does not depend on the byte order.

    Parameters
    ----------
    plane
        The plane, of any dtype.
    sample_px
        If the plane has more pixels than this, a regular sample of about so many is hashed.
    words
        Texts that enter the hash as well, to tell similar images apart.
    """
    rows, columns = plane.shape[1:]
    step = max(math.ceil(math.sqrt(rows * columns / sample_px)), 1)
    little = plane.dtype.newbyteorder("<")
    found = hashlib.sha256(repr((plane.shape, little.str, *words)).encode())
    found.update(plane[:, ::step, ::step].astype(little).tobytes())
    return found.hexdigest()


def slug(text: str, most: int = 60) -> str:
    """Return a text with only a-z, 0-9 and single '-', safe in a file name; it may be empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:most].strip("-")
