"""How models do on the held-out images of a project, and whether correcting still pays."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress

from napari_unet.backends.requests import SegmentRequest
from napari_unet.config import PredictConfig
from napari_unet.core.axes import get_plane, plane_indices, take_channel
from napari_unet.jobs import Job
from napari_unet.models.store import ModelStore, ModelVersion
from napari_unet.projects.manifest import DONE, Score
from napari_unet.projects.project import Project
from napari_unet.service.segmentation import SegmentationService

# Correcting hardly pays where the AP rose by less than this over the last two fine-tunes.
_GAIN = 0.02


def judges(project: Project) -> tuple[str, ...]:
    """Names of the held-out images whose labels the user called right (done): these judge."""
    entries = project.manifest.images
    return tuple(
        name
        for name in sorted(project.names)
        if entries[name].held_out and entries[name].state == DONE
    )


def score_models(
    service: SegmentationService,
    project: Project,
    versions: Sequence[ModelVersion],
    config: PredictConfig | None = None,
) -> Job[tuple[Score, ...]]:
    """Start to segment the held-out images with models, and compare with their labels.

    Models that were scored on the same images are left out; the others come onto the curve. It is
    computed on this computer.

    Parameters
    ----------
    service
        Segments.
    project
        The project, with held-out images that are done.
    versions
        The models, in the order of the curve.
    config
        Settings.

    Raises
    ------
    ValueError
        If no held-out image is done.
    """
    names = judges(project)
    if not names:
        raise ValueError("no held-out image is done; correct one, and mark it as done")
    known = {point.model for point in project.manifest.curve if point.images == names}
    new = [version for version in versions if version.reference not in known]
    settings = config or PredictConfig()
    n_corrected = project.n_corrected

    def work(job: Job[tuple[Score, ...]]) -> tuple[Score, ...]:
        # It takes a moment to import, which the dock need not wait for.
        from napari_unet.core.cells.metrics import Scores

        found = []
        for number, version in enumerate(new):
            scores = Scores()
            for n, name in enumerate(names):
                part = job.part(number * len(names) + n, len(new) * len(names), "held-out image")
                image = project.read(name)
                seen = settings.fitting(image.axes)
                truth = project.read_labels(name, image)
                if truth is None:
                    raise ValueError(f"the labels of {name} are gone; segment it again")
                image.check_channels(
                    seen.channel, version.header.architecture.get("in_channels", 1)
                )
                pixels, axes = take_channel(image.data, image.axes, seen.channel)
                planes = tuple(plane_indices(axes, pixels.shape))
                request = SegmentRequest(pixels, axes, version, seen, planes)
                labels = service.servers.local.segment(part, request).labels
                for index in planes:
                    pair = (get_plane(each, image.label_axes, index)[0] for each in (truth, labels))
                    scores.add(*pair)
            # A parent was there before the corrections of this fine-tune.
            is_last = version is versions[-1]
            n_then = n_corrected if is_last else _corrected_before(project)
            point = Score(version.reference, n_then, scores.summary()["ap50"], names)
            project.add_score(point)
            found.append(point)
        return tuple(found)

    return service.submit("score on held-out images", work)


def curve(project: Project) -> tuple[Score, ...]:
    """The points that can be compared: those on the held-out images of now."""
    names = judges(project)
    return tuple(point for point in project.manifest.curve if point.images == names)


def refused_in(points: Sequence[Score], store: ModelStore) -> set[str]:
    """NAME@VERSION of the models of a curve that their checks refused, and that are not used."""
    found = set()
    for point in points:
        # It may have been removed, or be on another computer.
        with suppress(ValueError):
            found |= {point.model} if store.find(point.model).refused else set()
    return found


def curve_words(points: Sequence[Score], refused: Collection[str] = ()) -> str:
    """Return the curve in words, models that were refused in brackets; empty without a point."""
    if not points:
        return ""
    n = len(points[0].images)
    images = "1 held-out image" if n == 1 else f"{n} held-out images"
    values = ", ".join(
        f"({point.ap:.2f})" if point.model in refused else f"{point.ap:.2f}" for point in points
    )
    counts = ", ".join(str(point.n_corrected) for point in points)
    said = f"AP on {images}: {values} after {counts} cells"
    if len(points) > 2:
        gain = points[-1].ap - points[-3].ap
        if gain < _GAIN:
            said += (
                f". The last two fine-tunes changed it by {gain:+.2f}: more correcting hardly "
                "pays, as far as so few images tell"
            )
    return said


def _corrected_before(project: Project) -> int:
    """Number of cells at the last point of the curve; 0 if there is none."""
    points = curve(project)
    return points[-1].n_corrected if points else 0
