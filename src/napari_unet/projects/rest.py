"""The rest of a project: what nobody corrected is segmented, image by image."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from napari_unet.config import PredictConfig
from napari_unet.jobs import Job, sentence
from napari_unet.models.store import Reference
from napari_unet.projects.project import Project
from napari_unet.service.files import FileDone, FileJob
from napari_unet.service.segmentation import SegmentationService

# Folder in that of the labels for those that are being found; they are moved when they are whole.
_WORK = ".napari-unet-rest"
# The largest image in zarr that is segmented in memory: its labels take 256 MB.
_IN_MEMORY_PX = 1 << 26


@dataclass(frozen=True)
class RestDone:
    """What came of an image of the rest.

    Attributes
    ----------
    name
        Of the image.
    outcome
        What `segment_files` says of it.
    taken
        Whether the labels were taken: not where the image was corrected meanwhile, or it failed.
    """

    name: str
    outcome: FileDone
    taken: bool


def segment_rest(
    service: SegmentationService,
    project: Project,
    model: Reference,
    config: PredictConfig | None = None,
    told: Callable[[RestDone], None] = lambda done: None,
) -> Job[tuple[FileDone, ...]]:
    """Start to segment all images that nobody corrected and this version did not segment.

    Each image is in the project as soon as it is done. A job that was cancelled or killed goes on
    with the others when it is started again. After the last one, the images are ordered by doubt,
    unless the user chose an order.

    Parameters
    ----------
    service
        Segments.
    project
        The project.
    model
        NAME, NAME@VERSION, the path of a model file, or a version.
    config
        Settings.
    told
        Called after each image, in the job's thread.

    Raises
    ------
    ValueError
        If there is no such model, or nothing is left.
    """
    version = service.store.find(model)
    names = project.to_segment(version.reference)
    if not names:
        raise ValueError(
            f"all images are corrected, done, or segmented with {version.reference}; nothing is "
            "left to segment"
        )
    targets = {name: project.label_path(name) for name in names}
    jobs = {
        name: FileJob(
            project.path(name),
            target.parent / _WORK / target.name,
            read_as=project.manifest.read_as,
            fits_settings=True,
            in_memory_px=_IN_MEMORY_PX,
        )
        for name, target in targets.items()
    }
    name_of = {job.image: name for name, job in jobs.items()}

    def take(done: FileDone) -> None:
        name, taken = name_of[done.job.image], False
        if not done.error:
            try:
                classes = dict(enumerate(done.classes or (), start=1))
                facts = done.n_cells, done.doubt, done.channel, classes
                taken = project.accept(name, done.job.labels, version.reference, *facts)
            except (ValueError, OSError) as error:
                done = replace(done, error=sentence(error))
        for folder in {done.job.labels.parent}:
            # It stays as long as there is something in it.
            with suppress(OSError):
                folder.rmdir()
        if name == names[-1]:
            project.prefer_doubt()
        told(RestDone(name, done, taken))

    return service.segment_files(list(jobs.values()), version, config, take)
