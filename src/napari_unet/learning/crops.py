"""The size of the training tiles of a fine-tune, which are crops of the images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_unet.config import LARGE_TILE_PX, SMALL_TILE_PX, FinetuneConfig
from napari_unet.core.tiling import smallest_input_px, valid_input_px
from napari_unet.models.decoding import cell_areas, typical_area
from napari_unet.models.loaded import MIXED_DIAMETER_PX, LoadedModel

if TYPE_CHECKING:
    from napari_unet.engine.samples import AnnotatedPlane

# The output of the smallest tiles that were tried has the first side, in pixels. It suits cells of
# up to the second diameter; for each pixel more, the output is wider by the third number. Cells of
# phase contrast, of 34 px, were learnt worse from outputs of twice or three times their diameter.
_LEAST_PX, _CELL_PX, _MORE = 44, 25, 13


def with_tiles(
    config: FinetuneConfig,
    model: LoadedModel,
    planes: Iterable[AnnotatedPlane],
    device: str,
) -> FinetuneConfig:
    """Return the settings of a fine-tune with the side of its training tiles, if it is not given.

    On a CPU, a step on a small tile costs less, and as much is learnt in a minute. A GPU computes
    small tiles hardly faster, so it gets large ones.

    Parameters
    ----------
    config
        The settings.
    model
        The model that is fine-tuned.
    planes
        The planes that it learns from, at the size that the network sees.
    device
        Where it learns, such as "cpu".
    """
    if config.tile_px is not None:
        return config
    area = typical_area(cell_areas((plane.labels, plane.seen) for plane in planes)) or 0
    # A few corrected cells may be smaller than most.
    known_px = model.header.zoom * (model.header.diameter_px or MIXED_DIAMETER_PX)
    cell_px = max(known_px, math.sqrt(4 / math.pi * area))
    depth = model.network.config.depth
    return replace(config, tile_px=tile_px(depth, cell_px if device == "cpu" else math.inf))


def tile_px(depth: int, cell_px: float) -> int:
    """Return the side of the tiles for a network and cells of a diameter as the network sees them.

    Both sizes are in pixels. It is from 132 to 236 px, or more if the network needs more.

    Examples
    --------
    >>> tile_px(3, cell_px=24), tile_px(3, cell_px=28), tile_px(3, 33), tile_px(4, cell_px=24)
    (132, 172, 236, 236)
    """
    from napari_unet.core.network.unet import halo_px

    wanted = 2 * halo_px(depth) + _LEAST_PX + _MORE * max(0.0, cell_px - _CELL_PX)
    wanted = math.ceil(min(max(wanted, SMALL_TILE_PX), LARGE_TILE_PX))
    return valid_input_px(max(wanted + 2**depth - 1, smallest_input_px(depth)), depth)
