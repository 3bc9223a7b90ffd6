"""What a model finds while it learns: in the user's view, and where it contradicts corrections."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.core.arrays import LazyArray, Pixels
from napari_unet.core.axes import get_plane, plane_shape
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
class Slip:
    """A painted place that may be a mistake of the user.

    Attributes
    ----------
    index
        Position of its plane along the axes other than C, Y, X.
    place
        Where it is in the plane.
    image
        Name of the image, see `Annotated`.
    """

    index: tuple[int, ...]
    place: Place
    image: str


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
    statistics
        Intensities of the plane that become 0 and 1, if they are known.
    """

    image: LazyArray
    axes: str
    index: tuple[int, ...]
    box: Box
    statistics: Statistics | None = None

    def parts(self, zoom: float) -> tuple[Box, Box]:
        """Return the part that is segmented, and the part that the network sees for that.

        The first is the view, or the middle of a large view.

        Parameters
        ----------
        zoom
            Factor by which images are enlarged for the network.
        """
        side = round(_LOOK_PX / zoom)
        rows, columns = (
            slice(max(s.start, middle - side // 2), min(s.stop, middle + side // 2))
            for s in self.box
            for middle in [(s.start + s.stop) // 2]
        )
        # The network also needs the pixels around the box.
        margin = math.ceil(100 / zoom)
        return (rows, columns), grown(
            (rows, columns), margin, plane_shape(self.axes, self.image.shape)
        )

    def sample(self) -> Pixels:
        """Return every n-th row and column of the plane (C, Y, X): enough to measure it."""
        each = slice(None, None, sample_step(plane_shape(self.axes, self.image.shape)))
        return get_plane(self.image, self.axes, self.index, (each, each))


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
        self._measured: tuple[LazyArray, tuple[int, ...], Statistics] | None = None

    def look(self, view: View) -> ViewLabels:
        """Segment a view, or the middle of a large view."""
        # Predictors made before the last step hold the old weights.
        fresh = LoadedModel(self._model.network, self._model.header)
        part, wide = view.parts(self._zoom)
        pixels = fresh.prepare(
            get_plane(view.image, view.axes, view.index, wide), None, self._statistics(view)
        )
        scores = fresh.scores(
            pixels, self._compute, None, lambda fraction, message: self._check(), self._zoom
        )
        labels = fresh.instances(scores, PredictConfig())
        return ViewLabels(replace(view, box=part), labels[inside(part, wide)])

    def _statistics(self, view: View) -> Statistics:
        """Return the intensities of the plane of a view that become 0 and 1."""
        if view.statistics is not None:
            return view.statistics
        known = self._measured
        if known is None or known[0] is not view.image or known[1] != view.index:
            known = view.image, view.index, self._model.measure(view.sample(), sample=True)
            self._measured = known
        return known[2]


def find_slips(
    model: LoadedModel,
    annotated: Sequence[Annotated],
    config: FinetuneConfig,
    compute: Compute,
    zoom: float,
    check: Callable[[], None],
) -> Iterator[Slip]:
    """Yield painted places that a model contradicts although it was trained on them."""
    from napari_unet.core.cells.suggestions import Place, contradicted_places

    fresh = LoadedModel(model.network, model.header)
    diameter = zoom * (config.diameter_px or model.header.diameter_px or MIXED_DIAMETER_PX)
    for item in annotated:
        for correction in item.corrections:
            one = replace(item, corrections=(correction,))
            for plane in annotated_planes([one], model, config, check, zoom):
                y, x = reach(correction, round(config.reach_px / zoom))
                scores = fresh.scores(plane.image, compute, None, lambda f, m: check())
                seen = plane.labels >= 0 if plane.seen is None else plane.seen
                for place in contradicted_places(
                    scores.foreground, plane.labels > 0, seen, diameter
                ):
                    yield Slip(
                        correction.index,
                        Place(
                            (y.start or 0) + (place.y + 0.5) / zoom - 0.5,
                            (x.start or 0) + (place.x + 0.5) / zoom - 0.5,
                            place.weight,
                        ),
                        item.name,
                    )
