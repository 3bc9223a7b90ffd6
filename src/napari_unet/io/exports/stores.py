"""Labels as labels: a tif for ImageJ, or OME-Zarr."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_unet.core.checks import whole_labels
from napari_unet.io.exports.labelled import Labelled
from napari_unet.io.images import write_labels
from napari_unet.io.label_stores import write_label_store, write_labels_into

# The unit of each axis in OME-Zarr, where its size is known.
_UNITS = {"T": "second", "Z": "micrometer", "Y": "micrometer", "X": "micrometer"}


def write_tif(path: Path, labelled: Labelled) -> None:
    """Write the labels as a tif, as `segment` does."""
    source = labelled.source
    write_labels(
        path,
        whole_labels(np.asarray(source.data[...])),
        source.axes,
        source.pixel_size_um,
        source.z_step_um,
        source.interval_s,
    )


def write_zarr(path: Path, labelled: Labelled) -> None:
    """Write the labels as OME-Zarr, with a pyramid."""
    source = labelled.source
    y, x = source.pixel_size_um or (None, None)
    sizes = {"T": source.interval_s, "Z": source.z_step_um, "Y": y, "X": x}
    write_label_store(
        path,
        source.data,
        source.axes,
        [sizes[axis] or 1.0 for axis in source.axes],
        [_UNITS[axis] if sizes[axis] else None for axis in source.axes],
        (0.0,) * len(source.axes),
        overwrite=True,
    )


def write_into_image(path: Path, labelled: Labelled) -> None:
    """Write the labels into the OME-Zarr of their image, which `path` names."""
    write_labels_into(path, labelled.source.data, labelled.source.axes)
