"""The segmentation of images larger than memory, from zarr to OME-Zarr, in tasks.

While the job runs, the folder OUT.part is beside the labels OUT. It holds the scores of a few
planes, the labels of their blocks, the finished parts of OUT, and one small file for each task that
is done. A job that was killed goes on from there. A task can run twice without harm. OUT appears as
a whole at the end.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import PredictConfig
from napari_unet.core.axes import (
    label_axes,
    label_shape,
    plane_indices,
    plane_shape,
    take_channel,
)
from napari_unet.core.cells.cell_size import median_diameter
from napari_unet.core.json_types import JsonObject
from napari_unet.io.atomic import replacing
from napari_unet.io.ome_zarr import CHUNK_PX, ZarrImage, create_labels, open_zarr, pyramid
from napari_unet.io.outputs import check_replaceable, is_ours
from napari_unet.jobs import Reporter
from napari_unet.large_images.executors import Workers
from napari_unet.large_images.linking import link_planes
from napari_unet.large_images.steps import Steps
from napari_unet.large_images.tasks import (
    Volume,
    VolumePlane,
    label_block,
    large_plane,
    prepared,
    score_tile,
    whole,
    write_block,
    write_level,
)
from napari_unet.models.device import choose, default_tile_px
from napari_unet.models.loaded import LoadedModel
from napari_unet.models.store import ModelVersion
from napari_unet.segmentation.linking import check_link
from napari_unet.segmentation.looking import Look, look
from napari_unet.segmentation.planes import missing_warning
from napari_unet.segmentation.tiled_plane import Block, join

# Smallest number of tiles in a group of planes that are segmented together. Groups keep many
# workers busy even if planes are small.
_GROUP_TILES = 64
# Name of the file, in a folder of unfinished work, that describes the job.
_JOB = "job.json"
# Fraction of the time that linking usually takes, for the progress.
_LINKING = 0.1


@dataclass(frozen=True)
class VolumeLabels:
    """The result of a large job.

    Attributes
    ----------
    out
        The store of the labels.
    model
        The version that was used.
    compute
        The device and number format that were used, in words.
    n_cells
        Number of cells, or of linked cells; their ids are 1, 2, ...
    diameter_px
        Diameter, in pixels, of a disc with the median area of the cells in their planes; 0 without
        cells.
    look
        The diameter and channel with which the model saw the image.
    warnings
        Warnings about the image, one sentence each.
    """

    out: Path
    model: ModelVersion
    compute: str
    n_cells: int
    diameter_px: float
    look: Look
    warnings: tuple[str, ...] = ()


def check_in_planes(version: ModelVersion, config: PredictConfig) -> None:
    """Check that a model and settings segment planes; zarr to zarr works only with these.

    Raises
    ------
    ValueError
        If they segment whole stacks.
    """
    if version.header.for_stacks:
        raise ValueError(
            f"{version.reference} works on stacks in memory, not from zarr to zarr; write the "
            "labels as tif, or choose a model of planes"
        )
    if config.in_3d:
        raise ValueError(
            "cells are found in 3D in memory, not from zarr to zarr; write the labels as tif, or "
            "link the planes along z"
        )


def segment_volume(
    job: Reporter,
    load: Callable[[], LoadedModel],
    version: ModelVersion,
    image: Path,
    axes: str | None,
    out: Path,
    config: PredictConfig,
    workers: Workers,
    *,
    overwrite: bool = False,
) -> VolumeLabels:
    """Segment a zarr store, and write the labels to another; called in a job.

    Parameters
    ----------
    job
        Receives the progress.
    load
        Returns the model.
    version
        The version that `load` returns, with its file.
    image, axes
        The store, and its axes; None takes the axes that the store names.
    out
        The store of the labels, which is replaced at the end. The unfinished work is in the folder
        `out` + ".part"; a job that was stopped is resumed from it.
    config
        Settings.
    workers
        The executor that runs the tasks.
    overwrite
        Whether a file or folder that this program did not make may be replaced.

    Raises
    ------
    ValueError
        If the unfinished work belongs to another job, the image has no axis to link along, whole
        stacks are to be segmented, or `out` was not made by this program.
    """
    check_in_planes(version, config)
    job.report(0.0, "loading the model")
    loaded, source = load(), open_zarr(image, axes)
    check_link(config.link, source.axes)
    compute = choose(config.device, config.precision)
    work, out = out.with_name(out.name + ".part").resolve(), out.resolve()
    _check_ours(work)
    _check_ours(_finished(work))
    check_replaceable(out, overwrite=overwrite)
    _move(work, out)
    indices = list(plane_indices(source.axes, source.data.shape))
    pixels_at = str(image.resolve())
    task: dict[str, object] = {
        "image": pixels_at,
        "shape": list(source.data.shape),
        "dtype": str(source.data.dtype),
        "changed": _last_change(image),
        "axes": source.axes,
        "model": version.sha256(),
        "config": asdict(config),
    }

    def settings() -> dict[str, object]:
        pixels, named = take_channel(source.data, source.axes, config.channel)
        chosen, _ = look(loaded, pixels, named, indices, config, compute, job)
        tile_px = config.tile_px or default_tile_px(compute, loaded.network.config.depth)
        return {"tile_px": tile_px, "look": asdict(chosen)}

    # These settings are stored, so that they are the same for all workers and after a resumption.
    begun = _begin(work / _JOB, task, settings)
    seen = Look(**begun["look"])
    config = replace(
        config, tile_px=begun["tile_px"], channel=seen.channel, diameter_px=seen.diameter_px
    )
    volume = Volume(
        pixels_at, source.axes, str(version.path.resolve()), str(work), config, uuid.uuid4().hex
    )
    _create(volume, source)
    linking = 0.0 if config.link == "none" else _LINKING
    areas: list[NDArray[np.int64]] = []
    groups = list(_groups(volume, indices))
    for number, group in enumerate(groups):

        def progress(fraction: float, message: str, number: int = number) -> None:
            where = f", part {number + 1} of {len(groups)}" if len(groups) > 1 else ""
            job.report((1 - linking) * (number + fraction) / len(groups), message + where)

        areas += _Group(group, sum(len(known) for known in areas), workers, progress).segment()
    sizes = np.concatenate(areas)
    n_cells = len(sizes)
    if linking:
        steps = Steps(workers, lambda f, message: job.report(1 - linking * (1 - f), message))
        n_cells = link_planes(volume, dict(zip(indices, areas, strict=True)), steps)
        _write_levels([VolumePlane(volume, index) for index in indices], steps)
    missing = sum(int(VolumePlane(volume, i).known("missing", 0)["px"]) for i in indices)
    total = len(indices) * math.prod(plane_shape(source.axes, source.data.shape))
    # Another program may have written there meanwhile.
    check_replaceable(out, overwrite=overwrite)
    work.replace(_finished(work))
    _move(work, out)
    return VolumeLabels(
        out,
        version,
        compute.describe(),
        n_cells,
        median_diameter(sizes),
        seen,
        missing_warning(missing, total),
    )


class _Group:
    """Planes that are segmented together; tasks that are done already are not run again.

    Parameters
    ----------
    planes
        The planes.
    count
        Number of cells in all earlier planes.
    workers
        The executor that runs the tasks.
    progress
        Called with (fraction, message) after each task; may raise to stop.
    """

    def __init__(
        self,
        planes: list[VolumePlane],
        count: int,
        workers: Workers,
        progress: Callable[[float, str], None],
    ) -> None:
        self._planes, self._count = planes, count
        self._steps = Steps(workers, progress)

    def segment(self) -> list[NDArray[np.int64]]:
        """Segment the planes; return the areas of the cells of each plane, in pixels."""
        files = [plane.path("cells").with_suffix(".npy") for plane in self._planes]
        if not all(file.exists() for file in files):
            self._steps.progress(0.0, "measuring intensities")
            self._planes = [prepared(plane) for plane in self._planes]
            areas = self._label()
            for file, of_plane in zip(files, areas, strict=True):
                with replacing(file) as part, part.open("wb") as content:
                    np.save(content, of_plane)
        for plane in self._planes:
            for kind in ("scores", "local", "done-tile", "done-block", "done-ids"):
                shutil.rmtree(plane.path(kind), ignore_errors=True)
        return [np.load(file) for file in files]

    def _label(self) -> list[NDArray[np.int64]]:
        large = [large_plane(plane) for plane in self._planes]
        blocks = [range(len(plane.blocks)) for plane in large]
        pairs = list(zip(self._planes, blocks, strict=True))
        self._steps.do(
            "tile",
            score_tile,
            [
                (p, n)
                for p, of in zip(self._planes, large, strict=True)
                for n in range(len(of.tiles))
            ],
        )
        self._steps.do("block", label_block, [(p, n) for p, numbers in pairs for n in numbers])
        nothing = np.zeros((0, 0), np.int32)
        writes: list[tuple[VolumePlane, int, NDArray[np.int32]]] = []
        areas: list[NDArray[np.int64]] = []
        for plane, numbers in pairs:
            cells = join([Block(labels=nothing, **plane.known("block", n)) for n in numbers])
            first = np.int32(self._count + sum(len(known) for known in areas))
            writes += [
                (plane, n, np.where(ids > 0, ids + first, 0).astype(np.int32))
                for n, ids in zip(numbers, cells.numbers, strict=True)
            ]
            areas.append(cells.votes.sum(1))
        self._steps.do("ids", write_block, writes)
        if self._planes[0].volume.config.link == "none":
            _write_levels(self._planes, self._steps)
        return areas


def _create(volume: Volume, source: ZarrImage) -> None:
    """Make the stores of labels, unless they exist from an earlier run."""
    shape, named = label_shape(source.axes, source.data.shape), label_axes(source.axes)
    kept = [n for n, axis in enumerate(source.axes) if axis != "C"]
    scale, units = [source.scale[n] for n in kept], [source.units[n] for n in kept]
    translation = [source.translation[n] for n in kept]
    for store in (volume.sections, volume.out):
        if not store.exists():
            with whole(store) as part:
                create_labels(part, shape, named, scale, units, translation)


def _write_levels(planes: Sequence[VolumePlane], steps: Steps) -> None:
    from napari_unet.core.cells.blockwise import plan_blocks

    for level, shape in enumerate(pyramid(large_plane(planes[0]).shape, "YX")[1:], start=1):
        boxes = plan_blocks((shape[0], shape[1]), CHUNK_PX)
        steps.do(
            f"level-{level}",
            write_level,
            [(plane, n, level, box) for plane in planes for n, box in enumerate(boxes)],
        )


def _groups(volume: Volume, indices: list[tuple[int, ...]]) -> Iterator[list[VolumePlane]]:
    planes = [VolumePlane(volume, index) for index in indices]
    tiles = len(large_plane(planes[0]).tiles)
    side = max(1, -(-_GROUP_TILES // tiles))
    for start in range(0, len(planes), side):
        yield planes[start : start + side]


def _begin(
    file: Path, task: Mapping[str, object], settings: Callable[[], dict[str, object]]
) -> JsonObject:
    """Return the settings that a job was begun with; those of a new job are made and stored."""
    if not file.exists():
        made = settings()
        with replacing(file) as part:
            part.write_text(json.dumps({"task": task, "settings": made}, indent=2))
    begun: dict[str, JsonObject] = json.loads(file.read_text())
    if begun["task"] != task:
        raise ValueError(
            f"{file.parent} was begun with another image, model or settings; delete it to "
            "begin anew, or give another place for the labels"
        )
    return begun["settings"]


def _finished(work: Path) -> Path:
    return work.with_name(work.name + ".done")


def _check_ours(work: Path) -> None:
    """Check that a folder of unfinished work was made by this program, which will delete it."""
    if not os.path.lexists(work):
        return
    names = {path.name for path in work.iterdir()} if work.is_dir() else {""}
    try:
        ours = json.loads((work / _JOB).read_text("utf-8")).keys() == {"task", "settings"}
    except (OSError, ValueError, AttributeError):
        # If a job was killed at its very beginning or end, the folder holds only a part of the
        # job's file, or the finished labels.
        ours = all(name.startswith(f".{_JOB}.") or name == "labels.zarr" for name in names)
        ours = ours and ("labels.zarr" not in names or is_ours(work / "labels.zarr"))
    if not ours:
        raise ValueError(
            f"{work} holds something that napari-unet did not make, and unfinished labels would "
            "go there; move it away, or give the labels another name"
        )


def _last_change(store: Path) -> int:
    """Return the time at which a file of a store was last written, in ns since 1970."""
    files = (os.path.join(folder, name) for folder, _, names in os.walk(store) for name in names)
    return max((os.stat(file).st_mtime_ns for file in files), default=0)


def _move(work: Path, out: Path) -> None:
    """Move finished labels to their place, also those of a job that was killed while it did so."""
    done = _finished(work)
    labels = done / "labels.zarr"
    if labels.exists():
        if os.path.lexists(out):
            # The older labels are moved, not deleted, because a kill could leave half of them.
            out.replace(done / "before")
        labels.replace(out)
    if done.exists():
        # The file that shows that the folder is ours is deleted last.
        for path in sorted(done.iterdir(), key=lambda path: path.name == _JOB):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        done.rmdir()
