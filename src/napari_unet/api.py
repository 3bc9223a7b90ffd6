"""The Python door: arrays in, labels out."""

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
    """Segment the cells of an image.

    Parameters
    ----------
    image
        (Y, X), or any array-like with the axes TZCYX in any order; planes are read lazily.
    model
        NAME, NAME@VERSION, the path of a model file, or what `finetune` returned.
    axes
        One letter of TZCYX for each axis; by default YX, ZYX or TZYX, with C last where it
        counts 3 or 4.
    config
        Settings. By default the size of the cells, and how tissue in colour is seen, are found out;
        the logger `napari_unet.api` tells where that is not as the image is (level INFO).

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
        If the work itself failed; the sentence says what to do.
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
    """Improve a model from corrected labels and all that it was corrected by before.

    The result is a new version; unless it is worse where it was checked, the model's name stands
    for it from now on.

    Parameters
    ----------
    image
        As in `segment`.
    labels
        Corrected instance labels, with the image's axes without C.
    model
        The parent.
    axes
        Axes of the image.
    trusted
        Where the labels are truth, bool, shaped like them; everywhere by default. The loss is on
        these pixels only.
    seconds
        Wall time for training, or "auto": until it stops improving, at most 10 minutes; `config`
        decides by default.
    config
        Settings.
    name
        Model that gets the new version; by default the parent's, or a new one if that shipped.

    Warns
    -----
    UserWarning
        If the new version is worse; it is returned, but its name does not stand for it.

    Raises
    ------
    ValueError
        If shapes or axes do not fit, nothing is trusted, the labels are a mask in which all cells
        have one number, or there is no such model.
    JobFailed
        If the work itself failed; no version was added.
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
    """Measure the cells of an image: place, size, brightness, shape.

    Parameters
    ----------
    image
        As in `segment`.
    labels
        With the image's axes without C.
    axes
        Axes of the image.
    scale
        Size of a pixel along each axis of the labels; 1 by default.

    Returns
    -------
    Columns, one entry for each id; see `segmentation.measurements.measure`.

    Raises
    ------
    ValueError
        If shapes, axes or the scale do not fit.
    """
    from napari_unet.segmentation import measurements

    image, axes, _ = name_array(_as_array(image), axes)
    said: list[str] = []
    columns = measurements.measure(_as_array(labels), image, axes, scale, warn=said.append)
    for sentence in said:
        warnings.warn(sentence, stacklevel=2)
    return columns


def load_model(model: Reference = "nuclei") -> ModelVersion:
    """Look a model up: its file, and its header with classes, parent, scores.

    Raises
    ------
    ValueError
        If there is no such model.
    """
    return ModelStore().find(model)


@cache
def _service() -> SegmentationService:
    return SegmentationService()


def _as_array(image: LazyArray | ArrayLike) -> LazyArray:
    return cast(LazyArray, image) if hasattr(image, "shape") else np.asarray(image)
