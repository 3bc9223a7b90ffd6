"""The segmentation of many image files. If one fails, the others are still done."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from napari_unet.backends.requests import SegmentRequest
from napari_unet.config import Channel, PredictConfig
from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import plane_indices, take_channel
from napari_unet.core.checks import Unfit
from napari_unet.io.atomic import writing_to
from napari_unet.io.images import LABELS, read_image, stem_of, write_labels
from napari_unet.io.label_stores import write_labels_of_store
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
# Text in the name of the table of cells, between the name of the image and the ending.
CELLS = "_cells"


@dataclass(frozen=True)
class FileJob:
    """One image file to segment, and the files to write.

    Attributes
    ----------
    image
        The file of the image.
    labels
        The file or store for the labels.
    table
        The file for the table of cells; None measures nothing.
    axes, series, rgb
        As for `io.images.read_image`.
    overwrite
        Whether files that this program did not make may be replaced.
    read_as
        Axes that the user gave to images, by those that their files have.
    fits_settings
        Whether settings are left out where an image has no axes for them, such as links along time;
        else they are an error.
    in_memory_px
        Images in zarr of so many pixels or fewer are segmented in memory, as those in other files
        are: how unsure the model was of them is known then.
    """

    image: Path
    labels: Path
    table: Path | None = None
    axes: str | None = None
    series: int | None = None
    rgb: bool = False
    overwrite: bool = False
    read_as: Mapping[str, str] = field(default_factory=dict)
    fits_settings: bool = False
    in_memory_px: int = 0

    @property
    def written(self) -> tuple[Path, ...]:
        """The files to write: the labels, and the table if there is one."""
        return (self.labels,) if self.table is None else (self.labels, self.table)

    def check_written(self) -> None:
        """Check that the files may be written; raises as `io.outputs.check_replaceable`."""
        for path in self.written:
            check_replaceable(path, overwrite=self.overwrite)


@dataclass(frozen=True)
class FileDone:
    """The result for one image file.

    Attributes
    ----------
    job
        What was to be done.
    n_cells
        Number of cells.
    compute
        The device and number format that were used, in words.
    seconds
        How long it took.
    error
        One sentence with the name of the file, if it failed; else empty.
    notes
        How the image was read, and warnings about it, one sentence each.
    look
        The diameter and channel with which the model saw the image.
    doubt
        How unsure the model is of the image, as of `Segmentation`; None if that is not known.
    classes
        The class of each cell, in the order of their ids; None if the model does not tell them.
    channel
        The channel that the model saw, "stain", or None for all.
    """

    job: FileJob
    n_cells: int = 0
    compute: str = ""
    seconds: float = 0.0
    error: str = ""
    notes: tuple[str, ...] = ()
    look: Look = AS_IT_IS
    doubt: float | None = None
    classes: tuple[str, ...] | None = None
    channel: Channel = None


@dataclass(frozen=True)
class Tools:
    """What `segment_file` needs to segment an image.

    Attributes
    ----------
    segment
        Segments planes of an image, as `Backend.segment`.
    load
        Returns the model, for images that go from zarr to zarr.
    workers
        The executor that runs the tasks, for images that go from zarr to zarr.
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
    """Choose the files for the labels of each image, and for the tables of their cells.

    Parameters
    ----------
    images
        The image files; see `io.images.list_images`.
    out
        A folder; or, for one image, the tif or zarr of the labels.
    table
        Whether the cells are measured.
    axes, series, rgb
        As for `io.images.read_image`.
    overwrite
        Whether files that this program did not make may be replaced.

    Raises
    ------
    ValueError
        If the labels of two images would go to one file, or would replace an image.
    NotOursError
        If a file to write exists and was not made by this program.
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
        # Labels of a zarr are written as zarr, because they may be too large for a tif.
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
        Receives the progress.
    tools
        What segments the images.
    version
        The version of the model.
    files
        The files to read and to write.
    config
        Settings.
    told
        Called after each image, with its result.

    Returns
    -------
    The results for all images, in the order of `files`.
    """
    done = []
    for number, file in enumerate(files):
        n = len(files)
        name = f"{file.image.name} ({number + 1} of {n}): " if n > 1 else ""
        part = Part(job, number, n, before=name)
        try:
            outcome = segment_file(part, tools, version, file, config)
        except JobCancelled:
            raise
        except Exception as error:
            # Any error ends only this image, and the others are still done.
            if not isinstance(error, ValueError | FloatingPointError | OSError | MemoryError):
                logger.exception("%s failed", file.image)
            text = sentence(error)
            # The image is named only if the error does not name a file of this job already.
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
    """Read, segment and measure one image, and write its labels and table.

    For parameters see `segment_files`.

    Raises
    ------
    ValueError, OSError, MemoryError
        If it fails, with a sentence for the user. Then nothing is written, or only the labels.
    """
    start = time.perf_counter()
    job.report(0.0, "reading")
    image = read_image(file.image, file.axes, series=file.series, rgb=file.rgb)
    image = image.named(file.read_as)
    if file.fits_settings:
        config = config.fitting(image.axes)
    check_link(config.link, image.axes)
    try:
        image.check_channels(config.channel, version.header.architecture.get("in_channels", 1))
    except Unfit as error:
        raise ValueError(f"{file.image}: {error.for_files}") from error
    found: Segmentation | VolumeLabels
    labels: LazyArray
    classes: tuple[str, ...] | None = None
    warnings: list[str] = []
    in_zarr = is_zarr(file.labels)
    if in_zarr and math.prod(image.data.shape) > file.in_memory_px:
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
            classes = (of_cells[0],) * found.n_cells
    else:
        pixels, axes = take_channel(image.data, image.axes, config.channel)
        planes = tuple(plane_indices(axes, pixels.shape))
        if config.anisotropy is None:
            config = replace(config, anisotropy=image.anisotropy)
        found = tools.segment(job, SegmentRequest(pixels, axes, version, config, planes))
        # It may have come while the image was segmented.
        file.check_written()
        if in_zarr:
            write_labels_of_store(file.labels, found.labels, file.image, image.axes)
        else:
            sizes = image.pixel_size_um, image.z_step_um, image.interval_s
            write_labels(file.labels, found.labels, image.label_axes, *sizes)
        labels, classes = found.labels, found.kinds
    if file.table is not None:
        job.report(0.99, "measuring")
        scale, unit = image.scale
        columns = measure(labels, image.data, image.axes, scale, job.check, warnings.append)
        if classes is not None:
            columns["class"] = np.array(classes, object)
        write_table(file.table, columns | {"unit": np.full(found.n_cells, unit)})
    seconds = time.perf_counter() - start
    told = (image.words(config.channel), *found.warnings, *warnings)
    notes = tuple(f"{file.image}: {note}" for note in told if note)
    doubt = found.doubt if isinstance(found, Segmentation) else None
    return FileDone(
        file,
        found.n_cells,
        found.compute,
        seconds,
        notes=notes,
        look=found.look,
        doubt=doubt,
        classes=classes,
        channel=found.look.channel if config.channel == "auto" else config.channel,
    )


def summary(done: Sequence[FileDone]) -> str:
    """Return how many images failed, and why, in words; empty if none did."""
    failed = [outcome.error for outcome in done if outcome.error]
    if not failed:
        return ""
    rest = "" if len(failed) == len(done) else "; the others are done"
    return "\n".join([f"{len(failed)} of {len(done)} images failed{rest}:", *failed])
