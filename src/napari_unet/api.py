"""The Python API: segment, fine-tune and measure images that are arrays."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.core.arrays import LazyArray, Pixels
from napari_unet.core.checks import check_array_channels, check_numbered, name_array
from napari_unet.corrections.annotations import annotate
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


@cache
def _service() -> SegmentationService:
    return SegmentationService()


def _as_array(image: LazyArray | ArrayLike) -> LazyArray:
    return cast(LazyArray, image) if hasattr(image, "shape") else np.asarray(image)
