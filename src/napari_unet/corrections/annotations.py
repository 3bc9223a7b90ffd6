"""Annotated images: images with corrected labels of some or all pixels, for training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import Channel
from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import (
    check_axes,
    get_plane,
    label_axes,
    label_shape,
    plane_indices,
    take_channel,
)
from napari_unet.core.checks import whole_labels
from napari_unet.core.intensity import Statistics

if TYPE_CHECKING:
    from napari_unet.core.cells.edits import Edits


@dataclass(frozen=True)
class Correction:
    """Corrected labels of one plane.

    Attributes
    ----------
    index
        Position of the plane along the axes other than C, Y, X.
    labels
        (Y, X) labels of cells; a copy that nobody else writes to.
    trusted
        (Y, X) bool, True for the seen pixels: there the labels are truth. None if all were seen.
    classes
        Name of the class of each id; an id that is missing here is a "cell".
    """

    index: tuple[int, ...]
    labels: NDArray[np.int32]
    trusted: NDArray[np.bool_] | None = None
    classes: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Annotated:
    """An image and its corrections.

    Attributes
    ----------
    image
        Array-like, in the order of `axes`.
    axes
        One letter of TZCYX for each axis.
    corrections
        One correction for each corrected plane.
    name
        Name of the image, to show to the user.
    statistics
        Intensities that become 0 and 1. They are given if the image is a piece of a larger one, on
        which they were measured; None measures them on the image.
    offset_px
        Position of the piece in its plane, along Y and X; (0, 0) for a whole plane.
    """

    image: LazyArray
    axes: str
    corrections: tuple[Correction, ...]
    name: str = ""
    statistics: Statistics | None = None
    offset_px: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class PaintedPlane:
    """The labels of one plane as Segment wrote them and as they are now.

    Attributes
    ----------
    index
        Position along the axes other than C, Y, X.
    before, after
        The labels, (Y, X) int32.
    """

    index: tuple[int, ...]
    before: NDArray[np.int32]
    after: NDArray[np.int32]

    def edits(self, ring_px: int) -> Edits:
        """Return what the user changed; see `core.cells.edits.find_edits`."""
        from napari_unet.core.cells.edits import find_edits

        return find_edits(self.before, self.after, ring_px)


def corrections_of(planes: list[PaintedPlane], ring_px: int) -> tuple[Correction, ...]:
    """Return a correction for each plane on which the user changed something.

    Background within `ring_px` pixels of a changed cell counts as seen.
    """
    found = ((plane, plane.edits(ring_px)) for plane in planes)
    return tuple(
        Correction(plane.index, plane.after, edits.trusted)
        for plane, edits in found
        if edits.n_cells
    )


def painted_planes(axes: str, labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return the mask of seen pixels of sparse labels: planes without any label are unseen.

    Parameters
    ----------
    axes
        Axes of the image.
    labels
        Labels with the axes of the image without C.
    """
    others = tuple(n for n, axis in enumerate(label_axes(axes)) if axis in "YX")
    seen = (labels > 0).any(others, keepdims=True)
    return np.broadcast_to(seen, labels.shape)


def annotate(
    image: LazyArray, axes: str, labels: LazyArray, trusted: LazyArray | None = None
) -> Annotated:
    """Return an image with a correction for each plane of its labels, which are copied.

    Parameters
    ----------
    image
        Array-like, in the order of `axes`.
    axes
        One letter of TZCYX for each axis.
    labels
        Labels of cells, whole numbers, with the image's axes without C.
    trusted
        Bool, shaped like the labels, True for the seen pixels; None if all were seen. Planes
        without a seen pixel are left out.

    Raises
    ------
    ValueError
        If a shape does not fit, or the labels are not labels of cells.
    """
    shape = label_shape(axes, image.shape)
    for what, array in (("labels are", labels), ("trusted mask is", trusted)):
        if array is not None and array.shape != shape:
            raise ValueError(
                f"the {what} {array.shape} and the image is {shape}; give one for each pixel"
            )
    corrections = []
    for index in plane_indices(label_axes(axes), shape):
        seen = None
        if trusted is not None:
            seen = get_plane(trusted, label_axes(axes), index)[0].astype(bool)
        if seen is None or seen.any():
            plane = get_plane(labels, label_axes(axes), index)[0]
            corrections.append(Correction(index, whole_labels(plane), seen))
    return Annotated(image, axes, tuple(corrections))


def checked(annotated: Sequence[Annotated], channel: Channel) -> tuple[Annotated, ...]:
    """Check annotated images, and return them with the channel that the network sees.

    Parameters
    ----------
    annotated
        Images and their corrections.
    channel
        The channel to take; None for all.

    Raises
    ------
    ValueError
        If the axes or the channel do not fit an image, or nothing was corrected.
    """
    seen = []
    for item in annotated:
        axes = check_axes(item.axes, item.image.shape)
        image, axes = take_channel(item.image, axes, channel)
        seen.append(replace(item, image=image, axes=axes))
    if not any(item.corrections for item in annotated):
        raise ValueError("nothing was corrected; paint at least one cell, then fine-tune")
    return tuple(seen)
