"""The layers of an image of a project: made in a thread, with what was corrected before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import uuid4

import numpy as np
from napari.components import Dims
from napari.layers import Image, Labels
from numpy.typing import NDArray

from napari_unet.core.axes import planes_last
from napari_unet.io.image_source import ImageSource
from napari_unet.plugin.edits.autosave import labels_from
from napari_unet.plugin.edits.features import show_features
from napari_unet.plugin.viewer.alignment import labels_like
from napari_unet.plugin.viewer.colours import outline
from napari_unet.plugin.viewer.drawing import draw_ahead, show_tools
from napari_unet.plugin.viewer.garbage import leave_out_all, look_at
from napari_unet.plugin.viewer.layers import name_axes_of
from napari_unet.plugin.viewer.record import record_of
from napari_unet.projects.classes import classes_of
from napari_unet.projects.project import Project


@dataclass(frozen=True)
class Opened:
    """An image of a project, and its layers.

    Attributes
    ----------
    name
        Of the image.
    source
        What its file says.
    key
        Of its draft in the viewer.
    image, labels
        The layers; `labels` is None if there are none yet.
    owner
        Tells the labels from others of this image.
    is_restored
        Whether the labels come with corrections.
    told
        What was found while opening, in a sentence; empty if nothing was.
    """

    name: str
    source: ImageSource
    key: str
    image: Image
    labels: Labels | None
    owner: str
    is_restored: bool = False
    told: str = ""


def key_of(project: Project, name: str) -> str:
    """The key of an image's draft among all drafts of a viewer."""
    return f"{project.folder}/{name}"


def open_image(
    project: Project, name: str, contour_px: Callable[[Sequence[int]], int], dims: Dims
) -> Opened:
    """Read an image with its labels and corrections, and make the layers; takes long.

    Parameters
    ----------
    project, name
        The project and the image.
    contour_px
        Width of the cells' outlines for labels of a shape; 0: filled.
    dims
        Of the viewer; no proxy, see `viewer.layers.bare`.

    Raises
    ------
    ValueError, OSError
        If the image cannot be read.
    """
    source = project.read(name)
    leave_out_all()
    image = _image_layer(name, source)
    look_at(image)
    told, owner = "", uuid4().hex
    labels: Labels | None = None
    is_restored = project.is_corrected(name)
    try:
        labels = _labels_layer(project, name, source, image)
    except (ValueError, KeyError, TypeError) as error:
        told = f"The labels of {name} are not shown: {error}"
    if labels is not None:
        record = record_of(labels)
        record.draft, record.draft_owner = key_of(project, name), owner
        look_at(labels)
        outline(labels, contour_px(labels.data.shape))
        show_tools(labels, shown=False)
        draw_ahead(labels, dims)
    return Opened(name, source, key_of(project, name), image, labels, owner, is_restored, told)


def planes_from(labels: NDArray[np.int32], source: ImageSource) -> NDArray[np.int32]:
    """Return labels with the axes of an image without C as planes, Y and X last."""
    return planes_last(labels, source.label_axes)


def _image_layer(name: str, source: ImageSource) -> Image:
    is_rgb = source.is_colour and source.axes[-1] == "C"
    sizes, unit = source.scale
    scale = dict(zip(source.label_axes, sizes, strict=True)) | {"C": 1.0}
    axes = source.axes[:-1] if is_rgb else source.axes
    units = ["um" if unit == "um" and axis in "ZYX" else "pixel" for axis in axes]
    layer = Image(
        source.data,
        name=name,
        rgb=is_rgb,
        scale=[scale[axis] for axis in axes],
        units=units,
        multiscale=False,
    )
    name_axes_of(layer, source.axes)
    return layer


def _labels_layer(project: Project, name: str, source: ImageSource, image: Image) -> Labels | None:
    """The labels of an image as they were, with what was corrected and confirmed."""
    draft = project.corrections(name)
    if draft is not None:
        return labels_from(image, draft)
    found = project.read_labels(name, source)
    if found is None:
        return None
    planes = planes_from(found, source)
    layer = labels_like(image, planes, f"{name} cells", {})
    record = record_of(layer)
    record.source, record.image = image.unique_id, name
    record.model, record.baseline = project.entry(name).model, planes.copy()
    record.classes = classes_of(project.label_path(name))
    channel = project.entry(name).channel
    if channel != "auto":
        record.channel = channel
    layer.selected_label = int(planes.max(initial=0)) + 1
    show_features(layer)
    return layer
