"""Labels layers as what exports write, and labels of files as layers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray

from napari_unet.core.axes import planes_last
from napari_unet.core.checks import whole_labels
from napari_unet.io.exports.labelled import Labelled
from napari_unet.io.image_source import ImageSource, in_s, in_um
from napari_unet.io.label_imports import read_labels_of
from napari_unet.plugin.viewer.layers import axes_of, check_fits, finest
from napari_unet.plugin.viewer.record import record_of


@dataclass(frozen=True)
class ExportFormat:
    """A format as the dock offers it.

    Attributes
    ----------
    name
        One of `io.exports.formats.FORMATS`.
    title
        In the menu.
    ending
        Of the file; empty for a folder of files.
    tip
        What it is good for.
    is_movie
        Whether only labels with a time axis can be written.
    ask
        What folder is asked for.
    """

    name: str
    title: str
    ending: str
    tip: str
    is_movie: bool = False
    ask: str = "an empty folder, or one of an earlier export"

    def why_not(self, axes: str) -> str:
        """Return why labels with these axes cannot be written; empty if they can."""
        if self.is_movie and "T" not in axes:
            return "For movies only: these labels have no time axis (see 'read as')"
        return ""

    def with_ending(self, path: Path) -> Path:
        """Return a path with the ending of the format, added where there is another one."""
        is_right = path.name.lower().endswith(self.ending)
        return path if is_right else path.with_name(path.name + self.ending)


def beside(image: Image, labels: Labels, ending: str) -> str:
    """Return where a file of the cells may lie: in the folder of the image, if that is known.

    napari adds a number to the name of a second layer, which does not belong to a file.
    """
    name = re.sub(r" \[\d+\]$", "", labels.name) + ending
    there = image.source.path
    folder = Path(there).parent if there else None
    return str(folder / name) if folder is not None and folder.is_dir() else name


EXPORT_FORMATS = (
    ExportFormat(
        "imagej", "ImageJ ROIs", ".zip", "Outlines for the ROI Manager of ImageJ and Fiji"
    ),
    ExportFormat("geojson", "QuPath", ".geojson", "Outlines for QuPath (GeoJSON)"),
    ExportFormat("coco", "COCO", ".json", "Outlines and masks for training other networks"),
    ExportFormat("tif", "Label image", ".tif", "One number for each cell, for any program"),
    ExportFormat("zarr", "OME-Zarr", ".zarr", "Labels with a pyramid, for large images"),
    ExportFormat(
        "image-zarr",
        "OME-Zarr, in the image",
        "",
        "Into the OME-Zarr of the image, as its labels/cells",
        ask="The OME-Zarr of the image",
    ),
    ExportFormat(
        "tracks", "Tracks", ".csv", "The centre of each cell at each time, as a table", True
    ),
    ExportFormat(
        "ctc", "Cell Tracking Challenge", "", "A folder of masks and res_track.txt", is_movie=True
    ),
)


def labelled(labels: Labels, image: Image) -> Labelled:
    """Return what an export writes of labels: their numbers, no copy; classes, and pixel size.

    Parameters
    ----------
    labels
        The layer.
    image
        What was segmented.

    Raises
    ------
    ValueError
        If the labels do not fit the image.
    """
    check_fits(labels, image)
    axes, data = axes_of(labels), finest(labels)
    kept = [n for n, axis in enumerate(axes) if axis != "C"]
    data = data[tuple(slice(None) if n in kept else 0 for n in range(len(axes)))]
    um = {axes[n]: in_um(labels.scale[n], labels.units[n]) for n in kept}
    y, x = um["Y"], um["X"]
    source = ImageSource(
        data,
        "".join(axes[n] for n in kept),
        pixel_size_um=(y, x) if y and x else None,
        z_step_um=um.get("Z"),
        interval_s=next(
            (in_s(labels.scale[n], labels.units[n]) for n in kept if axes[n] == "T"), None
        ),
    )
    classes = dict(record_of(labels).classes)
    return Labelled(source, classes, image.name)


def copied(labels: Labelled, report: Callable[[float], None]) -> Labelled:
    """Return a copy that nobody paints on, and that reports; for the thread of a job.

    Labels that are read from a file when they are needed cannot be painted on.
    """
    data = labels.labels
    pixels = data.copy() if isinstance(data, np.ndarray) else data
    return replace(labels, source=replace(labels.source, data=pixels), report=report)


def read_over(path: Path, data: ImageSource) -> NDArray[np.int32]:
    """Return the labels of an image from a file, (..., Y, X).

    Raises
    ------
    ValueError
        If the file cannot be read, or does not fit the image.
    """
    found = read_labels_of(path, data)
    pixels: NDArray[np.int32] = planes_last(whole_labels(np.asarray(found.data)), data.label_axes)
    return pixels
