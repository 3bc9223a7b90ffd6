"""What a model finds while it learns: in the user's view, and where it contradicts corrections."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import Channel, FinetuneConfig, PredictConfig
from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import get_plane, plane_shape, take_channel
from napari_unet.core.boxes import Box, grown, inside
from napari_unet.core.intensity import Statistics, sample_step
from napari_unet.corrections.annotations import Annotated
from napari_unet.learning.training import annotated_planes, reach
from napari_unet.models.device import Compute
from napari_unet.models.loaded import MIXED_DIAMETER_PX, LoadedModel

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
    channel
        The channel that the model sees, as of `core.axes.take_channel`.
    """

    image: LazyArray
    axes: str
    index: tuple[int, ...]
    box: Box
    channel: Channel = None

    def shows_plane_of(self, other: View) -> bool:
        """Whether another view shows the same plane; the box may differ."""
        same = (self.axes, self.index, self.channel) == (other.axes, other.index, other.channel)
        return same and self.image is other.image


@dataclass(frozen=True)
class _SeenPlane:
    """The image of a view as the model sees it, and the intensities that become 0 and 1."""

    view: View
    image: LazyArray
    axes: str
    statistics: Statistics


@dataclass(frozen=True)
class ViewLabels:
    """Labels (Y, X) of a view, or of its middle, by the model as it is now.

    The box of `view` is the part that was segmented.
    """

    view: View
    labels: NDArray[np.int32]


class LiveView:
    """Segments what the user looks at, with a model that is being trained.

    Of an image that is read when it is indexed, only the view and a margin are read; the
    intensities of a plane are measured once, on a sample.

    Parameters
    ----------
    model
        The model; its weights change meanwhile.
    compute
        The device and number format.
    zoom
        Factor by which images are enlarged for the network.
    check
        Called before each tile; may raise to stop.
    """

    def __init__(
        self, model: LoadedModel, compute: Compute, zoom: float, check: Callable[[], None]
    ) -> None:
        self._model, self._compute, self._zoom, self._check = model, compute, zoom, check
        self._seen: _SeenPlane | None = None

    def look(self, view: View) -> ViewLabels:
        """Segment a view, or the middle of a large view."""
        # Predictors made before the last step hold the old weights.
        fresh = LoadedModel(self._model.network, self._model.header)
        side = round(_LOOK_PX / self._zoom)
        rows, columns = (
            slice(max(s.start, middle - side // 2), min(s.stop, middle + side // 2))
            for s in view.box
            for middle in [(s.start + s.stop) // 2]
        )
        seen = self._seen_plane(view)
        # The network also needs the pixels around the box.
        wide = grown(
            (rows, columns), math.ceil(100 / self._zoom), plane_shape(seen.axes, seen.image.shape)
        )
        pixels = fresh.prepare(
            get_plane(seen.image, seen.axes, view.index, wide), None, seen.statistics
        )
        scores = fresh.scores(
            pixels, self._compute, None, lambda fraction, message: self._check(), self._zoom
        )
        labels = fresh.instances(scores, PredictConfig())
        return ViewLabels(replace(view, box=(rows, columns)), labels[inside((rows, columns), wide)])

    def _seen_plane(self, view: View) -> _SeenPlane:
        """Take the channel of a view and measure its plane, unless the last view showed it."""
        if self._seen is None or not view.shows_plane_of(self._seen.view):
            image, axes = take_channel(view.image, view.axes, view.channel)
            each = slice(None, None, sample_step(plane_shape(axes, image.shape)))
            sample = get_plane(image, axes, view.index, (each, each))
            self._seen = _SeenPlane(view, image, axes, self._model.measure(sample, sample=True))
        return self._seen


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
