"""The pixel weights of the loss (Ronneberger et al. 2015, equation 2).

    w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))

d1 and d2 are the distances to the border of the nearest and the second-nearest cell. The border
term is drawn on background pixels, as in the paper's figure 3d.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# At d1 + d2 beyond this many sigma the border term is under 1e-5 of w0.
_REACH_SIGMA = 4.9


def border_reach_px(sigma_px: float) -> int:
    """Return from how far away a cell still adds to the border term, in pixels."""
    return int(np.ceil(_REACH_SIGMA * sigma_px))


def border_weights(
    labels: NDArray[np.integer],
    w0: float = 10.0,
    sigma_px: float = 5.0,
    anisotropy: float = 1.0,
) -> NDArray[np.float32]:
    """Return the border term of the weights alone, (Y, X) or (Z, Y, X) float32; 0 inside cells.

    There is one distance transform for each cell, in a box around it that is as large as the term
    reaches. So the time grows with the boxes of the cells, not with cells times pixels.

    Parameters
    ----------
    labels
        (Y, X) or (Z, Y, X) labels, 0 = background; touching cells are already separated.
    w0
        Height of the term.
    sigma_px
        Width of the term, in pixels.
    anisotropy
        Distance between the planes of a stack, in pixels.

    Examples
    --------
    >>> border_weights(np.array([[1, 1, 0, 0, 2, 2]]), w0=10, sigma_px=5).round(1)
    array([[0. , 0. , 8.4, 8.4, 0. , 0. ]], dtype=float32)
    """
    sampling = (anisotropy, 1.0, 1.0) if labels.ndim == 3 else None
    reach = [border_reach_px(sigma_px / step) for step in sampling or (1.0, 1.0)]
    nearest = np.full(labels.shape, np.inf, np.float32)
    second = np.full(labels.shape, np.inf, np.float32)
    for cell, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        wide = tuple(
            slice(max(s.start - r, 0), s.stop + r) for s, r in zip(box, reach, strict=True)
        )
        distance = ndimage.distance_transform_edt(labels[wide] != cell, sampling).astype(np.float32)
        first = nearest[wide]
        np.minimum(second[wide], np.maximum(first, distance), out=second[wide])
        np.minimum(first, distance, out=first)
    weight = np.zeros(labels.shape, np.float32)
    here = np.isfinite(second) & (labels == 0)
    total = nearest[here] + second[here]
    weight[here] = w0 * np.exp(-(total**2) / np.float32(2 * sigma_px**2))
    return weight


def class_weights(counts: NDArray[np.integer], balance: float = 1.0) -> NDArray[np.float32]:
    """Return the weight w_c of each class (K,), with a mean of 1 over the pixels.

    Parameters
    ----------
    counts
        (K,), number of pixels of each class.
    balance
        With 0 all pixels weigh the same; with 1 all classes weigh the same in sum.

    Examples
    --------
    >>> class_weights(np.array([75, 25])).round(2)
    array([0.67, 2.  ], dtype=float32)
    """
    counts = np.maximum(np.asarray(counts, np.float64), 1)
    weights: NDArray[np.float64] = (counts / counts.sum()) ** -balance
    weights *= counts.sum() / (weights * counts).sum()
    return weights.astype(np.float32)


def weight_map(
    labels: NDArray[np.integer],
    classes: NDArray[np.integer],
    w_c: NDArray[np.float32],
    w0: float = 10.0,
    sigma_px: float = 5.0,
) -> NDArray[np.float32]:
    """Return the weights w(x) of equation 2, (Y, X) float32.

    Parameters
    ----------
    labels
        (Y, X), 0 = background; touching cells are already separated.
    classes
        (Y, X), class of each pixel, 0 = background.
    w_c
        (K,), weight of each class (see `class_weights`).
    w0, sigma_px
        Height and width of the border term (see `border_weights`).

    Examples
    --------
    >>> labels = np.array([[1, 1, 0, 0, 2, 2]])
    >>> weight_map(labels, (labels > 0).astype(int), np.array([1, 2], np.float32)).round(1)
    array([[2. , 2. , 9.4, 9.4, 2. , 2. ]], dtype=float32)
    """
    weight: NDArray[np.float32] = w_c[classes] + border_weights(labels, w0, sigma_px)
    return weight
