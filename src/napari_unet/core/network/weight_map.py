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


def border_weights(
    labels: NDArray[np.integer],
    w0: float = 10.0,
    sigma_px: float = 5.0,
    anisotropy: float = 1.0,
) -> NDArray[np.float32]:
    """The border term alone, (Y, X) or (Z, Y, X) float32; 0 inside cells.

    Cost grows with the cells' boxes, not with cells times pixels: one distance transform per cell
    in its box, as far as the term reaches.

    Parameters
    ----------
    labels
        (Y, X) or (Z, Y, X) instance labels, 0 = background; touching cells already separated.
    w0
        Height of the term.
    sigma_px
        Its width, in pixels.
    anisotropy
        Distance of planes, in pixels.
    """
    sampling = (anisotropy, 1.0, 1.0) if labels.ndim == 3 else None
    reach = [int(np.ceil(_REACH_SIGMA * sigma_px / step)) for step in sampling or (1.0, 1.0)]
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
    """w_c per class from pixel counts (K,), with a mean of 1 over the pixels.

    Parameters
    ----------
    counts
        Pixels of each class.
    balance
        0 weighs all pixels the same; 1 makes each class weigh the same in sum.
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
    """w(x) of equation 2, (Y, X) float32, from labels (Y, X), classes (Y, X) and w_c (K,)."""
    weight: NDArray[np.float32] = w_c[classes] + border_weights(labels, w0, sigma_px)
    return weight
