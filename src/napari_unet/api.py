"""The Python API: segment, fine-tune and measure images that are arrays; labels in files."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.core.arrays import LazyArray, Pixels
from napari_unet.core.checks import check_array_channels, check_numbered, name_array, whole_labels
from napari_unet.corrections.annotations import annotate
from napari_unet.io.exports.labelled import Labelled
from napari_unet.io.image_source import ImageSource
from napari_unet.models.store import ModelStore, ModelVersion, Reference
from napari_unet.service.segmentation import SegmentationService

logger = logging.getLogger(__name__)


def segment(
    image: LazyArray | ArrayLike,
    model: Reference = "nuclei",
    *,
    axes: str | None = None,
    config: PredictConfig | None = None,
) -> NDArray[np.int32]:
    """Return the cells of an image as labels.

    Parameters
    ----------
    image
        (Y, X), or an array with any of the axes TZCYX in any order. Planes of a lazy array (Dask,
        zarr) are read one by one.
    model
        NAME, NAME@VERSION, the path of a model file, or what `finetune` returned.
    axes
        One letter of TZCYX for each axis; by default YX, ZYX or TZYX, with C last if the length
        of the last axis is 3 or 4.
    config
        Settings. By default the program finds out the size of the cells, and whether to use the
        nuclear stain of a colour image. If it changes the image in such a way, the logger
        `napari_unet.api` says so (level INFO).

    Returns
    -------
    Labels with the image's axes without C, int32, 0 = background, ids unique over all planes.

    Warns
    -----
    UserWarning
        If pixels of the image are NaN or infinite: they are filled in from their neighbours.

    Raises
    ------
    ValueError
        If the axes do not fit, there is no such model, or the image has several separate channels.
    JobFailed
        If the work itself failed; the message says what to do.

    Examples
    --------
    A dark image has no cells.

    >>> config = PredictConfig(device="cpu", diameter_px=None)
    >>> labels = segment(np.zeros((40, 50), np.uint8), "nuclei", config=config)
    >>> labels.shape, labels.dtype, int(labels.max())
    ((40, 50), dtype('int32'), 0)
    """
    image, axes, _ = name_array(_as_array(image), axes)
    found = _service().segment(image, axes, model, config).wait()
    for said in found.warnings:
        warnings.warn(said, stacklevel=2)
    if found.look.words:
        logger.info("%s", found.look.words)
    return found.labels


def finetune(
    image: LazyArray | ArrayLike,
    labels: LazyArray | ArrayLike,
    model: Reference = "nuclei",
    *,
    axes: str | None = None,
    trusted: NDArray[np.bool_] | None = None,
    seconds: float | Literal["auto"] | None = None,
    config: FinetuneConfig | None = None,
    name: str | None = None,
) -> ModelVersion:
    """Train a model on corrected labels, and on all corrections that it got before.

    The result is a new version of the model. If it passes validation, the model's name means this
    version from now on.

    Parameters
    ----------
    image
        As in `segment`.
    labels
        Corrected labels, with the image's axes without C; each cell has its own number.
    model
        The parent, given as in `segment`.
    axes
        Axes of the image, as in `segment`.
    trusted
        Pixels that you have seen, where the labels are right: bool, of the shape of the labels. By
        default all are. The loss is on these pixels only.
    seconds
        Wall time for training, or "auto": until the model stops improving, at most 10 minutes. By
        default `config` decides.
    config
        Settings.
    name
        Name of the model that gets the new version. By default it is the parent's, or a new one if
        the parent came with the program.

    Warns
    -----
    UserWarning
        If the new version fails validation. It is returned, but the model's name does not mean it.

    Raises
    ------
    ValueError
        If shapes or axes do not fit, nothing is trusted, the labels are a mask in which all cells
        have one number, or there is no such model.
    JobFailed
        If the work itself failed; no version was added.

    Examples
    --------
    A fine-tune needs a number for each cell, not a mask.

    >>> image = np.zeros((40, 50), np.uint8)
    >>> image[10:18, 5:40:10] = 200
    >>> finetune(image, image > 0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    napari_unet.core.checks.Undecided: the labels hold one value (1) in 4 separate pieces: ...
    """
    image, axes, _ = name_array(_as_array(image), axes)
    settings = config or FinetuneConfig()
    parent = load_model(model).header.architecture.get("in_channels", 1)
    if not isinstance(settings.channel, int):
        check_array_channels(axes, image.shape, parent)
    annotated = annotate(
        image, axes, _as_array(labels), None if trusted is None else _as_array(trusted)
    )
    for correction in annotated.corrections:
        seen = True if correction.trusted is None else correction.trusted
        check_numbered(np.where(seen, correction.labels, 0), "YX")
    if seconds is not None:
        settings = replace(settings, seconds=seconds)
    done = _service().finetune([annotated], model, settings, name).wait()
    if not done.verdict.accepted:
        warnings.warn(f"{done.model.reference}: {done.verdict.why}", stacklevel=2)
    return done.model


def measure(
    image: LazyArray | ArrayLike,
    labels: LazyArray | ArrayLike,
    *,
    axes: str | None = None,
    scale: Sequence[float] | None = None,
) -> dict[str, Pixels]:
    """Return a table of the cells of an image: place, size, brightness, shape.

    Parameters
    ----------
    image
        As in `segment`.
    labels
        Labels of the cells, with the image's axes without C.
    axes
        Axes of the image, as in `segment`.
    scale
        Size of a pixel along each axis of the labels; 1 by default.

    Returns
    -------
    Columns by name, with one entry for each id (see `segmentation.measurements.measure`).

    Raises
    ------
    ValueError
        If shapes, axes or the scale do not fit.

    Examples
    --------
    >>> image = np.zeros((8, 8), np.uint8)
    >>> image[2:4, 2:6] = 50
    >>> table = measure(image, (image > 0).astype(int), scale=(0.5, 0.5))
    >>> table["area"].tolist(), table["intensity_mean"].tolist()
    ([2.0], [50.0])
    """
    from napari_unet.segmentation import measurements

    image, axes, _ = name_array(_as_array(image), axes)
    said: list[str] = []
    columns = measurements.measure(_as_array(labels), image, axes, scale, warn=said.append)
    for sentence in said:
        warnings.warn(sentence, stacklevel=2)
    return columns


def export_labels(
    labels: LazyArray | ArrayLike,
    path: str | os.PathLike[str],
    *,
    axes: str | None = None,
    format: str | None = None,
    scale: Sequence[float] | None = None,
    classes: Mapping[int, str] | None = None,
    image: LazyArray | ArrayLike | None = None,
    image_axes: str | None = None,
    name: str | None = None,
    objects: Literal["detection", "annotation"] = "detection",
    overwrite: bool = False,
) -> None:
    """Write labels in the format of another program.

    Parameters
    ----------
    labels
        Whole numbers, 0 = background, with the axes YX, ZYX or TZYX.
    path
        The file or folder to write. Its ending says the format: .zip (ROIs of ImageJ), .geojson
        (QuPath), .json (COCO), .tif, .zarr (OME-Zarr), .csv (a table of measurements).
    axes
        One letter of TZYX for each axis, for example TYX for a movie.
    format
        "imagej", "geojson", "coco", "tif", "zarr", "table"; or "tracks", a CSV of the tracks of a
        movie; "ctc", a folder of results as in the Cell Tracking Challenge; and "image-zarr", the
        labels `labels/cells` in the OME-Zarr of the image, which is `path`.
    scale
        Size of a pixel along each axis, in micrometres, and in seconds along T. Outlines and tracks
        are in pixels whatever it is.
    classes
        The class of cells, by their ids.
    image
        For a table: the image whose brightness is measured.
    image_axes
        Axes of the image: those of the labels in the same order, and perhaps C; by default those of
        the labels.
    name
        For COCO: the name of the image; by default that of `path` without its ending.
    objects
        What the cells are in QuPath. Annotations can be edited there.
    overwrite
        Whether what is at `path` may be replaced.

    Raises
    ------
    ValueError
        If there is something at `path`, the format is not known, or it cannot hold these labels.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> labels = np.eye(8, dtype=int)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "cells.geojson")
    ...     export_labels(labels, path)
    ...     (read_labels(path, shape=labels.shape) == labels).all()
    np.True_
    """
    from napari_unet.service import exports

    data, axes, _ = name_array(_as_array(labels), axes, rgb=False)
    if "C" in axes:
        raise ValueError(f"labels have no channels, and these have the axes {axes}")
    if scale is not None and len(scale) != len(axes):
        raise ValueError(
            f"the scale has {len(scale)} sizes and the labels have the axes {axes}; give one for "
            "each"
        )
    sizes = dict(zip(axes, scale or (), strict=False))
    pixel_size_um = (sizes["Y"], sizes["X"]) if sizes else None
    source = ImageSource(data, axes, False, pixel_size_um, sizes.get("Z"), sizes.get("T"))
    said: list[str] = []
    try:
        exports.export(
            Path(path),
            Labelled(source, classes or {}, name or Path(path).stem, objects),
            format,
            None if image is None else ImageSource(_as_array(image), image_axes or axes),
            overwrite=overwrite,
            warn=said.append,
        )
    except exports.ExistsError as error:
        raise exports.ExistsError(f"{error}, or overwrite=True") from error
    for sentence in said:
        warnings.warn(sentence, stacklevel=2)


def read_labels(
    path: str | os.PathLike[str], *, shape: Sequence[int] | None = None, axes: str | None = None
) -> NDArray[np.int32]:
    """Return labels from a file of this or another program.

    Parameters
    ----------
    path
        An image of labels (tif, png, zarr), a `_seg.npy` of Cellpose (nothing in it is executed),
        ROIs of ImageJ (zip, roi), or GeoJSON.
    shape
        Shape of the labels; it is needed for ROIs and GeoJSON.
    axes
        One letter of TZYX for each axis, for example TYX for a movie.

    Raises
    ------
    ValueError
        If the file cannot be read, or does not fit the shape.
    """
    from napari_unet.io.label_imports import read_label_file

    return whole_labels(np.asarray(read_label_file(Path(path), shape, axes).data))


def load_model(model: Reference = "nuclei") -> ModelVersion:
    """Return a version of a model: its file, and its header with classes, parent and scores.

    Parameters
    ----------
    model
        NAME, NAME@VERSION, the path of a model file, or what `finetune` returned.

    Raises
    ------
    ValueError
        If there is no such model.

    Examples
    --------
    >>> load_model("nuclei").header.classes
    ('background', 'cell')
    """
    return ModelStore().find(model)


def export_model(model: Reference, path: str | os.PathLike[str]) -> Path:
    """Write a model to a file; the ending says the format, as for `napari-unet models export`.

    Parameters
    ----------
    model
        NAME, NAME@VERSION, the path of a model file, or what `finetune` returned.
    path
        The new file: .zip for bioimage.io, .onnx, or .safetensors for napari-unet.

    Returns
    -------
    The path of the file.

    Raises
    ------
    ValueError
        If there is no such model, a package is missing, or the file is there and is no model.
    """
    return ModelStore().export(model, Path(path))


def import_model(path: str | os.PathLike[str], name: str | None = None) -> ModelVersion:
    """Add a model from a file to the models on this computer.

    Parameters
    ----------
    path
        A .safetensors file of napari-unet, or a zip or folder in the format of bioimage.io. One of
        another program has ONNX weights; it segments, and cannot be fine-tuned.
    name
        The name it gets; by default its own.

    Raises
    ------
    ValueError
        If it is no model, or one that cannot be used.
    """
    return ModelStore().import_file(Path(path), name)


@cache
def _service() -> SegmentationService:
    return SegmentationService()


def _as_array(image: LazyArray | ArrayLike) -> LazyArray:
    return cast(LazyArray, image) if hasattr(image, "shape") else np.asarray(image)
