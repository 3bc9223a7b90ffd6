"""What of an image is segmented, and which of its channels."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from napari.components import Dims
from napari.layers import Image, Labels
from napari.viewer import Viewer

from napari_unet.config import Channel, FinetuneConfig
from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import plane_indices, take_channel
from napari_unet.core.boxes import Box
from napari_unet.core.checks import check_array_channels, check_shape
from napari_unet.learning.live_view import View
from napari_unet.models.store import ModelVersion
from napari_unet.plugin.viewer.layers import (
    Index,
    LayerImage,
    axes_of,
    channel_names,
    finest,
    image_from_layer,
    plane_in_view,
    visible_box,
)
from napari_unet.plugin.viewer.record import record_of
from napari_unet.segmentation.planes import Segmentation

PLANE, VIEW, STACK, ALL = "this plane", "visible area", "whole z-stack", "everything"
# A channel, or "auto" while it is yet to be found out.
Chosen = Channel | Literal["auto"]
TakeChannel = Callable[[LazyArray, str, Channel], tuple[LazyArray, str]]
SCOPES = (PLANE, VIEW, STACK, ALL)
# So many pixels tell whether an image was changed in place, within milliseconds.
_SAMPLE_PX = 1 << 20


def planes_in(scope: str, axes: str, shape: Sequence[int], here: Index) -> list[Index]:
    """Planes to segment, the nearest to the one in view first.

    Parameters
    ----------
    scope
        One of `SCOPES`.
    axes, shape
        Of the image.
    here
        The plane in view.
    """
    if scope in (PLANE, VIEW):
        return [here]
    letters = [axis for axis in axes if axis not in "CYX"]
    fixed = "T" if scope == STACK else ""
    found = [
        index
        for index in plane_indices(axes, shape)
        if all(i == h for a, i, h in zip(letters, index, here, strict=True) if a in fixed)
    ]
    return sorted(found, key=lambda index: [abs(i - h) for i, h in zip(index, here, strict=True)])


@dataclass(frozen=True)
class Request:
    """What is to be segmented.

    Attributes
    ----------
    image, source
        The layer and its pixels.
    channel
        The one that the network sees, as in `PredictConfig`.
    planes
        The nearest to the one in view first.
    box
        Rows and columns of the one plane; None for whole planes.
    pixels, checksum
        What the layer held when this was asked for, see `checksum_of`.
    """

    image: Image
    source: LayerImage
    channel: Chosen
    planes: list[Index]
    box: Box | None
    pixels: object
    checksum: int

    @property
    def is_outdated(self) -> bool:
        """Whether the layer holds other pixels now."""
        return self.image.data is not self.pixels or checksum_of(self.image) != self.checksum


def checksum_of(image: Image) -> int:
    """Of up to a million pixels of a layer, regularly spaced; 0 where they are not in memory."""
    pixels = finest(image)
    if not isinstance(pixels, np.ndarray) or not pixels.ndim:
        return 0
    step = max(1, math.ceil((pixels.size / _SAMPLE_PX) ** (1 / pixels.ndim)))
    some = pixels[(slice(None, None, step),) * pixels.ndim]
    return zlib.crc32(np.ascontiguousarray(some).tobytes())


def channel_for(
    image: Image, model: ModelVersion, chosen: Chosen, dims: Dims, labels: Labels | None = None
) -> Chosen:
    """The channel that the network is to see; None for all, "auto" to find out.

    Where none is chosen and a layer shows its channels one by one, but not as many as the model
    takes, it is the one in view.

    Parameters
    ----------
    image
        The layer.
    model
        Says how many channels it takes.
    chosen
        What the user chose; None or "auto" if nothing.
    dims
        The viewer's.
    labels
        Made from the image, and to be learnt from: what was seen then is seen again.
    """
    if labels is not None:
        record = record_of(labels)
        chosen = record.channel if record.has_channel else chosen
    is_open = chosen is None or chosen == "auto"
    source, channels = image_from_layer(image), model.header.architecture.get("in_channels", 1)
    if not is_open or image.rgb or "C" not in source.axes:
        return chosen
    place = source.axes.index("C")
    count = int(source.data.shape[place])
    # A viewer of both planes and channels shows one channel only while that has a slider.
    has_slider = place + dims.ndim - image.ndim not in dims.displayed
    # Three channels that are none of RGB are no colours.
    if count == 1 or (count == channels and count != 3) or not has_slider:
        return chosen
    position = image.world_to_data(np.asarray(dims.point)[-image.ndim :])[place]
    return int(np.clip(round(float(position)), 0, count - 1))


def ask(image: Image, model: ModelVersion, chosen: Chosen, scope: str, viewer: Viewer) -> Request:
    """What a click on Segment asks for.

    Parameters
    ----------
    image
        Its layer.
    model
        Says how many channels it takes.
    chosen
        The channel that the user chose; None or "auto" if none.
    scope
        One of `SCOPES`.
    viewer
        Says what is in view.

    Raises
    ------
    ValueError
        If the image has axes that are unclear.
    Undecided
        If one of its channels is to be chosen; names them.
    """
    source = image_from_layer(image)
    check_shape(source.data.shape)
    here = plane_in_view(image, viewer.dims.point)
    planes = planes_in(scope, source.axes, source.data.shape, here)
    box = visible_box(image) if scope == VIEW else None
    channel = channel_for(image, model, chosen, viewer.dims)
    names = channel_names(image)
    if names and not isinstance(channel, int):
        n_model = model.header.architecture.get("in_channels", 1)
        check_array_channels(source.axes, source.data.shape, n_model, names)
    return Request(image, source, channel, planes, box, image.data, checksum_of(image))


def view_of(
    viewer: Viewer, image: Image, channel: Channel, take: TakeChannel = take_channel
) -> View | None:
    """What the user sees of an image; None if it is gone. `take` gives the channel."""
    if image not in viewer.layers:
        return None
    # Somebody may be naming its axes.
    with suppress(ValueError):
        source = image_from_layer(image)
        data, axes = take(source.data, source.axes, channel)
        return View(data, axes, plane_in_view(image, viewer.dims.point), visible_box(image))
    return None


def as_seen(
    config: FinetuneConfig,
    image: Image,
    labels: Labels | None,
    find: Callable[[], ModelVersion],
    viewer: Viewer,
) -> FinetuneConfig:
    """Settings of a fine-tune that sees the image as it was seen when the labels were made.

    What is wrong with the model or the image is told when the work begins.
    """
    with suppress(ValueError):
        channel = channel_for(image, find(), config.channel, viewer.dims, labels)
        known = None if labels is None else record_of(labels).diameter_px
        size = config.diameter_px or known
        return replace(config, channel=None if channel == "auto" else channel, diameter_px=size)
    return config


def found_words(asked: Request, done: Segmentation) -> str:
    """What a segmentation found, for people."""
    cells = "1 cell" if done.n_cells == 1 else f"{done.n_cells} cells"
    size = f", typically {done.diameter_px:.0f} px wide" if done.diameter_px else ""
    how = [done.look.words] if done.look.words else []
    found = f"{cells}{size}{_channel_words(asked, done.model)}"
    return "; ".join([found, *how, *done.warnings])


def _channel_words(asked: Request, model: ModelVersion) -> str:
    """The end of a sentence that says which channel was seen; empty if all were."""
    axes = axes_of(asked.image)
    is_colour = asked.image.rgb and not isinstance(asked.channel, int)
    if is_colour and model.header.architecture.get("in_channels", 1) == 1:
        return ", its colours seen as grey"
    if not isinstance(asked.channel, int) or "C" not in axes:
        return ""
    last = finest(asked.image).shape[axes.index("C")] - 1
    names = channel_names(asked.image)
    name = f", {names[asked.channel]}" if asked.channel < len(names) else ""
    return f", seen in channel {asked.channel}{name} (0 to {last})"
