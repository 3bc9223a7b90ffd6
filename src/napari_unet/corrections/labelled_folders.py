"""Folders of images with their labels, for training or for evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.axes import label_shape
from napari_unet.core.checks import Unfit, check_numbered, size_words, split_pieces, whole_labels
from napari_unet.corrections.annotations import Annotated, annotate, painted_planes
from napari_unet.io.image_source import ImageSource
from napari_unet.io.images import LABELS, Read, list_images, read_image


def list_pairs(images: Path, labels: Path) -> list[tuple[Path, Path]]:
    """Return the images of a folder, each with its labels file in another folder.

    Labels have the name of the image, or the name and "_labels" as `segment` writes them.

    Raises
    ------
    ValueError
        If an image has no labels.
    """
    truths = list_images([labels])
    by_stem = {path.stem.removesuffix(LABELS): path for path in truths}
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
    axes, shape = picture.label_axes, label_shape(picture.axes, picture.data.shape)
    try:
        truth = _numbers(read_image(labels, as_labels=True), shape)
        whole = whole_labels(truth)
        if split:
            return picture, split_pieces(whole, axes)
        check_numbered(whole, axes)
    except Unfit as error:
        raise ValueError(f"{labels}: {error.for_files}") from error
    except ValueError as error:
        where = "" if str(labels) in str(error) else f"{labels}: "
        raise ValueError(f"{where}{error}") from error
    return picture, whole


def _numbers(truth: ImageSource, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Return labels reshaped to `shape`, with one number for each pixel of the image."""
    numbers = np.asarray(truth.data)
    if truth.is_colour and (numbers[..., :1] == numbers[..., :3]).all():
        numbers = numbers[..., 0]  # grey, saved as a colour picture
    long = [tuple(n for n in of if n != 1) for of in (numbers.shape, shape)]
    if long[0] == long[1]:
        return numbers.reshape(shape)
    if truth.is_colour:
        raise ValueError(
            "the labels are a colour picture; save them as whole numbers, one for each cell, in "
            "a tif or a png of 16 bits"
        )
    raise ValueError(
        f"the labels are {size_words(numbers.shape)} and the image is {size_words(shape)}; give "
        "one number for each pixel"
    )
