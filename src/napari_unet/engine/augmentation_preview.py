"""Pictures that show the user what the augmentation does to an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_unet.core.arrays import Pixels
from napari_unet.core.network.elastic import sampling_grid, warp
from napari_unet.core.network.unet import halo_px
from napari_unet.engine.samples import Sample, Sampler

# Distance, in pixels, of the grid lines that show the deformation.
_LINES_PX = 32


@dataclass(frozen=True)
class AugmentationPreview:
    """Samples before and after augmentation: D draws, arrays (D, O, O), images (D, O, O, C).

    Attributes
    ----------
    image
        float32, normalised, the window before augmentation.
    grid
        uint8, regular lines over it.
    deformed_image, deformed_grid
        The same after augmentation.
    deformed_labels
        int32, the labels that the network is trained on: touching cells are separated.
    weight
        float32, w(x) of the loss; 0 where unseen.
    """

    image: NDArray[np.float32]
    grid: NDArray[np.uint8]
    deformed_image: NDArray[np.float32]
    deformed_grid: NDArray[np.uint8]
    deformed_labels: NDArray[np.int32]
    weight: NDArray[np.float32]


def preview(sampler: Sampler, depth: int, draws: int) -> AugmentationPreview:
    """Draw samples for a network of this depth, and show each before and after augmentation."""
    parts = [_show(sampler.draw(), halo_px(depth)) for _ in range(draws)]
    return AugmentationPreview(*(np.stack(column) for column in zip(*parts, strict=True)))


def _show(sample: Sample, halo: int) -> tuple[Pixels, ...]:
    source = torch.from_numpy(np.ascontiguousarray(sample.plane.image)).to(sample.image.device)
    height, width = sample.plane.labels.shape
    lines = torch.zeros(1, height, width, device=source.device)
    lines[:, ::_LINES_PX] = lines[:, :, ::_LINES_PX] = 1
    grid = sample.grid[:, halo:-halo, halo:-halo]
    size, middle = grid.shape[1], grid.shape[1] // 2
    extent = torch.tensor([width, height], device=grid.device)
    x, y = ((grid[0, middle, middle] + 1) / 2 * (extent - 1)).tolist()
    plain = sampling_grid(
        torch.zeros(2, size, size, device=grid.device),
        torch.eye(2, device=grid.device),
        (y, x),
        (height, width),
    )
    return (
        _channels_last(warp(source, plain)),
        _as_lines(warp(lines, plain)),
        _channels_last(sample.image[:, halo:-halo, halo:-halo]),
        _as_lines(warp(lines, grid)),
        sample.labels,
        sample.weight.cpu().numpy(),
    )


def _channels_last(image: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = image.movedim(0, -1).cpu().numpy()
    return array


def _as_lines(lines: torch.Tensor) -> NDArray[np.uint8]:
    return (lines[0] > 0.3).to(torch.uint8).cpu().numpy()
