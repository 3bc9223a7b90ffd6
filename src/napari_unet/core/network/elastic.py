"""Elastic deformation (Ronneberger et al. 2015, section 3.1).

Random displacement vectors on a coarse 3 by 3 grid, drawn from a Gaussian of 10 px, become
per-pixel displacements by bicubic interpolation. The nodes lie on the corners, the middles of the
edges and the centre of the field. There the field has exactly the values that were drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def displacement_field(
    size_px: int, sigma_px: float = 10.0, grid: int = 3, *, generator: torch.Generator
) -> Tensor:
    """Draw random displacements (2, size, size) in pixels: along Y, then along X.

    Parameters
    ----------
    size_px
        Side of the field, in pixels.
    sigma_px
        Standard deviation of the vectors at the nodes, in pixels.
    grid
        Nodes along each axis.
    generator
        Source of the draw; the field is made on its device.
    """
    nodes = torch.randn(1, 2, grid, grid, generator=generator, device=generator.device) * sigma_px
    return interpolate_nodes(nodes, size_px)[0]


def interpolate_nodes(nodes: Tensor, size_px: int) -> Tensor:
    """Interpolate node values (N, 2, G, G) to (N, 2, size, size), bicubic, with corners aligned."""
    n_nodes = nodes.shape[-1]
    shares = F.interpolate(
        torch.eye(n_nodes, device=nodes.device, dtype=nodes.dtype)[None, None],
        size=(size_px, n_nodes),
        mode="bicubic",
        align_corners=True,
    )
    # One axis after the other takes a tenth of the time of both at once.
    return shares @ nodes @ shares.mT


def sampling_grid(
    field: Tensor, matrix: Tensor, centre_px: Sequence[float], shape: Sequence[int]
) -> Tensor:
    """Return where in a source plane each pixel of a deformed tile is taken from.

    Parameters
    ----------
    field
        (2, S, S), displacements in pixels.
    matrix
        (2, 2), the linear part (rotation, flip, scale), acting on (y, x).
    centre_px
        (y, x), the point of the source that the tile's centre shows.
    shape
        (Y, X) of the source.

    Returns
    -------
    (1, S, S, 2), for `torch.nn.functional.grid_sample` with corners aligned.
    """
    size = field.shape[-1]
    line = torch.arange(size, device=field.device, dtype=field.dtype) - (size - 1) / 2
    extent = torch.tensor(shape, device=field.device, dtype=field.dtype)
    centre = torch.tensor(centre_px, device=field.device, dtype=field.dtype)
    # Size of a pixel in the units of grid_sample, in which the source reaches from -1 to 1.
    unit = 2 / (extent - 1).clamp(min=1)
    # grid_sample wants (x, y).
    to_source, middle = (unit[:, None] * matrix).flip(0), (unit * centre - 1).flip(0)
    elastic = torch.einsum("ij,jyx->yxi", to_source, field)
    rows = line[:, None, None] * to_source[:, 0]
    columns = line[:, None] * to_source[:, 1] + middle
    return (elastic + (rows + columns))[None]


def warp(source: Tensor, grid: Tensor, *, nearest: bool = False) -> Tensor:
    """Sample a source (C, Y, X), float, at a `sampling_grid`; the result is (C, S, S).

    The source is mirrored where it ends. A stack (C, Z, Y, X) is sampled at a grid (1, D, S, S, 3).
    Images are interpolated bilinearly. Labels and masks need `nearest`, which is exact for ids
    below 2^24.
    """
    return F.grid_sample(
        source[None],
        grid,
        mode="nearest" if nearest else "bilinear",
        padding_mode="reflection",
        align_corners=True,
    )[0]
