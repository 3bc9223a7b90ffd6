"""Many images: each is read, segmented and written; what fails is told, and the rest is done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.backends.requests import SegmentRequest
from napari_unet.config import PredictConfig
from napari_unet.core.axes import plane_indices, take_channel
from napari_unet.core.checks import Unfit
from napari_unet.io.atomic import writing_to
from napari_unet.io.images import LABELS, read_image, stem_of, write_labels
from napari_unet.io.ome_zarr import is_zarr, open_zarr
from napari_unet.io.outputs import check_replaceable
from napari_unet.jobs import JobCancelled, Part, Reporter, sentence
from napari_unet.large_images.executors import Workers
from napari_unet.large_images.job import VolumeLabels, segment_volume
from napari_unet.models.loaded import LoadedModel
from napari_unet.models.store import ModelVersion
from napari_unet.segmentation.linking import check_link
from napari_unet.segmentation.looking import AS_IT_IS, Look
from napari_unet.segmentation.measurements import measure, write_table
from napari_unet.segmentation.planes import Segmentation

logger = logging.getLogger(__name__)
# Between the name of an image and the ending of the table of its cells.
CELLS = "_cells"


@dataclass(frozen=True)
class FileJob:
    """What is to be done with one image.

    Attributes
    ----------
    image
        Its file.
    labels
        Where the labels go.
    table
        Where the measurements go; None measures nothing.
    axes, series, rgb
        As for `image_files.read_image`.
    overwrite
        Whether labels and table may take the place of what others made.
    """

    image: Path
    labels: Path
    table: Path | None = None
    axes: str | None = None
    series: int | None = None
    rgb: bool = False
    overwrite: bool = False

    @property
    def written(self) -> tuple[Path, ...]:
        """What is written: the labels, and the table if there is to be one."""
        return (self.labels,) if self.table is None else (self.labels, self.table)

    def check_written(self) -> None:
        """See that it may be written; raises as `outputs.check_replaceable`."""
        for path in self.written:
            check_replaceable(path, overwrite=self.overwrite)


@dataclass(frozen=True)
class FileDone:
    """What became of it.

    Attributes
    ----------
    job
        What was to be done.
    n_cells
        How many cells there are.
    compute
        Where it ran, in words.
    seconds
        How long it took.
    error
        One sentence, with the name of the file, if it failed.
    notes
        As what the image was read, and what the user is to know of it, a sentence each.
    look
        How the model looked at it.
    """

    job: FileJob
    n_cells: int = 0
    compute: str = ""
    seconds: float = 0.0
    error: str = ""
    notes: tuple[str, ...] = ()
    look: Look = AS_IT_IS


@dataclass(frozen=True)
class Tools:
    """Who does the work.

    Attributes
    ----------
    segment
        Segments planes of an image, as `Backend.segment`.
    load
        Gives the model to what goes from zarr to zarr.
    workers
        Do what goes from zarr to zarr.
    """

    segment: Callable[[Reporter, SegmentRequest], Segmentation]
    load: Callable[[], LoadedModel]
    workers: Workers


def plan_files(
    images: Sequence[Path],
    out: Path,
    *,
    table: bool = False,
    axes: str | None = None,
    series: int | None = None,
    rgb: bool = False,
    overwrite: bool = False,
) -> list[FileJob]:
    """Where the labels of each image go, and the table of its cells.

    Parameters
    ----------
    images
        Their files, see `list_images`.
    out
        A folder, or the tif for one image.
    table
        Whether the cells are to be measured.
    axes, series, rgb
        As for `image_files.read_image`.
    overwrite
        Whether what others made may be replaced.

    Raises
    ------
    ValueError
        If two images would go to one file, or one to an image.
    NotOursError
        If something that this program did not make is in the way.
    """
    suffix = out.suffix.lower()
    if is_zarr(out) or (suffix in (".tif", ".tiff") and not out.is_dir()):
        if len(images) > 1:
            raise ValueError(f"{len(images)} images and one file {out}; give a folder for -o")
        targets = [out]
    elif suffix in (".png", ".jpg", ".jpeg", ".bmp"):
        raise ValueError(
            f"labels are written as tif or zarr, not {suffix}; give one, or a folder for -o"
        )
    else:
        # What is in zarr may be too large for a tif.
        targets = [
            out / f"{stem_of(path)}{LABELS}{'.zarr' if is_zarr(path) else '.tif'}"
            for path in images
        ]
    for number, (image, target) in enumerate(zip(images, targets, strict=True)):
        if is_zarr(target) and not is_zarr(image):
            raise ValueError(f"{image} is no zarr store; give a .tif or a folder for -o")
        if target in targets[:number]:
            raise ValueError(f"two images would go to {target}; segment them into two folders")
        if any(target.exists() and target.samefile(path) for path in images):
            raise ValueError(f"{target} is one of the images; give another place for the labels")
    files = [
        FileJob(path, target, where, axes, series, rgb, overwrite)
        for path, target in zip(images, targets, strict=True)
        for where in [target.parent / f"{stem_of(path)}{CELLS}.csv" if table else None]
    ]
    for file in files:
        file.check_written()
    return files


def segment_files(
    job: Reporter,
    tools: Tools,
    version: ModelVersion,
    files: Sequence[FileJob],
    config: PredictConfig,
    told: Callable[[FileDone], None],
) -> tuple[FileDone, ...]:
    """Segment images one after the other; called in a job.

    Parameters
    ----------
    job
        Told how far it is.
    tools
        Who does it.
    version
        What the model is called.
    files
        What is to be done.
    config
        Settings.
    told
        Called after each image, with what became of it.
    """
    done = []
    for number, file in enumerate(files):
        part = Part(job, number, len(files), file.image.name)
        try:
            outcome = segment_file(part, tools, version, file, config)
        except JobCancelled:
            raise
        except Exception as error:
            # Whatever it was, the other images are done.
            if not isinstance(error, ValueError | FloatingPointError | OSError | MemoryError):
                logger.exception("%s failed", file.image)
            text = sentence(error)
            # What could not be written is not the image's fault.
            named = any(str(path) in text for path in (file.image, *file.written))
            where = "" if named else f"{file.image}: "
            outcome = FileDone(file, error=where + text)
        done.append(outcome)
        told(outcome)
    return tuple(done)


def segment_file(
    job: Reporter,
    tools: Tools,
    version: ModelVersion,
    file: FileJob,
    config: PredictConfig,
) -> FileDone:
    """Read, segment and measure one image, and write what was found.

    Raises
    ------
    ValueError, OSError, MemoryError
        What goes wrong, in words; nothing is written then, or the labels alone.
    """
    start = time.perf_counter()
    job.report(0.0, "reading")
    image = read_image(file.image, file.axes, series=file.series, rgb=file.rgb)
    check_link(config.link, image.axes)
    try:
        image.check_channels(config.channel, version.header.architecture.get("in_channels", 1))
    except Unfit as error:
        raise ValueError(f"{file.image}: {error.for_files}") from error
    found: Segmentation | VolumeLabels
    labels: Any
    kinds: tuple[str, ...] | None = None
    warnings: list[str] = []
    if is_zarr(file.labels):
        with writing_to(file.labels):
            found = segment_volume(
                job,
                tools.load,
                version,
                open_zarr(file.image, file.axes, file.series).path,
                image.axes,
                file.labels,
                config,
                tools.workers,
                overwrite=file.overwrite,
            )
        labels = open_zarr(file.labels).data
        _, *of_cells = version.header.classes
        if len(of_cells) == 1:
            kinds = (of_cells[0],) * found.n_cells
    else:
        pixels, axes = take_channel(image.data, image.axes, config.channel)
        planes = tuple(plane_indices(axes, pixels.shape))
        if config.anisotropy is None:
            config = replace(config, anisotropy=image.anisotropy)
        found = tools.segment(job, SegmentRequest(pixels, axes, version, config, planes))
        # It may have come while the image was segmented.
        file.check_written()
        write_labels(
            file.labels,
            found.labels,
            image.label_axes,
            image.pixel_size_um,
            image.z_step_um,
            image.interval_s,
        )
        labels, kinds = found.labels, found.kinds
    if file.table is not None:
        job.report(0.99, "measuring")
        scale, unit = image.scale
        columns = measure(labels, image.data, image.axes, scale, job.check, warnings.append)
        if kinds is not None:
            columns["class"] = np.array(kinds, object)
        write_table(file.table, columns | {"unit": np.full(found.n_cells, unit)})
    seconds = time.perf_counter() - start
    told = (image.words(config.channel), *found.warnings, *warnings)
    notes = tuple(f"{file.image}: {note}" for note in told if note)
    return FileDone(file, found.n_cells, found.compute, seconds, notes=notes, look=found.look)


def summary(done: Sequence[FileDone]) -> str:
    """How many failed, and why; empty where none did."""
    failed = [outcome.error for outcome in done if outcome.error]
    if not failed:
        return ""
    rest = "" if len(failed) == len(done) else "; the others are done"
    return "\n".join([f"{len(failed)} of {len(done)} images failed{rest}:", *failed])
