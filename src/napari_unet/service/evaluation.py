"""The evaluation of a model on labelled image files."""

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
from napari_unet.core.cells.metrics import Scores
from napari_unet.core.checks import Unfit
from napari_unet.corrections.labelled_folders import read_pair
from napari_unet.io.images import Read, read_image
from napari_unet.jobs import JobFailed
from napari_unet.learning.stacks import in_stacks
from napari_unet.models.store import Reference
from napari_unet.service.segmentation import SegmentationService


def evaluate(
    service: SegmentationService,
    pairs: Sequence[tuple[Path, Path]],
    model: Reference,
    config: PredictConfig | None = None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
    *,
    read: Read = read_image,
    split: bool = False,
    told: Callable[[str], None] = lambda note: None,
) -> dict[str, float]:
    """Segment images and compare the result with their labels: plane by plane, or stacks in 3D.

    Parameters
    ----------
    service
        The service that segments them.
    pairs
        (image, labels) files.
    model
        NAME, NAME@VERSION, the path of a model file, or a version.
    config
        Settings.
    on_image
        Called after each image with (images done, images in all).
    read, split
        As for `corrections.labelled_folders.read_pair`.
    told
        Called with a note about how an image was read, and with each warning about it.

    Returns
    -------
    The numbers of `Scores.summary`; `n_images`, the number of files; and `seconds`, the wall time
    of segmentation, with loading of the model but without reading of files.

    Raises
    ------
    ValueError
        If a file cannot be read, its labels do not fit, or there is no such model.
    JobFailed
        If the segmentation of a file failed.
    """
    scores, seconds = Scores(), 0.0
    config = config or PredictConfig()
    header = service.store.find(model).header
    in_3d = in_stacks(header, config)
    for done, (image_path, labels_path) in enumerate(pairs, start=1):
        image, truth = read_pair(image_path, labels_path, read, split=split)
        try:
            image.check_channels(config.channel, header.architecture.get("in_channels", 1))
        except Unfit as error:
            raise ValueError(f"{image_path}: {error.for_files}") from error
        start = time.perf_counter()
        try:
            settings = replace(config, anisotropy=config.anisotropy or image.anisotropy)
            done_with = service.segment(image.data, image.axes, model, settings).wait()
        except JobFailed as error:
            raise JobFailed(f"{image_path}: {error}") from error
        seconds += time.perf_counter() - start
        found = done_with.labels
        for note in (image.words(config.channel), *done_with.warnings):
            if note:
                told(f"{image_path}: {note}")
        axes = label_axes(image.axes)
        parts, get = (stack_indices, get_stack) if in_3d else (plane_indices, get_plane)
        for index in parts(axes, truth.shape):
            scores.add(get(truth, axes, index)[0], get(found, axes, index)[0])
        on_image(done, len(pairs))
    return {**scores.summary(), "n_images": len(pairs), "seconds": round(seconds, 3)}
