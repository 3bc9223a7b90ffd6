"""Scores of a model on labelled image files."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from napari_unet.config import PredictConfig
from napari_unet.core.axes import (
    get_plane,
    get_stack,
    label_axes,
    plane_indices,
    stack_indices,
)
from napari_unet.core.metrics import Scores
from napari_unet.service.image_files import read_pair
from napari_unet.service.jobs import JobFailed
from napari_unet.service.model_store import Reference
from napari_unet.service.segmentation import SegmentationService
from napari_unet.service.stacks import in_stacks


def evaluate(
    service: SegmentationService,
    pairs: Sequence[tuple[Path, Path]],
    model: Reference,
    config: PredictConfig | None = None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Segment images and compare with their labels, plane by plane; with a model of stacks in 3D.

    Parameters
    ----------
    service
        Does the segmentation.
    pairs
        (image, labels) files.
    model
        NAME, NAME@VERSION, the path of a model file, or a version.
    config
        Settings.
    on_image
        Called with (images done, images in all).

    Returns
    -------
    The numbers of `Scores.summary`, with `n_images` counting files, and `seconds`: wall time of
    the segmentation alone, model loading included.

    Raises
    ------
    ValueError
        If a file cannot be read, its labels do not fit, or there is no such model.
    JobFailed
        If the segmentation of a file failed.
    """
    scores, seconds = Scores(), 0.0
    config = config or PredictConfig()
    in_3d = in_stacks(service.store.find(model).header, config)
    for done, (image_path, labels_path) in enumerate(pairs, start=1):
        image, truth = read_pair(image_path, labels_path)
        start = time.perf_counter()
        try:
            settings = replace(config, anisotropy=config.anisotropy or image.anisotropy)
            found = service.segment(image.data, image.axes, model, settings).wait().labels
        except JobFailed as error:
            raise JobFailed(f"{image_path}: {error}") from error
        seconds += time.perf_counter() - start
        axes = label_axes(image.axes)
        parts, get = (stack_indices, get_stack) if in_3d else (plane_indices, get_plane)
        for index in parts(axes, truth.shape):
            scores.add(get(truth, axes, index)[0], get(found, axes, index)[0])
        on_image(done, len(pairs))
    return {**scores.summary(), "n_images": len(pairs), "seconds": round(seconds, 3)}
