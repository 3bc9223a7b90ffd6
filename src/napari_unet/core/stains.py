"""Split the colours of stained tissue into its dyes: how much of each dye a pixel holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_unet.core.arrays import Index, LazyArray, Pixels

# Absorbance of haematoxylin, eosin and DAB in red, green and blue, one row a stain (Ruifrok and
# Johnston 2001, "Quantification of histochemical staining by color deconvolution").
HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
# Brightness is raised to this fraction of white where it is lower, because there is no logarithm
# of 0.
DARKEST = 0.02
# Percentile of a channel that counts as white.
_WHITE = 99.8
# White is measured on at most this many pixels along each axis.
_SAMPLE = 512


class NuclearStain:
    """The haematoxylin of a colour image, which marks nuclei, as an image of one channel.

    Nuclei are bright in it and the background is dark, as in fluorescence. Where a colour is not
    finite, the pixel is NaN. Only a sample is read at first, to measure the white of each colour;
    all other pixels are read when they are indexed.

    Parameters
    ----------
    image
        Red, green and blue (and alpha, which is ignored) along `axis`.
    axis
        Number of the axis of the colours.

    Examples
    --------
    >>> white, violet = [1.0, 1.0, 1.0], [0.3, 0.2, 0.6]
    >>> stain = NuclearStain(np.array([[white, violet]]), axis=2)
    >>> stain.shape
    (1, 2)
    >>> bool(stain[0, 1] > stain[0, 0])
    True
    """

    def __init__(self, image: LazyArray, axis: int) -> None:
        self._image, self._axis = image, axis
        self.shape = tuple(n for place, n in enumerate(image.shape) if place != axis)
        self.ndim, self.dtype = len(self.shape), np.dtype(np.float32)
        key = [
            slice(None) if place == axis else slice(None, None, max(1, -(-n // _SAMPLE)))
            for place, n in enumerate(image.shape)
        ]
        sample = np.nan_to_num(np.asarray(image[tuple(key)]), nan=0, posinf=0, neginf=0)
        others = tuple(place for place in range(sample.ndim) if place != axis)
        self._white = np.percentile(sample, _WHITE, axis=others)[:3]

    def __getitem__(self, key: Index) -> NDArray[np.float32]:
        given = key if isinstance(key, tuple) else (key,)
        full = (*given, *(slice(None) for _ in range(self.ndim - len(given))))
        colours = [
            np.asarray(self._image[(*full[: self._axis], channel, *full[self._axis :])], np.float32)
            for channel in range(3)
        ]
        # Pixel by pixel: a matrix product may round otherwise in a part of the image.
        amount = np.zeros_like(colours[0])
        for colour, white, share in zip(colours, self._white, _FROM_RGB[:, 0], strict=True):
            colour = np.where(np.isfinite(colour), colour, np.float32(np.nan))
            light = np.clip(colour / np.float32(max(white, 1e-6)), DARKEST, 1.0)
            amount -= np.float32(share) * np.log(light)
        return amount

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Pixels:
        return np.array(self[()], dtype=dtype)


def stain_matrices() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the matrix from stains (rows) to colours (columns), in absorbance, and its inverse.

    The stains are haematoxylin, eosin and DAB; the colours are red, green and blue.
    """
    unit = HED / np.linalg.norm(HED, axis=1, keepdims=True)
    return unit, np.linalg.inv(unit)


_FROM_RGB = stain_matrices()[1]
