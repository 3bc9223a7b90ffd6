"""What a model finds while it learns: in the user's view, and where it contradicts corrections."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import get_plane
from napari_unet.corrections.annotations import Annotated
from napari_unet.learning.training import annotated_planes, reach
from napari_unet.models.device import Compute
from napari_unet.models.loaded import MIXED_DIAMETER_PX, Box, LoadedModel

if TYPE_CHECKING:
    from napari_unet.core.cells.suggestions import Place

# Side of the part of a view that is segmented during training, in pixels as the network sees them.
# Larger parts would slow the training.
_LOOK_PX = 400


@dataclass(frozen=True)
class View:
    """The part of an image that the user looks at while a model learns.

    Attributes
    ----------
    image, axes
        Array-like, and one letter of TZCYX for each axis.
    index
        Position of the plane along the axes other than C, Y, X.
    box
        Rows and columns of the plane that are in view.
    """

    image: LazyArray
    axes: str
    index: tuple[int, ...]
    box: Box


@dataclass(frozen=True)
class ViewLabels:
    """Labels (Y, X) of a view, or of its middle, by the model as it is now.

    The box of `view` is the part that was segmented.
    """

    view: View
    labels: NDArray[np.int32]


def look_at(
    view: View, model: LoadedModel, compute: Compute, zoom: float, check: Callable[[], None]
) -> ViewLabels:
    """Segment a view, or the middle of a large view, with a model that is being trained."""
    plane = get_plane(view.image, view.axes, view.index)
    side = round(_LOOK_PX / zoom)
    box = tuple(
        slice(max(s.start, middle - side // 2), min(s.stop, middle + side // 2))
        for s in view.box
        for middle in [(s.start + s.stop) // 2]
    )
    y, x = box
    # The network also needs the pixels around the box.
    margin = math.ceil(100 / zoom)
    wide = (
        slice(max(y.start - margin, 0), y.stop + margin),
        slice(max(x.start - margin, 0), x.stop + margin),
    )
    fresh = LoadedModel(model.network, model.header)
    scores = fresh.scores(
        fresh.prepare(plane, wide), compute, None, lambda fraction, message: check(), zoom
    )
    labels = fresh.instances(scores, PredictConfig())
    top, left = y.start - wide[0].start, x.start - wide[1].start
    inside = labels[top : top + y.stop - y.start, left : left + x.stop - x.start]
    return ViewLabels(replace(view, box=(y, x)), inside)


def find_slips(
    model: LoadedModel,
    annotated: Sequence[Annotated],
    config: FinetuneConfig,
    compute: Compute,
    zoom: float,
    check: Callable[[], None],
) -> Iterator[tuple[tuple[int, ...], Place]]:
    """Yield painted places that a model contradicts although it was trained on them.

    Each is the index of a plane, and the place in it.
    """
    from napari_unet.core.cells.suggestions import Place, contradicted_places

    fresh = LoadedModel(model.network, model.header)
    diameter = zoom * (config.diameter_px or model.header.diameter_px or MIXED_DIAMETER_PX)
    for item in annotated:
        for correction in item.corrections:
            one = replace(item, corrections=(correction,))
            for plane in annotated_planes([one], model, config, check, zoom):
                y, x = reach(correction, round(config.tile_px / zoom))
                scores = fresh.scores(plane.image, compute, None, lambda f, m: check())
                seen = plane.labels >= 0 if plane.seen is None else plane.seen
                for place in contradicted_places(
                    scores.foreground, plane.labels > 0, seen, diameter
                ):
                    yield (
                        correction.index,
                        Place(
                            (y.start or 0) + (place.y + 0.5) / zoom - 0.5,
                            (x.start or 0) + (place.x + 0.5) / zoom - 0.5,
                            place.weight,
                        ),
                    )
