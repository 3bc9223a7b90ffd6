"""Recognise labels in OME-Zarr, and write labels as OME-Zarr.

The stores that a job writes piece by piece, from zarr to zarr, are made in `large_images`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import label_axes, plane_indices
from napari_unet.core.checks import size_words, whole_labels
from napari_unet.core.json_types import JsonObject
from napari_unet.io.atomic import clean_once, part_of
from napari_unet.io.ome_zarr import create_labels, is_zarr, open_zarr, pyramid
from napari_unet.io.outputs import check_replaceable


def holds_labels(path: Path) -> bool:
    """Whether the metadata of a folder say that it holds labels in OME-Zarr; no pixel is read."""
    import zarr

    if not (path.is_dir() and is_zarr(path)):
        return False
    try:
        node = zarr.open(path, mode="r")
        attributes: JsonObject = dict(node.attrs)
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
    """Write labels as OME-Zarr 0.5; the folder appears as a whole or not at all.

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
    check_replaceable(path, overwrite=overwrite)
    _write(path, labels, axes, (scale, units, translation), zarr_format=3)


def write_labels_of_store(path: Path, labels: LazyArray, image: Path, axes: str) -> None:
    """Write the labels of an image in zarr, with its sizes of pixels, as `write_label_store`.

    Parameters
    ----------
    path, labels
        As of `write_label_store`; the labels have the axes of the image without C.
    image
        The store of the image.
    axes
        Its axes.
    """
    found = open_zarr(image, axes)
    kept = [n for n, axis in enumerate(found.axes) if axis != "C"]
    write_label_store(
        path,
        labels,
        label_axes(found.axes),
        [found.scale[n] for n in kept],
        [found.units[n] for n in kept],
        [found.translation[n] for n in kept],
    )


def write_labels_into(image: Path, labels: LazyArray, axes: str, name: str = "cells") -> Path:
    """Write labels into the OME-Zarr of their image, as its `labels/NAME`.

    They have the version of the image: 0.5 (with shards), or else 0.4. Its pixels, and what it says
    of itself, stay as they are.

    Parameters
    ----------
    image
        Folder of the image's store.
    labels
        Whole numbers, with these axes; they are read plane by plane.
    axes
        One letter of TZYX for each axis: those of the image without C.
    name
        Of the labels.

    Returns
    -------
    The folder of the labels.

    Raises
    ------
    NotOursError
        If there are labels of that name that this program did not write.
    ValueError
        If there is no OME-Zarr image, or the labels do not fit it.
    """
    import zarr

    found = open_zarr(image)
    if found.path != image or isinstance(zarr.open(image, mode="r"), zarr.Array):
        raise ValueError(f"{image} is no image in OME-Zarr; give the folder of its multiscales")
    kept = [n for n, axis in enumerate(found.axes) if axis != "C"]
    own, shape = label_axes(found.axes), tuple(found.data.shape[n] for n in kept)
    if (axes, tuple(labels.shape)) != (own, shape):
        raise ValueError(
            f"the labels are {size_words(labels.shape)} ({axes}) and the image {image.name} is "
            f"{size_words(shape)} ({own}); give the labels of this image"
        )
    group = zarr.open_group(image, mode="r+")
    zarr_format = group.metadata.zarr_format
    inside = group.require_group("labels")
    target = image / "labels" / name
    check_replaceable(target)
    scale, units, shift = (
        [found.scale[n] for n in kept],
        [found.units[n] for n in kept],
        [found.translation[n] for n in kept],
    )
    _write(target, labels, axes, (scale, units, shift), zarr_format, source="../../")
    attributes: JsonObject = dict(inside.attrs)
    described = attributes.get("ome", {}) if zarr_format == 3 else attributes
    names = described.get("labels", [])
    described["labels"] = [*names, name] if name not in names else names
    inside.attrs.update({"ome": {"version": "0.5", **described}} if zarr_format == 3 else described)
    return target


def _write(
    path: Path,
    labels: LazyArray,
    axes: str,
    sizes: tuple[Sequence[float], Sequence[str | None], Sequence[float]],
    zarr_format: Literal[2, 3],
    source: str = "",
) -> None:
    """Write a group of labels; it appears as a whole, or what was there stays."""
    import zarr

    path.parent.mkdir(parents=True, exist_ok=True)
    clean_once(path.parent)
    # The name of the folder is that of the image in it.
    folder, before = part_of(path), part_of(path)
    part = folder / path.name
    try:
        create_labels(part, labels.shape, axes, *sizes, zarr_format, source)
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
