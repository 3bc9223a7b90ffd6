"""Planes at another size: a network sees cells at the diameter that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

Scalar = TypeVar("Scalar", bound=np.generic)


def zoomed_shape(shape: Sequence[int], zoom: float) -> tuple[int, ...]:
    """Shape (Y, X) of a plane after a zoom; at least 1 px along each axis."""
    return tuple(max(1, round(length * zoom)) for length in shape)


def resize_plane(plane: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    """A plane (C, Y, X) at another shape (Y, X): bilinear, smoothed before it shrinks.

    Pixels are areas: the outer edges of both planes coincide.
    """
    if plane.shape[1:] == tuple(shape):
        return plane
    tensor = torch.from_numpy(np.ascontiguousarray(plane))[None]
    resized = F.interpolate(
        tensor, tuple(shape), mode="bilinear", align_corners=False, antialias=True
    )
    out: NDArray[np.float32] = resized[0].numpy()
    return out


def resize_labels(labels: NDArray[Scalar], shape: Sequence[int]) -> NDArray[Scalar]:
    """Labels or a mask (Y, X) at another shape, each pixel from the nearest one."""
    if labels.shape == tuple(shape):
        return labels
    rows, columns = (_nearest(n, m) for n, m in zip(labels.shape, shape, strict=True))
    out: NDArray[Scalar] = labels[rows[:, None], columns]
    return out


def _nearest(n: int, m: int) -> NDArray[Any]:
    return np.minimum(((np.arange(m) + 0.5) * (n / m)).astype(np.intp), n - 1)
