"""Recognise labels in OME-Zarr, and write labels as OME-Zarr.

The stores that a job writes piece by piece, from zarr to zarr, are made in `large_images`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import plane_indices
from napari_unet.core.checks import whole_labels
from napari_unet.io.atomic import clean_once, part_of
from napari_unet.io.ome_zarr import create_labels, is_zarr, pyramid
from napari_unet.io.outputs import check_replaceable


def holds_labels(path: Path) -> bool:
    """Whether the metadata of a folder say that it holds labels in OME-Zarr; no pixel is read."""
    import zarr

    if not (path.is_dir() and is_zarr(path)):
        return False
    try:
        node = zarr.open(path, mode="r")
        attributes: dict[str, Any] = dict(node.attrs)
    except Exception:
        # Each kind of store has its own exceptions.
        return False
    described = attributes.get("ome", attributes)  # OME-Zarr 0.5 keeps it one level deeper
    return bool(described.get("multiscales")) and "image-label" in described


def write_label_store(
    path: Path,
    labels: LazyArray,
    axes: str,
    scale: Sequence[float],
    units: Sequence[str | None],
    translation: Sequence[float],
    *,
    overwrite: bool = False,
) -> None:
    """Write labels as OME-Zarr; the folder appears as a whole or not at all.

    Parameters
    ----------
    path
        Folder of the store. Labels that this program wrote there before are replaced.
    labels
        Whole numbers, with these axes; they are read plane by plane.
    axes
        One letter of TZYX for each axis.
    scale, units, translation
        One value for each axis, as in `io.ome_zarr.ZarrImage`.
    overwrite
        Whether what this program did not write may be replaced.

    Raises
    ------
    NotOursError
        If there is something at `path` that this program did not write, and it may not be replaced.
    ValueError
        If the labels are not whole numbers, or one is negative or too large for int32.
    """
    import zarr

    check_replaceable(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    clean_once(path.parent)
    # The name of the folder is that of the image in it.
    folder, before = part_of(path), part_of(path)
    part = folder / path.name
    try:
        create_labels(part, labels.shape, axes, scale, units, translation)
        group = zarr.open_group(part, mode="r+")
        levels: list[Any] = [group[str(n)] for n in range(len(pyramid(labels.shape, axes)))]
        for index in plane_indices(axes, labels.shape):
            place = iter(index)
            at = tuple(slice(None) if axis in "YX" else next(place) for axis in axes)
            plane = whole_labels(labels[at])
            for number, level in enumerate(levels):
                level[at] = plane[:: 2**number, :: 2**number]
        if path.exists():
            path.replace(before)
        part.replace(path)
    finally:
        for left in (folder, before):
            shutil.rmtree(left, ignore_errors=True)
