"""Folders of images with their labels, for training or for evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.checks import Unfit, check_numbered, split_pieces, whole_labels
from napari_unet.corrections.annotations import Annotated, annotate, painted_planes
from napari_unet.io.image_source import ImageSource
from napari_unet.io.images import LABELS, Read, list_images, read_image
from napari_unet.io.label_imports import is_label_file, read_labels_of

# What programs add to the name of an image, before the ending, for its labels.
_ADDED = (LABELS, "_seg", "_rois", "_RoiSet")


def list_pairs(images: Path, labels: Path) -> list[tuple[Path, Path]]:
    """Return the images of a folder, each with its labels file in another folder.

    Labels have the name of the image, or the name and "_labels" as `segment` writes them, "_seg" as
    Cellpose does, "_rois" or "_RoiSet". Both folders may be one, if the labels are no images.

    Raises
    ------
    ValueError
        If an image has no labels.
    """
    truths = _list_labels(images, labels)
    by_stem: dict[str, Path] = {}
    for path in truths:
        for added in _ADDED:
            by_stem.setdefault(path.stem.removesuffix(added), path)
    # Labels with exactly the name of the image are preferred.
    by_stem |= {path.stem: path for path in truths}
    found = list_images([images])
    missing = [path.name for path in found if path.stem not in by_stem]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(found)} images have no labels in {labels}, "
            f"for example {missing[0]}; give each its labels under the same name"
        )
    return [(path, by_stem[path.stem]) for path in found]


def _list_labels(images: Path, labels: Path) -> list[Path]:
    """Return the files of labels; from the folder of the images, only those that are no images."""
    others = sorted(labels.iterdir()) if labels.is_dir() else []
    others = [path for path in others if is_label_file(path) and not path.name.startswith(".")]
    if others and images.exists() and labels.samefile(images):
        return others
    try:
        return [*others, *list_images([labels])]
    except ValueError:
        if not others:
            raise
        return others


def read_annotated(
    images: Path,
    labels: Path,
    *,
    sparse: bool = False,
    read: Read = read_image,
    split: bool = False,
) -> list[Annotated]:
    """Read the images of a folder with their labels in another, for training.

    Parameters
    ----------
    images, labels
        The folders; for the names of the files see `list_pairs`.
    sparse
        Whether planes without any label count as unseen.
    read, split
        As for `read_pair`.

    Raises
    ------
    ValueError
        As `list_pairs` and `read_pair`.
    """
    pairs = [read_pair(*pair, read, split=split) for pair in list_pairs(images, labels)]
    return [
        annotate(
            image.data, image.axes, truth, painted_planes(image.axes, truth) if sparse else None
        )
        for image, truth in pairs
    ]


def read_pair(
    image: Path, labels: Path, read: Read = read_image, *, split: bool = False
) -> tuple[ImageSource, NDArray[np.int32]]:
    """Read an image and its labels (axes of the image without C).

    Parameters
    ----------
    image, labels
        The files.
    read
        Reads the image.
    split
        Whether each separate piece of the labels is a cell, whatever its number.

    Raises
    ------
    ValueError
        If they differ in size, or the labels are not whole numbers, or are one mask of all cells.
    """
    picture = read(image)
    try:
        whole = whole_labels(read_labels_of(labels, picture).data)
        if split:
            return picture, split_pieces(whole, picture.label_axes)
        check_numbered(whole, picture.label_axes)
    except Unfit as error:
        raise ValueError(f"{labels}: {error.for_files}") from error
    except ValueError as error:
        where = "" if str(labels) in str(error) else f"{labels}: "
        raise ValueError(f"{where}{error}") from error
    return picture, whole
