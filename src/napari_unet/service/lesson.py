"""What a model is taught from its corrections, and the run that teaches and checks it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.core.axes import get_plane
from napari_unet.service.collection import Collection, Entry
from napari_unet.service.corrections import Annotated
from napari_unet.service.device import Compute
from napari_unet.service.gate import Check, Counts, compare, count
from napari_unet.service.jobs import Job
from napari_unet.service.loaded_model import Box, LoadedModel
from napari_unet.service.training import annotated_planes, learn, reach, start_training

if TYPE_CHECKING:
    from napari_unet.core.held_out import Split
    from napari_unet.core.places import Place
    from napari_unet.engine.finetune import StepReport, Trainer
    from napari_unet.engine.samples import AnnotatedPlane

# With fewer cells than this, those that judged teach as well, in the end.
_PLENTY = 40
# Share of the steps before they do.
_PROBATION = 0.35
# Checks in a run, and how many of them without a better score end it.
_CHECKS, _PATIENCE = 10, 4
# Seconds between two looks at the view, the share of the time that they may take, and the side of
# the view's middle, in pixels as the network sees them.
_LOOK_S, _LOOK_SHARE, _LOOK_PX = 4.0, 0.08, 400


@dataclass(frozen=True)
class View:
    """What the user looks at while a model learns.

    Attributes
    ----------
    image, axes
        As for a segmentation.
    index
        Plane, along the axes other than C, Y, X.
    box
        Rows and columns of it.
    """

    image: Any
    axes: str
    index: tuple[int, ...]
    box: Box


@dataclass(frozen=True)
class ViewLabels:
    """Labels (Y, X) of a view, or of its middle, by the model as it is now."""

    view: View
    labels: NDArray[np.int32]


Watch = Callable[[], View | None]


@dataclass(frozen=True)
class Lesson:
    """What a model learns from, at the size that the network sees.

    Attributes
    ----------
    planes
        Truth of each entry of the collection.
    split
        Which of their pixels teach, and which judge.
    new
        Whether each plane was corrected just now.
    n_cells
        Cells in all.
    """

    planes: tuple[AnnotatedPlane, ...]
    split: Split
    new: tuple[bool, ...]
    n_cells: int

    @property
    def first(self) -> list[AnnotatedPlane]:
        """The planes with what teaches from the beginning."""
        return [
            replace(plane, trusted=mask, labels=np.where(mask, plane.labels, 0))
            for plane, mask in zip(self.planes, self.split.learn, strict=True)
            if mask.any()
        ]

    def check(self, before: Counts, after: Counts, *, new: bool) -> Check | None:
        """The check on planes corrected just now, or on those corrected earlier."""
        of_unit = np.zeros(self.split.n_units, bool)
        for units, is_new in zip(self.split.held, self.new, strict=True):
            of_unit[np.unique(units[units > 0]) - 1] = is_new
        chosen = of_unit == new
        return compare(before[chosen], after[chosen], self.split.weak)


def prepare(
    model: LoadedModel,
    collection: Collection,
    entries: Sequence[Entry],
    config: FinetuneConfig,
    zoom: float,
    now: AbstractSet[str],
    check: Callable[[], None],
) -> Lesson:
    """Read entries of a collection and split them.

    Parameters
    ----------
    model
        Says how images are prepared.
    collection, entries
        What to read.
    config
        Says how much is held out.
    zoom
        The network sees the images larger by this factor.
    now
        Keys of the entries that were corrected just now.
    check
        Called before each entry; may raise to stop.
    """
    from napari_unet.core.held_out import Split, split_seen
    from napari_unet.core.unet import halo_px

    planes, read = [], []
    for entry in entries:
        for plane in annotated_planes([collection.read(entry)], model, config, check, zoom):
            planes.append(plane)
            read.append(entry)
    if not planes:
        raise ValueError("nothing was corrected; paint on the labels first, then fine-tune")
    n_cells = sum(entry.n_cells for entry in read)
    seen = [p.labels >= 0 if p.trusted is None else p.trusted for p in planes]
    if not config.held_out:
        empty = tuple(np.zeros(mask.shape, np.int32) for mask in seen)
        split = Split(tuple(seen), empty, 0, False)
        return Lesson(tuple(planes), split, tuple(e.key in now for e in read), n_cells)
    # The same images judge from one fine-tune to the next, where there are enough of them.
    images = sorted(
        {e.image: (n_cells < _PLENTY and e.key not in now, e.identity) for e in read}.items(),
        key=lambda item: item[1],
    )
    numbers = {image: number for number, (image, _) in enumerate(images)}
    split = split_seen(
        [p.labels for p in planes],
        seen,
        [numbers[e.image] for e in read],
        guard_px=2 * halo_px(model.network.config.depth),
        share=config.held_out,
    )
    return Lesson(tuple(planes), split, tuple(e.key in now for e in read), n_cells)


class Run:
    """Teaches a model a lesson, and checks it on what it has not learnt from.

    With plenty of cells, those that judge never teach; the weights that they like best are kept,
    and the training ends when they see no more gain. With few, each is needed: those that judge do
    so after a first part of the training, and then teach as well.

    Parameters
    ----------
    job
        Told how far it is; `Job.finish` ends the run.
    model
        Taught in place.
    lesson
        What to learn.
    config
        Settings.
    compute
        Where to run.
    look
        Shows the user what the model has learnt so far.
    last_step
        End after so many steps, whatever the checks say.
    """

    def __init__(
        self,
        job: Job[Any],
        model: LoadedModel,
        lesson: Lesson,
        config: FinetuneConfig,
        compute: Compute,
        look: Callable[[], None] = lambda: None,
        last_step: int | None = None,
    ) -> None:
        self._job, self._model, self._lesson = job, model, lesson
        self._config, self._compute = config, compute
        self._look, self._last_step = look, last_step
        self._plenty = lesson.n_cells >= _PLENTY and lesson.split.n_units > 0
        self._on_probation = not self._plenty and lesson.split.n_units > 0
        self._before = self._count()
        self._after: Counts | None = None
        self._best: tuple[float, int, dict[str, Any]] | None = None
        self._checks = self._without_gain = 0
        self._looked = time.perf_counter()
        self.steps = 0
        planes = lesson.first if lesson.split.n_units else lesson.planes
        self._trainer: Trainer = start_training(model, planes, config, compute)

    @property
    def fraction(self) -> float:
        """Share of the budget that is used up."""
        return self._trainer.fraction

    @property
    def planned(self) -> int:
        """Steps that fit into the budget."""
        return self._trainer.planned or self.steps

    def learn(self) -> None:
        """Train until the budget is spent, or as `Run` says."""
        self.steps = learn(self._job, self._trainer, self._on_step)
        if self._after is None and not self._last_step:
            self._after = self._count()
        if self._plenty and not self._last_step:
            self._keep_better(self.steps)
            if self._best is not None:
                _, self.steps, weights = self._best
                self._model.network.load_state_dict(weights)

    def checks(self) -> tuple[Check | None, Check | None]:
        """On places corrected just now, and on those corrected earlier."""
        after = self._before if self._after is None else self._after
        lesson = self._lesson
        new, earlier = (lesson.check(self._before, after, new=n) for n in (True, False))
        return new, earlier

    def _on_step(self, report: StepReport) -> bool:
        planned = self._trainer.planned
        if planned is None:
            return True
        if self._on_probation and report.step >= self._end_of_probation(planned):
            with self._trainer.paused():
                self._after = self._count()
            self._trainer.learn_from(self._lesson.planes)
            self._on_probation = False
        if self._last_step is not None:
            return report.step < self._last_step
        due = math.floor(_CHECKS * report.step / planned)
        if self._plenty and due > self._checks and report.step < planned:
            self._checks = due
            with self._trainer.paused():
                self._keep_better(report.step)
        elif self._is_time_to_look():
            began = time.perf_counter()
            with self._trainer.paused():
                self._look()
            now = time.perf_counter()
            self._looked = now + (now - began) * (1 / _LOOK_SHARE - 1) - _LOOK_S
        return self._without_gain < _PATIENCE

    def _end_of_probation(self, planned: int) -> int:
        from napari_unet.engine.finetune import TIMED_STEPS

        # Before that, nobody knows how many steps there will be.
        return max(math.ceil(_PROBATION * planned), TIMED_STEPS + 1)

    def _is_time_to_look(self) -> bool:
        return time.perf_counter() - self._looked > _LOOK_S

    def _keep_better(self, step: int) -> None:
        from napari_unet.core.metrics import kappa

        counts = self._count()
        score = kappa(counts.sum(0))
        if self._best is None or score > self._best[0]:
            weights = {k: v.detach().clone() for k, v in self._model.network.state_dict().items()}
            self._best, self._after, self._without_gain = (score, step, weights), counts, 0
        else:
            self._without_gain += 1

    def _count(self) -> Counts:
        lesson = self._lesson
        return count(self._model, lesson.planes, lesson.split.held, self._compute, self._job.check)


def look_at(
    view: View, model: LoadedModel, compute: Compute, zoom: float, check: Callable[[], None]
) -> ViewLabels:
    """Segment what the user looks at; of a large view its middle."""
    plane = get_plane(view.image, view.axes, view.index)
    side = round(_LOOK_PX / zoom)
    box = tuple(
        slice(max(s.start, middle - side // 2), min(s.stop, middle + side // 2))
        for s in view.box
        for middle in [(s.start + s.stop) // 2]
    )
    y, x = box
    # The network has to see what lies around.
    margin = math.ceil(100 / zoom)
    wide = (
        slice(max(y.start - margin, 0), y.stop + margin),
        slice(max(x.start - margin, 0), x.stop + margin),
    )
    fresh = LoadedModel(model.network, model.header)
    scores = fresh.scores(
        fresh.prepare(plane, wide), compute, None, lambda fraction, message: check(), zoom
    )
    labels = fresh.instances(scores, PredictConfig())
    top, left = y.start - wide[0].start, x.start - wide[1].start
    inside = labels[top : top + y.stop - y.start, left : left + x.stop - x.start]
    return ViewLabels(replace(view, box=(y, x)), inside)


def find_slips(
    model: LoadedModel,
    annotated: Sequence[Annotated],
    config: FinetuneConfig,
    compute: Compute,
    zoom: float,
    check: Callable[[], None],
) -> Iterator[tuple[tuple[int, ...], Place]]:
    """Painted places that a model which has learnt them contradicts: plane, and place in it."""
    from napari_unet.core.places import Place, contradicted_places

    fresh = LoadedModel(model.network, model.header)
    diameter = zoom * (config.diameter_px or model.header.diameter_px or 24.0)
    for item in annotated:
        for correction in item.corrections:
            one = replace(item, corrections=(correction,))
            for plane in annotated_planes([one], model, config, check, zoom):
                y, x = reach(correction, round(config.tile_px / zoom))
                scores = fresh.scores(plane.image, compute, None, lambda f, m: check())
                seen = plane.labels >= 0 if plane.trusted is None else plane.trusted
                for place in contradicted_places(
                    scores.foreground, plane.labels > 0, seen, diameter
                ):
                    yield (
                        correction.index,
                        Place(
                            (y.start or 0) + place.y / zoom,
                            (x.start or 0) + place.x / zoom,
                            place.weight,
                        ),
                    )
