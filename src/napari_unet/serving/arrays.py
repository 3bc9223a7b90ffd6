"""Arrays as they are sent: the npy format of NumPy, without pickles, as a whole through zlib."""

from __future__ import annotations

import io
import math
import zlib
from dataclasses import dataclass

import numpy as np

from napari_unet.core.arrays import Pixels

# More than the header of an array takes; a longer one is refused.
HEAD_BYTES = 4096
# Whole numbers, floats and bool; no text, no objects, no records.
_KINDS = "biuf"
# zlib cannot make data smaller than this.
_RATIO = 1032
# Largest number of axes.
_AXES = 8


@dataclass(frozen=True)
class Declared:
    """What the header of an array says.

    Attributes
    ----------
    dtype, shape
        Of the array.
    start
        Length of the header, in bytes.
    """

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    start: int

    @property
    def n_bytes(self) -> int:
        """Size of the array in memory."""
        return math.prod(self.shape) * self.dtype.itemsize


def pack_array(array: Pixels) -> bytes:
    """Return an array as bytes; `unpack_array` gives it back."""
    array = np.asarray(array)
    if array.dtype == np.longdouble:
        array = array.astype(np.float64)  # it is another type on another computer
    content = io.BytesIO()
    np.lib.format.write_array(
        content, np.ascontiguousarray(array).reshape(array.shape), (1, 0), allow_pickle=False
    )
    return zlib.compress(content.getbuffer(), 1)


def check_array(head: bytes, size: int, largest: int) -> Declared:
    """Return what a packed array declares, from its first bytes; nothing else is unpacked.

    Parameters
    ----------
    head
        The first `HEAD_BYTES` bytes, or all.
    size
        Number of all bytes.
    largest
        Largest array, in bytes, that is taken.

    Raises
    ------
    ValueError
        If it is no packed array, or a larger one.
    """
    try:
        return _checked(zlib.decompressobj().decompress(head, HEAD_BYTES), size, largest)
    except zlib.error as error:
        raise ValueError(f"this is no packed array ({error}); pack it with zlib") from error


def unpack_array(content: bytes, largest: int) -> Pixels:
    """Return a packed array; no more memory is taken than its header declares.

    Raises
    ------
    ValueError
        As `check_array`, or if it does not hold what its header declares.
    """
    reader = zlib.decompressobj()
    try:
        start = reader.decompress(content, HEAD_BYTES)
        declared = _checked(start, len(content), largest)
        pixels, filled = bytearray(declared.n_bytes), len(start) - declared.start
        if filled <= declared.n_bytes:
            pixels[:filled] = start[declared.start :]
        while filled < declared.n_bytes and not reader.eof:
            part = reader.decompress(
                reader.unconsumed_tail, min(declared.n_bytes - filled, 1 << 24)
            )
            if not part:
                break
            pixels[filled : filled + len(part)] = part
            filled += len(part)
        rest = reader.decompress(reader.unconsumed_tail, 1)
    except zlib.error as error:
        raise ValueError(f"an array is broken ({error}); send it again") from error
    if filled != declared.n_bytes or rest or not reader.eof or reader.unused_data:
        raise ValueError(
            f"an array should have {declared.n_bytes} bytes, as its header says, and has another "
            "number; send it again"
        )
    return np.frombuffer(pixels, declared.dtype).reshape(declared.shape)


def _checked(start: bytes, size: int, largest: int) -> Declared:
    file = io.BytesIO(start)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("its version is not 1.0")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file, HEAD_BYTES)
    except Exception as error:
        # The header is parsed as Python's literals, which raises many kinds of exception.
        raise ValueError(f"this is no array in the npy format ({error})") from error
    if is_fortran or dtype.kind not in _KINDS or dtype.subdtype or dtype.itemsize > 8:
        raise ValueError(
            f"an array is {dtype}{' in Fortran order' if is_fortran else ''}; send whole numbers, "
            "floats or bool in C order"
        )
    declared = Declared(dtype, shape, file.tell())
    if len(shape) > _AXES or not all(0 <= n < 1 << 40 for n in shape):
        raise ValueError(f"an array has {len(shape)} axes, or a length that cannot be")
    if declared.n_bytes > largest:
        raise ValueError(
            f"an array of {declared.n_bytes} bytes is larger than {largest}, the most that is "
            "taken; send a part of it"
        )
    if declared.n_bytes > _RATIO * size:
        raise ValueError("an array declares more than its bytes can hold; send it again")
    return declared
