"""The Python door: arrays in, labels out."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.core.axes import check_axes, get_plane, guess_axes, label_axes, plane_indices
from napari_unet.service.model_store import ModelStore, ModelVersion
from napari_unet.service.segmentation import Annotated, Correction, SegmentationService

Model = str | Path | ModelVersion


def segment(
    image: Any,
    model: Model = "nuclei",
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
        Settings.

    Returns
    -------
    Labels with the image's axes without C, int32, 0 = background, ids unique over all planes.

    Raises
    ------
    ValueError
        If the axes do not fit, or there is no such model.
    JobFailed
        If the work itself failed; the sentence says what to do.
    """
    axes = _axes(image, axes)
    return _service().segment(image, axes, _reference(model), config).wait().labels


def finetune(
    image: Any,
    labels: NDArray[np.integer[Any]],
    model: Model = "nuclei",
    *,
    axes: str | None = None,
    trusted: NDArray[np.bool_] | None = None,
    seconds: float | None = None,
    config: FinetuneConfig | None = None,
    name: str | None = None,
) -> ModelVersion:
    """Improve a model from corrected labels; the result is a new version, and the active one.

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
        Wall time for training; `config` decides by default.
    config
        Settings.
    name
        Model that gets the new version; the parent's by default.

    Raises
    ------
    ValueError
        If shapes or axes do not fit, nothing is trusted, or there is no such model.
    JobFailed
        If the work itself failed; no version was added.
    """
    axes = _axes(image, axes)
    of_labels = label_axes(axes)
    shape = tuple(n for axis, n in zip(axes, image.shape, strict=True) if axis != "C")
    for what, array in (("labels", labels), ("trusted mask", trusted)):
        if array is not None and array.shape != shape:
            raise ValueError(f"the {what} are {array.shape} and the image needs {shape}")
    corrections = []
    for index in plane_indices(of_labels, shape):
        seen = None if trusted is None else get_plane(trusted, of_labels, index)[0].astype(bool)
        if seen is None or seen.any():
            plane = get_plane(labels, of_labels, index)[0].astype(np.int32)
            corrections.append(Correction(index, plane, seen))
    settings = config or FinetuneConfig()
    if seconds is not None:
        settings = replace(settings, seconds=seconds)
    annotated = [Annotated(image, axes, tuple(corrections))]
    return _service().finetune(annotated, _reference(model), settings, name).wait().model


def load_model(model: Model = "nuclei") -> ModelVersion:
    """Look a model up: its file, and its header with classes, parent, scores.

    Raises
    ------
    ValueError
        If there is no such model.
    """
    return model if isinstance(model, ModelVersion) else ModelStore().find(model)


@cache
def _service() -> SegmentationService:
    return SegmentationService()


def _reference(model: Model) -> str | Path:
    return model.path if isinstance(model, ModelVersion) else model


def _axes(image: Any, axes: str | None) -> str:
    shape = image.shape
    rgb = axes is None and len(shape) == 3 and shape[-1] in (3, 4)
    return check_axes(axes or guess_axes(shape, rgb=rgb), shape)
