"""Deformation of stacks: all planes are deformed in the same way.

The elastic field, the rotation and the zoom act only within the planes. So a plane that was
painted stays one plane, and the planes beside it stay unseen.
"""

from __future__ import annotations

import torch
from torch import Tensor


def stack_grid(plane_grid: Tensor, first: int, n_planes: int, of: int, *, flip: bool) -> Tensor:
    """Return where in a source stack each voxel of a deformed window is taken from.

    Parameters
    ----------
    plane_grid
        (1, S, S, 2), the grid of each plane (see `core.network.elastic.sampling_grid`).
    first
        Plane of the source with which the window begins. Beyond the source, planes are mirrored.
    n_planes
        Number of planes D of the window.
    of
        Number of planes of the source.
    flip
        Whether the window shows its planes in reverse order.

    Returns
    -------
    (1, D, S, S, 3), for `core.network.elastic.warp`.
    """
    planes = torch.arange(first, first + n_planes, device=plane_grid.device)
    z = 2 * (planes.flip(0) if flip else planes).to(plane_grid.dtype) / max(of - 1, 1) - 1
    _, height, width, _ = plane_grid.shape
    within = plane_grid[:, None].expand(1, n_planes, height, width, 2)
    along = z[None, :, None, None, None].expand(1, n_planes, height, width, 1)
    return torch.cat((within, along), dim=-1)
